//! How the records of a batch are compressed.

/// Bits of a batch's attributes that name its codec.
const CODEC_MASK: i16 = 0b111;

/// How a batch is compressed; the numbers are those of the batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy in snappy-java's framing; raw blocks are read too.
    Snappy = 2,
    /// LZ4 frames, since Kafka 0.8.2.
    Lz4 = 3,
    /// Zstandard, since Kafka 2.1 (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// Every name `-z` takes.
    pub const NAMES: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

    /// The codec of a batch's attributes.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        Some(match attributes & CODEC_MASK {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// Its name, as `compression.type` spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The levels that `-z CODEC:LEVEL` takes, if the codec has any.
    pub fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(1..=22),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

/// A codec and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// `None` is the codec's own default: gzip 6, zstd 3.
    pub level: Option<i32>,
}
