//! Unpacks what was fetched: off the network thread, in steps that keep to the budget.

use super::super::net::Network;
use super::super::wire::{Batches, Corrupt};
use super::budget::{Budget, Bytes, Held};
use super::positions::AssignmentId;
use crate::engine::platform::Platform;
use crate::error::{Error, Result};
use crate::record::{Batch, TopicPartition};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A step ends when so much is unpacked, or with its first batch where that is larger.
const STEP: usize = 1 << 20;

/// Records of one partition, and what went wrong after them.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) id: AssignmentId,
    pub(super) batches: Vec<Batch>,
    pub(super) failed: Option<Error>,
    pub(super) held: Held,
}

/// What one answer brought of one partition, unpacked step by step as the budget allows.
#[derive(Debug)]
pub(super) struct Decoding {
    /// Its place among the deliveries.
    delivery: u64,
    steps: mpsc::UnboundedReceiver<Decoded>,
}

/// What is to be unpacked.
pub(super) struct Packed {
    pub(super) id: AssignmentId,
    pub(super) of: TopicPartition,
    pub(super) batches: Batches,
    /// Bytes as they were fetched.
    pub(super) bytes: usize,
}

impl Packed {
    /// Decodes all at once: nothing is compressed, so that it takes no more memory than it takes already.
    pub(super) fn decode(mut self, budget: &Arc<Budget>) -> Decoded {
        let (batches, failed) = take(&mut self.batches, &self.of, usize::MAX);
        Decoded { id: self.id, batches, failed, held: budget.hold(Bytes::Unpacked, self.bytes) }
    }

    /// Decodes on the blocking pool.
    pub(super) fn decode_in_steps(self, platform: Platform, budget: Arc<Budget>, delivery: u64) -> Decoding {
        let (sent, steps) = mpsc::unbounded_channel();
        // Before the next fetch is sent.
        let packed = budget.hold(Bytes::Packed, self.bytes);
        tokio::spawn(async move {
            // Err: the runtime ends, or the command is gone.
            let _ = self.run(&platform, &budget, delivery, &sent).await;
            drop(packed);
        });
        Decoding { delivery, steps }
    }

    async fn run(
        mut self,
        platform: &Platform,
        budget: &Arc<Budget>,
        delivery: u64,
        sent: &mpsc::UnboundedSender<Decoded>,
    ) -> Result<(), ()> {
        loop {
            let mut held = budget.unpack(delivery, STEP).await;
            let step = move || {
                let (batches, failed) = take(&mut self.batches, &self.of, STEP);
                (self, batches, failed)
            };
            let (rest, batches, failed) = platform.run_blocking(step).await.map_err(drop)?;
            if batches.is_empty() && failed.is_none() {
                return Ok(());
            }
            held.set(batches.iter().map(|batch| batch.records.len()).sum());
            sent.send(Decoded { id: rest.id, batches, failed, held }).map_err(drop)?;
            self = rest;
        }
    }
}

impl Decoding {
    /// The next step; `None` after the last. Blocks until it is unpacked.
    ///
    /// # Errors
    /// A simulation ends first.
    pub(super) fn next(&mut self, network: &Network, budget: &Budget) -> Result<Option<Decoded>> {
        budget.set_awaited(Some(self.delivery));
        let step = network.wait(self.steps.recv());
        budget.set_awaited(None);
        step
    }
}

/// The next batches, until they have `most` bytes of records.
fn take(from: &mut Batches, of: &TopicPartition, most: usize) -> (Vec<Batch>, Option<Error>) {
    let (mut batches, mut bytes) = (Vec::new(), 0_usize);
    while bytes < most {
        match from.next() {
            None => break,
            Some(Ok(batch)) => {
                bytes = bytes.saturating_add(batch.records.len());
                batches.push(batch);
            }
            Some(Err(corrupt)) => return (batches, Some(describe(of, &corrupt))),
        }
    }
    (batches, None)
}

/// A corrupt batch as an error that names where it is.
pub(super) fn describe(of: &TopicPartition, corrupt: &Corrupt) -> Error {
    Error::Corrupt { partition: of.clone(), offset: corrupt.base_offset, why: corrupt.to_string() }
}
