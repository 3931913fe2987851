//! Chunks → lines → records: the plain way in.

use super::frame::too_long;
use super::{BadLine, Decoded};
use crate::codec::Encoding;
use crate::record::{HeaderBuf, RecordRef, Timestamp};
use memchr::memmem::Finder;
use std::ops::ControlFlow;

/// Cuts chunks into lines at a delimiter, which may stand across two chunks.
#[derive(Debug)]
pub struct Splitter {
    delimiter: Vec<u8>,
    finder: Finder<'static>,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    limit: usize,
}

impl Splitter {
    /// Cuts at `delimiter`, of one byte or more; a line may have `limit` bytes.
    pub fn new(delimiter: &[u8], limit: usize) -> Self {
        Self { delimiter: delimiter.to_vec(), finder: Finder::new(delimiter).into_owned(), carry: Vec::new(), limit }
    }

    /// Lends the lines that end in `chunk`, in order, until `each` breaks.
    ///
    /// # Errors
    /// A line has more than the limit's bytes.
    pub fn feed<B>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, BadLine> {
        let mut rest = chunk;
        if !self.carry.is_empty() {
            let Some((end, skip)) = self.end_of_carried(rest) else {
                self.carry.extend_from_slice(rest);
                return too_long(self.carry.len(), self.limit).map(ControlFlow::Continue);
            };
            // The delimiter may have begun in what was carried.
            let from_chunk = end.saturating_sub(self.carry.len());
            self.carry.truncate(end);
            self.carry.extend_from_slice(&rest[..from_chunk]);
            too_long(self.carry.len(), self.limit)?;
            let flow = each(&self.carry);
            self.carry.clear();
            rest = &rest[skip..];
            if flow.is_break() {
                return Ok(flow);
            }
        }
        if let [byte] = self.delimiter[..] {
            let mut start = 0;
            for end in memchr::memchr_iter(byte, rest) {
                let flow = each(&rest[start..end]);
                if flow.is_break() {
                    return Ok(flow);
                }
                start = end + 1;
            }
            rest = &rest[start..];
        } else {
            while let Some(end) = self.finder.find(rest) {
                let flow = each(&rest[..end]);
                if flow.is_break() {
                    return Ok(flow);
                }
                rest = &rest[end + self.delimiter.len()..];
            }
        }
        self.carry.extend_from_slice(rest);
        too_long(self.carry.len(), self.limit).map(ControlFlow::Continue)
    }

    /// Where the carried line ends, counting from its start, and how much of `chunk` it uses with its delimiter.
    fn end_of_carried(&self, chunk: &[u8]) -> Option<(usize, usize)> {
        let width = self.delimiter.len();
        let overlap = self.carry.len().min(width - 1);
        if overlap > 0 {
            let from = self.carry.len() - overlap;
            let seam = [&self.carry[from..], &chunk[..chunk.len().min(width - 1)]].concat();
            if let Some(at) = self.finder.find(&seam) {
                return Some((from + at, at + width - overlap));
            }
        }
        self.finder.find(chunk).map(|at| (self.carry.len() + at, at + width))
    }

    /// The last line, when it had no delimiter.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.carry)).filter(|line| !line.is_empty())
    }
}

/// Reads a line as a value, or as key and value.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Splits key from value, at its first occurrence.
    pub key_delimiter: Option<Vec<u8>>,
    /// The key of every record.
    pub key: Option<Vec<u8>>,
    /// Whether an empty key or value is null.
    pub empty_is_null: bool,
    /// The headers of every record.
    pub headers: HeaderBuf,
    /// The timestamp of every record.
    pub timestamp: Option<Timestamp>,
    /// What stands for a key in a line.
    pub key_as: Encoding,
    /// What stands for a value in a line.
    pub value_as: Encoding,
    /// The bytes that the text of a line stands for.
    pub decoded: Decoded,
}

