//! The batches of one partition on their way: a state machine without sockets or a clock of its own.
//!
//! Order is kept and nothing is duplicated whatever fails: an idempotent producer numbers records (KIP-98), up to
//! five batches are in flight, and after a failure nothing new is sent until all that is in flight is answered; then
//! what failed is sent again, in order, under the same numbers. Without numbers one batch is in flight at a time.
//!
//! ```text
//!           a failure while others are in flight             all of them are answered
//! flowing ───────────────────────────────────────▶ settling ──────────────────────────▶ flowing
//!
//!           a numbered batch is given up,                    the first batch behind the gap is next,
//!           or the broker lost count                         and none that may be written is in flight
//! no gap  ───────────────────────────────────────▶ gap ───────────────────────────────▶ no gap
//! ```
//!
//! The numbers before a gap are never used for other records: what stands behind it is numbered again from 0 under
//! the next producer epoch (KIP-360), which also fences what may still arrive of the old one. A batch behind the gap
//! that may be written goes out under its old numbers first: the broker recognizes it, or refuses the number, and
//! then it is not written.

mod parts;
mod verdict;

use super::super::mutation::mutated;
use super::super::wire::{ProducerStamp, Sealed};
use crate::error::Error;
use crate::record::{Offset, Timestamp};
use kafka_protocol::error::ResponseError;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
pub(in crate::engine) use verdict::precedes_append;
use verdict::{Verdict, verdict};

/// An idempotent producer's identity, given by InitProducerId.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

impl ProducerId {
    /// Whether this one was given later: another ID, or a later epoch of the same.
    fn is_later_than(self, other: Self) -> bool {
        self.id != other.id || self.epoch > other.epoch
    }
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The number of its first record, counting what was appended to the partition; names the batch.
    pub(super) first_record: u64,
    /// What goes over the wire, once it is `Ready`.
    pub(super) sealed: Sealed,
    state: State,
    /// Given up after this.
    pub(super) deadline: Instant,
    numbers: Option<Numbers>,
    /// Whether a broker may have it although it did not acknowledge it.
    possibly_written: bool,
    /// Why the last attempt failed; `None` before the first.
    last_error: Option<Error>,
}

/// What identifies a batch to the broker, beside the producer.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// The sequence number of its first record.
    sequence: i32,
    /// Whether the broker may have the batch under this number.
    in_doubt: bool,
}

impl Batch {
    /// Whether it must go out under its old numbers before it may get new ones: if it was written after all, the
    /// broker recognizes it; if not, it refuses the number.
    fn needs_probe(&self) -> bool {
        self.numbers.is_some_and(|numbers| numbers.in_doubt)
    }

    fn note_doubt(&mut self) {
        self.possibly_written = true;
        if let Some(numbers) = &mut self.numbers {
            numbers.in_doubt = true;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be compressed.
    Raw,
    Compressing,
    /// To be sent as it is.
    Ready,
}

impl Batch {
    /// A batch that is sent as it is, or compressed first.
    pub(super) fn new(first_record: u64, sealed: Sealed, compress: bool, deadline: Instant) -> Self {
        let state = if compress { State::Raw } else { State::Ready };
        Self { first_record, sealed, state, deadline, numbers: None, possibly_written: false, last_error: None }
    }
}

/// How a broker answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// It has the batch, from this offset on, under its own time if that counts; -1 where it does not say.
    Written {
        offset: Offset,
        append_time: Timestamp,
    },
    Refused(Refusal),
    /// It said nothing: the connection broke, or time ran out.
    Lost(Error),
}

/// A broker's refusal of a batch.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) error: Error,
    pub(super) code: ResponseError,
    /// The records that it is about; none before Kafka 2.4 (KIP-467), and where it is about the batch.
    pub(super) bad_records: Vec<BadRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRecord {
    /// Which record of the batch, from 0.
    pub(super) index: usize,
    pub(super) why: Option<String>,
}

/// A batch that needs no more care.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) batch: Batch,
    /// What the broker told; or why it failed and whether it may be written.
    pub(super) outcome: Result<Told, (Error, bool)>,
}

