//! MessagePack, shown as the JSON with the same content.

use super::text::unsafe_at;
use super::{Codec, encode_or_base64};
use crate::error::Result;
use serde::Serialize;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, SerializeSeq, Serializer};
use std::cell::Cell;
use std::fmt;
use std::io;

/// MessagePack. What JSON cannot hold (binary, extensions, keys that are not
/// strings, numbers that are not finite) is not decoded. Read back, it is the same content, though perhaps not the same
/// bytes: MessagePack has several for one number.
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

impl MessagePack {
    /// How the name of a field in MessagePack ends.
    pub const SUFFIX: &str = "_msgpack";

    /// Appends the JSON of `bytes`; `false`, with nothing appended, where they are not one MessagePack value that JSON
    /// can hold.
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let start = out.len();
        let mut rest = bytes;
        let mut reader = rmp_serde::Deserializer::new(&mut rest);
        reader.set_max_depth(DEPTH);
        let mut writer = serde_json::Serializer::with_formatter(&mut *out, Visible);
        let passed = Passed::from(&mut reader).serialize(&mut writer);
        let is_whole = passed.is_ok() && rest.is_empty();
        if !is_whole {
            out.truncate(start);
        }
        is_whole
    }

    /// Appends the MessagePack of a JSON text.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn parse_text(self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let passed = Passed::from(&mut reader).serialize(&mut rmp_serde::Serializer::new(out));
        passed.map_err(|e| format!("expected JSON: {e}"))?;
        reader.end().map_err(|e| format!("expected JSON: {e}"))
    }
}

/// How deep values may be nested; serde_json's limit for JSON.
const DEPTH: usize = 128;

impl Codec for MessagePack {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        encode_or_base64(out, field, Self::SUFFIX, bytes, |out| self.write_text(out, bytes))
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.parse_text(json, out)
    }
}

/// Compact JSON in which nothing moves a cursor or ends a line.
struct Visible;

impl serde_json::ser::Formatter for Visible {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut plain_from = 0;
        for index in (0..bytes.len()).filter(|index| bytes[*index] >= 0x7f) {
            if let Some((escape, len)) = unsafe_at(bytes, index) {
                writer.write_all(&bytes[plain_from..index])?;
                writer.write_all(&escape)?;
                plain_from = index + len;
            }
        }
        writer.write_all(&bytes[plain_from..])
    }
}

/// A value that goes from a reader to a writer, without a tree in between. The writer asks for it once.
struct Passed<D>(Cell<Option<D>>);

impl<'de, D: Deserializer<'de>> Passed<D> {
    fn from(reader: D) -> Self {
        Self(Cell::new(Some(reader)))
    }
}

impl<'de, D: Deserializer<'de>> Serialize for Passed<D> {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        let reader = self.0.take().ok_or_else(|| S::Error::custom("asked for twice"))?;
        reader.deserialize_any(Passing(writer)).map_err(S::Error::custom)
    }
}

struct Passing<S>(S);

impl<'de, S: Serializer> Visitor<'de> for Passing<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E: de::Error>(self) -> Result<S::Ok, E> {
        self.0.serialize_unit().map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<S::Ok, E> {
        self.0.serialize_bool(value).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<S::Ok, E> {
        self.0.serialize_i64(value).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<S::Ok, E> {
        self.0.serialize_u64(value).map_err(E::custom)
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<S::Ok, E> {
        if !value.is_finite() {
            return Err(E::custom("not finite"));
        }
        self.0.serialize_f32(value).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<S::Ok, E> {
        if !value.is_finite() {
            return Err(E::custom("not finite"));
        }
        self.0.serialize_f64(value).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<S::Ok, E> {
        self.0.serialize_str(value).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<S::Ok, A::Error> {
        let mut list = self.0.serialize_seq(elements.size_hint()).map_err(A::Error::custom)?;
        while elements.next_element_seed(Element(&mut list))?.is_some() {}
        list.end().map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<S::Ok, A::Error> {
        let mut object = self.0.serialize_map(members.size_hint()).map_err(A::Error::custom)?;
        while members.next_key_seed(Name(&mut object))?.is_some() {
            members.next_value_seed(Member(&mut object))?;
        }
        object.end().map_err(A::Error::custom)
    }
}

struct Element<'a, L>(&'a mut L);

impl<'de, L: SerializeSeq> DeserializeSeed<'de> for Element<'_, L> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.0.serialize_element(&Passed::from(reader)).map_err(D::Error::custom)
    }
}

struct Name<'a, M>(&'a mut M);

impl<'de, M: SerializeMap> DeserializeSeed<'de> for Name<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de, M: SerializeMap> Visitor<'de> for Name<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        self.0.serialize_key(name).map_err(E::custom)
    }
}

struct Member<'a, M>(&'a mut M);

impl<'de, M: SerializeMap> DeserializeSeed<'de> for Member<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.0.serialize_value(&Passed::from(reader)).map_err(D::Error::custom)
    }
}
