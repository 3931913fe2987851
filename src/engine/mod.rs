//! Producer, consumer and admin against a cluster. Two engines implement them: [`native`], this project's own
//! client for Kafka 0.11 to today, and [`kafka_crate`], the `kafka` crate for 0.8.2 to 0.10.

mod kafka_crate;
pub mod native;

use crate::config::{Config, EngineChoice};
use crate::error::{Code, Error, Result};
use crate::record::{Batch, Offset, PartitionId, RecordRef, Timestamp};
use crate::signal::Stop;
pub use native::wire::{Codec, Compression, Isolation};
pub use native::{Assignor, DescribedGroup, GroupAdmin, ListedGroup, Progress, Wake};
use std::collections::BTreeMap;
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

/// Which partition a record goes to that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Partitioner {
    /// By the key's murmur2 hash, as the Java client; keyless in sticky batches
    #[default]
    Murmur2,
    /// By the key's CRC-32, as librdkafka's consistent; keyless in sticky batches
    Crc32,
    /// By the key's FNV-1a hash, as Sarama; keyless in sticky batches
    Fnv1a,
    /// Any, whatever the key
    Random,
    /// In turn, whatever the key
    RoundRobin,
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

    /// The time of records that carry none; to be told now and then, as reading a clock a record would cost.
    fn set_now(&mut self, now: Timestamp);

    /// The input has nothing right now: sends what is open. Returns when to call again, if it held any back.
    ///
    /// # Errors
    /// Sending failed for good.
    fn idle(&mut self) -> Result<Option<Instant>>;

    /// The input goes on: sends what is open for too long all the same.
    ///
    /// # Errors
    /// Sending failed for good.
    fn busy(&mut self) -> Result<()>;

    /// Outcomes that became known since the last call.
    fn receipts(&mut self) -> Vec<Receipt>;

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
    /// The coordinator refused: the producer was fenced, or the transaction timed out.
    fn end_transaction(&mut self, commit: bool) -> Result<()>;

    /// How many appended records have no outcome yet.
    fn unconfirmed(&self) -> u64;
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record there is.
    Beginning,
    /// Only what comes from now on.
    End,
    /// The group's committed offset.
    Stored,
    /// An offset.
    At(Offset),
    /// The last so many of each partition.
    Last(u64),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

/// Which topics are read.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These.
    Topics(Vec<String>),
    /// All whose whole name matches, also those that are made later.
    Pattern(regex::Regex),
}

/// How members of a group agree on who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum GroupProtocol {
    /// The newer one where the brokers have it and the group does not use the older
    #[default]
    Auto,
    /// Members share out among themselves: Kafka 0.9 and newer
    Classic,
    /// The coordinator shares out (KIP-848): Kafka 4.0 and newer
    Consumer,
}

/// A consumer's group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Its name.
    pub id: String,
    /// Whether to be no member of it, only to read and commit its offsets.
    pub lone: bool,
    /// How members agree.
    pub protocol: GroupProtocol,
    /// The flag that the newer protocol has no place for, if one was given.
    pub only_classic: Option<&'static str>,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// A member silent this long is thought dead.
    pub session_timeout: Duration,
    /// How often a member says that it lives.
    pub heartbeat_interval: Duration,
    /// A member whose reader takes nothing for this long leaves.
    pub max_poll_interval: Duration,
    /// How to share out in the classic protocol, the preferred one first.
    pub assignors: Vec<native::Assignor>,
    /// How the coordinator is to share out.
    pub server_assignor: Option<String>,
}

/// What a consumer is asked for.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// The topics.
    pub subscription: Subscription,
    /// Only these partitions; `None` is all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Where reading begins.
    pub start: Start,
    /// Where it begins in a partition without a committed offset.
    pub fallback: Start,
    /// Whether each partition ends where it ended at the start.
    pub stop_at_end: bool,
    /// The group whose offsets are read and committed.
    pub group: Option<GroupConfig>,
    /// Where this consumer stands: the nearest replica is read (KIP-392).
    pub rack: Option<String>,
    /// How often to look for new topics and partitions.
    pub refresh: Duration,
    /// Which records of transactions are shown.
    pub isolation: Isolation,
    /// Bytes of records fetched ahead of what was handled.
    pub fetch_ahead: usize,
    /// Bytes one fetch asks for, in all and of one partition.
    pub fetch_bytes: usize,
    /// How long a broker may hold a fetch when there is nothing.
    pub fetch_wait: Duration,
}

