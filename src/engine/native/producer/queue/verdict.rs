//! What a broker's refusal of a batch means: the one place that says which refusals precede the append.

use crate::engine::native::mutation::mutated;
use crate::error::ErrorCode;
use kafka_protocol::error::ResponseError;

/// What a refused batch needs.
pub(super) enum Verdict {
    /// Nothing: the broker has it already, and this was a repeat.
    Written,
    /// Another attempt, perhaps at another broker.
    Retry,
    /// Its sequence number is not the one that the broker expects.
    Sequence,
    /// To be sent in parts: a part of its records is bad, or all of them are too many.
    Part,
    /// It is refused for good.
    Permanent,
}

/// The verdict on a batch whose attempt before was refused with `before`.
pub(super) fn verdict(code: ResponseError, before: Option<ResponseError>) -> Verdict {
    use ResponseError as E;
    match code {
        // A checksum that was damaged on the way is right the next time. Before Kafka 2.4 this also refuses a record
        // without a key in a compacted topic, however often it is sent.
        E::CorruptMessage if before == Some(E::CorruptMessage) => Verdict::Part,
        E::DuplicateSequenceNumber => Verdict::Written,
        E::InvalidProducerEpoch | E::ProducerFenced if mutated!(FenceIgnored) => Verdict::Written,
        E::OutOfOrderSequenceNumber | E::UnknownProducerId => Verdict::Sequence,
        E::MessageTooLarge | E::RecordListTooLarge | E::InvalidRecord | E::InvalidTimestamp => Verdict::Part,
        _ if code.is_transient() => Verdict::Retry,
        _ => Verdict::Permanent,
    }
}

/// Whether a broker that answers with `code` has not appended the batch. What is not listed may be answered after
/// the append, as these are: NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR and (before Kafka 2.4, of a replica that
/// was moved away) UNKNOWN_TOPIC_OR_PARTITION, when leadership or log directory is lost while the batch waits for
/// its replicas (DelayedProduce); REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND; UNKNOWN_SERVER_ERROR and
/// whatever else an exception in the broker turns into.
pub(in crate::engine) fn precedes_append(code: ResponseError) -> bool {
    use ResponseError as E;
    match code {
        E::NotLeaderOrFollower if mutated!(RefusalIsCertain) => true,
        // Checked of the request, before any log sees it (KafkaApis.handleProduceRequest).
        E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed
        | E::InvalidRequiredAcks
        | E::InvalidRequest
        | E::UnsupportedVersion
        | E::UnsupportedForMessageFormat
        | E::UnsupportedCompressionType
        | E::InvalidTopicException
        | E::UnknownTopicId => true,
        // Too few replicas are in sync to begin with (Partition.appendRecordsToLeader).
        E::NotEnoughReplicas => true,
        // The batch is validated as a whole before it is written (LogValidator, UnifiedLog.append).
        E::CorruptMessage | E::InvalidRecord | E::InvalidTimestamp | E::MessageTooLarge | E::RecordListTooLarge => true,
        // So is its producer (ProducerAppendInfo).
        E::OutOfOrderSequenceNumber
        | E::UnknownProducerId
        | E::InvalidProducerEpoch
        | E::ProducerFenced
        | E::InvalidProducerIdMapping
        | E::InvalidTxnState => true,
        // The transaction is verified with its coordinator first (KIP-890).
        E::ConcurrentTransactions
        | E::TransactionAbortable
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator => true,
        _ => false,
    }
}
