//! The coordinator's side of the consumer group protocol (KIP-848): members send heartbeats, the coordinator assigns.
//!
//! A change of members, subscriptions or topics raises the group epoch, and with it comes a target assignment. Each member
//! is moved to it by its own heartbeats: it gives up what others shall have before they are assigned it.

use super::assignors::{Assignor, Partitions, Subscriber, Topics, assign};
use crate::local::limits::{ENTRY_OVERHEAD, MOST_MEMBERS};
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Kafka's `group.consumer.session.timeout.ms`.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// The member epochs that are not epochs.
pub(in crate::local) mod epoch {
    pub(in crate::local) const JOIN: i32 = 0;
    pub(in crate::local) const LEAVE: i32 = -1;
    pub(in crate::local) const LEAVE_STATIC: i32 = -2;
}

/// A heartbeat; `None` for what has not changed since the last one.
#[derive(Debug, Clone)]
pub(in crate::local) struct Beat {
    pub(in crate::local) member_id: String,
    pub(in crate::local) member_epoch: i32,
    pub(in crate::local) instance_id: Option<String>,
    pub(in crate::local) rack_id: Option<String>,
    pub(in crate::local) client_id: String,
    pub(in crate::local) host: String,
    pub(in crate::local) rebalance_timeout: Option<Duration>,
    pub(in crate::local) topics: Option<BTreeSet<String>>,
    pub(in crate::local) assignor: Option<Assignor>,
    pub(in crate::local) owned: Option<Partitions>,
}

