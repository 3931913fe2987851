//! Bounds of what clients can have the cluster hold, and of the requests in work: whatever bytes come, no more memory
//! than this.

use std::time::Duration;

/// Kafka's `socket.request.max.bytes`: the longest produce request.
pub(super) const LONGEST_PRODUCE: usize = 100 << 20;
/// The longest request of any other kind. Names take a hundred times their bytes once they are decoded.
pub(super) const LONGEST_REQUEST: usize = 2 << 20;
/// Topics and partitions that one produce request may name.
pub(super) const MOST_PRODUCED: usize = 100_000;
/// What a byte of a request that is not a produce request may take once it is decoded and answered.
pub(super) const DECODED_BYTES: usize = 256;
/// Bytes of the requests in work, decoded, over all connections, as Kafka's `queued.max.request.bytes`; beyond, nothing
/// more is read.
pub(super) const MOST_REQUEST_BYTES: usize = 512 << 20;
/// How long a request may take from its first byte to its last.
pub(super) const LONGEST_TRANSFER: Duration = Duration::from_secs(30);

/// Kafka's `fetch.max.bytes` of brokers.
pub(super) const MOST_FETCHED: usize = 55 << 20;
/// Bytes of records in the answers on their way; beyond, answers carry one batch.
pub(super) const MOST_FETCHED_IN_ALL: usize = 256 << 20;

/// Partitions of all topics.
pub(super) const MOST_PARTITIONS: usize = 100_000;
/// Bytes of all topics' configs.
pub(super) const MOST_CONFIG_BYTES: usize = 16 << 20;
/// What a batch takes beside its bytes: its places in the log and in the order of all, its producer's state.
pub(super) const BATCH_OVERHEAD: usize = 256;

/// What a batch may unpack to where its records are looked into; one that unpacks to more counts as unreadable.
pub(super) const MOST_UNPACKED: usize = 64 << 20;
/// Refused records that an answer names.
pub(super) const MOST_RECORD_ERRORS: usize = 100;

/// ACLs of a cluster.
pub(super) const MOST_ACLS: usize = 10_000;

pub(super) const MOST_GROUPS: usize = 10_000;
/// Members of a group, and member IDs given out, as Kafka's `group.max.size`.
pub(super) const MOST_MEMBERS: usize = 1_000;
/// Assignors that a member may offer.
pub(super) const MOST_PROTOCOLS: usize = 64;
/// What a member or a committed offset takes beside its bytes.
pub(super) const ENTRY_OVERHEAD: usize = 256;
/// Kafka's `offset.metadata.max.bytes`.
pub(super) const LONGEST_OFFSET_METADATA: usize = 4096;
/// Kafka's `group.max.session.timeout.ms`.
pub(super) const LONGEST_SESSION: Duration = Duration::from_secs(30 * 60);

pub(super) const MOST_TRANSACTIONAL_IDS: usize = 10_000;
/// Bytes of all transactional IDs with the partitions and offsets of their transactions.
pub(super) const MOST_TRANSACTION_BYTES: usize = 64 << 20;
/// Kafka's `transaction.max.timeout.ms`.
pub(super) const LONGEST_TRANSACTION: Duration = Duration::from_secs(15 * 60);
