//! The offsets that a group keeps: fetched at the start, committed on the way.

use super::super::cluster::{Cluster, Coordinated, Lane, group_id, text, topic_name};
use crate::engine::Offsets;
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{LeaderEpoch, Position, TopicPartition, by_topic, partitions_by_topic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// CommittedOffset beside each offset, for who wonders where it came from.
const METADATA: &str = concat!("kpipe ", env!("CARGO_PKG_VERSION"));

/// A committed offset, with what stands beside it.
#[derive(Debug, Clone)]
pub struct CommittedOffset {
    /// The offset to go on from.
    pub position: Position,
    /// What whoever committed it wrote beside it.
    pub metadata: String,
}

/// The group's committed offsets of `places`; a partition without one is left out.
pub(in super::super) async fn fetch(
    cluster: &Cluster,
    group: &str,
    places: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Position>> {
    let topics = partitions_by_topic(places.iter().cloned()).into_iter().map(|(name, partitions)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(&name)).with_partition_indexes(partitions)
    });
    let found = ask(cluster, group, Some(topics.collect())).await?;
    Ok(found.into_iter().map(|(place, kept)| (place, kept.position)).collect())
}

/// All that the group has committed.
pub(super) async fn all(cluster: &Cluster, group: &str) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
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
pub(in super::super) struct By<'a> {
    pub(in super::super) id: &'a str,
    pub(in super::super) instance: Option<&'a str>,
    /// Generation, or KIP-848's member epoch.
    pub(in super::super) generation: i32,
}

/// A group's offsets, as errors name them.
fn subject(group: &str, offsets: &Offsets) -> Subject {
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

/// Commits as a member, or with `None` for a group without members; asks once.
pub(in super::super) async fn commit_once(
    cluster: &Cluster,
    group: &str,
    by: Option<By<'_>>,
    written: &Offsets,
) -> Result<()> {
    let response = async {
        let coordinator = cluster.coordinator_on(Coordinated::Group, group, Lane::Main).await?;
        coordinator.request(&request(group, by, written)).await
    };
    let response =
        response.await.map_err(|error: Error| error.during(Action::CommitOffsets, subject(group, written)))?;
    refusal(group, written, &response).map_or(Ok(()), Err)
}

/// Commits for a group without members, again while its coordinator moves or loads.
pub(in super::super) async fn commit(cluster: &Cluster, group: &str, written: &Offsets) -> Result<()> {
    let refusal = |response: &OffsetCommitResponse| refusal(group, written, response);
    let request = request(group, None, written);
    let retry = cluster.retry();
    cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, refusal).await.map(drop)
}
