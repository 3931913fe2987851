//! OffsetCommit, OffsetFetch and OffsetDelete.

use super::call::{Call, distinct};
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::cluster::Cluster;
use crate::local::group::{CommittedOffset, Group};
use crate::local::limits::{ENTRY_OVERHEAD, LONGEST_OFFSET_METADATA};
use crate::record::{TopicPartition, partitions_by_topic};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Several groups are asked for at once (KIP-709).
const FIRST_OF_SEVERAL: i16 = 8;

pub(in crate::local) fn offset_commit(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut cluster = call.cluster();
    let partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    let size = |metadata: Option<&StrBytes>| metadata.map_or(0, |text| text.len());
    let bytes = partitions.map(|(topic, p)| topic.name.len() + size(p.committed_metadata.as_ref()) + ENTRY_OVERHEAD);
    let bytes = bytes.sum();
    let may_read = call.check_group(Operation::Read, &request.group_id);
    let allowed = may_read.and(call.coordinates_in(&cluster, &request.group_id)).and_then(|()| {
        let group = cluster.group_with_room(&request.group_id, bytes)?;
        let (member, instance) = (&request.member_id, request.group_instance_id.as_deref());
        group.may_commit(member, instance, request.generation_id_or_member_epoch, clock::now())
    });
    let topics = request.topics.into_iter().map(|topic| {
        let mut answer =
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        let check = || call.check_topic_in(&cluster, Operation::Read, &topic.name, topic.topic_id);
        let may_read = allowed.and_then(|()| check());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let committed = may_read.and_then(|()| {
                if size(partition.committed_metadata.as_ref()) > LONGEST_OFFSET_METADATA {
                    return Err(E::OffsetMetadataTooLarge);
                }
                let committed = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
                };
                commit(&mut cluster, &request.group_id, &topic.name, topic.topic_id, index, committed)
            });
            // A partition that does not exist is that, whatever else is wrong.
            let exists = cluster.has_partition(&topic.name, topic.topic_id, index);
            let is_denied = committed == Err(E::TopicAuthorizationFailed);
            let outcome = if exists || is_denied { committed } else { Err(E::UnknownTopicOrPartition) };
            let code = outcome.err().map_or(0, |error| error.code());
            answer
                .partitions
                .push(OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code));
        }
        answer
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn commit(
    cluster: &mut Cluster,
    group: &str,
    name: &str,
    id: Uuid,
    partition: i32,
    committed: CommittedOffset,
) -> Result<(), E> {
    if !cluster.has_partition(name, id, partition) {
        return Err(E::UnknownTopicOrPartition);
    }
    let of = TopicPartition::new(cluster.topic(name, id)?.0, partition);
    if let Some(group) = cluster.groups.get_mut(group) {
        group.offsets.insert(of, committed);
    }
    Ok(())
}

pub(in crate::local) fn offset_fetch(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= FIRST_OF_SEVERAL {
        let groups = distinct(&request.groups, |group| group.group_id.clone())
            .map(|group| of_group(call, group, request.require_stable));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let asked = |t: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default().with_name(t.name).with_partition_indexes(t.partition_indexes)
        };
        topics.into_iter().map(asked).collect()
    });
    let one = of_group(
        call,
        &OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics),
        request.require_stable,
    );
    let topics = one.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_committed_offset(p.committed_offset)
                .with_committed_leader_epoch(p.committed_leader_epoch)
                .with_metadata(p.metadata)
                .with_error_code(if call.version < 2 { one.error_code } else { p.error_code })
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(one.error_code)
}

/// `require_stable`: offsets that a transaction is about to commit are an error (KIP-447).
fn of_group(call: &Call, asked: &OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    let cluster = call.cluster();
    let may_see = call.check_group(Operation::Describe, &asked.group_id);
    if let Err(error) = may_see.and(call.coordinates_in(&cluster, &asked.group_id)) {
        return answer.with_error_code(error.code());
    }
    let none = Group::default();
    let group = cluster.groups.get(asked.group_id.as_str()).unwrap_or(&none);
    let topics: BTreeMap<Arc<str>, Vec<i32>> = match &asked.topics {
        Some(named) => {
            let named = named.iter().map(|topic| (Arc::from(topic.name.as_str()), topic.partition_indexes.clone()));
            named.collect()
        }
        None => partitions_by_topic(group.offsets.partitions().cloned()),
    };
    let topics = topics.into_iter().filter_map(|(name, partitions)| {
        let denied = call.check_topic(Operation::Describe, &name).is_err();
        if denied && asked.topics.is_none() {
            return None; // it is not listed
        }
        let partition = |index: i32| {
            let of = TopicPartition::new(name.clone(), index);
            let unstable = require_stable && cluster.transactions.is_pending(&asked.group_id, &of);
            let found = group.offsets.get(&of).filter(|_| !unstable && !denied);
            let error = if denied {
                E::TopicAuthorizationFailed.code()
            } else if unstable {
                E::UnstableOffsetCommit.code()
            } else {
                0
            };
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_committed_offset(found.map_or(-1, |committed| committed.offset))
                .with_committed_leader_epoch(found.map_or(-1, |committed| committed.leader_epoch))
                .with_metadata(Some(StrBytes::from_string(
                    found.map(|committed| committed.metadata.clone()).unwrap_or_default(),
                )))
        };
        let partitions = partitions.into_iter().map(partition).collect();
        let name = TopicName(StrBytes::from_string(name.to_string()));
        Some(OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions))
    });
    answer.with_topics(topics.collect())
}

pub(in crate::local) fn offset_delete(call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let answer = OffsetDeleteResponse::default();
    let mut cluster = call.cluster();
    let may_delete = call.check_group(Operation::Delete, &request.group_id);
    let found = may_delete.and(call.coordinates_in(&cluster, &request.group_id)).and_then(|()| {
        let group = cluster.groups.get(request.group_id.as_str()).ok_or(E::GroupIdNotFound)?;
        // Members of other protocols than the consumer's may use any topic.
        if group.has_members() && group.protocol_type() != "consumer" { Err(E::NonEmptyGroup) } else { Ok(()) }
    });
    if let Err(error) = found {
        return answer.with_error_code(error.code());
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let of = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let exists = cluster.has_partition(&of.topic, Uuid::nil(), of.partition);
            let code = match cluster.groups.get_mut(request.group_id.as_str()) {
                _ if call.check_topic(Operation::Read, &of.topic).is_err() => E::TopicAuthorizationFailed.code(),
                _ if !exists => E::UnknownTopicOrPartition.code(),
                Some(group) if group.is_subscribed(&of.topic) => E::GroupSubscribedToTopic.code(),
                Some(group) => {
                    group.offsets.remove(&of);
                    0
                }
                None => E::GroupIdNotFound.code(),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    answer.with_topics(topics.collect())
}
