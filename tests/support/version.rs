//! The Kafkas that tests run against, and what differs between their versions.

use Version::{V0_8_2, V0_10_2, V1_1, V2_8, V3_9, V4_3, V4_4};

/// What answers the requests of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kafka {
    /// Apache Kafka, which needs Java; only `scripts/test` runs it.
    Real(Version),
    /// `kpipe local`, in the process of the test.
    Local,
}

/// A released version of Apache Kafka, one for each generation of its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V0_8_2,
    V0_10_2,
    V1_1,
    V2_8,
    V3_9,
    V4_3,
    V4_4,
}

/// Command-line tools of Kafka, by the name of their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    AclCommand,
    BrokerApiVersionsCommand,
    ConfigCommand,
    ConsoleConsumer,
    ConsoleProducer,
    ConsumerGroupCommand,
    FeatureCommand,
    GetOffsetShell,
    LogDirsCommand,
    MetadataQuorumCommand,
    ProducerPerformance,
    ReassignPartitionsCommand,
    SimpleConsumerShell,
    TopicCommand,
    TransactionsCommand,
}

impl Kafka {
    /// The newest Kafka.
    pub const LATEST: Self = Self::Real(Version::LATEST);
    /// The two generations that the tests of secured clusters and of administration cover.
    pub const MODERN: [Self; 2] = [Self::LATEST, Self::Real(V3_9)];

    /// Whether tests run on it: on real brokers only if all tests were asked for.
    pub fn is_asked_for(self) -> bool {
        self == Self::Local || super::all_tests()
    }

    /// Whether topics can be created by request: before 0.10.1 only their first use creates them.
    pub fn has_create_topics(self) -> bool {
        !matches!(self, Self::Real(version) if version < V1_1)
    }

    /// Its version: `kpipe local` behaves like the newest Kafka.
    pub fn version(self) -> Version {
        match self {
            Self::Real(version) => version,
            Self::Local => Version::LATEST,
        }
    }
}

impl std::fmt::Display for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Real(version) => write!(f, "Kafka {}", version.number()),
            Self::Local => f.write_str("kpipe local"),
        }
    }
}

impl Version {
    pub const LATEST: Self = V4_4;
    /// All versions, as `scripts/kafka list` prints them.
    pub const ALL: [Self; 7] = [V4_4, V4_3, V3_9, V2_8, V1_1, V0_10_2, V0_8_2];

    /// Its full number.
    pub fn number(self) -> &'static str {
        match self {
            V0_8_2 => "0.8.2.2",
            V0_10_2 => "0.10.2.2",
            V1_1 => "1.1.1",
            V2_8 => "2.8.2",
            V3_9 => "3.9.2",
            V4_3 => "4.3.1",
            V4_4 => "4.4.0",
        }
    }

    /// The engine that `--engine auto` picks: `native` since 0.11.
    pub fn engine(self) -> &'static str {
        if self < V1_1 { "kafka" } else { "native" }
    }

    /// Whether the brokers serve the consumer group protocol of KIP-848 without being configured to: since 4.0.
    pub fn has_consumer_protocol(self) -> bool {
        self >= V4_3
    }

    /// Whether the console consumer can print headers: since 2.7.
    pub fn prints_headers(self) -> bool {
        self >= V2_8
    }

    /// The full name of a tool's class. From 3.0 on the tools move from the Scala packages to `org.apache.kafka.tools`.
    pub fn class(self, tool: Tool) -> String {
        let package = match tool {
            Tool::SimpleConsumerShell => "kafka.tools",
            Tool::ConsoleConsumer if self < V3_9 => "kafka.tools",
            Tool::ConsoleProducer if self < V4_3 => "kafka.tools",
            Tool::AclCommand | Tool::BrokerApiVersionsCommand if self < V4_3 => "kafka.admin",
            Tool::ConfigCommand if self < V4_4 => "kafka.admin",
            Tool::ConsoleConsumer => "org.apache.kafka.tools.consumer",
            Tool::ConsumerGroupCommand => "org.apache.kafka.tools.consumer.group",
            Tool::ReassignPartitionsCommand => "org.apache.kafka.tools.reassign",
            _ => "org.apache.kafka.tools",
        };
        format!("{package}.{tool:?}")
    }

    /// The console producer's flag for the bootstrap address; renamed in 2.5.
    pub fn producer_bootstrap_flag(self) -> &'static str {
        if self < V2_8 { "--broker-list" } else { "--bootstrap-server" }
    }

    /// The console producer's flag for a property of its line reader; renamed in 4.2 (KIP-1147).
    pub fn reader_property_flag(self) -> &'static str {
        if self < V4_3 { "--property" } else { "--reader-property" }
    }

    /// The console consumer's flag for a property of its formatter; renamed in 4.2 (KIP-1147).
    pub fn formatter_property_flag(self) -> &'static str {
        if self < V4_3 { "--property" } else { "--formatter-property" }
    }

    /// The console consumer's flag for a client property; renamed in 4.2 (KIP-1147).
    pub fn consumer_property_flag(self) -> &'static str {
        if self < V4_3 { "--consumer-property" } else { "--command-property" }
    }

    /// The console consumer's flag for a properties file; renamed in 4.2 (KIP-1147).
    pub fn consumer_config_flag(self) -> &'static str {
        if self < V4_3 { "--consumer.config" } else { "--command-config" }
    }
}
