//! Typed errors: what failed, on what, and why. How a user reads them, with hints and exit codes in words, is `cli`'s.

mod code;
mod registry;
mod subject;

pub use code::{ErrorCode, error_code};
pub use registry::{RegistryError, RegistryFailure};
pub use subject::{Action, Subject};

use crate::record::{BrokerId, Malformed, Node, Offset, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::fmt;
use std::time::Duration;

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything asked was done.
pub const EXIT_OK: u8 = 0;
/// It failed: cluster, delivery, I/O, denied.
pub const EXIT_FAILED: u8 = 1;
/// Bad usage or configuration.
pub const EXIT_USAGE: u8 = 2;

/// Why kpipe could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The command line or a configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// The `kafka` crate, which serves old brokers, lacks what was asked for.
    #[error("{feature}: {why}")]
    UnsupportedByKafkaCrate {
        /// What was asked for, as it was asked.
        feature: String,
        /// What the crate lacks.
        why: &'static str,
    },
    /// A broker refused a request.
    #[error("{}{subject}: {}{}", action.verb(), code.name(), colon(.detail))]
    Kafka {
        /// What was attempted.
        action: Action,
        /// What it was attempted on.
        subject: Subject,
        /// Kafka's error.
        code: ResponseError,
        /// What the broker added, or what is known beside.
        detail: Option<String>,
    },
    /// Something failed before a broker answered.
    #[error("{}{subject}: {source}", action.verb())]
    During {
        /// What was attempted.
        action: Action,
        /// What it was attempted on.
        subject: Subject,
        /// Why it failed.
        source: Box<Error>,
    },
    /// A broker does not offer a request in any version that kpipe knows.
    #[error("{node} does not support {api:?} in any version that kpipe knows")]
    Unsupported {
        /// The broker.
        node: Node,
        /// The request.
        api: ApiKey,
    },
    /// No connection to a broker could be made.
    #[error("cannot reach {node}: {why}")]
    Unreachable {
        /// The broker.
        node: Node,
        /// The system's reason.
        why: String,
    },
    /// A broker's name has no address.
    #[error("cannot reach {node}: {why}")]
    Unresolved {
        /// The broker.
        node: Node,
        /// The system's reason.
        why: String,
    },
    /// A broker tells its clients a name that has no address where kpipe runs.
    #[error(
        "broker {broker} advertises {address}, which does not resolve; bootstrap broker: {bootstrap} (check advertised.listeners)"
    )]
    AdvertisedListener {
        /// The broker.
        broker: BrokerId,
        /// What it advertises, `host:port`.
        address: String,
        /// The address of the bootstrap list that answered.
        bootstrap: String,
        /// Whether other brokers were reached where they advertise: then the name may come back.
        others_reached: bool,
    },
    /// The `kafka` crate failed with an error of its own.
    #[error("{0}")]
    KafkaCrate(String),
    /// None of the bootstrap brokers could be reached.
    #[error("{}", joined(.0))]
    NoBootstrap(Vec<Error>),
    /// A connection broke before the answer came.
    #[error("{node} {why}")]
    Disconnected {
        /// The broker.
        node: Node,
        /// How it broke.
        why: Disconnect,
    },
    /// A broker was silent for too long.
    #[error("{node} did not respond within {} s", limit.as_secs_f64())]
    TimedOut {
        /// The broker.
        node: Node,
        /// How long kpipe waited.
        limit: Duration,
    },
    /// What answers at an address does not speak Kafka's protocol.
    #[error("{node} is not a Kafka broker: {found}")]
    NotKafka {
        /// The address.
        node: Node,
        /// What it sent instead.
        found: Foreign,
    },
    /// A broker's answer breaks the protocol, or lacks what was asked for.
    #[error("{node} sent a malformed response to {api:?}: {why}")]
    Malformed {
        /// The broker.
        node: Node,
        /// The request.
        api: ApiKey,
        /// What is wrong with the answer.
        why: String,
    },
    /// A broker is older than what the native engine can talk to.
    #[error("{0}")]
    OldBroker(String),
    /// Metadata does not list a broker.
    #[error("broker {0} is not in the cluster's metadata")]
    UnknownBroker(BrokerId),
    /// A broker is alive, but does not list any broker yet: it has just started.
    #[error("{0} does not know any brokers yet")]
    NoBrokers(Node),
    /// A record batch does not decode.
    #[error("{partition} at offset {offset}: {why}")]
    Corrupt {
        /// Where it is.
        partition: TopicPartition,
        /// The batch's first offset.
        offset: Offset,
        /// What is wrong with it.
        why: String,
    },
    /// Partitions failed for so long that a reader gave them up.
    #[error("not read to the end: {}: {last}", listed(.partitions))]
    Unread {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// What the last attempt at one of them met.
        last: Box<Error>,
    },
    /// A batch was not acknowledged in time.
    #[error("{partition}: not delivered within {} s; last error: {last}", limit.as_secs_f64())]
    Undelivered {
        /// Where it was to go.
        partition: TopicPartition,
        /// `delivery.timeout.ms`.
        limit: Duration,
        /// What the last attempt met.
        last: Box<Error>,
    },
    /// A batch was never sent, for its partition had no leader that took it.
    #[error("no broker accepted it in time")]
    NotTaken,
    /// The transaction that a record belonged to was aborted.
    #[error("the transaction was aborted: {0}")]
    Aborted(Box<Error>),
    /// A commit of a transaction was sent, and no answer says what became of it.
    #[error("the outcome of the commit of transactional ID {transactional_id} is unknown: {last}")]
    CommitUnknown {
        /// Whose transaction it is.
        transactional_id: String,
        /// What the last attempt met.
        last: Box<Error>,
    },
    /// A group's protocol was broken, by a member or by the coordinator.
    #[error("group {group}: {why}")]
    Group {
        /// The group.
        group: String,
        /// What is wrong.
        why: String,
    },
    /// The reader took no record for longer than `max.poll.interval.ms`, so the member left its group.
    #[error("the output accepted no records for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// TLS or SASL was refused: trying again does not help.
    #[error("{0}")]
    Security(String),
    /// A token endpoint failed in a way that may pass.
    #[error("token endpoint {url}: {why}")]
    TokenEndpoint {
        /// Its address.
        url: String,
        /// What it answered.
        why: String,
    },
    /// A schema registry did not do what was asked.
    #[error("{0}")]
    Registry(Box<RegistryError>),
    /// A key or value does not decode with its schema.
    #[error("{partition} at offset {offset}: the {part} does not decode: {why}")]
    Undecodable {
        /// Where the record is.
        partition: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// `key` or `value`.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The cluster lacks what was named, or is not in a state in which it can do what was asked.
    #[error("{0}")]
    ClusterState(String),
    /// A record of the input is malformed.
    #[error("{source_name}{place}{}: {what}", .byte.map(|b| format!(", byte {b}")).unwrap_or_default())]
    Input {
        /// The file's name, or "stdin".
        source_name: String,
        /// Which record.
        place: InputPlace,
        /// Where in it, from 1, when that is known.
        byte: Option<usize>,
        /// What is wrong with it.
        what: String,
    },
    /// A record can never be sent; the next may be.
    #[error("{0}")]
    Refused(RefusedRecord),
    /// A file, stdin or stdout failed.
    #[error("{0}")]
    Io(String),
    /// The reader of stdout has gone: no failure, but nothing more can be written.
    #[error("the reader of stdout has gone")]
    ReaderGone,
    /// The run ended before a record was sent.
    #[error("not sent: the run ended first")]
    NotSent,
    /// A signal ended the work before it was done.
    #[error("stopped by a signal")]
    Stopped,
    /// One of kpipe's own tasks ended without a reason.
    #[error("{0} ended unexpectedly")]
    TaskEnded(&'static str),
}

/// Where a record stands in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputPlace {
    /// It begins in this line, from 1.
    Line(u64),
    /// It has this number, from 1.
    Record(u64),
    /// It is all of the input.
    Whole,
}

