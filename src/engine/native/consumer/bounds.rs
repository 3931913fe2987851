//! Which offsets a partition holds, as its leader has it. Every partition is answered for itself.

use super::super::cluster::{Asked, Cluster, topic_name};
use crate::engine::{Isolation, OffsetAt};
use crate::error::{Action, Error, Result, error_code};
use crate::record::{BrokerId, LeaderEpoch, Offset, TopicPartition, partitions_by_topic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, BrokerId as WireBrokerId, ListOffsetsRequest};
use std::collections::HashMap;
use std::sync::Arc;

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Offset of the first record.
    pub(super) first: Offset,
    /// The high watermark: positions up to it are in range, also those beyond the last stable offset.
    pub(super) end: Offset,
    /// How far a reader of this isolation can read: the last stable offset, or the high watermark.
    pub(super) reachable: Offset,
    /// The leader's epoch, since Kafka 2.1.
    pub(super) leader_epoch: Option<LeaderEpoch>,
}

/// An answer for each partition that was asked about.
pub(super) type ByPartition<T> = HashMap<TopicPartition, Result<T>>;

/// An offset, and the epoch of the leader that wrote it.
type Listed = (Offset, Option<LeaderEpoch>);

/// Asks `leader` what `partitions` hold.
///
/// # Errors
/// The leader did not answer.
pub(super) async fn ask(
    cluster: &Cluster,
    leader: BrokerId,
    partitions: &[TopicPartition],
    isolation: Isolation,
) -> Result<ByPartition<Bounds>> {
    let list = |at, isolation| list(cluster, leader, partitions, at, isolation);
    let mut first = list(OffsetAt::Earliest, Isolation::Uncommitted).await?;
    let mut reachable = match isolation {
        Isolation::Committed => list(OffsetAt::Latest, Isolation::Committed).await?,
        Isolation::Uncommitted => HashMap::new(),
    };
    let end = list(OffsetAt::Latest, Isolation::Uncommitted).await?;
    let malformed = |of: &TopicPartition, first, end| Error::Malformed {
        node: cluster.node(leader.0),
        api: ApiKey::ListOffsets,
        why: format!("{of} begins at {first} and ends at {end}"),
    };
    let mut answers = HashMap::new();
    for (of, end) in end {
        let first = first.remove(&of).unwrap_or_else(|| Err(malformed(&of, -1, -1)));
        let reachable = reachable.remove(&of).unwrap_or_else(|| end.clone());
        let bounds = match (first, reachable, end) {
            (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => Err(error),
            (Ok((first, _)), _, Ok((end, _))) if first < 0 || first > end => Err(malformed(&of, first, end)),
            (Ok((first, _)), Ok((reachable, _)), Ok((end, leader_epoch))) => {
                Ok(Bounds { first, end, reachable: reachable.clamp(first, end), leader_epoch })
            }
        };
        answers.insert(of, bounds);
    }
    Ok(answers)
}

/// Asks `leader` for an offset of each partition; -1 where no record is as late.
///
/// # Errors
/// The leader did not answer. A partition that its answer lacks has an error of its own.
pub(super) async fn list(
    cluster: &Cluster,
    leader: BrokerId,
    partitions: &[TopicPartition],
    at: OffsetAt,
    isolation: Isolation,
) -> Result<ByPartition<Listed>> {
    let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(name, partitions)| {
        let entry = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(at.to_wire());
        ListOffsetsTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(entry).collect())
    });
    let request = ListOffsetsRequest::default()
        .with_replica_id(WireBrokerId(-1))
        .with_isolation_level(i8::from(isolation == Isolation::Committed))
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
        .with_topics(topics.collect());
    let connection = cluster.broker(leader.0).await?;
    let response = connection.request(&request).await?;
    let mut asked = Asked::new(&connection, ApiKey::ListOffsets, partitions.iter().cloned());
    let mut answered = HashMap::new();
    for topic in response.topics {
        let name: Arc<str> = topic.name.as_str().into();
        for partition in topic.partitions {
            let of = TopicPartition::new(name.clone(), partition.partition_index);
            asked.answered(&of)?;
            let listed = match error_code(partition.error_code) {
                None if partition.offset < -1 => {
                    Err(asked.malformed(format_args!("{of} has offset {}", partition.offset)))
                }
                None => Ok((partition.offset, LeaderEpoch::from_wire(partition.leader_epoch))),
                Some(code) => Err(Error::kafka(Action::LookUp, &of, code)),
            };
            answered.insert(of, listed);
        }
    }
    answered.extend(asked.missing().into_iter().map(|(of, error)| (of, Err(error))));
    Ok(answered)
}
