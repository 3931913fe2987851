//! Partitions: more of them, their records deleted, their leaders elected, their replicas moved.

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{TopicInfo, answer_to, answers_to, of_topic, topic_name};
use crate::engine::native::net::{Backoff, clock};
use crate::engine::native::wire::millis;
use crate::engine::{Elected, Election, Isolation, OffsetAt, Reassignment};
use crate::error::{Action, Result, Subject, error_code};
use crate::record::{BrokerId, Offset, TopicPartition, by_topic, partitions_by_topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::PartitionResult;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiKey, BrokerId as WireBrokerId, CreatePartitionsRequest,
    DeleteRecordsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a listing waits for the leaders of partitions.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

impl NativeAdmin {
    /// How many partitions a topic has.
    ///
    /// # Errors
    /// It does not exist.
    pub fn partition_count(&self, topic: &str) -> Result<usize> {
        let found = self.topics(Some(&[topic.to_owned()]))?.found;
        Ok(found.first().map_or(0, |topic| topic.partitions.len()))
    }

    /// The offset of each partition at `at`, `None` where no record is so late; or why it cannot be had now.
    ///
    /// # Errors
    /// A signal came first.
    pub fn offsets_at(
        &self,
        partitions: &[TopicPartition],
        at: OffsetAt,
    ) -> Result<BTreeMap<TopicPartition, Result<Option<Offset>>>> {
        self.run(async {
            let offsets = self.cluster().offset_of_each(partitions, at, Isolation::Uncommitted, PATIENCE).await;
            Ok(offsets.into_iter().collect())
        })
    }

    /// Gives a topic more partitions, `count` in all; with `validate_only` the cluster only says whether it would.
    ///
    /// # Errors
    /// It has as many, or the cluster refused.
    pub fn add_partitions(&self, topic: &str, count: i32, validate_only: bool) -> Result<()> {
        self.run(self.cluster().add_partitions(topic, count, validate_only))
    }

    /// Deletes all records before an offset of each partition; the first offsets afterwards.
    ///
    /// # Errors
    /// An offset is out of range, or the cluster refused one.
    pub fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        // What is deleted already is deleted by a second request, too: it may be repeated at a new leader.
        self.repeat(|| self.cluster().delete_records(before))
    }

    /// Has leaders elected; what came of each.
    ///
    /// # Errors
    /// The cluster refused all.
    pub fn elect_leaders(
        &self,
        partitions: &[TopicPartition],
        election: Election,
    ) -> Result<BTreeMap<TopicPartition, Result<Elected>>> {
        self.run(self.cluster().elect_leaders(partitions, election))
    }

    /// Moves partitions to other replicas; `None` cancels what is under way. False where there was nothing to cancel.
    ///
    /// # Errors
    /// The cluster refused one.
    pub fn reassign(
        &self,
        to: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<BTreeMap<TopicPartition, bool>> {
        self.run(self.cluster().reassign(to))
    }

    /// What moves now.
    ///
    /// # Errors
    /// The cluster refused to tell.
    pub fn reassignments(&self) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        self.repeat(|| self.cluster().reassignments())
    }
}

impl Cluster {
    pub(super) fn timeout_ms(&self) -> i32 {
        millis(self.options.request_timeout)
    }

