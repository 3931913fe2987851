//! What becomes of partitions that a member has lost and is assigned again: what it has written of them is not read
//! again, unless somebody has set the group back meanwhile.
//!
//! How much was written is known once the command has handled the loss; until then the partition does not begin.

use super::super::group::AssignmentNumber;
use super::super::mutation::mutated;
use super::positions::Begin;
use crate::record::{Offset, Position, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How far the command was in a partition when it was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// What this member has committed since it was assigned the partition.
    pub(super) committed: Option<Offset>,
    /// Behind the last record that was written.
    pub(super) end: Position,
}

/// A loss that the command has handled.
#[derive(Debug, Default)]
pub(super) struct Handled {
    pub(super) partitions: Vec<TopicPartition>,
    /// Of those of them that anything is known of.
    pub(super) written: BTreeMap<TopicPartition, Written>,
}

/// Losses, until their partitions begin again.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Lost, and not handled by the command; with their topic IDs.
    open: BTreeMap<TopicPartition, Uuid>,
    /// Assigned while the loss is open.
    waiting: BTreeMap<TopicPartition, AssignmentNumber>,
    handled: BTreeMap<TopicPartition, Lost>,
    /// The group's committed offsets where partitions began.
    begun: BTreeMap<TopicPartition, Option<Offset>>,
}

/// A partition that may be assigned again.
#[derive(Debug, Clone, Copy)]
struct Lost {
    topic_id: Uuid,
    /// The group's committed offset as this member knows it.
    committed: Option<Offset>,
    /// Behind the last record that was written.
    end: Position,
}

impl Losses {
    /// A partition was lost, of a topic with this ID.
    pub(super) fn lost(&mut self, of: TopicPartition, topic_id: Uuid) {
        self.waiting.remove(&of);
        self.open.entry(of).or_insert(topic_id);
    }

    /// Those of `partitions` that may begin now; the others follow when their losses are handled.
    pub(super) fn assigned(
        &mut self,
        partitions: BTreeSet<TopicPartition>,
        number: AssignmentNumber,
    ) -> BTreeSet<TopicPartition> {
        let (waiting, now): (BTreeSet<_>, BTreeSet<_>) =
            partitions.into_iter().partition(|of| self.open.contains_key(of));
        self.waiting.extend(waiting.into_iter().map(|of| (of, number)));
        now
    }

    /// A partition is revoked before it began.
    pub(super) fn revoked(&mut self, of: &TopicPartition) {
        self.waiting.remove(of);
    }

    /// The command has handled a loss. Returns what may begin now.
    pub(super) fn handled(&mut self, mut loss: Handled) -> Vec<(TopicPartition, AssignmentNumber)> {
        let mut begin = Vec::new();
        for of in loss.partitions {
            if let (Some(topic_id), Some(Written { committed, end })) =
                (self.open.remove(&of), loss.written.remove(&of))
            {
                let committed = committed.or(self.begun.get(&of).copied().flatten());
                self.handled.insert(of.clone(), Lost { topic_id, committed, end });
            }
            begin.extend(self.waiting.remove_entry(&of));
        }
        begin
    }

    /// Where a partition begins that would begin at `begin`: behind what was written before, unless the topic is another
    /// one, or the group was set back. What others have committed since comes on top of it.
    pub(super) fn resumed(&mut self, of: &TopicPartition, topic_id: Uuid, begin: Begin) -> Begin {
        let before = self.begun.insert(of.clone(), begin.committed);
        if let Some(Some(offset)) = before.filter(|_| mutated!(ResumedFromStale)) {
            return Begin { position: Position { offset, ..begin.position }, ..begin };
        }
        let Some(lost) = self.handled.remove(of) else { return begin };
        let is_behind = match (begin.committed, lost.committed) {
            (Some(now), before) => before.is_none_or(|before| now >= before) && now < lost.end.offset,
            // Nothing was ever committed. Without topic IDs, a topic that was created again looks the same.
            (None, None) => !topic_id.is_nil(),
            (None, Some(_)) => false,
        };
        if is_behind && lost.topic_id == topic_id { Begin { position: lost.end, ..begin } } else { begin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn at(offset: Offset) -> Position {
        Position { offset, leader_epoch: None }
    }

    fn written(committed: Option<Offset>, end: Offset) -> Handled {
        Handled { partitions: vec![of(0)], written: [(of(0), Written { committed, end: at(end) })].into() }
    }

    #[test]
    fn what_was_written_is_not_read_again_unless_the_group_was_set_back() {
        let id = Uuid::from_u128(1);
        let other = Uuid::from_u128(2);
        for (before, committed, now, position, topic_id, expected, why) in [
            (Some(1), Some(3), Some(3), 3, id, 9, "nobody has read on"),
            (Some(3), None, Some(3), 3, id, 9, "nobody has, and this member has not committed"),
            (Some(1), Some(3), Some(5), 5, id, 9, "another member has read on, a little"),
            (Some(1), Some(3), Some(20), 20, id, 20, "another member has read further"),
            (Some(1), Some(3), Some(2), 2, id, 2, "somebody has set the group back"),
            (Some(1), Some(3), Some(3), 30, id, 9, "the end is meant, for 3 is not in the log"),
            (None, None, None, 50, id, 9, "nothing was ever committed"),
            (None, Some(3), None, 0, id, 0, "what was committed is deleted"),
            (Some(1), Some(3), Some(3), 3, other, 3, "another topic of this name"),
            (None, None, None, 0, other, 0, "another topic, and nothing committed"),
        ] {
            let mut losses = Losses::default();
            let begin = |position, committed| Begin { position: at(position), until: Offset::MAX, committed };
            assert_eq!(losses.resumed(&of(0), id, begin(1, before)), begin(1, before));
            losses.lost(of(0), id);
            losses.handled(written(committed, 9));
            let resumed = losses.resumed(&of(0), topic_id, begin(position, now));
            assert_eq!(resumed.position.offset, expected, "{why}");
            losses.lost(of(0), topic_id);
            losses.handled(written(None, expected));
            let again = losses.resumed(&of(0), topic_id, begin(position, now));
            assert_eq!(again.position.offset, expected, "{why}; lost again before a commit");
        }
    }

    #[test]
    fn a_partition_begins_when_the_command_has_handled_its_loss() {
        let (mut losses, number) = (Losses::default(), AssignmentNumber::default().next());
        losses.lost(of(0), Uuid::nil());
        assert_eq!(losses.assigned([of(0), of(1)].into(), number), [of(1)].into());
        assert_eq!(losses.handled(written(None, 1)), [(of(0), number)]);
        // Lost and assigned twice before the command comes to it, and revoked in the end.
        losses.lost(of(0), Uuid::nil());
        losses.assigned([of(0)].into(), number);
        losses.lost(of(0), Uuid::nil());
        losses.assigned([of(0)].into(), number.next());
        losses.revoked(&of(0));
        assert_eq!(losses.handled(written(None, 1)), []);
        assert_eq!(losses.assigned([of(0)].into(), number.next()), [of(0)].into());
    }
}
