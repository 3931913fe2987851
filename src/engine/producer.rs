//! What a producer is asked for, does and tells.

use super::Named;
use crate::error::{Error, Result};
use crate::record::{Batch, Compression, Offset, PartitionId, RecordRef, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many in-sync replicas must have a record before it counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i16)]
pub enum Acks {
    /// None: the broker does not even answer.
    None = 0,
    /// The leader: lost when it dies before the others have it.
    Leader = 1,
    /// All in-sync replicas.
    #[default]
    All = -1,
}

/// What a producer is asked for.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// When a record counts as delivered.
    pub acks: Acks,
    /// Whether the broker recognises a repeated batch, so that a retry cannot double it (KIP-98).
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent when it has this many bytes, before compression.
    pub batch_size: usize,
    /// How long an idle input may let a batch wait for more; zero sends at once.
    pub linger: Duration,
    /// A record not acknowledged this long after it was read has failed.
    pub delivery_timeout: Duration,
    /// Metadata is refreshed this often even when nothing fails.
    pub metadata_max_age: Duration,
    /// Requests to one broker that may await their answer.
    pub max_in_flight: usize,
    /// Bytes of records not acknowledged yet; reading waits beyond.
    pub buffer_memory: usize,
    /// A larger record is refused before it is sent.
    pub max_record_size: usize,
    /// Which partition a record goes to that names none.
    pub partitioner: Partitioner,
    /// Whether the first record that fails keeps those from being sent that wait behind it.
    pub stop_on_failure: bool,
    /// Whether a failure brings the records back.
    pub keep_failed: bool,
    /// The transaction that all records belong to.
    pub transaction: Option<TransactionConfig>,
    /// Topics that are missing are made with so many partitions and replicas (`None`: the brokers' default).
    pub create_topics: Option<(i32, Option<i16>)>,
    /// Topics to look up before the first record, so that a wrong name fails at once.
    pub topics: Vec<String>,
}

/// A transactional producer (KIP-98).
#[derive(Debug, Clone)]
pub struct TransactionConfig {
    /// The transactional id: a later producer of the same id fences this one.
    pub id: String,
    /// The brokers abort the transaction of a producer that is silent this long.
    pub timeout: Duration,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
}

/// Which partition a record goes to that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// The key's murmur2 hash, as the Java client computes it.
    #[default]
    Murmur2,
    /// The key's CRC-32, as librdkafka's `consistent` computes it.
    Crc32,
    /// The key's FNV-1a hash, as Sarama computes it.
    Fnv1a,
    /// A random partition, whatever the key.
    Random,
    /// One partition after the other, whatever the key.
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

/// A partition that a producer writes to, counted as they come into use.
pub type Slot = usize;

/// What became of a run of records that went out as one batch.
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
    /// The offset of the first record, when the broker told; or why it failed.
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
