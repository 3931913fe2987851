//! A record that was found in the input, and is not read yet.

use super::BadLine;
use crate::error::InputPlace;

/// A record as it stands in the input.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its bytes, without what delimits it; for CSV those of its fields, unquoted.
    pub bytes: &'a [u8],
    /// Where each of its fields ends in `bytes`, in formats that find fields while they look for the record's end.
    pub ends: &'a [usize],
    /// Where it stands.
    pub place: InputPlace,
}

impl<'a> Frame<'a> {
    /// The fields of `bytes`, by `ends`.
    pub fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, ends) = (self.bytes, self.ends);
        let mut start = 0;
        ends.iter().map(move |end| &bytes[std::mem::replace(&mut start, *end)..*end])
    }
}

/// Refuses more bytes than a record may have.
pub(super) fn too_long(len: usize, limit: usize) -> Result<(), BadLine> {
    if len <= limit {
        return Ok(());
    }
    Err(BadLine::at(limit + 1, format!("longer than --max-record-size {limit}")))
}
