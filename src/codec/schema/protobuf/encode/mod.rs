//! JSON → bytes, by Protobuf's JSON mapping. Fields are written in the order of their numbers, as other implementations
//! write them.

mod known;
mod scalar;
mod unknown;

use super::super::Unfit;
use super::super::json::{DEPTH, Json};
use super::program::{Field, Kind, Known, Message, Packing, Presence, Program, Shape};
use super::wire::{Wire, write_tag, write_varint};
use scalar::{Scalar, scalar};
use std::borrow::Cow;

type Result<T = ()> = std::result::Result<T, Unfit>;

pub fn read_json(program: &Program, message: u32, json: &str, out: &mut Vec<u8>) -> Result {
    Encoder { program, values: Vec::new() }.message(message, Json::parse(json)?, 0, out)
}

struct Encoder<'a> {
    program: &'a Program,
    /// The values of the fields of the messages that are being written, as a stack.
    values: Vec<Option<Json<'a>>>,
}

impl<'a> Encoder<'a> {
    /// Appends a message.
    fn message(&mut self, index: u32, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        if depth >= DEPTH {
            return Err(Unfit::new(format!("nested deeper than {DEPTH} levels")));
        }
        let program = self.program;
        let message = program.message(index);
        if let Some(known) = message.known
            && self.known(known, message, json, depth, out)?
        {
            return Ok(());
        }
        self.members(message, json, None, depth, out)
    }

    /// Appends the members of an object as fields of a message, but for the one that has the name `except`.
    fn members(
        &mut self,
        message: &'a Message,
        json: Json<'a>,
        except: Option<&str>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result {
        if json.first() != b'{' {
            return Err(json.unfit(&format!("an object (message {})", message.full_name)));
        }
        let start = self.values.len();
        self.values.resize(start + message.fields.len(), None);
        let mut unknown = None;
        let mut members = json.items("an object")?;
        while let Some((name, value)) = members.member() {
            let name = name.string("a valid string")?;
            match message.by_name.get(&*name) {
                Some(index) => {
                    if self.values[start + *index as usize].replace(value).is_some() {
                        return Err(Unfit::new("the field is there twice").in_field(&name));
                    }
                }
                None if Some(&*name) == except => (),
                None if name == unknown::NAME => unknown = Some(value),
                None => return Err(no_such_field(message, &name)),
            }
        }
        let mut oneofs: Vec<u32> = Vec::new();
        for numbered in &message.by_number {
            let field = &message.fields[numbered.field as usize];
            let value = self.values[start + numbered.field as usize].filter(|value| self.is_set(field, *value));
            let Some(value) = value else {
                if field.shape == Shape::Singular(Presence::Required) {
                    return Err(Unfit::new(format!("missing (message {} requires it)", message.full_name))
                        .in_field(&field.name));
                }
                continue;
            };
            if let Some(oneof) = field.oneof {
                if oneofs.contains(&oneof) {
                    return Err(Unfit::new("another field of its oneof is set too").in_field(&field.name));
                }
                oneofs.push(oneof);
            }
            self.field(field, value, depth, out).map_err(|e| e.in_field(&field.name))?;
        }
        self.values.truncate(start);
        match unknown {
            Some(list) => unknown::read(list, out).map_err(|e| e.in_field(unknown::NAME)),
            None => Ok(()),
        }
    }

    /// Whether a value is more than null, which stands for a field that is not set, or is a null itself.
    fn is_set(&self, field: &Field, value: Json<'_>) -> bool {
        value.text() != "null" || (matches!(field.shape, Shape::Singular(_)) && self.holds_null(field.kind))
    }

    fn holds_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Message(index) => self.program.message(index).known == Some(Known::Value),
            Kind::Enum(index) => self.program.enumeration(index).is_null,
            _ => false,
        }
    }

    fn field(&mut self, field: &'a Field, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        match field.shape {
            Shape::Singular(presence) => self.value(field.number, field.kind, presence, json, depth, out),
            Shape::Repeated(packing) => {
                if json.first() != b'[' {
                    return Err(json.unfit("an array"));
                }
                match packing {
                    Packing::Packed if field.kind.is_packable() => self.packed(field, json, out),
                    _ => self.expanded(field, json, depth, out),
                }
            }
            Shape::Map(key) => self.map(field, key, json, depth, out),
        }
    }

    /// Appends a field with one value.
    fn value(
        &mut self,
        number: u32,
        kind: Kind,
        presence: Presence,
        json: Json<'a>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result {
        match kind {
            Kind::Message(index) => {
                write_tag(out, number, 2);
                delimited(out, |out| self.message(index, json, depth + 1, out))
            }
            Kind::Group(index) => {
                write_tag(out, number, 3);
                self.message(index, json, depth + 1, out)?;
                write_tag(out, number, 4);
                Ok(())
            }
            kind => {
                let value = scalar(self.program, kind, json)?;
                if presence != Presence::Implicit || !value.is_zero() {
                    value.write(number, out);
                }
                Ok(())
            }
        }
    }

    fn packed(&mut self, field: &'a Field, json: Json<'a>, out: &mut Vec<u8>) -> Result {
        let start = out.len();
        write_tag(out, field.number, 2);
        let mut count = 0;
        delimited(out, |out| {
            let mut elements = json.items("an array")?;
            while let Some(element) = elements.element() {
                let value = scalar(self.program, field.kind, element).map_err(|e| e.in_element(count))?;
                value.write_packed(out);
                count += 1;
            }
            Ok(())
        })?;
        if count == 0 {
            out.truncate(start);
        }
        Ok(())
    }

    fn expanded(&mut self, field: &'a Field, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        let mut elements = json.items("an array")?;
        let mut index = 0;
        while let Some(element) = elements.element() {
            let written = self.value(field.number, field.kind, Presence::Explicit, element, depth, out);
            written.map_err(|e| e.in_element(index))?;
            index += 1;
        }
        Ok(())
    }

    fn map(&mut self, field: &'a Field, key: Kind, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result {
        if json.first() != b'{' {
            return Err(json.unfit("an object (map)"));
        }
        let mut members = json.items("an object")?;
        while let Some((name, value)) = members.member() {
            write_tag(out, field.number, 2);
            let text = name.string("a valid string")?;
            let written = delimited(out, |out| {
                map_key(self.program, key, &text, name)?.write(1, out);
                self.value(2, field.kind, Presence::Explicit, value, depth, out)
            });
            written.map_err(|e| e.in_field(&text))?;
        }
        Ok(())
    }
}

