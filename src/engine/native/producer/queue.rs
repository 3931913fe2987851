//! The batches of one partition on their way: a state machine without sockets or a clock of its own.
//!
//! Order is kept and nothing doubled whatever fails: an idempotent producer numbers records (KIP-98), up to five
//! batches are in flight, and after a failure nothing new is sent until all that is in flight is answered; then
//! what failed goes out again, in order, under the same numbers. Without numbers one batch is in flight at a time.

use super::super::wire::{Codec, ProducerStamp, Sealed, split};
use crate::error::{Error, ErrorCode};
use crate::record::{Offset, Timestamp};
use kafka_protocol::error::ResponseError;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An idempotent producer's identity, given by InitProducerId.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) id: i64,
    pub(super) epoch: i16,
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
    /// The number of its first record in the broker's eyes, once it has one.
    sequence: Option<i32>,
    /// Whether a broker may have it although it did not say so.
    maybe_written: bool,
    last_error: Option<Error>,
}

impl Batch {
    /// Whether it must go out under its old numbers before it may get new ones: if it was written after all, the
    /// broker recognises it; if not, it says so.
    fn needs_probe(&self) -> bool {
        self.maybe_written && self.sequence.is_some()
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
        Self { first_record, sealed, state, deadline, sequence: None, maybe_written: false, last_error: None }
    }
}

