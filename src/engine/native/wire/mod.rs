//! Bytes only: record batches and message sets, both ways, and their compression. Knows nobody but `record`.

pub mod compression;
mod decode;
mod encode;
pub mod message;
mod message_set;
#[cfg(test)]
mod zstd_agrees;

pub use compression::{Codec, Compression};
pub use decode::{Batches, Corrupt, Damage, Decoder, Isolation, RawBatch, batches};
pub use encode::{BatchBuilder, HEADER_LEN, ProducerStamp, Sealed, cut, view};

/// Where the part of a batch begins that its checksum covers: the attributes.
const CRC_FROM: usize = 21;
/// Bits of a batch's attributes that name its codec.
const CODEC_MASK: i16 = 0b111;
/// The broker set the timestamps (KIP-32).
const APPEND_TIME: i16 = 1 << 3;
/// Part of a transaction (KIP-98).
const TRANSACTIONAL: i16 = 1 << 4;
/// Holds a transaction marker, not records (KIP-98).
const CONTROL: i16 = 1 << 5;
