//! The consumer protocol: the coordinator assigns, and tells each member in the answers to its heartbeats (KIP-848).

use super::membership::{
    Content, Effect, Event, HeartbeatAnswer, MemberConfig, Membership, Pace, PartitionCounts, is_coordinators,
};
use crate::error::Error;
use crate::record::TopicPartition;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is nothing to subscribe to yet, or the command stalls.
    Out,
    Member,
    /// A member whose command releases partitions.
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
    topics: BTreeSet<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    /// The coordinator's target for this member, while it differs from `owned`.
    target: Option<BTreeSet<TopicPartition>>,
    /// Whether the command was told of an assignment since the member joined.
    is_told: bool,
    content: Content,
    /// As the coordinator has it, once it has answered.
    heartbeat_interval: Duration,
    heartbeat_at: Instant,
    is_heartbeat_sent: bool,
    /// When the coordinator last accepted this member.
    heard_at: Instant,
    /// Of heartbeats outside of their interval, since the last that changed nothing.
    pace: Pace,
}

impl Kip848 {
    pub(super) fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            phase: Phase::Out,
            // The member names itself, since version 1 of the heartbeat.
            member_id: uuid::Uuid::from_u128(fastrand::u128(..)).to_string(),
            epoch: 0,
            topics: BTreeSet::new(),
            owned: BTreeSet::new(),
            target: None,
            is_told: false,
            content: Content::Full,
            heartbeat_interval: config.heartbeat_interval,
            heartbeat_at: now,
            is_heartbeat_sent: false,
            heard_at: now,
            pace: Pace::new(config.retry),
            config,
        }
    }

    /// Becomes a new member.
    fn join(&mut self, now: Instant) -> Vec<Effect> {
        self.phase = Phase::Member;
        self.epoch = 0;
        self.target = None;
        self.is_told = false;
        self.heartbeat_soon(now)
    }

    /// Sends a full heartbeat: at once, or in a moment where this repeats itself; after the one that is sent.
    fn heartbeat_soon(&mut self, now: Instant) -> Vec<Effect> {
        self.content = Content::Full;
        self.heartbeat_at = now + self.pace.repeat();
        self.heartbeat_if_due(now)
    }

    fn heartbeat_if_due(&mut self, now: Instant) -> Vec<Effect> {
        if self.is_heartbeat_sent || self.heartbeat_at > now {
            return Vec::new();
        }
        self.is_heartbeat_sent = true;
        self.heartbeat_at = now + self.heartbeat_interval;
        // A full one would say that what is being released is released.
        let content = match self.phase {
            Phase::Releasing => Content::Alive,
            _ => std::mem::replace(&mut self.content, Content::Alive),
        };
        vec![Effect::Heartbeat(content)]
    }

    fn lose(&mut self, error: Error) -> Option<Effect> {
        (!self.owned.is_empty()).then(|| Effect::Lose(std::mem::take(&mut self.owned), error))
    }

    fn answered(&mut self, answer: HeartbeatAnswer, now: Instant) -> Vec<Effect> {
        self.heard_at = now;
        self.epoch = answer.epoch;
        if let Some(interval) = answer.interval {
            let sent_at = self.heartbeat_at.checked_sub(self.heartbeat_interval);
            self.heartbeat_interval = interval;
            // One that says more than that the member is alive waits no longer.
            if let Some(sent_at) = sent_at.filter(|_| self.content == Content::Alive) {
                self.heartbeat_at = sent_at + interval;
            }
        }
        let changes = answer.assignment.is_some();
        if changes {
            self.target = answer.assignment;
        } else if self.content == Content::Alive {
            self.pace.reset();
        }
        if self.phase == Phase::Releasing { Vec::new() } else { self.reconcile(now) }
    }

    /// Releases what is not in the target; then takes what is new, and says so.
    fn reconcile(&mut self, now: Instant) -> Vec<Effect> {
        let Some(target) = self.target.take() else { return Vec::new() };
        let gone: BTreeSet<TopicPartition> = self.owned.difference(&target).cloned().collect();
        if !gone.is_empty() {
            self.owned.retain(|partition| target.contains(partition));
            self.target = Some(target);
            self.phase = Phase::Releasing;
            return vec![Effect::Revoke(gone)];
        }
        if target == self.owned && self.is_told {
            return Vec::new();
        }
        self.is_told = true;
        let new: BTreeSet<TopicPartition> = target.difference(&self.owned).cloned().collect();
        self.owned = target;
        let mut effects = vec![Effect::Assign(new)];
        effects.extend(self.heartbeat_soon(now));
        effects
    }

    fn refused(&mut self, error: Error, now: Instant) -> Vec<Effect> {
        self.content = Content::Full;
        match error.code() {
            Some(E::UnknownMemberId | E::FencedMemberEpoch) => {
                let mut effects: Vec<Effect> = self.lose(error.clone()).into_iter().collect();
                effects.extend(self.join(now));
                if self.heartbeat_at > now && !self.is_heartbeat_sent {
                    effects.push(Effect::Retry(error));
                }
                effects
            }
            _ if is_coordinators(&error) => {
                self.heartbeat_at = now + self.pace.backoff();
                let mut effects = vec![Effect::ForgetCoordinator, Effect::Retry(error.clone())];
                if now.saturating_duration_since(self.heard_at) > self.config.max_poll_interval {
                    effects.extend(self.lose(error));
                    self.epoch = 0;
                    self.target = None;
                    self.phase = Phase::Member;
                }
                effects
            }
            // The static member before this one may count as alive for a while.
            Some(E::UnreleasedInstanceId)
                if now.saturating_duration_since(self.heard_at) < self.config.session_timeout =>
            {
                self.heartbeat_at = now + self.pace.backoff();
                vec![Effect::Retry(error)]
            }
            _ => {
                self.phase = Phase::Left;
                vec![Effect::Fail(error)]
            }
        }
    }

    fn topics_changed(&mut self, counts: PartitionCounts, now: Instant) -> Vec<Effect> {
        let topics: BTreeSet<Arc<str>> = counts.into_keys().collect();
        if topics == self.topics {
            return Vec::new();
        }
        let is_first = self.topics.is_empty();
        self.topics = topics;
        match self.phase {
            Phase::Out if is_first => self.join(now),
            Phase::Out => Vec::new(), // it joins when the command takes records again
            _ => self.heartbeat_soon(now),
        }
    }
}

