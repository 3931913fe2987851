//! Numbers, strings, bytes and enums: JSON → bytes.

use super::super::super::json::{Json, not_finite};
use super::super::program::{Enum, Kind, Program};
use super::super::wire::{RawField, Wire, write_field, write_varint, zigzag};
use super::Result;
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// A value as it will stand in the bytes.
pub enum Scalar<'a> {
    Number(Wire<'static>),
    Bytes(Cow<'a, [u8]>),
}

impl Scalar<'_> {
    /// Whether it is what stands for its absence; a negative zero is not.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Number(number) => matches!(number, Wire::Varint(0) | Wire::Fixed64(0) | Wire::Fixed32(0)),
        }
    }

    /// Appends it as a field.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        let value = match self {
            Self::Number(value) => *value,
            Self::Bytes(bytes) => Wire::Bytes(bytes),
        };
        write_field(out, RawField { number, value });
    }

    /// Appends a number without a tag.
    pub fn write_packed(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(Wire::Varint(value)) => write_varint(out, *value),
            Self::Number(Wire::Fixed64(value)) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Number(Wire::Fixed32(value)) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Number(_) | Self::Bytes(_) => (), // neither is packed
        }
    }
}

/// Encodes a value of a scalar type or an enum.
pub fn scalar<'a>(program: &Program, kind: Kind, json: Json<'a>) -> Result<Scalar<'a>> {
    let number = match kind {
        // Negative numbers take ten bytes.
        Kind::Int32 => Wire::Varint(i64::from(int32(json)?) as u64),
        Kind::Int64 => Wire::Varint(int64(json)? as u64),
        Kind::Uint32 => Wire::Varint(uint32(json)?.into()),
        Kind::Uint64 => Wire::Varint(uint64(json)?),
        Kind::Sint32 => Wire::Varint(u64::from(zigzag(int32(json)?.into()) as u32)),
        Kind::Sint64 => Wire::Varint(zigzag(int64(json)?)),
        Kind::Fixed32 => Wire::Fixed32(uint32(json)?),
        Kind::Fixed64 => Wire::Fixed64(uint64(json)?),
        Kind::Sfixed32 => Wire::Fixed32(int32(json)? as u32),
        Kind::Sfixed64 => Wire::Fixed64(int64(json)? as u64),
        Kind::Double => Wire::Fixed64(float(json, "a number (double)", |value| value)?.to_bits()),
        Kind::Float => {
            let value: f32 = float(json, "a number of 32 bits (float)", |value| value as f32)?;
            Wire::Fixed32(value.to_bits())
        }
        Kind::Bool => match json.text() {
            "true" => Wire::Varint(1),
            "false" => Wire::Varint(0),
            _ => return Err(json.unfit("true or false")),
        },
        Kind::Enum(index) => Wire::Varint(i64::from(enumeration(program.enumeration(index), json)?) as u64),
        Kind::String => {
            return Ok(Scalar::Bytes(match json.string("a string")? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }));
        }
        Kind::Bytes => return bytes(json).map(|bytes| Scalar::Bytes(Cow::Owned(bytes))),
        Kind::Message(_) | Kind::Group(_) => return Err(json.unfit("a scalar value")),
    };
    Ok(Scalar::Number(number))
}

fn int32(json: Json<'_>) -> Result<i32> {
    integer(json, "an integer of 32 bits")
}

fn int64(json: Json<'_>) -> Result<i64> {
    integer(json, "an integer of 64 bits")
}

fn uint32(json: Json<'_>) -> Result<u32> {
    integer(json, "an unsigned integer of 32 bits")
}

fn uint64(json: Json<'_>) -> Result<u64> {
    integer(json, "an unsigned integer of 64 bits")
}

/// A number or a string with one. It may have a fraction of zeros or an exponent, as far as it is exact.
fn integer<T: std::str::FromStr + TryFrom<i64>>(json: Json<'_>, what: &str) -> Result<T> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let text = json.number_or_string(what)?;
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    let value = text.parse::<f64>().ok().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT);
    value.and_then(|value| T::try_from(value as i64).ok()).ok_or_else(|| json.unfit(what))
}

/// A number, a string with one, or `"NaN"` and the like.
fn float<T: std::str::FromStr + Copy + Into<f64>>(json: Json<'_>, what: &str, of: impl Fn(f64) -> T) -> Result<T> {
    let text = json.number_or_string(what)?;
    if let Some(value) = not_finite(&text) {
        return Ok(of(value));
    }
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let value = text.parse().ok().filter(|value: &T| is_number && (*value).into().is_finite());
    value.ok_or_else(|| json.unfit(what))
}

fn enumeration(of: &Enum, json: Json<'_>) -> Result<i32> {
    let what = || format!("a name or number of enum {}", of.full_name);
    match json.first() {
        b'n' if of.is_null => Ok(0),
        b'"' => {
            let name = json.string("")?;
            of.by_name.get(&*name).copied().ok_or_else(|| json.unfit(&what()))
        }
        _ => json.text().parse().map_err(|_| json.unfit(&what())),
    }
}

/// Bytes in base64, of either alphabet and with or without padding.
pub fn bytes(json: Json<'_>) -> Result<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    let what = "bytes in base64";
    let text = json.string(what)?;
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, CONFIG).decode(&*text).map_err(|_| json.unfit(what))
}