impl LineReader {
    /// The record of `line`.
    ///
    /// # Errors
    /// A key or value is not what it should be.
    #[inline]
    pub fn read<'a>(&'a mut self, line: &'a [u8]) -> Result<RecordRef<'a>, BadLine> {
        let (key, value) = match &self.key_delimiter {
            None => (self.key.as_deref(), line),
            Some(delimiter) => match find(line, delimiter) {
                Some(at) => (Some(&line[..at]), &line[at + delimiter.len()..]),
                None => (self.key.as_deref(), line),
            },
        };
        let keep = |bytes: &&[u8]| !(self.empty_is_null && bytes.is_empty());
        let (key, value) = (key.filter(keep), Some(value).filter(keep));
        let (key, value) = self.decoded.decode(key, self.key_as, value, self.value_as)?;
        Ok(RecordRef { offset: 0, timestamp: self.timestamp, key, value, headers: self.headers.as_headers() })
    }
}

#[inline]
fn find(line: &[u8], delimiter: &[u8]) -> Option<usize> {
    match delimiter {
        [byte] => memchr::memchr(*byte, line),
        _ => memchr::memmem::find(line, delimiter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(input: &[u8], delimiter: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(delimiter, usize::MAX);
        let mut lines = Vec::new();
        let mut rest = input;
        for cut in cuts.iter().map(|cut| cut + 1).chain([usize::MAX]) {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            let flow = splitter.feed(chunk, |line| {
                lines.push(line.to_vec());
                ControlFlow::<()>::Continue(())
            });
            assert!(flow.unwrap().is_continue());
            rest = after;
        }
        lines.extend(splitter.finish());
        lines
    }

    /// The plain way to say it.
    fn expected(input: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut rest = input;
        while let Some(at) = memchr::memmem::find(rest, delimiter) {
            lines.push(rest[..at].to_vec());
            rest = &rest[at + delimiter.len()..];
        }
        if !rest.is_empty() {
            lines.push(rest.to_vec());
        }
        lines
    }

    proptest! {
        #[test]
        fn chunks_do_not_show(
            input in prop::collection::vec(prop::sample::select(&b"ab\n\r"[..]), 0..60),
            delimiter in prop::sample::select(vec![&b"\n"[..], b"\r\n", b"aab", b"aa"]),
            cuts in prop::collection::vec(0..7usize, 0..20),
        ) {
            prop_assert_eq!(split(&input, delimiter, &cuts), expected(&input, delimiter));
        }
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_it_fills_memory() {
        let mut splitter = Splitter::new(b"\n", 10);
        let mut feed = || splitter.feed(b"123456", |_| ControlFlow::<()>::Continue(()));
        assert!(feed().is_ok());
        assert_eq!(feed().unwrap_err().byte, Some(11));
    }

    #[test]
    fn keys_are_split_at_the_first_delimiter() {
        let mut reader = LineReader { key_delimiter: Some(b":".to_vec()), empty_is_null: true, ..Default::default() };
        let mut parts = |line| {
            let record = reader.read(line).unwrap();
            (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec))
        };
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(parts(b"k:v:w"), (bytes("k"), bytes("v:w")));
        assert_eq!(parts(b"none"), (None, bytes("none")));
        assert_eq!(parts(b"k:"), (bytes("k"), None));
        assert_eq!(parts(b":v"), (None, bytes("v")));
    }

    #[test]
    fn text_stands_for_the_bytes_it_encodes() {
        let mut reader = LineReader {
            key_delimiter: Some(b":".to_vec()),
            key_as: Encoding::Hex,
            value_as: Encoding::named("i16").unwrap(),
            ..Default::default()
        };
        let record = reader.read(b"00ff:-2").unwrap();
        assert_eq!((record.key, record.value), (Some(&[0, 0xff][..]), Some(&[0xff, 0xfe][..])));
        assert_eq!(reader.read(b"00ff:x").unwrap_err().what, "the value: expected a signed 16-bit integer");
        assert_eq!(reader.read(b"0:1").unwrap_err().what, "the key: expected an even number of hexadecimal digits");
    }
}
