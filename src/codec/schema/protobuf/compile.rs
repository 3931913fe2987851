//! Descriptors → a program.

use super::program::{Enum, EnumValue, Field, Kind, Known, Message, Numbered, Packing, Presence, Program, Shape};
use crate::codec::write_string;
use protox::prost_reflect::prost_types::{EnumValueDescriptorProto, FieldDescriptorProto};
use protox::prost_reflect::{
    self, Cardinality, DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, Syntax,
};
use std::collections::HashMap;

/// Compiles all messages of a pool.
pub fn compile(pool: &DescriptorPool) -> Program {
    let by_name: HashMap<Box<str>, u32> =
        pool.all_messages().enumerate().map(|(index, message)| (message.full_name().into(), index as u32)).collect();
    let enums: HashMap<String, u32> =
        pool.all_enums().enumerate().map(|(index, of)| (of.full_name().to_owned(), index as u32)).collect();
    let compiler = Compiler { messages: &by_name, enums: &enums };
    let messages: Vec<Message> = pool.all_messages().map(|message| compiler.message(&message)).collect();
    let enums: Vec<Enum> = pool.all_enums().map(|of| enumeration(&of)).collect();
    let names = messages.iter().flat_map(|message| &message.fields).map(|field| field.json_prefix.len());
    let symbols = enums.iter().flat_map(|of| &of.values).map(|value| value.json.len());
    let growth = 64 + names.max().unwrap_or(0) + symbols.max().unwrap_or(0);
    Program { messages, enums, by_name, growth }
}

struct Compiler<'a> {
    messages: &'a HashMap<Box<str>, u32>,
    enums: &'a HashMap<String, u32>,
}

impl Compiler<'_> {
    fn message(&self, descriptor: &MessageDescriptor) -> Message {
        let mut declared: Vec<FieldDescriptor> = descriptor.fields().collect();
        declared.sort_by_key(|field| field.path().last().copied());
        let mut fields: Vec<Field> = declared.iter().filter_map(|field| self.field(field)).collect();
        fields.extend(descriptor.extensions().filter_map(|extension| self.extension(&extension)));
        let mut by_number: Vec<Numbered> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| Numbered { number: field.number, field: index as u32 })
            .collect();
        by_number.sort_by_key(|numbered| numbered.number);
        let mut by_name: HashMap<Box<str>, u32> = HashMap::new();
        // The names of the JSON mapping count first.
        for (index, field) in declared.iter().enumerate() {
            by_name.entry(field.json_name().into()).or_insert(index as u32);
        }
        for (index, field) in fields.iter().enumerate() {
            by_name.entry(field.name.clone()).or_insert(index as u32);
        }
        Message {
            full_name: descriptor.full_name().into(),
            fields: fields.into(),
            by_number: by_number.into(),
            by_name,
            known: Known::named(descriptor.full_name()),
        }
    }

    fn field(&self, field: &FieldDescriptor) -> Option<Field> {
        let presence = match field.cardinality() {
            Cardinality::Required => Presence::Required,
            _ if field.supports_presence() => Presence::Explicit,
            _ => Presence::Implicit,
        };
        let (kind, shape) = if field.is_map() {
            let prost_reflect::Kind::Message(entry) = field.kind() else { return None };
            let key = self.kind(&entry.map_entry_key_field().kind(), false)?;
            let value = entry.map_entry_value_field();
            (self.kind(&value.kind(), value.is_group())?, Shape::Map(key))
        } else {
            let packing = packing(field.field_descriptor_proto(), field.parent_file().syntax());
            (self.kind(&field.kind(), field.is_group())?, shape(field.cardinality(), packing, presence))
        };
        let oneof = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1);
        Some(Field {
            number: field.number(),
            name: field.name().into(),
            json_prefix: prefix(field.json_name()),
            proto_prefix: prefix(field.name()),
            kind,
            shape,
            oneof: oneof.and_then(|oneof| oneof.path().last().map(|index| *index as u32)),
        })
    }

    /// Of proto2: its name stands in brackets.
    fn extension(&self, extension: &ExtensionDescriptor) -> Option<Field> {
        let name = format!("[{}]", extension.full_name());
        let packing = packing(extension.field_descriptor_proto(), extension.parent_file().syntax());
        Some(Field {
            number: extension.number(),
            json_prefix: prefix(&name),
            proto_prefix: prefix(&name),
            name: name.into(),
            kind: self.kind(&extension.kind(), extension.is_group())?,
            shape: shape(extension.cardinality(), packing, Presence::Explicit),
            oneof: None,
        })
    }

    /// `None` cannot be: the pool holds what its messages use.
    fn kind(&self, kind: &prost_reflect::Kind, is_group: bool) -> Option<Kind> {
        use protox::prost_reflect::Kind as Described;
        Some(match kind {
            Described::Double => Kind::Double,
            Described::Float => Kind::Float,
            Described::Int32 => Kind::Int32,
            Described::Int64 => Kind::Int64,
            Described::Uint32 => Kind::Uint32,
            Described::Uint64 => Kind::Uint64,
            Described::Sint32 => Kind::Sint32,
            Described::Sint64 => Kind::Sint64,
            Described::Fixed32 => Kind::Fixed32,
            Described::Fixed64 => Kind::Fixed64,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Bool => Kind::Bool,
            Described::String => Kind::String,
            Described::Bytes => Kind::Bytes,
            Described::Message(message) if is_group => Kind::Group(*self.messages.get(message.full_name())?),
            Described::Message(message) => Kind::Message(*self.messages.get(message.full_name())?),
            Described::Enum(of) => Kind::Enum(*self.enums.get(of.full_name())?),
        })
    }
}

/// How a field would be written if it were repeated; packed is the default of proto3.
fn packing(field: &FieldDescriptorProto, syntax: Syntax) -> Packing {
    match field.options.as_ref().and_then(|options| options.packed) {
        Some(true) => Packing::Packed,
        None if syntax == Syntax::Proto3 => Packing::Packed,
        Some(false) | None => Packing::Expanded,
    }
}

fn shape(cardinality: Cardinality, packing: Packing, presence: Presence) -> Shape {
    match cardinality {
        Cardinality::Repeated => Shape::Repeated(packing),
        Cardinality::Optional | Cardinality::Required => Shape::Singular(presence),
    }
}

fn enumeration(descriptor: &EnumDescriptor) -> Enum {
    let declared = &descriptor.enum_descriptor_proto().value;
    let value = |value: &EnumValueDescriptorProto| EnumValue { number: value.number(), json: quoted(value.name()) };
    let mut values: Vec<EnumValue> = declared.iter().map(value).collect();
    // Of several names for a number the first counts.
    values.sort_by_key(|value| value.number);
    values.dedup_by_key(|value| value.number);
    Enum {
        full_name: descriptor.full_name().into(),
        values: values.into(),
        by_name: descriptor.values().map(|value| (value.name().into(), value.number())).collect(),
        is_null: descriptor.full_name() == "google.protobuf.NullValue",
    }
}

fn quoted(name: &str) -> Box<[u8]> {
    let mut json = Vec::new();
    write_string(&mut json, name);
    json.into()
}

fn prefix(name: &str) -> Box<[u8]> {
    let mut json = Vec::new();
    write_string(&mut json, name);
    json.push(b':');
    json.into()
}
