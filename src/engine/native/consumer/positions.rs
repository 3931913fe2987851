//! Where each partition's fetching stands: a state machine without sockets or a clock of its own.

use crate::record::{LeaderEpoch, Offset, Position, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a follower is read from before the leader is asked again (KIP-392).
const FOLLOWER_FOR: Duration = Duration::from_secs(300);

/// A partition to be read, from `position` up to `until`.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) of: TopicPartition,
    /// Nil when the broker has no topic ids.
    pub(super) id: Uuid,
    pub(super) position: Offset,
    /// [`Offset::MAX`] for no end.
    pub(super) until: Offset,
    /// Epoch of the leader that wrote the record before `position` (KIP-320).
    pub(super) last_epoch: Option<LeaderEpoch>,
}

impl Target {
    /// The partition, and where it begins.
    pub(super) fn begins(&self) -> (TopicPartition, Position) {
        let begins = Position { offset: self.position, leader_epoch: self.last_epoch };
        (self.of.clone(), begins)
    }
}

/// One taking up of a partition: the same partition, taken up again later, has another.
pub(super) type TargetId = u64;

#[derive(Debug)]
struct Partition {
    target: Target,
    leader: Option<i32>,
    leader_epoch: Option<LeaderEpoch>,
    /// A follower that the leader has sent us to, and until when to believe it.
    follower: Option<(i32, Instant)>,
    /// The broker that a fetch of it is in flight to.
    in_flight: Option<i32>,
    /// Not fetched before.
    retry_at: Option<Instant>,
    /// Since when no fetch of it has succeeded.
    failing_since: Option<Instant>,
}

impl Partition {
    fn is_done(&self) -> bool {
        self.target.position >= self.target.until
    }

    fn source(&self, now: Instant) -> Option<i32> {
        let follower = self.follower.filter(|(_, until)| *until > now).map(|(broker, _)| broker);
        self.leader.map(|leader| follower.unwrap_or(leader))
    }
}

/// One fetch to one broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) broker: i32,
    pub(super) partitions: Vec<TargetId>,
}

/// Positions of all partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Positions {
    partitions: BTreeMap<TargetId, Partition>,
    next_id: TargetId,
    /// Where the next plan begins, so that no partition waits for ever behind others that fill each answer.
    turn: TargetId,
}

impl Positions {
    /// Takes up a partition.
    pub(super) fn add(&mut self, target: Target) -> TargetId {
        let partition = Partition {
            target,
            leader: None,
            leader_epoch: None,
            follower: None,
            in_flight: None,
            retry_at: None,
            failing_since: None,
        };
        self.next_id += 1;
        self.partitions.insert(self.next_id, partition);
        self.next_id
    }