/// The first record's offset and the broker's time, as far as it told.
type Told = (Option<Offset>, Option<Timestamp>);

/// The queue of one partition.
#[derive(Debug)]
pub(super) struct Queue {
    /// Whether all of it belongs to a transaction, whose coordinator alone raises the epoch.
    transactional: bool,
    /// Not in flight, in order.
    waiting: VecDeque<Batch>,
    /// Sent and not answered, in order.
    in_flight: VecDeque<Batch>,
    /// Whose numbers are in use; `None` without idempotence or before the first batch. The epoch is this partition's
    /// own: brokers track it by partition.
    producer: Option<ProducerId>,
    next_sequence: i32,
    /// Whether a batch of `producer` was acknowledged. Until then the broker takes any first number, so that a
    /// second batch in flight could overtake one that was refused.
    established: bool,
    /// Something failed: first all that is in flight must be answered.
    settling: bool,
    /// Whether what is in flight was sent to a topic that was created again since.
    restarting: bool,
    /// From this batch on the numbers do not fit any more: one was given up here, or the broker lost count.
    /// What stands before it is settled first, under the old numbers.
    gap: Option<u64>,
    retry_at: Option<Instant>,
    attempts: u32,
}

impl Queue {
    pub(super) fn new(transactional: bool) -> Self {
        Self {
            transactional,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            producer: None,
            next_sequence: 0,
            established: false,
            settling: false,
            restarting: false,
            gap: None,
            retry_at: None,
            attempts: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether it can continue only under another producer ID: the epoch is the coordinator's, or used up.
    pub(super) fn needs_producer(&self) -> bool {
        let can_raise = !self.transactional && self.producer.is_some_and(|producer| producer.epoch < i16::MAX);
        !can_raise
            && self.in_flight.is_empty()
            && self.waiting.front().is_some_and(|batch| self.is_past_gap(batch) && !batch.needs_probe())
    }

    fn is_past_gap(&self, batch: &Batch) -> bool {
        self.gap.is_some_and(|gap| batch.first_record >= gap)
    }

    fn note_gap(&mut self, first_record: u64) {
        self.gap = Some(self.gap.map_or(first_record, |gap| gap.min(first_record)));
        self.settling = true;
    }

    /// Takes a batch behind all others.
    pub(super) fn push(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    /// The batches that are to be compressed, each handed out once.
    pub(super) fn take_raw(&mut self) -> Vec<(u64, Sealed)> {
        let raw = self.waiting.iter_mut().filter(|batch| batch.state == State::Raw);
        raw.map(|batch| {
            batch.state = State::Compressing;
            (batch.first_record, batch.sealed.clone())
        })
        .collect()
    }

    /// The batch that begins with `first_record` is compressed now.
    pub(super) fn compressed(&mut self, first_record: u64, sealed: Sealed) {
        if let Some(batch) = self.waiting.iter_mut().find(|batch| batch.first_record == first_record) {
            batch.sealed = sealed;
            batch.state = State::Ready;
        }
    }

    /// When a retry is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.waiting.is_empty() && !self.settling)
    }

    /// When [`Queue::expire`] may have something to give up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let front = self.waiting.front().filter(|batch| batch.state != State::Compressing);
        front.filter(|_| self.in_flight.is_empty()).map(|batch| batch.deadline)
    }

    /// The next batch to be sent, if one may be now; it counts as in flight from here on.
    /// `producer` is the current identity, `None` without idempotence.
    pub(super) fn next(
        &mut self,
        now: Instant,
        limit: usize,
        producer: Option<ProducerId>,
    ) -> Option<(&Batch, ProducerStamp)> {
        let limit = if producer.is_some() && self.established { limit } else { 1 };
        if self.settling || self.in_flight.len() >= limit || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let front = self.waiting.front()?;
        // The broker recognizes a repeat among a producer's last five batches: what may be one goes alone.
        let alone = self.is_past_gap(front) || front.needs_probe() || self.in_flight.iter().any(Batch::needs_probe);
        if (alone && !self.in_flight.is_empty()) || front.state != State::Ready {
            return None;
        }
        if self.is_past_gap(front) && !front.needs_probe() {
            self.pass_gap(producer)?;
        } else if front.numbers.is_none() && self.is_outdated(producer) {
            // A new identity begins only when nothing of the old one is open.
            if !self.in_flight.is_empty() {
                return None;
            }
            self.number_from_0(producer);
        }
        let mut batch = self.waiting.pop_front()?;
        self.retry_at = None;
        let mut stamp = ProducerStamp::NONE;
        if let Some(ProducerId { id, epoch }) = self.producer {
            let fresh = Numbers { sequence: self.next_sequence, in_doubt: false };
            let Numbers { sequence, .. } = *batch.numbers.get_or_insert_with(|| {
                self.next_sequence = add(fresh.sequence, batch.sealed.count);
                fresh
            });
            stamp =
                ProducerStamp { producer_id: id, producer_epoch: epoch, base_sequence: sequence, transactional: false };
        }
        self.in_flight.push_back(batch);
        self.in_flight.back().map(|batch| (batch, stamp))
    }

    /// Whether an identity was given later than the one in use.
    fn is_outdated(&self, current: Option<ProducerId>) -> bool {
        match (self.producer, current) {
            (Some(own), Some(current)) => current.is_later_than(own),
            (own, current) => own != current,
        }
    }

    /// Numbers what stands behind the gap again; `None` while there is no identity that it could have.
    fn pass_gap(&mut self, current: Option<ProducerId>) -> Option<()> {
        let own = self.producer?;
        let next = match current {
            Some(current) if self.is_outdated(Some(current)) => current,
            _ if self.transactional => return None,
            _ if mutated!(EpochNotRaised) => own,
            _ => ProducerId { epoch: own.epoch.checked_add(1)?, ..own },
        };
        self.gap = None;
        self.waiting.iter_mut().for_each(|batch| batch.numbers = None);
        self.number_from_0(Some(next));
        Some(())
    }

    fn number_from_0(&mut self, producer: Option<ProducerId>) {
        self.producer = producer;
        (self.next_sequence, self.established) = (0, false);
    }

    /// The batch that begins with `first_record` was answered; returns what is done with.
    pub(super) fn answered(
        &mut self,
        first_record: u64,
        answer: Answer,
        now: Instant,
        backoff: impl Fn(u32) -> Duration,
    ) -> Vec<Done> {
        let Some(index) = self.in_flight.iter().position(|batch| batch.first_record == first_record) else {
            return Vec::new();
        };
        let Some(mut batch) = self.in_flight.remove(index) else { return Vec::new() };
        let mut done = Vec::new();
        match answer {
            Answer::Written { offset, append_time } => {
                let known = |number: i64| (number >= 0).then_some(number);
                done.push(self.written(batch, (known(offset), known(append_time))));
            }
            Answer::Lost(_) if mutated!(DroppedOnReconnect) => done.push(self.written(batch, (None, None))),
            Answer::Lost(error) => {
                if !mutated!(LostIsNotWritten) {
                    batch.note_doubt();
                }
                self.put_back(batch, error, now, backoff);
            }
            Answer::Refused(Refusal { error, code, bad_records }) => {
                if !precedes_append(code) {
                    batch.note_doubt();
                }
                match verdict(code, batch.last_error.as_ref().and_then(Error::code)) {
                    Verdict::Written => done.push(self.written(batch, (None, None))),
                    Verdict::Retry => self.put_back(batch, error, now, backoff),
                    Verdict::Sequence => self.out_of_sequence(batch, error, now, backoff),
                    // One that may be written is not cut: the broker would not recognize its parts.
                    Verdict::Part if !batch.possibly_written => done.extend(self.part(batch, &error, &bad_records)),
                    Verdict::Part | Verdict::Permanent => done.push(self.give_up(batch, error)),
                }
            }
        }
        self.settle();
        done
    }

    /// Gives up the batches that wait beyond their deadline.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Done> {
        let mut done = Vec::new();
        // Only when nothing is in flight: a batch given up amid others would leave a gap they cannot know of.
        while self.in_flight.is_empty()
            && self.waiting.front().is_some_and(|batch| batch.deadline <= now && batch.state != State::Compressing)
        {
            let Some(batch) = self.waiting.pop_front() else { break };
            let error = batch.last_error.clone();
            let error = error.unwrap_or(Error::NotTaken);
            done.push(self.give_up(batch, error));
        }
        if !done.is_empty() {
            self.settle();
        }
        done
    }

