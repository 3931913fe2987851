//! Numbers of a fixed width, as Kafka's serializers write them (big-endian) or a CPU does (little-endian).

use super::{Codec, encode_or_base64};
use crate::error::Result;

/// Declares the numbers: variant, name, ending of the field's name, type, conversions, and how an error names it.
macro_rules! numbers {
    ($($variant:ident $name:literal $suffix:literal $type:ty, $from:ident, $to:ident, $described:literal;)*) => {
        /// A number of a fixed width.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Number {
            $(#[doc = $described] $variant,)*
        }

        impl Number {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How the name of a field with such a number ends.
            pub fn suffix(self) -> &'static str {
                match self { $(Self::$variant => $suffix,)* }
            }

            /// What it is, for people.
            pub fn described(self) -> &'static str {
                match self { $(Self::$variant => $described,)* }
            }

            /// Appends the number in decimal digits; `false`, with nothing appended, where `bytes` have another width or
            /// are not finite.
            pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) -> bool {
                match self {
                    $(Self::$variant => {
                        let Ok(bytes) = bytes.try_into() else { return false };
                        let number = <$type>::$from(bytes);
                        (number as f64).is_finite() && serde_json::to_writer(out, &number).is_ok()
                    })*
                }
            }

            /// Appends the bytes of the number that `text` is.
            ///
            /// # Errors
            /// It is not such a number.
            pub fn parse_text(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
                match self {
                    $(Self::$variant => {
                        let number: $type = text.trim().parse().map_err(|_| format!("expected {}", $described))?;
                        out.extend_from_slice(&number.$to());
                    })*
                }
                Ok(())
            }
        }
    };
}

numbers! {
    I8 "i8" "_i8" i8, from_be_bytes, to_be_bytes, "a signed 8-bit integer";
    I16 "i16" "_i16" i16, from_be_bytes, to_be_bytes, "a signed 16-bit integer";
    I32 "i32" "_i32" i32, from_be_bytes, to_be_bytes, "a signed 32-bit integer";
    I64 "i64" "_i64" i64, from_be_bytes, to_be_bytes, "a signed 64-bit integer";
    U8 "u8" "_u8" u8, from_be_bytes, to_be_bytes, "an unsigned 8-bit integer";
    U16 "u16" "_u16" u16, from_be_bytes, to_be_bytes, "an unsigned 16-bit integer";
    U32 "u32" "_u32" u32, from_be_bytes, to_be_bytes, "an unsigned 32-bit integer";
    U64 "u64" "_u64" u64, from_be_bytes, to_be_bytes, "an unsigned 64-bit integer";
    F32 "f32" "_f32" f32, from_be_bytes, to_be_bytes, "a 32-bit floating-point number";
    F64 "f64" "_f64" f64, from_be_bytes, to_be_bytes, "a 64-bit floating-point number";
    I16Le "i16-le" "_i16_le" i16, from_le_bytes, to_le_bytes, "a signed 16-bit integer";
    I32Le "i32-le" "_i32_le" i32, from_le_bytes, to_le_bytes, "a signed 32-bit integer";
    I64Le "i64-le" "_i64_le" i64, from_le_bytes, to_le_bytes, "a signed 64-bit integer";
    U16Le "u16-le" "_u16_le" u16, from_le_bytes, to_le_bytes, "an unsigned 16-bit integer";
    U32Le "u32-le" "_u32_le" u32, from_le_bytes, to_le_bytes, "an unsigned 32-bit integer";
    U64Le "u64-le" "_u64_le" u64, from_le_bytes, to_le_bytes, "an unsigned 64-bit integer";
    F32Le "f32-le" "_f32_le" f32, from_le_bytes, to_le_bytes, "a 32-bit floating-point number";
    F64Le "f64-le" "_f64_le" f64, from_le_bytes, to_le_bytes, "a 64-bit floating-point number";
}

impl Codec for Number {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        encode_or_base64(out, field, self.suffix(), bytes, |out| self.write_text(out, bytes))
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.parse_text(json, out)
    }
}