    /// Lets go of partitions: what is still fetched of them is not wanted any more. Returns which they were.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&Target) -> bool) -> Vec<TargetId> {
        self.partitions.extract_if(.., |_, partition| unwanted(&partition.target)).map(|(id, _)| id).collect()
    }

    pub(super) fn target(&self, id: TargetId) -> Option<&Target> {
        self.partitions.get(&id).map(|partition| &partition.target)
    }

    pub(super) fn leader_epoch(&self, id: TargetId) -> Option<LeaderEpoch> {
        self.partitions.get(&id)?.leader_epoch
    }

    /// Whether all partitions are read up to their ends.
    pub(super) fn ended(&self) -> bool {
        self.partitions.values().all(Partition::is_done)
    }

    /// The one of `among` that is a partition of `topic`, or of the topic with this id where the name is empty.
    pub(super) fn find(&self, among: &[TargetId], topic: &str, id: Uuid, partition: i32) -> Option<TargetId> {
        among.iter().copied().find(|of| {
            self.target(*of).is_some_and(|t| {
                t.of.partition == partition && if topic.is_empty() { t.id == id } else { &*t.of.topic == topic }
            })
        })
    }

    /// Partitions without a known leader that may be looked up now.
    pub(super) fn leaderless(&self, now: Instant) -> Vec<TargetId> {
        let due = |p: &Partition| p.leader.is_none() && p.retry_at.is_none_or(|at| at <= now) && !p.is_done();
        self.partitions.iter().filter(|(_, p)| due(p)).map(|(id, _)| *id).collect()
    }

    /// The leader as metadata tells it; an older epoch than known is stale and ignored (KIP-320).
    pub(super) fn set_leader(&mut self, of: TargetId, id: Uuid, leader: Option<i32>, epoch: Option<LeaderEpoch>) {
        let Some(partition) = self.partitions.get_mut(&of) else { return };
        if epoch.is_none() || epoch >= partition.leader_epoch {
            if partition.leader.is_some() && partition.leader != leader {
                let (TopicPartition { topic, partition: number }, before) = (&partition.target.of, partition.leader);
                tracing::info!(topic = &**topic, partition = number, before, leader, "the leader changed");
            }
            partition.leader = leader;
            partition.leader_epoch = epoch;
            partition.target.id = id;
        }
    }

    /// The leader says that another replica is nearer.
    pub(super) fn follow(&mut self, id: TargetId, broker: i32, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.follower = Some((broker, now + FOLLOWER_FOR));
        }
    }

    /// One fetch for each broker that has none in flight and something to be fetched.
    pub(super) fn plan(&mut self, now: Instant) -> Vec<Plan> {
        let busy: Vec<i32> = self.partitions.values().filter_map(|p| p.in_flight).collect();
        let mut by_broker: BTreeMap<i32, Vec<TargetId>> = BTreeMap::new();
        let (before, after) = (self.partitions.range(..=self.turn), self.partitions.range(self.turn + 1..));
        for (id, partition) in after.chain(before) {
            let Some(broker) = partition.source(now) else { continue };
            if partition.retry_at.is_some_and(|at| at > now) || busy.contains(&broker) || partition.is_done() {
                continue;
            }
            by_broker.entry(broker).or_default().push(*id);
        }
        let next = self.partitions.range(self.turn + 1..).next().or_else(|| self.partitions.iter().next());
        self.turn = next.map_or(0, |(id, _)| *id);
        for (broker, ids) in &by_broker {
            for id in ids {
                if let Some(partition) = self.partitions.get_mut(id) {
                    partition.in_flight = Some(*broker);
                }
            }
        }
        by_broker.into_iter().map(|(broker, partitions)| Plan { broker, partitions }).collect()
    }

    /// The fetch is answered; what was got ends before `next`, when anything was.
    pub(super) fn fetched(&mut self, id: TargetId, next: Option<Position>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.in_flight = None;
        partition.retry_at = None;
        partition.failing_since = None;
        if let Some(next) = next {
            partition.target.position = next.offset.max(partition.target.position);
            partition.target.last_epoch = next.leader_epoch;
        }
    }

    /// Goes on elsewhere: what stood between was cut off, or deleted.
    pub(super) fn reset(&mut self, id: TargetId, position: Offset) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.in_flight = None;
        partition.target.position = position;
        partition.target.last_epoch = None;
    }

    /// The fetch failed in a way that another leader or another moment may mend. Returns for how long it has failed.
    pub(super) fn failed(&mut self, id: TargetId, now: Instant, wait: Duration) -> Duration {
        let Some(partition) = self.partitions.get_mut(&id) else { return Duration::ZERO };
        partition.in_flight = None;
        partition.leader = None;
        partition.follower = None;
        partition.retry_at = Some(now + wait);
        now.saturating_duration_since(*partition.failing_since.get_or_insert(now))
    }

    /// When a partition that waits may be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let waiting = self.partitions.values().filter(|p| p.in_flight.is_none() && !p.is_done());
        waiting.filter_map(|p| p.retry_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32, position: Offset, until: Offset) -> Target {
        Target { of: TopicPartition::new("t", partition), id: Uuid::nil(), position, until, last_epoch: None }
    }

    fn next(offset: Offset) -> Option<Position> {
        Some(Position { offset, leader_epoch: LeaderEpoch::from_wire(5) })
    }

    #[test]
    fn a_broker_gets_one_fetch_at_a_time_and_none_for_ended_partitions() {
        let now = Instant::now();
        let mut positions = Positions::default();
        let [a, _, c] = [target(0, 0, 9), target(1, 9, 9), target(2, 0, 9)].map(|target| positions.add(target));
        assert_eq!(positions.leaderless(now), [a, c]);
        positions.set_leader(a, Uuid::nil(), Some(1), LeaderEpoch::from_wire(5));
        positions.set_leader(c, Uuid::nil(), Some(2), LeaderEpoch::from_wire(5));
        let brokers = |plans: Vec<Plan>| plans.into_iter().map(|p| (p.broker, p.partitions)).collect::<Vec<_>>();
        assert_eq!(brokers(positions.plan(now)), [(1, vec![a]), (2, vec![c])]);
        assert_eq!(brokers(positions.plan(now)), []);
        positions.fetched(a, next(9));
        positions.fetched(c, next(4));
        assert_eq!(brokers(positions.plan(now)), [(2, vec![c])]);
        positions.fetched(c, next(9));
        assert!(positions.ended());
    }

    #[test]
    fn a_failed_partition_waits_then_looks_for_its_leader() {
        let now = Instant::now();
        let wait = Duration::from_millis(100);
        let mut positions = Positions::default();
        let id = positions.add(target(0, 0, 9));
        positions.set_leader(id, Uuid::nil(), Some(1), LeaderEpoch::from_wire(5));
        positions.plan(now);
        positions.failed(id, now, wait);
        assert!(positions.leaderless(now).is_empty());
        assert_eq!(positions.next_retry(), Some(now + wait));
        assert_eq!(positions.leaderless(now + wait), [id]);
        positions.set_leader(id, Uuid::nil(), Some(1), LeaderEpoch::from_wire(4));
        assert!(positions.plan(now + wait).is_empty(), "an older epoch is stale");
        positions.set_leader(id, Uuid::nil(), Some(2), LeaderEpoch::from_wire(6));
        assert_eq!(positions.plan(now + wait).len(), 1);
    }

    #[test]
    fn a_partition_let_go_is_forgotten_and_another_time_another() {
        let now = Instant::now();
        let mut positions = Positions::default();
        let first = positions.add(target(0, 0, 9));
        positions.set_leader(first, Uuid::nil(), Some(1), LeaderEpoch::from_wire(5));
        positions.plan(now);
        assert_eq!(positions.remove(|target| target.of.partition == 0), [first]);
        assert_eq!(positions.find(&[first], "t", Uuid::nil(), 0), None);
        let second = positions.add(target(0, 3, 9));
        assert_ne!(first, second);
        positions.fetched(first, next(7));
        assert_eq!(positions.target(second).map(|target| target.position), Some(3));
    }

    #[test]
    fn a_nearer_replica_is_read_until_it_fails() {
        let now = Instant::now();
        let mut positions = Positions::default();
        let id = positions.add(target(0, 0, 9));
        positions.set_leader(id, Uuid::nil(), Some(1), LeaderEpoch::from_wire(5));
        positions.follow(id, 3, now);
        assert_eq!(positions.plan(now)[0].broker, 3);
        positions.failed(id, now, Duration::ZERO);
        positions.set_leader(id, Uuid::nil(), Some(1), LeaderEpoch::from_wire(5));
        assert_eq!(positions.plan(now)[0].broker, 1);
    }
}
