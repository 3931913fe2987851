//! What a Protobuf schema is compiled to.

use super::wire::Wire;
use std::collections::HashMap;

/// The messages and enums of a schema and its imports. They refer to each other by index, so that recursive messages are
/// like any other.
#[derive(Debug)]
pub struct Program {
    pub messages: Vec<Message>,
    pub enums: Vec<Enum>,
    /// The messages by full name: what `google.protobuf.Any` may hold.
    pub by_name: HashMap<Box<str>, u32>,
    /// How much JSON a byte may become: the longest name, and a value.
    pub growth: usize,
}

impl Program {
    #[inline]
    pub fn message(&self, index: u32) -> &Message {
        &self.messages[index as usize]
    }

    #[inline]
    pub fn enumeration(&self, index: u32) -> &Enum {
        &self.enums[index as usize]
    }
}

#[derive(Debug)]
pub struct Message {
    pub full_name: Box<str>,
    /// In the order of the schema; extensions come last.
    pub fields: Box<[Field]>,
    /// The fields in the order of their numbers.
    pub by_number: Box<[Numbered]>,
    /// The fields by both of their names.
    pub by_name: HashMap<Box<str>, u32>,
    pub known: Option<Known>,
}

#[derive(Debug, Clone, Copy)]
pub struct Numbered {
    pub number: u32,
    pub field: u32,
}

/// Messages that have a form of their own in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    ListValue,
    Wrapper,
}

impl Known {
    /// Of a message with that name.
    pub fn named(full_name: &str) -> Option<Self> {
        Some(match full_name.strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "FieldMask" => Self::FieldMask,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::ListValue,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => Self::Wrapper,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub struct Field {
    pub number: u32,
    /// As in the schema.
    pub name: Box<str>,
    /// What stands before the value in JSON, by the JSON mapping: the name and a colon.
    pub json_prefix: Box<[u8]>,
    /// The same with the schema's name.
    pub proto_prefix: Box<[u8]>,
    pub kind: Kind,
    pub shape: Shape,
    /// The oneof that it is in, by index, if that has other fields too.
    pub oneof: Option<u32>,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Singular(Presence),
    Repeated(Packing),
    /// A map with such keys; the field's kind is that of its values.
    Map(Kind),
}

/// Whether a field that is not set differs from one that is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A zero is not written.
    Implicit,
    Explicit,
    Required,
}

/// How the elements of a repeated field are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Packed,
    Expanded,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    /// An index into [`Program::enums`].
    Enum(u32),
    /// An index into [`Program::messages`].
    Message(u32),
    /// As a message, between tags.
    Group(u32),
}

impl Kind {
    /// Whether a value of this type may stand so in the bytes.
    #[inline]
    pub fn accepts(self, wire: &Wire<'_>) -> bool {
        std::mem::discriminant(&self.zero()) == std::mem::discriminant(wire)
    }

    /// Whether it may be packed.
    pub fn is_packable(self) -> bool {
        !matches!(self.zero(), Wire::Bytes(_) | Wire::Group(_))
    }

    /// The value that stands for its absence.
    pub fn zero(self) -> Wire<'static> {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => Wire::Fixed64(0),
            Self::Float | Self::Fixed32 | Self::Sfixed32 => Wire::Fixed32(0),
            Self::Int32 | Self::Int64 | Self::Uint32 | Self::Uint64 => Wire::Varint(0),
            Self::Sint32 | Self::Sint64 | Self::Bool | Self::Enum(_) => Wire::Varint(0),
            Self::String | Self::Bytes | Self::Message(_) => Wire::Bytes(b""),
            Self::Group(_) => Wire::Group(b""),
        }
    }
}

impl Field {
    /// Whether a value of this field may stand so in the bytes.
    #[inline]
    pub fn accepts(&self, wire: &Wire<'_>) -> bool {
        match self.shape {
            Shape::Map(_) => matches!(wire, Wire::Bytes(_)),
            Shape::Repeated(_) if self.kind.is_packable() && matches!(wire, Wire::Bytes(_)) => true,
            _ => self.kind.accepts(wire),
        }
    }
}

impl Message {
    /// The field of a number; `near` is where it is looked for first.
    #[inline]
    pub fn field_index(&self, number: u32, near: usize) -> Option<usize> {
        if self.fields.get(near).is_some_and(|field| field.number == number) {
            return Some(near);
        }
        let found = self.by_number.binary_search_by_key(&number, |numbered| numbered.number).ok()?;
        Some(self.by_number[found].field as usize)
    }
}

#[derive(Debug)]
pub struct Enum {
    pub full_name: Box<str>,
    /// The first name of each number, sorted by number.
    pub values: Box<[EnumValue]>,
    /// All names.
    pub by_name: HashMap<Box<str>, i32>,
    /// Whether it is `google.protobuf.NullValue`.
    pub is_null: bool,
}

#[derive(Debug)]
pub struct EnumValue {
    pub number: i32,
    /// As a JSON string.
    pub json: Box<[u8]>,
}

impl Enum {
    /// The value of a number.
    #[inline]
    pub fn value(&self, number: i32) -> Option<&EnumValue> {
        // Values are mostly numbered from 0 on.
        match usize::try_from(number).ok().and_then(|number| self.values.get(number)) {
            Some(value) if value.number == number => Some(value),
            _ => {
                let found = self.values.binary_search_by_key(&number, |value| value.number).ok()?;
                self.values.get(found)
            }
        }
    }
}
