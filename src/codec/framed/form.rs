//! What `--key-as` and `--value-as` may be.

use crate::codec::Encoding;
use crate::registry::Language;
use std::path::PathBuf;
use std::str::FromStr;

/// What the bytes of a key or value are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// They are of an encoding.
    Encoded(Encoding),
    /// They have a schema.
    Schema(SchemaForm),
}

/// Bytes with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaForm {
    /// With the schema that each names, or text.
    Auto,
    /// With the schema that each names, in this language.
    Named(Language),
    /// With the schema in a file.
    File(SchemaFile),
}

/// A schema in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFile {
    pub language: Language,
    pub path: PathBuf,
    /// The message of a Protobuf schema; `None` is the first one.
    pub message: Option<String>,
}

impl Default for Form {
    fn default() -> Self {
        Self::Encoded(Encoding::Text)
    }
}

impl Form {
    /// Names of forms with a schema, and what they are, for people.
    pub const WITH_SCHEMA: [(&str, &str); 4] = [
        ("auto", "With the schema that each names, in its framing or a header; others as text"),
        ("avro", "Avro, with the schema that each names (consume) or the subject's latest (produce); avro:FILE.avsc"),
        ("protobuf", "Protobuf, likewise; protobuf:FILE.proto#MESSAGE or protobuf:FILE.desc#MESSAGE"),
        ("json-schema", "JSON Schema, likewise; json-schema:FILE.json"),
    ];

    /// How bytes without a schema are shown.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Encoded(encoding) => *encoding,
            Self::Schema(_) => Encoding::Text,
        }
    }

    /// Whether it is plain text.
    pub fn is_text(&self) -> bool {
        *self == Self::Encoded(Encoding::Text)
    }

    /// How bytes with a schema are to be read.
    pub fn schema(&self) -> Option<&SchemaForm> {
        match self {
            Self::Encoded(_) => None,
            Self::Schema(form) => Some(form),
        }
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Schema(SchemaForm::Auto));
        }
        let (name, file) = text.split_once(':').map_or((text, None), |(name, file)| (name, Some(file)));
        match (Language::ALL.into_iter().find(|language| language.name() == name), file) {
            (Some(language), None) => Ok(Self::Schema(SchemaForm::Named(language))),
            (Some(language), Some(file)) => SchemaFile::parse(language, file).map(SchemaForm::File).map(Self::Schema),
            (None, _) => match Encoding::all().find(|encoding| encoding.name() == text) {
                Some(encoding) => Ok(Self::Encoded(encoding)),
                None => {
                    let names = Encoding::all().map(Encoding::name).chain(Self::WITH_SCHEMA.map(|(name, _)| name));
                    Err(format!("unknown form {text:?}{}", crate::error::did_you_mean(text, names)))
                }
            },
        }
    }
}

impl SchemaFile {
    /// Parses `FILE`, or for Protobuf `FILE#MESSAGE`.
    ///
    /// # Errors
    /// What was expected.
    fn parse(language: Language, text: &str) -> Result<Self, String> {
        let (path, message) = match (language, text.rsplit_once('#')) {
            (Language::Protobuf, Some((path, message))) => (path, Some(message.to_owned())),
            _ => (text, None),
        };
        if path.is_empty() || message.as_ref().is_some_and(String::is_empty) {
            return Err(format!("expected {}:FILE, and for a Protobuf message FILE#MESSAGE", language.name()));
        }
        Ok(Self { language, path: PathBuf::from(path), message })
    }
}

/// `avro:FILE`, `protobuf:FILE#MESSAGE` or `json-schema:FILE`.
impl FromStr for SchemaFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Form::Schema(SchemaForm::File(file)) => Ok(file),
            _ => Err("expected avro:FILE, protobuf:FILE#MESSAGE or json-schema:FILE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_parsed_by_their_names() {
        let parsed = |text: &str| text.parse::<Form>();
        assert_eq!(parsed("hex"), Ok(Form::Encoded(Encoding::Hex)));
        assert_eq!(parsed("auto"), Ok(Form::Schema(SchemaForm::Auto)));
        assert_eq!(parsed("avro"), Ok(Form::Schema(SchemaForm::Named(Language::Avro))));
        let file = |language, path: &str, message: Option<&str>| {
            let (path, message) = (PathBuf::from(path), message.map(str::to_owned));
            Ok(Form::Schema(SchemaForm::File(SchemaFile { language, path, message })))
        };
        assert_eq!(parsed("avro:a#b.avsc"), file(Language::Avro, "a#b.avsc", None));
        assert_eq!(parsed("protobuf:a:b.proto#p.M"), file(Language::Protobuf, "a:b.proto", Some("p.M")));
        for wrong in ["avro:", "protobuf:#M", "protobuf:f#", "hex:f", "avr"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert!(parsed("avr").unwrap_err().contains("did you mean avro?"));
    }
}
