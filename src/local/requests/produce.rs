//! Produce.

use super::call::{Call, Closed};
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::cluster::{Acks, Cluster, Enlist, Progress, UNKNOWN_TOPIC};
use crate::local::frames::check_produce;
use crate::local::log::{self, Refusal};
use crate::record::{Offset, TopicPartition};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// zstd came with Produce v7 (KIP-110).
const FIRST_ZSTD: i16 = 7;
/// TRANSACTION_ABORTABLE came with Produce v11, partitions that their first records add to the transaction with v12
/// (KIP-890).
const FIRST_ABORTABLE: i16 = 11;
const FIRST_IMPLICIT: i16 = 12;

/// Records that are in the leader's log, and not on all in-sync replicas yet.
struct Appending {
    /// Which of the answer's topics and partitions they are.
    at: (usize, usize),
    topic: String,
    leader_epoch: i32,
    base: Offset,
}

/// The answer's frame; empty with acks=0.
pub(super) async fn answer(
    call: &Call,
    body: Bytes,
    in_work: &mut Option<OwnedSemaphorePermit>,
) -> Result<Bytes, Closed> {
    check_produce(&body, call.version)?;
    let request: ProduceRequest = call.decode(body)?;
    let (answered, timeout) = (request.acks != 0, Duration::from_millis(request.timeout_ms.max(0) as u64));
    let (mut response, appending) = produce(call, request);
    if !appending.is_empty() {
        *in_work = None;
        replicate(call, &mut response, appending, clock::now() + timeout).await;
    }
    if answered {
        return call.encode::<ProduceRequest>(response);
    }
    // A client that waits for no answer learns of a failure by losing the connection.
    let failed = response.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
    if failed { Err("a produce with acks=0 failed".to_owned()) } else { Ok(Bytes::new()) }
}

