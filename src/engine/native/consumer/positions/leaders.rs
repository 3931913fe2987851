//! What metadata says of partitions: their leaders, and whether their topic is still the same.

use super::{AssignmentId, Partition, Positions, Replica, Stage};
use crate::engine::Start;
use crate::record::{BrokerId, LeaderEpoch};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Without topic IDs, brokers that name an older epoch for so long describe another topic (before Kafka 2.8).
const OLDER_FOR: Duration = Duration::from_secs(10);
/// Brokers that name an older epoch than the committed offset has for so long describe another topic.
const BEHIND_FOR: Duration = Duration::from_secs(3);

/// Brokers that must agree at most; of few it is the majority.
const ENOUGH: usize = 4;

/// A partition's leader, as metadata has it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Leader {
    pub(in super::super) leader: BrokerId,
    /// Since Kafka 2.1.
    pub(in super::super) epoch: Option<LeaderEpoch>,
    /// Nil before Kafka 2.8.
    pub(in super::super) topic_id: Uuid,
}

/// Where metadata comes from.
#[derive(Debug, Clone)]
pub(in super::super) struct Source {
    /// The broker that answered; `None` of an address of the bootstrap list, which may be that of any.
    pub(in super::super) by: Option<BrokerId>,
    /// How many brokers it lists.
    pub(in super::super) brokers: usize,
    pub(in super::super) at: Instant,
}

/// Brokers that name an older epoch than is known.
#[derive(Debug)]
pub(super) struct Older {
    since: Instant,
    by: BTreeSet<BrokerId>,
}

/// What metadata changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum LeaderChange {
    Taken,
    /// The epoch is older than one that is known.
    Stale,
    /// The topic was deleted and created again: it begins again.
    Recreated,
}

impl Positions {
    /// Takes the leader that metadata names. An older epoch than known is stale and ignored (KIP-320), unless the topic
    /// is another one: that one begins at `restart`. Without topic IDs it is another one when brokers agree on an older
    /// epoch for so long, and none contradicts them.
    pub(in super::super) fn set_leader(
        &mut self,
        id: AssignmentId,
        named: Leader,
        source: &Source,
        restart: Start,
    ) -> LeaderChange {
        let Some(partition) = self.partitions.get_mut(&id) else { return LeaderChange::Stale };
        partition.missing_since = None;
        let Leader { leader, epoch, topic_id } = named;
        let known = partition.target.topic_id;
        let is_older = epoch.is_some() && epoch < partition.target.leader_epoch;
        let is_recreated = match (known.is_nil(), topic_id.is_nil()) {
            (false, false) => known != topic_id,
            (true, true) => is_older && partition.is_agreed(source, OLDER_FOR),
            _ => false,
        };
        let is_behind = epoch < partition.committed_epoch;
        if !is_older && !is_behind {
            partition.older = None;
        }
        if is_recreated {
            partition.restart(restart);
        } else if is_older {
            return LeaderChange::Stale;
        } else if is_behind {
            // A broker that no other contradicts, for there is none, is right at once.
            if !partition.is_agreed(source, if source.brokers < 2 { Duration::ZERO } else { BEHIND_FOR }) {
                return LeaderChange::Stale;
            }
            partition.target.is_recreated = true;
            partition.committed_epoch = None;
        }
        if partition.leader != Some(leader) {
            if let Some(before) = partition.leader {
                tracing::info!(partition = %partition.target.of, %before, %leader, "the leader changed");
            }
            // What the old leader still answers is not believed.
            partition.asking = None;
            if matches!(partition.replica, Replica::Follower(..)) {
                partition.replica = Replica::Leader;
            }
            partition.leader = Some(leader);
        }
        partition.target.leader_epoch = epoch;
        partition.target.topic_id = topic_id;
        if is_recreated { LeaderChange::Recreated } else { LeaderChange::Taken }
    }

    /// Metadata does not list the partition. Returns for how long it has not.
    pub(in super::super) fn missing(&mut self, id: AssignmentId, now: Instant) -> Duration {
        let Some(partition) = self.partitions.get_mut(&id) else { return Duration::ZERO };
        now.saturating_duration_since(*partition.missing_since.get_or_insert(now))
    }
}

impl Partition {
    /// The topic is another one from now on, which begins at `start`.
    pub(super) fn restart(&mut self, start: Start) {
        self.is_restarted |= self.is_announced;
        self.is_announced = false;
        self.stage = Stage::Begins(start);
        self.target.last_epoch = None;
        self.target.leader_epoch = None;
        self.target.is_recreated = false;
        self.asking = None;
        self.leader = None;
        self.older = None;
        self.committed_epoch = None;
    }

    /// Whether brokers have agreed on an older epoch than known for `long`, so that it must be another topic's: one that
    /// is cut off from the others, or some that are, do not count as long as others may know better.
    fn is_agreed(&mut self, source: &Source, long: Duration) -> bool {
        let older = self.older.get_or_insert_with(|| Older { since: source.at, by: BTreeSet::new() });
        older.by.extend(source.by);
        let is_majority = older.by.len() >= ENOUGH.min(source.brokers / 2 + 1);
        older.since + long <= source.at && (source.brokers < 2 || is_majority)
    }
}
