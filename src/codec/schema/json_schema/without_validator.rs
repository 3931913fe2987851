//! What stands for a validator in a build without it: values are shown, but none can be checked.

use super::super::{BadSchema, Reference, Unfit};
use serde_json::Value;

/// No validator.
#[derive(Debug)]
pub struct Validator;

impl Validator {
    /// Takes any schema.
    ///
    /// # Errors
    /// Never.
    pub fn new(_: &Value, _: &[Reference]) -> Result<Self, BadSchema> {
        Ok(Self)
    }

    /// Refuses every value.
    ///
    /// # Errors
    /// Always.
    pub fn validate(&self, _: &Value) -> Result<(), Unfit> {
        Err(Unfit::new("this kpipe was built without JSON Schema (cargo feature json-schema)"))
    }
}
