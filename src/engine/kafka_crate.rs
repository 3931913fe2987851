//! The `kafka` crate behind the traits: Kafka 0.8.2 to 0.10 (it works up to 3.9, and on no 4.x).
//!
//! What the crate cannot do is refused before the first record. It is synchronous, so this engine does its
//! network on the command's own thread; a second signal ends the process from the signal's.

use super::{
    Acks, Admin, Codec, Consumer, ConsumerConfig, Event, Failure, NewTopic, Offsets, Partition, Producer,
    ProducerConfig, Receipt, Start, Topic, no_such_partition, out_of_range, place,
};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::record::{Batch, Headers, Offset, PartitionId, RecordRef, Timestamp, TimestampType, encode};
use crate::signal::Stop;
use bytes::BytesMut;
use kafka::client::{
    CommitOffset, Compression, FetchOffset, FetchPartition, GroupOffsetStorage, KafkaClient, ProduceMessage,
    RequiredAcks,
};
use kafka::error::{Error as CrateError, KafkaCode};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that a fetch may ask for of one partition, while it looks for the size of a large record.
const MAX_FETCH: i32 = 256 << 20;
/// How long the brokers may hold a fetch: signals are looked at in between.
const FETCH_WAIT: Duration = Duration::from_millis(250);

/// A connection to a cluster.
pub struct Client {
    inner: KafkaClient,
    config: Config,
    stop: Stop,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("brokers", &self.config.brokers).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the first of `config`'s brokers that answers.
    ///
    /// # Errors
    /// None does in time.
    pub fn connect(config: &Config, stop: &Stop) -> Result<Self> {
        let mut inner = KafkaClient::new(config.brokers.clone());
        inner.set_client_id(config.client_id.clone());
        inner.set_group_offset_storage(Some(GroupOffsetStorage::Kafka));
        inner.set_retry_backoff_time(config.retry_backoff);
        let tries = config.request_timeout.as_millis() / config.retry_backoff.as_millis().max(1);
        inner.set_retry_max_attempts(tries as u32);
        // The crate waits two minutes for an answer; who never answers is no broker.
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let loaded = inner.load_metadata_all();
            let _ = done.send(loaded.map(|()| inner)); // Err: it took too long, nobody waits
        });
        let limit = config.connect_timeout + config.request_timeout;
        let brokers = config.brokers.join(", ");
        let cannot = |why: String| {
            Error::Network(format!(
                "cannot reach {brokers} with the kafka crate: {why} (it speaks to Kafka 0.8.2 to 3.9, without TLS)"
            ))
        };
        let inner = match answer.recv_timeout(limit) {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => return Err(cannot(describe(&error).1)),
            Err(_) => return Err(cannot(format!("no answer within {limit:?}"))),
        };
        Ok(Self { inner, config: config.clone(), stop: stop.clone() })
    }

    fn partitions(&self, topic: &str) -> Vec<(PartitionId, Option<i32>)> {
        let found = self.inner.topics().partitions(topic).map(|partitions| {
            let mut all: Vec<_> = partitions.iter().map(|p| (p.id(), p.leader().map(|broker| broker.id()))).collect();
            all.sort_unstable();
            all
        });
        found.unwrap_or_default()
    }

    fn refresh(&mut self) -> Result<()> {
        self.inner.load_metadata_all().map_err(|e| network("metadata", &e))
    }

    /// The topic's partition count; with `create` the brokers may make it.
    fn count(&mut self, topic: &str, create: bool) -> Result<usize> {
        let deadline = Instant::now() + self.config.request_timeout;
        loop {
            let partitions = self.partitions(topic);
            let ready = !partitions.is_empty() && partitions.iter().all(|(_, leader)| leader.is_some());
            if ready || (!create && !partitions.is_empty()) {
                return Ok(partitions.len());
            }
            if !create || Instant::now() >= deadline {
                return Err(Error::kafka(format!("topic {topic}"), 3));
            }
            // Asking for a topic by name makes it, where the brokers do that.
            if let Err(error) = self.inner.load_metadata(&[topic]) {
                tracing::debug!(%error, topic, "asking again");
            }
            std::thread::sleep(self.config.retry_backoff);
        }
    }

    fn offsets(&mut self, topic: &str, at: FetchOffset) -> Result<HashMap<PartitionId, Offset>> {
        let found = self.inner.fetch_topic_offsets(topic, at);
        let found = found.map_err(|e| network(&format!("offsets of {topic}"), &e))?;
        Ok(found.into_iter().map(|p| (p.partition, p.offset)).collect())
    }
}

