//! What keeps batches from being delivered, reported in few lines however many partitions and attempts it concerns.

use crate::engine::native::net::Outage;
use crate::error::Error;
use std::collections::BTreeSet;

/// The partitions whose last attempt failed.
#[derive(Default)]
pub(super) struct Trouble {
    slots: BTreeSet<usize>,
    outage: Outage,
}

impl Trouble {
    /// An attempt failed for these slots.
    pub(super) fn failed(&mut self, slots: impl IntoIterator<Item = usize>, error: &Error) {
        self.slots.extend(slots);
        match self.slots.is_empty() {
            true => tracing::info!(error_name = error.name(), %error, "retrying"),
            false => drop(self.outage.failed(error)),
        }
    }

    /// A slot's batch was acknowledged.
    pub(super) fn ended(&mut self, slot: usize) {
        if self.slots.remove(&slot) && self.slots.is_empty() {
            self.outage.ended();
        }
    }

    /// Nothing of a slot is to be delivered any more: what failed is reported as such.
    pub(super) fn given_up(&mut self, slot: usize) {
        if self.slots.remove(&slot) && self.slots.is_empty() {
            self.outage = Outage::default();
        }
    }
}
