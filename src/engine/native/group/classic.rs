//! The classic protocol: members join, a leader shares out, all sync; a change begins it anew
//! (<https://kafka.apache.org/protocol#The_Messages_JoinGroup>, KIP-62, KIP-345, KIP-394, KIP-429).

use super::membership::{Action, Beat, Counts, Event, Joined, MemberConfig, Membership, is_coordinators};
use super::messages;
use crate::error::Error;
use crate::record::TopicPartition;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is wanted yet, or the command stalls.
    Out,
    /// The command lets go of partitions; then the member joins.
    Releasing,
    /// To join, not before then.
    Waiting(Instant),
    Joining,
    /// The leader learns of topics.
    Counting,
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
    /// How the generation shares out; `None` before the first.
    assignor: Option<super::Assignor>,
    leads: bool,
    wanted: Counts,
    owned: BTreeSet<TopicPartition>,
    /// Everybody, while their topics are counted.
    members: Vec<super::assignors::Subscriber>,
    beat_at: Instant,
    beating: bool,
    /// When the coordinator last took this for a member.
    heard_at: Instant,
    /// What is wanted has changed meanwhile.
    changed: bool,
}

impl Classic {
    pub(super) fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            config,
            phase: Phase::Out,
            member_id: String::new(),
            generation: -1,
            assignor: None,
            leads: false,
            wanted: Counts::new(),
            owned: BTreeSet::new(),
            members: Vec::new(),
            beat_at: now,
            beating: false,
            heard_at: now,
            changed: false,
        }
    }

    fn broken(&self, why: String) -> Error {
        Error::Group { group: self.config.group.clone(), why }
    }

    /// Joins, after letting go of all where the assignor wants that.
    fn rejoin(&mut self) -> Vec<Action> {
        if !self.owned.is_empty() && self.assignor.is_some_and(|assignor| !assignor.is_cooperative()) {
            self.phase = Phase::Releasing;
            return vec![Action::Revoke(std::mem::take(&mut self.owned))];
        }
        self.join()
    }

    fn join(&mut self) -> Vec<Action> {
        self.phase = Phase::Joining;
        self.changed = false;
        vec![Action::Join]
    }

    /// The coordinator does not know this member any more: what it had others may have by now.
    fn lost(&mut self, error: Error) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.owned.is_empty() {
            actions.push(Action::Lose(std::mem::take(&mut self.owned), error));
        }
        actions.extend(self.join());
        actions
    }

    /// Tries to join again in a moment, perhaps at another broker.
    fn later(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Waiting(now + self.config.retry);
        vec![Action::Forget]
    }

    /// An answer that is none of the good ones.
    fn refused(&mut self, error: Error, now: Instant) -> Vec<Action> {
        match error.code() {
            Some(E::UnknownMemberId) => {
                self.member_id.clear();
                self.generation = -1;
                self.lost(error)
            }
            Some(E::IllegalGeneration) => {
                self.generation = -1;
                self.lost(error)
            }
            Some(E::RebalanceInProgress) => self.rejoin(),
            _ if is_coordinators(&error) => {
                let mut actions = self.later(now);
                if now.saturating_duration_since(self.heard_at) > self.config.session && !self.owned.is_empty() {
                    actions.push(Action::Lose(std::mem::take(&mut self.owned), error));
                }
                actions
            }
            _ => {
                self.phase = Phase::Left;
                vec![Action::Fail(error)]
            }
        }
    }

    fn joined(&mut self, joined: Joined, now: Instant) -> Vec<Action> {
        self.heard_at = now;
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        self.assignor = Some(joined.assignor);
        self.leads = joined.members.is_some();
        let Some(members) = joined.members else {
            self.phase = Phase::Syncing;
            return vec![Action::Sync(Vec::new())];
        };
        let topics = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        self.members = members;
        self.phase = Phase::Counting;
        vec![Action::Count(topics)]
    }

    /// The leader shares out.
    fn counted(&mut self, counts: &Counts) -> Vec<Action> {
        let members = std::mem::take(&mut self.members);
        let Some(assignor) = self.assignor else { return Vec::new() };
        for (topic, count) in counts {
            if let Some(known) = self.wanted.get_mut(topic) {
                *known = *count;
            }
        }
        let shares = assignor.assign(&members, counts);
        let assignments: Result<Vec<_>, String> =
            shares.into_iter().map(|(id, share)| Ok((id, messages::assignment(&share)?))).collect();
        self.phase = Phase::Syncing;
        match assignments {
            Ok(assignments) => vec![Action::Sync(assignments)],
            Err(why) => vec![Action::Fail(self.broken(format!("an assignment cannot be encoded: {why}")))],
        }
    }

    fn synced(&mut self, share: BTreeSet<TopicPartition>, now: Instant) -> Vec<Action> {
        self.heard_at = now;
        self.phase = Phase::Stable;
        self.beat_at = now + self.config.beat_every;
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&share).cloned().collect();
        let new: BTreeSet<TopicPartition> = share.difference(&self.owned).cloned().collect();
        self.owned = share;
        let mut actions = vec![Action::Assign(new)];
        if gone.is_empty() {
            if self.changed {
                actions.extend(self.rejoin());
            }
            return actions;
        }
        if self.assignor.is_some_and(|assignor| assignor.is_cooperative()) {
            // Others get these when all join once more (KIP-429).
            self.phase = Phase::Releasing;
            actions.push(Action::Revoke(gone));
        } else {
            // The group has turned to an assignor that lets others have them at once.
            let why = "its assignor now reassigns partitions without waiting for their members";
            actions.push(Action::Lose(gone, self.broken(why.to_owned())));
        }
        actions
    }

    fn wants(&mut self, wanted: Counts) -> Vec<Action> {
        if wanted == self.wanted {
            return Vec::new();
        }
        let (topics, known): (BTreeSet<_>, BTreeSet<_>) = (wanted.keys().collect(), self.wanted.keys().collect());
        // How many partitions there are is the leader's to know.
        let matters = topics != known || self.leads;
        let first = self.phase == Phase::Out && self.wanted.is_empty();
        self.wanted = wanted;
        match self.phase {
            Phase::Out if first => self.join(),
            Phase::Stable if matters => self.rejoin(),
            _ => {
                self.changed |= matters;
                Vec::new()
            }
        }
    }

    fn beat(&mut self, beaten: Result<Beat, Error>, now: Instant) -> Vec<Action> {
        self.beating = false;
        let error = match beaten {
            Ok(_) => {
                self.heard_at = now;
                return Vec::new();
            }
            Err(error) => error,
        };
        match (self.phase, error.code()) {
            (Phase::Stable, _) if is_coordinators(&error) => {
                self.beat_at = now + self.config.retry;
                let mut actions = vec![Action::Forget];
                if now.saturating_duration_since(self.heard_at) > self.config.session {
                    actions.extend(self.lost(error));
                }
                actions
            }
            // All are to join again, which this one is about to do.
            (Phase::Releasing, Some(E::RebalanceInProgress)) => Vec::new(),
            (Phase::Releasing, _) if is_coordinators(&error) => vec![Action::Forget],
            (Phase::Stable | Phase::Releasing, _) => self.refused(error, now),
            _ => Vec::new(), // of a time before
        }
    }
}

