//! Which partitions a member owns, and under which of its assignments: what decides whether an offset may be committed.

use crate::engine::Offsets;
use crate::engine::native::mutation::mutated;
use crate::record::{Position, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers the changes of a member's assignment in the order in which they happen. What was read or written under an
/// earlier number than a partition's current one belongs to an assignment that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(in super::super) struct AssignmentNumber(u64);

impl AssignmentNumber {
    /// The number of the change after this one.
    pub(in super::super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Positions to be committed, each with the number of the assignment that it was reached under.
pub(in super::super) type Written = BTreeMap<TopicPartition, (Position, AssignmentNumber)>;

/// Who commits, and for which partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Ownership {
    pub(super) member_id: String,
    /// Generation, or KIP-848's member epoch.
    pub(super) generation: i32,
    last: AssignmentNumber,
    owned: BTreeMap<TopicPartition, AssignmentNumber>,
    /// Owned until the command has released them.
    releasing: BTreeSet<TopicPartition>,
}

impl Ownership {
    /// The member has this ID, and is of this generation or epoch. Returns whether that is new. What it was to release
    /// under the one before may be others' in a new one.
    pub(super) fn identify(&mut self, member_id: String, generation: i32) -> bool {
        let is_new = self.generation != generation || self.member_id != member_id;
        if is_new {
            self.released();
        }
        (self.member_id, self.generation) = (member_id, generation);
        is_new
    }

    /// The member is assigned `partitions`.
    pub(super) fn assigned(&mut self, partitions: &BTreeSet<TopicPartition>) -> AssignmentNumber {
        self.last = self.last.next();
        for partition in partitions {
            self.releasing.remove(partition);
            self.owned.insert(partition.clone(), self.last);
        }
        self.last
    }

    /// The member is to release `partitions`; until then it may commit for them.
    pub(super) fn revoking(&mut self, partitions: &BTreeSet<TopicPartition>) -> AssignmentNumber {
        self.last = self.last.next();
        self.releasing.extend(partitions.iter().cloned());
        self.last
    }

    /// The command has released the revoked partitions.
    pub(super) fn released(&mut self) {
        for partition in std::mem::take(&mut self.releasing) {
            self.owned.remove(&partition);
        }
    }

    /// `partitions` may be others' by now, and so may those that were to be released.
    pub(super) fn lost(&mut self, partitions: &BTreeSet<TopicPartition>) -> AssignmentNumber {
        self.last = self.last.next();
        self.released();
        for partition in partitions {
            self.owned.remove(partition);
        }
        self.last
    }

    /// Those of `written` whose assignment lasts.
    pub(super) fn committable(&self, written: &Written) -> Written {
        let lasts = |(of, (_, number)): &(&TopicPartition, &(Position, AssignmentNumber))| {
            self.owned.get(*of) == Some(number) || mutated!(StaleAssignmentCommitted)
        };
        written.iter().filter(lasts).map(|(of, at)| (of.clone(), *at)).collect()
    }
}

/// The positions alone.
pub(super) fn positions(written: &Written) -> Offsets {
    written.iter().map(|(of, (position, _))| (of.clone(), *position)).collect()
}
