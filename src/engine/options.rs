//! What an engine needs to reach a cluster.

use super::Observer;
use super::platform::Platform;
use super::security::Security;
use std::sync::Arc;
use std::time::Duration;

/// Which engine talks to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// The one that fits the brokers' answer to ApiVersions.
    #[default]
    Auto,
    /// This project's own client: Kafka 0.11 to today.
    Native,
    /// The `kafka` crate: Kafka 0.8.2 to 3.9.
    Kafka,
}

/// What an engine needs to reach a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    /// Sent with each request, shown in the brokers' logs and quotas.
    pub client_id: String,
    /// Which engine to use.
    pub engine: EngineChoice,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long a broker may be silent before a request is given up.
    pub request_timeout: Duration,
    /// Wait before the first retry; doubles up to 1 s.
    pub retry_backoff: Duration,
    /// TLS and SASL.
    pub security: Security,
    /// Receives the engine's events.
    pub observer: Arc<dyn Observer>,
    /// Where sockets and threads come from.
    pub platform: Platform,
}

impl Options {
    /// How long a broker may be silent before it is suspected: what others can answer is asked elsewhere then.
    pub fn suspect_after(&self) -> Duration {
        self.request_timeout.min(Duration::from_secs(5))
    }

    /// How long to wait until the brokers show what the cluster has been asked to do.
    pub fn settle_limit(&self) -> Duration {
        self.request_timeout.min(Duration::from_secs(5))
    }

    /// How long a request is repeated while a leader or coordinator may be moving.
    pub fn retry_limit(&self) -> Duration {
        self.request_timeout.saturating_mul(4).min(Duration::from_secs(20))
    }
}
