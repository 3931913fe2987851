//! Rows of CSV: those with quotes are told apart and unquoted by `csv-core`, plain ones are found where they stand.

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
    /// Where the fields of a plain row end.
    plain: Vec<usize>,
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

impl CsvSplitter {
    /// Rows of fields with `separator` between them, which have `limit` bytes at most.
    pub fn new(separator: u8, limit: usize) -> Self {
        Self {
            separator,
            reader: csv_core::ReaderBuilder::new().delimiter(separator).build(),
            plain: Vec::new(),
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
            if let Some((len, used)) = self.plain_row(rest) {
                too_long(len + 1 - self.plain.len(), self.limit)?;
                self.lines += 1;
                let place = InputPlace::Line(self.lines);
                let flow = each(Frame { bytes: &rest[..len], ends: &self.plain, gap: 1, place });
                if flow.is_break() {
                    return Ok(flow);
                }
                rest = &rest[used..];
                continue;
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
                    let flow = each(Frame { bytes: &self.bytes[..len], ends: &self.ends[..fields], gap: 0, place });
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
            }
        }
        too_long(self.len, self.limit).map(ControlFlow::Continue)
    }

    /// A row at the beginning of `rest` that has no quotes and is whole, with its fields' ends in `plain`: its length
    /// without and with the line break. What is read first may have a byte order mark, and is left to csv-core.
    #[inline]
    fn plain_row(&mut self, rest: &[u8]) -> Option<(usize, usize)> {
        if self.begin.is_some() || self.lines == 0 {
            return None;
        }
        self.plain.clear();
        for at in memchr::memchr3_iter(self.separator, b'\n', b'"', rest) {
            match rest[at] {
                b'"' => return None,
                b'\n' => {
                    let row = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
                    // A carriage return within ends a row, too, and a blank line is none.
                    if row.is_empty() || memchr::memchr(b'\r', row).is_some() {
                        return None;
                    }
                    self.plain.push(row.len());
                    return Some((row.len(), at + 1));
                }
                _ => self.plain.push(at),
            }
        }
        None
    }

    #[inline]
    fn count_lines(&mut self, used: &[u8]) {
        let mut used = used;
        if self.begin.is_none() {
            // Blank lines, and the second half of CR LF, belong to no row.
            let blank = used.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines += memchr::memchr_iter(b'\n', &used[..blank]).count() as u64;
            used = &used[blank..];
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
        (self.lines, self.begin) = (0, None);
        Ok(flow)
    }

    pub(in crate::input) fn place(&self) -> InputPlace {
        InputPlace::Line(self.begin.unwrap_or(self.lines + 1))
    }
}
