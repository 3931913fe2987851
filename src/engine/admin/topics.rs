//! Topics and their partitions.

use crate::record::{BrokerId, Offset, PartitionId, TopicPartition};
use serde::Serialize;
use std::sync::Arc;

/// A topic as `topics list` and `describe` show it.
#[derive(Debug, Clone, Serialize)]
pub struct Topic {
    /// The topic's name.
    #[serde(rename = "topic")]
    pub name: String,
    /// Whether the topic is one of Kafka's own, such as `__consumer_offsets`; `None` where the engine cannot know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<bool>,
    /// The partitions in order.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The topic's partitions with what names them.
    pub fn named_partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        let name: Arc<str> = self.name.as_str().into();
        self.partitions.iter().map(move |p| (TopicPartition::new(name.clone(), p.partition), p))
    }
}

/// A partition as `topics describe` shows it; what an engine cannot know is `None`.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    /// The partition's number within the topic.
    pub partition: PartitionId,
    /// `None` while the partition has no leader.
    pub leader: Option<BrokerId>,
    /// All replicas, the preferred leader first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<BrokerId>>,
    /// The in-sync replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync_replicas: Option<Vec<BrokerId>>,
    /// The log start offset; `None` when it was not asked for, or no broker returned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<Offset>,
    /// The offset that the next record will get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<Offset>,
}

impl Partition {
    /// Whether a replica is not in sync.
    pub fn is_under_replicated(&self) -> bool {
        let count = |ids: &Option<Vec<BrokerId>>| ids.as_ref().map(Vec::len);
        count(&self.in_sync_replicas) < count(&self.replicas)
    }

    /// Whether the preferred replica leads.
    pub fn has_preferred_leader(&self) -> bool {
        self.leader == self.replicas.iter().flatten().next().copied()
    }
}

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// The topic's name.
    pub name: String,
    /// `None` for the brokers' default.
    pub partitions: Option<i32>,
    /// `None` for the brokers' default.
    pub replication_factor: Option<i16>,
    /// Topic configs that differ from the brokers' defaults.
    pub configs: Vec<(String, String)>,
    /// The replicas of each partition, the preferred leader first; empty leaves the assignment to the cluster.
    pub assignment: Vec<Vec<BrokerId>>,
}
