//! One fetch: what differs by the broker's version is set here.

use super::super::cluster::{Cluster, Lane, topic_name};
use super::positions::Target;
use crate::engine::Isolation;
use crate::error::Result;
use crate::record::{BrokerId, LeaderEpoch};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The last version of Fetch that names topics; later ones have IDs (KIP-516).
const LAST_FETCH_BY_NAME: i16 = 12;
/// Fetch takes the consumer's rack from this version on (KIP-392).
const FIRST_FETCH_WITH_RACK: i16 = 11;
/// Fetch reports a truncated log from this version on (KIP-320, KIP-595).
const FIRST_FETCH_WITH_LAST_EPOCH: i16 = 12;

/// What a fetch asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) isolation: Isolation,
    /// Bytes of the response.
    pub(super) response: usize,
    /// Bytes of each partition.
    pub(super) partition: usize,
    /// Bytes of new records that the broker waits for, for as long as `wait`.
    pub(super) least: usize,
    pub(super) wait: Duration,
}

/// A fetch of `targets`, in this order.
pub(super) fn request<'a>(targets: impl IntoIterator<Item = &'a Target>, limits: Limits) -> FetchRequest {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut topics: Vec<FetchTopic> = Vec::new();
    // Where it is not known yet that a topic was created again, its partitions have different IDs for a while.
    let mut indexes: BTreeMap<(&str, Uuid), usize> = BTreeMap::new();
    for target in targets {
        let partition = FetchPartition::default()
            .with_partition(target.of.partition)
            .with_current_leader_epoch(LeaderEpoch::to_wire(target.leader_epoch))
            .with_fetch_offset(target.position)
            .with_last_fetched_epoch(LeaderEpoch::to_wire(target.last_epoch))
            .with_log_start_offset(-1)
            .with_partition_max_bytes(size(limits.partition));
        let index = *indexes.entry((&target.of.topic, target.topic_id)).or_insert_with(|| {
            topics.push(FetchTopic::default().with_topic(topic_name(&target.of.topic)).with_topic_id(target.topic_id));
            topics.len() - 1
        });
        topics[index].partitions.push(partition);
    }
    FetchRequest::default()
        .with_replica_id(WireBrokerId(-1))
        .with_max_wait_ms(limits.wait.as_millis() as i32)
        .with_min_bytes(size(limits.least))
        .with_max_bytes(size(limits.response))
        .with_isolation_level(i8::from(limits.isolation == Isolation::Committed))
        .with_session_epoch(-1) // no fetch session (KIP-227)
        .with_topics(topics)
}

/// Sends `request` to a broker.
pub(super) async fn send(
    cluster: &Arc<Cluster>,
    broker: BrokerId,
    lane: Lane,
    mut request: FetchRequest,
    rack: Option<String>,
) -> Result<FetchResponse> {
    let has_ids = request.topics.iter().all(|topic| topic.topic_id != Uuid::nil());
    let newest = if has_ids { i16::MAX } else { LAST_FETCH_BY_NAME };
    let limit = Duration::from_millis(request.max_wait_ms.max(0) as u64) + cluster.options.request_timeout;
    let connection = cluster.broker_on(broker, lane).await?;
    let version = connection.version::<FetchRequest>(newest)?;
    if let Some(rack) = rack.filter(|_| version >= FIRST_FETCH_WITH_RACK) {
        request.rack_id = StrBytes::from_string(rack);
    }
    if version < FIRST_FETCH_WITH_LAST_EPOCH {
        let partitions = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| partition.last_fetched_epoch = -1);
    }
    connection.request_within(&request, version, limit).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicPartition;

    /// One partition is known to be of the topic that was created again, the other is not yet.
    #[test]
    fn partitions_are_asked_for_by_their_own_topic_id() {
        let target = |partition: i32, id: u128| Target {
            of: TopicPartition::new("t", partition),
            topic_id: Uuid::from_u128(id),
            leader_epoch: None,
            position: 0,
            until: i64::MAX,
            last_epoch: None,
            is_recreated: false,
        };
        let limits =
            Limits { isolation: Isolation::Committed, response: 1, partition: 1, least: 1, wait: Duration::ZERO };
        let request = request(&[target(0, 1), target(1, 2), target(2, 1)], limits);
        let asked: Vec<_> = request
            .topics
            .iter()
            .map(|topic| (topic.topic_id.as_u128(), topic.partitions.iter().map(|p| p.partition).collect::<Vec<_>>()))
            .collect();
        assert_eq!(asked, [(1, vec![0, 2]), (2, vec![1])]);
    }
}
