//! Bytes only: record batches and message sets, both ways, and their compression. Uses only `record`.

pub mod compression;
mod decode;
mod decoder;
mod encode;
pub mod message;
mod message_set;
#[cfg(test)]
mod zstd_agrees;

pub use crate::record::{Codec, Compression, Isolation};
pub use decode::{Batches, RawBatch, batches};
pub use decoder::{Corrupt, Damage, Decoder};
pub use encode::{BatchBuilder, HEADER_LEN, ProducerStamp, Sealed, cut, view};

/// A duration as messages carry it: in milliseconds, up to `i32::MAX` of them.
pub fn millis(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Where the part of a batch begins that its checksum covers: the attributes.
const CRC_FROM: usize = 21;
/// The broker set the timestamps (KIP-32).
const APPEND_TIME: i16 = 1 << 3;
/// Part of a transaction (KIP-98).
const TRANSACTIONAL: i16 = 1 << 4;
/// Holds a transaction marker, not records (KIP-98).
const CONTROL: i16 = 1 << 5;
