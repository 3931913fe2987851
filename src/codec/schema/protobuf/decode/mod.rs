//! Bytes → JSON, by Protobuf's JSON mapping.

mod known;

use super::super::json::{DEPTH, write_double, write_float};
use super::super::{FieldNames, Undecodable};
use super::program::{Field, Kind, Message, Program, Shape};
use super::wire::{RawField, RawFields, Wire, read_varint, unzigzag};
use crate::codec::{Base64, write_string_of};
use std::collections::HashMap;

type Result<T = ()> = std::result::Result<T, Undecodable>;

/// What the JSON of any value may take.
const LEAST_LIMIT: usize = 1 << 20;
/// What the JSON of a value may take at most.
const MOST_LIMIT: usize = 256 << 20;

pub fn write_json(program: &Program, message: u32, bytes: &[u8], names: FieldNames, out: &mut Vec<u8>) -> Result {
    let growth = bytes.len().saturating_mul(program.growth).saturating_add(LEAST_LIMIT).min(MOST_LIMIT);
    let decoder = Decoder { program, names, limit: out.len().saturating_add(growth) };
    decoder.message(message, bytes, 0, out)
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    program: &'a Program,
    names: FieldNames,
    /// How long `out` may become.
    limit: usize,
}

impl Decoder<'_> {
    /// Appends a message in the form that it has in JSON.
    fn message(self, index: u32, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result {
        self.check(depth, out)?;
        let message = self.program.message(index);
        if let Some(known) = message.known
            && known::write(self, known, message, bytes, depth, out)?
        {
            return Ok(());
        }
        out.push(b'{');
        self.members(message, bytes, depth, out)?;
        out.push(b'}');
        Ok(())
    }

    /// Appends the fields of a message as members of an object that is open.
    fn members(self, message: &Message, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result {
        let mut members = Members { decoder: self, message, open: None, elements: 0, depth };
        if is_in_order(message, bytes)? {
            let mut fields = RawFields::new(bytes);
            let mut near = 0;
            while let Some(raw) = fields.next().map_err(bad)? {
                if let Some(index) = message.field_index(raw.number, near) {
                    members.field(index, raw.value, out)?;
                    near = next_near(&message.fields[index], index);
                }
            }
            members.close(out);
            return Ok(());
        }
        let Collected { fields, unknown } = collected(message, bytes)?;
        for same in fields.chunk_by(|one, other| one.index == other.index) {
            let field = &message.fields[same[0].index];
            match (field.shape, field.kind) {
                (Shape::Singular(_), Kind::Message(_) | Kind::Group(_)) if same.len() > 1 => {
                    // Occurrences of a message are merged, which is what its bytes in a row mean.
                    let merged: Vec<u8> = same.iter().flat_map(|found| found.value.bytes()).copied().collect();
                    let value = match field.kind {
                        Kind::Group(_) => Wire::Group(&merged),
                        _ => Wire::Bytes(&merged),
                    };
                    members.field(same[0].index, value, out)?;
                }
                (Shape::Singular(_), _) => {
                    if let Some(last) = same.last() {
                        members.field(last.index, last.value, out)?;
                    }
                }
                _ => {
                    for found in same {
                        members.field(found.index, found.value, out)?;
                    }
                }
            }
        }
        members.close(out);
        write_unknown(&unknown, out);
        Ok(())
    }

    /// Appends a value of a type that it was checked to be of.
    #[inline]
    fn value(self, kind: Kind, value: Wire<'_>, depth: usize, out: &mut Vec<u8>) -> Result {
        match (kind, value) {
            (Kind::Int32, Wire::Varint(value)) => write_integer(out, value as i32),
            (Kind::Int64, Wire::Varint(value)) => write_quoted(out, value as i64),
            (Kind::Uint32, Wire::Varint(value)) => write_integer(out, value as u32),
            (Kind::Uint64, Wire::Varint(value)) => write_quoted(out, value),
            (Kind::Sint32, Wire::Varint(value)) => write_integer(out, unzigzag((value as u32).into()) as i32),
            (Kind::Sint64, Wire::Varint(value)) => write_quoted(out, unzigzag(value)),
            (Kind::Bool, Wire::Varint(0)) => out.extend_from_slice(b"false"),
            (Kind::Bool, Wire::Varint(_)) => out.extend_from_slice(b"true"),
            (Kind::Enum(index), Wire::Varint(value)) => {
                let of = self.program.enumeration(index);
                match of.value(value as i32) {
                    Some(_) if of.is_null => out.extend_from_slice(b"null"),
                    Some(value) => out.extend_from_slice(&value.json),
                    None => write_integer(out, value as i32),
                }
            }
            (Kind::Double, Wire::Fixed64(value)) => write_double(out, f64::from_bits(value)),
            (Kind::Fixed64, Wire::Fixed64(value)) => write_quoted(out, value),
            (Kind::Sfixed64, Wire::Fixed64(value)) => write_quoted(out, value as i64),
            (Kind::Float, Wire::Fixed32(value)) => write_float(out, f32::from_bits(value)),
            (Kind::Fixed32, Wire::Fixed32(value)) => write_integer(out, value),
            (Kind::Sfixed32, Wire::Fixed32(value)) => write_integer(out, value as i32),
            (Kind::String, Wire::Bytes(bytes)) => {
                write_string_of(out, bytes).map_err(|_| bad("a string is not UTF-8"))?;
            }
            (Kind::Bytes, Wire::Bytes(bytes)) => Base64.write_string(out, bytes),
            (Kind::Message(index), Wire::Bytes(bytes)) | (Kind::Group(index), Wire::Group(bytes)) => {
                self.message(index, bytes, depth + 1, out)?;
            }
            _ => return Err(bad("a field has the wire type of another")),
        }
        Ok(())
    }

    /// Appends a key of a map as a JSON string.
    fn key(self, kind: Kind, value: Wire<'_>, out: &mut Vec<u8>) -> Result {
        let is_quoted = |out: &[u8], start: usize| out.get(start) == Some(&b'"');
        let start = out.len();
        self.value(kind, value, DEPTH, out)?;
        if !is_quoted(out, start) {
            out.insert(start, b'"');
            out.push(b'"');
        }
        Ok(())
    }

    /// Appends an entry of a map.
    fn entry(self, key: Kind, value: Kind, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result {
        let (mut found_key, mut found_value) = (key.zero(), value.zero());
        let mut fields = RawFields::new(bytes);
        while let Some(raw) = fields.next().map_err(bad)? {
            match raw.number {
                1 if key.accepts(&raw.value) => found_key = raw.value,
                2 if value.accepts(&raw.value) => found_value = raw.value,
                number => return Err(bad(format!("an entry of a map has field {number}"))),
            }
        }
        self.key(key, found_key, out)?;
        out.push(b':');
        self.value(value, found_value, depth, out)
    }

    /// Holds nesting and output to their bounds.
    #[inline]
    fn check(self, depth: usize, out: &[u8]) -> Result {
        if depth >= DEPTH {
            return Err(bad(format!("nested deeper than {DEPTH} levels")));
        }
        if out.len() > self.limit {
            return Err(bad("far more JSON than a record of this size can be"));
        }
        Ok(())
    }
}

/// Writes fields one after the other; the elements of a repeated field come in a row.
struct Members<'a> {
    decoder: Decoder<'a>,
    message: &'a Message,
    /// The field that was written last, whose array or object is still open.
    open: Option<usize>,
    /// How many elements it has.
    elements: u64,
    depth: usize,
}

impl Members<'_> {
    #[inline]
    fn field(&mut self, index: usize, value: Wire<'_>, out: &mut Vec<u8>) -> Result {
        let field = &self.message.fields[index];
        if self.open != Some(index) {
            self.close(out);
            self.begin(field, out);
            (self.open, self.elements) = (Some(index), 0);
        }
        self.decoder.check(self.depth, out)?;
        let depth = self.depth;
        let written = match field.shape {
            Shape::Singular(_) => self.decoder.value(field.kind, value, depth, out),
            Shape::Map(key) => {
                self.separate(out);
                let Wire::Bytes(entry) = value else {
                    return Err(bad("an entry of a map has the wire type of another"));
                };
                self.decoder.entry(key, field.kind, entry, depth, out)
            }
            Shape::Repeated(_) => match value {
                Wire::Bytes(packed) if field.kind.is_packable() => self.packed(field.kind, packed, out),
                value => {
                    self.separate(out);
                    let written = self.decoder.value(field.kind, value, depth, out);
                    written.map_err(|e| e.in_element(self.elements - 1))
                }
            },
        };
        written.map_err(|e| e.in_field(&field.name))
    }

    fn packed(&mut self, kind: Kind, mut packed: &[u8], out: &mut Vec<u8>) -> Result {
        const ENDS: &str = "the bytes end within a packed number";
        while !packed.is_empty() {
            self.separate(out);
            self.decoder.check(self.depth, out)?;
            let value = match kind.zero() {
                Wire::Fixed64(_) => {
                    let (value, rest) = packed.split_first_chunk().ok_or_else(|| bad(ENDS))?;
                    packed = rest;
                    Wire::Fixed64(u64::from_le_bytes(*value))
                }
                Wire::Fixed32(_) => {
                    let (value, rest) = packed.split_first_chunk().ok_or_else(|| bad(ENDS))?;
                    packed = rest;
                    Wire::Fixed32(u32::from_le_bytes(*value))
                }
                _ => Wire::Varint(read_varint(&mut packed).ok_or_else(|| bad(ENDS))?),
            };
            self.decoder.value(kind, value, self.depth, out)?;
        }
        Ok(())
    }

    /// Appends what stands before an element.
    fn separate(&mut self, out: &mut Vec<u8>) {
        if self.elements > 0 {
            out.push(b',');
        }
        self.elements += 1;
    }

    fn begin(&self, field: &Field, out: &mut Vec<u8>) {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(match self.decoder.names {
            FieldNames::Json => &field.json_prefix,
            FieldNames::Proto => &field.proto_prefix,
        });
        match field.shape {
            Shape::Singular(_) => (),
            Shape::Repeated(_) => out.push(b'['),
            Shape::Map(_) => out.push(b'{'),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self.open.take().map(|index| self.message.fields[index].shape) {
            Some(Shape::Repeated(_)) => out.push(b']'),
            Some(Shape::Map(_)) => out.push(b'}'),
            Some(Shape::Singular(_)) | None => (),
        }
    }
}

/// Where the next field is looked for first.
#[inline]
fn next_near(field: &Field, index: usize) -> usize {
    if matches!(field.shape, Shape::Singular(_)) { index + 1 } else { index }
}

/// Whether the fields stand in the order of the schema, each where it counts, and all are known: then they can be written
/// as they come. It looks at this message alone: what is in its messages is checked when they are written.
fn is_in_order(message: &Message, bytes: &[u8]) -> Result<bool> {
    let mut fields = RawFields::new(bytes);
    let (mut near, mut last, mut oneofs) = (0, None, 0u64);
    while let Some(raw) = fields.next().map_err(bad)? {
        let Some(index) = message.field_index(raw.number, near) else { return Ok(false) };
        let field = &message.fields[index];
        let may_repeat = !matches!(field.shape, Shape::Singular(_));
        if !field.accepts(&raw.value) || last.is_some_and(|last| index < last || (index == last && !may_repeat)) {
            return Ok(false);
        }
        if let Some(oneof) = field.oneof {
            let bit = 1u64.checked_shl(oneof).unwrap_or(0);
            if bit == 0 || oneofs & bit != 0 {
                return Ok(false);
            }
            oneofs |= bit;
        }
        (near, last) = (next_near(field, index), Some(index));
    }
    Ok(true)
}

/// A known field, as it was found.
#[derive(Clone, Copy)]
struct Found<'a> {
    index: usize,
    value: Wire<'a>,
}

