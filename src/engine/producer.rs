//! The producer's configuration, operations and receipts.

use super::Named;
use crate::error::{Error, Result};
use crate::record::{Batch, Compression, Offset, PartitionId, RecordRef, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many in-sync replicas must have a record before it counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum Acks {
    /// No acknowledgment: the broker does not respond.
    None = 0,
    /// The leader's: a record is lost if the leader fails before the replicas have it.
    Leader = 1,
    /// All in-sync replicas.
    #[default]
    All = -1,
}

/// How a topic is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicCreation {
    /// At least 1.
    pub partitions: i32,
    /// `None`: the brokers' `default.replication.factor`.
    pub replication_factor: Option<i16>,
}

/// The configuration of a producer.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// When a record counts as delivered.
    pub acks: Acks,
    /// Whether brokers recognize a repeated batch, so that a retry cannot duplicate records (KIP-98).
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent when it has this many bytes, before compression.
    pub batch_size: usize,
    /// How long a batch waits for more records when input is idle; zero sends at once.
    pub linger: Duration,
    /// A record that is not acknowledged within this time after it was read has failed.
    pub delivery_timeout: Duration,
    /// Metadata is refreshed this often even when nothing fails.
    pub metadata_max_age: Duration,
    /// The most unanswered requests per broker.
    pub max_in_flight: usize,
    /// The most bytes of unacknowledged records; reading pauses beyond that.
    pub buffer_memory: usize,
    /// The largest record, in bytes; larger ones are rejected before they are sent.
    pub max_record_size: usize,
    /// How a partition is chosen for a record that does not name one.
    pub partitioner: Partitioner,
    /// Whether the first record that fails prevents the records behind it from being sent.
    pub stop_on_failure: bool,
    /// Whether a failure returns its records.
    pub keep_failed: bool,
    /// The transaction that all records belong to.
    pub transaction: Option<TransactionConfig>,
    /// How missing topics are created; `None`: they are not.
    pub create_topics: Option<TopicCreation>,
    /// Topics to look up before the first record, so that a wrong name fails at once.
    pub topics: Vec<String>,
}

/// A transactional producer (KIP-98).
#[derive(Debug, Clone)]
pub struct TransactionConfig {
    /// The transactional ID; a later producer with the same ID fences this one.
    pub id: String,
    /// The brokers abort a transaction that is open for longer than this.
    pub timeout: Duration,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
}

/// How a partition is chosen for a record that does not name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// The key's murmur2 hash, as the Java client computes it.
    #[default]
    Murmur2,
    /// The key's CRC-32, as librdkafka's `consistent` computes it.
    Crc32,
    /// The key's FNV-1a hash, as Sarama computes it.
    Fnv1a,
    /// A random partition, regardless of the key.
    Random,
    /// Round-robin, regardless of the key.
    RoundRobin,
}

impl Named for Partitioner {
    const ALL: &'static [Self] = &[Self::Murmur2, Self::Crc32, Self::Fnv1a, Self::Random, Self::RoundRobin];

    fn name(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2",
            Self::Crc32 => "crc32",
            Self::Fnv1a => "fnv1a",
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
        }
    }
}

/// The number that a producer gives to a partition when it first writes to it.
pub type Slot = usize;

/// The outcome of a run of records that were sent as one batch.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// What [`Producer::append`] returned for its records.
    pub slot: Slot,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// How many records.
    pub records: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// The first record's number, counting from 0 what was appended to the slot.
    pub first_record: u64,
    /// The broker's time, where the topic says that it counts.
    pub append_time: Option<Timestamp>,
    /// The offset of the first record, if the broker returned it; or why the run failed.
    pub outcome: std::result::Result<Option<Offset>, Failure>,
}

/// Why a batch was given up.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The error, with topic, partition and broker.
    pub error: Error,
    /// Whether the broker may have it all the same.
    pub possibly_written: bool,
    /// The records, when [`ProducerConfig::keep_failed`] asked for them.
    pub records: Option<Batch>,
}

/// Takes records, delivers them in order per partition, tells what became of each.
pub trait Producer {
    /// Copies the record into its partition's open batch; waits while the buffer is full.
    ///
    /// # Errors
    /// The record can never be sent (too large, no such partition, no such topic), or a second signal came.
    fn append(&mut self, topic: &str, partition: Option<PartitionId>, record: &RecordRef<'_>) -> Result<Slot>;

    /// The input continues at `now`, the time of records that have none: sends what has been open for too long.
    /// `held_bytes` is what the caller keeps of records until they are acknowledged in order; it counts against
    /// [`ProducerConfig::buffer_memory`]. To be called now and then, for reading a clock per record would cost.
    ///
    /// # Errors
    /// Sending failed for good.
    fn tick(&mut self, now: Timestamp, held_bytes: usize) -> Result<()>;

    /// The input has nothing right now: sends what is open. Returns when to call again, if it held any back.
    ///
    /// # Errors
    /// Sending failed for good.
    fn idle(&mut self) -> Result<Option<Instant>>;

    /// Outcomes that became known since the last call.
    ///
    /// # Errors
    /// Sending failed for good.
    fn receipts(&mut self) -> Result<Vec<Receipt>>;

    /// Sends all and waits for every outcome, which [`Producer::receipts`] then tells.
    ///
    /// # Errors
    /// A second signal came first.
    fn finish(&mut self) -> Result<()>;

    /// Gives up what was not sent yet.
    ///
    /// # Errors
    /// Sending failed for good.
    fn abandon(&mut self) -> Result<()>;

    /// Commits or aborts the transaction, once all its records have an outcome; the next record begins another.
    ///
    /// # Errors
    /// The coordinator refused: the producer was fenced, or the transaction timed out; or, of a commit, nobody knows
    /// ([`Error::CommitUnknown`]): after that it cannot be aborted any more.
    fn end_transaction(&mut self, end: TransactionEnd) -> Result<()>;

    /// How many appended records have no outcome yet.
    fn unacknowledged(&self) -> u64;
}
