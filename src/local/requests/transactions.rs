//! The requests of transactional producers: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit,
//! EndTxn.

use super::call::Call;
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::cluster::Cluster;
use crate::local::group::CommittedOffset;
use crate::local::limits::{LONGEST_OFFSET_METADATA, LONGEST_TRANSACTION};
use crate::local::log::{Outcome, Stamp};
use crate::local::transactions::Protocol;
use crate::record::{TopicPartition, now};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};
use std::time::Duration;
use uuid::Uuid;

fn code(result: Result<(), E>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

/// PRODUCER_FENCED came later than the requests: before `since` it is INVALID_PRODUCER_EPOCH.
fn fenced_since(call: &Call, since: i16) -> impl Fn(E) -> E {
    let is_known = call.version >= since;
    move |error| if error == E::ProducerFenced && !is_known { E::InvalidProducerEpoch } else { error }
}

/// Whether this broker coordinates a transactional ID.
fn coordinates(call: &Call, cluster: &Cluster, id: &str) -> Result<(), E> {
    call.check_transactional_id(Operation::Write, id)?;
    match cluster.coordinator(id) {
        _ if id.is_empty() => Err(E::InvalidRequest),
        Some(coordinator) if coordinator == call.broker => Ok(()),
        _ => Err(E::NotCoordinator),
    }
}

pub(in crate::local) fn init_producer_id(call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut cluster = call.cluster();
    let granted = match (call.refusal, &request.transactional_id) {
        (Some(error), _) => Err(error),
        (None, None) if !call.may_be_idempotent() => Err(E::ClusterAuthorizationFailed),
        (None, None) => Ok(Stamp { producer_id: cluster.new_producer_id(), epoch: 0 }),
        (None, Some(id)) => init_transactions(call, &mut cluster, id, &request),
    };
    drop(cluster);
    call.shared.appended.notify_waiters();
    let answer = InitProducerIdResponse::default();
    match granted.map_err(fenced_since(call, 4)) {
        Ok(stamp) => answer.with_producer_id(ProducerId(stamp.producer_id)).with_producer_epoch(stamp.epoch),
        Err(error) => answer.with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    }
}

fn init_transactions(
    call: &Call,
    cluster: &mut Cluster,
    id: &str,
    request: &InitProducerIdRequest,
) -> Result<Stamp, E> {
    let expected = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(E::InvalidRequest),
        (producer_id, epoch) => Some(Stamp { producer_id, epoch }),
    };
    coordinates(call, cluster, id)?;
    let timeout = u64::try_from(request.transaction_timeout_ms).ok().filter(|millis| *millis > 0);
    let timeout = timeout.map(Duration::from_millis).filter(|timeout| *timeout <= LONGEST_TRANSACTION);
    cluster.init_transactions(id, timeout.ok_or(E::InvalidTransactionTimeout)?, expected)
}

pub(in crate::local) fn add_partitions_to_txn(
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let answer = AddPartitionsToTxnResponse::default();
    if call.version < 4 {
        let stamp =
            Stamp { producer_id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let id = &request.v3_and_below_transactional_id;
        let results = add_partitions(call, id, stamp, false, &request.v3_and_below_topics);
        return answer.with_results_by_topic_v3_and_below(results);
    }
    if let Some(error) = call.refusal {
        return answer.with_error_code(error.code());
    }
    // Brokers ask for several transactions at once.
    let results = request.transactions.iter().map(|transaction| {
        let stamp = Stamp { producer_id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let id = &transaction.transactional_id;
        let results = add_partitions(call, id, stamp, transaction.verify_only, &transaction.topics);
        AddPartitionsToTxnResult::default().with_transactional_id(id.clone()).with_topic_results(results)
    });
    answer.with_results_by_transaction(results.collect())
}

fn add_partitions(
    call: &Call,
    id: &str,
    stamp: Stamp,
    verify_only: bool,
    topics: &[AddPartitionsToTxnTopic],
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut cluster = call.cluster();
    let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.as_str(), *index)));
    let all: Vec<(&str, i32)> = all.collect();
    let is_unknown = |cluster: &Cluster, name: &str, index| !cluster.has_partition(name, Uuid::nil(), index);
    let any_unknown = all.iter().any(|(name, index)| is_unknown(&cluster, name, *index));
    let any_denied = all.iter().any(|(name, _)| call.check_topic(Operation::Write, name).is_err());
    let added = if verify_only || any_unknown || any_denied {
        coordinates(call, &cluster, id)
    } else {
        coordinates(call, &cluster, id).and_then(|()| {
            let partitions = all.iter().map(|(name, index)| TopicPartition::new(*name, *index)).collect();
            cluster.transactions.add(id, stamp, partitions, clock::now(), now())
        })
    };
    let may_write = |name: &str| call.check_topic(Operation::Write, name);
    let mut result = |name: &str, index: i32| match added.and_then(|()| may_write(name)) {
        Err(error) => Err(error),
        Ok(()) if any_denied => Err(E::OperationNotAttempted),
        Ok(()) if is_unknown(&cluster, name, index) => Err(E::UnknownTopicOrPartition),
        Ok(()) if any_unknown => Err(E::OperationNotAttempted),
        Ok(()) if verify_only => cluster.transactions.check(id, stamp, &TopicPartition::new(name, index)),
        Ok(()) => Ok(()),
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            let outcome = result(&topic.name, *index).map_err(fenced_since(call, 2)).map_err(|error| match error {
                E::TransactionAbortable if call.version < 5 => E::InvalidTxnState,
                error => error,
            });
            let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(*index);
            result.with_partition_error_code(code(outcome))
        });
        let result = AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone());
        result.with_results_by_partition(partitions.collect())
    });
    let results = results.collect();
    drop(cluster);
    call.shared.deadlines.notify_one();
    results
}

