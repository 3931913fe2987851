//! Transactions, and those that hang (KIP-664).

use crate::record::{BrokerId, Offset, PartitionId, Timestamp, TopicPartition};
use serde::Serialize;

/// A transaction in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ListedTransaction {
    /// The transactional ID.
    pub transactional_id: String,
    /// Kafka's name of the state.
    pub state: String,
    /// The producer that it belongs to.
    pub producer_id: i64,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// A transaction as its coordinator describes it.
#[derive(Debug, Clone, Serialize)]
pub struct Transaction {
    /// The transactional ID.
    pub transactional_id: String,
    /// Kafka's name of the state.
    pub state: String,
    /// The producer that it belongs to.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// The coordinator aborts the transaction after this many milliseconds.
    pub timeout_ms: i32,
    /// When it began; `None` when none is open.
    pub started: Option<Timestamp>,
    /// The partitions that it wrote to, as `topic/partition`.
    pub partitions: Vec<String>,
}

/// A transaction that is open in a partition.
#[derive(Debug, Clone, Serialize)]
pub struct OpenTransaction {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The producer that it belongs to.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i32,
    /// Epoch of the coordinator that last wrote a marker for the producer here; -1 when none ever did, as Kafka has it.
    pub coordinator_epoch: i32,
    /// Its first offset in the partition.
    pub start_offset: Offset,
    /// When the producer last wrote to the partition.
    pub last_timestamp: Timestamp,
}

impl OpenTransaction {
    /// The partition that it is open in.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }
}
