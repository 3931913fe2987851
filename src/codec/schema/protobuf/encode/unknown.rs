//! Fields that the schema does not have: JSON → bytes.

use super::super::super::Unfit;
use super::super::super::json::Json;
use super::super::wire::{MOST_NUMBER, RawField, Wire, write_field};
use super::Result;
use super::scalar::bytes;

/// The member that holds them.
pub const NAME: &str = "@unknown";

/// Appends the fields.
pub fn read(list: Json<'_>, out: &mut Vec<u8>) -> Result {
    if list.first() != b'[' {
        return Err(list.unfit("an array"));
    }
    let mut elements = list.items("an array")?;
    let mut index = 0;
    while let Some(element) = elements.element() {
        field(element, out).map_err(|e| e.in_element(index))?;
        index += 1;
    }
    Ok(())
}

fn field(json: Json<'_>, out: &mut Vec<u8>) -> Result {
    let what = r#"an object such as {"number":15,"varint":"1"}"#;
    if json.first() != b'{' {
        return Err(json.unfit(what));
    }
    let (mut number, mut value, mut data) = (None, None, Vec::new());
    let mut members = json.items(what)?;
    while let Some((name, member)) = members.member() {
        let name = name.string("a valid string")?;
        let integer = || member.number_or_string(what);
        let parsed = match &*name {
            "number" => {
                number = integer()?.parse().ok().filter(|number| (1..=MOST_NUMBER).contains(number));
                continue;
            }
            "varint" => integer()?.parse().ok().map(Wire::Varint),
            "fixed64" => integer()?.parse().ok().map(Wire::Fixed64),
            "fixed32" => integer()?.parse().ok().map(Wire::Fixed32),
            "bytes" => {
                data = bytes(member)?;
                Some(Wire::Bytes(b""))
            }
            "group" => {
                data = bytes(member)?;
                Some(Wire::Group(b""))
            }
            _ => None,
        };
        if parsed.is_none() || value.is_some() {
            return Err(json.unfit(what));
        }
        value = parsed;
    }
    let (Some(number), Some(value)) = (number, value) else { return Err(json.unfit(what)) };
    let value = match value {
        Wire::Bytes(_) => Wire::Bytes(&data),
        Wire::Group(_) => Wire::Group(&data),
        other => other,
    };
    let start = out.len();
    write_field(out, RawField { number, value });
    // The bytes of a group may be anything, including bytes that are not fields.
    match super::super::wire::RawFields::new(&out[start..]).next() {
        Ok(Some(read)) if read.number == number && read.value == value => Ok(()),
        _ => Err(Unfit::new("a group does not hold fields")),
    }
}
