//! The messages of `google.protobuf` that have a form of their own in JSON: JSON → bytes.

use super::super::super::Unfit;
use super::super::super::json::Json;
use super::super::super::time::{Moment, parse_moment, parse_seconds};
use super::super::mask;
use super::super::program::{Known, Message, Presence};
use super::super::wire::{RawField, Wire, write_field, write_tag};
use super::{Encoder, Result, delimited};

impl<'a> Encoder<'a> {
    /// Appends a message that stands in its own form; `false` where it stands as an object of its fields.
    pub(super) fn known(
        &mut self,
        known: Known,
        message: &'a Message,
        json: Json<'a>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let is_object = json.first() == b'{';
        match known {
            Known::Timestamp | Known::Duration | Known::FieldMask if is_object => return Ok(false),
            Known::Timestamp => {
                let what = "a timestamp such as 2026-11-25T22:31:00Z";
                let moment = parse_moment(&json.string(what)?).ok_or_else(|| json.unfit(what))?;
                write_moment(out, moment);
            }
            Known::Duration => {
                let what = "a duration such as 1.5s";
                let moment = parse_seconds(&json.string(what)?).ok_or_else(|| json.unfit(what))?;
                write_moment(out, moment);
            }
            Known::FieldMask => {
                let text = json.string("field names with commas between them")?;
                for path in text.split(',').filter(|path| !path.is_empty()) {
                    write_field(out, RawField { number: 1, value: Wire::Bytes(mask::snake(path).as_bytes()) });
                }
            }
            // A wrapper that has unknown fields is an object.
            Known::Wrapper if is_object => return Ok(false),
            Known::Wrapper => {
                if let Some(field) = message.fields.first() {
                    self.value(field.number, field.kind, Presence::Implicit, json, depth, out)?;
                }
            }
            Known::Struct | Known::ListValue => {
                let (first, what) = if known == Known::Struct { (b'{', "an object") } else { (b'[', "an array") };
                if json.first() != first {
                    return Err(json.unfit(what));
                }
                if let Some(field) = message.fields.first() {
                    self.field(field, json, depth, out)?;
                }
            }
            Known::Value => {
                let index = match json.first() {
                    b'n' => 0,
                    b'"' => 2,
                    b't' | b'f' => 3,
                    b'{' => 4,
                    b'[' => 5,
                    _ => 1,
                };
                if let Some(field) = message.fields.get(index) {
                    self.value(field.number, field.kind, Presence::Explicit, json, depth, out)?;
                }
            }
            Known::Any => return self.any(json, depth, out),
        }
        Ok(true)
    }

    /// A message with its type. Without a type it is empty, or the bytes of one that was not known.
    fn any(&mut self, json: Json<'a>, depth: usize, out: &mut Vec<u8>) -> Result<bool> {
        let program = self.program;
        let mut members = json.items("an object with \"@type\"")?;
        let (mut url, mut value, mut others) = (None, None, None);
        while json.first() == b'{'
            && let Some((name, member)) = members.member()
        {
            match &*name.string("a valid string")? {
                "@type" => url = Some(member),
                "value" => value = Some(member),
                other => others = Some(other.to_owned()),
            }
        }
        let Some(url) = url else { return Ok(false) };
        let url = url.string("the URL of a type").map_err(|e| e.in_field("@type"))?;
        let name = url.rsplit('/').next().unwrap_or_default();
        let Some(index) = program.by_name.get(name) else {
            return Err(Unfit::new(format!("the schema has no message {name}")).in_field("@type"));
        };
        let inner = program.message(*index);
        write_field(out, RawField { number: 1, value: Wire::Bytes(url.as_bytes()) });
        let start = out.len();
        write_tag(out, 2, 2);
        let body = out.len() + 1;
        delimited(out, |out| match (inner.known, value, others) {
            (None, ..) => self.members(inner, json, Some("@type"), depth + 1, out),
            (Some(_), Some(value), None) => self.message(*index, value, depth + 1, out),
            (Some(_), _, Some(other)) => Err(Unfit::new("expected \"value\" beside \"@type\"").in_field(&other)),
            (Some(_), None, None) => Err(Unfit::new("missing beside \"@type\"").in_field("value")),
        })?;
        if out.len() == body {
            out.truncate(start); // an empty message is not written
        }
        Ok(true)
    }
}

fn write_moment(out: &mut Vec<u8>, moment: Moment) {
    let field = |number, value: i64| RawField { number, value: Wire::Varint(value as u64) };
    if moment.seconds != 0 {
        write_field(out, field(1, moment.seconds));
    }
    if moment.nanos != 0 {
        write_field(out, field(2, moment.nanos.into()));
    }
}
