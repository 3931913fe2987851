//! Configs of topics and brokers, with where each value comes from (KIP-133, KIP-226).

use crate::error::Subject;
use crate::record::BrokerId;
use serde::Serialize;
use std::fmt;

/// What has configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Configured {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(BrokerId),
    /// All brokers, for configs that a broker does not have a value of its own for.
    AllBrokers,
}

impl fmt::Display for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject().fmt(f)
    }
}

impl Configured {
    /// What errors about it name.
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Topic(name) => Subject::TopicConfigs(name.as_str().into()),
            Self::Broker(id) => Subject::BrokerConfigs(Some(*id)),
            Self::AllBrokers => Subject::BrokerConfigs(None),
        }
    }

    /// The source of the values that are set on it itself.
    pub fn own_source(&self) -> ConfigSource {
        match self {
            Self::Topic(_) => ConfigSource::Topic,
            Self::Broker(_) => ConfigSource::Broker,
            Self::AllBrokers => ConfigSource::AllBrokers,
        }
    }
}

/// Where a config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the broker while it runs.
    Broker,
    /// Set on all brokers while they run.
    AllBrokers,
    /// The broker's own `server.properties`.
    File,
    /// Kafka's default.
    Default,
    /// A logger's level.
    Logger,
    /// A source that kpipe does not know.
    Other,
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::AllBrokers => "all-brokers",
            Self::File => "file",
            Self::Default => "default",
            Self::Logger => "logger",
            Self::Other => "other",
        })
    }
}

/// A config's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigEntry {
    /// The config's name.
    pub name: String,
    /// `None` for a secret, or for no value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether the value can only be changed by restarting the broker.
    pub read_only: bool,
    /// Whether brokers keep the value to themselves.
    pub secret: bool,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config's name.
    pub name: String,
    /// The new value; `None` removes the one that was set.
    pub value: Option<String>,
}