impl fmt::Display for InputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Record(record) => write!(f, ", record {record}"),
            Self::Whole => Ok(()),
        }
    }
}

/// Why a record can never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedRecord {
    /// Neither the command line nor the record names a topic.
    #[error("the record has no topic")]
    NoTopic,
    /// It is larger than `max.request.size`, in bytes.
    #[error("the record of {size} bytes exceeds --max-record-size {limit}")]
    TooLarge { size: usize, limit: usize },
}

/// How a connection broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disconnect {
    /// The broker closed it without an answer to the first request: brokers before 0.10 do so on ApiVersions.
    BeforeFirstAnswer,
    /// The broker closed it after ApiVersions: a listener that requires SASL does so.
    AfterApiVersions,
    /// The broker closed it between two answers.
    Closed,
    /// The broker closed it within an answer.
    MidFrame,
    /// Sending failed.
    Sending(String),
    /// Receiving failed.
    Receiving(String),
    /// An answer came that belongs to no request.
    Unasked,
    /// kpipe closed it.
    Local,
    /// The broker closed it during the TLS handshake: a listener without TLS does so.
    DuringHandshake(String),
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeFirstAnswer | Self::Closed => f.write_str("closed the connection"),
            Self::AfterApiVersions => f.write_str("closed the connection after ApiVersions"),
            Self::MidFrame => f.write_str("closed the connection in the middle of a response"),
            Self::Sending(why) => write!(f, "did not accept a request: {why}"),
            Self::Receiving(why) => write!(f, "lost the connection: {why}"),
            Self::Unasked => f.write_str("sent a response that matches no request"),
            Self::Local => f.write_str("is no longer connected"),
            Self::DuringHandshake(why) => write!(f, "ended the TLS handshake: {why}"),
        }
    }
}

