//! How records name the schema of their key or value: pure functions over bytes and headers.
//!
//! | framing | where | bytes |
//! |---|---|---|
//! | Confluent | before the body | `00`, ID in 4 bytes |
//! | Confluent, since 8.0 | header `__key_schema_id` or `__value_schema_id` | `01`, GUID in 16 bytes |
//! | Apicurio 2 | before the body | `00`, global ID in 8 bytes |
//! | Apicurio 2 and 3 | header `apicurio.value.globalId` or `…contentId` | ID in 8 bytes |
//! | AWS Glue | before the body | `03`, compression, version ID in 16 bytes |
//!
//! Apicurio 3 writes Confluent's framing by default. All integers are big-endian. Confluent's IDs begin with 1: four
//! zero bytes are the upper half of Apicurio's 8.

use super::SchemaId;
use crate::record::{HeaderBuf, Headers, varint};
use uuid::Uuid;

const ID: u8 = 0;
const GUID: u8 = 1;
const GLUE: u8 = 3;
const GLUE_STORED: u8 = 0;
const GLUE_ZLIB: u8 = 5;
/// The length of a UUID.
const UUID: usize = 16;
/// The most message indexes that are read: messages of Protobuf are nested no deeper.
const MOST_INDEXES: i64 = 100;

/// A part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
}

impl Part {
    /// Its name in JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }

    /// Confluent's header with a GUID.
    fn guid_header(self) -> &'static [u8] {
        match self {
            Self::Key => b"__key_schema_id",
            Self::Value => b"__value_schema_id",
        }
    }

    /// What the names of Apicurio's headers begin with.
    fn apicurio_prefix(self) -> &'static [u8] {
        match self {
            Self::Key => b"apicurio.key.",
            Self::Value => b"apicurio.value.",
        }
    }

    /// Apicurio's header with the name of a Protobuf message.
    fn apicurio_type_header(self) -> &'static [u8] {
        match self {
            Self::Key => b"apicurio.protobuf.type.key",
            Self::Value => b"apicurio.protobuf.type",
        }
    }
}

/// How the body of a value is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    None,
    /// RFC 1950, as AWS Glue has it.
    Zlib,
}

/// Where a record names the message of its Protobuf schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagePlace<'a> {
    /// Confluent's message indexes, before the body.
    IndexesInBody,
    /// Confluent's message indexes, behind the GUID in the header.
    Indexes(&'a [u8]),
    /// Apicurio's: a header with the name, or a length-prefixed reference before the body.
    Apicurio {
        /// The name in the header.
        name: Option<&'a [u8]>,
    },
    /// AWS Glue's: one varint before the body, which counts messages in the order of their names.
    GlueIndex,
}

/// A value that names its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    pub id: SchemaId,
    /// What follows the frame.
    pub body: &'a [u8],
    pub packing: Packing,
    pub message: MessagePlace<'a>,
}

/// Which framings are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// All.
    #[default]
    Auto,
    /// The body is all there is.
    None,
    /// Confluent's, before the body or in a header.
    Confluent,
    /// Apicurio's, before the body or in a header.
    Apicurio,
    /// AWS Glue's.
    Glue,
}

