//! Producer, consumer and admin against a cluster. Two engines implement them: [`native`], this project's own
//! client for Kafka 0.11 to today, and [`kafka_crate`], the `kafka` crate for 0.8.2 to 0.10.

pub(crate) mod acl;
mod admin;
mod consumer;
mod kafka_crate;
pub mod native;
mod observer;
mod options;
mod producer;
pub mod security;

use crate::error::{Action, Error, Result, Subject};
use crate::record::{Offset, TopicPartition};
use crate::signal::Stop;
pub use acl::{Acl, AclFilter, Credential, Operation, PatternType, Permission, ResourceType};
pub use admin::{Admin, NewTopic, Partition, Topic};
pub use consumer::{Consumer, ConsumerConfig, Event, GroupConfig, GroupProtocol, Offsets, Start, Subscription};
use kafka_protocol::error::ResponseError;
pub use native::wire::{Codec, Compression, Isolation};
pub use native::{
    Api, Broker, Brokers, Change, ConfigEntry, Configured, Feature, ListedTransaction, LogDir, OpenTransaction,
    PartitionInfo, Quorum, QuorumReplica, Reassignment, Transaction,
};
pub use native::{Assignor, ClusterAdmin, DescribedGroup, GroupAdmin, Hash, ListedGroup, Progress, Wake};
pub use observer::Observer;
pub use options::{EngineChoice, Options};
pub use producer::{
    Acks, Failure, Partitioner, Producer, ProducerConfig, Receipt, Slot, TransactionConfig, TransactionEnd,
};

/// A connection to a cluster through the engine that speaks to it.
#[derive(Debug)]
pub enum Engine {
    /// This project's own client.
    Native(native::Client),
    /// The `kafka` crate.
    Kafka(Box<kafka_crate::Client>),
}

impl Engine {
    /// Connects with the engine that `options` name, or with the one that fits the brokers.
    ///
    /// # Errors
    /// No broker can be reached, or it is none.
    pub fn connect(options: &Options, stop: &Stop) -> Result<Self> {
        let native = || native::Client::connect(options, stop);
        let kafka = || {
            if options.security.is_some() {
                return Err(unsupported_by_kafka_crate(
                    "security.protocol",
                    "the kafka crate has no SASL, and its TLS is OpenSSL's C",
                ));
            }
            kafka_crate::Client::connect(options, stop).map(|client| Self::Kafka(Box::new(client)))
        };
        match options.engine {
            EngineChoice::Kafka => match native()? {
                native::Found::Modern(client) if !client.is_legacy()? => Err(Error::Usage(
                    "--engine kafka: Kafka 4.0 removed the requests that the kafka crate sends; it works with 0.8.2 to 3.9; use --engine native"
                        .to_owned(),
                )),
                _ => kafka(),
            },
            EngineChoice::Native => match native()? {
                native::Found::Modern(client) => Ok(Self::Native(client)),
                native::Found::Old(old) => Err(old.into()),
            },
            EngineChoice::Auto => match native()? {
                native::Found::Modern(client) => {
                    tracing::info!(engine = "native", "the brokers offer modern Produce and Fetch");
                    Ok(Self::Native(client))
                }
                native::Found::Old(reason) => {
                    tracing::info!(engine = "kafka", "{reason}");
                    kafka()
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
            Self::Kafka(_) => {
                Err(unsupported_by_kafka_crate("groups", "the kafka crate only reads and commits a group's offsets"))
            }
        }
    }

    /// Opens what looks after the cluster itself; `what` is asked for.
    ///
    /// # Errors
    /// The engine cannot.
    pub fn cluster(self, what: &str) -> Result<native::ClusterAdmin> {
        match self {
            Self::Native(client) => Ok(native::ClusterAdmin::new(client)),
            Self::Kafka(_) => Err(unsupported_by_kafka_crate(what, "the kafka crate has no such request")),
        }
    }

    /// Opens an admin.
    pub fn admin(self) -> Box<dyn Admin> {
        match self {
            Self::Native(client) => Box::new(native::ClusterAdmin::new(client)),
            Self::Kafka(client) => client,
        }
    }
}

/// What only the native engine can do, asked of the `kafka` crate.
pub(crate) fn unsupported_by_kafka_crate(feature: impl Into<String>, why: &'static str) -> Error {
    Error::UnsupportedByKafkaCrate { feature: feature.into(), why }
}

/// An offset outside of what a partition holds.
pub(crate) fn out_of_range(of: &TopicPartition, asked: Offset, first: Offset, next: Offset) -> Error {
    let holds = if first == next {
        format!("the partition is empty, its next offset is {next}")
    } else {
        format!("the partition holds {first} to {}", next - 1)
    };
    let (subject, code) = (Subject::Offset(of.clone(), asked), ResponseError::OffsetOutOfRange);
    Error::Kafka { action: Action::LookUp, subject, code, detail: Some(holds) }
}

/// A partition that the topic does not have.
pub(crate) fn no_such_partition(of: &TopicPartition, count: usize) -> Error {
    Error::Kafka {
        action: Action::LookUp,
        subject: of.into(),
        code: ResponseError::UnknownTopicOrPartition,
        detail: Some(format!("the topic has {count} partitions, 0 to {}", count.saturating_sub(1))),
    }
}
