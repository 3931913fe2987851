//! The flag of every command that asks a schema registry.

use super::Context;
use crate::config;
use crate::config::declarations::SCHEMA_REGISTRY_URL;
use crate::error::{Error, Result};
use crate::registry::Registry;
use clap::Args;
use std::sync::Arc;

#[derive(Debug, Clone, Args)]
pub(super) struct RegistryArgs {
    /// Schema registry; if several addresses are given, the next is tried when one fails [default: schema.registry.url]
    #[arg(long, global = true, value_name = "URL,…")]
    pub(super) registry: Option<String>,
}

impl RegistryArgs {
    /// Whether a registry is set.
    ///
    /// # Errors
    /// A property is malformed.
    pub(super) fn is_set(&self, context: &Context) -> Result<bool> {
        Ok(context.properties.resolve(self.registry.clone(), &SCHEMA_REGISTRY_URL)?.is_some())
    }

    /// The registry, if there is one.
    ///
    /// # Errors
    /// Its settings are not usable.
    pub(super) fn connect(&self, context: &Context) -> Result<Option<Registry>> {
        let metrics = Arc::new(context.metrics.clone());
        let options = config::registry(&context.properties, self.registry.as_deref(), metrics)?;
        options.map(|options| Registry::new(&options, &context.stop)).transpose()
    }

    /// The registry, which the command cannot do without.
    ///
    /// # Errors
    /// There is none, or its settings are not usable.
    pub(super) fn require(&self, context: &Context) -> Result<Registry> {
        let missing = || Error::Usage("no schema registry is set (use --registry URL)".to_owned());
        self.connect(context)?.ok_or_else(missing)
    }
}
