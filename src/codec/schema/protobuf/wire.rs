//! Protobuf's wire format: fields of bytes, without their meaning.

pub use crate::record::varint::{read_unsigned as read_varint, unzigzag, write_unsigned as write_varint, zigzag};

/// A field as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawField<'a> {
    pub number: u32,
    pub value: Wire<'a>,
}

/// A value as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// What stands between a group's tags.
    Group(&'a [u8]),
    Fixed32(u32),
}

/// Goes through the fields of a message.
#[derive(Debug, Clone, Copy)]
pub struct RawFields<'a> {
    rest: &'a [u8],
}

/// How deep groups may be nested.
const MOST_GROUPS: u32 = 128;

impl<'a> RawFields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field.
    ///
    /// # Errors
    /// The bytes are not Protobuf.
    #[inline]
    pub fn next(&mut self) -> Result<Option<RawField<'a>>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let value = match kind {
            3 => {
                let start = self.rest;
                let len = self.group(number)?;
                Wire::Group(&start[..len])
            }
            4 => return Err("a group ends that did not begin"),
            _ => self.value(kind)?,
        };
        Ok(Some(RawField { number, value }))
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), &'static str> {
        let tag = read_varint(&mut self.rest).ok_or("the bytes end within a number")?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..=MOST_NUMBER).contains(number));
        Ok((number.ok_or("a field's number is out of range")?, (tag & 7) as u8))
    }

    #[inline]
    fn value(&mut self, kind: u8) -> Result<Wire<'a>, &'static str> {
        const ENDS: &str = "the bytes end within a value";
        match kind {
            0 => read_varint(&mut self.rest).map(Wire::Varint).ok_or("the bytes end within a number"),
            1 => {
                let (value, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
                self.rest = rest;
                Ok(Wire::Fixed64(u64::from_le_bytes(*value)))
            }
            2 => {
                let len = read_varint(&mut self.rest).ok_or("the bytes end within a length")?;
                let len = usize::try_from(len).ok();
                let (value, rest) = len.and_then(|len| self.rest.split_at_checked(len)).ok_or(ENDS)?;
                self.rest = rest;
                Ok(Wire::Bytes(value))
            }
            5 => {
                let (value, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
                self.rest = rest;
                Ok(Wire::Fixed32(u32::from_le_bytes(*value)))
            }
            _ => Err("a field has a wire type that does not exist"),
        }
    }

    /// Skips a group, with those in it; returns how many bytes stand before its end.
    fn group(&mut self, number: u32) -> Result<usize, &'static str> {
        let len = self.rest.len();
        let mut open = 1;
        loop {
            if self.rest.is_empty() {
                return Err("the bytes end within a group");
            }
            let before_tag = len - self.rest.len();
            match self.tag()? {
                (_, 3) if open == MOST_GROUPS => return Err("groups are nested too deeply"),
                (_, 3) => open += 1,
                (ended, 4) if open == 1 => {
                    return if ended == number { Ok(before_tag) } else { Err("a group ends as another") };
                }
                (_, 4) => open -= 1,
                (_, kind) => _ = self.value(kind)?,
            }
        }
    }
}

/// The highest number that a field may have.
pub const MOST_NUMBER: u32 = (1 << 29) - 1;

/// Appends the tag of a field.
pub fn write_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    write_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a field.
pub fn write_field(out: &mut Vec<u8>, field: RawField<'_>) {
    let number = field.number;
    match field.value {
        Wire::Varint(value) => {
            write_tag(out, number, 0);
            write_varint(out, value);
        }
        Wire::Fixed64(value) => {
            write_tag(out, number, 1);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Wire::Bytes(bytes) => {
            write_tag(out, number, 2);
            write_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Wire::Group(bytes) => {
            write_tag(out, number, 3);
            out.extend_from_slice(bytes);
            write_tag(out, number, 4);
        }
        Wire::Fixed32(value) => {
            write_tag(out, number, 5);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}
