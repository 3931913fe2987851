//! What both group protocols have in common: what happens to a member, and what it then wants done. Their state
//! machines know no sockets and no clock.

use super::assignors::Subscriber;
use crate::error::Error;
use crate::record::TopicPartition;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many partitions each topic has.
pub(super) type Counts = BTreeMap<Arc<str>, i32>;

/// What a member of any protocol is told at its start.
#[derive(Debug, Clone)]
pub(super) struct MemberConfig {
    pub(super) group: String,
    pub(super) instance_id: Option<String>,
    /// A member silent this long is thought dead.
    pub(super) session: Duration,
    /// How long the command may take to let partitions go.
    pub(super) rebalance: Duration,
    pub(super) beat_every: Duration,
    pub(super) retry: Duration,
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The topics that are wanted, as they are now; the first of these begins the membership.
    Wanted(Counts),
    /// A new member was given an id to join with (KIP-394).
    Named(String),
    /// The join was answered (classic).
    Joined(Result<Joined, Error>),
    /// The leader has learned of all topics that members want (classic).
    Counted(Result<Counts, Error>),
    /// The assignment came (classic).
    Synced(Result<BTreeSet<TopicPartition>, Error>),
    /// A heartbeat was answered; with an assignment, when KIP-848's coordinator had one.
    Beat(Result<Beat, Error>),
    /// The command has let go of what it was asked to.
    Released,
    /// The command takes no records any more.
    Stalled,
    /// It does again.
    Moving,
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
    pub(super) assignor: super::Assignor,
    /// Of the leader only: everybody's subscription.
    pub(super) members: Option<Vec<Subscriber>>,
}

/// The coordinator's answer to a heartbeat.
#[derive(Debug, Clone, Default)]
pub(super) struct Beat {
    pub(super) epoch: i32,
    pub(super) assignment: Option<BTreeSet<TopicPartition>>,
}

/// Something to be done.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Send JoinGroup.
    Join,
    /// Learn how many partitions these topics have.
    Count(BTreeSet<Arc<str>>),
    /// Send SyncGroup with these assignments.
    Sync(Vec<(String, Bytes)>),
    /// Send a heartbeat; with all that is known of the member, or what has changed only (KIP-848).
    Beat { full: bool },
    /// Tell the coordinator that the member of this id leaves; nobody waits for the answer.
    Leave(String),
    /// The member has these from now on.
    Assign(BTreeSet<TopicPartition>),
    /// The member is to let go of these, and say so.
    Revoke(BTreeSet<TopicPartition>),
    /// The member has these no more: others may read them already.
    Lose(BTreeSet<TopicPartition>, Error),
    /// Look the coordinator up anew before the next request.
    Forget,
    /// The membership cannot go on.
    Fail(Error),
    /// The member has left.
    Left,
}

/// A membership as a state machine.
pub(super) trait Membership: Send {
    /// What is to be done about `event`.
    fn handle(&mut self, event: Event, now: Instant) -> Vec<Action>;

    /// When to send [`Event::Due`].
    fn due(&self) -> Option<Instant>;

    /// Member id, and generation or epoch, as commits need them.
    fn identity(&self) -> (String, i32);

    /// What the member has.
    fn owned(&self) -> &BTreeSet<TopicPartition>;

    /// What it wants.
    fn subscribed(&self) -> BTreeSet<Arc<str>>;
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
