//! What administrators ask of transactions (KIP-664): ListTransactions, DescribeTransactions, DescribeProducers,
//! WriteTxnMarkers.

use super::call::{Call, distinct, text};
use crate::engine::Operation;
use crate::local::cluster::UNKNOWN_TOPIC;
use crate::local::log::{ActiveProducer, Outcome, Stamp};
use crate::record::{TopicPartition, now, partitions_by_topic};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::{self, TopicData};
use kafka_protocol::messages::list_transactions_response;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// All states of a transaction, by Kafka's names.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(in crate::local) fn list_transactions(call: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let answer = ListTransactionsResponse::default();
    if let Some(error) = call.refusal {
        return answer.with_error_code(error.code());
    }
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    let Ok(pattern) = pattern.map(|pattern| regex_lite::Regex::new(&format!("^(?:{})$", pattern.as_str()))).transpose()
    else {
        return answer.with_error_code(E::InvalidRegularExpression.code());
    };
    let (states, unknown): (Vec<StrBytes>, Vec<StrBytes>) =
        request.state_filters.into_iter().partition(|state| STATES.contains(&state.as_str()));
    let filtered = !states.is_empty() || !unknown.is_empty();
    let producers = request.producer_id_filters;
    let cluster = call.cluster();
    let here = cluster.transactions.iter().filter(|(id, _)| cluster.coordinator(id) == Some(call.broker));
    let listed = here.filter(|(id, found)| {
        call.check_transactional_id(Operation::Describe, id).is_ok()
            && (!filtered || states.iter().any(|state| state.as_str() == found.state()))
            && (producers.is_empty() || producers.iter().any(|producer| producer.0 == found.stamp.producer_id))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
            && (request.duration_filter < 0
                || found.is_open() && found.started().is_some_and(|started| now() - started > request.duration_filter))
    });
    let listed = listed.map(|(id, found)| {
        list_transactions_response::TransactionState::default()
            .with_transactional_id(TransactionalId(text(id.as_str())))
            .with_producer_id(ProducerId(found.stamp.producer_id))
            .with_transaction_state(StrBytes::from_static_str(found.state()))
    });
    answer.with_unknown_state_filters(unknown).with_transaction_states(listed.collect())
}

pub(in crate::local) fn describe_transactions(
    call: &Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let cluster = call.cluster();
    let describe = |id: TransactionalId| {
        let answer = describe_transactions_response::TransactionState::default().with_transactional_id(id.clone());
        let found = match call.check_transactional_id(Operation::Describe, &id) {
            Err(error) => Err(error),
            Ok(()) if id.is_empty() => Err(E::InvalidRequest),
            Ok(()) if cluster.coordinator(&id) != Some(call.broker) => Err(E::NotCoordinator),
            Ok(()) => cluster.transactions.get(&id).ok_or(E::TransactionalIdNotFound),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return answer.with_error_code(error.code()),
        };
        let topics = partitions_by_topic(found.partitions.iter().cloned());
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicData::default().with_topic(text(topic.to_string()).into()).with_partitions(partitions)
        });
        answer
            .with_transaction_state(StrBytes::from_static_str(found.state()))
            .with_transaction_timeout_ms(i32::try_from(found.timeout.as_millis()).unwrap_or(i32::MAX))
            .with_transaction_start_time_ms(found.started().unwrap_or(-1))
            .with_producer_id(ProducerId(found.stamp.producer_id))
            .with_producer_epoch(found.stamp.epoch)
            .with_topics(topics.collect())
    };
    let states = distinct(request.transactional_ids, TransactionalId::clone).map(describe);
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

pub(in crate::local) fn describe_producers(
    call: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let cluster = call.cluster();
    let show = |producer: ActiveProducer| {
        ProducerState::default()
            .with_producer_id(ProducerId(producer.producer_id))
            .with_producer_epoch(i32::from(producer.epoch))
            .with_last_sequence(producer.last_sequence.unwrap_or(-1))
            .with_last_timestamp(producer.last_timestamp)
            .with_coordinator_epoch(if producer.has_ended { 0 } else { -1 })
            .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
    };
    let partition = |topic: &str, index: i32| {
        let answer = PartitionResponse::default().with_partition_index(index).with_error_message(None);
        let led = cluster.led(topic, Uuid::nil(), index, call.broker);
        match call.check_topic(Operation::Read, topic).and(led) {
            Ok(led) => answer.with_active_producers(led.log.active_producers().map(show).collect()),
            Err(error) => {
                let why = (error == E::UnknownTopicOrPartition).then(|| StrBytes::from_static_str(UNKNOWN_TOPIC));
                answer.with_error_code(error.code()).with_error_message(why)
            }
        }
    };
    let topics = distinct(request.topics, |topic| topic.name.clone()).map(|topic: TopicRequest| {
        let partitions = distinct(topic.partition_indexes, |index| *index);
        let partitions = partitions.map(|index| partition(&topic.name, index)).collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

/// Ends transactions that hang because their coordinator has forgotten them.
pub(in crate::local) fn write_txn_markers(call: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut cluster = call.cluster();
    let markers = request.markers.into_iter().map(|marker| {
        let stamp = Stamp { producer_id: marker.producer_id.0, epoch: marker.producer_epoch };
        let outcome = if marker.transaction_result { Outcome::Commit } else { Outcome::Abort };
        let topics = marker.topics.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let led = cluster.led(&topic.name, Uuid::nil(), *index, call.broker);
                let written = match call.check_cluster(Operation::ClusterAction).and(led) {
                    Err(error) => error.code(),
                    Ok(led) if led.log.has_fenced(stamp) => E::InvalidProducerEpoch.code(),
                    Ok(_) => {
                        cluster.write_marker(&TopicPartition::new(topic.name.as_str(), *index), stamp, outcome);
                        0
                    }
                };
                WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(written)
            });
            let partitions = partitions.collect();
            WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
    });
    let markers = markers.collect();
    drop(cluster);
    call.shared.appended.notify_waiters();
    WriteTxnMarkersResponse::default().with_markers(markers)
}
