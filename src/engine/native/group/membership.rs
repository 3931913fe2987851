//! What both group protocols have in common: the events of a membership, and their effects. The state machines know
//! no sockets and no clock.

use super::super::net::Backoff;
use super::assignors::Subscriber;
use crate::engine::Assignor;
use crate::error::Error;
use crate::record::TopicPartition;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many partitions each topic has.
pub(in super::super) type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// The configuration of a member of either protocol.
#[derive(Debug, Clone)]
pub(super) struct MemberConfig {
    pub(super) group: String,
    pub(super) instance_id: Option<String>,
    /// How long the coordinator waits for a member's heartbeat.
    pub(super) session_timeout: Duration,
    /// How long the command may take to release partitions, and how long a coordinator may be out of reach before the
    /// member takes its partitions for lost.
    pub(super) max_poll_interval: Duration,
    /// How often to send heartbeats, unless the coordinator says so itself (KIP-848).
    pub(super) heartbeat_interval: Duration,
    pub(super) retry: Duration,
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The topics of the subscription as they are now; the first of these begins the membership.
    Topics(PartitionCounts),
    /// A new member was given an ID to join with (KIP-394).
    MemberIdGiven(String),
    /// JoinGroup was answered (classic).
    Joined(Result<Joined, Error>),
    /// The leader knows the partition counts of all members' topics (classic).
    Counted(Result<PartitionCounts, Error>),
    /// The leader knows what to assign to each member, encoded, or why that failed (classic).
    AssignmentComputed(Result<Vec<(String, Bytes)>, String>),
    /// SyncGroup was answered (classic).
    Synced(Result<BTreeSet<TopicPartition>, Error>),
    /// A heartbeat was answered.
    Heartbeat(Result<HeartbeatAnswer, Error>),
    /// The command has released the revoked partitions.
    Released,
    /// A commit was refused, because the group rebalances or the member's epoch has changed.
    CommitRefused,
    /// The command takes no records any more.
    Stalled,
    /// It does again.
    Resumed,
    /// The member is to leave.
    Leave,
    /// A moment that the machine asked for with [`Membership::due`].
    Due,
}

/// The coordinator's answer to a join.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) member_id: String,
    pub(super) generation: i32,
    pub(super) assignor: Assignor,
    pub(super) role: Role,
}

/// What a member is in a generation.
#[derive(Debug, Clone)]
pub(super) enum Role {
    Follower,
    /// It assigns the partitions to these.
    Leader(Vec<Subscriber>),
    /// A static member that led this generation before: what it assigned then stands (KIP-814).
    ReturnedLeader {
        /// Whether every partition is assigned: some may have been added while the member was away.
        is_complete: bool,
    },
}

/// The coordinator's answer to a heartbeat; the classic protocol's is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct HeartbeatAnswer {
    pub(super) epoch: i32,
    /// How often the coordinator expects heartbeats (KIP-848).
    pub(super) interval: Option<Duration>,
    /// The target assignment, when it has changed (KIP-848).
    pub(super) assignment: Option<BTreeSet<TopicPartition>>,
}

/// What a heartbeat of KIP-848 contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// All that is known of the member: its state or the coordinator's may be behind.
    Full,
    /// That the member is alive.
    Alive,
}

/// Something to be done.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Send JoinGroup.
    Join,
    /// Look up how many partitions these topics have.
    CountPartitions(BTreeSet<Arc<str>>),
    /// Assign the partitions to the members, which may take a while; [`Event::AssignmentComputed`] follows.
    ComputeAssignment { assignor: Assignor, members: Vec<Subscriber>, counts: PartitionCounts },
    /// Send SyncGroup with these assignments.
    Sync(Vec<(String, Bytes)>),
    /// Send a heartbeat.
    Heartbeat(Content),
    /// Tell the coordinator that the member of this ID leaves.
    Leave(String),
    /// These partitions are assigned to the member from now on.
    Assign(BTreeSet<TopicPartition>),
    /// The member has to release these; [`Event::Released`] follows.
    Revoke(BTreeSet<TopicPartition>),
    /// The member has lost these: others may read them already.
    Lose(BTreeSet<TopicPartition>, Error),
    /// Look the coordinator up again before the next request.
    ForgetCoordinator,
    /// The coordinator does not serve the group now: requests to it are retried.
    Retry(Error),
    /// The membership cannot continue.
    Fail(Error),
    /// The member has left.
    Left,
}

/// A membership as a state machine.
pub(super) trait Membership: Send {
    /// Returns what is to be done about `event`.
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect>;

    /// When to send [`Event::Due`].
    fn due(&self) -> Option<Instant>;

    /// Member ID, and generation or epoch, as commits need them.
    fn identity(&self) -> (String, i32);

    /// The partitions that are assigned to the member and not revoked.
    fn owned(&self) -> &BTreeSet<TopicPartition>;

    /// The topics that the member subscribes to.
    fn subscribed(&self) -> BTreeSet<Arc<str>>;
}

/// How soon something is repeated that did not lead anywhere.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    repeats: u32,
}

impl Pace {
    /// So many repetitions that the protocol asks for need not wait.
    const AT_ONCE: u32 = 5;

    pub(super) fn new(first: Duration) -> Self {
        Self { backoff: Backoff::new(first), repeats: 0 }
    }

    /// The wait before a failed request is repeated: longer each time.
    pub(super) fn backoff(&mut self) -> Duration {
        self.backoff.next_wait()
    }

    /// The wait before a request that an answer asks for, like a new join: none at first, then as for a failure.
    pub(super) fn repeat(&mut self) -> Duration {
        self.repeats = self.repeats.saturating_add(1);
        if self.repeats <= Self::AT_ONCE { Duration::ZERO } else { self.backoff() }
    }

    /// Something was achieved.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.repeats = 0;
    }
}

/// Whether to look for the coordinator elsewhere and try again.
pub(super) fn is_coordinators(error: &Error) -> bool {
    match error.code() {
        None => error.is_connection(),
        Some(error) => matches!(
            error,
            E::CoordinatorLoadInProgress
                | E::CoordinatorNotAvailable
                | E::NotCoordinator
                | E::RequestTimedOut
                | E::UnknownServerError
                | E::UnknownTopicId
        ),
    }
}

#[cfg(test)]
mod tests;
