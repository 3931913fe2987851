//! Rebalancing: all members join again, then a generation begins; members that are silent or late are removed.

use super::{Answer, Group, Member, Phase};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

impl Group {
    /// Has all members join again; a generation begins at once if they have.
    pub(super) fn rebalance(&mut self, now: Instant, out: &mut Vec<Answer>) {
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

    /// Begins a generation of the members that have joined.
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

    pub(super) fn remove(&mut self, id: &str, now: Instant, out: &mut Vec<Answer>) {
        let Some(member) = self.members.remove(id) else { return };
        out.extend(member.joining.map(|waiter| Answer::Joined(waiter, Err((E::UnknownMemberId, id.to_owned())))));
        out.extend(member.syncing.map(|waiter| Answer::Synced(waiter, Err(E::UnknownMemberId))));
        self.rebalance(now, out);
    }

    /// Completes a rebalance that no member holds up any longer.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Answer>) {
        if matches!(self.phase, Phase::Preparing(_)) {
            self.rebalance(now, out);
        }
    }

    /// Does what is due: members and member IDs expire, rebalances end without those that are late.
    pub(in crate::local) fn tick(&mut self, now: Instant) -> Vec<Answer> {
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

    /// When [`Group::tick`] next has something to do.
    pub(in crate::local) fn due(&self) -> Option<Instant> {
        let waiting = |m: &Member| m.joining.is_some() || m.syncing.is_some();
        let members = self.members.values().filter(|m| !waiting(m)).map(|m| m.expires);
        let phase = match self.phase {
            Phase::Preparing(until) | Phase::Completing(until) => Some(until),
            Phase::Empty | Phase::Stable => None,
        };
        members.chain(self.pending.values().copied()).chain(phase).min()
    }
}
