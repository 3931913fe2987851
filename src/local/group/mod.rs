//! The coordinator's side of the classic group protocol: a state machine without I/O or a clock of its own.
//!
//! Members join ([`join`]), a generation begins ([`rebalance`]), they receive their assignments ([`sync`]) and commit
//! ([`offsets`]). Every method takes the time and returns the answers to the requests that waited.
//!
//! <https://kafka.apache.org/protocol#The_Messages_JoinGroup>, KIP-62 (rebalance timeout), KIP-345 (static members),
//! KIP-394 (member IDs are required).

mod join;
mod messages;
mod offsets;
mod rebalance;
mod sync;

pub(super) use messages::{Answer, Join, Joined, Sync, Waiter};
pub(super) use offsets::{CommittedOffset, CommittedOffsets};

use super::limits::ENTRY_OVERHEAD;
use crate::engine::native::wire::message::decode;
use bytes::{Buf, Bytes};
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Message;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// Assignors with the metadata for each, the preferred one first.
    protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    expires: Instant,
    joining: Option<Waiter>,
    syncing: Option<Waiter>,
    /// Whether it has asked for its assignment in this generation.
    synced: bool,
    /// What its names and protocols take.
    bytes: usize,
}

impl Member {
    /// The metadata that it joined with for an assignor.
    fn metadata_for(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Members are to join again before then.
    Preparing(Instant),
    /// Members are to ask for their assignment before then.
    Completing(Instant),
    Stable,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Member IDs that were given out and not joined with yet, and until when they may be.
    pending: BTreeMap<String, Instant>,
    pub(super) offsets: CommittedOffsets,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            offsets: CommittedOffsets::default(),
        }
    }
}

impl Group {
    /// Its state, by Kafka's name.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing(_) => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The assignor in use; empty while there is none.
    pub(super) fn protocol(&self) -> &str {
        if self.phase == Phase::Stable { &self.protocol } else { "" }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// The metadata that `member` joined with for the assignor in use.
    pub(super) fn metadata(&self, member: &Member) -> Bytes {
        member.metadata_for(self.protocol())
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let members: usize = self.members.values().map(|member| member.bytes + member.assignment.len()).sum();
        let pending: usize = self.pending.keys().map(|id| id.len() + ENTRY_OVERHEAD).sum();
        ENTRY_OVERHEAD + members + pending + self.offsets.bytes()
    }

    /// Whether nothing is lost by forgetting it: no members, no offsets.
    pub(super) fn is_forgettable(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.offsets.is_empty()
    }

    /// Whether members subscribe to a topic, or may: while they join, that is not known.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        let subscribed = |member: &Member| {
            let mut metadata = self.metadata(member);
            // A version stands before the subscription.
            let version =
                metadata.try_get_i16().unwrap_or_default().clamp(0, ConsumerProtocolSubscription::VERSIONS.max);
            let subscription = decode::<ConsumerProtocolSubscription>(&mut metadata, version, false);
            subscription.is_ok_and(|subscription| subscription.topics.iter().any(|name| name.as_str() == topic))
        };
        self.has_members() && (self.phase != Phase::Stable || self.members.values().any(subscribed))
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    fn find_instance(&self, instance: &str) -> Option<String> {
        let found = self.members.iter().find(|(_, member)| member.instance_id.as_deref() == Some(instance));
        found.map(|(id, _)| id.clone())
    }
}

fn new_id(of: &str) -> String {
    format!("{of}-{}", uuid::Uuid::from_u128(fastrand::u128(..)))
}

#[cfg(test)]
mod tests;
