//! What members say to a group, and what they are told.

use crate::record::Offset;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::time::Duration;

/// A request that waits for the group, as whoever asks on its behalf numbers it.
pub(in super::super) type Waiter = u64;

/// What a member says when it joins.
#[derive(Debug, Clone)]
pub(in super::super) struct Join {
    /// Empty for a new member.
    pub(in super::super) member_id: String,
    pub(in super::super) instance_id: Option<String>,
    pub(in super::super) client_id: String,
    pub(in super::super) host: String,
    pub(in super::super) session_timeout: Duration,
    pub(in super::super) rebalance_timeout: Duration,
    pub(in super::super) protocol_type: String,
    /// Assignors with their metadata, the preferred one first.
    pub(in super::super) protocols: Vec<(String, Bytes)>,
    /// Whether a new member is first given an id to join with (KIP-394, JoinGroup v4).
    pub(in super::super) must_ask_for_id: bool,
}

/// What a member that joined is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Joined {
    pub(in super::super) generation: i32,
    pub(in super::super) protocol: String,
    pub(in super::super) leader: String,
    pub(in super::super) member_id: String,
    /// Of the leader only: all members, with their instance id and metadata.
    pub(in super::super) members: Vec<(String, Option<String>, Bytes)>,
    /// The leader came back as it was: what it assigned stays (KIP-814).
    pub(in super::super) skip_assignment: bool,
}

/// An answer to a request that waited.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Answer {
    Joined(Waiter, Result<Joined, (E, String)>),
    Synced(Waiter, Result<Bytes, E>),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Committed {
    pub(in super::super) offset: Offset,
    pub(in super::super) leader_epoch: i32,
    pub(in super::super) metadata: String,
}

/// What a member says when it asks for its assignment.
#[derive(Debug, Clone)]
pub(in super::super) struct Sync {
    pub(in super::super) member_id: String,
    pub(in super::super) instance_id: Option<String>,
    pub(in super::super) generation: i32,
    pub(in super::super) protocol_type: Option<String>,
    pub(in super::super) protocol: Option<String>,
    pub(in super::super) assignments: Vec<(String, Bytes)>,
}
