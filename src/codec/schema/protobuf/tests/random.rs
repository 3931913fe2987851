//! Random messages.

use super::super::wire::{RawFields, write_field};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::Value as Json;
use std::collections::HashMap;

pub struct Random(fastrand::Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                message.set_field_by_name("seconds", Value::I64(self.0.i64(-62_135_596_800..253_402_300_800)));
                message.set_field_by_name("nanos", Value::I32(self.nanos()));
                return message;
            }
            "google.protobuf.Duration" => {
                let sign = if self.0.bool() { 1 } else { -1 };
                message.set_field_by_name("seconds", Value::I64(sign * self.0.i64(0..=315_576_000_000)));
                message.set_field_by_name("nanos", Value::I32(sign as i32 * self.nanos()));
                return message;
            }
            // prost-reflect writes null for one that is not finite.
            "google.protobuf.DoubleValue" => {
                message.set_field_by_name("value", Value::F64(self.0.f64()));
                return message;
            }
            "google.protobuf.FieldMask" => {
                let paths = (0..self.0.usize(0..3)).map(|n| Value::String(format!("a_b{n}.cd_e")));
                message.set_field_by_name("paths", Value::List(paths.collect()));
                return message;
            }
            "google.protobuf.Value" => {
                let fields: Vec<FieldDescriptor> = descriptor.fields().collect();
                // Numbers here are finite.
                let field = if depth == 0 { fields[2].clone() } else { self.0.choice(fields).unwrap() };
                let value = match field.kind() {
                    Kind::Double => Value::F64(1.5),
                    Kind::Enum(_) => Value::EnumNumber(0),
                    _ => self.value(&field, depth),
                };
                message.set_field(&field, value);
                return message;
            }
            _ => (),
        }
        for field in descriptor.fields() {
            // prost-reflect does not write an Any that is empty.
            let is_any = matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Any");
            if self.0.bool() && !is_any {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn nanos(&mut self) -> i32 {
        *self.0.choice(&[0, 1, 999_999_999, 500_000_000, 123_456_000]).unwrap()
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let count = if depth == 0 { 0 } else { self.0.usize(0..3) };
        if field.is_list() {
            return Value::List((0..count).map(|_| self.value(field, depth)).collect());
        }
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { panic!() };
            let mut map = HashMap::new();
            for _ in 0..count {
                let key = match entry.map_entry_key_field().kind() {
                    Kind::String => MapKey::String(self.text()),
                    Kind::Bool => MapKey::Bool(self.0.bool()),
                    _ => MapKey::I64(self.0.i64(..)),
                };
                map.insert(key, self.value(&entry.map_entry_value_field(), depth));
            }
            return Value::Map(map);
        }
        self.value(field, depth)
    }

    fn text(&mut self) -> String {
        (*self.0.choice(&["", "a", "é\u{1f600}", "\"\\\n\u{7f}", "NaN"]).unwrap()).to_owned()
    }

    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        match field.kind() {
            Kind::Double => Value::F64(*self.0.choice(&[0.0, -0.0, 0.1, f64::MAX, f64::NAN, f64::INFINITY]).unwrap()),
            Kind::Float => {
                Value::F32(*self.0.choice(&[0.0, -0.0, 0.1, f32::MAX, f32::NAN, f32::NEG_INFINITY]).unwrap())
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                Value::I32(*self.0.choice(&[0, 1, -1, i32::MIN, i32::MAX]).unwrap())
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Value::I64(*self.0.choice(&[0, 1, -1, i64::MIN, i64::MAX]).unwrap())
            }
            Kind::Uint32 | Kind::Fixed32 => Value::U32(*self.0.choice(&[0, 1, u32::MAX]).unwrap()),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(*self.0.choice(&[0, 1, u64::MAX]).unwrap()),
            Kind::Bool => Value::Bool(self.0.bool()),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes((0..self.0.usize(0..4)).map(|_| self.0.u8(..)).collect::<Vec<u8>>().into()),
            Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => Value::EnumNumber(0),
            Kind::Enum(_) => Value::EnumNumber(*self.0.choice(&[0, 1, -1, 77]).unwrap()),
            Kind::Message(message) => Value::Message(self.message(&message, depth.saturating_sub(1))),
        }
    }

    /// The same fields in another order.
    pub fn shuffled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        let mut raw = RawFields::new(bytes);
        while let Some(field) = raw.next().unwrap() {
            fields.push(field);
        }
        self.0.shuffle(&mut fields);
        let mut out = Vec::new();
        fields.into_iter().for_each(|field| write_field(&mut out, field));
        out
    }
}

/// Numbers as one sort, because prost-reflect writes `1` for what is `1.0` here.
pub fn numbers(json: Json) -> Json {
    match json {
        Json::Number(number) => Json::String(format!("{:e}", number.as_f64().unwrap())),
        Json::Array(list) => list.into_iter().map(numbers).collect(),
        Json::Object(members) => members.into_iter().map(|(name, value)| (name, numbers(value))).collect(),
        other => other,
    }
}