impl Framing {
    /// All of them, by their names on the command line.
    pub const ALL: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("none", Self::None),
        ("confluent", Self::Confluent),
        ("apicurio", Self::Apicurio),
        ("glue", Self::Glue),
    ];

    /// The frame of `bytes`, which are `part` of a record with these `headers`; `None` of bytes without one.
    #[inline]
    pub fn recognize<'a>(self, part: Part, bytes: &'a [u8], headers: Headers<'a>) -> Option<Framed<'a>> {
        if self == Self::None {
            return None;
        }
        // What text begins with is looked at no further.
        if headers.is_empty() && begins_as_text(bytes) {
            return None;
        }
        self.recognize_frame(part, bytes, headers)
    }

    #[inline(never)]
    fn recognize_frame<'a>(self, part: Part, bytes: &'a [u8], headers: Headers<'a>) -> Option<Framed<'a>> {
        if !headers.is_empty() && self != Self::Glue {
            let found = in_headers(part, bytes, headers);
            if found.is_some_and(|found| self.includes(found.id)) {
                return found;
            }
        }
        match *bytes.first()? {
            ID if self != Self::Glue => self.before_body(&bytes[1..]),
            GUID if matches!(self, Self::Auto | Self::Confluent) => {
                let (guid, body) = split_uuid(&bytes[1..])?;
                let (packing, message) = (Packing::None, MessagePlace::IndexesInBody);
                Some(Framed { id: SchemaId::Guid(guid), body, packing, message })
            }
            GLUE if matches!(self, Self::Auto | Self::Glue) => {
                let packing = match *bytes.get(1)? {
                    GLUE_STORED => Packing::None,
                    GLUE_ZLIB => Packing::Zlib,
                    _ => return None,
                };
                let (version, body) = split_uuid(&bytes[2..])?;
                let id = SchemaId::GlueVersion(version);
                Some(Framed { id, body, packing, message: MessagePlace::GlueIndex })
            }
            _ => None,
        }
    }

    fn includes(self, id: SchemaId) -> bool {
        match self {
            Self::Auto => true,
            Self::None => false,
            Self::Confluent => matches!(id, SchemaId::Id(_) | SchemaId::Guid(_)),
            Self::Apicurio => matches!(id, SchemaId::GlobalId(_) | SchemaId::ContentId(_)),
            Self::Glue => matches!(id, SchemaId::GlueVersion(_)),
        }
    }

    /// The frame behind a zero byte.
    fn before_body(self, bytes: &[u8]) -> Option<Framed<'_>> {
        let (short, rest) = bytes.split_first_chunk::<4>()?;
        let id = u32::from_be_bytes(*short);
        let is_long = match self {
            Self::Auto => id == 0,
            Self::Apicurio => true,
            _ => false,
        };
        if is_long {
            let (long, body) = bytes.split_first_chunk::<8>()?;
            let (id, message) = (SchemaId::GlobalId(u64::from_be_bytes(*long)), MessagePlace::Apicurio { name: None });
            return Some(Framed { id, body, packing: Packing::None, message });
        }
        let message = MessagePlace::IndexesInBody;
        (id != 0).then_some(Framed { id: SchemaId::Id(id), body: rest, packing: Packing::None, message })
    }
}

/// Whether no frame without headers begins with the first of `bytes`.
#[inline]
pub fn begins_as_text(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first > GLUE)
}

/// What headers say of the schema of `body`.
fn in_headers<'a>(part: Part, body: &'a [u8], headers: Headers<'a>) -> Option<Framed<'a>> {
    let (mut found, mut name) = (None, None);
    for header in headers.iter() {
        let Some(value) = header.value else { continue };
        if header.key == part.guid_header() {
            let [GUID, rest @ ..] = value else { continue };
            let Some((guid, indexes)) = split_uuid(rest) else { continue };
            found = Some((SchemaId::Guid(guid), Some(indexes)));
        } else if let Some(kind) = header.key.strip_prefix(part.apicurio_prefix()) {
            let number = || value.try_into().ok().map(u64::from_be_bytes);
            match kind {
                b"globalId" => found = number().map(|id| (SchemaId::GlobalId(id), None)).or(found),
                b"contentId" => found = number().map(|id| (SchemaId::ContentId(id), None)).or(found),
                b"msgType" => name = Some(value),
                _ => {}
            }
        } else if header.key == part.apicurio_type_header() {
            name = Some(value);
        }
    }
    let (id, indexes) = found?;
    let message = match indexes {
        Some(indexes) => MessagePlace::Indexes(indexes),
        None => MessagePlace::Apicurio { name },
    };
    Some(Framed { id, body, packing: Packing::None, message })
}

fn split_uuid(bytes: &[u8]) -> Option<(Uuid, &[u8])> {
    let (uuid, rest) = bytes.split_first_chunk::<UUID>()?;
    Some((Uuid::from_bytes(*uuid), rest))
}

/// Reads Confluent's message indexes off the front of `bytes` into `path`: the index of a message in its file, and of each
/// message nested in it. A lone zero stands for the first message.
pub fn read_indexes(bytes: &mut &[u8], path: &mut Vec<i32>) -> Option<()> {
    path.clear();
    let count = varint::read(bytes)?;
    if count == 0 {
        path.push(0);
        return Some(());
    }
    if !(1..=MOST_INDEXES).contains(&count) {
        return None;
    }
    for _ in 0..count {
        path.push(i32::try_from(varint::read(bytes)?).ok().filter(|index| *index >= 0)?);
    }
    Some(())
}

