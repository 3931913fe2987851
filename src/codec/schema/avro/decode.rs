//! Bytes → JSON: the record path. Nothing is allocated but the output.

use super::super::json::{DEPTH, write_double, write_float, write_latin1};
use super::super::time::{self, Unit};
use super::super::{AvroForm, Undecodable};
use super::program::{Branch, Fixed, FixedLogical, Int, Long, Looks, Node, NodeId, Program, Record, Tagging};
use crate::codec::{Base64, Uuid, write_string_of};
use crate::record::varint;

type Result<T = ()> = std::result::Result<T, Undecodable>;

/// What the JSON of any value may take: arrays of what takes no bytes grow to this.
const LEAST_LIMIT: usize = 1 << 20;
/// What the JSON of a value may take at most.
const MOST_LIMIT: usize = 256 << 20;

pub fn write_json(program: &Program, bytes: &[u8], form: AvroForm, out: &mut Vec<u8>) -> Result {
    let growth = bytes.len().saturating_mul(program.growth()).saturating_add(LEAST_LIMIT).min(MOST_LIMIT);
    let limit = out.len().saturating_add(growth);
    let mut decoder = Decoder { program, form, bytes, rest: bytes, limit };
    decoder.value(program.root(), 0, out)?;
    match decoder.rest.len() {
        0 => Ok(()),
        more => Err(decoder.bad(format!("{more} more bytes than the schema describes"))),
    }
}

