//! Chunks → frames: where each record begins and ends in the input.

use super::csv::CsvSplitter;
use super::cutter::Cutter;
use super::frame::{Frame, too_long};
use super::{BadLine, Splitter};
use crate::error::InputPlace;
use std::ops::ControlFlow;

/// How records are told apart.
#[derive(Debug)]
pub enum Framing {
    /// Each ends with a delimiter.
    Lines { splitter: Box<Splitter>, count: u64 },
    /// Rows, in which quoted fields may hold line breaks.
    Csv(Box<CsvSplitter>),
    /// Each says how long it is, or is delimited by what a template says.
    Cut(Box<Cutter>),
    /// Each source is one record.
    Whole { bytes: Vec<u8>, limit: usize },
}

impl Framing {
    /// Records that end with `delimiter` and have `limit` bytes at most.
    pub fn lines(delimiter: &[u8], limit: usize) -> Self {
        Self::Lines { splitter: Box::new(Splitter::new(delimiter, limit)), count: 0 }
    }

    /// Lends the records that end in `chunk`, in order, until `each` breaks.
    ///
    /// # Errors
    /// A record cannot be told from what follows it, or is longer than the limit.
    #[inline]
    pub fn feed<B>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Frame<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, BadLine> {
        match self {
            Self::Lines { splitter, count } => splitter.feed(chunk, |bytes| {
                *count += 1;
                each(Frame { bytes, ends: &[], place: InputPlace::Line(*count) })
            }),
            Self::Csv(rows) => rows.feed(chunk, each),
            Self::Cut(cutter) => cutter.feed(chunk, each),
            Self::Whole { bytes, limit } => {
                bytes.extend_from_slice(chunk);
                too_long(bytes.len(), *limit).map(ControlFlow::Continue)
            }
        }
    }

    /// The source has ended: lends the last record, if it had no delimiter, and begins again.
    ///
    /// # Errors
    /// The source ends within a record.
    pub fn finish<B>(&mut self, mut each: impl FnMut(Frame<'_>) -> ControlFlow<B>) -> Result<ControlFlow<B>, BadLine> {
        match self {
            Self::Lines { splitter, count } => {
                let place = InputPlace::Line(std::mem::take(count) + 1);
                let last = splitter.finish();
                Ok(last.map_or(ControlFlow::Continue(()), |line| each(Frame { bytes: &line, ends: &[], place })))
            }
            Self::Csv(rows) => rows.finish(each),
            Self::Cut(cutter) => cutter.finish().map(ControlFlow::Continue),
            Self::Whole { bytes, .. } => {
                let flow = each(Frame { bytes, ends: &[], place: InputPlace::Whole });
                bytes.clear();
                Ok(flow)
            }
        }
    }

    /// Where the record stands that could not be told from others.
    pub fn place(&self) -> InputPlace {
        match self {
            Self::Lines { count, .. } => InputPlace::Line(count + 1),
            Self::Csv(rows) => rows.place(),
            Self::Cut(cutter) => cutter.place(),
            Self::Whole { .. } => InputPlace::Whole,
        }
    }
}
