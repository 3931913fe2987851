//! The fetches: one in flight to each leader, ahead of what was handled, within a memory budget.

use super::super::cluster::{Cluster, UNKNOWN_TOPIC};
use super::super::wire::{Codec, Decoder, batches};
use super::positions::{Plan, Positions};
use super::{Place, explain};
use crate::engine::{ConsumerConfig, Isolation, place};
use crate::error::{Code, Error, Result};
use crate::record::Batch;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The last version of Fetch that names topics; later ones have ids (KIP-516).
const LAST_FETCH_BY_NAME: i16 = 12;
/// A topic that stays unknown this long was deleted.
const DELETED_AFTER: Duration = Duration::from_secs(10);
/// A reader with an end gives up when a partition fails this long; a tail goes on trying.
const OUTAGE_LIMIT: Duration = Duration::from_secs(60);
/// The wait before a partition's leader is looked up again.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What the fetcher tells the consumer.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Records.
    Decoded(Decoded),
    /// Records that the blocking pool still decompresses; waiting for them here keeps the order.
    Decoding(oneshot::Receiver<Decoded>),
    /// Every partition is at its end.
    End,
    /// Fetching cannot go on.
    Failed(Error),
    /// A signal came.
    Woken,
}

/// Records of one partition, and what went wrong after them.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) batches: Vec<Batch>,
    pub(super) failed: Option<Error>,
    pub(super) held: Held,
}

/// How many bytes of records are fetched and not handled.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Held { budget: self.clone(), bytes }
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Acquire) < self.limit
    }
}

/// Bytes of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.freed.notify_one();
    }
}

/// The consumer whom the fetcher works for has gone.
struct Gone;

pub(super) struct Fetcher {
    pub(super) cluster: Arc<Cluster>,
    pub(super) positions: Positions,
    pub(super) budget: Arc<Budget>,
    pub(super) deliver: Sender<Delivery>,
    pub(super) config: ConsumerConfig,
}

/// An answered fetch.
type Answer = (Plan, Result<FetchResponse>);

impl Fetcher {
    /// Fetches until all partitions end, fetching fails for good, or the consumer is dropped.
    pub(super) async fn run(mut self) {
        let mut in_flight: JoinSet<Answer> = JoinSet::new();
        loop {
            if self.positions.ended() {
                let _ = self.deliver.send(Delivery::End); // Err: the consumer is gone
                return;
            }
            if let Err(error) = self.find_leaders().await {
                let _ = self.deliver.send(Delivery::Failed(error)); // as above
                return;
            }
            if self.budget.has_room() {
                for plan in self.positions.plan(Instant::now()) {
                    let request = self.request(&plan);
                    in_flight.spawn(fetch(self.cluster.clone(), plan, request, self.config.fetch_wait));
                }
            }
            let retry = self.positions.next_retry();
            let answered = tokio::select! {
                Some(answered) = in_flight.join_next() => answered,
                () = self.budget.freed.notified() => continue,
                () = sleep_until(retry) => continue,
            };
            // Err: the task was cancelled, which only happens when the runtime ends.
            let Ok((plan, response)) = answered else { return };
            if self.handle(plan, response).await.is_err() {
                return;
            }
        }
    }

