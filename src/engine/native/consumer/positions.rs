//! Where each partition's fetching stands: a state machine without sockets or a clock of its own.

use crate::record::{Offset, PartitionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A partition to be read, from `position` up to `until`.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) topic: Arc<str>,
    /// Nil when the broker has no topic ids.
    pub(super) id: Uuid,
    pub(super) partition: PartitionId,
    pub(super) position: Offset,
    /// [`Offset::MAX`] for no end.
    pub(super) until: Offset,
}

#[derive(Debug)]
struct Partition {
    target: Target,
    leader: Option<i32>,
    leader_epoch: i32,
    in_flight: bool,
    /// Not fetched before.
    retry_at: Option<Instant>,
    /// Since when no fetch of it has succeeded.
    failing_since: Option<Instant>,
}

/// One fetch to one broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) broker: i32,
    /// Indexes of partitions.
    pub(super) partitions: Vec<usize>,
}

/// Positions of all partitions that are read.
#[derive(Debug)]
pub(super) struct Positions {
    partitions: Vec<Partition>,
    /// Where the next plan begins, so that no partition waits for ever behind others that fill each answer.
    turn: usize,
}

impl Positions {
    pub(super) fn new(targets: Vec<Target>) -> Self {
        let partition = |target| Partition {
            target,
            leader: None,
            leader_epoch: -1,
            in_flight: false,
            retry_at: None,
            failing_since: None,
        };
        Self { partitions: targets.into_iter().map(partition).collect(), turn: 0 }
    }

    pub(super) fn target(&self, index: usize) -> &Target {
        &self.partitions[index].target
    }

    pub(super) fn leader_epoch(&self, index: usize) -> i32 {
        self.partitions[index].leader_epoch
    }

    /// Whether all partitions are read up to their ends.
    pub(super) fn ended(&self) -> bool {
        self.partitions.iter().all(|p| p.target.position >= p.target.until)
    }

    /// The index of a partition of `topic`.
    pub(super) fn find(&self, topic: &str, id: Uuid, partition: PartitionId) -> Option<usize> {
        self.partitions.iter().position(|p| {
            p.target.partition == partition
                && if topic.is_empty() { p.target.id == id } else { &*p.target.topic == topic }
        })
    }

    /// Partitions without a known leader that may be looked up now.
    pub(super) fn leaderless(&self, now: Instant) -> Vec<usize> {
        let due = |p: &Partition| p.leader.is_none() && p.retry_at.is_none_or(|at| at <= now);
        (0..self.partitions.len()).filter(|&i| due(&self.partitions[i]) && !self.is_done(i)).collect()
    }

    /// The leader as metadata tells it; an older epoch than known is stale and ignored (KIP-320).
    pub(super) fn set_leader(&mut self, index: usize, id: Uuid, leader: Option<i32>, epoch: i32) {
        let partition = &mut self.partitions[index];
        if epoch < 0 || epoch >= partition.leader_epoch {
            partition.leader = leader;
            partition.leader_epoch = epoch;
            partition.target.id = id;
        }
    }

    fn is_done(&self, index: usize) -> bool {
        let target = &self.partitions[index].target;
        target.position >= target.until
    }

    /// One fetch for each broker that has none in flight and something to be fetched.
    pub(super) fn plan(&mut self, now: Instant) -> Vec<Plan> {
        let busy: Vec<i32> = self.partitions.iter().filter(|p| p.in_flight).filter_map(|p| p.leader).collect();
        let mut by_broker: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        let count = self.partitions.len();
        for index in (0..count).map(|n| (self.turn + n) % count) {
            let partition = &self.partitions[index];
            let Some(leader) = partition.leader else { continue };
            if partition.retry_at.is_some_and(|at| at > now) || busy.contains(&leader) || self.is_done(index) {
                continue;
            }
            by_broker.entry(leader).or_default().push(index);
        }
        self.turn = (self.turn + 1) % count.max(1);
        for &index in by_broker.values().flatten() {
            self.partitions[index].in_flight = true;
        }
        by_broker.into_iter().map(|(broker, partitions)| Plan { broker, partitions }).collect()
    }

    /// The fetch is answered; what was got ends before `next`, when anything was.
    pub(super) fn fetched(&mut self, index: usize, next: Option<Offset>) {
        let partition = &mut self.partitions[index];
        partition.in_flight = false;
        partition.retry_at = None;
        partition.failing_since = None;
        if let Some(next) = next {
            partition.target.position = next.max(partition.target.position);
        }
    }

    /// The fetch failed in a way that another leader or another moment may mend. Returns for how long it has failed.
    pub(super) fn failed(&mut self, index: usize, now: Instant, wait: Duration) -> Duration {
        let partition = &mut self.partitions[index];
        partition.in_flight = false;
        partition.leader = None;
        partition.retry_at = Some(now + wait);
        now.saturating_duration_since(*partition.failing_since.get_or_insert(now))
    }

    /// When a partition that waits may be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let waiting = self.partitions.iter().enumerate().filter(|&(i, p)| !p.in_flight && !self.is_done(i));
        waiting.filter_map(|(_, p)| p.retry_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: PartitionId, position: Offset, until: Offset) -> Target {
        Target { topic: "t".into(), id: Uuid::nil(), partition, position, until }
    }

    #[test]
    fn a_broker_gets_one_fetch_at_a_time_and_none_for_ended_partitions() {
        let now = Instant::now();
        let mut positions = Positions::new(vec![target(0, 0, 9), target(1, 9, 9), target(2, 0, 9)]);
        assert_eq!(positions.leaderless(now), [0, 2]);
        positions.set_leader(0, Uuid::nil(), Some(1), 5);
        positions.set_leader(2, Uuid::nil(), Some(2), 5);
        let brokers = |plans: Vec<Plan>| plans.into_iter().map(|p| (p.broker, p.partitions)).collect::<Vec<_>>();
        assert_eq!(brokers(positions.plan(now)), [(1, vec![0]), (2, vec![2])]);
        assert_eq!(brokers(positions.plan(now)), []);
        positions.fetched(0, Some(9));
        positions.fetched(2, Some(4));
        assert_eq!(brokers(positions.plan(now)), [(2, vec![2])]);
        positions.fetched(2, Some(9));
        assert!(positions.ended());
    }

    #[test]
    fn a_failed_partition_waits_then_looks_for_its_leader() {
        let now = Instant::now();
        let wait = Duration::from_millis(100);
        let mut positions = Positions::new(vec![target(0, 0, 9)]);
        positions.set_leader(0, Uuid::nil(), Some(1), 5);
        positions.plan(now);
        positions.failed(0, now, wait);
        assert!(positions.leaderless(now).is_empty());
        assert_eq!(positions.next_retry(), Some(now + wait));
        assert_eq!(positions.leaderless(now + wait), [0]);
        positions.set_leader(0, Uuid::nil(), Some(1), 4);
        assert!(positions.plan(now + wait).is_empty(), "an older epoch is stale");
        positions.set_leader(0, Uuid::nil(), Some(2), 6);
        assert_eq!(positions.plan(now + wait).len(), 1);
    }
}
