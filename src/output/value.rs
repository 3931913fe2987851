//! Values as they are.

use super::Format;
use crate::codec::{Encoding, View};
use crate::error::Result;
use crate::record::{Batch, RecordRef};

/// The value alone; null is empty.
#[derive(Debug)]
pub struct ValueFormat {
    delimiter: Vec<u8>,
}

impl ValueFormat {
    pub fn new(delimiter: &[u8]) -> Self {
        Self { delimiter: delimiter.to_vec() }
    }
}

impl Format for ValueFormat {
    fn begin(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    #[inline(always)] // as JsonFormat's
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        view.value.write_text(out, Encoding::Text, record.value.unwrap_or_default());
        out.extend_from_slice(&self.delimiter);
        Ok(())
    }
}
