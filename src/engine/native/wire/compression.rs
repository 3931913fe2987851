//! The five codecs of Kafka, in pure Rust, each as the other clients write and read it.

use crate::record::{Codec, Compression};
use std::io::{self, Read, Write};

/// What one batch may unpack to where nobody sets another limit.
const MAX_UNPACKED: usize = 512 << 20;

/// What snappy-java ("xerial") puts before its blocks: magic, version 1, compatible with version 1.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Block size of snappy-java: its reader allocates as much.
const XERIAL_BLOCK: usize = 32 << 10;

impl Codec {
    /// [`Codec::decompress_within`] 512 MiB.
    ///
    /// # Errors
    /// As there.
    pub fn decompress(self, input: &[u8]) -> io::Result<Vec<u8>> {
        self.decompress_within(input, MAX_UNPACKED)
    }

    /// Decompresses one batch or one wrapper message.
    ///
    /// # Errors
    /// The bytes are not what the codec writes, or more than `limit` bytes come out.
    pub fn decompress_within(self, input: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(input.to_vec()),
            Self::Gzip => read_all(flate2::read::MultiGzDecoder::new(input), input.len() * 4, limit),
            Self::Snappy => unsnappy(input, limit),
            Self::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(input), input.len() * 4, limit),
            // Read through `take`: its own read_to_end would allocate whatever size a frame declares.
            Self::Zstd => read_all(structured_zstd::decoding::StreamingDecoder::new(input), input.len() * 4, limit),
        }
    }
}

impl Compression {
    /// Compresses the records of one batch.
    ///
    /// # Errors
    /// The codec failed; none is known to on memory.
    pub fn compress(self, input: &[u8]) -> io::Result<Vec<u8>> {
        match self.codec {
            Codec::None => Ok(input.to_vec()),
            Codec::Gzip => {
                let level = flate2::Compression::new(self.level.unwrap_or(6).clamp(1, 9) as u32);
                let mut out = flate2::write::GzEncoder::new(Vec::with_capacity(input.len() / 2), level);
                out.write_all(input)?;
                out.finish()
            }
            Codec::Snappy => snappy(input),
            Codec::Lz4 => {
                // Java reads 64 KiB blocks, independent of each other, and nothing else.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::with_capacity(input.len() / 2));
                out.write_all(input)?;
                out.finish().map_err(io::Error::other)
            }
            Codec::Zstd => {
                use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
                Ok(compress_slice_to_vec(input, CompressionLevel::Level(self.level.unwrap_or(3))))
            }
        }
    }
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn too_large(limit: usize) -> io::Error {
    invalid(format!("it decompresses to more than {limit} bytes (fetch.max.unpacked.bytes)"))
}

fn read_all(reader: impl Read, guess: usize, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(guess.min(16 << 20).min(limit));
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut out)?;
    if out.len() > limit { Err(too_large(limit)) } else { Ok(out) }
}

fn snappy(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER.len() + input.len() / 2);
    out.extend_from_slice(XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK)];
    for chunk in input.chunks(XERIAL_BLOCK) {
        let len = encoder.compress(chunk, &mut block)?;
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&block[..len]);
    }
    Ok(out)
}

fn unsnappy(input: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        unsnappy_block(input, &mut out, limit)?;
        return Ok(out);
    }
    let mut rest = input.get(XERIAL_HEADER.len()..).ok_or_else(|| invalid("snappy header cut short"))?;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        // snappy-java concatenates streams: a new header may stand where a block would.
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER.len()..).ok_or_else(|| invalid("snappy header cut short"))?;
            continue;
        }
        let len = u32::from_be_bytes(*len) as usize;
        let (block, after) = after.split_at_checked(len).ok_or_else(|| invalid("snappy block cut short"))?;
        unsnappy_block(block, &mut out, limit)?;
        rest = after;
    }
    if rest.is_empty() { Ok(out) } else { Err(invalid("snappy block cut short")) }
}

fn unsnappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let len = snap::raw::decompress_len(block)?;
    // Snappy writes at most 64 bytes for 3: a larger claim is false, and nothing is allocated for it.
    if len > block.len().saturating_mul(64) {
        return Err(invalid("snappy block claims more than it can hold"));
    }
    if out.len() + len > limit {
        return Err(too_large(limit));
    }
    let start = out.len();
    out.resize(start + len, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Compression> {
        let mut all = Vec::new();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            all.push(Compression { codec, level: None });
            all.extend(codec.levels().into_iter().flatten().map(|level| Compression { codec, level: Some(level) }));
        }
        all
    }

    #[test]
    fn every_codec_at_every_level_gives_back_what_it_got() {
        let text: Vec<u8> =
            (0..3000).flat_map(|n| format!("line {n} of some log, {}\n", n * 7919 % 1013).into_bytes()).collect();
        for compression in all() {
            for input in [&b""[..], b"x", &text] {
                let packed = compression.compress(input).unwrap();
                assert_eq!(compression.codec.decompress(&packed).unwrap(), input, "{compression:?}");
            }
        }
    }

    #[test]
    fn snappy_is_read_with_and_without_framing() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(Codec::Snappy.decompress(&raw).unwrap(), b"hello hello hello");
        let framed = Compression { codec: Codec::Snappy, level: None }.compress(b"hello").unwrap();
        assert_eq!(Codec::Snappy.decompress(&[&framed[..], &framed[..]].concat()).unwrap(), b"hellohello");
    }

    #[test]
    fn a_batch_that_unpacks_to_more_than_the_limit_is_refused() {
        let zeros = vec![0; 100_000];
        for compression in all().into_iter().filter(|compression| compression.codec != Codec::None) {
            let packed = compression.compress(&zeros).unwrap();
            assert_eq!(compression.codec.decompress_within(&packed, 100_000).unwrap().len(), 100_000);
            let refused = compression.codec.decompress_within(&packed, 99_999).unwrap_err();
            assert!(
                refused.to_string().contains("99999 bytes (fetch.max.unpacked.bytes)"),
                "{compression:?}: {refused}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decompressed_or_refused(bytes: Vec<u8>, which in 1..5usize) {
            let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][which];
            let _ = codec.decompress(&bytes);
        }

        #[test]
        fn a_damaged_batch_is_decompressed_or_refused(at: prop::sample::Index, to: u8, which in 1..5usize) {
            let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][which];
            let mut packed = Compression { codec, level: None }.compress(&b"some words ".repeat(50)).unwrap();
            let at = at.index(packed.len());
            packed[at] = to;
            let _ = codec.decompress(&packed);
        }
    }
}