/// What answered where a broker was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// An HTTP server.
    Http,
    /// A TLS listener, which a plaintext connection was made to.
    Tls,
    /// Something that announced a response of so many bytes.
    Length(u32),
    /// Something whose first answer does not decode.
    FirstAnswer,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("it answered with HTTP"),
            Self::Tls => f.write_str("it answered with TLS"),
            Self::Length(len) => write!(f, "it announced a response of {len} bytes"),
            Self::FirstAnswer => f.write_str("its first response is malformed"),
        }
    }
}

fn colon(detail: &Option<String>) -> String {
    detail.as_ref().map(|text| format!(": {}", text.trim_end_matches('.'))).unwrap_or_default()
}

fn listed(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn joined(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// The exit code that tells a script what kind of failure this is.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::UnsupportedByKafkaCrate { .. } | Self::OldBroker(_) => EXIT_USAGE,
            Self::ReaderGone => EXIT_OK,
            _ => EXIT_FAILED,
        }
    }

    /// Whether the same attempt may succeed later, perhaps at another broker.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kafka { code, .. } => code.is_transient(),
            Self::During { source, .. } => source.is_transient(),
            Self::AdvertisedListener { others_reached, .. } => *others_reached,
            Self::Registry(error) => error.why.is_transient(),
            Self::Unreachable { .. }
            | Self::Unresolved { .. }
            | Self::KafkaCrate(_)
            | Self::NoBootstrap(_)
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::Malformed { .. }
            | Self::UnknownBroker(_)
            | Self::NoBrokers(_)
            | Self::NotTaken
            | Self::TokenEndpoint { .. } => true,
            _ => false,
        }
    }

    /// Whether a connection failed, so that nobody knows what a broker did with the request.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Kafka { .. } => false,
            Self::During { source, .. } => source.is_connection(),
            other => other.is_transient(),
        }
    }

    /// Names what was attempted when this came in the way; a broker's own error names it already.
    pub fn during(self, action: Action, subject: Subject) -> Self {
        match self {
            own @ (Self::Kafka { .. } | Self::During { .. } | Self::Stopped) => own,
            source => Self::During { action, subject, source: Box::new(source) },
        }
    }

    /// A short name to count it by: Kafka's own, or the kind.
    pub fn name(&self) -> String {
        match self {
            Self::Kafka { code, .. } => return code.name(),
            Self::Undelivered { last: source, .. }
            | Self::Unread { last: source, .. }
            | Self::CommitUnknown { last: source, .. }
            | Self::During { source, .. } => return source.name(),
            Self::Usage(_) | Self::UnsupportedByKafkaCrate { .. } | Self::Refused(_) => "refused",
            Self::Security(_) => "security",
            Self::Input { .. } => "input",
            Self::Io(_) | Self::ReaderGone => "I/O",
            Self::NotSent => "not sent",
            Self::Stopped => "stopped",
            Self::Corrupt { .. } | Self::Undecodable { .. } => "corrupt",
            Self::Registry(_) => "schema registry",
            Self::Group { .. } | Self::Stalled(_) => "group",
            Self::Aborted(_) => "aborted",
            _ => "network",
        }
        .to_owned()
    }

    /// Kafka's error, when a broker refused.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Kafka { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// A broker's error without a text of its own.
    pub fn kafka(action: Action, subject: impl Into<Subject>, code: ResponseError) -> Self {
        Self::Kafka { action, subject: subject.into(), code, detail: None }
    }

    /// A record of `partition` that does not decode.
    pub fn corrupt(partition: TopicPartition, malformed: &Malformed) -> Self {
        Self::Corrupt { partition, offset: malformed.base_offset, why: malformed.to_string() }
    }

    /// An operating system's error on `what`.
    pub fn io(what: impl fmt::Display, source: &std::io::Error) -> Self {
        Self::Io(format!("{what}: {}", describe_io(source)))
    }
}

/// The system's message without Rust's "(os error N)".
pub fn describe_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The one of `known` most like `typed`, when one is like it at all.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// `"; did you mean X?"`, or nothing.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_failed_on_what_and_why() {
        let text = |action, subject: Subject, code, detail: Option<&str>| {
            Error::Kafka { action, subject, code, detail: detail.map(str::to_owned) }.to_string()
        };
        let hosted = Some("This server does not host this topic-partition.");
        assert_eq!(
            text(Action::LookUp, Subject::Topic("orders".into()), ResponseError::UnknownTopicOrPartition, hosted),
            "topic orders: UNKNOWN_TOPIC_OR_PARTITION: This server does not host this topic-partition"
        );
        let partition = TopicPartition::new("orders", 3);
        let subject = Subject::GroupPartitions { group: "g".into(), partitions: vec![(partition, 7)] };
        assert_eq!(
            text(Action::CommitOffsets, subject, ResponseError::NotCoordinator, None),
            "committing orders/3@7 for group g: NOT_COORDINATOR"
        );
    }
}
