//! The errors a user sees: what failed and where, Kafka's own name for it, what to do, and the exit code.

use kafka_protocol::error::ResponseError;
use std::fmt;

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
    /// The command line or a configuration is wrong, or asks what the engine cannot do.
    #[error("{0}")]
    Usage(String),
    /// A broker answered with an error.
    #[error("{what}: {code}{}{}", detail(.message), code.hint_text())]
    Kafka {
        /// What was attempted, with topic, partition and broker.
        what: String,
        /// Kafka's error.
        code: Code,
        /// What the broker added, when it did.
        message: Option<String>,
    },
    /// No broker, or no usable answer from one.
    #[error("{0}")]
    Network(String),
    /// TLS or SASL was refused: trying again does not help.
    #[error("{0}")]
    Security(String),
    /// A record of the input is malformed.
    #[error("{source_name}, line {line}{}: {what}", .byte.map(|b| format!(", byte {b}")).unwrap_or_default())]
    Input {
        /// The file's name, or "stdin".
        source_name: String,
        /// Which record, from 1.
        line: u64,
        /// Where in it, from 1, when that is known.
        byte: Option<usize>,
        /// What is wrong with it.
        what: String,
    },
    /// A file, stdin or stdout failed.
    #[error("{0}")]
    Io(String),
    /// The reader of stdout has gone: no failure, but nothing more can be written.
    #[error("the reader of stdout has gone")]
    ReaderGone,
    /// The run ended before a record was sent.
    #[error("not sent: the run ended before")]
    NotSent,
    /// A signal ended the work before it was done.
    #[error("stopped by a signal")]
    Stopped,
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map(|m| format!(": {}", m.trim_end_matches('.'))).unwrap_or_default()
}

