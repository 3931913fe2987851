//! What a format of records is.

use crate::codec::View;
use crate::error::Result;
use crate::record::{Batch, RecordRef};

/// Renders records. Each implementation is a type of its own, so that the path of a record has no dispatch.
pub trait Format {
    /// Appends what stands before the first record.
    fn head(&mut self, _: &mut Vec<u8>) {}

    /// Prepares for the records of `batch`.
    ///
    /// # Errors
    /// The batch cannot be rendered.
    fn begin(&mut self, batch: &Batch) -> Result<()>;

    /// Appends one record of the batch begun last, shown as `view` says, with what delimits it.
    ///
    /// # Errors
    /// The record cannot be rendered; `out` may end with a part of it.
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()>;

    /// Whether it shows control characters of records as escapes. Otherwise the writer does, on a terminal.
    fn is_visible(&self) -> bool {
        false
    }
}

/// Nothing: for counting, and for moving a group's offsets.
#[derive(Debug, Clone, Copy)]
pub struct Discard;

impl Format for Discard {
    fn begin(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn write(&mut self, _: &mut Vec<u8>, _: &RecordRef<'_>, _: &View<'_>) -> Result<()> {
        Ok(())
    }
}
