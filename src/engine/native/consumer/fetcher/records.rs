//! Fetched records on their way to the command.

use super::super::answers::{Fetched, Meaning, meaning};
use super::super::budget::Bytes as Kind;
use super::super::decoding::{Decoded, Packed};
use super::super::fetch;
use super::{AssignmentId, Delivery, Duration, Ended, Error, FetchResponse, Fetcher, Instant, Plan, Position, Result};
use crate::engine::Isolation;
use crate::engine::native::mutation::mutated;
use crate::engine::native::net::{backoff, clock, throttle};
use crate::engine::native::wire::{Codec, Decoder};
use crate::error::{Action, Subject, error_code};
use crate::record::{Batch, TopicPartition};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_response::PartitionData;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Where brokers are told to answer at once, empty answers that come faster are followed by a pause all the same.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// The partitions of a plan, by topic and by topic ID.
type Asked = BTreeMap<(Option<Arc<str>>, Uuid, i32), AssignmentId>;

impl Fetcher {
    pub(super) fn on_fetched(
        &mut self,
        plan: &Plan,
        response: Result<FetchResponse>,
        took: Duration,
    ) -> Result<(), Ended> {
        let now = clock::now();
        let first = self.cluster.options.retry_backoff;
        let response = match response {
            Ok(response) => match error_code(response.error_code) {
                None => response,
                Some(code) => {
                    let subject = Subject::Broker(self.cluster.node(plan.broker));
                    return self.on_refused(plan, Error::kafka(Action::Fetch, subject, code));
                }
            },
            Err(error) => return self.on_refused(plan, error),
        };
        if let Some(throttle) = fetch::withheld(&response) {
            self.positions.answered(plan, false, now, throttle, |attempt| backoff(first, attempt));
            return Ok(());
        }
        let throttle = throttle(response.throttle_time_ms);
        let asked = self.asked(plan);
        let mut is_fruitless = took < self.config.fetch_wait.max(LEAST_WAIT) / 2;
        let mut recovered = Vec::new();
        let is_idle = is_fruitless && throttle.is_zero() && is_empty(&response);
        for topic in response.responses {
            for data in topic.partitions {
                let name = Some(&*topic.topic.0).filter(|name| !name.is_empty()).map(Arc::from);
                let id = if name.is_some() { Uuid::nil() } else { topic.topic_id };
                // Never asked for, or answered before: not believed.
                let Some(&id) = asked.get(&(name, id, data.partition_index)) else { continue };
                if self.positions.awaiting(id, plan.request).is_some() {
                    match self.starved(id, plan, &data).filter(|_| is_idle) {
                        Some(error) => self.failed(id, error)?,
                        None => is_fruitless &= self.on_partition(id, plan, data, &mut recovered)?,
                    }
                }
            }
        }
        self.on_missing(plan)?;
        if let Some((_, lasted)) = recovered.first() {
            let lasted = lasted.as_secs();
            let partitions = super::named(recovered.iter().map(|(of, _): &(TopicPartition, _)| of.to_string()));
            tracing::warn!("reading {partitions} again after {lasted} s");
        }
        self.positions.answered(plan, is_fruitless, now, throttle, |attempt| backoff(first, attempt));
        Ok(())
    }

    /// Partitions that the answer lacks.
    fn on_missing(&mut self, plan: &Plan) -> Result<(), Ended> {
        let node = self.cluster.node(plan.broker);
        for id in &plan.partitions {
            if let Some(target) = self.positions.awaiting(*id, plan.request) {
                let why = format!("{} is missing", target.of);
                self.failed(*id, Error::Malformed { node: node.clone(), api: ApiKey::Fetch, why })?;
            }
        }
        Ok(())
    }

    /// The error of an empty answer that came at once although the log goes on behind the position.
    fn starved(&self, id: AssignmentId, plan: &Plan, data: &PartitionData) -> Option<Error> {
        let end = match self.config.isolation {
            Isolation::Committed => data.last_stable_offset.min(data.high_watermark),
            Isolation::Uncommitted => data.high_watermark,
        };
        let target = self.positions.target(id).filter(|target| target.position < end)?;
        let is_elsewhere = data.preferred_read_replica.0 >= 0 || data.diverging_epoch.end_offset >= 0;
        let why = format!("{}: no records at {}, although the log ends at {end}", target.of, target.position);
        let node = self.cluster.node(plan.broker);
        (!is_elsewhere).then_some(Error::Malformed { node, api: ApiKey::Fetch, why })
    }

    /// By what an answer names the partitions of `plan`: by the topic's name, or from Fetch v13 on by its ID.
    fn asked(&self, plan: &Plan) -> Asked {
        let mut asked = Asked::new();
        for id in &plan.partitions {
            if let Some(target) = self.positions.awaiting(*id, plan.request) {
                asked.insert((Some(target.of.topic.clone()), Uuid::nil(), target.of.partition), *id);
                asked.insert((None, target.topic_id, target.of.partition), *id);
            }
        }
        asked
    }

