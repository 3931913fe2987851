//! What a cluster consists of: brokers, versions, features, quorum, disks.

use crate::record::{BrokerId, Offset, TopicPartition};
use serde::Serialize;
use std::collections::BTreeMap;

/// A registered broker.
#[derive(Debug, Clone, Serialize)]
pub struct Broker {
    /// The broker's ID.
    #[serde(rename = "broker")]
    pub id: BrokerId,
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether the broker is registered but not considered alive (KIP-631); brokers before 4.0 do not report that.
    pub fenced: bool,
}

/// A cluster's brokers.
#[derive(Debug, Clone)]
pub struct Brokers {
    /// The cluster's ID.
    pub cluster: Option<String>,
    /// The brokers by ID.
    pub brokers: Vec<Broker>,
}

/// A feature's version (KIP-584).
#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    /// The feature's name.
    pub feature: String,
    /// The version that the cluster has agreed on; `None` while the feature is off.
    pub finalized: Option<i16>,
    /// The first and last version that the broker supports.
    pub supported: (i16, i16),
}

/// Versions of one request.
#[derive(Debug, Clone, Serialize)]
pub struct Api {
    /// The request's number.
    pub key: i16,
    /// The request's name; `None` when kpipe does not know it.
    pub api: Option<String>,
    /// The first and last version that the broker supports.
    pub broker: (i16, i16),
    /// The first and last version that kpipe supports.
    pub kpipe: Option<(i16, i16)>,
}

/// What a node does in the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuorumRole {
    /// The active controller.
    Leader,
    /// Another voter.
    Follower,
    /// A node that replicates and does not vote.
    Observer,
}

impl std::fmt::Display for QuorumRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Observer => "observer",
        })
    }
}

/// A replica of the cluster's metadata.
#[derive(Debug, Clone, Serialize)]
pub struct QuorumReplica {
    /// The node's ID.
    pub node: BrokerId,
    /// What it does in the quorum.
    pub role: QuorumRole,
    /// The end of its log.
    pub log_end_offset: Offset,
    /// Records behind the leader.
    pub lag: i64,
    /// Milliseconds since it last had all records; `None` when that is not known.
    pub behind_ms: Option<i64>,
}

/// The KRaft quorum.
#[derive(Debug, Clone)]
pub struct Quorum {
    /// The leader's epoch.
    pub epoch: i32,
    /// The end of what a majority has.
    pub high_watermark: Offset,
    /// The leader comes first.
    pub replicas: Vec<QuorumReplica>,
}

/// A log directory of a broker.
#[derive(Debug, Clone)]
pub struct LogDir {
    /// The broker.
    pub broker: BrokerId,
    /// The directory's path.
    pub path: String,
    /// Why it is offline.
    pub error: Option<String>,
    /// Size of the file system in bytes; `None` before Kafka 3.3.
    pub total: Option<i64>,
    /// Bytes left in the file system; `None` before Kafka 3.3.
    pub usable: Option<i64>,
    /// Bytes of each replica in it.
    pub partitions: BTreeMap<TopicPartition, i64>,
}