pub(in crate::local) fn add_offsets_to_txn(call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let mut cluster = call.cluster();
    let stamp = Stamp { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let may_add = call.check_group(Operation::Read, &request.group_id);
    let added = coordinates(call, &cluster, &request.transactional_id).and(may_add).and_then(|()| {
        let group = &request.group_id;
        cluster.transactions.add_group(&request.transactional_id, stamp, group, clock::now(), now())
    });
    drop(cluster);
    call.shared.deadlines.notify_one();
    AddOffsetsToTxnResponse::default().with_error_code(code(added.map_err(fenced_since(call, 2))))
}

pub(in crate::local) fn txn_offset_commit(call: &Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut cluster = call.cluster();
    let allowed = commit_in_transaction(call, &mut cluster, &request);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let too_large = partition.committed_metadata.as_ref().is_some_and(|m| m.len() > LONGEST_OFFSET_METADATA);
            let outcome = match allowed {
                Ok(()) if call.check_topic(Operation::Read, &topic.name).is_err() => Err(E::TopicAuthorizationFailed),
                _ if !cluster.has_partition(&topic.name, Uuid::nil(), index) => Err(E::UnknownTopicOrPartition),
                Ok(()) if too_large => Err(E::OffsetMetadataTooLarge),
                allowed => allowed,
            };
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(outcome))
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn commit_in_transaction(call: &Call, cluster: &mut Cluster, request: &TxnOffsetCommitRequest) -> Result<(), E> {
    let (id, group) = (&request.transactional_id, &request.group_id);
    let stamp = Stamp { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    call.check_transactional_id(Operation::Write, id)?;
    call.check_group(Operation::Read, group)?;
    call.coordinates_in(cluster, group)?;
    // Since v3 members show that they still are (KIP-447).
    if let Some(found) = cluster.groups.get_mut(group.as_str()) {
        if request.generation_id >= 0 || !request.member_id.is_empty() {
            let instance = request.group_instance_id.as_deref();
            found.may_commit(&request.member_id, instance, request.generation_id, clock::now())?;
        }
    } else if request.generation_id >= 0 {
        return Err(E::IllegalGeneration);
    }
    if call.version >= 5 {
        cluster.transactions.add_group(id, stamp, group, clock::now(), now())?; // KIP-890
    }
    let offsets = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    let allowed = offsets.filter(|(topic, _)| call.check_topic(Operation::Read, &topic.name).is_ok());
    let known = allowed.filter(|(topic, p)| cluster.has_partition(&topic.name, Uuid::nil(), p.partition_index));
    let small = known.filter(|(_, p)| p.committed_metadata.as_ref().is_none_or(|m| m.len() <= LONGEST_OFFSET_METADATA));
    let offsets = small.map(|(topic, p)| {
        let committed = CommittedOffset {
            offset: p.committed_offset,
            leader_epoch: p.committed_leader_epoch,
            metadata: p.committed_metadata.as_ref().map(|text| text.to_string()).unwrap_or_default(),
        };
        (TopicPartition::new(topic.name.as_str(), p.partition_index), committed)
    });
    let offsets = offsets.collect();
    cluster.transactions.add_offsets(id, stamp, group, offsets)
}

pub(in crate::local) fn end_txn(call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let mut cluster = call.cluster();
    let stamp = Stamp { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
    let protocol = if call.version >= 5 { Protocol::V2 } else { Protocol::V1 };
    let ended = coordinates(call, &cluster, &request.transactional_id)
        .and_then(|()| cluster.end_transaction(&request.transactional_id, stamp, outcome, protocol));
    drop(cluster);
    call.shared.appended.notify_waiters();
    let answer = EndTxnResponse::default();
    match ended.map_err(fenced_since(call, 2)) {
        Ok(stamp) if protocol == Protocol::V2 => {
            answer.with_producer_id(ProducerId(stamp.producer_id)).with_producer_epoch(stamp.epoch)
        }
        Ok(_) => answer,
        Err(error) => answer.with_error_code(error.code()),
    }
}