/// The offset to go on from, a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next record's offset.
    pub offset: Offset,
    /// Epoch of the leader that wrote the last one (KIP-320); -1 when unknown.
    pub leader_epoch: i32,
}

/// A topic's partition.
pub type Place = (Arc<str>, PartitionId);

/// Positions by topic and partition.
pub type Offsets = BTreeMap<Place, Position>;

/// What [`Consumer::next`] found.
#[derive(Debug)]
pub enum Event {
    /// Records.
    Batch(Batch),
    /// Every partition is at the end it had at the start.
    End,
    /// Nothing until the deadline.
    Timeout,
    /// A signal came.
    Stopped,
    /// The group gave these to this member, which begins there.
    Assigned(Offsets),
    /// The group wants these for others: they are let go at the next call of [`Consumer::next`].
    Revoking(Vec<Place>),
    /// The member has these no more, for this reason: nothing can be committed for them.
    Lost(Vec<Place>, Error),
}

/// Reads records; remembers what was handled.
pub trait Consumer {
    /// The next event, or [`Event::Timeout`] at `deadline`. Calling it again says that all before is handled.
    ///
    /// # Errors
    /// Reading cannot go on: a partition is gone, denied or corrupt, or the cluster out of reach too long.
    fn next(&mut self, deadline: Instant) -> Result<Event>;

    /// Commits `written` for the group. False when it is not this member's to commit any more: [`Consumer::next`] then
    /// has news of that.
    ///
    /// # Errors
    /// The commit failed, retries included; the error says from where records will be read again.
    fn commit(&mut self, written: &Offsets) -> Result<bool>;

    /// Whether partitions are to be let go: who is at work on a batch should soon call [`Consumer::next`], and may go
    /// on with the batch afterwards. Asking says that the work moves.
    fn has_news(&self) -> bool {
        false
    }

    /// Leaves the group.
    ///
    /// # Errors
    /// A second signal came first.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A topic as `topics list` and `describe` show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Whether it is Kafka's own, like `__consumer_offsets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<bool>,
    /// Its partitions in order.
    pub partitions: Vec<Partition>,
}

/// A partition as `topics describe` shows it; what an engine cannot know is `None`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: PartitionId,
    /// The leader's broker id; `None` when there is none.
    pub leader: Option<i32>,
    /// Broker ids of all replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<i32>>,
    /// Broker ids of those in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync_replicas: Option<Vec<i32>>,
    /// Offset of the first record there is; `None` when it was not asked or nobody could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<Offset>,
    /// Offset the next record will get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<Offset>,
}

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// `None` is the brokers' default.
    pub partitions: Option<i32>,
    /// `None` is the brokers' default.
    pub replication_factor: Option<i16>,
    /// Topic configs that differ from the brokers' defaults.
    pub configs: Vec<(String, String)>,
}

