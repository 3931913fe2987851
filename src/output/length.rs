//! Records framed by their lengths, so that no byte in them is taken for a delimiter.

use super::Format;
use crate::codec::View;
use crate::error::Result;
use crate::record::{Batch, RecordRef};

/// Four bytes of length, big-endian, and as many bytes; the length of null is -1. The value, or the key and the value.
#[derive(Debug)]
pub struct LengthFormat {
    has_keys: bool,
}

impl LengthFormat {
    /// `has_keys`: the key stands before the value.
    pub fn new(has_keys: bool) -> Self {
        Self { has_keys }
    }
}

impl Format for LengthFormat {
    fn begin(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, _: &View<'_>) -> Result<()> {
        if self.has_keys {
            write(out, record.key);
        }
        write(out, record.value);
        Ok(())
    }
}

#[inline]
fn write(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    // A record's parts are shorter than 2 GB: the protocol counts them in the same way.
    let len = bytes.map_or(-1, |bytes| bytes.len() as i32);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}
