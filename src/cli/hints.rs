//! What a user can do about an error, in words of the command line: one match on typed errors.

use crate::error::{Action, Disconnect, Error, Foreign, RegistryFailure, Subject};
use hyper::StatusCode;
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
        Error::Kafka { subject: Subject::Producer, code: E::ClusterAuthorizationFailed, .. }
        | Error::Kafka { action: Action::Produce, code: E::ClusterAuthorizationFailed, .. } => {
            "the brokers deny IDEMPOTENT_WRITE on the cluster; use --idempotent false"
        }
        Error::Kafka { subject: Subject::User(_), code: E::ResourceNotFound, .. } => {
            "the user has no SCRAM credentials; see `kpipe cluster users list`"
        }
        // Its detail says what is wrong with the name.
        Error::Kafka { code: E::InvalidTopicException, detail: Some(_), .. } => return None,
        Error::Kafka { code, .. } => return of_code(*code),
        Error::Undelivered { last, .. } => return hint(last),
        Error::During { source, .. } => return hint(source),
        Error::Aborted(why) => return hint(why),
        Error::UnsupportedByKafkaCrate { .. } => "use --engine native, which supports it on Kafka 0.11 and later",
        Error::OldBroker(_) => "the native engine requires Kafka 0.11 or later; use --engine kafka",
        Error::NoBootstrap(failures) => match failures.iter().find_map(hint) {
            Some(hint) => hint,
            None if failures.iter().any(|failure| matches!(failure, Error::Unreachable { .. })) => {
                "is Kafka running there? set the address with -b"
            }
            None => return None,
        },
        Error::UnknownBroker(_) => "see `kpipe cluster brokers`",
        Error::NotKafka { found: Foreign::Tls, .. } => "this listener needs security.protocol=SSL or SASL_SSL",
        Error::Disconnected { why: Disconnect::AfterApiVersions, .. } => {
            "a listener that requires SASL does that: set security.protocol and sasl.mechanism"
        }
        Error::Disconnected { why: Disconnect::BeforeFirstAnswer, .. } => {
            "a broker before Kafka 0.10 does that: set --engine kafka if it is one"
        }
        Error::Disconnected { why: Disconnect::DuringHandshake(_), .. } => {
            "a listener without TLS does that: check security.protocol"
        }
        Error::Stalled(_) => "see --max-poll-interval",
        Error::Registry(error) => return of_registry(&error.why),
        _ => return None,
    })
}

fn of_registry(why: &RegistryFailure) -> Option<&'static str> {
    Some(match (why, why.code()) {
        (_, Some(RegistryFailure::NO_SUBJECT)) => "see `kpipe schemas list`",
        (_, Some(RegistryFailure::NO_VERSION)) => "see `kpipe schemas versions`",
        (_, Some(RegistryFailure::SUBJECT_DELETED | RegistryFailure::VERSION_DELETED)) => {
            "it is soft-deleted; --permanent removes it"
        }
        (_, Some(RegistryFailure::SUBJECT_NOT_DELETED | RegistryFailure::VERSION_NOT_DELETED)) => {
            "delete it without --permanent first"
        }
        _ => match why.status()? {
            StatusCode::UNAUTHORIZED => "check basic.auth.user.info or bearer.auth.token",
            StatusCode::FORBIDDEN => "the registry denies it to this user",
            StatusCode::CONFLICT => "see `kpipe schemas check`",
            StatusCode::NOT_FOUND | StatusCode::OK => {
                "is that a schema registry? check schema.registry.url, which for Apicurio Registry ends with /apis/ccompat/v7"
            }
            _ => return None,
        },
    })
}

fn of_code(code: E) -> Option<&'static str> {
    Some(match code {
        E::UnknownTopicOrPartition => {
            "check the name with `kpipe topics list`, or create it with `kpipe topics create`"
        }
        E::MessageTooLarge | E::RecordListTooLarge => "raise the topic's max.message.bytes, or send smaller records",
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => {
            "fewer in-sync replicas than min.insync.replicas: see `kpipe topics describe`"
        }
        E::LeaderNotAvailable => "the partition has no leader; see `kpipe topics describe`",
        E::InvalidTopicException => "a topic name has 1 to 249 characters of a-z A-Z 0-9 . _ -",
        E::TopicAlreadyExists => "see it with `kpipe topics describe`",
        E::InvalidReplicationFactor => {
            "the replication factor exceeds the number of brokers; see `kpipe cluster brokers`"
        }
        E::UnknownMemberId | E::IllegalGeneration => {
            "the group has active members: join it without -p, stop them, or use another group"
        }
        E::FencedInstanceId => "another member with this --instance-id took over",
        E::UnreleasedInstanceId => "another member with this --instance-id is still active: stop it, or use another ID",
        E::NonEmptyGroup | E::GroupSubscribedToTopic => "stop its members first",
        E::GroupIdNotFound => "see `kpipe groups list`",
        E::InconsistentGroupProtocol => "the group's members use a different assignor; see --assignor",
        E::InvalidSessionTimeout => "see the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms",
        E::UnsupportedAssignor => "the brokers support uniform and range",
        E::GroupMaxSizeReached => "the group has reached the brokers' group.max.size",
        E::InvalidProducerEpoch | E::ProducerFenced => {
            "another producer with the same transactional ID took over, or the transaction took longer than \
             --transaction-timeout; it is aborted"
        }
        E::InvalidTransactionTimeout => "exceeds the brokers' transaction.max.timeout.ms",
        E::InvalidTxnState => "the transaction was aborted, perhaps by its timeout: see --transaction-timeout",
        E::UnsupportedForMessageFormat => {
            "the topic uses a message format from before 0.11, without idempotence and headers; use --idempotent false"
        }
        E::TopicDeletionDisabled => "the brokers have delete.topic.enable=false",
        E::PolicyViolation => "a policy of the brokers rejects it",
        E::InvalidTimestamp => "the timestamp is further from now than the topic allows",
        E::UnsupportedCompressionType => "the brokers or the topic do not support this codec; choose another with -z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_collides_is_not_told_about_letters() {
        let error = |detail: Option<&str>| Error::Kafka {
            action: Action::CreateTopic,
            subject: Subject::topic_named("a.b"),
            code: E::InvalidTopicException,
            detail: detail.map(str::to_owned),
        };
        assert_eq!(hint(&error(Some("Topic 'a.b' collides with existing topics: a_b"))), None);
        assert!(hint(&error(None)).is_some_and(|hint| hint.contains("249 characters")));
    }
}
