//! OffsetCommit and OffsetFetch.

use super::call::Call;
use super::group::{Committed, Group};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Instant;

/// From here on several groups are asked for at once (KIP-709).
const FIRST_OF_SEVERAL: i16 = 8;

pub(super) fn offset_commit(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut cluster = call.cluster();
    let allowed = call.coordinates_in(&cluster, &request.group_id).and_then(|()| {
        let group = cluster.groups.entry(request.group_id.to_string()).or_default();
        let (member, instance) = (&request.member_id, request.group_instance_id.as_deref());
        group.may_commit(member, instance, request.generation_id_or_member_epoch, Instant::now())
    });
    let topics = request.topics.into_iter().map(|topic| {
        let mut answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let exists = cluster
                .topic(&topic.name, topic.topic_id)
                .is_ok_and(|(_, t)| usize::try_from(index).is_ok_and(|index| index < t.partitions.len()));
            let outcome = match allowed {
                _ if !exists => E::UnknownTopicOrPartition.code(),
                Err(error) => error.code(),
                Ok(()) => {
                    let kept = Committed {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
                    };
                    if let Some(group) = cluster.groups.get_mut(request.group_id.as_str()) {
                        group.offsets.insert((topic.name.to_string(), index), kept);
                    }
                    0
                }
            };
            let outcome = OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(outcome);
            answer.partitions.push(outcome);
        }
        answer
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(super) fn offset_fetch(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= FIRST_OF_SEVERAL {
        let groups = request.groups.iter().map(|group| of_group(call, group));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let asked = |t: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default().with_name(t.name).with_partition_indexes(t.partition_indexes)
        };
        topics.into_iter().map(asked).collect()
    });
    let one = of_group(call, &OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics));
    let topics = one.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_committed_offset(p.committed_offset)
                .with_committed_leader_epoch(p.committed_leader_epoch)
                .with_metadata(p.metadata)
                .with_error_code(if call.version < 2 { one.error_code } else { 0 })
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(one.error_code)
}

fn of_group(call: &Call, asked: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    let cluster = call.cluster();
    if let Err(error) = call.coordinates_in(&cluster, &asked.group_id) {
        return answer.with_error_code(error.code());
    }
    let none = Group::default();
    let group = cluster.groups.get(asked.group_id.as_str()).unwrap_or(&none);
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    match &asked.topics {
        Some(named) => {
            for topic in named {
                topics.entry(topic.name.to_string()).or_default().extend(&topic.partition_indexes);
            }
        }
        None => {
            for (topic, partition) in group.offsets.keys() {
                topics.entry(topic.clone()).or_default().push(*partition);
            }
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partition = |index: i32| {
            let found = group.offsets.get(&(name.clone(), index));
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(found.map_or(-1, |kept| kept.offset))
                .with_committed_leader_epoch(found.map_or(-1, |kept| kept.leader_epoch))
                .with_metadata(Some(StrBytes::from_string(found.map(|kept| kept.metadata.clone()).unwrap_or_default())))
        };
        let partitions = partitions.into_iter().map(partition).collect();
        let name = TopicName(StrBytes::from_string(name.clone()));
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions)
    });
    answer.with_topics(topics.collect())
}
