//! The flag of every command that asks a schema registry.

use super::Context;
use crate::config;
use crate::error::{Error, Result};
use crate::registry::{Options, Registry};
use clap::Args;
use std::sync::Arc;

#[derive(Debug, Clone, Args)]
pub(super) struct RegistryArgs {
    /// Schema registry; several addresses are tried in turn [default: schema.registry.url]
    #[arg(long, global = true, value_name = "URL,…")]
    pub(super) registry: Option<String>,
}

impl RegistryArgs {
    /// How the registry is reached, if there is one.
    ///
    /// # Errors
    /// A property is malformed.
    pub(super) fn options(&self, context: &Context) -> Result<Option<Options>> {
        config::registry(&context.properties, self.registry.as_deref(), Arc::new(context.metrics.clone()))
    }

    /// The registry, if there is one.
    ///
    /// # Errors
    /// Its settings are not usable.
    pub(super) fn connect(&self, context: &Context) -> Result<Option<Registry>> {
        self.options(context)?.map(|options| Registry::new(&options, &context.stop)).transpose()
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
