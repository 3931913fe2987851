//! One fetch: what differs by the broker's version is set here.

use super::super::cluster::{Cluster, Lane, topic_name};
use super::super::net::throttle;
use super::super::wire::millis;
use super::positions::Target;
use crate::engine::Isolation;
use crate::error::Result;
use crate::record::{BrokerId, LeaderEpoch};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
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

/// A fetch of `targets`, in this order: the broker fills the response from the front. So only neighbours of a topic stand
/// together, and a topic may stand there again.
pub(super) fn request<'a>(targets: impl IntoIterator<Item = &'a Target>, limits: Limits) -> FetchRequest {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut topics: Vec<FetchTopic> = Vec::new();
    for target in targets {
        let partition = FetchPartition::default()
            .with_partition(target.of.partition)
            .with_current_leader_epoch(LeaderEpoch::to_wire(target.leader_epoch))
            .with_fetch_offset(target.position)
            .with_last_fetched_epoch(LeaderEpoch::to_wire(target.last_epoch))
            .with_log_start_offset(-1)
            .with_partition_max_bytes(size(limits.partition));
        // Where it is not known yet that a topic was created again, its partitions have different IDs for a while.
        let is_same = |last: &&mut FetchTopic| *last.topic.0 == *target.of.topic && last.topic_id == target.topic_id;
        if let Some(last) = topics.last_mut().filter(is_same) {
            last.partitions.push(partition);
            continue;
        }
        let topic = FetchTopic::default().with_topic(topic_name(&target.of.topic)).with_topic_id(target.topic_id);
        topics.push(topic.with_partitions(vec![partition]));
    }
    FetchRequest::default()
        .with_replica_id(WireBrokerId(-1))
        .with_max_wait_ms(millis(limits.wait))
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

/// How long to wait when the broker says nothing of the partitions because a quota is exceeded (KIP-219).
pub(super) fn withheld(response: &FetchResponse) -> Option<Duration> {
    let throttle = throttle(response.throttle_time_ms);
    (response.responses.is_empty() && !throttle.is_zero()).then_some(throttle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicPartition;

    fn asked(targets: &[(&str, i32, u128)]) -> Vec<(String, u128, Vec<i32>)> {
        let target = |&(topic, partition, id): &(&str, i32, u128)| Target {
            of: TopicPartition::new(topic, partition),
            topic_id: Uuid::from_u128(id),
            leader_epoch: None,
            position: 0,
            until: i64::MAX,
            last_epoch: None,
            is_recreated: false,
        };
        let limits =
            Limits { isolation: Isolation::Committed, response: 1, partition: 1, least: 1, wait: Duration::ZERO };
        let targets: Vec<Target> = targets.iter().map(target).collect();
        let topics = request(&targets, limits).topics.into_iter();
        topics
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| partition.partition).collect();
                (topic.topic.to_string(), topic.topic_id.as_u128(), partitions)
            })
            .collect()
    }

    /// A topic with records for many responses would else take the place of others again and again.
    #[test]
    fn partitions_are_asked_for_in_their_order_whatever_their_topics() {
        let asked = asked(&[("a", 0, 1), ("b", 0, 2), ("b", 1, 2), ("a", 1, 1)]);
        let of = |name: &str, id, partitions: &[i32]| (name.to_owned(), id, partitions.to_vec());
        assert_eq!(asked, [of("a", 1, &[0]), of("b", 2, &[0, 1]), of("a", 1, &[1])]);
    }

    /// One partition is known to be of the topic that was created again, the other is not yet.
    #[test]
    fn partitions_are_asked_for_by_their_own_topic_id() {
        let asked = asked(&[("t", 0, 1), ("t", 1, 2)]);
        assert_eq!(asked, [("t".to_owned(), 1, vec![0]), ("t".to_owned(), 2, vec![1])]);
    }
}
