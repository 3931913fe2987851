//! Records behind their lengths: four bytes, big-endian, -1 for null.

use super::BadLine;
use super::frame::too_long;
use crate::record::{HeaderBuf, RecordRef, Timestamp};

/// How many bytes the first frame of `bytes` has, with its lengths; `None` where it is not there as a whole.
pub(super) fn frame_len(bytes: &[u8], parts: usize, limit: usize) -> Result<Option<usize>, BadLine> {
    let mut at = 0;
    for _ in 0..parts {
        let Some((len, next)) = length(bytes, at)? else { return Ok(None) };
        at = next + len.unwrap_or(0);
        too_long(at, limit)?;
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// The length at `at`, and where it ends.
pub(super) fn length(bytes: &[u8], at: usize) -> Result<Option<(Option<usize>, usize)>, BadLine> {
    let Some(four) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    let len = i32::from_be_bytes(*four);
    match usize::try_from(len) {
        Ok(len) => Ok(Some((Some(len), at + 4))),
        Err(_) if len == -1 => Ok(Some((None, at + 4))),
        Err(_) => Err(BadLine::at(at + 1, format!("{len} is not a length"))),
    }
}

/// Reads a frame as a record.
#[derive(Debug, Default)]
pub struct LengthReader {
    /// Whether the key stands before the value.
    pub has_keys: bool,
    /// The key where none does.
    pub key: Option<Vec<u8>>,
    /// The headers of every record.
    pub headers: HeaderBuf,
    /// The timestamp of every record.
    pub timestamp: Option<Timestamp>,
}

impl LengthReader {
    /// How many parts a frame has.
    pub fn parts(&self) -> usize {
        if self.has_keys { 2 } else { 1 }
    }

    /// The record of a frame.
    ///
    /// # Errors
    /// It is not one.
    #[inline]
    pub fn read<'a>(&'a self, frame: &'a [u8]) -> Result<RecordRef<'a>, BadLine> {
        let (key, at) = if self.has_keys { part(frame, 0)? } else { (self.key.as_deref(), 0) };
        let (value, _) = part(frame, at)?;
        Ok(RecordRef { offset: 0, timestamp: self.timestamp, key, value, headers: self.headers.as_headers() })
    }
}

#[inline]
fn part(frame: &[u8], at: usize) -> Result<(Option<&[u8]>, usize), BadLine> {
    let too_short = || BadLine::new("the record is too short".to_owned());
    let (len, begin) = length(frame, at)?.ok_or_else(too_short)?;
    let Some(len) = len else { return Ok((None, begin)) };
    let bytes = frame.get(begin..begin + len).ok_or_else(too_short)?;
    Ok((Some(bytes), begin + len))
}
