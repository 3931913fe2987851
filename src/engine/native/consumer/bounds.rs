//! Which offsets a partition holds, as its leader has it. Every partition is answered for itself.

use super::super::cluster::{Cluster, Listed};
use crate::engine::{Isolation, OffsetAt};
use crate::error::{Action, Error, Result};
use crate::record::{BrokerId, LeaderEpoch, Node, Offset, Position, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::collections::BTreeMap;

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

impl Bounds {
    /// The epoch of a committed offset, where it is newer than the leader's: that one is cut off, or leads another topic.
    pub(super) fn newer_epoch(&self, committed: Position) -> Option<LeaderEpoch> {
        committed.leader_epoch.filter(|epoch| self.leader_epoch.is_some_and(|now| *epoch > now))
    }
}

/// An answer for each partition that was asked about.
pub(super) type ByPartition<T> = BTreeMap<TopicPartition, Result<T>>;

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
    let connection = cluster.broker(leader).await?;
    let list = |at, isolation| cluster.list_offsets(&connection, partitions, at, isolation);
    let mut first = list(OffsetAt::Earliest, Isolation::Uncommitted).await?;
    let mut reachable = match isolation {
        Isolation::Committed => list(OffsetAt::Latest, Isolation::Committed).await?,
        Isolation::Uncommitted => BTreeMap::new(),
    };
    let end = list(OffsetAt::Latest, Isolation::Uncommitted).await?;
    let bounds = |(of, end): (TopicPartition, Result<Option<Listed>>)| {
        let reachable = reachable.remove(&of).unwrap_or_else(|| end.clone());
        let bounds = consistent(connection.node(), &of, first.remove(&of), reachable, end);
        (of, bounds)
    };
    Ok(end.into_iter().map(bounds).collect())
}

/// The bounds of a partition, if the answers allow for any.
fn consistent(
    node: &Node,
    of: &TopicPartition,
    first: Option<Result<Option<Listed>>>,
    reachable: Result<Option<Listed>>,
    end: Result<Option<Listed>>,
) -> Result<Bounds> {
    let malformed = |why| Error::Malformed { node: node.clone(), api: ApiKey::ListOffsets, why };
    let first = first.transpose()?.flatten();
    let (Some(first), Some(reachable), Some(end)) = (first, reachable?, end?) else {
        return Err(malformed(format!("it lacks the bounds of {of}")));
    };
    if first.offset > end.offset {
        // Between the questions the log was truncated, or its topic created again.
        return Err(Error::kafka(Action::LookUp, of, ResponseError::OffsetNotAvailable));
    }
    Ok(Bounds {
        first: first.offset,
        end: end.offset,
        reachable: reachable.offset.clamp(first.offset, end.offset),
        leader_epoch: end.leader_epoch,
    })
}
