//! Produce and InitProducerId.

use super::call::{Call, Closed, HOST};
use crate::local::cluster::{Cluster, UNKNOWN_TOPIC};
use crate::local::frames::check_produce;
use crate::local::log;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    BrokerId, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// zstd came with Produce v7 (KIP-110).
const FIRST_ZSTD: i16 = 7;

/// The answer's frame; empty with acks=0.
pub(super) fn answer(call: &Call, body: Bytes) -> Result<Bytes, Closed> {
    check_produce(&body, call.version)?;
    let request: ProduceRequest = call.decode(body)?;
    let answered = request.acks != 0;
    let response = produce(call, request);
    if answered {
        return call.encode::<ProduceRequest>(response);
    }
    // A client that waits for no answer learns of a failure by losing the connection.
    let failed = response.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
    if failed { Err("a produce with acks=0 failed".to_owned()) } else { Ok(Bytes::new()) }
}

fn produce(call: &Call, request: ProduceRequest) -> ProduceResponse {
    let mut cluster = call.cluster();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut answer = TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        for data in topic.partition_data {
            answer.partition_responses.push(append(call, &mut cluster, &topic.name, topic.topic_id, &data));
        }
        responses.push(answer);
    }
    // A client that must go to another leader learns where that is.
    let moved =
        responses.iter().flat_map(|topic| &topic.partition_responses).any(|p| p.current_leader.leader_id.0 >= 0);
    let endpoints = cluster.brokers.iter().filter(|broker| moved && broker.up).map(|broker| {
        let endpoint = NodeEndpoint::default().with_node_id(BrokerId(broker.id.0));
        endpoint.with_host(StrBytes::from_static_str(HOST)).with_port(i32::from(broker.port))
    });
    let answer = ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints.collect());
    drop(cluster);
    call.shared.appended.notify_waiters();
    answer
}

fn append(
    call: &Call,
    cluster: &mut Cluster,
    name: &str,
    id: Uuid,
    data: &PartitionProduceData,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(data.index);
    let records = data.records.clone().unwrap_or_default();
    let codec = records.get(22).map(|attributes| attributes & 0b111);
    let appended = match call.refusal {
        Some(error) => Err(error),
        None if codec == Some(4) && call.version < FIRST_ZSTD => Err(E::UnsupportedCompressionType),
        None if log::transactional_stamp(&records).is_some() => Err(E::InvalidTxnState),
        None => cluster.append(name, id, data.index, call.broker, &records),
    };
    match appended {
        Ok((appended, start)) => answer
            .with_base_offset(appended.base)
            .with_log_append_time_ms(appended.append_time.unwrap_or(-1))
            .with_log_start_offset(start),
        Err(error) => {
            // Kafka adds the log start offset when the log itself refused.
            let from_log = match error {
                E::OutOfOrderSequenceNumber | E::InvalidProducerEpoch | E::InvalidTxnState => true,
                E::InvalidRecord => !records.is_empty(),
                _ => false,
            };
            let led = cluster.led(name, id, data.index, call.broker).ok().filter(|_| from_log);
            let answer = answer.with_base_offset(-1).with_log_append_time_ms(-1);
            let answer = answer.with_log_start_offset(led.map_or(-1, |led| led.log.start()));
            let answer = answer.with_error_code(error.code());
            match (error, cluster.topic(name, id)) {
                (E::NotLeaderOrFollower, Ok((_, topic))) => {
                    let partition = &topic.partitions[data.index as usize];
                    let leader = LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(partition.leader.map_or(-1, |id| id.0)))
                        .with_leader_epoch(partition.leader_epoch);
                    answer.with_current_leader(leader)
                }
                (E::UnknownTopicOrPartition, _) => {
                    answer.with_error_message(Some(StrBytes::from_static_str(UNKNOWN_TOPIC)))
                }
                _ => answer,
            }
        }
    }
}

pub(in crate::local) fn init_producer_id(call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    // Transactions are not offered: AddPartitionsToTxn, EndTxn and the others are not listed.
    let refusal = call.refusal.or(request.transactional_id.map(|_| E::InvalidRequest));
    let answer = InitProducerIdResponse::default();
    match refusal {
        Some(error) => answer.with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
        None => answer.with_producer_id(ProducerId(call.cluster().new_producer_id())).with_producer_epoch(0),
    }
}
