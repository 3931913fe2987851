//! The offsets that a group keeps: fetched at the start, committed on the way.

use super::super::cluster::{Cluster, Coordinated, Lane, answers_to, group_id, of_topic, text, topic_name};
use super::super::net::Connection;
use super::commits::Answers;
use crate::engine::{CommittedOffset, Offsets};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{LeaderEpoch, Position, TopicPartition, by_topic, partitions_by_topic};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition;
use kafka_protocol::messages::{
    ApiKey, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Stands beside each offset, so that others see where it came from.
const METADATA: &str = concat!("kpipe ", env!("CARGO_PKG_VERSION"));

/// OffsetFetch knows transactions that are about to commit from this version on.
const FIRST_WITH_STABLE: i16 = 7;

/// The group's committed offsets of `partitions`; a partition without one is left out.
pub(in super::super) async fn fetch(
    cluster: &Cluster,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Position>> {
    let found = ask(cluster, group, Some(partitions)).await?;
    Ok(found.into_iter().map(|(of, committed)| (of, committed.position)).collect())
}

/// All that the group has committed.
pub(in super::super) async fn all(cluster: &Cluster, group: &str) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    ask(cluster, group, None).await
}

async fn ask(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    let topic = |(name, partitions): (Arc<str>, Vec<i32>)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(&name)).with_partition_indexes(partitions)
    };
    let topics =
        partitions.map(|partitions| partitions_by_topic(partitions.iter().cloned()).into_iter().map(topic).collect());
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(topics);
    // Who goes on to read waits for offsets that a transaction is about to commit: else they would be moved back (KIP-447).
    let in_version =
        |version| request.clone().with_require_stable(partitions.is_some() && version >= FIRST_WITH_STABLE);
    let read = |response: OffsetFetchResponse, connection: &Connection| {
        let refused = |code| Err(Error::kafka(Action::FetchOffsets, Subject::group_named(group), code));
        error_code(response.error_code).map_or(Ok(()), refused)?;
        let topics = response.topics.into_iter();
        let answers =
            topics.flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
        let answers: Vec<_> = answers.collect();
        let named = answers.iter().map(|(of, _)| of.clone()).collect();
        // Who asks for all gets each once.
        let asked: BTreeSet<TopicPartition> = partitions.map_or(named, |asked| asked.iter().cloned().collect());
        let mut found = BTreeMap::new();
        for (of, partition) in answers_to(connection, ApiKey::OffsetFetch, asked, answers)? {
            error_code(partition.error_code).map_or(Ok(()), refused)?;
            match partition.committed_offset {
                -1 => {}
                offset if offset < 0 || of.partition < 0 => {
                    return Err(connection.malformed::<OffsetFetchRequest>(&format_args!("{of} has offset {offset}")));
                }
                _ => _ = found.insert(of, committed(partition)),
            }
        }
        Ok(found)
    };
    // From v8 on it asks for several groups at once (KIP-709); one is all we need.
    cluster.ask_coordinator_in_version(Coordinated::Group, group, in_version, 7, cluster.retry(), read).await
}

fn committed(partition: OffsetFetchResponsePartition) -> CommittedOffset {
    let position = Position {
        offset: partition.committed_offset,
        leader_epoch: LeaderEpoch::from_wire(partition.committed_leader_epoch),
    };
    CommittedOffset { position, metadata: partition.metadata.map(|text| text.to_string()).unwrap_or_default() }
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

/// What an answer to a commit of `written` has for each partition.
fn codes(connection: &Connection, written: &Offsets, response: OffsetCommitResponse) -> Result<Answers> {
    let topics = response.topics.into_iter();
    let answers =
        topics.flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
    let codes = answers.map(|(of, partition)| (of, error_code(partition.error_code)));
    answers_to(connection, ApiKey::OffsetCommit, written.keys().cloned(), codes)
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
        let answers = codes(&coordinator, written, response)?;
        match answers.values().flatten().find(|code| !is_of_partition(**code)) {
            Some(code) => Err(Error::kafka(Action::CommitOffsets, subject(group, written), *code)),
            None => Ok(answers),
        }
    };
    attempt.await.map_err(|error: Error| error.during(Action::CommitOffsets, subject(group, written)))
}

/// Commits for a group without members, again while its coordinator moves or loads.
pub(in super::super) async fn commit(cluster: &Cluster, group: &str, written: &Offsets) -> Result<()> {
    let read = |response: OffsetCommitResponse, connection: &Connection| {
        let refused = codes(connection, written, response)?.into_values().flatten().next();
        refused.map_or(Ok(()), |code| Err(Error::kafka(Action::CommitOffsets, subject(group, written), code)))
    };
    let request = request(group, None, written);
    cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, cluster.retry(), read).await
}
