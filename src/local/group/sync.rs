//! What members do between rebalances: they ask for their assignment, send heartbeats and leave.

use super::{Answer, Group, Member, Phase, Sync, Waiter};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use std::time::Instant;

impl Group {
    /// Whether the static member `instance` is `id`.
    pub(super) fn check_instance(&self, id: &str, instance: &str) -> Result<(), E> {
        match self.find_instance(instance) {
            None => Err(E::UnknownMemberId),
            Some(known) if known != id => Err(E::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// The member `id`, if it holds its instance ID and is of this generation.
    pub(super) fn check(&mut self, id: &str, instance: Option<&str>, generation: i32) -> Result<&mut Member, E> {
        if let Some(instance) = instance {
            self.check_instance(id, instance)?;
        }
        let current = self.generation;
        let member = self.members.get_mut(id).ok_or(E::UnknownMemberId)?;
        if generation == current { Ok(member) } else { Err(E::IllegalGeneration) }
    }

    /// A member asks for its assignment; the leader brings all of them.
    pub(in crate::local) fn sync(&mut self, sync: Sync, waiter: Waiter, now: Instant) -> Vec<Answer> {
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

    /// A member is alive.
    pub(in crate::local) fn heartbeat(
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

    /// A member leaves; it is found by its ID, or else by its instance ID.
    pub(in crate::local) fn leave(
        &mut self,
        id: &str,
        instance: Option<&str>,
        now: Instant,
    ) -> (Result<(), E>, Vec<Answer>) {
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
}