    /// The whole fetch failed.
    fn on_refused(&mut self, plan: &Plan, error: Error) -> Result<(), Ended> {
        for id in &plan.partitions {
            if self.positions.awaiting(*id, plan.request).is_some() {
                self.failed(*id, error.clone())?;
            }
        }
        self.positions.answered(plan, false, clock::now(), Duration::ZERO, |_| Duration::ZERO);
        Ok(())
    }

    /// Returns whether there was nothing of use.
    fn on_partition(
        &mut self,
        id: AssignmentId,
        plan: &Plan,
        data: PartitionData,
        recovered: &mut Vec<(TopicPartition, Duration)>,
    ) -> Result<bool, Ended> {
        let Some(target) = self.positions.target(id).cloned() else { return Ok(true) };
        let now = clock::now();
        let node = self.cluster.node(plan.broker);
        match meaning(&target, &node, self.config.isolation, data) {
            Meaning::Fetched(fetched) => {
                if let Some(lasted) = self.positions.fetched(id, fetched.next, now) {
                    recovered.push((target.of.clone(), lasted));
                }
                self.positions.hold_back(id, fetched.held_back, now);
                let is_empty = fetched.next.is_none();
                self.cluster.options.observer.fetched(&target.of, target.position, fetched.high_watermark);
                if !is_empty {
                    self.hand_over(id, fetched, &target)?;
                }
                return Ok(is_empty);
            }
            Meaning::Follow(broker) => {
                self.positions.fetched(id, None, now);
                tracing::info!(partition = %target.of, %broker, "reading from the nearest replica");
                self.positions.follow(id, broker, now);
            }
            Meaning::OutOfRange => self.on_out_of_range(id, &target, now),
            Meaning::Truncated(left) => {
                // Its leader has lost what this consumer has read: an unclean election (KIP-320).
                let (of, end, last) = (&target.of, left.offset, target.position - 1);
                if end > last {
                    tracing::warn!(
                        "{of}: the log was truncated and written again: records before {end}, already read, may be other ones now; resuming at {end}"
                    );
                } else {
                    tracing::warn!(
                        "{of}: the log was truncated: records {end} to {last}, already read, no longer exist; resuming at {end}"
                    );
                }
                let ignored = Position { offset: target.position, leader_epoch: None };
                self.positions.truncated(id, if mutated!(TruncationIgnored) { ignored } else { left });
            }
            Meaning::Retry(error) => self.failed(id, error)?,
            Meaning::Fatal(error) => return self.fail(error).map(|()| true),
        }
        Ok(false)
    }

    /// A follower may lag behind, a broker may not know the epoch, the leader may have deleted what was not read.
    fn on_out_of_range(&mut self, id: AssignmentId, target: &super::super::positions::Target, now: Instant) {
        let error = Error::kafka(Action::Fetch, &target.of, ResponseError::OffsetOutOfRange);
        tracing::info!(error_name = error.name(), partition = %target.of, position = target.position, "out of range");
        if self.positions.back_to_leader(id, now) {
            return;
        }
        if target.last_epoch.is_some() {
            let position = Position { offset: target.position, leader_epoch: None };
            self.positions.reset(id, position); // asked again without an epoch
        } else {
            self.positions.check(id);
        }
    }

    /// Passes on what was fetched of a partition, to be unpacked on the blocking pool where it is compressed.
    fn hand_over(
        &mut self,
        id: AssignmentId,
        fetched: Fetched,
        target: &super::super::positions::Target,
    ) -> Result<(), Ended> {
        let Fetched { raw, aborted, .. } = fetched;
        let bytes = raw.iter().map(|batch| batch.len()).sum();
        let is_compressed = raw.iter().any(|batch| batch.codec() != Some(Codec::None));
        let decoder = Decoder {
            topic: target.of.topic.clone(),
            partition: target.of.partition,
            from: target.position,
            until: target.until,
            isolation: self.config.isolation,
            aborted,
            max_unpacked: self.config.max_unpacked,
        };
        let batches = decoder.batches(raw);
        let batches = if self.config.counts_only { batches.counting() } else { batches };
        let packed = Packed { id, of: target.of.clone(), batches, bytes };
        let delivery = if is_compressed {
            self.deliveries += 1;
            Delivery::Decoding(packed.decode_in_steps(
                self.cluster.options.platform.clone(),
                self.budget.clone(),
                self.deliveries,
            ))
        } else {
            Delivery::Decoded(packed.decode(&self.budget))
        };
        self.send(delivery)
    }

    /// Moves what the command holds as its position, in order with the records before.
    pub(super) fn moved(&self, id: AssignmentId, of: &TopicPartition, position: Position) -> Decoded {
        let mut batch = Batch::unplaced(of.topic.clone(), of.partition, None, 0, Bytes::new());
        (batch.base_offset, batch.from, batch.next_offset) = (position.offset, position.offset, position.offset);
        Decoded { id, batches: vec![batch], failed: None, held: self.budget.hold(Kind::Unpacked, 0) }
    }
}

/// Whether an answer has neither records nor errors.
fn is_empty(response: &FetchResponse) -> bool {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.all(|data| data.error_code == 0 && data.records.as_ref().is_none_or(Bytes::is_empty))
}
