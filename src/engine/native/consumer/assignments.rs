//! What is read at this time, and the one ordered source of events about it, from the fetcher to the command.
//!
//! Events do not wait behind records. Records carry the assignment that they were fetched for, and are dropped when that
//! one has ended; so the command never handles anything of a partition that is not, or not yet, its own.

use super::super::group::AssignmentNumber;
use super::positions::AssignmentId;
use crate::engine::{Event, Offsets};
use crate::error::Error;
use crate::record::TopicPartition;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Assignments {
    has_events: AtomicBool,
    /// Whether a partition cannot be read at the moment.
    is_impaired: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(Event, AssignmentNumber)>,
    /// Assignments that have begun and not ended.
    live: HashSet<AssignmentId>,
}

impl Assignments {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State, event: Event, number: AssignmentNumber) {
        state.events.push_back((event, number));
        self.has_events.store(true, Ordering::Release);
    }

    pub(super) fn set_impaired(&self, is_impaired: bool) {
        self.is_impaired.store(is_impaired, Ordering::Release);
    }

    pub(super) fn is_impaired(&self) -> bool {
        self.is_impaired.load(Ordering::Acquire)
    }

    /// These begin.
    pub(super) fn begin(&self, ids: impl IntoIterator<Item = AssignmentId>) {
        self.state().live.extend(ids);
    }

    /// Reports to the command where the partitions begin that the group assigned under this number.
    pub(super) fn assign(&self, begins: Offsets, number: AssignmentNumber) {
        self.push(&mut self.state(), Event::Assigned(begins), number);
    }

    /// These are to be released.
    pub(super) fn revoke(&self, ids: &[AssignmentId], partitions: Vec<TopicPartition>) {
        self.end(ids, Event::Revoking(partitions));
    }

    /// These are lost.
    pub(super) fn lose(&self, ids: &[AssignmentId], partitions: Vec<TopicPartition>, why: Error) {
        self.end(ids, Event::Lost(partitions, why));
    }

    /// The topic of these was deleted.
    pub(super) fn delete(&self, ids: &[AssignmentId], partitions: Vec<TopicPartition>) {
        self.end(ids, Event::Deleted(partitions));
    }

    fn end(&self, ids: &[AssignmentId], event: Event) {
        let mut state = self.state();
        ids.iter().for_each(|id| {
            state.live.remove(id);
        });
        self.push(&mut state, event, AssignmentNumber::default());
    }

    pub(super) fn is_live(&self, id: AssignmentId) -> bool {
        self.state().live.contains(&id)
    }

    pub(super) fn has_events(&self) -> bool {
        self.has_events.load(Ordering::Acquire)
    }

    /// The next event, in the order in which they happened; an assignment with its number.
    pub(super) fn take_event(&self) -> Option<(Event, AssignmentNumber)> {
        if !self.has_events() {
            return None;
        }
        let mut state = self.state();
        let event = state.events.pop_front();
        self.has_events.store(!state.events.is_empty(), Ordering::Release);
        event
    }
}