/// Looks after a cluster.
pub trait Admin {
    /// All topics by name, or those of `names`; with `offsets`, first and next offset of each partition too.
    ///
    /// # Errors
    /// A named topic does not exist, or the cluster did not answer.
    fn topics(&mut self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>>;

    /// Makes a topic and waits until its leaders are known.
    ///
    /// # Errors
    /// The cluster refused, or the engine cannot.
    fn create_topic(&mut self, topic: &NewTopic) -> Result<()>;

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// The cluster refused, or the engine cannot.
    fn delete_topic(&mut self, name: &str) -> Result<()>;
}

/// A connection to a cluster through the engine that speaks to it.
#[derive(Debug)]
pub enum Engine {
    /// This project's own client.
    Native(native::Client),
    /// The `kafka` crate.
    Kafka(Box<kafka_crate::Client>),
}

impl Engine {
    /// Connects with the engine that `config` names, or with the one that fits the brokers.
    ///
    /// # Errors
    /// No broker can be reached, or it is none.
    pub fn connect(config: &Config, stop: &Stop) -> Result<Self> {
        let native = || native::Client::connect(config, stop);
        let kafka = || kafka_crate::Client::connect(config, stop).map(|client| Self::Kafka(Box::new(client)));
        match config.engine {
            EngineChoice::Kafka => match native()? {
                native::Found::Modern(client) if !client.is_legacy()? => Err(Error::Usage(
                    "--engine kafka: Kafka 4.0 removed the requests that the kafka crate sends; it works with 0.8.2 to 3.9; use --engine native"
                        .to_owned(),
                )),
                _ => kafka(),
            },
            EngineChoice::Native => match native()? {
                native::Found::Modern(client) => Ok(Self::Native(client)),
                native::Found::Old(reason) => {
                    Err(Error::Usage(format!("{reason}: --engine native needs Kafka 0.11; use --engine kafka")))
                }
            },
            EngineChoice::Auto => match native()? {
                native::Found::Modern(client) => {
                    tracing::info!(engine = "native", "the brokers offer modern Produce and Fetch");
                    Ok(Self::Native(client))
                }
                native::Found::Old(reason) => {
                    tracing::info!(engine = "kafka", "{reason}");
                    kafka().map_err(|e| match e {
                        Error::Network(text) => Error::Network(format!("{text} ({reason})")),
                        other => other,
                    })
                }
            },
        }
    }

    /// Its name, as `--engine` takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native(_) => "native",
            Self::Kafka(_) => "kafka",
        }
    }

    /// Opens a producer; `wake` is called, from another thread, when [`Producer::idle`] should be called again.
    ///
    /// # Errors
    /// A topic does not exist, or the engine cannot do what `config` asks.
    pub fn producer(self, config: ProducerConfig, wake: Wake) -> Result<Box<dyn Producer>> {
        match self {
            Self::Native(client) => Ok(Box::new(native::NativeProducer::open(client, config, wake)?)),
            Self::Kafka(client) => Ok(Box::new(kafka_crate::KafkaProducer::open(*client, config)?)),
        }
    }

    /// Opens a consumer.
    ///
    /// # Errors
    /// A topic or partition does not exist, an offset is out of range, or the engine cannot do what `config` asks.
    pub fn consumer(self, config: ConsumerConfig) -> Result<Box<dyn Consumer>> {
        match self {
            Self::Native(client) => Ok(Box::new(native::NativeConsumer::open(client, config)?)),
            Self::Kafka(client) => Ok(Box::new(kafka_crate::KafkaConsumer::open(*client, config)?)),
        }
    }

    /// Opens what looks after groups.
    ///
    /// # Errors
    /// The engine cannot.
    pub fn groups(self) -> Result<native::GroupAdmin> {
        match self {
            Self::Native(client) => Ok(native::GroupAdmin::new(client)),
            Self::Kafka(_) => Err(crate_cannot("groups", "the kafka crate only reads and commits a group's offsets")),
        }
    }

    /// Opens an admin.
    pub fn admin(self) -> Box<dyn Admin> {
        match self {
            Self::Native(client) => Box::new(native::NativeAdmin::new(client)),
            Self::Kafka(client) => client,
        }
    }
}

/// What only the native engine can do, asked of the `kafka` crate.
pub(crate) fn crate_cannot(what: &str, why: &str) -> Error {
    Error::Usage(format!("{what}: {why}; --engine native can, on Kafka 0.11 and newer"))
}

/// `topic/partition`, as messages name it.
pub(crate) fn place(topic: &str, partition: PartitionId) -> String {
    format!("{topic}/{partition}")
}

/// An offset outside of what a partition holds.
pub(crate) fn out_of_range(topic: &str, partition: PartitionId, asked: Offset, first: Offset, next: Offset) -> Error {
    let holds = if first == next {
        format!("the partition is empty, its next offset is {next}")
    } else {
        format!("the partition holds {first} to {}", next - 1)
    };
    Error::Kafka { what: format!("offset {asked} of {}", place(topic, partition)), code: Code(1), message: Some(holds) }
}

/// A partition that the topic does not have.
pub(crate) fn no_such_partition(topic: &str, partition: PartitionId, count: usize) -> Error {
    Error::Kafka {
        what: place(topic, partition),
        code: Code(3),
        message: Some(format!("the topic has {count} partitions, 0 to {}", count.saturating_sub(1))),
    }
}
