//! Data of the admin calls on consumer groups.

use crate::error::Error;
use crate::record::{BrokerId, Offset, Position, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedGroup {
    /// Its ID.
    pub group: String,
    /// Kafka's name of the state; `None` from brokers before 2.6.
    pub state: Option<String>,
    /// `classic`, `consumer`, …; `None` from brokers before 3.8.
    #[serde(rename = "type")]
    pub group_type: Option<String>,
    /// What its members are: `consumer`, `connect`, …
    pub protocol: String,
}

/// What kind of consumer group a group is, by Kafka's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupType {
    /// A leader among the members assigns.
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        })
    }
}

/// A group with its members.
#[derive(Debug, Clone)]
pub struct DescribedGroup {
    /// Its ID.
    pub group: String,
    /// Kafka's name of the state.
    pub state: String,
    pub group_type: GroupType,
    /// Empty while the group has no members.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// By member ID.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// As the coordinator or the member itself chose it.
    pub member_id: String,
    /// Of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Its address, as the coordinator sees it.
    pub host: String,
    /// Its partitions.
    pub assigned: Vec<TopicPartition>,
}

/// A committed offset, with what stands beside it.
#[derive(Debug, Clone)]
pub struct CommittedOffset {
    /// The offset to resume at.
    pub position: Position,
    /// The client's own text.
    pub metadata: String,
}

/// How far a group is in a partition.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What was committed last.
    pub committed: Option<Position>,
    /// First offset and end offset; `None` while the partition has no leader.
    pub bounds: Option<Bounds>,
}

/// What a partition contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The log start offset.
    pub first: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
}

impl Progress {
    /// The end offset.
    pub fn end(&self) -> Option<Offset> {
        self.bounds.map(|bounds| bounds.end)
    }

    /// Records that the group has still to read: all of them where nothing was committed, `None` where the bounds are
    /// unknown.
    pub fn lag(&self) -> Option<i64> {
        let Bounds { first, end } = self.bounds?;
        let from = self.committed.map_or(first, |position| position.offset.max(first));
        Some((end - from).max(0))
    }
}

/// Groups' progress by group and partition, and what could not be found out.
#[derive(Debug, Default)]
pub struct GroupsProgress {
    /// By group.
    pub groups: BTreeMap<String, BTreeMap<TopicPartition, Progress>>,
    /// Why bounds or groups are missing, one error for each kind.
    pub incomplete: Vec<Error>,
}