impl Beat {
    /// What it takes in memory.
    pub(in crate::local) fn bytes(&self) -> usize {
        let topics = self.topics.iter().flatten().map(|topic| topic.len() + ENTRY_OVERHEAD).sum::<usize>();
        ENTRY_OVERHEAD + self.member_id.len() + self.client_id.len() + topics
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Beaten {
    pub(in crate::local) member_id: String,
    pub(in crate::local) member_epoch: i32,
    /// `None` while it is as before.
    pub(in crate::local) assignment: Option<Partitions>,
}

#[derive(Debug)]
pub(in crate::local) struct ConsumerMember {
    pub(in crate::local) epoch: i32,
    previous_epoch: i32,
    pub(in crate::local) instance_id: Option<String>,
    pub(in crate::local) rack_id: Option<String>,
    pub(in crate::local) client_id: String,
    pub(in crate::local) host: String,
    pub(in crate::local) topics: BTreeSet<String>,
    assignor: Option<Assignor>,
    rebalance_timeout: Duration,
    /// What it has, without what it is to give up.
    pub(in crate::local) assigned: Partitions,
    /// What it is to give up, and until when.
    revoking: Partitions,
    revoke_until: Option<Instant>,
    pub(in crate::local) target: Partitions,
    expires: Instant,
    bytes: usize,
}

impl ConsumerMember {
    fn is_stable(&self, group_epoch: i32) -> bool {
        self.epoch == group_epoch && self.revoking.is_empty() && self.assigned == self.target
    }
}

/// The members of a consumer group.
#[derive(Debug, Default)]
pub(in crate::local) struct ConsumerMembers {
    pub(in crate::local) epoch: i32,
    pub(in crate::local) assignment_epoch: i32,
    members: BTreeMap<String, ConsumerMember>,
    topics: Topics,
}

impl ConsumerMembers {
    /// Its state, by Kafka's name.
    pub(in crate::local) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_stable(self.epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(in crate::local) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(in crate::local) fn iter(&self) -> impl Iterator<Item = (&String, &ConsumerMember)> {
        self.members.iter()
    }

    pub(in crate::local) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.topics.contains(topic))
    }

    /// The topics that members subscribe to, and `more`.
    pub(in crate::local) fn subscriptions<'a>(
        &'a self,
        more: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<String> {
        self.members.values().flat_map(|member| &member.topics).chain(more).cloned().collect()
    }

    /// The assignor that most members ask for; the first of Kafka's by default.
    pub(in crate::local) fn assignor(&self) -> Assignor {
        let count = |assignor| self.members.values().filter(|member| member.assignor == Some(assignor)).count();
        if count(Assignor::Range) > count(Assignor::Uniform) { Assignor::Range } else { Assignor::Uniform }
    }

    pub(in crate::local) fn bytes(&self) -> usize {
        let held = |member: &ConsumerMember| 24 * (member.assigned.len() + member.revoking.len() + member.target.len());
        self.members.values().map(|member| member.bytes + held(member)).sum()
    }

    /// Handles a heartbeat. `topics` are those that anyone subscribes to and that exist.
    pub(in crate::local) fn beat(&mut self, beat: Beat, topics: Topics, now: Instant) -> Result<Beaten, E> {
        match beat.member_epoch {
            epoch::LEAVE | epoch::LEAVE_STATIC => self.leave(&beat, now),
            _ => self.stay(beat, topics, now),
        }
    }

    fn leave(&mut self, beat: &Beat, now: Instant) -> Result<Beaten, E> {
        let member = self.members.get_mut(&beat.member_id).ok_or(E::UnknownMemberId)?;
        if beat.member_epoch == epoch::LEAVE_STATIC {
            // It may come back within its session.
            (member.epoch, member.expires) = (epoch::LEAVE_STATIC, now + SESSION_TIMEOUT);
        } else {
            self.members.remove(&beat.member_id);
            self.epoch += 1;
            self.assign();
        }
        Ok(Beaten { member_id: beat.member_id.clone(), member_epoch: beat.member_epoch, assignment: None })
    }

    fn stay(&mut self, beat: Beat, topics: Topics, now: Instant) -> Result<Beaten, E> {
        let id = beat.member_id.clone();
        let joins = beat.member_epoch == epoch::JOIN;
        // Who says all is told all that is assigned.
        let is_full = beat.rebalance_timeout.is_some() && beat.topics.is_some() && beat.owned.is_some();
        if joins {
            self.join(&beat, now)?;
        }
        let member = self.members.get_mut(&id).ok_or(E::UnknownMemberId)?;
        let is_repeat = beat.member_epoch == member.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if !joins && beat.member_epoch != member.epoch && !is_repeat {
            return Err(E::FencedMemberEpoch);
        }
        member.expires = now + SESSION_TIMEOUT;
        member.rebalance_timeout = beat.rebalance_timeout.unwrap_or(member.rebalance_timeout);
        let subscribed = beat.topics.as_ref().is_some_and(|topics| *topics != member.topics);
        let prefers = beat.assignor.is_some() && beat.assignor != member.assignor;
        if subscribed {
            member.bytes = beat.bytes();
            member.topics = beat.topics.unwrap_or_default();
        }
        member.assignor = beat.assignor.or(member.assignor);
        if subscribed || prefers || topics != self.topics {
            self.topics = topics;
            self.epoch += 1;
        }
        if self.epoch > self.assignment_epoch {
            self.assign();
        }
        let changed = self.reconcile(&id, beat.owned.as_ref(), now);
        let member = self.members.get(&id).ok_or(E::UnknownMemberId)?;
        let assignment = (joins || is_full || changed).then(|| member.assigned.clone());
        Ok(Beaten { member_id: id, member_epoch: member.epoch, assignment })
    }

    /// Adds a member, or one that begins again; a static one takes over from its earlier self.
    fn join(&mut self, beat: &Beat, now: Instant) -> Result<(), E> {
        let holder = self.members.iter().find(|(id, member)| {
            beat.instance_id.is_some() && member.instance_id == beat.instance_id && **id != beat.member_id
        });
        let holder = holder.map(|(id, member)| (id.clone(), member.epoch));
        let taken = match holder {
            Some((id, epoch::LEAVE_STATIC)) => self.members.remove(&id),
            Some(_) => return Err(E::UnreleasedInstanceId),
            None => self.members.remove(&beat.member_id),
        };
        if taken.is_none() && self.members.len() >= MOST_MEMBERS {
            return Err(E::GroupMaxSizeReached);
        }
        let member = match taken {
            Some(known) => ConsumerMember { epoch: epoch::JOIN, previous_epoch: epoch::JOIN, ..known },
            None => ConsumerMember {
                epoch: epoch::JOIN,
                previous_epoch: epoch::JOIN,
                instance_id: beat.instance_id.clone(),
                rack_id: beat.rack_id.clone(),
                client_id: beat.client_id.clone(),
                host: beat.host.clone(),
                topics: BTreeSet::new(),
                assignor: None,
                rebalance_timeout: SESSION_TIMEOUT,
                assigned: Partitions::new(),
                revoking: Partitions::new(),
                revoke_until: None,
                target: Partitions::new(),
                expires: now,
                bytes: beat.bytes(),
            },
        };
        self.members.insert(beat.member_id.clone(), member);
        Ok(())
    }

    /// Computes the target assignment of the group epoch.
    fn assign(&mut self) {
        let assignor = self.assignor();
        let subscribers: Vec<Subscriber<'_>> = self
            .members
            .values()
            .map(|member| Subscriber { topics: &member.topics, current: &member.target })
            .collect();
        let targets = assign(assignor, &subscribers, &self.topics);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
        self.assignment_epoch = self.epoch;
    }

    /// Moves a member towards its target as far as it and the others allow; returns whether its assignment changed.
    fn reconcile(&mut self, id: &str, owned: Option<&Partitions>, now: Instant) -> bool {
        let others: Partitions = self
            .members
            .iter()
            .filter(|(other, _)| *other != id)
            .flat_map(|(_, member)| member.assigned.iter().chain(&member.revoking))
            .copied()
            .collect();
        let group_epoch = self.assignment_epoch;
        let Some(member) = self.members.get_mut(id) else { return false };
        if !member.revoking.is_empty() {
            // It says by its next full report that it has given them up.
            if owned.is_none_or(|owned| !owned.is_disjoint(&member.revoking)) {
                return false;
            }
            member.revoking.clear();
            member.revoke_until = None;
        }
        let before = member.assigned.clone();
        let leaving: Partitions = before.difference(&member.target).copied().collect();
        member.assigned = before.intersection(&member.target).copied().collect();
        let holds = owned.is_none_or(|owned| !owned.is_disjoint(&leaving)) && member.epoch != epoch::JOIN;
        if !leaving.is_empty() && holds {
            (member.revoking, member.revoke_until) = (leaving, Some(now + member.rebalance_timeout));
        } else {
            member.assigned.extend(member.target.difference(&others));
            if member.epoch != group_epoch {
                (member.previous_epoch, member.epoch) = (member.epoch, group_epoch);
            }
        }
        member.assigned != before
    }

    /// Whether `member` may commit at `member_epoch`.
    pub(in crate::local) fn may_commit(&self, id: &str, member_epoch: i32) -> Result<(), E> {
        if member_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(id).ok_or(E::UnknownMemberId)?;
        if member_epoch == member.epoch { Ok(()) } else { Err(E::StaleMemberEpoch) }
    }

    /// Removes the members that are silent or do not give up what they must.
    pub(in crate::local) fn tick(&mut self, now: Instant) {
        let count = self.members.len();
        self.members.retain(|_, member| member.expires > now && member.revoke_until.is_none_or(|until| until > now));
        if self.members.len() < count {
            self.epoch += 1;
            self.assign();
        }
    }

    /// When [`ConsumerMembers::tick`] next has something to do.
    pub(in crate::local) fn due(&self) -> Option<Instant> {
        self.members.values().flat_map(|member| [Some(member.expires), member.revoke_until]).flatten().min()
    }
}