struct Collected<'a> {
    /// In the order of the schema, without what later fields of their oneofs replaced.
    fields: Vec<Found<'a>>,
    unknown: Vec<RawField<'a>>,
}

fn collected<'a>(message: &Message, bytes: &'a [u8]) -> Result<Collected<'a>> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        match message.field_index(raw.number, 0) {
            Some(index) if message.fields[index].accepts(&raw.value) => found.push(Found { index, value: raw.value }),
            _ => unknown.push(raw),
        }
    }
    // From the end: the last field of a oneof counts, with what was set of it since another was.
    let mut winners: HashMap<u32, Option<usize>> = HashMap::new();
    let mut counting = Vec::with_capacity(found.len());
    for found in found.into_iter().rev() {
        if let Some(oneof) = message.fields[found.index].oneof {
            let winner = winners.entry(oneof).or_insert(Some(found.index));
            if *winner != Some(found.index) {
                *winner = None;
                continue;
            }
        }
        counting.push(found);
    }
    counting.reverse();
    counting.sort_by_key(|found| found.index);
    Ok(Collected { fields: counting, unknown })
}

impl<'a> Wire<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) | Self::Group(bytes) => bytes,
            _ => b"",
        }
    }
}

/// Appends the fields that the schema does not have as a member of an object that is open.
fn write_unknown(unknown: &[RawField<'_>], out: &mut Vec<u8>) {
    for (index, field) in unknown.iter().enumerate() {
        match (index, out.last()) {
            (0, Some(b'{')) => out.extend_from_slice(b"\"@unknown\":["),
            (0, _) => out.extend_from_slice(b",\"@unknown\":["),
            _ => out.push(b','),
        }
        out.extend_from_slice(b"{\"number\":");
        write_integer(out, field.number);
        match field.value {
            Wire::Varint(value) => {
                out.extend_from_slice(b",\"varint\":");
                write_quoted(out, value);
            }
            Wire::Fixed64(value) => {
                out.extend_from_slice(b",\"fixed64\":");
                write_quoted(out, value);
            }
            Wire::Fixed32(value) => {
                out.extend_from_slice(b",\"fixed32\":");
                write_integer(out, value);
            }
            Wire::Bytes(bytes) => {
                out.extend_from_slice(b",\"bytes\":");
                Base64.write_string(out, bytes);
            }
            Wire::Group(bytes) => {
                out.extend_from_slice(b",\"group\":");
                Base64.write_string(out, bytes);
            }
        }
        out.push(b'}');
    }
    if !unknown.is_empty() {
        out.push(b']');
    }
}

#[inline]
fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number of 64 bits is a string in JSON, because many parsers round it.
#[inline]
fn write_quoted(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.push(b'"');
    write_integer(out, value);
    out.push(b'"');
}

#[cold]
fn bad(why: impl Into<String>) -> Undecodable {
    Undecodable::new(why)
}
