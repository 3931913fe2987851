//! The classic protocol: members join, a leader assigns, all sync; a change begins it again
//! (<https://kafka.apache.org/protocol#The_Messages_JoinGroup>, KIP-62, KIP-345, KIP-394, KIP-429).

use super::membership::{
    Content, Effect, Event, HeartbeatAnswer, Joined, MemberConfig, Membership, Pace, PartitionCounts, Role,
    is_coordinators,
};
use crate::error::Error;
use crate::record::TopicPartition;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is nothing to subscribe to yet, or the command stalls.
    Out,
    /// The command releases partitions; then the member joins.
    Releasing,
    /// To join, not before then.
    Waiting(Instant),
    Joining,
    /// The leader looks up partition counts.
    Counting,
    /// It computes the assignment.
    Assigning,
    Syncing,
    Stable,
    Left,
}

/// A member.
#[derive(Debug)]
pub(super) struct Classic {
    config: MemberConfig,
    phase: Phase,
    member_id: String,
    generation: i32,
    /// How the generation assigns; `None` before the first.
    assignor: Option<crate::engine::Assignor>,
    leads: bool,
    topics: PartitionCounts,
    owned: BTreeSet<TopicPartition>,
    /// All members, while their topics are counted.
    members: Vec<super::assignors::Subscriber>,
    heartbeat_at: Instant,
    is_heartbeat_sent: bool,
    /// When the coordinator last accepted this member.
    heard_at: Instant,
    /// The topics have changed since the last join.
    has_changed: bool,
    /// Of joins, since the last heartbeat that was accepted.
    pace: Pace,
    heartbeat_pace: Pace,
}

