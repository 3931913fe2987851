//! The coordinator's side of the classic group protocol: a state machine without I/O or a clock of its own.
//!
//! <https://kafka.apache.org/protocol#The_Messages_JoinGroup>, KIP-62 (rebalance timeout), KIP-345 (static members),
//! KIP-394 (member ids are asked for).

mod messages;

pub(super) use messages::{Answer, Committed, Join, Joined, Sync, Waiter};

use crate::record::PartitionId;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    expires: Instant,
    joining: Option<Waiter>,
    syncing: Option<Waiter>,
    /// Whether it has asked for its assignment in this generation.
    synced: bool,
}

impl Member {
    /// What it said for an assignor.
    fn says_for(&self, protocol: &str) -> Bytes {
        let said = self.protocols.iter().find(|(name, _)| name == protocol);
        said.map(|(_, data)| data.clone()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Members are to join again before then.
    Preparing(Instant),
    /// Members are to ask for their assignment before then.
    Completing(Instant),
    Stable,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids that were given out and not joined with yet, and until when they may be.
    pending: BTreeMap<String, Instant>,
    pub(super) offsets: BTreeMap<(String, PartitionId), Committed>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }
}

impl Group {
    /// Its state, as Kafka calls it.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing(_) => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The assignor in use; empty while there is none.
    pub(super) fn protocol(&self) -> &str {
        if self.phase == Phase::Stable { &self.protocol } else { "" }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// What `member` said for the assignor in use.
    pub(super) fn metadata(&self, member: &Member) -> Bytes {
        member.says_for(self.protocol())
    }

    /// A member joins, or joins again.
    pub(super) fn join(&mut self, join: Join, waiter: Waiter, now: Instant) -> Vec<Answer> {
        let mut answers = Vec::new();
        if let Err(refused) = self.try_join(join, waiter, now, &mut answers) {
            answers.push(Answer::Joined(waiter, Err(refused)));
        }
        answers
    }

    fn try_join(&mut self, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) -> Result<(), (E, String)> {
        let id = join.member_id.clone();
        let refuse = |error| Err((error, id.clone()));
        let others = self.members.iter().filter(|(other, _)| **other != join.member_id);
        let others: Vec<&Member> = others.map(|(_, member)| member).collect();
        let all_know = |name: &String| others.iter().all(|m| m.protocols.iter().any(|(known, _)| known == name));
        let fits = (self.members.is_empty() || join.protocol_type == self.protocol_type)
            && join.protocols.iter().any(|(name, _)| all_know(name));
        if join.protocol_type.is_empty() || !fits {
            return refuse(E::InconsistentGroupProtocol);
        }
        let known_as = join.instance_id.as_ref().and_then(|instance| self.find_instance(instance));
        if id.is_empty() {
            return match (&join.instance_id, known_as) {
                (Some(_), Some(old)) => {
                    self.replace(&old, join, waiter, now, out);
                    Ok(())
                }
                (None, _) if join.must_ask_for_id => {
                    let id = new_id(&join.client_id);
                    self.pending.insert(id.clone(), now + join.session_timeout);
                    Err((E::MemberIdRequired, id))
                }
                (instance, _) => {
                    let id = new_id(instance.as_ref().unwrap_or(&join.client_id));
                    self.add(id, join, waiter, now, out);
                    Ok(())
                }
            };
        }
        if let Some(instance) = &join.instance_id {
            self.check_instance(&id, instance).or_else(refuse)?;
        }
        if self.pending.remove(&id).is_some() {
            self.add(id, join, waiter, now, out);
            return Ok(());
        }
        let Some(member) = self.members.get_mut(&id) else { return refuse(E::UnknownMemberId) };
        let changed = member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.rebalance_timeout = join.rebalance_timeout;
        member.session_timeout = join.session_timeout;
        member.expires = now + join.session_timeout;
        let begin = match self.phase {
            Phase::Stable => changed || id == self.leader,
            Phase::Completing(_) => changed,
            Phase::Preparing(_) | Phase::Empty => false,
        };
        if !begin && matches!(self.phase, Phase::Stable | Phase::Completing(_)) {
            // It did not hear the answer to its join, which is still good.
            let joined = self.joined(&id, false);
            out.push(Answer::Joined(waiter, Ok(joined)));
            return Ok(());
        }
        if let Some(member) = self.members.get_mut(&id)
            && let Some(before) = member.joining.replace(waiter)
        {
            // It has lost the connection on which it asked before.
            out.push(Answer::Joined(before, Err((E::RebalanceInProgress, id))));
        }
        self.rebalance(now, out);
        Ok(())
    }

    fn find_instance(&self, instance: &str) -> Option<String> {
        let found = self.members.iter().find(|(_, member)| member.instance_id.as_deref() == Some(instance));
        found.map(|(id, _)| id.clone())
    }

    fn add(&mut self, id: String, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type;
        }
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            host: join.host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            expires: now + join.session_timeout,
            joining: Some(waiter),
            syncing: None,
            synced: false,
        };
        self.members.insert(id, member);
        self.rebalance(now, out);
    }

