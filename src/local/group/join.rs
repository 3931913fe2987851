//! Joining: a new member, a known one, a static one that comes back.

use super::{Answer, Group, Join, Joined, Member, Phase, Waiter, new_id};
use crate::local::limits::{ENTRY_OVERHEAD, LONGEST_SESSION, MOST_MEMBERS, MOST_PROTOCOLS};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::time::Instant;

/// Why a member cannot join, and the member ID for the answer.
type Refusal = (E, String);

impl Group {
    /// A member joins, or joins again.
    pub(in crate::local) fn join(&mut self, join: Join, waiter: Waiter, now: Instant) -> Vec<Answer> {
        let mut answers = Vec::new();
        if let Err(refusal) = self.try_join(join, waiter, now, &mut answers) {
            answers.push(Answer::Joined(waiter, Err(refusal)));
        }
        answers
    }

    fn try_join(&mut self, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) -> Result<(), Refusal> {
        self.check_join(&join).map_err(|error| (error, join.member_id.clone()))?;
        if join.member_id.is_empty() {
            return self.join_new(join, waiter, now, out);
        }
        if self.pending.remove(&join.member_id).is_some() {
            self.add(join.member_id.clone(), join, waiter, now, out);
            return Ok(());
        }
        self.join_again(join, waiter, now, out)
    }

    fn check_join(&self, join: &Join) -> Result<(), E> {
        if join.session_timeout > LONGEST_SESSION {
            return Err(E::InvalidSessionTimeout);
        }
        let others = self.members.iter().filter(|(other, _)| **other != join.member_id);
        let others: Vec<&Member> = others.map(|(_, member)| member).collect();
        let all_know = |name: &String| others.iter().all(|m| m.protocols.iter().any(|(known, _)| known == name));
        let fits = (self.members.is_empty() || join.protocol_type == self.protocol_type)
            && join.protocols.len() <= MOST_PROTOCOLS
            && join.protocols.iter().any(|(name, _)| all_know(name));
        if join.protocol_type.is_empty() || !fits {
            return Err(E::InconsistentGroupProtocol);
        }
        match &join.instance_id {
            Some(instance) if !join.member_id.is_empty() => self.check_instance(&join.member_id, instance),
            _ => Ok(()),
        }
    }

    fn join_new(&mut self, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) -> Result<(), Refusal> {
        let known_as = join.instance_id.as_ref().and_then(|instance| self.find_instance(instance));
        if let Some(old) = known_as {
            self.replace(&old, join, waiter, now, out);
            return Ok(());
        }
        if self.members.len() + self.pending.len() >= MOST_MEMBERS {
            return Err((E::GroupMaxSizeReached, String::new()));
        }
        let id = new_id(join.instance_id.as_ref().unwrap_or(&join.client_id));
        if join.instance_id.is_none() && join.must_ask_for_id {
            self.pending.insert(id.clone(), now + join.session_timeout);
            return Err((E::MemberIdRequired, id));
        }
        self.add(id, join, waiter, now, out);
        Ok(())
    }

    fn join_again(&mut self, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) -> Result<(), Refusal> {
        let id = join.member_id.clone();
        let Some(member) = self.members.get_mut(&id) else { return Err((E::UnknownMemberId, id)) };
        let changed = member.protocols != join.protocols;
        member.update(join, now);
        let begin = match self.phase {
            Phase::Stable => changed || id == self.leader,
            Phase::Completing(_) => changed,
            Phase::Preparing(_) | Phase::Empty => false,
        };
        if !begin && matches!(self.phase, Phase::Stable | Phase::Completing(_)) {
            // The answer to its join was lost, and is still good.
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

    fn add(&mut self, id: String, join: Join, waiter: Waiter, now: Instant, out: &mut Vec<Answer>) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        let mut member = Member {
            instance_id: join.instance_id.clone(),
            client_id: String::new(),
            host: String::new(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            expires: now,
            joining: Some(waiter),
            syncing: None,
            synced: false,
            bytes: 0,
        };
        member.update(join, now);
        self.members.insert(id, member);
        self.rebalance(now, out);
    }

    /// A static member comes back without its ID: it gets a new one, and the holder of the old one is fenced.
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
        member.update(join, now);
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

    /// What the member `id` learns of the current generation.
    pub(super) fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let all = self
            .members
            .iter()
            .map(|(id, member)| (id.clone(), member.instance_id.clone(), member.metadata_for(&self.protocol)));
        Joined {
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            members: if id == self.leader { all.collect() } else { Vec::new() },
            skip_assignment,
        }
    }
}

impl Member {
    /// Takes over what a member joins with.
    fn update(&mut self, join: Join, now: Instant) {
        let names = self.instance_id.as_ref().map_or(0, String::len) + join.client_id.len() + join.host.len();
        self.bytes = ENTRY_OVERHEAD + names + join.bytes();
        self.client_id = join.client_id;
        self.host = join.host;
        self.protocols = join.protocols;
        self.rebalance_timeout = join.rebalance_timeout;
        self.session_timeout = join.session_timeout;
        self.expires = now + join.session_timeout;
    }
}