impl Membership for Classic {
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (event, self.phase) {
            (Event::Leave, Phase::Left) => vec![Action::Left],
            (_, Phase::Left) => Vec::new(),
            (Event::Leave, _) => {
                self.phase = Phase::Left;
                // A static member comes back to what it had, and does not say that it goes (KIP-345).
                let tells = !self.member_id.is_empty() && self.config.instance_id.is_none();
                let leave = tells.then(|| Action::Leave(self.member_id.clone()));
                leave.into_iter().chain([Action::Left]).collect()
            }
            (Event::Wanted(wanted), _) => self.wants(wanted),
            (Event::Joined(Ok(joined)), Phase::Joining) => self.joined(joined, now),
            (Event::Named(id), Phase::Joining) => {
                self.member_id = id;
                self.join()
            }
            (Event::Joined(Err(error)), Phase::Joining) => match error.code() {
                Some(E::RebalanceInProgress) => self.later(now),
                _ => self.refused(error, now),
            },
            (Event::Counted(Ok(counts)), Phase::Counting) => self.counted(&counts),
            (Event::Counted(Err(error)), Phase::Counting) => self.refused(error, now),
            (Event::Synced(Ok(share)), Phase::Syncing) => self.synced(share, now),
            (Event::Synced(Err(error)), Phase::Syncing) => self.refused(error, now),
            (Event::Beat(beaten), _) => self.beat(beaten, now),
            (Event::Released, Phase::Releasing) => self.join(),
            (Event::Stalled, Phase::Out) => Vec::new(),
            (Event::Stalled, _) => {
                self.phase = Phase::Out;
                self.beating = false;
                let lost = std::mem::take(&mut self.owned);
                let member_id = std::mem::take(&mut self.member_id);
                self.generation = -1;
                let mut actions = Vec::new();
                if !member_id.is_empty() {
                    actions.push(Action::Leave(member_id));
                }
                actions.push(Action::Lose(lost, Error::Stalled(self.config.rebalance)));
                actions
            }
            (Event::Moving, Phase::Out) if !self.wanted.is_empty() => self.join(),
            (Event::Due, Phase::Waiting(until)) if until <= now => self.join(),
            (Event::Due, Phase::Stable | Phase::Releasing) if self.beat_at <= now && !self.beating => {
                self.beating = true;
                self.beat_at = now + self.config.beat_every;
                vec![Action::Beat { full: false }]
            }
            _ => Vec::new(), // an answer to something given up meanwhile
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Stable | Phase::Releasing if !self.beating => Some(self.beat_at),
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
        self.wanted.keys().cloned().collect()
    }
}
