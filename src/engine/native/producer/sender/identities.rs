//! Producer IDs that are used up, and partitions that join a transaction.

use super::{Event, Sender, TransactionVersion, identity};
use crate::engine::native::net::clock;
use crate::error::{Action, Error, Subject};
use kafka_protocol::error::ResponseError;
use std::collections::BTreeMap;
use std::time::Instant;

/// The part of `delivery.timeout.ms` in which partitions must be added to a transaction.
const ADDING_SHARE: f32 = 0.8;

impl Sender {
    /// Adds the partitions that have something to send to the transaction, where the first batch does not do that.
    pub(super) fn add_partitions(&mut self) {
        let (Some(transaction), Some(identity)) = (&self.config.transaction, self.identity.producer) else { return };
        if self.adding || self.identity.transactions == Some(TransactionVersion::Two) {
            return;
        }
        let waits = |slot: &usize| !self.slots[*slot].queue.is_empty() && !self.added.contains(slot);
        let slots: Vec<usize> = (0..self.slots.len()).filter(waits).collect();
        if slots.is_empty() {
            return;
        }
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for &slot in &slots {
            topics.entry(self.slots[slot].topic.to_string()).or_default().push(self.slots[slot].partition);
        }
        self.adding = true;
        let (cluster, id) = (self.cluster.clone(), transaction.id.clone());
        // Before the batches expire: what they wait for is what failed.
        let deadline = clock::now() + self.config.delivery_timeout.mul_f32(ADDING_SHARE);
        self.events.spawn(async move {
            let added = identity::add_partitions(&cluster, &id, identity, topics, deadline).await;
            Event::Added(slots, added)
        });
    }

    pub(super) fn renew_identity(&mut self, now: Instant) {
        let is_needed = self.slots.iter().any(|slot| slot.queue.needs_producer());
        if !is_needed || self.is_renewing || self.renew_at.is_some_and(|at| at > now) {
            return;
        }
        if let Some(transaction) = &self.config.transaction {
            // A part of the transaction may be lost: all that can be done is to abort it.
            return self.abandon({
                let subject = Subject::TransactionalId(transaction.id.clone());
                Error::kafka(Action::Produce, subject, ResponseError::OutOfOrderSequenceNumber)
            });
        }
        self.is_renewing = true;
        let cluster = self.cluster.clone();
        let deadline = clock::now() + self.config.delivery_timeout;
        self.events.spawn(async move { Event::Identity(identity::take(&cluster, None, deadline).await) });
    }
}