fn refuse(what: &str, why: &str) -> Error {
    Error::Usage(format!("{what}: {why}; --engine native can, on Kafka 0.11 and newer"))
}

/// Kafka's code, when there is one, and the text.
fn describe(error: &CrateError) -> (Option<i16>, String) {
    match error {
        CrateError::Kafka(code) => (Some(*code as i16), Code(*code as i16).name()),
        CrateError::TopicPartitionError { topic_name, partition_id, error_code } => {
            let code = Code(*error_code as i16);
            (Some(code.0), format!("{}: {code}", place(topic_name, *partition_id)))
        }
        CrateError::Io(e) => (None, crate::error::describe_io(e)),
        other => (None, other.to_string()),
    }
}

fn network(what: &str, error: &CrateError) -> Error {
    match describe(error) {
        (Some(code), _) => Error::kafka(what, code),
        (None, text) => Error::Network(format!("{what}: {text}")),
    }
}

/// [`Producer`] of the `kafka` crate: one request at a time, so order is kept; without idempotence, so a retry
/// after a lost answer may double a batch.
pub(super) struct KafkaProducer {
    client: Client,
    config: ProducerConfig,
    topics: Vec<(Arc<str>, usize)>,
    last: usize,
    /// The batch's keys and values, one after the other.
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    opened: Instant,
    appended: u64,
    answered: u64,
    round_robin: usize,
    receipts: Vec<Receipt>,
}

struct Entry {
    topic: usize,
    partition: PartitionId,
    key: Option<std::ops::Range<usize>>,
    value: Option<std::ops::Range<usize>>,
    record: u64,
}

/// Records of one request that went to one partition.
struct Run {
    first: Entry,
    records: u64,
    bytes: u64,
    offset: Option<Offset>,
}

impl KafkaProducer {
    pub(super) fn open(mut client: Client, config: ProducerConfig) -> Result<Self> {
        client.inner.set_compression(match (config.compression.codec, config.compression.level) {
            (codec @ (Codec::Lz4 | Codec::Zstd), _) => {
                return Err(refuse(&format!("-z {}", codec.name()), "the kafka crate has no such codec"));
            }
            (_, Some(level)) => return Err(refuse(&format!("-z level {level}"), "the kafka crate has no levels")),
            (Codec::None, _) => Compression::NONE,
            (Codec::Gzip, _) => Compression::GZIP,
            (Codec::Snappy, _) => Compression::SNAPPY,
        });
        let mut producer = Self {
            client,
            topics: Vec::new(),
            last: 0,
            bytes: Vec::new(),
            entries: VecDeque::new(),
            opened: Instant::now(),
            appended: 0,
            answered: 0,
            round_robin: 0,
            receipts: Vec::new(),
            config,
        };
        for topic in producer.config.topics.clone() {
            producer.topic(&topic)?;
        }
        Ok(producer)
    }

    fn topic(&mut self, name: &str) -> Result<usize> {
        if self.topics.get(self.last).is_none_or(|(topic, _)| **topic != *name) {
            let known = self.topics.iter().position(|(topic, _)| **topic == *name);
            self.last = match known {
                Some(index) => index,
                None => {
                    let count = self.client.count(name, true)?;
                    self.topics.push((name.into(), count));
                    self.topics.len() - 1
                }
            };
        }
        Ok(self.last)
    }