impl Classic {
    pub(super) fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            phase: Phase::Out,
            member_id: String::new(),
            generation: -1,
            assignor: None,
            leads: false,
            topics: PartitionCounts::new(),
            owned: BTreeSet::new(),
            members: Vec::new(),
            heartbeat_at: now,
            is_heartbeat_sent: false,
            heard_at: now,
            has_changed: false,
            pace: Pace::new(config.retry),
            heartbeat_pace: Pace::new(config.retry),
            config,
        }
    }

    fn broken(&self, why: String) -> Error {
        Error::Group { group: self.config.group.clone(), why }
    }

    /// Joins, after releasing everything where the assignor is an eager one.
    fn rejoin(&mut self, now: Instant) -> Vec<Effect> {
        if !self.owned.is_empty() && self.assignor.is_some_and(|assignor| !assignor.is_cooperative()) {
            self.phase = Phase::Releasing;
            return vec![Effect::Revoke(std::mem::take(&mut self.owned))];
        }
        self.join(now)
    }

    /// Joins at once, or in a moment where this repeats itself.
    fn join(&mut self, now: Instant) -> Vec<Effect> {
        let wait = self.pace.repeat();
        if wait.is_zero() {
            return self.send_join();
        }
        self.phase = Phase::Waiting(now + wait);
        Vec::new()
    }

    fn send_join(&mut self) -> Vec<Effect> {
        self.phase = Phase::Joining;
        self.has_changed = false;
        vec![Effect::Join]
    }

    fn lose(&mut self, error: Error) -> Option<Effect> {
        (!self.owned.is_empty()).then(|| Effect::Lose(std::mem::take(&mut self.owned), error))
    }

    /// The coordinator does not know this member any more: its partitions may be others' by now.
    fn lost(&mut self, error: Error, now: Instant) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.lose(error.clone()).into_iter().collect();
        effects.extend(self.join(now));
        self.report_wait(error, effects)
    }

    /// Adds that the last answer makes the member wait, if it does.
    fn report_wait(&self, error: Error, mut effects: Vec<Effect>) -> Vec<Effect> {
        if matches!(self.phase, Phase::Waiting(_)) {
            effects.push(Effect::Retry(error));
        }
        effects
    }

    /// Whether the coordinator is told that the member lives. While it waits for an answer to JoinGroup or SyncGroup, the
    /// coordinator does not ask for that.
    fn has_heartbeats(&self) -> bool {
        matches!(self.phase, Phase::Stable | Phase::Releasing | Phase::Counting | Phase::Assigning)
    }

    /// Whether the coordinator has been out of reach for so long that the partitions are given up.
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) > self.config.max_poll_interval
    }

    /// Joins again in a moment, perhaps at another broker.
    fn join_later(&mut self, error: Error, now: Instant) -> Vec<Effect> {
        self.phase = Phase::Waiting(now + self.pace.backoff());
        let mut effects = vec![Effect::ForgetCoordinator, Effect::Retry(error.clone())];
        if self.is_forgotten(now) {
            effects.extend(self.lose(error));
        }
        effects
    }

    /// An answer that is an error.
    fn refused(&mut self, error: Error, now: Instant) -> Vec<Effect> {
        match error.code() {
            Some(E::UnknownMemberId) => {
                self.member_id.clear();
                self.generation = -1;
                self.lost(error, now)
            }
            Some(E::IllegalGeneration) => {
                self.generation = -1;
                self.lost(error, now)
            }
            Some(E::RebalanceInProgress) => {
                let effects = self.rejoin(now);
                self.report_wait(error, effects)
            }
            _ if is_coordinators(&error) => self.join_later(error, now),
            _ => {
                self.phase = Phase::Left;
                vec![Effect::Fail(error)]
            }
        }
    }

    fn member_id_given(&mut self, id: String, now: Instant) -> Vec<Effect> {
        let is_expected = self.member_id.is_empty() && !id.is_empty();
        self.member_id = id;
        if is_expected { self.send_join() } else { self.join(now) }
    }

    fn joined(&mut self, joined: Joined, now: Instant) -> Vec<Effect> {
        self.heard_at = now;
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        self.assignor = Some(joined.assignor);
        self.leads = !matches!(joined.role, Role::Follower);
        if let Role::Leader(members) = joined.role {
            let topics = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
            self.members = members;
            self.phase = Phase::Counting;
            self.heartbeat_at = now + self.config.heartbeat_interval;
            return vec![Effect::CountPartitions(topics)];
        }
        // What is assigned to nobody is assigned when all join again.
        self.has_changed |= matches!(joined.role, Role::ReturnedLeader { is_complete: false });
        self.phase = Phase::Syncing;
        vec![Effect::Sync(Vec::new())]
    }

    /// The leader assigns.
    fn counted(&mut self, counts: PartitionCounts) -> Vec<Effect> {
        let members = std::mem::take(&mut self.members);
        let Some(assignor) = self.assignor else { return Vec::new() };
        for (topic, known) in &mut self.topics {
            // A topic that is missing here is assigned to nobody: when it is found again, all are to join again.
            *known = counts.get(topic).copied().unwrap_or_default();
        }
        self.phase = Phase::Assigning;
        vec![Effect::ComputeAssignment { assignor, members, counts }]
    }

    fn computed(&mut self, assignments: Result<Vec<(String, Bytes)>, String>) -> Vec<Effect> {
        self.phase = Phase::Syncing;
        match assignments {
            Ok(assignments) => vec![Effect::Sync(assignments)],
            Err(why) => {
                self.phase = Phase::Left;
                vec![Effect::Fail(self.broken(format!("an assignment cannot be encoded: {why}")))]
            }
        }
    }

    fn synced(&mut self, assigned: BTreeSet<TopicPartition>, now: Instant) -> Vec<Effect> {
        self.heard_at = now;
        self.phase = Phase::Stable;
        self.heartbeat_at = now + self.config.heartbeat_interval;
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&assigned).cloned().collect();
        let new: BTreeSet<TopicPartition> = assigned.difference(&self.owned).cloned().collect();
        self.owned = assigned;
        let mut effects = vec![Effect::Assign(new)];
        if gone.is_empty() {
            if self.has_changed {
                effects.extend(self.rejoin(now));
            }
            return effects;
        }
        if self.assignor.is_some_and(|assignor| assignor.is_cooperative()) {
            // Others get these when all join once more (KIP-429).
            self.phase = Phase::Releasing;
            effects.push(Effect::Revoke(gone));
        } else {
            let why = "the group switched to eager rebalancing";
            effects.push(Effect::Lose(gone, self.broken(why.to_owned())));
        }
        effects
    }

    fn topics_changed(&mut self, topics: PartitionCounts, now: Instant) -> Vec<Effect> {
        if topics == self.topics {
            return Vec::new();
        }
        let is_subscription_changed = !topics.keys().eq(self.topics.keys());
        // Partition counts are for the leader to follow.
        let matters = is_subscription_changed || self.leads;
        let is_first = self.phase == Phase::Out && self.topics.is_empty();
        self.topics = topics;
        match self.phase {
            Phase::Out if is_first => self.join(now),
            Phase::Stable if matters => self.rejoin(now),
            _ => {
                self.has_changed |= matters;
                Vec::new()
            }
        }
    }

    fn heartbeat_answered(&mut self, answer: Result<HeartbeatAnswer, Error>, now: Instant) -> Vec<Effect> {
        self.is_heartbeat_sent = false;
        let error = match answer {
            Ok(_) => {
                self.heard_at = now;
                self.heartbeat_pace.reset();
                if self.phase == Phase::Stable {
                    self.pace.reset();
                }
                return Vec::new();
            }
            Err(error) => error,
        };
        match (self.phase, error.code()) {
            (Phase::Stable | Phase::Releasing, _) if is_coordinators(&error) => {
                self.heartbeat_at = now + self.heartbeat_pace.backoff();
                let mut effects = vec![Effect::ForgetCoordinator, Effect::Retry(error.clone())];
                if self.phase == Phase::Stable && self.is_forgotten(now) {
                    effects.extend(self.lost(error, now));
                }
                effects
            }
            // All are to join again, which this one is about to do.
            (Phase::Releasing, Some(E::RebalanceInProgress)) => Vec::new(),
            (Phase::Stable | Phase::Releasing, _) => self.refused(error, now),
            // To a heartbeat of the generation before; or of one that is being assigned, where SyncGroup hears it too.
            _ => Vec::new(),
        }
    }

    fn leave(&mut self) -> Vec<Effect> {
        self.phase = Phase::Left;
        // A static member returns to its partitions, and does not say that it leaves (KIP-345).
        let says_so = !self.member_id.is_empty() && self.config.instance_id.is_none();
        let leave = says_so.then(|| Effect::Leave(self.member_id.clone()));
        leave.into_iter().chain([Effect::Left]).collect()
    }

    fn stalled(&mut self) -> Vec<Effect> {
        self.phase = Phase::Out;
        self.is_heartbeat_sent = false;
        let lost = std::mem::take(&mut self.owned);
        let member_id = std::mem::take(&mut self.member_id);
        self.generation = -1;
        let leave = (!member_id.is_empty()).then(|| Effect::Leave(member_id));
        let lose = Effect::Lose(lost, Error::Stalled(self.config.max_poll_interval));
        leave.into_iter().chain([lose]).collect()
    }
}

