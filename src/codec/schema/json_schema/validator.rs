//! The `jsonschema` crate, with bounds.

use super::super::{BadSchema, Reference, Unfit};
use jsonschema::paths::LocationSegment;
use jsonschema::{PatternOptions, Retrieve, Uri};
use serde_json::Value;

/// Checks values.
#[derive(Debug)]
pub struct Validator(jsonschema::Validator);

/// How many steps a regular expression may take back.
const MOST_BACKTRACKING: usize = 100_000;

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// The schema or a reference is invalid, or one is missing.
    pub fn new(schema: &Value, references: &[Reference]) -> Result<Self, BadSchema> {
        let validator = jsonschema::options()
            .with_retriever(Given(references.to_vec()))
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MOST_BACKTRACKING))
            .build(schema);
        validator.map(Self).map_err(|e| BadSchema::new(e.to_string()))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// It is not valid, with the first fault and its field.
    pub fn validate(&self, value: &Value) -> Result<(), Unfit> {
        self.0.validate(value).map_err(|error| {
            let segments: Vec<LocationSegment<'_>> = error.instance_path().into_iter().collect();
            // The whole value may be long, and its fields are named.
            let why = error.masked_with("the value").to_string();
            segments.iter().rev().fold(Unfit::new(why), |unfit, segment| match segment {
                LocationSegment::Property(name) => unfit.in_field(name),
                LocationSegment::Index(index) => unfit.in_element(*index as u64),
            })
        })
    }
}

/// The references, found by their URI.
struct Given(Vec<Reference>);

impl Retrieve for Given {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let uri = uri.as_str();
        let found = self.0.iter().find(|reference| reference.name == uri);
        // A relative URI was resolved against the schema's own.
        let is_end = |name: &str| uri.strip_suffix(name).is_some_and(|before| before.ends_with('/'));
        let found = found.or_else(|| self.0.iter().find(|reference| is_end(&reference.name)));
        let reference =
            found.ok_or_else(|| format!("the schema refers to {uri}, which is not among its references"))?;
        Ok(serde_json::from_str(&reference.text)?)
    }
}
