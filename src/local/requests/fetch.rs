//! Fetch.

use super::call::Call;
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::cluster::{Cluster, Partition};
use crate::local::limits::MOST_FETCHED;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// `isolation_level` of a consumer that reads committed records only (KIP-98).
const READ_COMMITTED: i8 = 1;

/// Answers once there are `min_bytes`, something failed, or `max_wait_ms` have passed. The permit stands for the
/// records of the answer, and is held until it is sent.
pub(in crate::local) async fn fetch(
    call: &Call,
    request: FetchRequest,
) -> (FetchResponse, Option<OwnedSemaphorePermit>) {
    // There are no fetch sessions (KIP-227): a broker need not grant one, and no client can continue one.
    let refusal = call.refusal.or((request.session_id != 0).then_some(E::FetchSessionIdNotFound));
    if let Some(error) = refusal {
        return (FetchResponse::default().with_error_code(error.code()), None);
    }
    // Over a quota, Kafka says nothing of the partitions (KIP-219).
    if !call.throttle.is_zero() {
        return (FetchResponse::default(), None);
    }
    let deadline = clock::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    loop {
        let mut appended = pin!(call.shared.appended.notified());
        appended.as_mut().enable();
        let read = read(call, &request);
        let enough = read.failed || read.bytes >= request.min_bytes.max(0) as usize || request.topics.is_empty();
        if enough || clock::now() >= deadline {
            return (read.response, read.permit);
        }
        drop(read);
        tokio::select! {
            biased;
            () = appended => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

struct Read {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
    permit: Option<OwnedSemaphorePermit>,
}

fn read(call: &Call, request: &FetchRequest) -> Read {
    let cluster = call.cluster();
    // Permits are taken while the cluster is locked alone: there are at least as many later.
    let fetched = &call.shared.fetched;
    let most = (request.max_bytes.max(0) as usize).min(MOST_FETCHED).min(fetched.available_permits());
    let (mut bytes, mut failed, mut moved) = (0, false, false);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut answer =
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        for asked in &topic.partitions {
            let left = most.saturating_sub(bytes).min(asked.partition_max_bytes.max(0) as usize);
            let reader = Reader { call, cluster: &cluster, request, most: left, at_least_one: bytes == 0 };
            let data = reader.read(&topic.topic, topic.topic_id, asked);
            bytes += data.records.as_ref().map_or(0, Bytes::len);
            failed |= data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
            moved |= data.current_leader.leader_id.0 >= 0;
            answer.partitions.push(data);
        }
        responses.push(answer);
    }
    let permits = bytes.min(fetched.available_permits());
    let permit = fetched.clone().try_acquire_many_owned(permits as u32).ok();
    let endpoints = cluster.brokers.iter().filter(|broker| moved && broker.up).map(|broker| {
        let endpoint = NodeEndpoint::default().with_node_id(BrokerId(broker.id.0));
        endpoint.with_host(broker.advertised.host.clone()).with_port(i32::from(broker.advertised.port))
    });
    let response = FetchResponse::default().with_responses(responses).with_node_endpoints(endpoints.collect());
    Read { response, bytes, failed, permit }
}

/// What reading one partition takes.
struct Reader<'a> {
    call: &'a Call,
    cluster: &'a Cluster,
    request: &'a FetchRequest,
    most: usize,
    /// Whether the first batch may be larger than `most`.
    at_least_one: bool,
}

impl Reader<'_> {
    fn read(&self, name: &str, id: Uuid, asked: &FetchPartition) -> PartitionData {
        let data = PartitionData::default().with_partition_index(asked.partition).with_aborted_transactions(None);
        if let Err(error) = self.call.check_topic_in(self.cluster, Operation::Read, name, id) {
            return failed(data, error);
        }
        match self.cluster.led(name, id, asked.partition, self.call.broker) {
            Ok(led) => match check_position(led, asked) {
                Ok(None) => self.records(data, led, asked),
                Ok(Some(diverging)) => data
                    .with_diverging_epoch(diverging)
                    .with_high_watermark(led.high_watermark())
                    .with_records(Some(Bytes::new())),
                Err(error) => failed(data, error),
            },
            Err(E::NotLeaderOrFollower) => {
                let data = failed(data, E::NotLeaderOrFollower);
                let topic = self.cluster.topic(name, id).ok().map(|(_, topic)| topic);
                let Some(partition) = topic.and_then(|topic| topic.partitions.get(asked.partition as usize)) else {
                    return data;
                };
                let leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(partition.leader.map_or(-1, |id| id.0)))
                    .with_leader_epoch(partition.leader_epoch);
                data.with_current_leader(leader)
            }
            Err(error) => failed(data, error),
        }
    }

    fn records(&self, data: PartitionData, led: &Partition, asked: &FetchPartition) -> PartitionData {
        let log = &led.log;
        let committed = self.request.isolation_level == READ_COMMITTED;
        let until = if committed { led.last_stable_offset() } else { led.high_watermark() };
        let (records, end) = log.read(asked.fetch_offset, until, self.most, self.at_least_one);
        let aborted = log.aborted(asked.fetch_offset, end).map(|aborted| {
            let of = AbortedTransaction::default().with_producer_id(ProducerId(aborted.producer_id));
            of.with_first_offset(aborted.first)
        });
        data.with_high_watermark(led.high_watermark())
            .with_last_stable_offset(led.last_stable_offset())
            .with_log_start_offset(log.start())
            .with_aborted_transactions(committed.then(|| aborted.collect()))
            .with_records(Some(records))
    }
}

fn failed(data: PartitionData, error: E) -> PartitionData {
    let data = data.with_error_code(error.code()).with_high_watermark(-1).with_records(Some(Bytes::new()));
    data.with_last_stable_offset(-1).with_log_start_offset(-1)
}

/// Refuses a position of another leader epoch or outside of the log; returns where a reader's log has diverged
/// (KIP-320).
fn check_position(led: &Partition, asked: &FetchPartition) -> Result<Option<EpochEndOffset>, E> {
    match asked.current_leader_epoch {
        -1 => {}
        epoch if epoch < led.leader_epoch => return Err(E::FencedLeaderEpoch),
        epoch if epoch > led.leader_epoch => return Err(E::UnknownLeaderEpoch),
        _ => {}
    }
    if asked.last_fetched_epoch >= 0 {
        let (epoch, end) = led.log.reported_end_of_epoch(asked.last_fetched_epoch);
        if epoch < asked.last_fetched_epoch || end < asked.fetch_offset {
            return Ok(Some(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end)));
        }
    }
    if !(led.log.start()..=led.log.next()).contains(&asked.fetch_offset) {
        return Err(E::OffsetOutOfRange);
    }
    Ok(None)
}