/// Appends Confluent's message indexes.
pub fn write_indexes(path: &[i32], out: &mut Vec<u8>) {
    if path == [0] {
        out.push(0);
        return;
    }
    varint::write(out, path.len() as i64);
    path.iter().for_each(|index| varint::write(out, i64::from(*index)));
}

/// Reads Apicurio's reference to a message off the front of `bytes`: a Protobuf message with the name in field 1, behind
/// its length.
pub fn read_apicurio_reference<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *bytes;
    let len = varint::read_unsigned(&mut rest)?;
    let (mut reference, body) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let (tag, after) = reference.split_first()?;
    reference = after;
    if *tag != 0x0a {
        return None;
    }
    let len = varint::read_unsigned(&mut reference)?;
    let name = reference.get(..usize::try_from(len).ok()?)?;
    *bytes = body;
    Some(name)
}

/// Appends Apicurio's reference to a message.
pub fn write_apicurio_reference(name: &str, out: &mut Vec<u8>) {
    let mut reference = vec![0x0a];
    varint::write_unsigned(&mut reference, name.len() as u64);
    reference.extend_from_slice(name.as_bytes());
    varint::write_unsigned(out, reference.len() as u64);
    out.extend_from_slice(&reference);
}

/// Whether `headers` name `id` as the schema of `part`.
pub fn is_in_headers(part: Part, id: SchemaId, headers: Headers<'_>) -> bool {
    !headers.is_empty() && in_headers(part, &[], headers).is_some_and(|found| found.id == id)
}

/// Appends the frame that stands before a body. An ID that only stands in headers has none.
pub fn write_frame(id: SchemaId, out: &mut Vec<u8>) {
    match id {
        SchemaId::Id(id) => {
            out.push(ID);
            out.extend_from_slice(&id.to_be_bytes());
        }
        SchemaId::Guid(guid) => {
            out.push(GUID);
            out.extend_from_slice(guid.as_bytes());
        }
        SchemaId::GlobalId(id) => {
            out.push(ID);
            out.extend_from_slice(&id.to_be_bytes());
        }
        SchemaId::ContentId(_) => {}
        SchemaId::GlueVersion(version) => {
            out.extend_from_slice(&[GLUE, GLUE_STORED]);
            out.extend_from_slice(version.as_bytes());
        }
    }
}

