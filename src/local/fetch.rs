//! Fetch and ListOffsets.

use super::call::Call;
use super::cluster::Cluster;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use std::pin::pin;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// ListOffsets' special timestamps.
mod time {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    pub(super) const LATEST_TIERED: i64 = -5;
}

/// Answers once there are `min_bytes`, something failed, or `max_wait_ms` have passed.
pub(super) async fn fetch(call: &Call, request: FetchRequest) -> FetchResponse {
    // There are no fetch sessions (KIP-227): a broker need not grant one, but nobody can go on with one.
    let refusal = call.refusal.or((request.session_id != 0).then_some(E::FetchSessionIdNotFound));
    if let Some(error) = refusal {
        return FetchResponse::default().with_error_code(error.code());
    }
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    loop {
        let mut appended = pin!(call.shared.appended.notified());
        appended.as_mut().enable();
        let read = read(call, &request);
        let enough = read.failed || read.bytes >= request.min_bytes.max(0) as usize || request.topics.is_empty();
        if enough || Instant::now() >= deadline {
            return read.response;
        }
        tokio::select! {
            () = appended => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

struct Read {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
}

fn read(call: &Call, request: &FetchRequest) -> Read {
    let cluster = call.cluster();
    let (mut bytes, mut failed, mut moved) = (0, false, false);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut answer =
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        for asked in &topic.partitions {
            let left = (request.max_bytes.max(0) as usize).saturating_sub(bytes);
            let most = left.min(asked.partition_max_bytes.max(0) as usize);
            let data = read_partition(call, &cluster, &topic.topic, topic.topic_id, asked, most, bytes == 0);
            bytes += data.records.as_ref().map_or(0, Bytes::len);
            failed |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
            moved |= data.current_leader.leader_id.0 >= 0;
            answer.partitions.push(data);
        }
        responses.push(answer);
    }
    drop(cluster);
    let endpoints = if moved { call.endpoints() } else { Vec::new() };
    let endpoint =
        |(id, host, port)| NodeEndpoint::default().with_node_id(BrokerId(id)).with_host(host).with_port(port);
    let response = FetchResponse::default()
        .with_responses(responses)
        .with_node_endpoints(endpoints.into_iter().map(endpoint).collect());
    Read { response, bytes, failed }
}

fn read_partition(
    call: &Call,
    cluster: &Cluster,
    name: &str,
    id: Uuid,
    asked: &FetchPartition,
    most: usize,
    at_least_one: bool,
) -> PartitionData {
    let data = PartitionData::default().with_partition_index(asked.partition).with_aborted_transactions(None);
    let fail = |error: E| {
        let data = data.clone().with_error_code(error.code()).with_high_watermark(-1).with_records(Some(Bytes::new()));
        data.with_last_stable_offset(-1).with_log_start_offset(-1)
    };
    let led = match cluster.led(name, id, asked.partition, call.broker) {
        Ok(led) => led,
        Err(E::NotLeaderOrFollower) => {
            let data = fail(E::NotLeaderOrFollower);
            let partition = cluster.topic(name, id).ok().map(|(_, topic)| &topic.partitions[asked.partition as usize]);
            let Some(partition) = partition else { return data };
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                .with_leader_epoch(partition.leader_epoch);
            return data.with_current_leader(leader);
        }
        Err(error) => return fail(error),
    };
    match asked.current_leader_epoch {
        -1 => {}
        epoch if epoch < led.leader_epoch => return fail(E::FencedLeaderEpoch),
        epoch if epoch > led.leader_epoch => return fail(E::UnknownLeaderEpoch),
        _ => {}
    }
    if asked.last_fetched_epoch >= 0
        && let Some((epoch, end)) = led.log.end_of_epoch(asked.last_fetched_epoch)
        && (epoch < asked.last_fetched_epoch || end < asked.fetch_offset)
    {
        let parted = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
        return data.with_diverging_epoch(parted).with_high_watermark(led.log.next()).with_records(Some(Bytes::new()));
    }
    let (start, next) = (led.log.start(), led.log.next());
    if !(start..=next).contains(&asked.fetch_offset) {
        return fail(E::OffsetOutOfRange);
    }
    data.with_high_watermark(next)
        .with_last_stable_offset(next)
        .with_log_start_offset(start)
        .with_records(Some(led.log.read(asked.fetch_offset, most, at_least_one)))
}

pub(super) fn list_offsets(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let cluster = call.cluster();
    let topics = request.topics.into_iter().map(|topic| {
        let answer = |asked: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let led = cluster.led(&topic.name, Uuid::nil(), asked.partition_index, call.broker);
            let led = match (call.refusal, led) {
                (Some(error), _) | (None, Err(error)) => return answer.with_error_code(error.code()),
                (None, Ok(led)) => led,
            };
            let log = &led.log;
            let (offset, timestamp) = match asked.timestamp {
                time::LATEST => (log.next(), -1),
                time::EARLIEST | time::EARLIEST_LOCAL => (log.start(), -1),
                time::LATEST_TIERED => (-1, -1), // nothing is tiered
                time::MAX_TIMESTAMP => log.max_timestamp().unwrap_or((-1, -1)),
                timestamp => log.at_time(timestamp).unwrap_or((-1, -1)),
            };
            // Versions before 4 have no place for an epoch.
            let epoch = if offset < 0 || call.version < 4 { -1 } else { led.leader_epoch };
            answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}
