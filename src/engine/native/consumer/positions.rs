//! Where each partition's fetching stands: a state machine without sockets or a clock of its own.
//!
//! A partition is added with the offset to begin at still to be looked up, is announced once that is known, and is then
//! fetched. Every question to a broker has a [`RequestId`]; an answer counts only while its partition waits for that
//! request, so that what was asked of an old leader, an old topic or an earlier assignment changes nothing.

mod leaders;
mod plan;
#[cfg(test)]
mod tests;

use crate::engine::Start;
use crate::error::Error;
use crate::record::{BrokerId, LeaderEpoch, Offset, Position, TopicPartition};
use leaders::Older;
pub(super) use leaders::{Leader, LeaderChange, Source};
pub(super) use plan::{Plan, Question};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a follower is read from before the leader is asked again (KIP-392).
const FOLLOWER_FOR: Duration = Duration::from_secs(300);
/// How long the leader is read after a follower failed.
const LEADER_FOR: Duration = Duration::from_secs(60);
/// How long partitions that can be read wait for those that were added with them, so that they begin together.
const OPENING: Duration = Duration::from_secs(1);
/// A problem is reported once it has lasted this long.
const LASTING: Duration = Duration::from_secs(1);
/// How long records may wait for their transaction before that is reported.
const HELD_BACK: Duration = Duration::from_secs(3);

/// One assignment of a partition: the same partition, assigned again later, has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct AssignmentId(u64);

/// A question to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId(u64);

/// What a partition's fetches ask for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) of: TopicPartition,
    /// Nil when the broker has no topic IDs (before Kafka 2.8, KIP-516).
    pub(super) topic_id: Uuid,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    pub(super) position: Offset,
    /// [`Offset::MAX`] for no end.
    pub(super) until: Offset,
    /// Epoch of the leader that wrote the record before `position` (KIP-320).
    pub(super) last_epoch: Option<LeaderEpoch>,
    /// Brokers agree on an older epoch than the group's committed offset has: that one belongs to a topic that was deleted.
    pub(super) is_recreated: bool,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) position: Position,
    /// [`Offset::MAX`] for no end.
    pub(super) until: Offset,
    /// The group's committed offset, if it was asked for and there is one.
    pub(super) committed: Option<Offset>,
}

/// What was found out about where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Begin(Begin),
    /// The group's committed offset has this epoch, and the broker that was asked an older one: either it does not lead the
    /// partition any more, or the topic is another one.
    Behind(LeaderEpoch),
}

/// What is to be done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its first position is looked up.
    Begins(Start),
    /// Its leader is asked whether the position lies in the log.
    Checks,
    /// It is fetched.
    Reads,
}

/// Which replica is read instead of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replica {
    Leader,
    Follower(BrokerId, Instant),
    /// A follower lacked the position: only the leader is read until then.
    LeaderUntil(Instant),
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: Error,
    is_reported: bool,
}

#[derive(Debug)]
struct HeldBack {
    since: Instant,
    records: i64,
    is_reported: bool,
}

#[derive(Debug)]
struct Partition {
    target: Target,
    stage: Stage,
    /// Others that were added with it are waited for until then.
    opening_until: Instant,
    /// Whether the command knows where it begins; it is not fetched before.
    is_announced: bool,
    /// Whether it was read before its topic was created again.
    is_restarted: bool,
    leader: Option<BrokerId>,
    replica: Replica,
    /// The question on its way about it.
    asking: Option<RequestId>,
    /// Nothing is asked before.
    retry_at: Option<Instant>,
    attempts: u32,
    trouble: Option<Trouble>,
    /// Since when metadata does not list it.
    missing_since: Option<Instant>,
    older: Option<Older>,
    /// Epoch of the group's committed offset, while leaders of older ones are named.
    committed_epoch: Option<LeaderEpoch>,
    /// Records that wait for the end of a transaction.
    held_back: Option<HeldBack>,
    /// Whether its log was truncated, perhaps below the end that it is read up to.
    is_end_lost: bool,
    /// Whether its last answer had records.
    had_records: bool,
    /// When it last had its turn, counted in answers.
    served: u64,
}

