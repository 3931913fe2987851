//! Bytes with a schema ⇄ JSON: Avro, Protobuf and JSON Schema. Calls `error`; knows no registry and no framing: the bytes
//! are what stands behind a frame, and the schema's text is given.
//!
//! A schema is parsed once into a program, which then turns bytes into JSON text, and JSON text into bytes, without a tree
//! of values in between. What comes from outside is bounded: depth, output and work, whatever schema and bytes say.

pub mod avro;
mod bad;
mod json;
pub mod json_schema;
mod number;
pub mod protobuf;
mod time;

pub use avro::AvroForm;
pub use bad::{BadSchema, Undecodable, Unfit};

/// What language a schema is written in, by the registry's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaType {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    JsonSchema,
}

impl SchemaType {
    /// Its name in a registry's API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::JsonSchema => "JSON",
        }
    }
}

/// Another schema that a schema uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// How the schema refers to it: the name of a type in Avro, the path of an import in Protobuf, a URI in JSON Schema.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A parsed schema.
#[derive(Debug)]
pub enum Schema {
    /// Of Avro.
    Avro(avro::Schema),
    /// Of Protobuf.
    Protobuf(Box<protobuf::Schema>),
    /// Of JSON Schema.
    JsonSchema(json_schema::Schema),
}

/// How values look as JSON, and what of a schema they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How Avro's values look.
    pub avro: AvroForm,
    /// What fields of Protobuf are called.
    pub field_names: FieldNames,
    /// Which message of a Protobuf schema values are; the default is the first. See [`Schema::message`].
    pub message: MessageId,
}

/// What fields of Protobuf are called in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldNames {
    /// In lower camel case, or as the option `json_name` has it: Protobuf's JSON mapping.
    #[default]
    Json,
    /// As in the schema.
    Proto,
}

/// A message of a Protobuf schema. It is given out by [`Schema::message`], for that schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageId(u32);

/// How a message is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageChoice<'a> {
    /// By the indexes of Confluent's framing: of a message in the file, of one in that message, and so on.
    Path(&'a [i32]),
    /// By its index among all messages of the file, also nested ones and the entries of maps, in the order of their full
    /// names: AWS Glue's framing.
    Sorted(u32),
    /// By its full name, or by its name within the schema's package.
    Name(&'a str),
}

impl Schema {
    /// Parses a schema. `references` are all that it uses, also through others, each after those that it uses itself.
    ///
    /// # Errors
    /// The schema or a reference is invalid, or one is missing.
    pub fn parse(kind: SchemaType, text: &str, references: &[Reference]) -> Result<Self, BadSchema> {
        match kind {
            SchemaType::Avro => avro::Schema::parse(text, references).map(Self::Avro),
            SchemaType::Protobuf => {
                protobuf::Schema::parse(text, references).map(|schema| Self::Protobuf(Box::new(schema)))
            }
            SchemaType::JsonSchema => json_schema::Schema::parse(text, references).map(Self::JsonSchema),
        }
    }

    /// What language it is written in.
    pub fn kind(&self) -> SchemaType {
        match self {
            Self::Avro(_) => SchemaType::Avro,
            Self::Protobuf(_) => SchemaType::Protobuf,
            Self::JsonSchema(_) => SchemaType::JsonSchema,
        }
    }

    /// Chooses a message of a Protobuf schema.
    ///
    /// # Errors
    /// There is none; schemas in other languages have none at all.
    pub fn message(&self, choice: MessageChoice<'_>) -> Result<MessageId, BadSchema> {
        match self {
            Self::Protobuf(schema) => schema.message(choice),
            Self::Avro(_) | Self::JsonSchema(_) => {
                Err(BadSchema::new("only a Protobuf schema has messages to choose from"))
            }
        }
    }

    /// The full name of the type that values have, if it has one: of Avro's record, enum or fixed, or of a message;
    /// the title of a JSON Schema.
    pub fn full_name(&self, message: MessageId) -> Option<&str> {
        match self {
            Self::Avro(schema) => schema.full_name(),
            Self::Protobuf(schema) => schema.full_name(message),
            Self::JsonSchema(schema) => schema.title(),
        }
    }

    /// The indexes of a message in Confluent's framing; `None` but for messages of a Protobuf schema's own file.
    pub fn message_path(&self, message: MessageId) -> Option<&[i32]> {
        match self {
            Self::Protobuf(schema) => schema.path(message),
            Self::Avro(_) | Self::JsonSchema(_) => None,
        }
    }

    /// The index of a message in AWS Glue's framing; `None` but for messages of a Protobuf schema's own file.
    pub fn sorted_index(&self, message: MessageId) -> Option<u32> {
        match self {
            Self::Protobuf(schema) => schema.sorted_index(message),
            Self::Avro(_) | Self::JsonSchema(_) => None,
        }
    }

    /// Appends the JSON of `bytes`, on one line.
    ///
    /// # Errors
    /// They are not of this schema; nothing is appended.
    #[inline]
    pub fn write_json(&self, bytes: &[u8], options: Options, out: &mut Vec<u8>) -> Result<(), Undecodable> {
        let start = out.len();
        let written = match self {
            Self::Avro(schema) => schema.write_json(bytes, options.avro, out),
            Self::Protobuf(schema) => schema.write_json(options.message, bytes, options.field_names, out),
            Self::JsonSchema(schema) => schema.write_json(bytes, out),
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Appends the bytes of a JSON text, which has the form that [`Schema::write_json`] writes.
    ///
    /// # Errors
    /// It does not fit the schema; nothing is appended.
    pub fn read_json(&self, json: &str, options: Options, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let start = out.len();
        let read = match self {
            Self::Avro(schema) => schema.read_json(json, options.avro, out),
            Self::Protobuf(schema) => schema.read_json(options.message, json, out),
            Self::JsonSchema(schema) => schema.read_json(json, out),
        };
        if read.is_err() {
            out.truncate(start);
        }
        read
    }

    /// Checks a JSON text that [`Schema::write_json`] wrote against a JSON Schema; others were checked when they were
    /// decoded.
    ///
    /// # Errors
    /// It is not valid.
    pub fn validate(&self, json: &str) -> Result<(), Unfit> {
        match self {
            Self::JsonSchema(schema) => schema.validate(json),
            Self::Avro(_) | Self::Protobuf(_) => Ok(()),
        }
    }
}
