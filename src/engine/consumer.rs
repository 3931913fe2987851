//! The consumer's configuration, operations and events.

use super::{Named, Pattern};
use crate::error::{Error, Result};
use crate::record::{Batch, Isolation, Offset, PartitionId, Position, Timestamp, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// An assignor of the classic protocol, by the name that all clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Balanced and sticky; only partitions that move stop being consumed (KIP-429).
    CooperativeSticky,
    /// A contiguous range of each topic's partitions per member.
    Range,
    /// Partitions dealt to the members round-robin.
    RoundRobin,
    /// Balanced and sticky; all members stop consuming during a rebalance.
    Sticky,
}

impl Named for Assignor {
    const ALL: &'static [Self] = &[Self::CooperativeSticky, Self::Range, Self::RoundRobin, Self::Sticky];

    fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
        }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record of the log.
    Beginning,
    /// The first record produced from now on.
    End,
    /// The group's committed offset.
    Stored,
    /// An offset.
    At(Offset),
    /// The last N visible records of each partition.
    Last(u64),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("the beginning"),
            Self::End => f.write_str("the end"),
            Self::Stored => f.write_str("the committed offset"),
            Self::At(offset) => write!(f, "offset {offset}"),
            Self::Last(1) => f.write_str("the last record"),
            Self::Last(count) => write!(f, "the last {count} records"),
            Self::Time(time) => write!(f, "the first record at or after {time} ms"),
        }
    }
}

/// Where reading a partition ends, exclusively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The end offset at startup.
    AtStartup,
    /// An offset.
    At(Offset),
    /// Before the last N visible records of the partition.
    Last(u64),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

/// Which topics are read.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// Topics by name.
    Topics(Vec<String>),
    /// All topics whose full name matches, including those created later.
    Pattern(Pattern),
}

impl Subscription {
    /// Whether a topic belongs to it; a pattern matches no internal topics.
    pub fn wants(&self, topic: &str, internal: bool) -> bool {
        match self {
            Self::Topics(names) => names.iter().any(|name| name == topic),
            Self::Pattern(pattern) => !internal && pattern.is_match(topic),
        }
    }
}

/// How the members of a group agree on their assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// `Consumer` if the brokers support it and the group is not classic, otherwise `Classic`.
    #[default]
    Auto,
    /// Members compute the assignment: Kafka 0.9 and later.
    Classic,
    /// The coordinator computes the assignment: KIP-848, Kafka 4.0 and later.
    Consumer,
}

impl Named for GroupProtocol {
    const ALL: &'static [Self] = &[Self::Auto, Self::Classic, Self::Consumer];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A consumer's group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The group ID.
    pub id: String,
    /// Whether to read and commit its offsets without being a member.
    pub standalone: bool,
    /// The group protocol.
    pub protocol: GroupProtocol,
    /// The flag that was given and that only the classic protocol supports.
    pub classic_only_flag: Option<&'static str>,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// A member that sends no heartbeat for this long is removed from the group.
    pub session_timeout: Duration,
    /// How often a member sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// A member whose output accepts nothing for this long leaves the group.
    pub max_poll_interval: Duration,
    /// Records that may be written and not committed while the coordinator is out of reach.
    pub max_commit_lead: u64,
    /// Assignors of the classic protocol, in order of preference.
    pub assignors: Vec<Assignor>,
    /// The coordinator's assignor (KIP-848).
    pub server_assignor: Option<String>,
}

/// The configuration of a consumer.
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
    /// Where reading ends; `None` is never.
    pub end: Option<End>,
    /// Whether each partition ends at the end offset that it had at the start, if it does not end before.
    pub stop_at_end: bool,
    /// The group whose offsets are read and committed.
    pub group: Option<GroupConfig>,
    /// The rack of this consumer: the nearest replica is read (KIP-392).
    pub rack: Option<String>,
    /// How often metadata is refreshed: leaders, new topics and partitions.
    pub refresh: Duration,
    /// Which records of transactions are visible.
    pub isolation: Isolation,
    /// Bytes of records held in memory, and of one response.
    pub fetch_ahead: usize,
    /// Bytes of one partition in a response.
    pub fetch_bytes: usize,
    /// How long a broker may wait for records before it answers a fetch.
    pub fetch_wait: Duration,
    /// The fewest bytes of records that end that wait.
    pub fetch_min_bytes: usize,
    /// How many bytes one batch may unpack to.
    pub max_unpacked: usize,
    /// Whether batches are left packed where their headers tell how many records are visible ([`Batch::visible`]).
    pub counts_only: bool,
}

/// Positions by topic and partition.
pub type Offsets = BTreeMap<TopicPartition, Position>;

/// How long [`Consumer::commit`] waits for the group's coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMode {
    /// Not while the coordinator is out of reach: the commit is retried in the background, and [`Consumer::next`]
    /// returns no more batches once too much is written and not committed.
    Background,
    /// Partitions are revoked: as long as they are still this member's.
    BeforeRelease,
    /// Reading has ended: for four request timeouts; what is not committed by then is an error.
    Final,
}

/// What [`Consumer::next`] found.
#[derive(Debug)]
pub enum Event {
    /// Records; a batch without any moves the position.
    Batch(Batch),
    /// Every partition is at the end offset that it had at the start.
    End,
    /// No event until the deadline.
    Timeout,
    /// A signal was received.
    Stopped,
    /// These partitions are read from there on, for the group.
    Assigned(Offsets),
    /// The group revokes these: they are released at the next call of [`Consumer::next`].
    Revoking(Vec<TopicPartition>),
    /// The member has lost these, for this reason: nothing can be committed for them.
    Lost(Vec<TopicPartition>, Error),
    /// The topic of these was deleted: they are not read any more, and nothing can be committed for them.
    Deleted(Vec<TopicPartition>),
}

/// Reads records, and commits what was handled.
pub trait Consumer {
    /// The next event, or [`Event::Timeout`] at `deadline`. The caller has handled everything that was returned before.
    ///
    /// # Errors
    /// Reading cannot continue: a partition is gone, denied or corrupt, or the cluster is out of reach too long.
    fn next(&mut self, deadline: Instant) -> Result<Event>;

    /// Commits `written` for the group. Returns what of it is committed: the rest is retried in the background, was
    /// refused with a warning, or is no longer this member's to commit.
    ///
    /// # Errors
    /// No commit can succeed any more; with [`CommitMode::Final`], the commit failed, retries included.
    fn commit(&mut self, written: &Offsets, mode: CommitMode) -> Result<Offsets>;

    /// Notes how far the caller has written what [`Event::Lost`] names: where the group assigns it again, and was not set
    /// back meanwhile, reading resumes there.
    fn lost(&mut self, written: &Offsets) {
        let _ = written;
    }

    /// Whether a signal came or events about partitions wait: a caller at work on a batch should soon call
    /// [`Consumer::next`], and may continue with the batch afterwards. Asking also keeps the member from being taken for a stalled one.
    fn poll_news(&self) -> bool {
        false
    }

    /// Whether a partition cannot be read at the moment, so that silence does not mean that there are no records.
    fn is_impaired(&self) -> bool {
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
