//! Committed offsets, and which commits are allowed.

use super::{Group, Phase};
use crate::local::limits::ENTRY_OVERHEAD;
use crate::record::{Offset, TopicPartition};
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use std::time::Instant;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct CommittedOffset {
    pub(in crate::local) offset: Offset,
    /// -1 where the client did not know it.
    pub(in crate::local) leader_epoch: i32,
    pub(in crate::local) metadata: String,
}

/// All that a group has committed, with what it takes in memory.
#[derive(Debug, Default)]
pub(in crate::local) struct CommittedOffsets {
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    bytes: usize,
}

impl CommittedOffsets {
    fn size(of: &TopicPartition, committed: &CommittedOffset) -> usize {
        of.topic.len() + committed.metadata.len() + ENTRY_OVERHEAD
    }

    pub(in crate::local) fn insert(&mut self, of: TopicPartition, committed: CommittedOffset) {
        self.bytes += Self::size(&of, &committed);
        if let Some(before) = self.offsets.insert(of.clone(), committed) {
            self.bytes -= Self::size(&of, &before);
        }
    }

    /// Forgets one; false when there was none.
    pub(in crate::local) fn remove(&mut self, of: &TopicPartition) -> bool {
        let removed = self.offsets.remove(of);
        self.bytes -= removed.as_ref().map_or(0, |committed| Self::size(of, committed));
        removed.is_some()
    }

    pub(in crate::local) fn remove_topic(&mut self, topic: &str) {
        let first = TopicPartition::new(topic, 0);
        let of_topic = self.offsets.range(first..).take_while(|(of, _)| *of.topic == *topic);
        let gone: Vec<TopicPartition> = of_topic.map(|(of, _)| of.clone()).collect();
        for of in &gone {
            self.remove(of);
        }
    }

    pub(in crate::local) fn get(&self, of: &TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(of)
    }

    pub(in crate::local) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.offsets.keys()
    }

    pub(in crate::local) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(in crate::local) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Group {
    /// Whether `id` of `generation` may commit; a commit without either is for groups without members.
    pub(in crate::local) fn may_commit(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), E> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(E::UnknownMemberId);
        }
        let phase = self.phase;
        let member = self.check(id, instance, generation)?;
        member.expires = now + member.session_timeout;
        if matches!(phase, Phase::Completing(_)) { Err(E::RebalanceInProgress) } else { Ok(()) }
    }
}