/// How a broker answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// It has the batch, from this offset on, under its own time if that counts; -1 where it does not say.
    Written { offset: Offset, append_time: Timestamp },
    /// It said no.
    Refused(Error, ResponseError),
    /// It said nothing: the connection broke, or time ran out.
    Lost(Error),
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
    /// Not in flight, in order.
    waiting: VecDeque<Batch>,
    /// Sent and not answered, in order.
    in_flight: VecDeque<Batch>,
    /// Whose numbers are in use; `None` without idempotence or before the first batch.
    producer: Option<ProducerId>,
    next_sequence: i32,
    /// The number after the last acknowledged record.
    acked: i32,
    /// Whether a batch of `producer` was acknowledged. Until then the broker takes any first number, so that a
    /// second batch in flight could overtake one that was refused.
    established: bool,
    /// Something failed: first all that is in flight must be answered.
    settling: bool,
    /// From this batch on the numbers do not fit any more: one was given up here, or the broker lost count.
    /// What stands before it is settled first, under the old numbers.
    gap: Option<u64>,
    /// Whether the numbers after the gap need a new producer id: the broker may have used the old ones.
    gap_wants_producer: bool,
    retry_at: Option<Instant>,
    attempts: u32,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            producer: None,
            next_sequence: 0,
            acked: 0,
            established: false,
            settling: false,
            gap: None,
            gap_wants_producer: false,
            retry_at: None,
            attempts: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether it can go on only under a new producer id.
    pub(super) fn wants_producer(&self) -> bool {
        self.gap_wants_producer
            && self.in_flight.is_empty()
            && self.waiting.front().is_some_and(|batch| self.is_past_gap(batch) && !batch.needs_probe())
    }

    fn is_past_gap(&self, batch: &Batch) -> bool {
        self.gap.is_some_and(|gap| batch.first_record >= gap)
    }

    fn note_gap(&mut self, first_record: u64, wants_producer: bool) {
        self.gap = Some(self.gap.map_or(first_record, |gap| gap.min(first_record)));
        self.gap_wants_producer |= wants_producer;
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

    /// The earliest deadline of a batch that waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|batch| batch.deadline).min()
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
        // The broker recognises a repeat among a producer's last five batches: what may be one goes alone.
        let alone = self.is_past_gap(front) || front.needs_probe() || self.in_flight.iter().any(Batch::needs_probe);
        if alone && !self.in_flight.is_empty() {
            return None;
        }
        if self.is_past_gap(front) && !front.needs_probe() {
            if self.gap_wants_producer && self.producer == producer {
                return None;
            }
            (self.gap, self.gap_wants_producer) = (None, false);
            self.next_sequence = self.acked;
            self.waiting.iter_mut().for_each(|batch| batch.sequence = None);
        }
        let numbered = self.waiting.front()?.sequence.is_some();
        if self.producer != producer && !numbered {
            // A new identity begins at 0, and only when nothing of the old one is open.
            if !self.in_flight.is_empty() {
                return None;
            }
            self.producer = producer;
            (self.next_sequence, self.acked, self.established) = (0, 0, false);
        }
        if self.waiting.front()?.state != State::Ready {
            return None;
        }
        let mut batch = self.waiting.pop_front()?;
        self.retry_at = None;
        let mut stamp = ProducerStamp::NONE;
        if let Some(ProducerId { id, epoch }) = self.producer {
            let sequence = batch.sequence.unwrap_or(self.next_sequence);
            if batch.sequence.is_none() {
                batch.sequence = Some(sequence);
                self.next_sequence = add(sequence, batch.sealed.count);
            }
            stamp =
                ProducerStamp { producer_id: id, producer_epoch: epoch, base_sequence: sequence, transactional: false };
        }
        self.in_flight.push_back(batch);
        self.in_flight.back().map(|batch| (batch, stamp))
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
            Answer::Lost(error) => {
                batch.maybe_written = true;
                self.put_back(batch, error, now, backoff);
            }
            Answer::Refused(error, code) => match verdict(code) {
                Verdict::Written => done.push(self.written(batch, (None, None))),
                Verdict::Retry { maybe_written } => {
                    batch.maybe_written |= maybe_written;
                    self.put_back(batch, error, now, backoff);
                }
                Verdict::Sequence if self.is_past_gap(&batch) => {
                    // The probe's answer: what stands before it is not written, so it is not either.
                    batch.maybe_written = false;
                    self.put_back(batch, error, now, backoff);
                }
                Verdict::Sequence => {
                    // Expected while a batch before it is not there yet; else the broker lost our state.
                    let first = !self
                        .waiting
                        .iter()
                        .chain(&self.in_flight)
                        .any(|other| other.first_record < batch.first_record);
                    if first {
                        batch.maybe_written = false; // else it would have been recognised
                        self.note_gap(batch.first_record, true);
                    }
                    self.put_back(batch, error, now, backoff);
                }
                Verdict::Split => match split(&batch.sealed) {
                    Some((a, b)) => self.put_back_halves(batch, a, b),
                    None => done.push(self.give_up(batch, error)),
                },
                Verdict::Permanent => done.push(self.give_up(batch, error)),
            },
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

    /// Gives up the batches that were never sent.
    pub(super) fn abandon(&mut self, error: &Error) -> Vec<Done> {
        let sent = |batch: &Batch| batch.sequence.is_some() || batch.last_error.is_some();
        let (kept, given_up) = self.waiting.drain(..).partition(sent);
        self.waiting = kept;
        let done = |batch| Done { batch, outcome: Err((error.clone(), false)) };
        Vec::from(given_up).into_iter().map(done).collect()
    }

    fn written(&mut self, batch: Batch, told: Told) -> Done {
        if let Some(sequence) = batch.sequence {
            self.established = true;
            let after = add(sequence, batch.sealed.count);
            // A retried batch may be acknowledged after later ones; numbers wrap, so "later" is half a turn.
            if (after.wrapping_sub(self.acked) & 0x7fff_ffff) < 1 << 30 {
                self.acked = after;
            }
        }
        self.attempts = 0;
        Done { batch, outcome: Ok(told) }
    }

    fn give_up(&mut self, batch: Batch, error: Error) -> Done {
        let possibly_written = batch.maybe_written;
        if batch.sequence.is_some() {
            self.note_gap(batch.first_record, possibly_written);
        }
        Done { batch, outcome: Err((error, possibly_written)) }
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

    /// The halves take the numbers of the whole: those after it stay as they are.
    fn put_back_halves(&mut self, whole: Batch, a: Sealed, b: Sealed) {
        self.settling = true;
        let first_record = whole.first_record + a.count as u64;
        let sequence = whole.sequence.map(|sequence| add(sequence, a.count));
        let state = if whole.sealed.codec == Codec::None { State::Ready } else { State::Raw };
        self.insert(Batch { sealed: b, first_record, sequence, state, ..whole.clone() });
        self.insert(Batch { sealed: a, state, ..whole });
    }

    fn insert(&mut self, batch: Batch) {
        let at = self.waiting.iter().take_while(|other| other.first_record < batch.first_record).count();
        self.waiting.insert(at, batch);
    }

    /// Once nothing is in flight, sending may go on.
    fn settle(&mut self) {
        self.settling &= !self.in_flight.is_empty();
    }
}

/// Sequence numbers wrap from 2^31-1 to 0.
fn add(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & 0x7fff_ffff) as i32
}

enum Verdict {
    /// The broker has it already (a repeat).
    Written,
    Retry {
        maybe_written: bool,
    },
    /// Its number is not the one the broker expects.
    Sequence,
    /// Too large: two halves may pass.
    Split,
    Permanent,
}

fn verdict(code: ResponseError) -> Verdict {
    use ResponseError as E;
    match code {
        E::DuplicateSequenceNumber => Verdict::Written,
        E::OutOfOrderSequenceNumber | E::UnknownProducerId => Verdict::Sequence,
        E::MessageTooLarge | E::RecordListTooLarge => Verdict::Split,
        E::RequestTimedOut | E::NotEnoughReplicasAfterAppend => Verdict::Retry { maybe_written: true },
        _ if code.is_transient() => Verdict::Retry { maybe_written: false },
        _ => Verdict::Permanent,
    }
}

#[cfg(test)]
mod tests;
