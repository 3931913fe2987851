//! Configs of topics and brokers: shown with where they come from, changed (KIP-133, KIP-226, KIP-339).

use super::{Cluster, ClusterAdmin, refusal};
use crate::engine::native::cluster::text;
use crate::error::Result;
use crate::error::{Action, Subject};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use std::collections::BTreeMap;

/// What has configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Configured {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(i32),
    /// All brokers, where one has none of its own.
    AllBrokers,
}

impl Configured {
    /// Kafka's number of the kind, and the name.
    fn wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::AllBrokers => (4, String::new()),
        }
    }

    /// How its own configs are told from those of others.
    fn source(&self) -> &'static str {
        match self {
            Self::Topic(_) => "topic",
            Self::Broker(_) => "broker",
            Self::AllBrokers => "all-brokers",
        }
    }

    fn of(kind: i8, name: &str) -> Self {
        match (kind, name.parse()) {
            (4, Ok(id)) => Self::Broker(id),
            (4, Err(_)) => Self::AllBrokers,
            _ => Self::Topic(name.to_owned()),
        }
    }
}

impl std::fmt::Display for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "configs of topic {name}"),
            Self::Broker(id) => write!(f, "configs of broker {id}"),
            Self::AllBrokers => f.write_str("configs of all brokers"),
        }
    }
}

/// A config's value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// `None` is a secret, or nothing.
    pub value: Option<String>,
    /// Who set it: `topic`, `broker`, `all-brokers`, `file` (server.properties) or `default`.
    pub source: &'static str,
    /// Whether it can only be changed where the broker is started.
    pub read_only: bool,
    /// Whether its value is not told.
    pub secret: bool,
}

/// Kafka's ConfigSource.
fn source(number: i8) -> &'static str {
    match number {
        1 => "topic",
        2 => "broker",
        3 => "all-brokers",
        4 => "file",
        5 => "default",
        6 => "logger",
        _ => "other",
    }
}

/// A config's name and its new value; `None` goes back to the default.
pub type Change = (String, Option<String>);

impl ClusterAdmin {
    /// All configs of each, by name.
    ///
    /// # Errors
    /// One is not there, or is denied.
    pub fn configs(&self, of: &[Configured]) -> Result<BTreeMap<Configured, Vec<ConfigEntry>>> {
        self.run(self.cluster().configs(of, None))
    }

    /// Changes configs; with `only_check` the cluster only says whether it would.
    ///
    /// # Errors
    /// The cluster refused: then nothing of it is changed.
    pub fn alter_configs(&self, of: &Configured, changes: &[Change], only_check: bool) -> Result<()> {
        self.run(self.cluster().alter_configs(of, changes, only_check))
    }
}

impl Cluster {
    /// All configs of each, or those of `names`.
    pub(super) async fn configs(
        &self,
        of: &[Configured],
        names: Option<&[&str]>,
    ) -> Result<BTreeMap<Configured, Vec<ConfigEntry>>> {
        // A broker knows only its own.
        let mut asked: BTreeMap<Option<i32>, Vec<DescribeConfigsResource>> = BTreeMap::new();
        for one in of {
            let (kind, name) = one.wire();
            let keys = names.map(|names| names.iter().map(|name| text(name)).collect());
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(&name))
                .with_configuration_keys(keys);
            let broker = if let Configured::Broker(id) = one { Some(*id) } else { None };
            asked.entry(broker).or_default().push(resource);
        }
        let mut found = BTreeMap::new();
        for (broker, resources) in asked {
            let connection = match broker {
                Some(id) => self.known_broker(id).await?,
                None => self.any().await?,
            };
            let answer = connection.request(&DescribeConfigsRequest::default().with_resources(resources)).await?;
            for result in answer.results {
                let of = Configured::of(result.resource_type, &result.resource_name);
                refusal(
                    Action::LookUp,
                    Subject::Configs(of.to_string()),
                    result.error_code,
                    result.error_message.as_ref(),
                )?;
                let config =
                    |config: kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
                        ConfigEntry {
                            name: config.name.to_string(),
                            value: config.value.map(|value| value.to_string()).filter(|_| !config.is_sensitive),
                            source: source(config.config_source),
                            read_only: config.read_only,
                            secret: config.is_sensitive,
                        }
                    };
                let mut configs: Vec<ConfigEntry> = result.configs.into_iter().map(config).collect();
                configs.sort_by(|a, b| a.name.cmp(&b.name));
                found.insert(of, configs);
            }
        }
        Ok(found)
    }

    async fn alter_configs(&self, of: &Configured, changes: &[Change], only_check: bool) -> Result<()> {
        let (kind, name) = of.wire();
        let change = |(name, value): &Change| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(i8::from(value.is_none())) // 0 sets, 1 deletes
                .with_value(value.as_deref().map(text))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(&name))
            .with_configs(changes.iter().map(change).collect());
        let request =
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(only_check);
        let subject = Subject::Configs(of.to_string());
        self.ask_controller(async |controller| {
            // A broker checks and applies its own.
            let connection = match of {
                Configured::Broker(id) => self.known_broker(*id).await?,
                _ => controller,
            };
            let answer = connection.request(&request).await?;
            answer.responses.iter().try_for_each(|r| {
                refusal(Action::AlterConfigs, subject.clone(), r.error_code, r.error_message.as_ref())
            })
        })
        .await?;
        if only_check {
            return Ok(());
        }
        // The controller has taken it; the next command shall see it.
        self.until(async || {
            let configs = self.configs(std::slice::from_ref(of), None).await?.into_values().next().unwrap_or_default();
            let known = |(name, value): &Change| {
                let found = configs.iter().find(|config| config.name == *name && config.source == of.source());
                match value {
                    Some(value) => found.is_some_and(|config| config.secret || config.value.as_ref() == Some(value)),
                    None => found.is_none(),
                }
            };
            Ok(changes.iter().all(known))
        })
        .await
    }
}