impl Partition {
    fn is_done(&self) -> bool {
        self.stage == Stage::Reads && self.is_announced && self.target.position >= self.target.until
    }

    fn is_due(&self, now: Instant) -> bool {
        self.asking.is_none() && self.retry_at.is_none_or(|at| at <= now) && !self.is_done()
    }

    fn is_opening(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Begins(_)) && self.attempts == 0 && now < self.opening_until
    }

    fn source(&self, now: Instant) -> Option<BrokerId> {
        match self.replica {
            Replica::Follower(broker, until) if until > now => self.leader.map(|_| broker),
            _ => self.leader,
        }
    }
}

/// Whether anything is asked of a broker, and when it may be asked again.
#[derive(Debug, Default)]
struct Broker {
    fetch: Option<RequestId>,
    rests_until: Option<Instant>,
    /// Answers in a row that came at once and brought nothing.
    fruitless: u32,
}

/// Positions of all partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Positions {
    partitions: BTreeMap<AssignmentId, Partition>,
    brokers: BTreeMap<BrokerId, Broker>,
    next_id: u64,
    next_request: u64,
    answers: u64,
}

impl Positions {
    /// Adds a partition that is to begin at `start`.
    pub(super) fn add(&mut self, of: TopicPartition, start: Start, now: Instant) -> AssignmentId {
        let target = Target {
            of,
            topic_id: Uuid::nil(),
            leader_epoch: None,
            position: 0,
            until: Offset::MAX,
            last_epoch: None,
            is_recreated: false,
        };
        let partition = Partition {
            target,
            stage: Stage::Begins(start),
            opening_until: now + OPENING,
            is_announced: false,
            is_restarted: false,
            leader: None,
            replica: Replica::Leader,
            asking: None,
            retry_at: None,
            attempts: 0,
            trouble: None,
            missing_since: None,
            older: None,
            committed_epoch: None,
            held_back: None,
            is_end_lost: false,
            had_records: true,
            served: 0,
        };
        self.next_id += 1;
        self.partitions.insert(AssignmentId(self.next_id), partition);
        AssignmentId(self.next_id)
    }

    /// Removes partitions: answers about them change nothing any more.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&TopicPartition) -> bool) -> Vec<AssignmentId> {
        self.partitions.extract_if(.., |_, partition| unwanted(&partition.target.of)).map(|(id, _)| id).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<AssignmentId> {
        self.partitions.keys().copied().collect()
    }

    pub(super) fn target(&self, id: AssignmentId) -> Option<&Target> {
        self.partitions.get(&id).map(|partition| &partition.target)
    }

    pub(super) fn attempts(&self, id: AssignmentId) -> u32 {
        self.partitions.get(&id).map_or(0, |partition| partition.attempts)
    }

    /// The partition, while it waits for the answer to `request`.
    pub(super) fn awaiting(&self, id: AssignmentId, request: RequestId) -> Option<&Target> {
        self.partitions.get(&id).filter(|partition| partition.asking == Some(request)).map(|p| &p.target)
    }

    /// Whether all partitions are read up to their ends.
    pub(super) fn ended(&self) -> bool {
        self.partitions.values().all(Partition::is_done)
    }

    /// Whether a partition cannot be read at the moment: it has not begun, or its last request failed.
    pub(super) fn is_impaired(&self) -> bool {
        self.partitions.values().any(|partition| !partition.is_announced || partition.trouble.is_some())
    }

    /// How many brokers partitions are read from.
    pub(super) fn sources(&self, now: Instant) -> usize {
        self.partitions.values().filter_map(|partition| partition.source(now)).collect::<BTreeSet<_>>().len()
    }

    /// Whether a partition without a known leader is to be looked up now.
    pub(super) fn needs_leaders(&self, now: Instant) -> bool {
        self.partitions.values().any(|p| p.leader.is_none() && p.is_due(now))
    }

    /// Whether the partition has no known leader.
    pub(super) fn is_leaderless(&self, id: AssignmentId) -> bool {
        self.partitions.get(&id).is_some_and(|partition| partition.leader.is_none())
    }

