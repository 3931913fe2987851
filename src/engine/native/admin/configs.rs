//! Configs of topics and brokers: shown with where they come from, changed (KIP-133, KIP-226, KIP-339).

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{answer_to, answers_to, text};
use crate::engine::{ConfigChange, ConfigEntry, ConfigSource, Configured};
use crate::error::{Action, Result};
use crate::record::BrokerId;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use std::collections::BTreeMap;

/// Kafka's resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

impl Configured {
    /// Kafka's number of the resource type, and the resource's name.
    fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::Broker(id) => (BROKER, id.to_string()),
            Self::AllBrokers => (BROKER, String::new()),
        }
    }

    fn from_wire(resource_type: i8, name: &str) -> Self {
        match (resource_type, name.parse()) {
            (BROKER, Ok(id)) => Self::Broker(BrokerId(id)),
            (BROKER, Err(_)) => Self::AllBrokers,
            _ => Self::Topic(name.to_owned()),
        }
    }

    /// The broker that alone knows these configs.
    fn broker(&self) -> Option<BrokerId> {
        if let Self::Broker(id) = self { Some(*id) } else { None }
    }
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.map(|value| value.to_string()).filter(|_| !config.is_sensitive),
        source: ConfigSource::from_wire(config.config_source),
        read_only: config.read_only,
        secret: config.is_sensitive,
    }
}

impl ConfigSource {
    fn from_wire(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::AllBrokers,
            4 => Self::File,
            5 => Self::Default,
            6 => Self::Logger,
            _ => Self::Other,
        }
    }
}

impl NativeAdmin {
    /// All configs of each, by name.
    ///
    /// # Errors
    /// One does not exist, or is denied.
    pub fn configs(&self, of: &[Configured]) -> Result<BTreeMap<Configured, Vec<ConfigEntry>>> {
        self.repeat(|| self.cluster().configs(of, None))
    }

    /// Changes configs; with `validate_only` the cluster only validates the request.
    ///
    /// # Errors
    /// The cluster refused: then nothing of it is changed.
    pub fn alter_configs(&self, of: &Configured, changes: &[ConfigChange], validate_only: bool) -> Result<()> {
        self.run(self.cluster().alter_configs(of, changes, validate_only))
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
        let mut asked: BTreeMap<Option<BrokerId>, Vec<DescribeConfigsResource>> = BTreeMap::new();
        for one in of {
            let (kind, name) = one.to_wire();
            let keys = names.map(|names| names.iter().map(|name| text(name)).collect());
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(&name))
                .with_configuration_keys(keys);
            asked.entry(one.broker()).or_default().push(resource);
        }
        let mut found = BTreeMap::new();
        for (broker, resources) in asked {
            let connection = match broker {
                Some(id) => self.known_broker(id).await?,
                None => self.any().await?,
            };
            let answer = connection.request(&DescribeConfigsRequest::default().with_resources(resources)).await?;
            let asked = of.iter().filter(|one| one.broker() == broker).cloned();
            let results = answer
                .results
                .into_iter()
                .map(|result| (Configured::from_wire(result.resource_type, &result.resource_name), result));
            for (of, result) in answers_to(&connection, ApiKey::DescribeConfigs, asked, results)? {
                refusal(Action::DescribeConfigs, of.subject(), result.error_code, result.error_message.as_ref())?;
                let mut configs: Vec<ConfigEntry> = result.configs.into_iter().map(entry).collect();
                configs.sort_by(|a, b| a.name.cmp(&b.name));
                found.insert(of, configs);
            }
        }
        Ok(found)
    }

    async fn alter_configs(&self, of: &Configured, changes: &[ConfigChange], validate_only: bool) -> Result<()> {
        let (kind, name) = of.to_wire();
        let change = |ConfigChange { name, value }: &ConfigChange| {
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
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
        let subject = of.subject();
        self.ask_controller(async |controller| {
            // A broker checks and applies its own.
            let connection = match of {
                Configured::Broker(id) => self.known_broker(*id).await?,
                _ => controller,
            };
            let answer = connection.request(&request).await?;
            let results = answer
                .responses
                .into_iter()
                .map(|result| (Configured::from_wire(result.resource_type, &result.resource_name), result));
            let result = answer_to(&connection, ApiKey::IncrementalAlterConfigs, of.clone(), results)?;
            refusal(Action::AlterConfigs, subject.clone(), result.error_code, result.error_message.as_ref())
        })
        .await?;
        if validate_only {
            return Ok(());
        }
        // The controller has taken it; the next command shall see it.
        self.until(async || {
            let configs = self.configs(std::slice::from_ref(of), None).await?.into_values().next().unwrap_or_default();
            let known = |ConfigChange { name, value }: &ConfigChange| {
                let found = configs.iter().find(|config| config.name == *name && config.source == of.own_source());
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