/// The key of a map, which JSON has as a string whatever it is.
fn map_key<'a>(program: &Program, kind: Kind, text: &'a Cow<'a, str>, json: Json<'_>) -> Result<Scalar<'a>> {
    match kind {
        Kind::String => Ok(Scalar::Bytes(Cow::Borrowed(text.as_bytes()))),
        Kind::Bool => match &**text {
            "true" => Ok(Scalar::Number(Wire::Varint(1))),
            "false" => Ok(Scalar::Number(Wire::Varint(0))),
            _ => Err(json.unfit("true or false as a key")),
        },
        kind => scalar(program, kind, Json::parse(text).map_err(|_| json.unfit("a number as a key"))?),
    }
}

/// Appends what `write` appends, and its length before it.
fn delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result) -> Result {
    let start = out.len();
    out.push(0); // the length, where it takes one byte
    write(out)?;
    let len = out.len() - start - 1;
    if let Ok(len) = u8::try_from(len)
        && len < 0x80
    {
        out[start] = len;
        return Ok(());
    }
    let mut length = Vec::with_capacity(5);
    write_varint(&mut length, len as u64);
    out.splice(start..=start, length);
    Ok(())
}

#[cold]
fn no_such_field(message: &Message, name: &str) -> Unfit {
    let hint = crate::error::did_you_mean(name, message.fields.iter().map(|field| &*field.name));
    Unfit::new(format!("message {} has no such field{hint}", message.full_name)).in_field(name)
}