    /// Looks up the leaders that are not known.
    async fn find_leaders(&mut self) -> Result<()> {
        let now = Instant::now();
        let missing = self.positions.leaderless(now);
        if missing.is_empty() {
            return Ok(());
        }
        let mut names: Vec<Arc<str>> = missing.iter().map(|&i| self.positions.target(i).topic.clone()).collect();
        names.dedup();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let topics = match self.cluster.metadata(Some(&names), false).await {
            Ok(topics) => topics,
            Err(error) => {
                for &index in &missing {
                    self.retry_later(index, &error)?;
                }
                return Ok(());
            }
        };
        for index in missing {
            let target = self.positions.target(index);
            let found = topics.iter().find(|(name, _)| **name == *target.topic).map(|(_, topic)| topic);
            let what = place(&target.topic, target.partition);
            let partition = match found {
                Some(Ok(topic)) => topic.partitions.get(target.partition as usize).map(|p| (topic.id, p)),
                Some(Err(code)) if !code.is_retriable() => return Err(Error::kafka(what, code.0)),
                _ => None,
            };
            match partition {
                Some((id, p)) if p.leader.is_some() => {
                    self.positions.set_leader(index, id, p.leader, p.leader_epoch);
                }
                Some(_) => {
                    let error = Error::kafka(what, super::super::cluster::LEADER_NOT_AVAILABLE);
                    self.retry_later(index, &error)?;
                }
                None => {
                    let error = Error::kafka(what, UNKNOWN_TOPIC);
                    if self.positions.failed(index, now, RETRY_WAIT) > DELETED_AFTER {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a failure that may pass, and warns of the first; an error once it has lasted too long.
    fn retry_later(&mut self, index: usize, error: &Error) -> Result<()> {
        if self.note_failure(index, error, RETRY_WAIT)?.is_zero() {
            tracing::warn!(%error, "fetching fails; trying on");
        }
        Ok(())
    }

    /// Notes a failure; for how long there has been no success, or an error where that is too long for a reader
    /// with an end.
    fn note_failure(&mut self, index: usize, error: &Error, wait: Duration) -> Result<Duration> {
        let failing = self.positions.failed(index, Instant::now(), wait);
        if self.config.stop_at_end && failing > OUTAGE_LIMIT { Err(error.clone()) } else { Ok(failing) }
    }

    fn request(&self, plan: &Plan) -> FetchRequest {
        let mut topics: BTreeMap<&str, FetchTopic> = BTreeMap::new();
        for &index in &plan.partitions {
            let target = self.positions.target(index);
            let partition = FetchPartition::default()
                .with_partition(target.partition)
                .with_current_leader_epoch(self.positions.leader_epoch(index))
                .with_fetch_offset(target.position)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(self.config.fetch_bytes as i32);
            let topic = topics.entry(&target.topic).or_insert_with(|| {
                FetchTopic::default()
                    .with_topic(super::super::cluster::topic_name(&target.topic))
                    .with_topic_id(target.id)
            });
            topic.partitions.push(partition);
        }
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(self.config.fetch_wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(self.config.fetch_bytes as i32)
            .with_isolation_level(i8::from(self.config.isolation == Isolation::Committed))
            .with_session_epoch(-1) // no fetch session (KIP-227)
            .with_topics(topics.into_values().collect())
    }

    async fn handle(&mut self, plan: Plan, response: Result<FetchResponse>) -> Result<(), Gone> {
        let error = match response {
            Ok(response) if response.error_code == 0 => {
                let mut answered = Vec::with_capacity(plan.partitions.len());
                for topic in response.responses {
                    self.handle_topic(topic, &mut answered).await?;
                }
                // A partition that the answer leaves out had nothing to tell.
                for index in plan.partitions.into_iter().filter(|index| !answered.contains(index)) {
                    self.positions.fetched(index, None);
                }
                return Ok(());
            }
            Ok(response) => {
                let what = format!("fetching from {}", self.cluster.label(plan.broker));
                let error = Error::kafka(what, response.error_code);
                if !is_passing(response.error_code) {
                    return self.fail(error);
                }
                error
            }
            Err(error) => error,
        };
        for index in plan.partitions {
            if let Err(error) = self.retry_later(index, &error) {
                return self.fail(error);
            }
        }
        Ok(())
    }

    fn fail(&self, error: Error) -> Result<(), Gone> {
        let _ = self.deliver.send(Delivery::Failed(error)); // Err: the consumer is gone
        Err(Gone)
    }

    async fn handle_topic(&mut self, topic: FetchableTopicResponse, answered: &mut Vec<usize>) -> Result<(), Gone> {
        for data in topic.partitions {
            let Some(index) = self.positions.find(&topic.topic, topic.topic_id, data.partition_index) else {
                continue; // never asked for
            };
            answered.push(index);
            let target = self.positions.target(index).clone();
            let code = data.error_code;
            if is_passing(code) {
                let error = Error::kafka(format!("fetching {}", place(&target.topic, target.partition)), code);
                // The leader moved: that is no news for the user.
                tracing::info!(%error, "looking for the leader");
                if let Err(error) = self.note_failure(index, &error, RETRY_WAIT / 4) {
                    return self.fail(error);
                }
                continue;
            }
            if code != 0 {
                let place: Place = (target.topic, target.partition);
                let error = explain(&self.cluster, &place, target.position, code).await;
                return self.fail(error);
            }
            self.deliver(index, data)?;
        }
        Ok(())
    }

    /// Passes on what was fetched of a partition; decompresses on the blocking pool.
    fn deliver(&mut self, index: usize, data: PartitionData) -> Result<(), Gone> {
        let target = self.positions.target(index).clone();
        let what = place(&target.topic, target.partition);
        let raw = match batches(data.records.unwrap_or_default()) {
            Ok(raw) => raw,
            Err(corrupt) => return self.fail(Error::Network(format!("{what}: {corrupt}"))),
        };
        self.positions.fetched(index, raw.last().map(|batch| batch.next_offset()));
        if raw.is_empty() {
            return Ok(());
        }
        let aborted = data.aborted_transactions.unwrap_or_default();
        let decoder = Decoder {
            topic: target.topic,
            partition: target.partition,
            from: target.position,
            until: target.until,
            isolation: self.config.isolation,
            aborted: aborted.into_iter().map(|a| (a.producer_id.0, a.first_offset)).collect(),
        };
        let compressed = raw.iter().any(|batch| batch.codec() != Some(Codec::None));
        let mut held = self.budget.hold(raw.iter().map(|batch| batch.len()).sum());
        let decode = move || {
            let (batches, corrupt) = decoder.decode(raw);
            // What came out of a codec is larger than what went in.
            let bytes: usize = batches.iter().map(|batch| batch.records.len()).sum();
            if bytes > held.bytes {
                held.budget.used.fetch_add(bytes - held.bytes, Ordering::AcqRel);
                held.bytes = bytes;
            }
            let failed = corrupt.map(|corrupt| Error::Network(format!("{what}: {corrupt}")));
            Decoded { batches, failed, held }
        };
        let delivery = if compressed {
            let (done, pending) = oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = done.send(decode()); // Err: the consumer is gone
            });
            Delivery::Decoding(pending)
        } else {
            Delivery::Decoded(decode())
        };
        self.deliver.send(delivery).map_err(|_| Gone)
    }
}

async fn fetch(cluster: Arc<Cluster>, plan: Plan, request: FetchRequest, wait: Duration) -> Answer {
    let ids = request.topics.iter().all(|topic| topic.topic_id != Uuid::nil());
    let newest = if ids { i16::MAX } else { LAST_FETCH_BY_NAME };
    let limit = wait + cluster.config.request_timeout;
    let response = async { cluster.broker(plan.broker).await?.request_within(&request, newest, limit).await };
    let response = response.await;
    (plan, response)
}

/// Whether another leader or another moment may mend it.
fn is_passing(code: i16) -> bool {
    // A corrupt batch stays corrupt: the schemas call that retriable, for a producer.
    Code(code).is_retriable() && Code(code).response_error() != Some(ResponseError::CorruptMessage)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
