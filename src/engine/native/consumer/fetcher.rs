//! The fetches: one in flight to each leader, ahead of what was handled, within a memory budget.

use super::super::cluster::Cluster;
use super::super::group::{AssignmentNumber, Change};
use super::super::net::sleep_until;
use super::super::wire::{Codec, Decoder, batches};
use super::budget::{Budget, Held};
use super::fetch::{Answer, fetch};
use super::positions::{Plan, Positions, Target, TargetId};
use super::{News, start};
use crate::engine::{ConsumerConfig, Event, Isolation, Offsets, Start, out_of_range};
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::{Batch, LeaderEpoch, Position, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// A topic that stays unknown this long was deleted.
const DELETED_AFTER: Duration = Duration::from_secs(10);
/// A reader with an end gives up when a partition fails this long; a tail goes on trying.
const OUTAGE_LIMIT: Duration = Duration::from_secs(60);
/// A member of a group that has no partition for this long says so.
const EMPTY_WAIT: Duration = Duration::from_secs(3);
/// The wait before a partition's leader is looked up again.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What the fetcher tells the consumer.
#[derive(Debug)]
pub(super) enum Delivery {
    /// These are read from now on.
    Assigned(Offsets, AssignmentNumber),
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
    pub(super) id: TargetId,
    pub(super) batches: Vec<Batch>,
    pub(super) failed: Option<Error>,
    pub(super) held: Held,
}

/// The consumer whom the fetcher works for has gone.
struct Gone;

pub(super) struct Fetcher {
    cluster: Arc<Cluster>,
    positions: Positions,
    budget: Arc<Budget>,
    deliver: Sender<Delivery>,
    news: Arc<News>,
    config: ConsumerConfig,
    /// What a group has assigned, with the number of the assignment: where to begin may still be looked up.
    given: BTreeMap<TopicPartition, AssignmentNumber>,
    /// Whether all partitions are known that an end is asked for.
    settled: bool,
    /// When to say that this member has nothing to read.
    empty_since: Option<Instant>,
    ended: bool,
}

/// Where to begin in what a group assigned.
type Resolved = (AssignmentNumber, BTreeSet<TopicPartition>, Result<Vec<Target>>);

impl Fetcher {
    /// Fetches what stands in `positions`, and with `joins` what a group gives.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        positions: Positions,
        budget: Arc<Budget>,
        deliver: Sender<Delivery>,
        news: Arc<News>,
        config: ConsumerConfig,
        joins: bool,
    ) -> Self {
        Self {
            cluster,
            positions,
            budget,
            deliver,
            news,
            config,
            given: BTreeMap::new(),
            settled: !joins,
            empty_since: None,
            ended: false,
        }
    }

    /// Fetches until fetching fails for good, or the consumer is dropped.
    pub(super) async fn run(mut self, mut changes: mpsc::UnboundedReceiver<Change>) {
        let mut in_flight: JoinSet<Answer> = JoinSet::new();
        let mut resolving: JoinSet<Resolved> = JoinSet::new();
        let mut changing = true;
        loop {
            if self.settled && resolving.is_empty() && self.positions.ended() && !self.ended {
                self.ended = true;
                let _ = self.deliver.send(Delivery::End); // Err: the consumer is gone
            }
            if let Some(group) =
                self.config.group.as_ref().filter(|_| self.empty_since.is_some_and(|at| at <= Instant::now()))
            {
                self.empty_since = None;
                let session = group.session_timeout;
                tracing::warn!(
                    "group {}: waiting for partitions, for other members have them all (one that died keeps them for its session timeout, like {session:?})",
                    group.id
                );
            }
            if let Err(error) = self.find_leaders().await {
                let _ = self.deliver.send(Delivery::Failed(error)); // as above
                return;
            }
            if self.budget.has_room() {
                for plan in self.positions.plan(Instant::now()) {
                    let request = self.request(&plan);
                    let (cluster, rack) = (self.cluster.clone(), self.config.rack.clone());
                    in_flight.spawn(fetch(cluster, plan, request, self.config.fetch_wait, rack));
                }
            }
            let retry = self.positions.next_retry().into_iter().chain(self.empty_since).min();
            let done = tokio::select! {
                biased;
                change = changes.recv(), if changing => match change {
                    Some(change) => self.change(change, &mut resolving),
                    None => {
                        changing = false;
                        Ok(())
                    }
                },
                Some(Ok(resolved)) = resolving.join_next() => self.on_assigned(resolved),
                // Err: the task was cancelled, which only happens when the runtime ends.
                Some(Ok((plan, response))) = in_flight.join_next() => self.handle(plan, response).await,
                () = self.budget.freed() => Ok(()),
                () = sleep_until(retry) => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// What the group gives is looked up; what it takes is let go at once.
    fn change(&mut self, change: Change, resolving: &mut JoinSet<Resolved>) -> Result<(), Gone> {
        match change {
            Change::Assigned(places, round) => {
                self.given.extend(places.iter().map(|place| (place.clone(), round)));
                let (cluster, config) = (self.cluster.clone(), self.config.clone());
                resolving.spawn(async move {
                    let all: Vec<TopicPartition> = places.iter().cloned().collect();
                    let targets = start::resolve(&cluster, &config, &all).await;
                    (round, places, targets)
                });
            }
            Change::Revoking(places, number) => {
                self.on_revoked(&places, number);
                self.news.tell(Event::Revoking(places.into_iter().collect()));
                return self.deliver.send(Delivery::Woken).map_err(|_| Gone);
            }
            Change::Lost(places, number, error) => {
                self.on_revoked(&places, number);
                self.news.tell(Event::Lost(places.into_iter().collect(), error));
                return self.deliver.send(Delivery::Woken).map_err(|_| Gone);
            }
            Change::Failed(error) => return self.fail(error),
        }
        Ok(())
    }

    fn on_revoked(&mut self, places: &BTreeSet<TopicPartition>, number: AssignmentNumber) {
        let goes = |target: &Target| places.contains(&target.of);
        for place in places {
            self.given.remove(place);
        }
        self.settled &= !self.given.is_empty();
        let gone = self.positions.remove(goes);
        let mut state = self.news.state();
        for id in gone {
            state.live.remove(&id);
        }
        state.revoked.extend(places.iter().map(|of| (of.clone(), number)));
    }

    /// Begins to read what was looked up, as far as it is still this consumer's.
    fn on_assigned(&mut self, (round, places, targets): Resolved) -> Result<(), Gone> {
        let targets = match targets {
            Ok(targets) => targets,
            // It was taken back meanwhile, or the topic was: what is wrong with it is not ours to say.
            Err(_) if places.iter().all(|place| self.given.get(place) != Some(&round)) && !places.is_empty() => {
                return Ok(());
            }
            Err(error) => return self.fail(error),
        };
        let mut taken = Offsets::new();
        for target in targets {
            let (place, begins) = target.begins();
            if self.given.get(&place) == Some(&round) {
                let id = self.positions.add(target);
                self.news.state().live.insert(id);
                taken.insert(place, begins);
            }
        }
        // Nothing to read is no end: somebody else has it, who may be dead.
        self.settled = !self.given.is_empty();
        self.ended = false;
        self.empty_since = self.given.is_empty().then(|| Instant::now() + EMPTY_WAIT);
        self.deliver.send(Delivery::Assigned(taken, round)).map_err(|_| Gone)
    }

    /// Looks up the leaders that are not known.
    async fn find_leaders(&mut self) -> Result<()> {
        let now = Instant::now();
        let missing = self.positions.leaderless(now);
        if missing.is_empty() {
            return Ok(());
        }
        let topics = missing.iter().filter_map(|id| self.positions.target(*id)).map(|target| target.of.topic.clone());
        let names: BTreeSet<Arc<str>> = topics.collect();
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
            let Some(target) = self.positions.target(index) else { continue };
            let found = topics.iter().find(|(name, _)| **name == *target.of.topic).map(|(_, topic)| topic);
            let of = &target.of;
            let partition = match found {
                Some(Ok(topic)) => topic.partitions.get(of.partition as usize).map(|p| (topic.id, p)),
                Some(Err(code)) if !code.is_transient() => return Err(Error::kafka(Action::LookUp, of, *code)),
                _ => None,
            };
            match partition {
                Some((id, p)) if p.leader.is_some() => {
                    self.positions.set_leader(index, id, p.leader, p.leader_epoch);
                }
                Some(_) => {
                    let error = Error::kafka(Action::LookUp, of, ResponseError::LeaderNotAvailable);
                    self.retry_later(index, &error)?;
                }
                None => {
                    let error = Error::kafka(Action::LookUp, of, ResponseError::UnknownTopicOrPartition);
                    if self.positions.failed(index, now, RETRY_WAIT) > DELETED_AFTER {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a failure that may pass, and warns of the first; an error once it has lasted too long.
    fn retry_later(&mut self, index: TargetId, error: &Error) -> Result<()> {
        if self.note_failure(index, error, RETRY_WAIT)?.is_zero() {
            tracing::warn!(error_name = error.name(), %error, "fetching fails; retrying");
        }
        Ok(())
    }

    /// Notes a failure; for how long there has been no success, or an error where that is too long for a reader
    /// with an end.
    fn note_failure(&mut self, index: TargetId, error: &Error, wait: Duration) -> Result<Duration> {
        self.cluster.options.observer.retried(error);
        let failing = self.positions.failed(index, Instant::now(), wait);
        if self.config.stop_at_end && failing > OUTAGE_LIMIT { Err(error.clone()) } else { Ok(failing) }
    }

    fn request(&self, plan: &Plan) -> FetchRequest {
        let mut topics: BTreeMap<&str, FetchTopic> = BTreeMap::new();
        for &index in &plan.partitions {
            let Some(target) = self.positions.target(index) else { continue };
            let partition = FetchPartition::default()
                .with_partition(target.of.partition)
                .with_current_leader_epoch(LeaderEpoch::to_wire(self.positions.leader_epoch(index)))
                .with_fetch_offset(target.position)
                .with_last_fetched_epoch(LeaderEpoch::to_wire(target.last_epoch))
                .with_log_start_offset(-1)
                .with_partition_max_bytes(self.config.fetch_bytes as i32);
            let topic = topics.entry(&target.of.topic).or_insert_with(|| {
                FetchTopic::default()
                    .with_topic(super::super::cluster::topic_name(&target.of.topic))
                    .with_topic_id(target.id)
            });
            topic.partitions.push(partition);
        }
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(self.config.fetch_wait.as_millis() as i32)
            .with_min_bytes(self.config.fetch_min_bytes as i32)
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
                    self.handle_topic(&plan, topic, &mut answered).await?;
                }
                // A partition that the answer leaves out had nothing to tell.
                for index in plan.partitions.into_iter().filter(|index| !answered.contains(index)) {
                    self.positions.fetched(index, None);
                }
                return Ok(());
            }
            Ok(response) => {
                let code = error_code(response.error_code).unwrap_or(ResponseError::UnknownServerError);
                let error = Error::kafka(Action::Fetch, Subject::Broker(self.cluster.node(plan.broker)), code);
                if !is_transient(code) {
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

    async fn handle_topic(
        &mut self,
        plan: &Plan,
        topic: FetchableTopicResponse,
        answered: &mut Vec<TargetId>,
    ) -> Result<(), Gone> {
        for data in topic.partitions {
            let found = self.positions.find(&plan.partitions, &topic.topic, topic.topic_id, data.partition_index);
            let Some(index) = found else { continue }; // never asked for, or let go meanwhile
            answered.push(index);
            let Some(target) = self.positions.target(index).cloned() else { continue };
            let code = error_code(data.error_code);
            if let Some(code) = code.filter(|code| is_transient(*code)) {
                let error = Error::kafka(Action::Fetch, &target.of, code);
                // The leader moved: that is no news for the user.
                tracing::info!(error_name = error.name(), %error, "looking for the leader");
                if let Err(error) = self.note_failure(index, &error, RETRY_WAIT / 4) {
                    return self.fail(error);
                }
                continue;
            }
            if code == Some(ResponseError::OffsetOutOfRange) {
                self.out_of_range(index, &target).await?;
                continue;
            }
            if data.diverging_epoch.end_offset >= 0 {
                // Its leader has lost what this consumer has read: an unclean election (KIP-320).
                let (end, what) = (data.diverging_epoch.end_offset, &target.of);
                let read = target.position;
                tracing::warn!(
                    "{what}: the log was truncated: the records from {end} to {} that were read are gone; going on from {end}",
                    read - 1
                );
                self.positions.reset(index, end);
                continue;
            }
            if data.preferred_read_replica.0 >= 0 {
                let broker = data.preferred_read_replica.0;
                tracing::info!(partition = %target.of, broker, "reading from the nearest replica");
                self.positions.follow(index, broker, Instant::now());
            }
            if let Some(code) = code {
                return self.fail(Error::kafka(Action::Fetch, &target.of, code));
            }
            self.deliver(index, data)?;
        }
        Ok(())
    }

    /// The position is not in the log: retention was faster, or the broker cannot tell for the epoch asked for.
    async fn out_of_range(&mut self, id: TargetId, target: &Target) -> Result<(), Gone> {
        if target.last_epoch.is_some() {
            self.positions.reset(id, target.position); // asked again without an epoch
            return Ok(());
        }
        let one = [target.of.clone()];
        let (first, next) = match self.cluster.bounds(&one, false).await {
            Ok((first, next)) => (first[&one[0]], next[&one[0]]),
            Err(error) => {
                return self.retry_later(id, &error).or_else(|error| self.fail(error));
            }
        };
        let error = out_of_range(&target.of, target.position, first, next);
        if self.config.group.is_none() {
            return self.fail(error);
        }
        // A group goes on, as it does at its start.
        let from = if target.position < first || self.config.fallback != Start::End { first } else { next };
        tracing::warn!("{error}; going on from {from}");
        self.positions.reset(id, from);
        Ok(())
    }

    /// Passes on what was fetched of a partition; decompresses on the blocking pool.
    fn deliver(&mut self, index: TargetId, data: PartitionData) -> Result<(), Gone> {
        let Some(target) = self.positions.target(index).cloned() else { return Ok(()) };
        let observer = &self.cluster.options.observer;
        observer.fetched(&target.of, target.position, data.high_watermark);
        let of = target.of.clone();
        let raw = match batches(data.records.unwrap_or_default()) {
            Ok(raw) => raw,
            Err(corrupt) => {
                return self.fail(Error::Corrupt { partition: of, offset: target.position, why: corrupt.to_string() });
            }
        };
        let after = |batch: &super::super::wire::RawBatch| Position {
            offset: batch.next_offset(),
            leader_epoch: LeaderEpoch::from_wire(batch.leader_epoch()),
        };
        self.positions.fetched(index, raw.last().map(after));
        if raw.is_empty() {
            return Ok(());
        }
        let aborted = data.aborted_transactions.unwrap_or_default();
        let decoder = Decoder {
            topic: target.of.topic,
            partition: target.of.partition,
            from: target.position,
            until: target.until,
            isolation: self.config.isolation,
            aborted: aborted.into_iter().map(|a| (a.producer_id.0, a.first_offset)).collect(),
        };
        let compressed = raw.iter().any(|batch| batch.codec() != Some(Codec::None));
        let from = target.position;
        let mut held = self.budget.hold(raw.iter().map(|batch| batch.len()).sum());
        let decode = move || {
            let (batches, corrupt) = decoder.decode(raw);
            held.grow(batches.iter().map(|batch| batch.records.len()).sum());
            let failed =
                corrupt.map(|corrupt| Error::Corrupt { partition: of.clone(), offset: from, why: corrupt.to_string() });
            Decoded { id: index, batches, failed, held }
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

/// Whether another leader or another moment may mend it.
fn is_transient(code: ResponseError) -> bool {
    // A corrupt batch stays corrupt: the schemas call that retriable, for a producer.
    code.is_transient() && code != ResponseError::CorruptMessage
}
