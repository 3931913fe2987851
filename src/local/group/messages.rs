//! What members send to a group, and the answers.

use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::time::Duration;

/// The number of a request that waits for the group's answer.
pub(in crate::local) type Waiter = u64;

/// What a member joins with.
#[derive(Debug, Clone)]
pub(in crate::local) struct Join {
    /// Empty for a new member.
    pub(in crate::local) member_id: String,
    pub(in crate::local) instance_id: Option<String>,
    pub(in crate::local) client_id: String,
    pub(in crate::local) host: String,
    pub(in crate::local) session_timeout: Duration,
    pub(in crate::local) rebalance_timeout: Duration,
    pub(in crate::local) protocol_type: String,
    /// Assignors with their metadata, the preferred one first.
    pub(in crate::local) protocols: Vec<(String, Bytes)>,
    /// Whether a new member first gets an ID to join with (KIP-394, JoinGroup v4).
    pub(in crate::local) must_ask_for_id: bool,
}

impl Join {
    /// What its protocols take in memory.
    pub(in crate::local) fn bytes(&self) -> usize {
        self.protocols.iter().map(|(name, metadata)| name.len() + metadata.len() + 64).sum()
    }
}

/// What a member learns when it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Joined {
    pub(in crate::local) generation: i32,
    pub(in crate::local) protocol: String,
    pub(in crate::local) leader: String,
    pub(in crate::local) member_id: String,
    /// For the leader only: all members, with their instance ID and metadata.
    pub(in crate::local) members: Vec<(String, Option<String>, Bytes)>,
    /// The leader came back as it was: what it assigned stays (KIP-814).
    pub(in crate::local) skip_assignment: bool,
}

/// An answer to a request that waited.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::local) enum Answer {
    Joined(Waiter, Result<Joined, (E, String)>),
    Synced(Waiter, Result<Bytes, E>),
}

/// What a member asks for its assignment with; the leader brings those of all.
#[derive(Debug, Clone)]
pub(in crate::local) struct Sync {
    pub(in crate::local) member_id: String,
    pub(in crate::local) instance_id: Option<String>,
    pub(in crate::local) generation: i32,
    pub(in crate::local) protocol_type: Option<String>,
    pub(in crate::local) protocol: Option<String>,
    pub(in crate::local) assignments: Vec<(String, Bytes)>,
}
