//! What is to be committed, what is on its way and what is committed: a state machine without sockets or clock.
//!
//! Only the newest position of a partition is committed. While the coordinator is away or the group rebalances, what
//! is to be committed waits, and is dropped only when its assignment has ended.

use super::membership::{Pace, is_coordinators};
use super::ownership::{AssignmentNumber, Ownership, Written, positions};
use crate::engine::Offsets;
use crate::error::Error;
use crate::record::{Offset, TopicPartition};
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The coordinator's answer for each partition that was committed.
pub(super) type Answers = BTreeMap<TopicPartition, Option<E>>;

/// What an answer asks to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reaction {
    /// Look the coordinator up again.
    pub(super) forget_coordinator: bool,
    /// Have the membership ask for its epoch.
    pub(super) is_rebalance: bool,
    /// Partitions that were refused for a reason of their own, for the first time.
    pub(super) refused: Vec<(TopicPartition, E)>,
}

/// The commits of one member, or of a group without members.
#[derive(Debug)]
pub(super) struct Commits {
    pending: Written,
    in_flight: Written,
    /// The newest position that was committed; before the first commit, where the partition begins.
    base: Written,
    committed: Written,
    refused: BTreeMap<TopicPartition, (AssignmentNumber, E)>,
    pace: Pace,
    retry_at: Option<Instant>,
    failing_since: Option<Instant>,
    last_error: Option<Error>,
    /// Commits that fail this long end the membership.
    limit: Duration,
    over: Option<Over>,
}

/// Why no commit can succeed any more.
#[derive(Debug)]
enum Over {
    /// Commits of these assignments failed for too long.
    Late(Error),
    Refused(Error),
}

impl Commits {
    pub(super) fn new(retry: Duration, limit: Duration) -> Self {
        Self {
            pending: Written::new(),
            in_flight: Written::new(),
            base: Written::new(),
            committed: Written::new(),
            refused: BTreeMap::new(),
            pace: Pace::new(retry),
            retry_at: None,
            failing_since: None,
            last_error: None,
            limit,
            over: None,
        }
    }

    /// An assignment begins. The coordinator has answered, so that earlier failures do not count for it.
    pub(super) fn assigned(&mut self, begins: &Offsets, number: AssignmentNumber) {
        self.base.extend(begins.iter().map(|(of, at)| (of.clone(), (*at, number))));
        (self.retry_at, self.failing_since, self.last_error) = (None, None, None);
        self.pace.reset();
        self.over.take_if(|over| matches!(over, Over::Late(_)));
    }

    /// Takes over what is to be committed.
    pub(super) fn add(&mut self, written: Written) {
        for (of, at) in written {
            if self.base.get(&of).is_none_or(|(_, number)| *number != at.1) {
                self.base.insert(of.clone(), at);
            }
            self.pending.insert(of, at);
        }
    }

    /// Whether nothing is pending or on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// When to call [`Commits::begin`]; `None` while there is no reason to.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let has_work = !self.pending.is_empty() && self.in_flight.is_empty() && self.over.is_none();
        has_work.then(|| self.retry_at.unwrap_or(now))
    }

    /// What is to be sent now, with the assignment still lasting where there is one; nothing when all of it has ended.
    pub(super) fn begin(&mut self, ownership: Option<&Ownership>) -> Offsets {
        let pending = std::mem::take(&mut self.pending);
        self.in_flight = match ownership {
            Some(ownership) => ownership.committable(&pending),
            None => pending,
        };
        positions(&self.in_flight)
    }

    /// The request was answered, or failed as a whole.
    pub(super) fn answered(&mut self, answers: Result<Answers, Error>, as_member: bool, now: Instant) -> Reaction {
        let sent = std::mem::take(&mut self.in_flight);
        let mut reaction = Reaction::default();
        match answers {
            Ok(answers) => {
                for (of, at) in sent {
                    match answers.get(&of).copied().flatten() {
                        None => {
                            self.refused.remove(&of);
                            self.base.insert(of.clone(), at);
                            self.committed.insert(of, at);
                        }
                        Some(code) => {
                            if self.refused.insert(of.clone(), (at.1, code)) != Some((at.1, code)) {
                                reaction.refused.push((of, code));
                            }
                        }
                    }
                }
                self.pace.reset();
                (self.retry_at, self.failing_since, self.last_error) = (None, None, None);
            }
            Err(error) if is_coordinators(&error) || (as_member && is_rebalance(&error)) => {
                reaction.forget_coordinator = is_coordinators(&error);
                reaction.is_rebalance = is_rebalance(&error);
                for (of, at) in sent {
                    self.pending.entry(of).or_insert(at); // what was handed over meanwhile is newer
                }
                let since = *self.failing_since.get_or_insert(now);
                self.retry_at = Some(now + self.pace.backoff());
                if now.saturating_duration_since(since) > self.limit {
                    self.over = Some(Over::Late(error.clone()));
                }
                self.last_error = Some(error);
            }
            Err(error) => self.over = Some(Over::Refused(error)),
        }
        reaction
    }

    /// Since when commits fail, and why.
    pub(super) fn failing(&self) -> Option<(Instant, &Error)> {
        self.failing_since.zip(self.last_error.as_ref())
    }

    /// Why no commit can succeed any more.
    pub(super) fn over(&self) -> Option<&Error> {
        match self.over.as_ref()? {
            Over::Late(error) | Over::Refused(error) => Some(error),
        }
    }

    /// Which of `written` are committed.
    pub(super) fn committed(&self, written: &Written) -> Offsets {
        let done = written.iter().filter(|(of, at)| self.committed.get(*of) == Some(*at));
        done.map(|(of, (position, _))| (of.clone(), *position)).collect()
    }

    /// The first of `written` that the coordinator refuses, and why.
    pub(super) fn refusal(&self, written: &Written) -> Option<(TopicPartition, Offset, E)> {
        written.iter().find_map(|(of, (position, number))| {
            let (under, code) = self.refused.get(of)?;
            (under == number).then(|| (of.clone(), position.offset, *code))
        })
    }

    /// Records that are written and not committed, as far as they can still be.
    pub(super) fn lead(&self) -> u64 {
        let waiting = self.in_flight.iter().chain(&self.pending);
        let latest: BTreeMap<&TopicPartition, Offset> = waiting.map(|(of, at)| (of, at.0.offset)).collect();
        let behind = |(of, offset): (&TopicPartition, Offset)| {
            self.base.get(of).map_or(0, |(base, _)| u64::try_from(offset - base.offset).unwrap_or(0))
        };
        latest.into_iter().map(behind).sum()
    }
}

/// Whether the group is rebalancing, or the member's generation or epoch is about to change: the membership finds out.
fn is_rebalance(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            E::RebalanceInProgress
                | E::IllegalGeneration
                | E::StaleMemberEpoch
                | E::UnknownMemberId
                | E::FencedMemberEpoch
        )
    )
}

#[cfg(test)]
mod tests;
