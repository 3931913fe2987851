//! Rows of CSV: those on one line are found by their separators and quotes, and what is not so simple is left to
//! `csv-core`.

use crate::error::InputPlace;
use crate::input::BadLine;
use crate::input::frame::{Frame, too_long};
use csv_core::ReadRecordResult;
use std::ops::ControlFlow;

/// Tells rows apart.
#[derive(Debug)]
pub struct CsvSplitter {
    separator: u8,
    reader: csv_core::Reader,
    plain: Plain,
    /// Whether a carriage return alone was seen to end a row, or stands within quotes.
    has_lone_cr: bool,
    /// The fields of a row, one behind the other.
    bytes: Vec<u8>,
    len: usize,
    ends: Vec<usize>,
    fields: usize,
    limit: usize,
    /// Line breaks before what is read next.
    lines: u64,
    /// The line in which the row begins that is being read.
    begin: Option<u64>,
}

/// The fields of a row on one line, one behind the other, and where they end.
#[derive(Debug, Default)]
struct Plain {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvSplitter {
    /// Rows of fields with `separator` between them, which have `limit` bytes at most.
    pub fn new(separator: u8, limit: usize) -> Self {
        Self {
            separator,
            reader: csv_core::ReaderBuilder::new().delimiter(separator).build(),
            plain: Plain::default(),
            has_lone_cr: false,
            bytes: vec![0; 4096],
            len: 0,
            ends: vec![0; 64],
            fields: 0,
            limit,
            lines: 0,
            begin: None,
        }
    }

    pub(in crate::input) fn feed<B>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Frame<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, BadLine> {
        let mut rest = chunk;
        // An empty input would be the end to csv-core.
        while !rest.is_empty() {
            // The first line may have a byte order mark, which csv-core knows.
            if self.begin.is_none() && self.lines > 0 {
                // What csv-core would skip: blank lines, and the second half of CR LF.
                rest = &rest[self.count_blank(rest)..];
                if rest.is_empty() {
                    break;
                }
                if let Some(used) = self.plain_row(rest) {
                    let Plain { bytes, ends } = &self.plain;
                    self.lines += 1;
                    let flow = each(Frame { bytes, ends, place: InputPlace::Line(self.lines) });
                    if flow.is_break() {
                        return Ok(flow);
                    }
                    rest = &rest[used..];
                    continue;
                }
            }
            let (bytes, ends) = (&mut self.bytes[self.len..], &mut self.ends[self.fields..]);
            let (result, used, written, fields) = self.reader.read_record(rest, bytes, ends);
            self.count_lines(&rest[..used]);
            rest = &rest[used..];
            self.len += written;
            self.fields += fields;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull => {
                    too_long(self.len, self.limit)?;
                    self.bytes.resize(2 * self.bytes.len(), 0);
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    let place = InputPlace::Line(self.begin.take().unwrap_or(self.lines));
                    let (len, fields) = (std::mem::take(&mut self.len), std::mem::take(&mut self.fields));
                    let flow = each(Frame { bytes: &self.bytes[..len], ends: &self.ends[..fields], place });
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
            }
        }
        too_long(self.len, self.limit).map(ControlFlow::Continue)
    }

    /// Reads a row at the beginning of `rest` that is whole and on one line into `plain`. Returns its length, with the
    /// line break; `None` for what csv-core is to look at: all from a lone carriage return on, and quotes where none
    /// should be.
    #[inline]
    fn plain_row(&mut self, rest: &[u8]) -> Option<usize> {
        if self.has_lone_cr {
            return None;
        }
        let Plain { bytes, ends } = &mut self.plain;
        bytes.clear();
        ends.clear();
        let mut at = 0;
        loop {
            let end = if rest.get(at) == Some(&b'"') {
                unquote(rest, at + 1, bytes)?
            } else {
                let end = at + memchr::memchr3(self.separator, b'\n', b'"', &rest[at..])?;
                let is_last = rest[end] == b'\n' && end > at && rest[end - 1] == b'\r';
                let end = end - usize::from(is_last);
                bytes.extend_from_slice(&rest[at..end]);
                end
            };
            ends.push(bytes.len());
            at = end + 1;
            match rest.get(end)? {
                separator if *separator == self.separator => {}
                b'\n' => break,
                b'\r' if rest.get(at) == Some(&b'\n') => {
                    at += 1;
                    break;
                }
                _ => return None,
            }
        }
        let is_crlf = at >= 2 && rest[at - 2] == b'\r';
        self.has_lone_cr = memchr::memchr(b'\r', &rest[..at - 1 - usize::from(is_crlf)]).is_some();
        (!self.has_lone_cr).then_some(at)
    }

    /// Counts the line breaks that `bytes` begins with, which belong to no row; returns how many bytes they have.
    #[inline]
    fn count_blank(&mut self, bytes: &[u8]) -> usize {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.lines += memchr::memchr_iter(b'\n', &bytes[..blank]).count() as u64;
        blank
    }

    #[inline]
    fn count_lines(&mut self, used: &[u8]) {
        let mut used = used;
        if self.begin.is_none() {
            used = &used[self.count_blank(used)..];
            self.begin = (!used.is_empty()).then_some(self.lines + 1);
        }
        self.lines += memchr::memchr_iter(b'\n', used).count() as u64;
    }

    pub(in crate::input) fn finish<B>(
        &mut self,
        each: impl FnMut(Frame<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, BadLine> {
        // The last row needs no line break; where one does not end the row, it stands within quotes.
        let flow = self.feed(b"\n", each)?;
        if self.len > 0 || self.fields > 0 {
            return Err(BadLine::unusable("a quoted field is not closed".to_owned()));
        }
        self.reader.reset();
        (self.lines, self.begin, self.has_lone_cr) = (0, None, false);
        Ok(flow)
    }

    pub(in crate::input) fn place(&self) -> InputPlace {
        InputPlace::Line(self.begin.unwrap_or(self.lines + 1))
    }
}

/// Appends the field whose opening quote stands before `from`; returns where its closing quote has ended. `None` where the
/// field is not closed on its line.
#[inline]
fn unquote(rest: &[u8], mut from: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        let quote = from + memchr::memchr2(b'"', b'\n', &rest[from..])?;
        if rest[quote] == b'\n' {
            return None;
        }
        out.extend_from_slice(&rest[from..quote]);
        if rest.get(quote + 1) != Some(&b'"') {
            return Some(quote + 1);
        }
        out.push(b'"');
        from = quote + 2;
    }
}