impl Error {
    /// The exit code that tells a script what kind of failure this is.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::ReaderGone => EXIT_OK,
            _ => EXIT_FAILED,
        }
    }

    /// Whether the same attempt may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Kafka { code, .. } => code.is_retriable(),
            Self::Network(_) => true,
            _ => false,
        }
    }

    /// A short name to count it by: Kafka's own, or the kind.
    pub fn name(&self) -> String {
        match self {
            Self::Kafka { code, .. } => code.name(),
            Self::Usage(_) => "refused".to_owned(),
            Self::Network(_) => "network".to_owned(),
            Self::Security(_) => "security".to_owned(),
            Self::Input { .. } => "input".to_owned(),
            Self::Io(_) | Self::ReaderGone => "I/O".to_owned(),
            Self::NotSent => "not sent".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// A broker's error, with what was attempted.
    pub fn kafka(what: impl Into<String>, code: i16) -> Self {
        Self::Kafka { what: what.into(), code: Code(code), message: None }
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

/// A Kafka error code (<https://kafka.apache.org/protocol#protocol_error_codes>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i16);

impl Code {
    /// The code as the protocol library's enum; `None` for 0.
    pub fn response_error(self) -> Option<ResponseError> {
        ResponseError::try_from_code(self.0)
    }

    /// Whether the same request may succeed later, perhaps at another broker.
    pub fn is_retriable(self) -> bool {
        // The transaction before is still being ended: Kafka calls that retriable, the schemas do not.
        self.response_error().is_some_and(|e| e.is_retriable() || e == ResponseError::ConcurrentTransactions)
    }

    /// Whether an ACL is missing.
    pub fn is_denied(self) -> bool {
        use ResponseError as E;
        matches!(
            self.response_error(),
            Some(
                E::TopicAuthorizationFailed
                    | E::GroupAuthorizationFailed
                    | E::TransactionalIdAuthorizationFailed
                    | E::ClusterAuthorizationFailed
            )
        )
    }

    /// Whether the protocol has such a code.
    pub fn is_known(self) -> bool {
        !matches!(self.response_error(), Some(ResponseError::Unknown(_)))
    }

    /// Kafka's own name, as its protocol page spells it.
    pub fn name(self) -> String {
        match self.response_error() {
            None => "NONE".to_owned(),
            Some(ResponseError::Unknown(code)) => format!("error code {code}"),
            Some(known) => screaming(&format!("{known:?}")),
        }
    }

    /// What the reader can do about it.
    pub fn hint(self) -> Option<&'static str> {
        use ResponseError as E;
        Some(match self.response_error()? {
            E::UnknownTopicOrPartition => {
                "check the name with `kpipe topics list`, or make it with `kpipe topics create`"
            }
            E::MessageTooLarge | E::RecordListTooLarge => {
                "raise the topic's max.message.bytes, or send smaller records"
            }
            E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => {
                "fewer in-sync replicas than min.insync.replicas: see `kpipe topics describe`"
            }
            E::LeaderNotAvailable => "the partition has no leader now: see `kpipe topics describe`",
            E::InvalidTopicException => "a name has 1 to 249 of a-z A-Z 0-9 . _ -",
            E::TopicAlreadyExists => "see it with `kpipe topics describe`",
            E::InvalidReplicationFactor => "no more replicas than brokers: see `kpipe topics list`",
            E::UnknownMemberId | E::IllegalGeneration => {
                "the group has members of its own: join it without -p, or stop them, or use another group"
            }
            E::FencedInstanceId => "another member with this --instance-id took over",
            E::UnreleasedInstanceId => "another member with this --instance-id is still there: stop it, or use another",
            E::NonEmptyGroup | E::GroupSubscribedToTopic => "stop its members first",
            E::GroupIdNotFound => "see `kpipe groups list`",
            E::InconsistentGroupProtocol => "the group's members share out in another way: see --assignor",
            E::InvalidSessionTimeout => {
                "see the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
            }
            E::UnsupportedAssignor => "the brokers have uniform and range",
            E::GroupMaxSizeReached => "the brokers' group.max.size",
            E::InvalidProducerEpoch | E::ProducerFenced => {
                "another producer with the same transactional id took over; this one's transaction is aborted"
            }
            E::InvalidTransactionTimeout => "more than the brokers' transaction.max.timeout.ms",
            E::InvalidTxnState => "the transaction was aborted, perhaps by its timeout: see --transaction-timeout",
            E::UnsupportedForMessageFormat => {
                "the topic keeps a message format from before 0.11, which knows no idempotence and no headers: --idempotent false"
            }
            E::TopicDeletionDisabled => "the brokers run with delete.topic.enable=false",
            E::PolicyViolation => "a policy of the brokers forbids it",
            E::InvalidTimestamp => "the timestamp is further from now than the topic allows",
            E::UnsupportedCompressionType => "the brokers or the topic do not take this codec: choose another with -z",
            _ => return None,
        })
    }

    fn hint_text(self) -> String {
        self.hint().map(|hint| format!(" ({hint})")).unwrap_or_default()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// `NotLeaderOrFollower` → `NOT_LEADER_OR_FOLLOWER`.
fn screaming(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 8);
    for (index, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
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
    fn names_are_those_of_the_protocol_page() {
        assert_eq!(Code(6).name(), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(Code(45).name(), "OUT_OF_ORDER_SEQUENCE_NUMBER");
        assert_eq!(Code(17).name(), "INVALID_TOPIC_EXCEPTION");
        assert_eq!(Code(9999).name(), "error code 9999");
    }

    #[test]
    fn an_error_names_what_failed_and_what_to_do() {
        let error = Error::Kafka {
            what: "topic orders".into(),
            code: Code(3),
            message: Some("This server does not host this topic-partition.".into()),
        };
        let text = error.to_string();
        assert!(text.starts_with("topic orders: UNKNOWN_TOPIC_OR_PARTITION: This server"), "{text}");
        assert!(text.contains("kpipe topics list"), "{text}");
    }
}