    /// Gives up the batches that were never sent, and those that cannot be sent again in this transaction.
    pub(super) fn abandon(&mut self, error: &Error) -> Vec<Done> {
        let mut done = Vec::new();
        for batch in std::mem::take(&mut self.waiting) {
            let was_sent = batch.numbers.is_some() || batch.last_error.is_some();
            if was_sent && !(self.transactional && self.is_past_gap(&batch)) {
                self.waiting.push_back(batch);
            } else {
                done.push(Done { outcome: Err((error.clone(), batch.possibly_written)), batch });
            }
        }
        done
    }

    fn written(&mut self, batch: Batch, told: Told) -> Done {
        self.established |= batch.numbers.is_some();
        self.attempts = 0;
        Done { batch, outcome: Ok(told) }
    }

    fn give_up(&mut self, batch: Batch, error: Error) -> Done {
        if let Some(numbers) = batch.numbers.filter(|_| mutated!(SequenceReused)) {
            self.next_sequence = numbers.sequence;
        } else if batch.numbers.is_some() {
            self.note_gap(batch.first_record);
        }
        Done { outcome: Err((error, batch.possibly_written)), batch }
    }

    /// The broker expects another number. It does so while a batch before this one is not there yet; of the first
    /// batch it means that the broker lost count, or that this one was not written under its old numbers: else the
    /// broker would have recognized it.
    fn out_of_sequence(&mut self, mut batch: Batch, error: Error, now: Instant, backoff: impl Fn(u32) -> Duration) {
        let is_first = !self.waiting.iter().chain(&self.in_flight).any(|other| other.first_record < batch.first_record);
        let first_record = batch.first_record;
        let renumber = is_first || self.is_past_gap(&batch);
        if renumber {
            batch.numbers = None;
        }
        self.put_back(batch, error, now, backoff);
        if renumber {
            self.note_gap(first_record);
        }
    }