/// Waits until all in-sync replicas have the records, or they cannot get them.
async fn replicate(call: &Call, response: &mut ProduceResponse, mut appending: Vec<Appending>, deadline: Instant) {
    loop {
        let mut changed = pin!(call.shared.appended.notified());
        changed.as_mut().enable();
        settle(call, response, &mut appending, clock::now() >= deadline);
        if appending.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

/// Takes out what is decided, with its answer; all is when the request's time `is_over`.
fn settle(call: &Call, response: &mut ProduceResponse, appending: &mut Vec<Appending>, is_over: bool) {
    let cluster = call.cluster();
    appending.retain(|records| {
        let (topic, partition) = records.at;
        let found = response.responses.get_mut(topic).and_then(|topic| topic.partition_responses.get_mut(partition));
        let Some(answer) = found else { return false };
        let Appending { topic, leader_epoch, base, .. } = records;
        let error = match cluster.progress(topic, answer.index, call.broker, *leader_epoch, *base) {
            Ok(Progress::Replicated) => return false,
            Ok(Progress::Replicating) if !is_over => return true,
            Ok(Progress::Replicating) => E::RequestTimedOut,
            Err(error) => error,
        };
        *answer = refused(std::mem::take(answer), &cluster, topic, Uuid::nil(), error).with_log_start_offset(-1);
        false
    });
}

fn produce(call: &Call, request: ProduceRequest) -> (ProduceResponse, Vec<Appending>) {
    let mut cluster = call.cluster();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let mut appending = Vec::new();
    let acks = match request.acks {
        -1 => Ok(Acks::InSync),
        0 | 1 => Ok(Acks::Leader),
        _ => Err(E::InvalidRequiredAcks),
    };
    for topic in request.topic_data {
        let mut answer = TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        for data in topic.partition_data {
            let id = request.transactional_id.as_ref().map(|id| id.as_str());
            let appended = match acks {
                Ok(acks) => append(call, &mut cluster, id, &topic.name, topic.topic_id, &data, acks),
                Err(error) => {
                    let answer = PartitionProduceResponse::default().with_index(data.index);
                    refused(answer, &cluster, &topic.name, topic.topic_id, error).with_log_start_offset(-1)
                }
            };
            if acks == Ok(Acks::InSync) && appended.error_code == 0 {
                let at = (responses.len(), answer.partition_responses.len());
                let (name, id, base) = (&topic.name, topic.topic_id, appended.base_offset);
                appending.extend(unreplicated(call, &cluster, at, name, id, data.index, base));
            }
            answer.partition_responses.push(appended);
        }
        responses.push(answer);
    }
    // A client that must go to another leader learns where that is.
    let moved =
        responses.iter().flat_map(|topic| &topic.partition_responses).any(|p| p.current_leader.leader_id.0 >= 0);
    let endpoints = cluster.brokers.iter().filter(|broker| moved && broker.up).map(|broker| {
        let endpoint = NodeEndpoint::default().with_node_id(BrokerId(broker.id.0));
        endpoint.with_host(broker.advertised.host.clone()).with_port(i32::from(broker.advertised.port))
    });
    let answer = ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints.collect());
    drop(cluster);
    call.shared.appended.notify_waiters();
    call.shared.deadlines.notify_one(); // a transaction may have begun
    (answer, appending)
}

/// Records that in-sync replicas still lack.
fn unreplicated(
    call: &Call,
    cluster: &Cluster,
    at: (usize, usize),
    name: &str,
    id: Uuid,
    index: i32,
    base: Offset,
) -> Option<Appending> {
    let led = cluster.led(name, id, index, call.broker).ok()?;
    let (topic, _) = cluster.topic(name, id).ok()?;
    let is_behind = led.high_watermark() <= base;
    is_behind.then(|| Appending { at, topic: topic.to_owned(), leader_epoch: led.leader_epoch, base })
}

/// Has the records of a transaction take part in it, before they are appended.
fn enlist(
    call: &Call,
    cluster: &mut Cluster,
    transactional_id: Option<&str>,
    name: &str,
    id: Uuid,
    data: &PartitionProduceData,
) -> Result<(), E> {
    let Some(stamp) = data.records.as_ref().and_then(log::transactional_stamp) else { return Ok(()) };
    let transactional_id = transactional_id.ok_or(E::TransactionalIdAuthorizationFailed)?;
    cluster.led(name, id, data.index, call.broker)?;
    let of = TopicPartition::new(cluster.topic(name, id)?.0, data.index);
    let how = if call.version >= FIRST_IMPLICIT { Enlist::Implicit } else { Enlist::Added };
    cluster.enlist(transactional_id, stamp, of, how).map_err(|error| match error {
        E::ProducerFenced => E::InvalidProducerEpoch,
        E::TransactionAbortable if call.version < FIRST_ABORTABLE => E::InvalidTxnState,
        error => error,
    })
}

fn append(
    call: &Call,
    cluster: &mut Cluster,
    transactional_id: Option<&str>,
    name: &str,
    id: Uuid,
    data: &PartitionProduceData,
    acks: Acks,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(data.index);
    let records = data.records.clone().unwrap_or_default();
    let codec = records.get(22).map(|attributes| attributes & 0b111);
    // What the records are for is checked before whether there is such a topic.
    let may_write = call.check_topic_in(cluster, Operation::Write, name, id).and_then(|()| match transactional_id {
        Some(id) => call.check_transactional_id(Operation::Write, id),
        None => Ok(()),
    });
    let enlisted = match may_write {
        Err(error) => Err(error),
        Ok(()) if codec == Some(4) && call.version < FIRST_ZSTD => Err(E::UnsupportedCompressionType),
        Ok(()) => enlist(call, cluster, transactional_id, name, id, data),
    };
    // Kafka adds the log start offset when the log itself refused.
    let asks_log = enlisted.is_ok();
    let appended = enlisted
        .map_err(Refusal::from)
        .and_then(|()| cluster.append(name, id, data.index, call.broker, &records, acks));
    match appended {
        Ok((appended, start)) => answer
            .with_base_offset(appended.base)
            .with_log_append_time_ms(appended.append_time.unwrap_or(-1))
            .with_log_start_offset(start),
        Err(Refusal { error, records: wrong }) => {
            let from_log = match error {
                E::OutOfOrderSequenceNumber | E::InvalidProducerEpoch | E::InvalidTxnState => asks_log,
                E::InvalidRecord => !records.is_empty(),
                E::InvalidTimestamp | E::NotEnoughReplicas => true,
                _ => false,
            };
            let led = cluster.led(name, id, data.index, call.broker).ok().filter(|_| from_log);
            let answer = answer.with_log_start_offset(led.map_or(-1, |led| led.log.start()));
            let why = match error {
                E::InvalidTimestamp => "Timestamp of the record is out of the range that the topic accepts",
                _ => "Compacted topic cannot accept message without key",
            };
            let of_record = |index: i32| {
                let answer = BatchIndexAndErrorMessage::default().with_batch_index(index);
                answer.with_batch_index_error_message(Some(StrBytes::from_static_str(why)))
            };
            let is_of_records = !wrong.is_empty();
            let answer = refused(answer, cluster, name, id, error);
            let answer = answer.with_record_errors(wrong.into_iter().map(of_record).collect());
            if is_of_records {
                let why = "One or more records have been rejected";
                return answer.with_error_message(Some(StrBytes::from_static_str(why)));
            }
            answer
        }
    }
}

fn refused(
    answer: PartitionProduceResponse,
    cluster: &Cluster,
    name: &str,
    id: Uuid,
    error: E,
) -> PartitionProduceResponse {
    let answer = answer.with_base_offset(-1).with_log_append_time_ms(-1).with_error_code(error.code());
    match (error, cluster.topic(name, id)) {
        (E::NotLeaderOrFollower, Ok((_, topic))) => {
            let partition = usize::try_from(answer.index).ok().and_then(|index| topic.partitions.get(index));
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(partition.and_then(|found| found.leader).map_or(-1, |id| id.0)))
                .with_leader_epoch(partition.map_or(-1, |found| found.leader_epoch));
            answer.with_current_leader(leader)
        }
        (E::UnknownTopicOrPartition, _) => answer.with_error_message(Some(StrBytes::from_static_str(UNKNOWN_TOPIC))),
        _ => answer,
    }
}
