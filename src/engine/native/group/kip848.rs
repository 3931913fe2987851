//! The consumer protocol: the coordinator shares out, and tells each member by its heartbeats (KIP-848).

use super::membership::{Action, Beat, Event, MemberConfig, Membership, is_coordinators};
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
    Member,
    /// A member that lets go of partitions.
    Releasing,
    Left,
}

/// A member.
#[derive(Debug)]
pub(super) struct Kip848 {
    config: MemberConfig,
    phase: Phase,
    member_id: String,
    /// 0 until the coordinator has given one.
    epoch: i32,
    wanted: BTreeSet<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    /// What the coordinator wants this member to have, while that differs.
    target: Option<BTreeSet<TopicPartition>>,
    /// Whether the command has heard of an assignment since the member joined.
    told: bool,
    /// Whether the coordinator has to hear everything, as its state or ours may be behind.
    full: bool,
    beat_at: Instant,
    beating: bool,
    heard_at: Instant,
}

impl Kip848 {
    pub(super) fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            config,
            phase: Phase::Out,
            // The member names itself, since version 1 of the heartbeat.
            member_id: uuid::Uuid::from_u128(fastrand::u128(..)).to_string(),
            epoch: 0,
            wanted: BTreeSet::new(),
            owned: BTreeSet::new(),
            target: None,
            told: false,
            full: true,
            beat_at: now,
            beating: false,
            heard_at: now,
        }
    }

    /// A member from now on, as a new one.
    fn join(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Member;
        self.epoch = 0;
        self.target = None;
        self.told = false;
        self.full = true;
        self.beat(now)
    }

    fn beat(&mut self, now: Instant) -> Vec<Action> {
        if self.beating {
            self.beat_at = now; // right after the one that is out
            return Vec::new();
        }
        self.beating = true;
        self.beat_at = now + self.config.beat_every;
        vec![Action::Beat { full: std::mem::take(&mut self.full) }]
    }

    fn lose(&mut self, error: Error) -> Vec<Action> {
        if self.owned.is_empty() { Vec::new() } else { vec![Action::Lose(std::mem::take(&mut self.owned), error)] }
    }

    fn beaten(&mut self, beat: Beat, now: Instant) -> Vec<Action> {
        self.heard_at = now;
        self.epoch = beat.epoch;
        if let Some(assignment) = beat.assignment {
            self.target = Some(assignment);
        }
        if self.phase == Phase::Releasing { Vec::new() } else { self.reconcile(now) }
    }

    /// Lets go first; takes what is new when that is done, and says so.
    fn reconcile(&mut self, now: Instant) -> Vec<Action> {
        let Some(target) = self.target.take() else { return Vec::new() };
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&target).cloned().collect();
        if !gone.is_empty() {
            self.owned.retain(|place| target.contains(place));
            self.target = Some(target);
            self.phase = Phase::Releasing;
            return vec![Action::Revoke(gone)];
        }
        if target == self.owned && self.told {
            return Vec::new();
        }
        self.told = true;
        let new: BTreeSet<TopicPartition> = target.difference(&self.owned).cloned().collect();
        self.owned = target;
        let mut actions = vec![Action::Assign(new)];
        self.full = true;
        actions.extend(self.beat(now));
        actions
    }

    fn refused(&mut self, error: Error, now: Instant) -> Vec<Action> {
        self.full = true;
        match error.code() {
            Some(E::UnknownMemberId | E::FencedMemberEpoch) => {
                let mut actions = self.lose(error);
                actions.extend(self.join(now));
                actions
            }
            _ if is_coordinators(&error) => {
                self.beat_at = now + self.config.retry;
                let mut actions = vec![Action::Forget];
                if now.saturating_duration_since(self.heard_at) > self.config.session {
                    actions.extend(self.lose(error));
                    self.epoch = 0;
                    self.target = None;
                    self.phase = Phase::Member;
                }
                actions
            }
            // The static member before this one may be thought alive for a while.
            Some(E::UnreleasedInstanceId) if now.saturating_duration_since(self.heard_at) < self.config.session => {
                self.beat_at = now + self.config.beat_every;
                Vec::new()
            }
            _ => {
                self.phase = Phase::Left;
                vec![Action::Fail(error)]
            }
        }
    }
}

impl Membership for Kip848 {
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (event, self.phase) {
            (Event::Leave, Phase::Left) => vec![Action::Left],
            (_, Phase::Left) => Vec::new(),
            (Event::Leave, phase) => {
                self.phase = Phase::Left;
                let leave = (phase != Phase::Out).then(|| Action::Leave(self.member_id.clone()));
                leave.into_iter().chain([Action::Left]).collect()
            }
            (Event::Wanted(wanted), phase) => {
                let topics: BTreeSet<Arc<str>> = wanted.into_keys().collect();
                if topics == self.wanted {
                    return Vec::new();
                }
                self.wanted = topics;
                if phase == Phase::Out {
                    return self.join(now);
                }
                self.full = true;
                self.beat(now)
            }
            (Event::Beat(beaten), phase) => {
                self.beating = false;
                match beaten {
                    _ if phase == Phase::Out => Vec::new(),
                    Ok(beat) => self.beaten(beat, now),
                    Err(error) => self.refused(error, now),
                }
            }
            (Event::Released, Phase::Releasing) => {
                self.phase = Phase::Member;
                self.full = true;
                let mut actions = self.reconcile(now);
                if !actions.iter().any(|action| matches!(action, Action::Beat { .. })) {
                    actions.extend(self.beat(now));
                }
                actions
            }
            (Event::Stalled, Phase::Member | Phase::Releasing) => {
                self.phase = Phase::Out;
                self.beating = false;
                let lost = std::mem::take(&mut self.owned);
                vec![Action::Leave(self.member_id.clone()), Action::Lose(lost, Error::Stalled(self.config.rebalance))]
            }
            (Event::Moving, Phase::Out) if !self.wanted.is_empty() => self.join(now),
            (Event::Due, Phase::Member | Phase::Releasing) if self.beat_at <= now && !self.beating => self.beat(now),
            _ => Vec::new(),
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Member | Phase::Releasing if !self.beating => Some(self.beat_at),
            _ => None,
        }
    }

    fn identity(&self) -> (String, i32) {
        (self.member_id.clone(), self.epoch)
    }

    fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    fn subscribed(&self) -> BTreeSet<Arc<str>> {
        self.wanted.clone()
    }
}
