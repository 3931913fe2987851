//! The requests of Confluent's API, and what they return.

use super::client::Request;
use super::{Language, Registry, SchemaId, or_unknown};
use crate::engine::native::http::path_encoded;
use crate::error::Result;
use hyper::Method;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::fmt;
use uuid::Uuid;

/// Which version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChoice {
    Latest,
    Number(u32),
}

impl fmt::Display for VersionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl std::str::FromStr for VersionChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("versions begin with 1".to_owned()),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if text == "latest" => Ok(Self::Latest),
            Err(_) => Err("expected a version number or latest".to_owned()),
        }
    }
}

/// A schema that another refers to, as registries name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceName {
    /// How the schema refers to it.
    pub name: String,
    pub subject: String,
    pub version: u32,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    #[serde(default, deserialize_with = "uuid")]
    pub guid: Option<Uuid>,
    #[serde(rename = "schemaType", default)]
    pub language: LanguageName,
    #[serde(rename = "schema")]
    pub text: String,
    #[serde(default, deserialize_with = "or_none")]
    pub references: Vec<ReferenceName>,
}

/// The text of a schema, without the subjects that have it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Content {
    #[serde(rename = "schemaType", default)]
    pub language: LanguageName,
    #[serde(rename = "schema")]
    pub text: String,
    #[serde(default, deserialize_with = "or_none")]
    pub references: Vec<ReferenceName>,
}

fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Uuid>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Uuid::try_parse(&text)).transpose().map_err(serde::de::Error::custom)
}

/// The language of a schema as a registry names it. It leaves Avro out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanguageName {
    Known(Language),
    Unknown(String),
}

impl Default for LanguageName {
    fn default() -> Self {
        Self::Known(Language::Avro)
    }
}

impl<'de> Deserialize<'de> for LanguageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(match Option::<String>::deserialize(deserializer)? {
            None => Self::default(),
            Some(name) => Language::of_api_name(&name).map_or(Self::Unknown(name), Self::Known),
        })
    }
}

impl fmt::Display for LanguageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(language) => language.api_name(),
            Self::Unknown(name) => name,
        })
    }
}

/// Some registries write null for an empty list.
fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<ReferenceName>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A schema that a registry may not have yet.
#[derive(Debug, Clone)]
pub struct NewSchema {
    pub language: Language,
    pub text: String,
    pub references: Vec<ReferenceName>,
}

impl NewSchema {
    fn body(&self) -> serde_json::Value {
        let mut body = json!({ "schema": self.text });
        // Registries before 5.5 know only Avro, and refuse a field that they do not know.
        if self.language != Language::Avro {
            body["schemaType"] = json!(self.language.api_name());
        }
        if !self.references.is_empty() {
            body["references"] = json!(self.references);
        }
        body
    }
}

/// Whether a schema may become a version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Compatibility {
    pub is_compatible: bool,
    /// Why it may not.
    #[serde(default)]
    pub messages: Vec<String>,
}

/// Which changes of a schema a subject accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// Whether what was deleted softly counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Excluded,
    Included,
}

impl Deleted {
    fn query(self) -> &'static str {
        match self {
            Self::Excluded => "",
            Self::Included => "?deleted=true",
        }
    }
}

/// How much is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is hidden, and records that name it can still be read.
    Soft,
    /// What was deleted softly is removed for good.
    Permanent,
}

impl Deletion {
    fn query(self) -> &'static str {
        match self {
            Self::Soft => "",
            Self::Permanent => "?permanent=true",
        }
    }
}

/// Whether the registry brings a schema into its normal form first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalize {
    AsIs,
    Normalized,
}

impl Normalize {
    fn query(self) -> &'static str {
        match self {
            Self::AsIs => "",
            Self::Normalized => "?normalize=true",
        }
    }
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Configured {
    #[serde(rename = "compatibilityLevel", alias = "compatibility")]
    level: String,
}

/// The path of `subject`.
fn subject_path(subject: &str) -> String {
    format!("/subjects/{}", path_encoded(subject))
}

fn config_path(subject: Option<&str>) -> String {
    subject.map_or("/config".to_owned(), |subject| format!("/config/{}", path_encoded(subject)))
}

fn about_config(subject: Option<&str>) -> String {
    subject.map_or("the compatibility level".to_owned(), |subject| format!("compatibility level of subject {subject}"))
}

/// The request for a version of a subject; one that was deleted softly, too.
pub(super) fn version_request(subject: &str, version: VersionChoice) -> Request {
    let query = match version {
        // The latest of those that are not deleted.
        VersionChoice::Latest => "",
        VersionChoice::Number(_) => "?deleted=true",
    };
    let path = format!("{}/versions/{version}{query}", subject_path(subject));
    Request::get(path, format!("subject {subject} version {version}"))
}

impl Registry {
    /// The subjects, in the registry's order.
    ///
    /// # Errors
    /// The registry's.
    pub fn subjects(&self, deleted: Deleted) -> Result<Vec<String>> {
        let request = Request::get(format!("/subjects{}", deleted.query()), "subjects");
        self.run(self.client.ask(&request))
    }

