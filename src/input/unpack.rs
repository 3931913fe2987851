//! Compressed input, recognized by its first bytes and unpacked while it is read.

use std::io::{self, BufRead, BufReader, Read};

/// What is read from a source at once when it is compressed.
const COMPRESSED: usize = 64 << 10;
/// The largest window of a zstd frame: what the `zstd` command accepts without being asked for more.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Formats that are recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
    Lz4,
}

impl Packing {
    const MAGIC: [(&'static [u8], Self); 3] =
        [(b"\x1f\x8b\x08", Self::Gzip), (b"\x28\xb5\x2f\xfd", Self::Zstd), (b"\x04\x22\x4d\x18", Self::Lz4)];

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

/// Reads `source`, unpacked if it is compressed. Reads its first bytes to see that: as few as it takes.
///
/// # Errors
/// The system's.
pub(super) fn unpacked<R: Read + 'static>(mut source: R) -> io::Result<Box<dyn Read>> {
    let mut first = Vec::new();
    let packing = loop {
        let known = Packing::MAGIC.iter().find(|(magic, _)| first.starts_with(magic));
        let is_undecided = || Packing::MAGIC.iter().any(|(magic, _)| magic.starts_with(&first));
        if known.is_some() || !is_undecided() {
            break known.map(|(_, packing)| *packing);
        }
        let mut byte = [0];
        match source.read(&mut byte) {
            Ok(0) => break None,
            Ok(_) => first.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    };
    let whole = io::Cursor::new(first).chain(source);
    let Some(packing) = packing else { return Ok(Box::new(whole)) };
    let source = Some(BufReader::with_capacity(COMPRESSED, whole));
    let compressed = Compressed { source, taken: 0, has_ended: false };
    Ok(match packing {
        Packing::Gzip => Box::new(Unpacking { decoder: flate2::bufread::MultiGzDecoder::new(compressed), packing }),
        Packing::Lz4 => Box::new(Unpacking { decoder: Lz4::new(compressed), packing }),
        Packing::Zstd => {
            let mut decoder = structured_zstd::decoding::StreamingDecoder::new(compressed);
            decoder.decoder_mut().set_max_window_size(ZSTD_WINDOW).map_err(|e| io::Error::other(e.to_string()))?;
            Box::new(Unpacking { decoder, packing })
        }
    })
}

/// The compressed bytes, and how many of them were taken.
struct Compressed<R> {
    /// `None` once another has taken it over.
    source: Option<BufReader<R>>,
    taken: u64,
    has_ended: bool,
}

impl<R: Read> Read for Compressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(into.len());
        into[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<R: Read> BufRead for Compressed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = match &mut self.source {
            Some(source) => source.fill_buf()?,
            None => &[],
        };
        self.has_ended = available.is_empty();
        Ok(available)
    }

    fn consume(&mut self, len: usize) {
        if let Some(source) = &mut self.source {
            source.consume(len);
        }
        self.taken += len as u64;
    }
}

/// A decoder that lends its source.
trait Decoder: Read {
    type Source: Read;

    fn source(&self) -> &Compressed<Self::Source>;
}

impl<R: Read> Decoder for flate2::bufread::MultiGzDecoder<Compressed<R>> {
    type Source = R;

    fn source(&self) -> &Compressed<R> {
        self.get_ref()
    }
}

impl<R: Read> Decoder
    for structured_zstd::decoding::StreamingDecoder<Compressed<R>, structured_zstd::decoding::FrameDecoder>
{
    type Source = R;

    fn source(&self) -> &Compressed<R> {
        self.get_ref()
    }
}

/// lz4 frames, one after the other, each with a decoder of its own.
struct Lz4<R: Read> {
    frame: lz4_flex::frame::FrameDecoder<Compressed<R>>,
}

impl<R: Read> Lz4<R> {
    fn new(source: Compressed<R>) -> Self {
        Self { frame: lz4_flex::frame::FrameDecoder::new(source) }
    }
}

impl<R: Read> Read for Lz4<R> {
    /// The decoder returns 0 at the end of a frame, but also where a frame is cut off: then it has asked for more.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.frame.get_mut().has_ended = false;
            let len = self.frame.read(into)?;
            let source = self.frame.get_mut();
            if len > 0 || into.is_empty() {
                return Ok(len);
            }
            if source.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            // Another frame may have blocks of another size, which the decoder is not prepared for.
            let none = Compressed { source: None, taken: source.taken, has_ended: false };
            let source = std::mem::replace(source, none);
            *self = Self::new(source);
        }
    }
}

impl<R: Read> Decoder for Lz4<R> {
    type Source = R;

    fn source(&self) -> &Compressed<R> {
        self.frame.get_ref()
    }
}

/// Unpacks, and says where the compressed bytes are wrong.
struct Unpacking<D> {
    decoder: D,
    packing: Packing,
}

impl<D: Decoder> Read for Unpacking<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(into).map_err(|e| {
            if e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            let (name, source) = (self.packing.name(), self.decoder.source());
            if source.has_ended {
                return io::Error::other(format!("{name} data ends early, at byte {}", source.taken));
            }
            io::Error::other(format!("{name} data is damaged near byte {}: {e}", source.taken))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(packing: Packing, bytes: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => structured_zstd::encoding::compress_slice_to_vec(
                bytes,
                structured_zstd::encoding::CompressionLevel::Level(3),
            ),
            Packing::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        unpacked(io::Cursor::new(bytes.to_vec()))?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn text() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect()
    }

    #[test]
    fn what_is_compressed_is_unpacked_frame_after_frame() {
        let text = text();
        for (_, packing) in Packing::MAGIC {
            let twice = [packed(packing, &text), packed(packing, b"more")].concat();
            assert_eq!(read(&twice).unwrap(), [&text[..], b"more"].concat(), "{packing:?}");
        }
    }

    #[test]
    fn what_is_not_compressed_stays_as_it_is() {
        for plain in [&b""[..], b"\x1f", b"\x1f\x8b", b"\x28\xb5\x2f", b"\x04\x22\x4dx", b"text\n"] {
            assert_eq!(read(plain).unwrap(), plain);
        }
    }

    #[test]
    fn truncated_data_is_named_by_its_byte() {
        let text = text();
        for (magic, packing) in Packing::MAGIC {
            let whole = packed(packing, &text);
            for len in [magic.len(), magic.len() + 1, 20, whole.len() / 2, whole.len() - 1] {
                let Err(error) = read(&whole[..len]) else { panic!("{packing:?} of {len} bytes is read") };
                let error = error.to_string();
                assert!(error.ends_with(&format!("ends early, at byte {len}")), "{packing:?} of {len}: {error}");
            }
        }
    }

    #[test]
    fn damaged_data_is_refused() {
        let mut damaged = packed(Packing::Gzip, &text());
        let middle = damaged.len() / 2;
        damaged[middle..middle + 64].fill(0x55);
        let error = read(&damaged).map(|read| read.len()).unwrap_err().to_string();
        assert!(error.contains("gzip data is damaged near byte"), "{error}");
    }
}
