//! Keys and values whose text in the input stands for other bytes.

use super::BadLine;
use crate::codec::Encoding;

/// The bytes of one record's key and value; the memory is used again for the next.
#[derive(Debug, Default)]
pub struct Decoded {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Both may be null.
type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl Decoded {
    /// The key and value that stand in the input in these encodings. Text is lent on as it is.
    ///
    /// # Errors
    /// One is not what it should be.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        key: Option<&'a [u8]>,
        key_as: Encoding,
        value: Option<&'a [u8]>,
        value_as: Encoding,
    ) -> Result<KeyAndValue<'a>, BadLine> {
        let key = decode(&mut self.key, key, key_as).map_err(|why| bad("key", &why))?;
        let value = decode(&mut self.value, value, value_as).map_err(|why| bad("value", &why))?;
        Ok((key, value))
    }
}

#[inline]
fn decode<'a>(into: &'a mut Vec<u8>, text: Option<&'a [u8]>, encoding: Encoding) -> Result<Option<&'a [u8]>, String> {
    match text {
        Some(text) if encoding != Encoding::Text => {
            into.clear();
            encoding.parse_text(text, into)?;
            Ok(Some(into))
        }
        text => Ok(text),
    }
}

#[cold]
fn bad(which: &str, why: &str) -> BadLine {
    BadLine::new(format!("the {which}: {why}"))
}