    /// The numbers of the versions of `subject`.
    ///
    /// # Errors
    /// The registry's.
    pub fn versions(&self, subject: &str, deleted: Deleted) -> Result<Vec<u32>> {
        let path = format!("{}/versions{}", subject_path(subject), deleted.query());
        let request = Request::get(path, format!("subject {subject}"));
        self.run(self.client.ask(&request))
    }

    /// A version of `subject`.
    ///
    /// # Errors
    /// The registry's.
    pub fn version(&self, subject: &str, version: VersionChoice) -> Result<Version> {
        self.run(self.client.ask(&version_request(subject, version)))
    }

    /// Versions of subjects, in their order, several asked for at a time.
    ///
    /// # Errors
    /// The registry's.
    pub fn each_version(&self, asked: &[(String, VersionChoice)]) -> Result<Vec<Result<Version>>> {
        let requests = asked.iter().map(|(subject, version)| version_request(subject, *version)).collect();
        self.run(self.client.ask_all(requests))
    }

    /// Adds a schema to `subject`, unless it has it already; its ID.
    ///
    /// # Errors
    /// The registry's: the schema is invalid, or not compatible with earlier versions.
    pub fn register(&self, subject: &str, schema: &NewSchema, normalize: Normalize) -> Result<u32> {
        let path = format!("{}/versions{}", subject_path(subject), normalize.query());
        let request =
            Request::with_body(Method::POST, path, &schema.body(), format!("registering for subject {subject}"));
        self.run(self.client.ask::<Registered>(&request)).map(|registered| registered.id)
    }

    /// The version of `subject` that `schema` is.
    ///
    /// # Errors
    /// The registry's: the subject does not have the schema.
    pub fn version_of(&self, subject: &str, schema: &NewSchema, normalize: Normalize) -> Result<Version> {
        let path = format!("{}{}", subject_path(subject), normalize.query());
        let request = Request::with_body(Method::POST, path, &schema.body(), format!("schema of subject {subject}"));
        self.run(self.client.ask(&request))
    }

    /// Whether `schema` is compatible with a version of `subject`, by the subject's compatibility level; `None` is all
    /// the versions that the level is about.
    ///
    /// # Errors
    /// The registry's.
    pub fn check(&self, subject: &str, version: Option<VersionChoice>, schema: &NewSchema) -> Result<Compatibility> {
        let version = version.map_or(String::new(), |version| format!("/{version}"));
        let path = format!("/compatibility{}/versions{version}?verbose=true", subject_path(subject));
        let request = Request::with_body(Method::POST, path, &schema.body(), format!("checking subject {subject}"));
        self.run(self.client.ask(&request))
    }

    /// Deletes a subject with all its versions; their numbers.
    ///
    /// # Errors
    /// The registry's.
    pub fn delete_subject(&self, subject: &str, deletion: Deletion) -> Result<Vec<u32>> {
        let path = format!("{}{}", subject_path(subject), deletion.query());
        self.run(self.client.ask(&Request::delete(path, format!("deleting subject {subject}"))))
    }

    /// Deletes a version of a subject; its number.
    ///
    /// # Errors
    /// The registry's.
    pub fn delete_version(&self, subject: &str, version: VersionChoice, deletion: Deletion) -> Result<u32> {
        let path = format!("{}/versions/{version}{}", subject_path(subject), deletion.query());
        self.run(self.client.ask(&Request::delete(path, format!("deleting subject {subject} version {version}"))))
    }

    /// The compatibility level of `subject`, or of all that have none of their own; `None` if it has none of its own.
    ///
    /// # Errors
    /// The registry's.
    pub fn level(&self, subject: Option<&str>) -> Result<Option<String>> {
        let request = Request::get(config_path(subject), about_config(subject));
        let level = self.run(self.client.ask::<Configured>(&request)).map(|configured| configured.level);
        if subject.is_some() { or_unknown(level) } else { level.map(Some) }
    }

    /// Sets a compatibility level.
    ///
    /// # Errors
    /// The registry's.
    pub fn set_level(&self, subject: Option<&str>, level: Level) -> Result<()> {
        let body = json!({ "compatibility": level.name() });
        let request = Request::with_body(Method::PUT, config_path(subject), &body, about_config(subject));
        self.run(self.client.send(&request)).map(drop)
    }

    /// Removes a subject's own compatibility level, so that the registry's counts.
    ///
    /// # Errors
    /// The registry's.
    pub fn unset_level(&self, subject: &str) -> Result<()> {
        let request = Request::delete(config_path(Some(subject)), about_config(Some(subject)));
        self.run(self.client.send(&request)).map(drop)
    }
}

/// The request for the content of a schema by its ID.
pub(super) fn content_request(id: SchemaId) -> Request {
    let about = id.to_string();
    match id {
        SchemaId::Id(id) => Request::get(format!("/schemas/ids/{id}"), about),
        SchemaId::ContentId(id) => Request::get(format!("/schemas/ids/{id}"), about),
        SchemaId::Guid(guid) | SchemaId::GlueVersion(guid) => {
            Request::get(format!("/schemas/guids/{}", guid.hyphenated()), about)
        }
        SchemaId::GlobalId(id) => Request::get(format!("/apis/registry/v2/ids/globalIds/{id}"), about).absolute(),
    }
}
