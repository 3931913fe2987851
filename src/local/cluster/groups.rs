//! Which broker coordinates a group, the requests that wait for one, and what groups take in memory.

use super::Cluster;
use crate::local::group::{Answer, Group, Waiter};
use crate::local::limits::MOST_GROUPS;
use crate::record::BrokerId;
use kafka_protocol::error::ResponseError as E;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often logs are checked for what is too old, as Kafka's `log.retention.check.interval.ms` is.
const RETENTION_CHECK: Duration = Duration::from_secs(1);

impl Cluster {
    /// The broker that coordinates a group or transactional ID; `None` when all are down.
    pub(in crate::local) fn coordinator(&self, of: &str) -> Option<BrokerId> {
        if let Some(moved) = self.moved.get(of).filter(|id| self.is_up(**id)) {
            return Some(*moved);
        }
        let sum: usize = of.bytes().map(usize::from).sum();
        let count = self.brokers.len();
        (0..count).map(|n| &self.brokers[(sum + n) % count]).find(|broker| broker.up).map(|broker| broker.id)
    }

    /// Coordinates `group` at `to` from now on.
    pub(in crate::local) fn move_coordinator(&mut self, group: &str, to: BrokerId) {
        self.moved.insert(group.to_owned(), to);
    }

    /// The group `id`, created if need be, once there is room for `bytes` more of its members and offsets.
    pub(in crate::local) fn group_with_room(&mut self, id: &str, bytes: usize) -> Result<&mut Group, E> {
        // A group takes a quarter of what records may, at most.
        let most = (self.retain_bytes / 4).max(1 << 20);
        let taken: usize = self.groups.iter().map(|(id, group)| id.len() + group.bytes()).sum();
        let is_new = !self.groups.contains_key(id);
        if taken + bytes > most || (is_new && self.groups.len() >= MOST_GROUPS) {
            // Those that hold nothing are forgotten before anything is refused.
            self.groups.retain(|of, group| of == id || !group.is_forgettable());
            let taken: usize = self.groups.iter().map(|(id, group)| id.len() + group.bytes()).sum();
            if taken + bytes > most || (is_new && self.groups.len() >= MOST_GROUPS) {
                return Err(E::GroupMaxSizeReached);
            }
        }
        Ok(self.groups.entry(id.to_owned()).or_default())
    }

    /// Registers a request that waits for a group's answer.
    pub(in crate::local) fn wait(&mut self) -> (Waiter, oneshot::Receiver<Answer>) {
        let (answered, answer) = oneshot::channel();
        self.next_waiter += 1;
        self.waiting.insert(self.next_waiter, answered);
        (self.next_waiter, answer)
    }

    /// Delivers the answers of groups to the requests that wait.
    pub(in crate::local) fn deliver(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let (Answer::Joined(waiter, _) | Answer::Synced(waiter, _)) = &answer;
            if let Some(waiting) = self.waiting.remove(waiter) {
                let _ = waiting.send(answer); // Err: its connection has closed
            }
        }
    }

    /// Does what is due in groups, transactions and logs; returns when there is more.
    pub(in crate::local) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let answers = self.groups.values_mut().flat_map(|group| group.tick(now)).collect();
        self.deliver(answers);
        let expired = self.transactions.expire(now);
        self.is_changed |= !expired.is_empty();
        self.finish(expired);
        if self.clean_at.is_none_or(|at| at <= now) {
            self.clean_at = self.clean().then(|| now + RETENTION_CHECK);
        }
        let retention = self.clean_at;
        let shrinking = self.shrink_in_sync(now);
        let groups = self.groups.values().filter_map(Group::due);
        groups.chain(self.transactions.due()).chain(retention).chain(shrinking).min()
    }
}