    fn keep(&mut self, bytes: Option<&[u8]>) -> Option<std::ops::Range<usize>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes?);
        Some(start..self.bytes.len())
    }

    /// Sends all, again and again where that may help, until the delivery timeout.
    fn flush(&mut self) -> Result<()> {
        let deadline = self.opened + self.config.delivery_timeout;
        while !self.entries.is_empty() {
            if self.client.stop.signals() > 1 {
                return Err(Error::Stopped);
            }
            let failed = self.send_once();
            if self.entries.is_empty() {
                break;
            }
            let (error, again) = failed.unwrap_or((Error::Network("no answer for some partitions".to_owned()), true));
            if !again || Instant::now() >= deadline {
                let lost: Vec<Entry> = self.entries.drain(..).collect();
                for entry in lost {
                    let possibly_written = matches!(error, Error::Network(_));
                    self.report(&entry, 1, 0, Err(Failure { error: error.clone(), possibly_written }));
                }
                break;
            }
            tracing::warn!(%error, "sending again");
            std::thread::sleep(self.client.config.retry_backoff);
            if let Err(error) = self.client.refresh() {
                tracing::debug!(%error, "asking for metadata again");
            }
        }
        self.bytes.clear();
        Ok(())
    }

    /// One request a broker; takes out of the entries what is written. Returns what failed, and whether to try again.
    fn send_once(&mut self) -> Option<(Error, bool)> {
        let bytes = &self.bytes;
        let slice = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &bytes[range]);
        let messages = self.entries.iter().map(|entry| {
            let topic = &self.topics[entry.topic].0;
            ProduceMessage { key: slice(&entry.key), value: slice(&entry.value), topic, partition: entry.partition }
        });
        let acks = match self.config.acks {
            Acks::None => RequiredAcks::None,
            Acks::Leader => RequiredAcks::One,
            Acks::All => RequiredAcks::All,
        };
        let confirms = match self.client.inner.produce_messages(acks, self.client.config.request_timeout, messages) {
            Ok(confirms) => confirms,
            Err(error) => {
                let (code, _) = describe(&error);
                return Some((network("produce", &error), code.is_none_or(|code| Code(code).is_retriable())));
            }
        };
        let mut outcomes: HashMap<(String, PartitionId), std::result::Result<Offset, i16>> = HashMap::new();
        for confirm in confirms {
            for partition in confirm.partition_confirms {
                let outcome = partition.offset.map_err(|code| code as i16);
                outcomes.insert((confirm.topic.clone(), partition.partition), outcome);
            }
        }
        let mut failed = None;
        let mut left = VecDeque::new();
        let mut runs: HashMap<(usize, PartitionId), Run> = HashMap::new();
        for entry in std::mem::take(&mut self.entries) {
            let key = (self.topics[entry.topic].0.to_string(), entry.partition);
            let outcome = match outcomes.get(&key) {
                Some(outcome) => *outcome,
                None if self.config.acks == Acks::None => Ok(-1),
                None => Err(KafkaCode::Unknown as i16),
            };
            match outcome {
                Ok(offset) => {
                    let len = entry.key.as_ref().map_or(0, |r| r.len()) + entry.value.as_ref().map_or(0, |r| r.len());
                    let offset = (offset >= 0).then_some(offset);
                    let place = (entry.topic, entry.partition);
                    let run = runs.entry(place).or_insert(Run { first: entry, records: 0, bytes: 0, offset });
                    run.records += 1;
                    run.bytes += len as u64;
                }
                Err(code) => {
                    let again = Code(code).is_retriable();
                    let error = Error::kafka(place(&key.0, key.1), code);
                    if !again {
                        self.report(&entry, 1, 0, Err(Failure { error: error.clone(), possibly_written: false }));
                    } else {
                        left.push_back(entry);
                    }
                    failed = Some((error, true));
                }
            }
        }
        for Run { first, records, bytes, offset } in runs.into_values() {
            self.report(&first, records, bytes, Ok(offset));
        }
        self.entries = left;
        failed
    }

    fn report(
        &mut self,
        first: &Entry,
        records: u64,
        bytes: u64,
        outcome: std::result::Result<Option<Offset>, Failure>,
    ) {
        self.answered += records;
        self.receipts.push(Receipt {
            topic: self.topics[first.topic].0.clone(),
            partition: first.partition,
            records,
            bytes,
            first_record: first.record,
            outcome,
        });
    }
}

