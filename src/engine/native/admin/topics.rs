//! Topics: list, describe, create, delete.

use super::partitions::PATIENCE;
use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{PartitionInfo, TopicInfo, answer_to, text, topic_name};
use crate::engine::native::net::clock;
use crate::engine::{Isolation, Listing, NewTopic, Partition, Topic};
use crate::error::{Action, Error, Result, Subject};
use crate::record::{BrokerId, PartitionId, TopicPartition};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{ApiKey, BrokerId as WireBrokerId, CreateTopicsRequest, DeleteTopicsRequest, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

impl NativeAdmin {
    /// The topics of `names`, or all that can be seen, by name.
    ///
    /// # Errors
    /// A named topic does not exist or is denied, or the cluster did not answer.
    pub fn topics(&self, names: Option<&[String]>) -> Result<Listing<Topic>> {
        self.repeat(|| self.cluster().describe(names))
    }

    /// Looks up first and next offset of all partitions. Returns why some stay unknown.
    ///
    /// # Errors
    /// A signal came first.
    pub fn fill_offsets(&self, topics: &mut [Topic]) -> Result<Vec<Error>> {
        let all: Vec<TopicPartition> = topics.iter().flat_map(Topic::named_partitions).map(|(of, _)| of).collect();
        let mut bounds =
            self.run(async { Ok(self.cluster().bounds_of_each(&all, Isolation::Uncommitted, PATIENCE).await) })?;
        let mut unknown = BTreeMap::new();
        for topic in topics {
            let name: Arc<str> = topic.name.as_str().into();
            for partition in &mut topic.partitions {
                let of = TopicPartition::new(name.clone(), partition.partition);
                match bounds.remove(&of) {
                    Some(Ok(bounds)) => {
                        (partition.first_offset, partition.next_offset) = (Some(bounds.first), Some(bounds.end));
                    }
                    Some(Err(error)) => _ = unknown.insert(of, error),
                    None => {}
                }
            }
        }
        Ok(unknown.into_values().collect())
    }

    /// Creates a topic and waits until its leaders are known; with `validate_only` the cluster only validates the request.
    ///
    /// # Errors
    /// The cluster refused.
    pub fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<()> {
        self.run(self.cluster().create_topic(topic, validate_only))
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// The cluster refused.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.run(self.cluster().delete_topic(name))
    }
}

impl Cluster {
    pub(super) async fn describe(&self, names: Option<&[String]>) -> Result<Listing<Topic>> {
        let Listing { found: mut infos, incomplete } = match names {
            Some(names) => {
                Listing::whole(self.existing_topics(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?)
            }
            None => self.all_topics().await?,
        };
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { found: infos.into_iter().map(topic).collect(), incomplete })
    }

    /// All topics that can be seen. Those that metadata has an error for are waited for, but not for long.
    async fn all_topics(&self) -> Result<Listing<TopicInfo>> {
        let mut retry = self.retry().until_deadline(clock::now() + self.options.settle_limit());
        loop {
            let (mut infos, mut failed) = (Vec::new(), Vec::new());
            for (name, topic) in self.metadata(None, false).await? {
                match topic {
                    Ok(info) => infos.push(info),
                    Err(code) => failed.push(Error::kafka(Action::LookUp, Subject::topic_named(&name), code)),
                }
            }
            let Some(first) = failed.first() else { return Ok(Listing::whole(infos)) };
            if retry.after(first.clone()).await.is_err() {
                return Ok(Listing { found: infos, incomplete: failed });
            }
        }
    }

    /// Named topics as metadata has them now, with or without leaders; only those that do not exist are asked for
    /// again, for one that was just created is unknown to some brokers for a moment.
    pub(super) async fn existing_topics(&self, names: &[&str]) -> Result<Vec<TopicInfo>> {
        let answers = self.metadata(Some(names), false).await?;
        match answers.into_iter().map(|(_, topic)| topic).collect() {
            Ok(infos) => Ok(infos),
            Err(_) => self.topics(names, false).await,
        }
    }

    /// Creates a topic and waits until its leaders are known.
    pub(in crate::engine::native) async fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<()> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let controller = self.controller().await?;
        // Since v4 the brokers know defaults for both (KIP-464, Kafka 2.4).
        let defaults = controller.version::<CreateTopicsRequest>(i16::MAX)? >= 4;
        let or_default = if defaults { -1 } else { 1 };
        let assignment = |(index, brokers): (usize, &Vec<BrokerId>)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index as i32)
                .with_broker_ids(brokers.iter().map(|id| WireBrokerId(id.0)).collect())
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
            .with_validate_only(validate_only)
            .with_timeout_ms(self.timeout_ms());
        let subject = Subject::topic_named(&topic.name);
        self.ask_controller(async |controller| {
            let response = controller.request(&request).await?;
            let answers = response.topics.into_iter().map(|topic| (topic.name.to_string(), topic));
            let created = answer_to(&controller, ApiKey::CreateTopics, topic.name.clone(), answers)?;
            refusal(Action::CreateTopic, subject.clone(), created.error_code, created.error_message.as_ref())
        })
        .await?;
        if validate_only {
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
            .with_timeout_ms(self.timeout_ms());
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
            let named = |name: &Option<TopicName>| name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            let answers = response.responses.into_iter().map(|topic| (named(&topic.name), topic));
            let deleted = answer_to(&controller, ApiKey::DeleteTopics, name.to_owned(), answers)?;
            refusal(Action::DeleteTopic, subject.clone(), deleted.error_code, deleted.error_message.as_ref())
        })
        .await
    }
}

fn topic(info: TopicInfo) -> Topic {
    let partition = |(index, info): (usize, PartitionInfo)| Partition {
        partition: index as PartitionId,
        leader: info.leader,
        replicas: Some(info.replicas),
        in_sync_replicas: Some(info.in_sync),
        first_offset: None,
        next_offset: None,
    };
    Topic {
        name: info.name.to_string(),
        internal: Some(info.internal),
        partitions: info.partitions.into_iter().enumerate().map(partition).collect(),
    }
}
