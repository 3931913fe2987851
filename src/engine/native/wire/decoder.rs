//! What is decoded and how far, and what can be wrong with it.

use super::Isolation;
use crate::record::{Offset, PartitionId};
use std::sync::Arc;

/// A batch that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("{damage}")]
pub struct Corrupt {
    /// The batch's first offset, as its header has it.
    pub base_offset: Offset,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What is wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The checksum does not fit.
    #[error("the batch fails its CRC-32C check")]
    Checksum,
    /// A length, count or offset that cannot be.
    #[error("the batch is malformed: {0}")]
    Malformed(&'static str),
    /// An unknown magic byte.
    #[error("the batch has format {0}; kpipe supports 0, 1 and 2")]
    Magic(u8),
    /// The codec refused it, or it unpacks to too much.
    #[error("the batch cannot be decompressed ({codec}): {source}")]
    Compression {
        /// The codec's name.
        codec: &'static str,
        /// Why the codec refused it.
        source: std::io::Error,
    },
}

impl Corrupt {
    pub(super) fn malformed(base_offset: Offset, what: &'static str) -> Self {
        Self { base_offset, damage: Damage::Malformed(what) }
    }
}

/// What stays the same for all batches of one fetched partition.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The offset that was fetched from: records below it are not lent.
    pub from: Offset,
    /// Records from here on are not lent.
    pub until: Offset,
    /// Which records of transactions are shown.
    pub isolation: Isolation,
    /// Producers and the first offsets of their aborted transactions, as the fetch listed them.
    pub aborted: Vec<(i64, Offset)>,
    /// How many bytes one batch may unpack to.
    pub max_unpacked: usize,
}