impl Producer for KafkaProducer {
    fn append(&mut self, topic: &str, partition: Option<PartitionId>, record: &RecordRef<'_>) -> Result<()> {
        if !record.headers.is_empty() {
            return Err(refuse("headers", "the kafka crate writes message sets v0, which have none"));
        }
        if record.timestamp.is_some() {
            return Err(refuse("timestamps", "the kafka crate writes message sets v0, which have none"));
        }
        let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + 34;
        if size > self.config.max_record_size {
            return Err(Error::Usage(format!(
                "a record of {size} bytes is larger than --max-record-size {}",
                self.config.max_record_size
            )));
        }
        let topic = self.topic(topic)?;
        let (name, count) = &self.topics[topic];
        let partition = match (partition, record.key) {
            (Some(partition), _) if partition < 0 || partition as usize >= *count => {
                return Err(no_such_partition(name, partition, *count));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => super::native::partition_by_key(key, *count),
            (None, None) => (self.round_robin % count) as PartitionId,
        };
        // A message takes some 26 bytes beside its key and value.
        let batched = self.bytes.len() + self.entries.len() * 34;
        if !self.entries.is_empty() && batched + size > self.config.batch_size {
            self.round_robin += 1;
            self.flush()?;
        }
        if self.entries.is_empty() {
            self.opened = Instant::now();
        }
        let (key, value) = (self.keep(record.key), self.keep(record.value));
        self.entries.push_back(Entry { topic, partition, key, value, record: self.appended });
        self.appended += 1;
        Ok(())
    }

    fn set_now(&mut self, _: Timestamp) {}

    fn idle(&mut self) -> Result<Option<Instant>> {
        let due = self.opened + self.config.linger;
        if !self.entries.is_empty() && Instant::now() < due {
            return Ok(Some(due));
        }
        self.flush()?;
        Ok(None)
    }

    fn busy(&mut self) -> Result<()> {
        Ok(())
    }

    fn receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }

    fn unconfirmed(&self) -> u64 {
        self.appended - self.answered
    }
}

/// [`Consumer`] of the `kafka` crate.
pub(super) struct KafkaConsumer {
    client: Client,
    config: ConsumerConfig,
    partitions: Vec<Reading>,
    ready: VecDeque<Batch>,
}

struct Reading {
    topic: Arc<str>,
    partition: PartitionId,
    position: Offset,
    until: Offset,
    max_bytes: i32,
}

