//! How records name their schema, and what kinds of schemas there are.

use std::fmt;
use uuid::Uuid;

/// What names a schema in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// The ID of Confluent's API; in Apicurio Registry the content ID.
    Id(u32),
    /// The GUID of Confluent's API, since version 8.0.
    Guid(Uuid),
    /// Apicurio Registry's global ID.
    GlobalId(u64),
    /// Apicurio Registry's content ID, from a header.
    ContentId(u64),
    /// The version ID of AWS Glue Schema Registry.
    GlueVersion(Uuid),
}

impl SchemaId {
    /// How the field ends that shows it beside a key or value, behind `_schema_`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Id(_) => "id",
            Self::Guid(_) => "guid",
            Self::GlobalId(_) => "global_id",
            Self::ContentId(_) => "content_id",
            Self::GlueVersion(_) => "version_id",
        }
    }

    /// The ID that such a field holds: a number, or a UUID in a string.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn of_field(field: &str, json: &str) -> Result<Self, String> {
        let uuid = || {
            let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            text.and_then(|text| Uuid::try_parse(text).ok()).ok_or_else(|| "expected a UUID".to_owned())
        };
        let number = || json.parse::<u64>().map_err(|_| "expected a number".to_owned());
        match field {
            "id" => json.parse().map(Self::Id).map_err(|_| "expected a number up to 4294967295".to_owned()),
            "guid" => uuid().map(Self::Guid),
            "global_id" => number().map(Self::GlobalId),
            "content_id" => number().map(Self::ContentId),
            "version_id" => uuid().map(Self::GlueVersion),
            _ => Err("unknown kind of schema ID".to_owned()),
        }
    }

    /// The UUID of those that are one.
    pub fn uuid(self) -> Option<String> {
        match self {
            Self::Guid(uuid) | Self::GlueVersion(uuid) => Some(uuid.hyphenated().to_string()),
            Self::Id(_) | Self::GlobalId(_) | Self::ContentId(_) => None,
        }
    }

    /// Appends the ID as a JSON value.
    pub fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Id(id) => out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes()),
            Self::GlobalId(id) | Self::ContentId(id) => {
                out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
            }
            Self::Guid(uuid) | Self::GlueVersion(uuid) => {
                out.push(b'"');
                out.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
                out.push(b'"');
            }
        }
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "schema ID {id}"),
            Self::Guid(guid) => write!(f, "schema GUID {}", guid.hyphenated()),
            Self::GlobalId(id) => write!(f, "global ID {id}"),
            Self::ContentId(id) => write!(f, "content ID {id}"),
            Self::GlueVersion(id) => write!(f, "AWS Glue schema version {}", id.hyphenated()),
        }
    }
}

/// A number is an ID, a UUID a GUID or a version of AWS Glue: both are 16 bytes, and a record says which it means.
impl std::str::FromStr for SchemaId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        Uuid::try_parse(text).map(Self::Guid).map_err(|_| "expected a schema ID or GUID".to_owned())
    }
}

/// The language of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    Avro,
    Protobuf,
    JsonSchema,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Protobuf, Self::JsonSchema];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::JsonSchema => "json-schema",
        }
    }

    /// Its name in the registry's API (`schemaType`).
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::JsonSchema => "JSON",
        }
    }

    /// The language with that name in the API.
    pub fn of_api_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.api_name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::JsonSchema => "JSON Schema",
        })
    }
}
