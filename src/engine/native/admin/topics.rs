//! Topics: list, describe, make, delete.

use super::{Cluster, ClusterAdmin, Connection, refusal};
use crate::engine::native::cluster::{TopicInfo, text, topic_name};
use crate::engine::{Admin, NewTopic, Partition, Topic};
use crate::error::{Action, Error, Result, Subject};
use crate::record::{PartitionId, TopicPartition};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{ApiKey, BrokerId, CreateTopicsRequest, DeleteTopicsRequest};

impl Cluster {
    async fn describe(&self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>> {
        let mut infos: Vec<TopicInfo> = match names {
            Some(names) => self.topics(&names.iter().map(String::as_str).collect::<Vec<_>>(), false).await?,
            None => self.metadata(None, false).await?.into_iter().filter_map(|(_, topic)| topic.ok()).collect(),
        };
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        let led = infos.iter().flat_map(|info| {
            let led = info.partitions.iter().enumerate().filter(|(_, p)| p.leader.is_some());
            led.map(|(index, _)| TopicPartition::new(info.name.clone(), index as PartitionId))
        });
        let led: Vec<TopicPartition> = if offsets { led.collect() } else { Vec::new() };
        let (first, next) = self.bounds(&led, false).await?;
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
                        let key = TopicPartition::new(info.name.clone(), index as PartitionId);
                        Partition {
                            partition: key.partition,
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

    /// Makes a topic and waits until its leaders are known.
    pub(in crate::engine::native) async fn create_topic(&self, topic: &NewTopic, only_check: bool) -> Result<()> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let controller = self.controller().await?;
        // Since v4 the brokers know defaults for both (KIP-464, Kafka 2.4).
        let defaults = controller.version::<CreateTopicsRequest>(i16::MAX)? >= 4;
        let or_default = if defaults { -1 } else { 1 };
        let assignment = |(index, brokers): (usize, &Vec<i32>)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index as i32)
                .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        };
        // What is assigned needs no numbers.
        let or_default = if topic.assignment.is_empty() { or_default } else { -1 };
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions.unwrap_or(or_default))
            .with_replication_factor(topic.replication_factor.unwrap_or(or_default as i16))
            .with_assignments(topic.assignment.iter().enumerate().map(assignment).collect())
            .with_configs(topic.configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_validate_only(only_check)
            .with_timeout_ms(self.options.request_timeout.as_millis() as i32);
        let subject = Subject::topic_named(&topic.name);
        self.ask_controller(async |controller| {
            let response = controller.request(&request).await?;
            let first = response.topics.first().ok_or_else(|| empty(&controller, ApiKey::CreateTopics))?;
            refusal(Action::CreateTopic, subject.clone(), first.error_code, first.error_message.as_ref())
        })
        .await?;
        if only_check {
            return Ok(());
        }
        // The controller knows it; now wait until a broker does, so that the next command finds it.
        self.until(async || {
            let answer = self.metadata(Some(&[&topic.name]), false).await?;
            let ready = |t: &TopicInfo| !t.partitions.is_empty() && t.partitions.iter().all(|p| p.leader.is_some());
            Ok(answer.iter().all(|(_, t)| t.as_ref().is_ok_and(ready)))
        })
        .await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(name)))])
            .with_timeout_ms(self.options.request_timeout.as_millis() as i32);
        let subject = Subject::topic_named(name);
        self.ask_controller(async |controller| {
            // Up to v5 names stand in one field, from v6 in another; the schema refuses the one not in use.
            let version = controller.version::<DeleteTopicsRequest>(i16::MAX)?;
            let request = if version >= 6 {
                request.clone().with_topic_names(Vec::new())
            } else {
                request.clone().with_topics(Vec::new())
            };
            let response = controller.request(&request).await?;
            let first = response.responses.first().ok_or_else(|| empty(&controller, ApiKey::DeleteTopics))?;
            refusal(Action::DeleteTopic, subject.clone(), first.error_code, first.error_message.as_ref())
        })
        .await
    }
}

/// An answer without what was asked for.
pub(super) fn empty(connection: &Connection, api: ApiKey) -> Error {
    Error::Malformed { node: connection.node().clone(), api, why: "it lacks what was asked for".to_owned() }
}

impl Admin for ClusterAdmin {
    fn topics(&mut self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>> {
        self.run(self.cluster().describe(names, offsets))
    }

    fn create_topic(&mut self, topic: &NewTopic, only_check: bool) -> Result<()> {
        self.run(self.cluster().create_topic(topic, only_check))
    }

    fn delete_topic(&mut self, name: &str) -> Result<()> {
        self.run(self.cluster().delete_topic(name))
    }
}