impl Membership for Kip848 {
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match (event, self.phase) {
            (Event::Leave, Phase::Left) => vec![Effect::Left],
            (_, Phase::Left) => Vec::new(),
            (Event::Leave, phase) => {
                self.phase = Phase::Left;
                let leave = (phase != Phase::Out).then(|| Effect::Leave(self.member_id.clone()));
                leave.into_iter().chain([Effect::Left]).collect()
            }
            (Event::Topics(topics), _) => self.topics_changed(topics, now),
            (Event::Heartbeat(answer), phase) => {
                self.is_heartbeat_sent = false;
                match answer {
                    _ if phase == Phase::Out => Vec::new(),
                    Ok(answer) => self.answered(answer, now),
                    Err(error) => self.refused(error, now),
                }
            }
            (Event::Released, Phase::Releasing) => {
                self.phase = Phase::Member;
                let mut effects = self.reconcile(now);
                if !effects.iter().any(|effect| matches!(effect, Effect::Assign(_))) {
                    effects.extend(self.heartbeat_soon(now));
                }
                effects
            }
            (Event::Stalled, Phase::Member | Phase::Releasing) => {
                self.phase = Phase::Out;
                self.is_heartbeat_sent = false;
                let lost = std::mem::take(&mut self.owned);
                let stalled = Error::Stalled(self.config.max_poll_interval);
                vec![Effect::Leave(self.member_id.clone()), Effect::Lose(lost, stalled)]
            }
            (Event::Resumed, Phase::Out) if !self.topics.is_empty() => self.join(now),
            (Event::CommitRefused, Phase::Member | Phase::Releasing) => {
                // The next heartbeat brings the epoch that commits need: the coordinator's interval is too long for that.
                self.heartbeat_at = self.heartbeat_at.min(now + self.pace.repeat());
                self.heartbeat_if_due(now)
            }
            (Event::Due, Phase::Member | Phase::Releasing) => self.heartbeat_if_due(now),
            _ => Vec::new(),
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Member | Phase::Releasing if !self.is_heartbeat_sent => Some(self.heartbeat_at),
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
        self.topics.clone()
    }
}