/// Adds Confluent's header with a GUID, and for Protobuf the message indexes.
pub fn push_guid_header(part: Part, guid: Uuid, indexes: Option<&[i32]>, headers: &mut HeaderBuf) {
    let mut value = vec![GUID];
    value.extend_from_slice(guid.as_bytes());
    if let Some(indexes) = indexes {
        write_indexes(indexes, &mut value);
    }
    headers.push(part.guid_header(), Some(&value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID_BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

    fn recognized(bytes: &[u8]) -> Option<(SchemaId, Vec<u8>)> {
        let found = Framing::Auto.recognize(Part::Value, bytes, Headers::default())?;
        Some((found.id, found.body.to_vec()))
    }

    #[test]
    fn each_framing_is_recognized() {
        let uuid = Uuid::from_bytes(UUID_BYTES);
        assert_eq!(recognized(b"\0\0\0\x01\x02body"), Some((SchemaId::Id(258), b"body".to_vec())));
        assert_eq!(recognized(b"\0\0\0\0\0\0\0\x01\x02body"), Some((SchemaId::GlobalId(258), b"body".to_vec())));
        let with_guid = [&[1][..], &UUID_BYTES, b"body"].concat();
        assert_eq!(recognized(&with_guid), Some((SchemaId::Guid(uuid), b"body".to_vec())));
        let glue = [&[3, 5][..], &UUID_BYTES, b"body"].concat();
        let found = Framing::Auto.recognize(Part::Value, &glue, Headers::default()).unwrap();
        assert_eq!((found.id, found.packing), (SchemaId::GlueVersion(uuid), Packing::Zlib));
        assert_eq!(recognized(b"\0\0\0\0\0"), None, "no ID is 0");
        for text in [&b"text"[..], b"", b"{}", b"\0", b"\0\0\0\x05", b"\x03\x01", b"\x03\x05short", b"\x02\0\0\0\0\0\0"]
        {
            assert_eq!(recognized(text), None, "{text:?}");
        }
    }

    #[test]
    fn headers_are_looked_at_first() {
        let mut headers = HeaderBuf::default();
        push_guid_header(Part::Value, Uuid::from_bytes(UUID_BYTES), Some(&[1, 2]), &mut headers);
        let found = Framing::Auto.recognize(Part::Value, b"\0\0\0\0\x07x", headers.as_headers()).unwrap();
        assert_eq!(found.id, SchemaId::Guid(Uuid::from_bytes(UUID_BYTES)));
        assert_eq!(found.body, b"\0\0\0\0\x07x");
        assert_eq!(found.message, MessagePlace::Indexes(b"\x04\x02\x04"));
        assert_eq!(Framing::Auto.recognize(Part::Key, b"key", headers.as_headers()), None, "the key has none");
        headers.push(b"apicurio.key.globalId", Some(&7u64.to_be_bytes()));
        let found = Framing::Auto.recognize(Part::Key, b"key", headers.as_headers()).unwrap();
        assert_eq!((found.id, found.body), (SchemaId::GlobalId(7), &b"key"[..]));
    }

    #[test]
    fn a_framing_that_is_asked_for_is_the_only_one() {
        let is_found =
            |framing: Framing, bytes: &[u8]| framing.recognize(Part::Value, bytes, Headers::default()).is_some();
        let glue = [&[3, 0][..], &UUID_BYTES].concat();
        assert!(is_found(Framing::Glue, &glue) && !is_found(Framing::Confluent, &glue));
        assert!(is_found(Framing::Confluent, b"\0\0\0\0\x01") && !is_found(Framing::Glue, b"\0\0\0\0\x01"));
        assert!(!is_found(Framing::None, b"\0\0\0\0\x01") && !is_found(Framing::None, &glue));
        assert!(is_found(Framing::Apicurio, b"\0\0\0\x01\0\0\0\0\x01"));
    }

    proptest! {
        #[test]
        fn message_indexes_are_read_back(path in prop::collection::vec(0..i32::MAX, 1..100)) {
            let (mut bytes, mut read) = (Vec::new(), Vec::new());
            write_indexes(&path, &mut bytes);
            bytes.push(b'x');
            let mut rest = &bytes[..];
            prop_assert!(read_indexes(&mut rest, &mut read).is_some());
            prop_assert_eq!((read, rest), (path, &b"x"[..]));
        }

        #[test]
        fn a_reference_of_apicurio_is_read_back(name in "[a-zA-Z.]{0,300}", body: Vec<u8>) {
            let mut bytes = Vec::new();
            write_apicurio_reference(&name, &mut bytes);
            bytes.extend_from_slice(&body);
            let mut rest = &bytes[..];
            prop_assert_eq!(read_apicurio_reference(&mut rest), Some(name.as_bytes()));
            prop_assert_eq!(rest, &body[..]);
        }

        #[test]
        fn any_bytes_are_met(bytes in prop::collection::vec(any::<u8>(), 0..60), key: Vec<u8>, value: Option<Vec<u8>>) {
            let mut headers = HeaderBuf::default();
            headers.push(&key, value.as_deref());
            headers.push(b"__value_schema_id", value.as_deref());
            headers.push(b"apicurio.value.globalId", value.as_deref());
            for (_, framing) in Framing::ALL {
                for headers in [Headers::default(), headers.as_headers()] {
                    if let Some(found) = framing.recognize(Part::Value, &bytes, headers) {
                        let (mut body, mut path) = (found.body, Vec::new());
                        let _ = read_indexes(&mut body, &mut path);
                        let _ = read_apicurio_reference(&mut body);
                    }
                }
            }
        }

        #[test]
        fn a_frame_is_recognized_with_what_it_says(id in 1u32.., long in 1u64..1 << 32, uuid: [u8; 16], body: Vec<u8>) {
            let uuid = Uuid::from_bytes(uuid);
            for id in [SchemaId::Id(id), SchemaId::GlobalId(long), SchemaId::Guid(uuid), SchemaId::GlueVersion(uuid)] {
                let mut bytes = Vec::new();
                write_frame(id, &mut bytes);
                bytes.extend_from_slice(&body);
                prop_assert_eq!(recognized(&bytes), Some((id, body.clone())));
            }
        }
    }
}
