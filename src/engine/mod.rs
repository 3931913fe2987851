//! Producer, consumer and admin against a cluster. Two engines implement them: [`native`], this project's own
//! client for Kafka 0.11 to today, and [`kafka_crate`], the `kafka` crate for 0.8.2 to 0.10. Knows only `record`,
//! `error` and `signal`: no command line, configuration or metrics.

mod admin;
mod consumer;
mod kafka_crate;
mod names;
pub mod native;
mod observer;
mod options;
mod pattern;
pub mod platform;
mod producer;
pub mod security;

use crate::error::{Action, Error, Result, Subject};
pub use crate::record::{Codec, Compression, Isolation};
use crate::record::{Offset, TopicPartition};
use crate::signal::Stop;
pub(crate) use admin::Numbered;
pub use admin::{
    Acl, AclFilter, Api, Bounds, Broker, Brokers, CommittedOffset, ConfigChange, ConfigEntry, ConfigSource, Configured,
    Credential, DescribedGroup, Elected, Election, Feature, GroupMember, GroupType, GroupsProgress, ListedGroup,
    ListedTransaction, Listing, LogDir, NewTopic, OffsetAt, OpenTransaction, Operation, Partition, PatternType,
    Permission, Progress, Quorum, QuorumReplica, QuorumRole, Reassignment, ResourceType, Topic, Transaction,
};
pub use consumer::{
    Assignor, CommitMode, Consumer, ConsumerConfig, End, Event, GroupConfig, GroupProtocol, Offsets, Start,
    Subscription,
};
pub use kafka_crate::{Rewrite, rewrite};
use kafka_protocol::error::ResponseError;
pub use names::Named;
pub use native::{Hash, NativeAdmin, Wake};
pub use observer::Observer;
pub use options::{EngineChoice, Options};
pub use pattern::Pattern;
pub use producer::{
    Acks, Failure, Partitioner, Producer, ProducerConfig, Receipt, Slot, TopicCreation, TransactionConfig,
    TransactionEnd,
};

/// A connection to a cluster through the engine that its brokers understand; clones share the connection.
#[derive(Debug, Clone)]
pub enum Engine {
    /// This project's own client.
    Native(native::Client),
    /// The `kafka` crate.
    Kafka(kafka_crate::Client),
}

impl Engine {
    /// Connects with the engine that `options` name, or with the one that fits the brokers.
    ///
    /// # Errors
    /// No broker can be reached, or what answers is not a broker.
    pub fn connect(options: &Options, stop: &Stop) -> Result<Self> {
        let native = || native::Client::connect(options, stop);
        let kafka = || {
            if options.security.is_some() {
                return Err(unsupported_by_kafka_crate(
                    "security.protocol",
                    "the kafka crate has no SASL, and its TLS is OpenSSL's C",
                ));
            }
            kafka_crate::Client::connect(options, stop).map(Self::Kafka)
        };
        match options.engine {
            EngineChoice::Kafka => match native()? {
                native::Found::Modern(client) if !client.is_legacy()? => Err(Error::Usage(
                    "--engine kafka: the kafka crate supports Kafka 0.8.2 to 3.9; Kafka 4.0 removed the requests it sends (use --engine native)"
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
                native::Found::Old(old) => {
                    tracing::info!(engine = "kafka", "{old}");
                    kafka().map_err(|error| match error {
                        Error::KafkaCrate(text) => Error::KafkaCrate(format!("{text} ({old})")),
                        other => other,
                    })
                }
            },
        }
    }

    /// Opens a producer; `wake` is called, from another thread, when [`Producer::idle`] should be called again.
    ///
    /// # Errors
    /// A topic does not exist, or the engine cannot do what `config` asks.
    pub fn produce(&self, config: ProducerConfig, wake: Wake) -> Result<Box<dyn Producer>> {
        match self {
            Self::Native(client) => Ok(Box::new(native::NativeProducer::open(client.clone(), config, wake)?)),
            Self::Kafka(client) => Ok(Box::new(kafka_crate::KafkaProducer::open(client.connection()?, config)?)),
        }
    }

    /// Opens a consumer.
    ///
    /// # Errors
    /// A topic or partition does not exist, an offset is out of range, or the engine cannot do what `config` asks.
    pub fn consume(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>> {
        match self {
            Self::Native(client) => Ok(Box::new(native::NativeConsumer::open(client.clone(), config)?)),
            Self::Kafka(client) => Ok(Box::new(kafka_crate::KafkaConsumer::open(client.connection()?, config)?)),
        }
    }

    /// The topics of `names`, or all that can be seen, by name. Everything else about topics is [`Engine::admin`]'s.
    ///
    /// # Errors
    /// A named topic does not exist or is denied, or the cluster did not answer.
    pub fn topics(&self, names: Option<&[String]>) -> Result<Listing<Topic>> {
        match self {
            Self::Native(client) => NativeAdmin::new(client.clone()).topics(names),
            Self::Kafka(client) => Ok(Listing::whole(client.topics(names)?)),
        }
    }

    /// Looks up first and next offset of all partitions. Returns why some stay unknown.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub fn fill_offsets(&self, topics: &mut [Topic]) -> Result<Vec<Error>> {
        match self {
            Self::Native(client) => NativeAdmin::new(client.clone()).fill_offsets(topics),
            Self::Kafka(client) => client.fill_offsets(topics),
        }
    }

    /// Administration, which only the native engine can do; `what` is asked for.
    ///
    /// # Errors
    /// The engine is the `kafka` crate.
    pub fn admin(&self, what: &str) -> Result<NativeAdmin> {
        match self {
            Self::Native(client) => Ok(NativeAdmin::new(client.clone())),
            Self::Kafka(_) => Err(unsupported_by_kafka_crate(what, "the kafka crate has no such request")),
        }
    }
}

/// What only the native engine can do, asked of the `kafka` crate.
pub(crate) fn unsupported_by_kafka_crate(feature: impl Into<String>, why: &'static str) -> Error {
    Error::UnsupportedByKafkaCrate { feature: feature.into(), why }
}

/// An offset outside of a partition's log.
pub(crate) fn out_of_range(of: &TopicPartition, asked: Offset, first: Offset, next: Offset) -> Error {
    let holds = if first == next {
        format!("the partition is empty; its end offset is {next}")
    } else {
        format!("the partition has offsets {first} to {}", next - 1)
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
        detail: Some(match count {
            1 => "the topic has 1 partition, 0".to_owned(),
            _ => format!("the topic has {count} partitions, 0 to {}", count.saturating_sub(1)),
        }),
    }
}