struct Decoder<'a> {
    program: &'a Program,
    form: AvroForm,
    bytes: &'a [u8],
    /// What is still to be read.
    rest: &'a [u8],
    /// How long `out` may become.
    limit: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, id: NodeId, depth: usize, out: &mut Vec<u8>) -> Result {
        let is_plain = self.form == AvroForm::Plain;
        match self.program.node(id) {
            Node::Null => out.extend_from_slice(b"null"),
            Node::Boolean => match self.take(1)? {
                [0] => out.extend_from_slice(b"false"),
                [1] => out.extend_from_slice(b"true"),
                _ => return Err(self.bad("a boolean is neither 0 nor 1")),
            },
            Node::Int(int) => {
                let value = self.int()?;
                let is_written = is_plain
                    && match int {
                        Int::Number => false,
                        Int::Date => quoted(out, |out| time::write_date(out, value.into())),
                        Int::Time => quoted(out, |out| time::write_time(out, value.into(), Unit::Millis)),
                    };
                if !is_written {
                    write_integer(out, value);
                }
            }
            Node::Long(long) => {
                let value = self.long()?;
                let is_written = is_plain
                    && match long {
                        Long::Number => false,
                        Long::Time => quoted(out, |out| time::write_time(out, value, Unit::Micros)),
                        Long::Timestamp(unit, zone) => {
                            quoted(out, |out| time::write_timestamp(out, value, *unit, *zone))
                        }
                    };
                if !is_written {
                    write_integer(out, value);
                }
            }
            Node::Float => write_float(out, f32::from_le_bytes(self.array()?)),
            Node::Double => write_double(out, f64::from_le_bytes(self.array()?)),
            Node::Bytes(decimal) => {
                let bytes = self.block()?;
                match decimal {
                    Some(decimal) if is_plain => self.written(out, |out| decimal.write(out, bytes))?,
                    _ => self.write_bytes(out, bytes),
                }
            }
            Node::String => {
                let bytes = self.block()?;
                write_string_of(out, bytes).map_err(|_| self.bad("a string is not UTF-8"))?;
            }
            Node::Fixed(fixed) => self.fixed(fixed, out)?,
            Node::Enum(of) => {
                let index = self.int()?;
                let symbol = usize::try_from(index).ok().and_then(|index| of.symbols.get(index));
                let symbol = symbol.ok_or_else(|| self.bad(format!("enum {} has no symbol {index}", of.name)))?;
                out.extend_from_slice(&symbol.json);
            }
            Node::Array(items) => {
                out.push(b'[');
                self.blocks(depth, out, |decoder, index, out| {
                    if index > 0 {
                        out.push(b',');
                    }
                    decoder.value(*items, depth + 1, out).map_err(|e| e.in_element(index))
                })?;
                out.push(b']');
            }
            Node::Map(values) => {
                out.push(b'{');
                self.blocks(depth, out, |decoder, index, out| {
                    if index > 0 {
                        out.push(b',');
                    }
                    let key = decoder.block()?;
                    write_string_of(out, key).map_err(|_| decoder.bad("a key is not UTF-8"))?;
                    out.push(b':');
                    let value = decoder.value(*values, depth + 1, out);
                    value.map_err(|e| e.in_field(&String::from_utf8_lossy(key)))
                })?;
                out.push(b'}');
            }
            Node::Union(branches) => self.union(branches, depth, out)?,
            Node::Record(record) => self.record(record, depth, out)?,
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, depth: usize, out: &mut Vec<u8>) -> Result {
        self.check(depth, out)?;
        if record.fields.is_empty() {
            out.push(b'{');
        }
        for field in &record.fields {
            out.extend_from_slice(&field.prefix);
            self.value(field.node, depth + 1, out).map_err(|e| e.in_field(&field.name))?;
        }
        out.push(b'}');
        Ok(())
    }

    fn union(&mut self, branches: &[Branch], depth: usize, out: &mut Vec<u8>) -> Result {
        let index = self.long()?;
        let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
        let branch = branch.ok_or_else(|| self.bad(format!("a union of {} has no branch {index}", branches.len())))?;
        let node = self.program.node(branch.node);
        if matches!(node, Node::Null) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        let (start, rest) = (out.len(), self.rest);
        let tagging = if self.form == AvroForm::Plain { branch.tagging } else { Tagging::Always };
        if tagging != Tagging::Always {
            self.value(branch.node, depth, out)?;
            let looks = out.get(start).map_or(Looks::NONE, |first| Looks::of(*first));
            if tagging == Tagging::Never || looks.overlaps(node.looks()) {
                return Ok(());
            }
            out.truncate(start);
            self.rest = rest;
        }
        self.check(depth, out)?;
        out.extend_from_slice(&branch.tag);
        self.value(branch.node, depth + 1, out)?;
        out.push(b'}');
        Ok(())
    }

    fn fixed(&mut self, fixed: &Fixed, out: &mut Vec<u8>) -> Result {
        let bytes = self.take(fixed.size)?;
        match fixed.logical {
            _ if self.form == AvroForm::Specification => self.write_bytes(out, bytes),
            FixedLogical::Bytes => self.write_bytes(out, bytes),
            FixedLogical::Decimal(decimal) => self.written(out, |out| decimal.write(out, bytes))?,
            FixedLogical::Uuid => self.written(out, |out| Uuid.write_text(out, bytes))?,
            FixedLogical::Duration => self.written(out, |out| write_duration(out, bytes))?,
        }
        Ok(())
    }

    /// The elements of an array or map. They come in blocks, each with their number before it, until an empty one.
    #[inline]
    fn blocks(
        &mut self,
        depth: usize,
        out: &mut Vec<u8>,
        mut element: impl FnMut(&mut Self, u64, &mut Vec<u8>) -> Result,
    ) -> Result {
        let mut index = 0;
        loop {
            let mut count = self.long()?;
            if count < 0 {
                // The size in bytes, for those who skip the block.
                self.long()?;
                count = count.checked_neg().ok_or_else(|| self.bad("a block's count is out of range"))?;
            }
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                // Elements may take no bytes: what they become bounds their number.
                self.check(depth, out)?;
                element(self, index, out)?;
                index += 1;
            }
        }
    }

    /// Holds nesting and output to their bounds.
    #[inline]
    fn check(&self, depth: usize, out: &[u8]) -> Result {
        if depth >= DEPTH {
            return Err(self.bad(format!("nested deeper than {DEPTH} levels")));
        }
        if out.len() > self.limit {
            return Err(self.bad("far more JSON than a record of this size can be"));
        }
        Ok(())
    }

    fn write_bytes(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.form {
            AvroForm::Plain => Base64.write_string(out, bytes),
            AvroForm::Specification => write_latin1(out, bytes),
        }
    }

    /// Appends a string that `write` can write, or else reports it.
    fn written(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Result {
        if quoted(out, write) { Ok(()) } else { Err(self.bad("a decimal is longer than any is")) }
    }

    #[inline]
    fn int(&mut self) -> Result<i32> {
        i32::try_from(self.long()?).map_err(|_| self.bad("an int is out of range"))
    }

    #[inline]
    fn long(&mut self) -> Result<i64> {
        varint::read(&mut self.rest).ok_or_else(|| self.bad("the bytes end within a number"))
    }

    /// A length and that many bytes.
    #[inline]
    fn block(&mut self) -> Result<&'a [u8]> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| self.bad(format!("a length is {len}")))?)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.bad(format!("{len} bytes are announced, {} are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.bad("the bytes end within a number"));
        };
        self.rest = rest;
        Ok(*taken)
    }

    #[cold]
    fn bad(&self, why: impl Into<String>) -> Undecodable {
        Undecodable::new(why).at(self.bytes.len() - self.rest.len())
    }
}

#[inline]
fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a string whose text `write` appends; `false`, with nothing appended, where it cannot.
#[inline]
fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = out.len();
    out.push(b'"');
    if !write(out) {
        out.truncate(start);
        return false;
    }
    out.push(b'"');
    true
}

/// Appends months, days and milliseconds as ISO 8601 has them; `false` where they are not 12 bytes.
fn write_duration(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let (parts, []) = bytes.as_chunks::<4>() else { return false };
    let [months, days, millis] = parts else { return false };
    let millis = u32::from_le_bytes(*millis);
    out.push(b'P');
    write_integer(out, u32::from_le_bytes(*months));
    out.push(b'M');
    write_integer(out, u32::from_le_bytes(*days));
    out.extend_from_slice(b"DT");
    write_integer(out, millis / 1_000);
    out.push(b'.');
    for divisor in [100, 10, 1] {
        out.push(b'0' + (millis / divisor % 10) as u8);
    }
    out.push(b'S');
    true
}
