//! Frames that say how long they are, or whose parts are delimited as a template says: found in a stream of chunks.

use super::BadLine;
use super::frame::{Frame, too_long};
use super::length::frame_len;
use super::template::Program;
use crate::error::InputPlace;
use std::ops::ControlFlow;

/// How a frame's end is found.
#[derive(Debug)]
pub enum Cut {
    /// So many parts, each behind its length.
    Lengths { parts: usize },
    /// By the parts of a template.
    Template(Program),
}

impl Cut {
    /// How many of the first bytes are a frame, and in `ends` where its parts end; `None` where there are too few.
    fn first(&self, bytes: &[u8], limit: usize, ends: &mut Vec<usize>) -> Result<Option<usize>, BadLine> {
        match self {
            Self::Lengths { parts } => frame_len(bytes, *parts, limit),
            Self::Template(program) => program.frame_len(bytes, limit, ends),
        }
    }
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Cutter {
    cut: Cut,
    /// The beginning of a frame whose end has not come yet.
    carry: Vec<u8>,
    ends: Vec<usize>,
    limit: usize,
    count: u64,
}

impl Cutter {
    /// A frame may have `limit` bytes.
    pub fn new(cut: Cut, limit: usize) -> Self {
        Self { cut, carry: Vec::new(), ends: Vec::new(), limit, count: 0 }
    }

    pub(super) fn feed<B>(
        &mut self,
        chunk: &[u8],
        each: impl FnMut(Frame<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, BadLine> {
        let mut carry = std::mem::take(&mut self.carry);
        let (flow, used) = if carry.is_empty() {
            let (flow, used) = self.take(chunk, each)?;
            carry.extend_from_slice(&chunk[used..]);
            (flow, 0)
        } else {
            carry.extend_from_slice(chunk);
            self.take(&carry, each)?
        };
        carry.drain(..used);
        self.carry = carry;
        too_long(self.carry.len(), self.limit)?;
        Ok(flow)
    }

    /// Lends the frames of `bytes`; returns how many bytes they are.
    fn take<B>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Frame<'_>) -> ControlFlow<B>,
    ) -> Result<(ControlFlow<B>, usize), BadLine> {
        let mut used = 0;
        loop {
            self.ends.clear();
            let rest = &bytes[used..];
            if rest.is_empty() {
                return Ok((ControlFlow::Continue(()), used));
            }
            let Some(len) = self.cut.first(rest, self.limit, &mut self.ends)? else {
                return Ok((ControlFlow::Continue(()), used));
            };
            used += len;
            self.count += 1;
            let place = InputPlace::Record(self.count);
            let flow = each(Frame { bytes: &rest[..len], ends: &self.ends, place });
            if flow.is_break() {
                return Ok((flow, used));
            }
        }
    }

    /// The source has ended.
    pub(super) fn finish(&mut self) -> Result<(), BadLine> {
        if !self.carry.is_empty() {
            let what = format!("the input ends within the record, after {} bytes of it", self.carry.len());
            return Err(BadLine::unusable(what));
        }
        self.count = 0;
        Ok(())
    }

    pub(super) fn place(&self) -> InputPlace {
        InputPlace::Record(self.count + 1)
    }
}
