//! The offsets that a group keeps: fetched at the start, committed on the way.

use super::super::cluster::{Cluster, Coordinated, Lane, group_id, text, topic_name};
use super::commits::Answers;
use crate::engine::{CommittedOffset, Offsets};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{LeaderEpoch, Position, TopicPartition, by_topic, partitions_by_topic};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiKey, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Stands beside each offset, so that others see where it came from.
const METADATA: &str = concat!("kpipe ", env!("CARGO_PKG_VERSION"));

/// The group's committed offsets of `partitions`; a partition without one is left out.
pub(in super::super) async fn fetch(
    cluster: &Cluster,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Position>> {
    let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(name, partitions)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(&name)).with_partition_indexes(partitions)
    });
    let found = ask(cluster, group, Some(topics.collect())).await?;
    Ok(found.into_iter().map(|(of, committed)| (of, committed.position)).collect())
}

/// All that the group has committed.
pub(in super::super) async fn all(cluster: &Cluster, group: &str) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    ask(cluster, group, None).await
}

async fn ask(
    cluster: &Cluster,
    group: &str,
    topics: Option<Vec<OffsetFetchRequestTopic>>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(topics);
    let refusal = |response: &OffsetFetchResponse| {
        let partitions = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
        let code = std::iter::once(response.error_code).chain(partitions).find_map(error_code)?;
        Some(Error::kafka(Action::FetchOffsets, Subject::group_named(group), code))
    };
    // From v8 on it asks for several groups at once (KIP-709); one is all we need.
    let response = cluster.ask_coordinator(Coordinated::Group, group, &request, 7, cluster.retry(), refusal).await?;
    let mut found = BTreeMap::new();
    for topic in response.topics {
        let name: Arc<str> = topic.name.as_str().into();
        for partition in topic.partitions.into_iter().filter(|p| p.committed_offset >= 0) {
            let position = Position {
                offset: partition.committed_offset,
                leader_epoch: LeaderEpoch::from_wire(partition.committed_leader_epoch),
            };
            let metadata = partition.metadata.map(|text| text.to_string()).unwrap_or_default();
            found.insert(
                TopicPartition::new(name.clone(), partition.partition_index),
                CommittedOffset { position, metadata },
            );
        }
    }
    Ok(found)
}

/// Who commits, where a group has members.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) id: &'a str,
    pub(super) instance: Option<&'a str>,
    /// Generation, or KIP-848's member epoch.
    pub(super) generation: i32,
}

/// A group's offsets, as errors name them.
pub(super) fn subject(group: &str, offsets: &Offsets) -> Subject {
    let partitions = offsets.iter().map(|(of, position)| (of.clone(), position.offset)).collect();
    Subject::GroupPartitions { group: group.to_owned(), partitions }
}

fn request(group: &str, by: Option<By<'_>>, written: &Offsets) -> OffsetCommitRequest {
    let entry = |(partition, position): (i32, &Position)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(position.offset)
            .with_committed_leader_epoch(LeaderEpoch::to_wire(position.leader_epoch))
            .with_committed_metadata(Some(StrBytes::from_static_str(METADATA)))
    };
    let topics = by_topic(written.iter().map(|(of, position)| (of.clone(), position)));
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(entry).collect())
    });
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(by.map_or(-1, |by| by.generation))
        .with_member_id(by.map(|by| text(by.id)).unwrap_or_default())
        .with_group_instance_id(by.and_then(|by| by.instance).map(text))
        .with_retention_time_ms(-1)
        .with_topics(topics.collect())
}

/// The first error in an answer to a commit of `written`.
fn refusal(group: &str, written: &Offsets, response: &OffsetCommitResponse) -> Option<Error> {
    let code = response.topics.iter().flat_map(|t| &t.partitions).find_map(|p| error_code(p.error_code))?;
    Some(Error::kafka(Action::CommitOffsets, subject(group, written), code))
}

/// Whether `code` concerns one partition, and not the group or the member.
fn is_of_partition(code: E) -> bool {
    matches!(
        code,
        E::UnknownTopicOrPartition
            | E::UnknownTopicId
            | E::TopicAuthorizationFailed
            | E::OffsetMetadataTooLarge
            | E::InvalidCommitOffsetSize
    )
}

/// Commits as a member, or with `None` for a group without members; asks once.
///
/// # Errors
/// The group or the member was refused, or the answer does not have each partition.
pub(super) async fn commit_once(
    cluster: &Cluster,
    group: &str,
    by: Option<By<'_>>,
    written: &Offsets,
) -> Result<Answers> {
    let attempt = async {
        let coordinator = cluster.coordinator_on(Coordinated::Group, group, Lane::Main).await?;
        let response = coordinator.request(&request(group, by, written)).await?;
        let mut answers = Answers::new();
        for topic in response.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for partition in topic.partitions {
                let code = error_code(partition.error_code);
                if let Some(code) = code.filter(|code| !is_of_partition(*code)) {
                    return Err(Error::kafka(Action::CommitOffsets, subject(group, written), code));
                }
                answers.insert(TopicPartition::new(name.clone(), partition.partition_index), code);
            }
        }
        match written.keys().find(|of| !answers.contains_key(*of)) {
            Some(missing) => Err(Error::Malformed {
                node: coordinator.node().clone(),
                api: ApiKey::OffsetCommit,
                why: format!("it does not contain {missing}"),
            }),
            None => Ok(answers),
        }
    };
    attempt.await.map_err(|error: Error| error.during(Action::CommitOffsets, subject(group, written)))
}

/// Commits for a group without members, again while its coordinator moves or loads.
pub(in super::super) async fn commit(cluster: &Cluster, group: &str, written: &Offsets) -> Result<()> {
    let refusal = |response: &OffsetCommitResponse| refusal(group, written, response);
    let request = request(group, None, written);
    let retry = cluster.retry();
    cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, refusal).await.map(drop)
}
