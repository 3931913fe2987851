//! Topics: list, describe, make, delete.

use super::Client;
use super::cluster::{Cluster, EARLIEST, LATEST, TopicInfo, topic_name};
use super::net::backoff;
use crate::engine::{Admin, NewTopic, Partition, Topic};
use crate::error::{Code, Error, Result};
use crate::record::PartitionId;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::Instant;

/// Kafka's NOT_CONTROLLER.
const NOT_CONTROLLER: i16 = 41;

/// [`Admin`] of the native engine.
#[derive(Debug)]
pub struct NativeAdmin {
    client: Client,
}

impl NativeAdmin {
    /// Looks after the cluster that `client` is connected to.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn describe(&self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>> {
        let cluster = &self.client.cluster;
        let mut infos: Vec<TopicInfo> = match names {
            Some(names) => cluster.topics(&names.iter().map(String::as_str).collect::<Vec<_>>(), false).await?,
            None => cluster.metadata(None, false).await?.into_iter().filter_map(|(_, topic)| topic.ok()).collect(),
        };
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        let led = infos.iter().flat_map(|info| {
            let led = info.partitions.iter().enumerate().filter(|(_, p)| p.leader.is_some());
            led.map(|(index, _)| (info.name.clone(), index as PartitionId))
        });
        let led: Vec<(Arc<str>, PartitionId)> = if offsets { led.collect() } else { Vec::new() };
        let first = cluster.list_offsets(&led, EARLIEST, false).await?;
        let next = cluster.list_offsets(&led, LATEST, false).await?;
        Ok(infos
            .into_iter()
            .map(|info| Topic {
                topic: info.name.to_string(),
                internal: Some(info.internal),
                partitions: info
                    .partitions
                    .into_iter()
                    .enumerate()
                    .map(|(index, p)| {
                        let key = (info.name.clone(), index as PartitionId);
                        Partition {
                            partition: key.1,
                            leader: p.leader,
                            replicas: Some(p.replicas),
                            in_sync_replicas: Some(p.in_sync),
                            first_offset: first.get(&key).copied(),
                            next_offset: next.get(&key).copied(),
                        }
                    })
                    .collect(),
            })
            .collect())
    }
}

impl Cluster {
    /// Since KRaft any broker forwards to the controller (KIP-590); before, the controller must be asked itself.
    async fn controller(&self) -> Result<Arc<super::net::Connection>> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let response = self.any().await?.request(&request).await?;
        self.learn_brokers(&response);
        match response.controller_id.0 {
            id if id >= 0 => self.broker(id).await,
            _ => self.any().await,
        }
    }

    /// Makes a topic and waits until its leaders are known.
    pub(super) async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let controller = self.controller().await?;
        // Since v4 the brokers know defaults for both (KIP-464, Kafka 2.4).
        let defaults = controller.version::<CreateTopicsRequest>(i16::MAX)? >= 4;
        let or_default = if defaults { -1 } else { 1 };
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions.unwrap_or(or_default))
            .with_replication_factor(topic.replication_factor.unwrap_or(or_default as i16))
            .with_configs(topic.configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(self.config.request_timeout.as_millis() as i32);
        let what = format!("creating topic {}", topic.name);
        self.until_controller(&what, async |controller| {
            let response = controller.request(&request).await?;
            Ok(response.topics.first().map(|t| (t.error_code, t.error_message.as_ref().map(ToString::to_string))))
        })
        .await?;
        // The controller knows it; now wait until a broker does, so that the next command finds it.
        let deadline = Instant::now() + self.config.request_timeout;
        let mut attempt = 0;
        loop {
            let answer = self.metadata(Some(&[&topic.name]), false).await?;
            let ready = |t: &TopicInfo| !t.partitions.is_empty() && t.partitions.iter().all(|p| p.leader.is_some());
            if answer.iter().all(|(_, t)| t.as_ref().is_ok_and(ready)) || Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(backoff(self.config.retry_backoff / 4, attempt)).await;
            attempt += 1;
        }
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(name)))])
            .with_timeout_ms(self.config.request_timeout.as_millis() as i32);
        self.until_controller(&format!("deleting topic {name}"), async |controller| {
            // Up to v5 names stand in one field, from v6 in another; the schema refuses the one not in use.
            let version = controller.version::<DeleteTopicsRequest>(i16::MAX)?;
            let request = if version >= 6 {
                request.clone().with_topic_names(Vec::new())
            } else {
                request.clone().with_topics(Vec::new())
            };
            let response = controller.request(&request).await?;
            let first = response.responses.first();
            Ok(first.map(|t| (t.error_code, t.error_message.as_ref().map(ToString::to_string))))
        })
        .await
    }

    /// Asks the controller, and the next one when it moved meanwhile.
    async fn until_controller(
        &self,
        what: &str,
        ask: impl AsyncFn(Arc<super::net::Connection>) -> Result<Option<(i16, Option<String>)>>,
    ) -> Result<()> {
        for attempt in 0..5 {
            match ask(self.controller().await?).await? {
                Some((0, _)) => return Ok(()),
                Some((NOT_CONTROLLER, _)) => {
                    tokio::time::sleep(backoff(self.config.retry_backoff, attempt)).await;
                }
                Some((code, message)) => {
                    return Err(Error::Kafka { what: what.to_owned(), code: Code(code), message });
                }
                None => return Err(Error::Network(format!("{what}: the controller's answer was empty"))),
            }
        }
        Err(Error::kafka(what, NOT_CONTROLLER))
    }
}

impl Admin for NativeAdmin {
    fn topics(&mut self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>> {
        self.client.network.run(1, self.describe(names, offsets))
    }

    fn create_topic(&mut self, topic: &NewTopic) -> Result<()> {
        self.client.network.run(1, self.client.cluster.create_topic(topic))
    }

    fn delete_topic(&mut self, name: &str) -> Result<()> {
        self.client.network.run(1, self.client.cluster.delete_topic(name))
    }
}