    /// The partition begins there; it is fetched once it is announced.
    pub(super) fn begin(&mut self, id: AssignmentId, begin: Begin) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.target.position = begin.position.offset;
        partition.target.last_epoch = begin.position.leader_epoch;
        partition.target.until = begin.until;
        partition.committed_epoch = None;
        partition.stage = Stage::Reads;
        partition.succeed();
    }

    /// The leader that was asked is older than the committed offset: one that is not is looked for.
    pub(super) fn behind(&mut self, id: AssignmentId, committed: LeaderEpoch) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.committed_epoch = Some(committed);
        }
    }

    /// Partitions that begin now, once all that were added with them were tried; and whether each was read before.
    pub(super) fn announce(&mut self, now: Instant) -> Vec<(AssignmentId, bool)> {
        if self.partitions.values().any(|partition| partition.is_opening(now)) {
            return Vec::new();
        }
        let new = self.partitions.iter_mut().filter(|(_, p)| p.stage == Stage::Reads && !p.is_announced);
        let announce = |(id, partition): (&AssignmentId, &mut Partition)| {
            partition.is_announced = true;
            (*id, std::mem::take(&mut partition.is_restarted))
        };
        new.map(announce).collect()
    }

    /// The leader names a replica that is nearer.
    pub(super) fn follow(&mut self, id: AssignmentId, broker: BrokerId, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.replica = Replica::Follower(broker, now + FOLLOWER_FOR);
        }
    }

    /// A follower lacks the position: the leader is asked, and read for a while. False when it was the leader.
    pub(super) fn back_to_leader(&mut self, id: AssignmentId, now: Instant) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let is_follower = matches!(partition.replica, Replica::Follower(..));
        if is_follower {
            partition.asking = None;
            partition.replica = Replica::LeaderUntil(now + FOLLOWER_FOR);
        }
        is_follower
    }

    /// The leader is to be asked whether the position lies in the log.
    pub(super) fn check(&mut self, id: AssignmentId) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            (partition.stage, partition.asking) = (Stage::Checks, None);
        }
    }

    /// The position lies in the log after all: it is fetched again.
    pub(super) fn checked(&mut self, id: AssignmentId) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            (partition.stage, partition.asking) = (Stage::Reads, None);
        }
    }

    /// The fetch is answered; what it brought ends before `next`. Returns how long a reported problem lasted that ends
    /// with this.
    pub(super) fn fetched(&mut self, id: AssignmentId, next: Option<Position>, now: Instant) -> Option<Duration> {
        self.answers += 1;
        let partition = self.partitions.get_mut(&id)?;
        partition.had_records = next.is_some();
        if let Some(next) = next {
            partition.target.position = next.offset.max(partition.target.position);
            partition.target.last_epoch = next.leader_epoch;
            partition.served = self.answers;
        }
        let trouble = partition.trouble.take().filter(|trouble| trouble.is_reported);
        partition.succeed();
        trouble.map(|trouble| now.saturating_duration_since(trouble.since))
    }

    /// So many records at the position wait for the end of a transaction.
    pub(super) fn hold_back(&mut self, id: AssignmentId, records: i64, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        match &mut partition.held_back {
            _ if records <= 0 => partition.held_back = None,
            Some(held_back) => held_back.records = records,
            none => *none = Some(HeldBack { since: now, records, is_reported: false }),
        }
    }

    /// The topic seems to be another one, which begins at `start`.
    pub(super) fn restart(&mut self, id: AssignmentId, start: Start) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.restart(start);
        }
    }

    /// The log lost what stands from `left` on. The end to be read up to may be lost too: then the leader is asked.
    pub(super) fn truncated(&mut self, id: AssignmentId, left: Position) {
        self.reset(id, left);
        if let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.target.until != Offset::MAX) {
            partition.stage = Stage::Checks;
            partition.is_end_lost = true;
        }
    }

    /// After a truncation the log goes on to `reachable`: the partition ends there at the latest. False if there was none.
    pub(super) fn shorten(&mut self, id: AssignmentId, reachable: Offset) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let is_lost = std::mem::take(&mut partition.is_end_lost);
        if is_lost {
            let target = &mut partition.target;
            target.until = target.until.min(reachable.max(target.position));
            (partition.stage, partition.asking) = (Stage::Reads, None);
        }
        is_lost
    }

    /// Continues elsewhere: what stood between was truncated or deleted.
    pub(super) fn reset(&mut self, id: AssignmentId, position: Position) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        (partition.stage, partition.asking) = (Stage::Reads, None);
        partition.target.position = position.offset;
        partition.target.last_epoch = position.leader_epoch;
    }

    /// What was asked failed in a way that another leader or another moment may mend: the leader is looked up after
    /// `wait`.
    pub(super) fn failed(&mut self, id: AssignmentId, error: Error, now: Instant, wait: Duration) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.asking = None;
        partition.leader = None;
        // The leader would name it again, and it may be out of reach for this client alone.
        if matches!(partition.replica, Replica::Follower(..)) {
            partition.replica = Replica::LeaderUntil(now + LEADER_FOR);
        }
        partition.retry_at = Some(now + wait);
        partition.attempts += 1;
        match &mut partition.trouble {
            Some(trouble) => trouble.last = error,
            none => *none = Some(Trouble { since: now, last: error, is_reported: false }),
        }
    }

    /// Problems that have begun to last and were not reported.
    pub(super) fn lasting_troubles(&mut self, now: Instant) -> Vec<(TopicPartition, Error)> {
        let mut lasting = Vec::new();
        // Of a topic that may have been deleted there is a report when that is known.
        for partition in self.partitions.values_mut().filter(|partition| partition.missing_since.is_none()) {
            if let Some(trouble) = partition.trouble.as_mut().filter(|t| !t.is_reported && t.since + LASTING <= now) {
                trouble.is_reported = true;
                lasting.push((partition.target.of.clone(), trouble.last.clone()));
            }
        }
        lasting
    }

    /// Partitions whose records wait for a transaction long enough to be reported, and how many of each.
    pub(super) fn held_back(&mut self, now: Instant) -> Vec<(TopicPartition, i64)> {
        let lasts = |p: &Partition| p.held_back.as_ref().is_some_and(|h| !h.is_reported && h.since + HELD_BACK <= now);
        if !self.partitions.values().any(lasts) {
            return Vec::new();
        }
        let mut all = Vec::new();
        for partition in self.partitions.values_mut() {
            if let Some(held_back) = partition.held_back.as_mut().filter(|held_back| !held_back.is_reported) {
                held_back.is_reported = true;
                all.push((partition.target.of.clone(), held_back.records));
            }
        }
        all
    }

    /// What cannot be read, once everything else is read to its end: partitions that have failed for longer than
    /// `limit` allows, which is told whether a partition has begun.
    pub(super) fn unreadable(
        &self,
        now: Instant,
        limit: impl Fn(bool) -> Duration,
    ) -> Option<Vec<(TopicPartition, Error)>> {
        let mut failed = Vec::new();
        for partition in self.partitions.values().filter(|partition| !partition.is_done()) {
            let has_begun = !matches!(partition.stage, Stage::Begins(_));
            let trouble = partition.trouble.as_ref().filter(|trouble| trouble.since + limit(has_begun) <= now)?;
            failed.push((partition.target.of.clone(), trouble.last.clone()));
        }
        if failed.is_empty() { None } else { Some(failed) }
    }

    /// The next moment at which something can be done that cannot be done now. What is due already waits for an event.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let of_partition = |p: &Partition| {
            let retry = p.retry_at.filter(|_| p.asking.is_none() && !p.is_done());
            let opening = Some(p.opening_until).filter(|_| p.is_opening(now));
            let trouble =
                p.trouble.as_ref().filter(|t| !t.is_reported && p.missing_since.is_none()).map(|t| t.since + LASTING);
            let held_back = p.held_back.as_ref().filter(|h| !h.is_reported).map(|h| h.since + HELD_BACK);
            [retry, opening, trouble, held_back]
        };
        let partitions = self.partitions.values().flat_map(of_partition).flatten();
        let brokers = self.brokers.values().filter_map(|broker| broker.rests_until);
        partitions.chain(brokers).filter(|at| *at > now).min()
    }
}

impl Partition {
    fn succeed(&mut self) {
        self.asking = None;
        self.retry_at = None;
        self.attempts = 0;
        self.trouble = None;
    }
}