    fn put_back(&mut self, mut batch: Batch, error: Error, now: Instant, backoff: impl Fn(u32) -> Duration) {
        batch.last_error = Some(error);
        if !self.settling {
            self.retry_at = Some(now + backoff(self.attempts));
            self.attempts += 1;
        }
        self.settling = true;
        self.insert(batch);
    }

    fn insert(&mut self, batch: Batch) {
        let is_behind = |other: &&Batch| other.first_record < batch.first_record || mutated!(RetriedOutOfOrder);
        let at = self.waiting.iter().take_while(is_behind).count();
        self.waiting.insert(at, batch);
    }

    /// The topic was created again: its log does not know the producer and takes any first number, so that no batch may
    /// overtake one before it.
    pub(super) fn restart(&mut self) {
        self.established = false;
        self.restarting = !self.in_flight.is_empty();
        self.settling |= self.restarting;
    }

    /// Once nothing is in flight, sending may go on.
    fn settle(&mut self) {
        self.settling &= !self.in_flight.is_empty();
        if !self.settling && std::mem::take(&mut self.restarting) {
            self.established = false; // what was acknowledged meanwhile is in the log before
        }
    }
}

/// Sequence numbers wrap from 2^31-1 to 0.
fn add(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & 0x7fff_ffff) as i32
}

#[cfg(test)]
mod tests;
