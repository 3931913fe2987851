//! The `kafka` crate behind the traits: Kafka 0.8.2 to 0.10 (it works up to 3.9, and on no 4.x).
//!
//! What the crate cannot do is refused before the first record. It is synchronous, so this engine does its
//! network on the command's own thread; a second signal ends the process from the signal's. It believes whatever it
//! reads: a relay checks that first.

mod answers;
mod consumer;
mod producer;
mod relay;

pub use answers::{Rewrite, rewrite};
pub use consumer::KafkaConsumer;
pub use producer::KafkaProducer;

use crate::engine::native::Backoff;
use crate::engine::{Options, Partition, Topic};
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::{BrokerId, Offset, PartitionId, TopicPartition};
use crate::signal::Stop;
use kafka::client::{FetchOffset, GroupOffsetStorage, KafkaClient};
use kafka::error::Error as CrateError;
use kafka_protocol::error::ResponseError;
use relay::Relay;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A cluster that the crate can talk to; clones share the connection that was made first.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The idle connection.
    idle: Mutex<Option<Connection>>,
    options: Options,
    relay: Relay,
    stop: Stop,
}

impl Client {
    /// Connects to the first of `options`' brokers that answers.
    ///
    /// # Errors
    /// None does in time.
    pub fn connect(options: &Options, stop: &Stop) -> Result<Self> {
        let relay = Relay::new(options);
        let first = Connection::open(options, &relay, stop)?;
        let (options, stop) = (options.clone(), stop.clone());
        Ok(Self(Arc::new(Shared { idle: Mutex::new(Some(first)), options, relay, stop })))
    }

    /// The connection that was made first, or another one when that is in use.
    pub(super) fn connection(&self) -> Result<Connection> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.map_or_else(|| Connection::open(&self.0.options, &self.0.relay, &self.0.stop), Ok)
    }

    /// Runs `work` on a connection that is idle afterward.
    fn with_connection<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.connection()?;
        let done = work(&mut connection)?;
        *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(done)
    }

    /// As [`crate::engine::Engine::topics`].
    pub(super) fn topics(&self, names: Option<&[String]>) -> Result<Vec<Topic>> {
        self.with_connection(|connection| connection.topics(names))
    }

    /// As [`crate::engine::Engine::fill_offsets`].
    pub(super) fn fill_offsets(&self, topics: &mut [Topic]) -> Result<Vec<Error>> {
        self.with_connection(|connection| {
            Ok(topics.iter_mut().filter_map(|t| connection.fill_offsets(t).err()).collect())
        })
    }
}

/// A connection to a cluster: one request at a time.
pub struct Connection {
    inner: KafkaClient,
    options: Options,
    relay: Relay,
    stop: Stop,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("brokers", &self.options.brokers).finish_non_exhaustive()
    }
}

