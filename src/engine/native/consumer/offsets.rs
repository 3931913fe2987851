//! The offsets that a group keeps: fetched at the start, committed on the way.

use super::super::cluster::{Cluster, Coordinated, topic_name};
use super::Place;
use crate::engine::{Offsets, place};
use crate::error::{Error, Result};
use crate::record::Offset;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};

/// The group's committed offsets; a partition without one is left out.
pub(super) async fn fetch(cluster: &Cluster, group: &str, places: &[Place]) -> Result<HashMap<Place, Offset>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(partitions)
    });
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(topics.collect()));
    let what = format!("offsets of group {group}");
    let refusal = |response: &OffsetFetchResponse| {
        let partitions = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
        let code = std::iter::once(response.error_code).chain(partitions).find(|&code| code != 0)?;
        Some(Error::kafka(&what, code))
    };
    // From v8 on it asks for several groups at once (KIP-709); one is all we need.
    let response = cluster.ask_coordinator(Coordinated::Group, group, &request, 7, cluster.retry(), refusal).await?;
    let mut found = HashMap::new();
    for topic in response.topics {
        for partition in topic.partitions.iter().filter(|p| p.committed_offset >= 0) {
            found.insert((topic.name.as_str().into(), partition.partition_index), partition.committed_offset);
        }
    }
    Ok(found)
}

/// Commits as the group's lone member: outside of any generation.
pub(super) async fn commit(cluster: &Cluster, group: &str, written: &Offsets) -> Result<()> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), position) in written {
        let entry = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(position.offset)
            .with_committed_leader_epoch(position.leader_epoch)
            .with_committed_metadata(Some(StrBytes::default()));
        topics.entry(topic).or_default().push(entry);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(topics.collect());
    let again: Vec<_> =
        written.iter().map(|((topic, p), position)| format!("{}@{}", place(topic, *p), position.offset)).collect();
    let what = format!("committing {} for group {group}", again.join(", "));
    let refusal = |response: &OffsetCommitResponse| {
        let code = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).find(|&code| code != 0)?;
        Some(Error::kafka(&what, code))
    };
    let retry = cluster.retry();
    match cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, refusal).await {
        Err(Error::Network(text)) => Err(Error::Network(format!("{what}: {text}"))),
        answered => answered.map(drop),
    }
}