impl KafkaConsumer {
    pub(super) fn open(mut client: Client, config: ConsumerConfig) -> Result<Self> {
        for start in [config.start, config.fallback] {
            if matches!(start, Start::Time(_)) {
                return Err(refuse("-o @TIME", "before 0.10.1 brokers only know the times of whole segments"));
            }
        }
        let mut partitions = Vec::new();
        for topic in &config.topics {
            let count = client.count(topic, false)?;
            let wanted = config.partitions.clone().unwrap_or_else(|| (0..count as PartitionId).collect());
            let first = client.offsets(topic, FetchOffset::Earliest)?;
            let next = client.offsets(topic, FetchOffset::Latest)?;
            let stored = match (&config.group, config.start) {
                (Some(group), Start::Stored) => client
                    .inner
                    .fetch_group_topic_offset(group, topic)
                    .map_err(|e| network(&format!("offsets of group {group}"), &e))?
                    .into_iter()
                    .filter(|p| p.offset >= 0)
                    .map(|p| (p.partition, p.offset))
                    .collect(),
                _ => HashMap::new(),
            };
            for partition in wanted {
                let (Some(&first), Some(&next)) = (first.get(&partition), next.get(&partition)) else {
                    return Err(no_such_partition(topic, partition, count));
                };
                let from = |start| match start {
                    Start::Beginning => Some(first),
                    Start::End | Start::Time(_) => Some(next),
                    Start::Stored => stored.get(&partition).copied(),
                    Start::At(offset) => Some(offset),
                    Start::Last(count) => Some(next.saturating_sub_unsigned(count).max(first)),
                };
                let mut position = from(config.start).or_else(|| from(config.fallback)).unwrap_or(first);
                if position < first || position > next {
                    let error = out_of_range(topic, partition, position, first, next);
                    if config.start != Start::Stored {
                        return Err(error);
                    }
                    position = from(config.fallback).unwrap_or(first);
                    tracing::warn!("committed {error}; going on from {position}");
                }
                partitions.push(Reading {
                    topic: topic.as_str().into(),
                    partition,
                    position,
                    until: if config.stop_at_end { next } else { Offset::MAX },
                    max_bytes: config.fetch_bytes as i32,
                });
            }
        }
        client.inner.set_fetch_max_wait_time(FETCH_WAIT).map_err(|e| network("fetch", &e))?;
        client.inner.set_fetch_min_bytes(1);
        Ok(Self { client, config, partitions, ready: VecDeque::new() })
    }

    fn fetch(&mut self) -> Result<()> {
        let wanted: Vec<FetchPartition<'_>> = self
            .partitions
            .iter()
            .filter(|p| p.position < p.until)
            .map(|p| FetchPartition::new(&p.topic, p.partition, p.position).with_max_bytes(p.max_bytes))
            .collect();
        let responses = match self.client.inner.fetch_messages(&wanted) {
            Ok(responses) => responses,
            Err(error) => return self.recover(network("fetch", &error)),
        };
        let mut failed = None;
        for response in &responses {
            for topic in response.topics() {
                for fetched in topic.partitions() {
                    let Some(reading) = self
                        .partitions
                        .iter_mut()
                        .find(|p| *p.topic == *topic.topic() && p.partition == fetched.partition())
                    else {
                        continue;
                    };
                    let data = match fetched.data() {
                        Ok(data) => data,
                        Err(error) => {
                            let what = format!("fetching {}", place(&reading.topic, reading.partition));
                            failed = Some(network(&what, &error));
                            continue;
                        }
                    };
                    match batch(reading, data) {
                        Some(batch) => {
                            reading.position = batch.next_offset;
                            reading.max_bytes = self.config.fetch_bytes as i32;
                            self.ready.push_back(batch);
                        }
                        None if data.highwatermark_offset() > reading.position => {
                            // The next record is larger than what was asked for.
                            if reading.max_bytes >= MAX_FETCH {
                                let what = place(&reading.topic, reading.partition);
                                let at = reading.position;
                                return Err(Error::Network(format!(
                                    "{what}: the record at {at} is larger than 256 MiB"
                                )));
                            }
                            reading.max_bytes = reading.max_bytes.saturating_mul(2).min(MAX_FETCH);
                        }
                        None => {}
                    }
                }
            }
        }
        failed.map_or(Ok(()), |error| self.recover(error))
    }

    /// Looks for the leaders anew when that may help.
    fn recover(&mut self, error: Error) -> Result<()> {
        let again = match &error {
            Error::Kafka { code, .. } => code.is_retriable(),
            _ => true,
        };
        if !again {
            return Err(error);
        }
        tracing::warn!(%error, "fetching fails; trying on");
        std::thread::sleep(self.client.config.retry_backoff);
        if let Err(error) = self.client.refresh() {
            tracing::debug!(%error, "asking for metadata again");
        }
        Ok(())
    }
}