impl Connection {
    fn open(options: &Options, relay: &Relay, stop: &Stop) -> Result<Self> {
        let mut inner = crate_client(options, relay)?;
        // The crate waits two minutes for an answer; who never answers is no broker.
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let loaded = inner.load_metadata_all();
            let _ = done.send(loaded.map(|()| inner)); // Err: it took too long, and the caller has given up
        });
        let limit = options.connect_timeout + options.settle_limit();
        let brokers = options.brokers.join(", ");
        let cannot = |why: String| {
            Error::KafkaCrate(format!(
                "cannot reach {brokers} with the kafka crate: {why} (it supports Kafka 0.8.2 to 3.9, without TLS)"
            ))
        };
        let inner = match answer.recv_timeout(limit) {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => {
                return Err(cannot(
                    relay.take_refusal().map_or_else(|| describe(&error), |refused| refused.to_string()),
                ));
            }
            Err(_) => return Err(cannot(format!("no answer within {limit:?}"))),
        };
        Ok(Self { inner, options: options.clone(), relay: relay.clone(), stop: stop.clone() })
    }

    fn topics(&mut self, names: Option<&[String]>) -> Result<Vec<Topic>> {
        let mut all: Vec<String> = match names {
            Some(names) => names.to_vec(),
            None => self.inner.topics().names().map(str::to_owned).collect(),
        };
        all.sort();
        let mut topics = Vec::new();
        for name in all {
            self.count(&name, false)?;
            let partitions = self.partitions(&name).into_iter().map(|(partition, leader)| Partition {
                partition,
                leader,
                replicas: None,
                in_sync_replicas: None,
                first_offset: None,
                next_offset: None,
            });
            let partitions = partitions.collect();
            topics.push(Topic { name, internal: None, partitions });
        }
        Ok(topics)
    }

    fn fill_offsets(&mut self, topic: &mut Topic) -> Result<()> {
        let first = self.offsets(&topic.name, FetchOffset::Earliest)?;
        let next = self.offsets(&topic.name, FetchOffset::Latest)?;
        for partition in &mut topic.partitions {
            partition.first_offset = first.get(&partition.partition).copied();
            partition.next_offset = next.get(&partition.partition).copied();
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Vec<(PartitionId, Option<BrokerId>)> {
        let found = self.inner.topics().partitions(topic).map(|partitions| {
            let mut all: Vec<_> =
                partitions.iter().map(|p| (p.id(), p.leader().map(|broker| BrokerId(broker.id())))).collect();
            all.sort_unstable();
            all
        });
        found.unwrap_or_default()
    }

    /// Looks the leaders up again, over new connections: the crate never drops one that broke.
    fn refresh(&mut self) -> Result<()> {
        let mut fresh = crate_client(&self.options, &self.relay)?;
        fresh.set_compression(self.inner.compression());
        fresh.set_fetch_min_bytes(self.inner.fetch_min_bytes());
        let wait = self.inner.fetch_max_wait_time();
        fresh.set_fetch_max_wait_time(wait).map_err(|e| self.error(Action::LookUp, Subject::Cluster, &e))?;
        fresh.load_metadata_all().map_err(|e| self.error(Action::LookUp, Subject::Cluster, &e))?;
        self.inner = fresh;
        Ok(())
    }

    /// Why the crate failed: what the relay refused, the broker's error, or the crate's own.
    fn error(&self, action: Action, subject: Subject, error: &CrateError) -> Error {
        match (self.relay.take_refusal(), broker_error(error)) {
            (_, Some(code)) => Error::kafka(action, subject, code),
            (Some(refused), None) => refused.during(action, subject),
            (None, None) => Error::KafkaCrate(describe(error)).during(action, subject),
        }
    }

    /// The topic's partition count; with `create` the brokers may make it.
    fn count(&mut self, topic: &str, create: bool) -> Result<usize> {
        let deadline = Instant::now() + self.options.settle_limit();
        let mut backoff = Backoff::new(self.options.retry_backoff);
        let mut has_asked = false;
        loop {
            let partitions = self.partitions(topic);
            let ready = !partitions.is_empty() && partitions.iter().all(|(_, leader)| leader.is_some());
            if ready || (!create && !partitions.is_empty()) {
                return Ok(partitions.len());
            }
            let unknown = ResponseError::UnknownTopicOrPartition;
            // Of a topic that may be created, only what was said since this began counts.
            let said = self.relay.topic_error(topic).filter(|_| has_asked || !create);
            let error = said.unwrap_or(unknown);
            // A topic that is unknown comes only where it is created; Kafka 0.8.2 may know no better error meanwhile.
            let may_come = match error {
                ResponseError::UnknownTopicOrPartition | ResponseError::UnknownServerError => create,
                error => error.is_transient(),
            };
            if !may_come || Instant::now() >= deadline {
                return Err(Error::kafka(Action::LookUp, Subject::topic_named(topic), error));
            }
            if has_asked && self.stop.wait(backoff.next_wait()) {
                return Err(Error::Stopped);
            }
            // Asking for a topic by name makes it, where the brokers do that.
            let asked = if create { self.inner.load_metadata(&[topic]) } else { self.inner.load_metadata_all() };
            if let Err(error) = asked {
                tracing::debug!(%error, topic, "asking again");
            }
            has_asked = true;
        }
    }

    /// The first or next offsets of the topic's partitions that have a leader.
    fn offsets(&mut self, topic: &str, at: FetchOffset) -> Result<HashMap<PartitionId, Offset>> {
        let found = self.inner.fetch_topic_offsets(topic, at);
        let found = found.map_err(|e| self.error(Action::LookUp, Subject::topic_named(topic), &e))?;
        Ok(found.into_iter().map(|p| (p.partition, p.offset)).collect())
    }

    /// As [`Connection::offsets`]; asks again while leaders of `wanted` are missing or move.
    fn offsets_of(
        &mut self,
        topic: &str,
        wanted: &[PartitionId],
        at: FetchOffset,
    ) -> Result<HashMap<PartitionId, Offset>> {
        let deadline = Instant::now() + self.options.settle_limit();
        let mut backoff = Backoff::new(self.options.retry_backoff);
        loop {
            let found = self.offsets(topic, at);
            let may_change = match &found {
                Ok(found) => wanted.iter().any(|partition| !found.contains_key(partition)),
                Err(error) => error.is_transient(),
            };
            if !may_change || Instant::now() >= deadline {
                // The crate calls a topic unknown that has no leaders.
                return match (found, self.relay.topic_error(topic)) {
                    (Err(error), Some(said)) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => {
                        Err(Error::kafka(Action::LookUp, Subject::topic_named(topic), said))
                    }
                    (found, _) => found,
                };
            }
            if self.stop.wait(backoff.next_wait()) {
                return Err(Error::Stopped);
            }
            if let Err(error) = self.refresh() {
                tracing::debug!(%error, "asking for metadata again");
            }
        }
    }
}

fn crate_client(options: &Options, relay: &Relay) -> Result<KafkaClient> {
    let brokers: Result<Vec<String>> = options.brokers.iter().map(|broker| relay.address(broker)).collect();
    let mut client = KafkaClient::new(brokers?);
    client.set_client_id(options.client_id.clone());
    client.set_group_offset_storage(Some(GroupOffsetStorage::Kafka));
    client.set_retry_backoff_time(options.retry_backoff);
    let tries = options.settle_limit().as_millis() / options.retry_backoff.as_millis().max(1);
    client.set_retry_max_attempts(tries as u32);
    Ok(client)
}

/// Kafka's error, when the crate has one of a broker.
fn broker_error(error: &CrateError) -> Option<ResponseError> {
    match error {
        CrateError::Kafka(code) => error_code(*code as i16),
        CrateError::TopicPartitionError { error_code: code, .. } => error_code(*code as i16),
        _ => None,
    }
}

/// The crate's own error in words.
fn describe(error: &CrateError) -> String {
    match (error, broker_error(error)) {
        (CrateError::TopicPartitionError { topic_name, partition_id, .. }, Some(code)) => {
            format!("{}: {}", TopicPartition::new(topic_name.as_str(), *partition_id), code.name())
        }
        (_, Some(code)) => code.name(),
        (CrateError::Io(e), _) => crate::error::describe_io(e),
        (other, _) => other.to_string(),
    }
}