    async fn add_partitions(&self, topic: &str, count: i32, validate_only: bool) -> Result<()> {
        let wanted =
            CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(self.timeout_ms())
            .with_validate_only(validate_only);
        let subject = Subject::topic_named(topic);
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            let results = answer.results.into_iter().map(|result| (result.name.to_string(), result));
            let result = answer_to(&controller, ApiKey::CreatePartitions, topic.to_owned(), results)?;
            refusal(Action::CreatePartitions, subject.clone(), result.error_code, result.error_message.as_ref())
        })
        .await?;
        if validate_only {
            return Ok(());
        }
        self.until(async || {
            let answers = self.metadata(Some(&[topic]), false).await?;
            let ready =
                |t: &TopicInfo| t.partitions.len() >= count as usize && t.partitions.iter().all(|p| p.leader.is_some());
            Ok(answers.iter().all(|(_, topic)| topic.as_ref().is_ok_and(ready)))
        })
        .await
    }

    /// Waits until the brokers know what the controller has taken, but not for long.
    pub(super) async fn until(&self, known: impl AsyncFn() -> Result<bool>) -> Result<()> {
        self.settled(known, |known| !matches!(known, Ok(false))).await.map(drop)
    }

    /// What `ask` results in once that is settled, or after a short while.
    pub(super) async fn settled<T>(&self, ask: impl AsyncFn() -> T, is_settled: impl Fn(&T) -> bool) -> T {
        let deadline = clock::now() + self.options.settle_limit();
        // The answer is known to come soon.
        let mut backoff = Backoff::new(self.options.retry_backoff / 4);
        loop {
            let answer = ask().await;
            if is_settled(&answer) || clock::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let partitions: Vec<TopicPartition> = before.keys().cloned().collect();
        let mut deleted = BTreeMap::new();
        for (leader, partitions) in self.by_leader(&partitions).await? {
            let partition = |(partition, offset)| {
                DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset)
            };
            let asked = partitions.clone();
            let offset = |of: TopicPartition| before.get(&of).map(|offset| (of, *offset));
            let topics = by_topic(partitions.into_iter().filter_map(offset)).into_iter().map(|(topic, partitions)| {
                DeleteRecordsTopic::default()
                    .with_name(topic_name(&topic))
                    .with_partitions(partitions.into_iter().map(partition).collect())
            });
            let request =
                DeleteRecordsRequest::default().with_topics(topics.collect()).with_timeout_ms(self.timeout_ms());
            let connection = self.broker(leader).await?;
            let answers = connection
                .request(&request)
                .await?
                .topics
                .into_iter()
                .flat_map(|topic| of_topic(&topic.name, topic.partitions, |result| result.partition_index));
            for (of, result) in answers_to(&connection, ApiKey::DeleteRecords, asked, answers)? {
                refusal(Action::DeleteRecords, &of, result.error_code, None)?;
                if result.low_watermark < 0 {
                    let why = format!("{of} begins at {}", result.low_watermark);
                    return Err(connection.malformed::<DeleteRecordsRequest>(&why));
                }
                deleted.insert(of, result.low_watermark);
            }
        }
        Ok(deleted)
    }

    async fn elect_leaders(
        &self,
        partitions: &[TopicPartition],
        election: Election,
    ) -> Result<BTreeMap<TopicPartition, Result<Elected>>> {
        let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic(topic_name(&topic)).with_partitions(partitions)
        });
        let request = ElectLeadersRequest::default()
            .with_election_type(election.to_wire())
            .with_topic_partitions(Some(topics.collect()))
            .with_timeout_ms(self.timeout_ms());
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            refusal(Action::ElectLeader, Subject::Cluster, answer.error_code, None)?;
            let results = answer
                .replica_election_results
                .into_iter()
                .flat_map(|topic| of_topic(&topic.topic, topic.partition_result, |result| result.partition_id));
            let results = answers_to(&controller, ApiKey::ElectLeaders, partitions.iter().cloned(), results)?;
            let elected = |(of, result): (TopicPartition, PartitionResult)| {
                let elected = match error_code(result.error_code) {
                    Some(ResponseError::ElectionNotNeeded) => Ok(Elected::NotNeeded),
                    _ => refusal(Action::ElectLeader, &of, result.error_code, result.error_message.as_ref())
                        .map(|()| Elected::NewLeader),
                };
                (of, elected)
            };
            Ok(results.into_iter().map(elected).collect())
        })
        .await
    }

    async fn reassign(
        &self,
        to: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<BTreeMap<TopicPartition, bool>> {
        let partition = |(partition, replicas): (i32, &Option<Vec<BrokerId>>)| {
            ReassignablePartition::default()
                .with_partition_index(partition)
                .with_replicas(replicas.as_ref().map(|ids| ids.iter().map(|id| WireBrokerId(id.0)).collect()))
        };
        let wanted = by_topic(to.iter().map(|(of, replicas)| (of.clone(), replicas)));
        let topics = wanted.into_iter().map(|(topic, partitions)| {
            ReassignableTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(partitions.into_iter().map(partition).collect())
        });
        let request = AlterPartitionReassignmentsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(self.timeout_ms());
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            refusal(Action::Reassign, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
            let answers = answer
                .responses
                .into_iter()
                .flat_map(|topic| of_topic(&topic.name, topic.partitions, |result| result.partition_index));
            let asked = to.keys().cloned();
            let mut results = BTreeMap::new();
            for (of, result) in answers_to(&controller, ApiKey::AlterPartitionReassignments, asked, answers)? {
                let none = error_code(result.error_code) == Some(ResponseError::NoReassignmentInProgress);
                if !none {
                    refusal(Action::Reassign, &of, result.error_code, result.error_message.as_ref())?;
                }
                results.insert(of, !none);
            }
            Ok(results)
        })
        .await
    }

    async fn reassignments(&self) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        let request = ListPartitionReassignmentsRequest::default().with_topics(None).with_timeout_ms(self.timeout_ms());
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            refusal(Action::ListReassignments, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
            let ids = |brokers: &[WireBrokerId]| brokers.iter().map(|id| BrokerId(id.0)).collect();
            let mut moving = BTreeMap::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let of = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                    let reassignment = Reassignment {
                        replicas: ids(&partition.replicas),
                        adding: ids(&partition.adding_replicas),
                        removing: ids(&partition.removing_replicas),
                    };
                    moving.insert(of, reassignment);
                }
            }
            Ok(moving)
        })
        .await
    }
}