/// What was fetched, in the form that all rooms share.
fn batch(reading: &Reading, data: &kafka::client::fetch::Data<'_>) -> Option<Batch> {
    let messages = data.messages().iter().filter(|m| m.offset >= reading.position);
    let base_offset = messages.clone().next()?.offset;
    let mut records = BytesMut::new();
    let (mut count, mut next_offset) = (0, base_offset);
    for message in messages {
        let record = RecordRef {
            offset: message.offset,
            timestamp: None,
            key: Some(message.key),
            value: Some(message.value),
            headers: Headers::default(),
        };
        let Ok(delta) = i32::try_from(message.offset - base_offset) else { break };
        encode(&mut records, &record, 0, delta);
        next_offset = message.offset + 1;
        count += 1;
    }
    Some(Batch {
        topic: reading.topic.clone(),
        partition: reading.partition,
        base_offset,
        base_timestamp: None,
        timestamp_type: TimestampType::Create,
        nulls_known: false,
        leader_epoch: -1,
        from: reading.position,
        until: reading.until,
        next_offset: next_offset.min(reading.until),
        count,
        records: records.freeze(),
    })
}

impl Consumer for KafkaConsumer {
    fn next(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if self.client.stop.is_raised() {
                return Ok(Event::Stopped);
            }
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Event::Batch(batch));
            }
            if self.partitions.iter().all(|p| p.position >= p.until) {
                return Ok(Event::End);
            }
            if Instant::now() >= deadline {
                return Ok(Event::Timeout);
            }
            self.fetch()?;
        }
    }

    fn commit(&mut self, written: &Offsets) -> Result<()> {
        let Some(group) = self.config.group.clone() else {
            return Err(Error::Usage("committing needs a group: -g".to_owned()));
        };
        let offsets: Vec<CommitOffset<'_>> =
            written.iter().map(|((topic, p), at)| CommitOffset::new(topic, *p, at.offset)).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        self.client.inner.commit_offsets(&group, &offsets).map_err(|error| {
            let places: Vec<_> =
                written.iter().map(|((topic, p), at)| format!("{}@{}", place(topic, *p), at.offset)).collect();
            network(&format!("committing {} for group {group}", places.join(", ")), &error)
        })
    }
}

impl Admin for Client {
    fn topics(&mut self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>> {
        let mut all: Vec<String> = match names {
            Some(names) => names.to_vec(),
            None => self.inner.topics().names().map(str::to_owned).collect(),
        };
        all.sort();
        let mut topics = Vec::new();
        for topic in all {
            self.count(&topic, false)?;
            let first = if offsets { self.offsets(&topic, FetchOffset::Earliest)? } else { HashMap::new() };
            let next = if offsets { self.offsets(&topic, FetchOffset::Latest)? } else { HashMap::new() };
            let partitions = self.partitions(&topic).into_iter().map(|(partition, leader)| Partition {
                partition,
                leader,
                replicas: None,
                in_sync_replicas: None,
                first_offset: first.get(&partition).copied(),
                next_offset: next.get(&partition).copied(),
            });
            let partitions = partitions.collect();
            topics.push(Topic { topic, internal: None, partitions });
        }
        Ok(topics)
    }

    fn create_topic(&mut self, topic: &NewTopic) -> Result<()> {
        Err(refuse(
            &format!("creating topic {}", topic.name),
            "the kafka crate cannot; use the brokers' own kafka-topics.sh, or produce to it where they make topics on first use",
        ))
    }

    fn delete_topic(&mut self, name: &str) -> Result<()> {
        Err(refuse(&format!("deleting topic {name}"), "the kafka crate cannot; use the brokers' own kafka-topics.sh"))
    }
}