    /// A static member comes back without its id: it gets a new one, and whoever holds the old one is fenced.
    fn replace(&mut self, old: &str, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) {
        let Some(mut member) = self.members.remove(old) else { return };
        let id = new_id(join.instance_id.as_ref().unwrap_or(&join.client_id));
        if let Some(waiting) = member.joining.take() {
            out.push(Answer::Joined(waiting, Err((E::FencedInstanceId, old.to_owned()))));
        }
        if let Some(waiting) = member.syncing.take() {
            out.push(Answer::Synced(waiting, Err(E::FencedInstanceId)));
        }
        let same = member.protocols == join.protocols;
        member.client_id = join.client_id;
        member.host = join.host;
        member.protocols = join.protocols;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.expires = now + join.session_timeout;
        let led = self.leader == old;
        if led {
            self.leader.clone_from(&id);
        }
        self.members.insert(id.clone(), member);
        if self.phase == Phase::Stable && same {
            let joined = self.joined(&id, led);
            out.push(Answer::Joined(waiter, Ok(joined)));
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(waiter);
        }
        self.rebalance(now, out);
    }

    /// What `id` is told of the generation there is.
    fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let all = self
            .members
            .iter()
            .map(|(id, member)| (id.clone(), member.instance_id.clone(), member.says_for(&self.protocol)));
        Joined {
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            members: if id == self.leader { all.collect() } else { Vec::new() },
            skip_assignment,
        }
    }

    /// Has all members join again; goes on at once if they have.
    fn rebalance(&mut self, now: Instant, out: &mut Vec<Answer>) {
        if !matches!(self.phase, Phase::Preparing(_)) {
            for member in self.members.values_mut() {
                out.extend(member.syncing.take().map(|waiter| Answer::Synced(waiter, Err(E::RebalanceInProgress))));
            }
            let longest = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default();
            self.phase = Phase::Preparing(now + longest);
        }
        if self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.complete(now, out);
        }
    }

    /// Begins a generation of those who have joined.
    fn complete(&mut self, now: Instant, out: &mut Vec<Answer>) {
        self.members.retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        self.generation += 1;
        let Some(first) = self.members.keys().next().cloned() else {
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        };
        self.protocol = self.vote();
        if self.members.get(&self.leader).is_none_or(|leader| leader.joining.is_none()) {
            let joining = self.members.iter().find(|(_, member)| member.joining.is_some());
            self.leader = joining.map_or(first, |(id, _)| id.clone());
        }
        let longest = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default();
        self.phase = Phase::Completing(now + longest);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, false);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            member.synced = false;
            if let Some(waiter) = member.joining.take() {
                member.expires = now + member.session_timeout;
                out.push(Answer::Joined(waiter, Ok(joined)));
            }
        }
    }

    /// The assignor that most members prefer, of those that all know.
    fn vote(&self) -> String {
        let all_know = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(known, _)| known == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| all_know(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    /// Whether the static member `instance` is `id`.
    fn check_instance(&self, id: &str, instance: &str) -> Result<(), E> {
        match self.find_instance(instance) {
            None => Err(E::UnknownMemberId),
            Some(known) if known != id => Err(E::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// The member `id`, if it may speak for its instance and is of this generation.
    fn check(&mut self, id: &str, instance: Option<&str>, generation: i32) -> Result<&mut Member, E> {
        if let Some(instance) = instance {
            self.check_instance(id, instance)?;
        }
        let current = self.generation;
        let member = self.members.get_mut(id).ok_or(E::UnknownMemberId)?;
        if generation == current { Ok(member) } else { Err(E::IllegalGeneration) }
    }

    /// A member asks for its assignment; the leader brings all of them.
    pub(super) fn sync(&mut self, sync: Sync, waiter: Waiter, now: Instant) -> Vec<Answer> {
        let mut out = Vec::new();
        if let Err(error) = self.try_sync(sync, waiter, now, &mut out) {
            out.push(Answer::Synced(waiter, Err(error)));
        }
        out
    }

    fn try_sync(&mut self, sync: Sync, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) -> Result<(), E> {
        let (phase, leads) = (self.phase, sync.member_id == self.leader);
        let other = |asked: &Option<String>, used: &str| asked.as_deref().is_some_and(|asked| asked != used);
        let foreign = other(&sync.protocol_type, &self.protocol_type) || other(&sync.protocol, &self.protocol);
        let member = self.check(&sync.member_id, sync.instance_id.as_deref(), sync.generation)?;
        if foreign {
            return Err(E::InconsistentGroupProtocol);
        }
        member.expires = now + member.session_timeout;
        match phase {
            Phase::Empty => return Err(E::UnknownMemberId),
            Phase::Preparing(_) => return Err(E::RebalanceInProgress),
            Phase::Stable => {
                out.push(Answer::Synced(waiter, Ok(member.assignment.clone())));
                return Ok(());
            }
            Phase::Completing(_) => {}
        }
        if let Some(before) = member.syncing.replace(waiter) {
            out.push(Answer::Synced(before, Err(E::RebalanceInProgress))); // as with a join
        }
        member.synced = true;
        if leads {
            let mut assigned: BTreeMap<String, Bytes> = sync.assignments.into_iter().collect();
            for (id, member) in &mut self.members {
                member.assignment = assigned.remove(id).unwrap_or_default();
                if let Some(waiter) = member.syncing.take() {
                    member.expires = now + member.session_timeout;
                    out.push(Answer::Synced(waiter, Ok(member.assignment.clone())));
                }
            }
            self.phase = Phase::Stable;
        }
        Ok(())
    }

    /// A member lives.
    pub(super) fn heartbeat(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), E> {
        let phase = self.phase;
        let member = self.check(id, instance, generation)?;
        member.expires = now + member.session_timeout;
        if matches!(phase, Phase::Preparing(_)) { Err(E::RebalanceInProgress) } else { Ok(()) }
    }

    /// A member leaves; found by its id, or else by its instance id.
    pub(super) fn leave(&mut self, id: &str, instance: Option<&str>, now: Instant) -> (Result<(), E>, Vec<Answer>) {
        let mut out = Vec::new();
        if self.pending.remove(id).is_some() {
            self.settle(now, &mut out);
            return (Ok(()), out);
        }
        let found = match instance {
            None => self.members.contains_key(id).then(|| id.to_owned()),
            Some(instance) => match self.find_instance(instance) {
                Some(known) if !id.is_empty() && known != id => return (Err(E::FencedInstanceId), out),
                found => found,
            },
        };
        let Some(id) = found else { return (Err(E::UnknownMemberId), out) };
        self.remove(&id, now, &mut out);
        (Ok(()), out)
    }

    fn remove(&mut self, id: &str, now: Instant, out: &mut Vec<Answer>) {
        let Some(member) = self.members.remove(id) else { return };
        out.extend(member.joining.map(|waiter| Answer::Joined(waiter, Err((E::UnknownMemberId, id.to_owned())))));
        out.extend(member.syncing.map(|waiter| Answer::Synced(waiter, Err(E::UnknownMemberId))));
        self.rebalance(now, out);
    }

    /// Goes on with a rebalance that nothing holds up any more.
    fn settle(&mut self, now: Instant, out: &mut Vec<Answer>) {
        if matches!(self.phase, Phase::Preparing(_)) {
            self.rebalance(now, out);
        }
    }

    /// Whether `id` of `generation` may commit; without either only a group without members may be committed for.
    pub(super) fn may_commit(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), E> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(E::UnknownMemberId);
        }
        let phase = self.phase;
        let member = self.check(id, instance, generation)?;
        member.expires = now + member.session_timeout;
        if matches!(phase, Phase::Completing(_)) { Err(E::RebalanceInProgress) } else { Ok(()) }
    }

    /// Does what is due: members and ids expire, rebalances end without those who are late.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Answer> {
        let mut out = Vec::new();
        let held = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        if self.pending.len() < held {
            self.settle(now, &mut out);
        }
        let silent = |m: &Member| m.expires <= now && m.joining.is_none() && m.syncing.is_none();
        let mut gone: BTreeSet<String> =
            self.members.iter().filter(|(_, m)| silent(m)).map(|(id, _)| id.clone()).collect();
        if let Phase::Completing(until) = self.phase
            && until <= now
        {
            gone.extend(self.members.iter().filter(|(_, m)| !m.synced).map(|(id, _)| id.clone()));
        }
        for id in gone {
            self.remove(&id, now, &mut out);
        }
        if let Phase::Preparing(until) = self.phase
            && until <= now
        {
            self.pending.clear();
            self.complete(now, &mut out);
        }
        out
    }

    /// When [`Group::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = |m: &Member| m.joining.is_some() || m.syncing.is_some();
        let members = self.members.values().filter(|m| !waiting(m)).map(|m| m.expires);
        let phase = match self.phase {
            Phase::Preparing(until) | Phase::Completing(until) => Some(until),
            Phase::Empty | Phase::Stable => None,
        };
        members.chain(self.pending.values().copied()).chain(phase).min()
    }
}

fn new_id(of: &str) -> String {
    format!("{of}-{}", uuid::Uuid::from_u128(fastrand::u128(..)))
}

#[cfg(test)]
mod tests;
