//! Schema registries: how records name schemas, and the schemas themselves, asked of a registry by Confluent's API (which
//! Apicurio Registry, Karapace and Redpanda have too) and kept in memory and on disk. Calls `record`, `error`, `signal`,
//! `files` and the HTTP client of `engine::native::net`.
//!
//! What bytes mean with a schema is `codec::schema`'s; what is decoded with which, `codec::framed`'s.

mod api;
mod cache;
mod client;
pub mod framing;
mod id;
mod lookup;

pub use api::{Compatibility, Deleted, Deletion, Level, NewSchema, Normalize, ReferenceName, Version, VersionChoice};
pub use framing::{Framing, Part};
pub use id::{Language, SchemaId};
pub use lookup::{Found, LookedUp, Lookup, Resolved};

use crate::engine::Observer;
use crate::engine::native::Network;
use crate::engine::platform::Platform;
use crate::engine::security::{Secret, Tls};
use crate::error::{Error, Result};
use crate::signal::{Stop, Until};
use cache::Cache;
use client::Client;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Who the client is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// By a password (RFC 7617).
    Basic { user: String, password: Secret },
    /// By a token (RFC 6750).
    Bearer(Secret),
}

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// The addresses of one registry, tried in turn; at least one, without user information.
    pub urls: Vec<String>,
    pub credentials: Option<Credentials>,
    /// For addresses that begin with `https`.
    pub tls: Tls,
    /// More headers of each request.
    pub headers: Vec<(&'static str, Secret)>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long a request is repeated in all.
    pub retry_limit: Duration,
    /// Wait before the first retry; doubles up to 1 s.
    pub retry_backoff: Duration,
    /// Receives events.
    pub observer: Arc<dyn Observer>,
    /// Where schemas are kept between runs.
    pub cache_dir: Option<PathBuf>,
}

/// A connection to a registry. Calls block until the registry has answered, or a signal came.
#[derive(Debug)]
pub struct Registry {
    network: Network,
    client: Client,
    cache: Option<Cache>,
}

impl Registry {
    /// Prepares to ask a registry; asks nothing yet.
    ///
    /// # Errors
    /// An address or the settings of TLS are not usable.
    pub fn new(options: &Options, stop: &Stop) -> Result<Self> {
        Ok(Self {
            network: Network::start(stop, &Platform::System)?,
            client: Client::new(options)?,
            cache: options.cache_dir.as_deref().map(|dir| Cache::new(dir, &options.urls)),
        })
    }

    /// The registry's address, for people.
    pub fn url(&self) -> &str {
        self.client.url()
    }

    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.network.run(Until::FirstSignal, work)
    }
}

/// What was asked for; `None` where the registry reports that it does not exist.
///
/// # Errors
/// Any other of `answer`.
pub fn or_unknown<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::Registry(error)) if error.why.is_unknown() => Ok(None),
        Err(error) => Err(error),
    }
}