impl Membership for Classic {
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match (event, self.phase) {
            (Event::Leave, Phase::Left) => vec![Effect::Left],
            (_, Phase::Left) => Vec::new(),
            (Event::Leave, _) => self.leave(),
            (Event::Topics(topics), _) => self.topics_changed(topics, now),
            (Event::Joined(Ok(joined)), Phase::Joining) => self.joined(joined, now),
            (Event::MemberIdGiven(id), Phase::Joining) => self.member_id_given(id, now),
            (Event::Joined(Err(error)), Phase::Joining) => match error.code() {
                Some(E::RebalanceInProgress) => self.join_later(error, now),
                _ => self.refused(error, now),
            },
            (Event::Counted(Ok(counts)), Phase::Counting) => self.counted(counts),
            (Event::Counted(Err(error)), Phase::Counting) => self.refused(error, now),
            (Event::AssignmentComputed(assignments), Phase::Assigning) => self.computed(assignments),
            (Event::Synced(Ok(assigned)), Phase::Syncing) => self.synced(assigned, now),
            (Event::Synced(Err(error)), Phase::Syncing) => self.refused(error, now),
            (Event::Heartbeat(answer), _) => self.heartbeat_answered(answer, now),
            (Event::Released, Phase::Releasing) => self.join(now),
            (Event::Stalled, Phase::Out) => Vec::new(),
            (Event::Stalled, _) => self.stalled(),
            (Event::Resumed, Phase::Out) if !self.topics.is_empty() => self.join(now),
            (Event::Due, Phase::Waiting(until)) if until <= now => self.send_join(),
            (Event::Due, _) if self.has_heartbeats() && self.heartbeat_at <= now && !self.is_heartbeat_sent => {
                self.is_heartbeat_sent = true;
                self.heartbeat_at = now + self.config.heartbeat_interval;
                vec![Effect::Heartbeat(Content::Alive)]
            }
            _ => Vec::new(), // an answer to something given up meanwhile
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            _ if self.has_heartbeats() && !self.is_heartbeat_sent => Some(self.heartbeat_at),
            _ => None,
        }
    }

    fn identity(&self) -> (String, i32) {
        (self.member_id.clone(), self.generation)
    }

    fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    fn subscribed(&self) -> BTreeSet<Arc<str>> {
        self.topics.keys().cloned().collect()
    }
}
