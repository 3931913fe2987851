//! What a reader can do about an error, in words of the command line.

use crate::error::{Action, Disconnect, Error, Foreign};
use kafka_protocol::error::ResponseError as E;
use std::fmt;

/// An error, with what to do about it in parentheses behind it.
pub(super) struct WithHint<'a>(pub(super) &'a Error);

impl fmt::Display for WithHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        hint(self.0).map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// What to do about `error`.
pub(super) fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Kafka { action: Action::InitProducerId, code: E::ClusterAuthorizationFailed, .. } => {
            "IDEMPOTENT_WRITE is denied; --idempotent false works without it"
        }
        Error::Kafka { code, .. } => return of_code(*code),
        Error::Undelivered { last, .. } => return hint(last),
        Error::During { source, .. } => return hint(source),
        Error::Aborted(why) => return hint(why),
        Error::UnsupportedByKafkaCrate { .. } => "--engine native supports it, on Kafka 0.11 and newer",
        Error::OldBroker(_) => "the native engine needs Kafka 0.11 or newer; use --engine kafka",
        Error::NoBootstrap(failures) => match failures.iter().find_map(hint) {
            Some(hint) => hint,
            None if failures.iter().any(|failure| matches!(failure, Error::Unreachable { .. })) => {
                "is Kafka running there? -b sets the address"
            }
            None => return None,
        },
        Error::UnknownBroker(_) => "see `kpipe cluster brokers`",
        Error::NotKafka { found: Foreign::Tls, .. } => "this listener needs security.protocol=SSL or SASL_SSL",
        Error::Disconnected { why: Disconnect::AfterApiVersions, .. } => {
            "a listener that requires SASL does that: set security.protocol and sasl.mechanism"
        }
        Error::Disconnected { why: Disconnect::DuringHandshake(_), .. } => {
            "a listener without TLS does that: check security.protocol"
        }
        Error::Stalled(_) => "--max-poll-interval",
        _ => return None,
    })
}

fn of_code(code: E) -> Option<&'static str> {
    Some(match code {
        E::UnknownTopicOrPartition => {
            "check the name with `kpipe topics list`, or create the topic with `kpipe topics create`"
        }
        E::MessageTooLarge | E::RecordListTooLarge => "raise the topic's max.message.bytes, or send smaller records",
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
        E::UnreleasedInstanceId => "another member with this --instance-id still exists: stop it, or use another ID",
        E::NonEmptyGroup | E::GroupSubscribedToTopic => "stop its members first",
        E::GroupIdNotFound => "see `kpipe groups list`",
        E::InconsistentGroupProtocol => "the group's members use another assignor: see --assignor",
        E::InvalidSessionTimeout => "see the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms",
        E::UnsupportedAssignor => "the brokers have uniform and range",
        E::GroupMaxSizeReached => "the brokers' group.max.size",
        E::InvalidProducerEpoch | E::ProducerFenced => {
            "another producer with the same transactional ID took over; this one's transaction is aborted"
        }
        E::InvalidTransactionTimeout => "more than the brokers' transaction.max.timeout.ms",
        E::InvalidTxnState => "the transaction was aborted, perhaps by its timeout: see --transaction-timeout",
        E::UnsupportedForMessageFormat => {
            "the topic keeps a message format from before 0.11, without idempotence and headers: --idempotent false"
        }
        E::TopicDeletionDisabled => "the brokers run with delete.topic.enable=false",
        E::PolicyViolation => "a policy of the brokers forbids it",
        E::InvalidTimestamp => "the timestamp is further from now than the topic allows",
        E::UnsupportedCompressionType => "the brokers or the topic do not accept this codec: choose another with -z",
        _ => return None,
    })
}
