//! What a consumer is asked for, does and tells.

use super::{Assignor, Isolation, Named};
use crate::error::{Error, Result};
use crate::record::{Batch, Offset, PartitionId, Position, Timestamp, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record there is.
    Beginning,
    /// Only what comes from now on.
    End,
    /// The group's committed offset.
    Stored,
    /// An offset.
    At(Offset),
    /// The last so many of each partition.
    Last(u64),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

/// Which topics are read.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These.
    Topics(Vec<String>),
    /// All whose whole name matches, also those that are made later.
    Pattern(regex_lite::Regex),
}

impl Subscription {
    /// Whether the topic is one of them; Kafka's own are none of a pattern's.
    pub fn wants(&self, topic: &str, internal: bool) -> bool {
        match self {
            Self::Topics(names) => names.iter().any(|name| name == topic),
            Self::Pattern(pattern) => !internal && pattern.is_match(topic),
        }
    }
}

/// How members of a group agree on who reads what.
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
    /// Its name.
    pub id: String,
    /// Whether to be no member of it, only to read and commit its offsets.
    pub standalone: bool,
    /// How members agree.
    pub protocol: GroupProtocol,
    /// The flag that the newer protocol has no place for, if one was given.
    pub classic_only_flag: Option<&'static str>,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// A member silent this long is thought dead.
    pub session_timeout: Duration,
    /// How often a member says that it lives.
    pub heartbeat_interval: Duration,
    /// A member whose reader takes nothing for this long leaves.
    pub max_poll_interval: Duration,
    /// Records that may be written and not committed while the coordinator is out of reach.
    pub max_commit_lead: u64,
    /// The assignors of the classic protocol, the preferred one first.
    pub assignors: Vec<Assignor>,
    /// How the coordinator is to share out.
    pub server_assignor: Option<String>,
}

/// What a consumer is asked for.
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
    /// Whether each partition ends where it ended at the start.
    pub stop_at_end: bool,
    /// The group whose offsets are read and committed.
    pub group: Option<GroupConfig>,
    /// Where this consumer stands: the nearest replica is read (KIP-392).
    pub rack: Option<String>,
    /// How often to look for new topics and partitions.
    pub refresh: Duration,
    /// Which records of transactions are shown.
    pub isolation: Isolation,
    /// Bytes of records fetched ahead of what was handled.
    pub fetch_ahead: usize,
    /// Bytes one fetch asks for, in all and of one partition.
    pub fetch_bytes: usize,
    /// How long a broker may hold a fetch when there is nothing.
    pub fetch_wait: Duration,
    /// Bytes that a broker waits for, for as long as that.
    pub fetch_min_bytes: usize,
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
    /// Records.
    Batch(Batch),
    /// Every partition is at the end it had at the start.
    End,
    /// Nothing until the deadline.
    Timeout,
    /// A signal came.
    Stopped,
    /// The group gave these to this member, which begins there.
    Assigned(Offsets),
    /// The group wants these for others: they are let go at the next call of [`Consumer::next`].
    Revoking(Vec<TopicPartition>),
    /// The member has these no more, for this reason: nothing can be committed for them.
    Lost(Vec<TopicPartition>, Error),
}

/// Reads records; remembers what was handled.
pub trait Consumer {
    /// The next event, or [`Event::Timeout`] at `deadline`. Calling it again says that all before is handled.
    ///
    /// # Errors
    /// Reading cannot go on: a partition is gone, denied or corrupt, or the cluster out of reach too long.
    fn next(&mut self, deadline: Instant) -> Result<Event>;

    /// Commits `written` for the group. Returns what of it is committed: the rest is retried in the background, was
    /// refused with a warning, or is no longer this member's to commit.
    ///
    /// # Errors
    /// No commit can succeed any more; with [`CommitMode::Final`], the commit failed, retries included.
    fn commit(&mut self, written: &Offsets, mode: CommitMode) -> Result<Offsets>;

    /// Whether partitions are to be let go: who is at work on a batch should soon call [`Consumer::next`], and may go
    /// on with the batch afterwards. Asking says that the work moves.
    fn poll_news(&self) -> bool {
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
