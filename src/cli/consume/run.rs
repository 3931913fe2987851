//! The loop of `consume`: what was fetched is written, what was written is committed, what is revoked is released.

use super::Commit;
use super::jq::{JqStage, Outcome};
use super::order::Order;
use super::schemas::DecodeStage;
use crate::cli::Context;
use crate::cli::report::say;
use crate::codec::View;
use crate::engine::{CommitMode, Consumer, Event, Observer, Offsets};
use crate::error::{Error, Result};
use crate::filter::{self, Filter};
use crate::metrics::Metrics;
use crate::output::{Format, Writer};
use crate::record::{Batch, LeaderEpoch, Offset, Position, RecordRef, TopicPartition};
use crate::text::counted;
use std::time::{Duration, Instant};

/// How often to look whether anyone still reads stdout while there is nothing to write.
const READER_CHECK: Duration = Duration::from_secs(1);

/// What a run is asked for besides its format.
pub(super) struct RunOptions {
    /// How many records to write.
    pub(super) count: u64,
    pub(super) commit: Commit,
    /// With [`Commit::Batch`], what was written is committed at least this often.
    pub(super) interval: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) filter: Option<Filter>,
    pub(super) decode: Option<DecodeStage>,
    pub(super) jq: Option<JqStage>,
    pub(super) order: Option<Order>,
}

pub(super) struct ConsumeRun<F> {
    consumer: Box<dyn Consumer>,
    writer: Writer,
    format: F,
    /// Records still to be written.
    left: u64,
    commit: Commit,
    interval: Duration,
    commit_at: Instant,
    committed: Offsets,
    /// What is left of a batch whose writing stopped for an event about partitions.
    rest: Option<Batch>,
    idle: Option<Idle>,
    filter: Option<Filter>,
    decode: Option<DecodeStage>,
    jq: Option<JqStage>,
    order: Option<Order>,
    /// Whether nothing more is read: what an order has held back is still written.
    is_ending: bool,
    /// Whether a signal has ended a program of `--jq`.
    is_interrupted: bool,
    metrics: Metrics,
    /// Bytes of output that were counted.
    counted: u64,
}

/// Ends reading when no record has arrived for a while.
struct Idle {
    timeout: Duration,
    ends_at: Instant,
}

impl<F: Format> ConsumeRun<F> {
    pub(super) fn new(
        consumer: Box<dyn Consumer>,
        writer: Writer,
        format: F,
        options: RunOptions,
        metrics: Metrics,
    ) -> Self {
        let now = Instant::now();
        let mut run = Self {
            consumer,
            writer,
            format,
            left: options.count,
            commit: options.commit,
            interval: options.interval,
            commit_at: now + options.interval,
            committed: Offsets::new(),
            rest: None,
            idle: options.idle_timeout.map(|timeout| Idle { timeout, ends_at: now + timeout }),
            filter: options.filter,
            decode: options.decode,
            jq: options.jq,
            order: options.order,
            is_ending: false,
            is_interrupted: false,
            metrics,
            counted: 0,
        };
        run.format.head(run.writer.buffer());
        run
    }

    /// Reads to the end asked for, or a signal.
    pub(super) fn read(&mut self) -> Result<()> {
        while self.left > 0 && !self.is_interrupted {
            let now = Instant::now();
            let deadline = match self.commit {
                // What waits in the buffer is written as soon as there is nothing more to add.
                _ if self.writer.is_pending() => now,
                Commit::Batch => self.commit_at.max(now),
                _ => now + READER_CHECK,
            };
            let deadline = deadline.min(now + READER_CHECK);
            let ends_at = self.idle.as_ref().map(|idle| idle.ends_at);
            // What is left of a batch comes first.
            let goes_on_at = self.order.as_ref().filter(|_| self.rest.is_none()).and_then(Order::deadline);
            let deadline = ends_at.into_iter().chain(goes_on_at).fold(deadline, Instant::min);
            if let Some(rest) = self.rest.take_if(|_| !self.consumer.poll_news()) {
                self.write(rest)?;
            } else if let Some(batch) = self.next_in_order()? {
                self.write(batch)?;
            } else if self.is_ending && self.rest.is_none() {
                return Ok(());
            } else {
                match self.consumer.next(deadline)? {
                    Event::Batch(batch) => {
                        let has_records = batch.count > 0;
                        match &mut self.order {
                            None => self.write(batch)?,
                            Some(order) => order.push(batch)?,
                        }
                        // From when they are written: a stalled output is not silence.
                        if let Some(idle) = self.idle.as_mut().filter(|_| has_records) {
                            idle.ends_at = Instant::now() + idle.timeout;
                        }
                    }
                    Event::End => self.end(),
                    // What a group has not written it reads again.
                    Event::Stopped if self.commit != Commit::None => return Ok(()),
                    Event::Stopped => return self.write_held(),
                    Event::Timeout => {
                        self.writer.flush()?;
                        self.count_output();
                        let now = Instant::now();
                        if self.idle.as_ref().is_some_and(|idle| now >= idle.ends_at) {
                            // Commits that hold writing up are not silence either.
                            let waits = self.rest.is_some() || self.consumer.poll_news() || self.consumer.is_impaired();
                            match &mut self.idle {
                                Some(idle) if waits => idle.ends_at = now + idle.timeout,
                                _ => self.end(),
                            }
                        }
                    }
                    Event::Assigned(begins) => self.on_assigned(&begins),
                    Event::Revoking(partitions) => self.on_revoked(&partitions)?,
                    Event::Lost(partitions, why) => self.on_lost(&partitions, &why)?,
                    Event::Deleted(partitions) => self.on_deleted(&partitions)?,
                }
            }
            if self.commit == Commit::Batch && Instant::now() >= self.commit_at {
                self.writer.flush()?;
                self.commit_written(CommitMode::Background)?;
                self.commit_at = Instant::now() + self.interval;
            }
        }
        Ok(())
    }

    /// Records whose turn it is, where an order is kept.
    fn next_in_order(&mut self) -> Result<Option<Batch>> {
        match &mut self.order {
            Some(order) if self.rest.is_none() => order.next(),
            _ => Ok(None),
        }
    }

    /// Reads no more.
    fn end(&mut self) {
        self.is_ending = true;
        if let Some(order) = &mut self.order {
            order.drain();
        }
    }

    /// After a signal: writes what an order has begun to write.
    fn write_held(&mut self) -> Result<()> {
        if !self.order.as_ref().is_some_and(Order::is_partial) {
            return Ok(());
        }
        self.end();
        while self.left > 0 && !self.is_interrupted {
            let next = match self.rest.take() {
                Some(rest) => Some(rest),
                None => self.next_in_order()?,
            };
            let Some(batch) = next else { break };
            self.write(batch)?;
        }
        Ok(())
    }

    fn write(&mut self, mut batch: Batch) -> Result<()> {
        let at = self.writer.index(&batch.topic, batch.partition);
        let leader_epoch = LeaderEpoch::from_wire(batch.leader_epoch);
        self.format.begin(&batch)?;
        let mut stopped = None;
        let left = self.left;
        let mut records = batch.records();
        loop {
            let next = match &self.decode {
                None => filter::next(self.filter.as_mut(), batch.partition, &mut records),
                // What is decoded is filtered.
                Some(_) => records.next(),
            };
            let Some(record) = next else { break };
            let record = record.map_err(|malformed| {
                Error::corrupt(TopicPartition::new(batch.topic.clone(), batch.partition), &malformed)
            })?;
            let Self { decode, filter, jq, writer, format, .. } = self;
            let outcome = match decode {
                Some(decode) if !decode.leaves(&record) => {
                    let view = decode.view(&batch, record, records.clone())?;
                    if !filter::passes(filter.as_mut(), batch.partition, &{ record }, &view) {
                        continue;
                    }
                    write_decoded(jq, writer, format, &batch, record, &view)?
                }
                // The view is a constant, so that text costs hardly more where schemas are looked for.
                decode => {
                    if decode.is_some() && !filter::passes(filter.as_mut(), batch.partition, &record, &View::PLAIN) {
                        continue;
                    }
                    write_record(jq, writer, format, &batch, &record, &View::PLAIN)?
                }
            };
            match outcome {
                Outcome::Written => {}
                Outcome::Nothing => continue,
                Outcome::Interrupted => {
                    self.is_interrupted = true;
                    self.count(&batch, left, record.offset);
                    return Ok(());
                }
            }
            let mut flushed = self.writer.mark(at, Position { offset: record.offset + 1, leader_epoch })?;
            if self.commit == Commit::Each {
                self.writer.flush()?;
                self.commit_written(CommitMode::Background)?;
                flushed = true;
            }
            self.left -= 1;
            if self.left == 0 {
                // After the last record of a batch the position is the batch's end, beyond markers that follow it.
                let next = if records.next().is_none() { batch.next_offset } else { record.offset + 1 };
                self.count(&batch, left, next);
                return self.writer.mark(at, Position { offset: next, leader_epoch }).map(drop);
            }
            if flushed && self.consumer.poll_news() {
                stopped = Some(record.offset + 1);
                break;
            }
        }
        self.count(&batch, left, stopped.unwrap_or(batch.next_offset));
        if let Some(offset) = stopped {
            batch.from = offset;
            self.rest = Some(batch);
            return Ok(());
        }
        // Past offsets at the batch's end that no record has.
        self.writer.mark(at, Position { offset: batch.next_offset, leader_epoch }).map(drop)
    }

    /// Counts what was written of a batch when there were `left` records to come before it.
    fn count(&mut self, batch: &Batch, left: u64, position: Offset) {
        let of = TopicPartition::new(batch.topic.clone(), batch.partition);
        self.metrics.consumed(&of, left - self.left, position);
        self.count_output();
    }

    fn count_output(&mut self) {
        let taken = self.writer.taken();
        // Less, when a reader went and left something in the pipe.
        self.metrics.written(taken.saturating_sub(self.counted));
        self.counted = taken;
    }

    /// Where a partition begins is committed with the first commit, so that what comes while nobody reads is not
    /// taken for old by a later run.
    fn on_assigned(&mut self, begins: &Offsets) {
        for (of, position) in begins {
            self.writer.begin_at(of, *position);
        }
        let partitions: Vec<TopicPartition> = begins.keys().cloned().collect();
        self.metrics.assigned(partitions.len());
        tracing::info!(partitions = named(&partitions), "assigned");
    }

    /// Writes and commits what there is of `partitions`, which others will read from there on.
    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        // Also what a reader that is gone has taken is committed.
        let flushed = self.writer.flush();
        let committed =
            if self.commit == Commit::None { Ok(()) } else { self.commit_written(CommitMode::BeforeRelease) };
        tracing::info!(partitions = named(partitions), "revoked");
        let again = self.repeats(partitions);
        if !again.is_empty() {
            tracing::warn!(
                "partitions {} were revoked before the commit succeeded; records that will be read again: {again}",
                named(partitions)
            );
        }
        self.metrics.revoked(partitions);
        self.forget(partitions);
        committed.and(flushed)
    }

    /// Others may read `partitions` by now, from what was committed last; unless they are assigned to this member again.
    fn on_lost(&mut self, partitions: &[TopicPartition], why: &Error) -> Result<()> {
        let flushed = self.writer.flush();
        let again = self.repeats(partitions);
        let again = if again.is_empty() { again } else { format!("; written and not committed: {again}") };
        tracing::warn!("lost partitions {}: {why}{again}", named(partitions));
        if self.commit != Commit::None {
            let written = self.writer.written().into_iter().filter(|(of, _)| partitions.contains(of));
            self.consumer.lost(&written.collect());
        }
        self.metrics.revoked(partitions);
        self.forget(partitions);
        flushed
    }

    /// What was written of `partitions` and is not committed: `t/0 from 5 to 9`.
    fn repeats(&self, partitions: &[TopicPartition]) -> String {
        let again: Vec<String> = self
            .writer
            .written()
            .into_iter()
            .filter_map(|(of, Position { offset, .. })| {
                let from = self.committed.get(&of).map(|position| position.offset);
                let repeats = partitions.contains(&of) && from != Some(offset) && self.commit != Commit::None;
                let since = from.map_or("its last commit".to_owned(), |from| from.to_string());
                repeats.then(|| format!("{of} from {since} to {}", offset - 1))
            })
            .collect();
        again.join(", ")
    }

    /// `partitions` were deleted: nothing more comes of them.
    fn on_deleted(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let flushed = self.writer.flush();
        self.forget(partitions);
        flushed
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.writer.forget(partitions);
        if let Some(order) = &mut self.order {
            order.forget(partitions);
        }
        self.committed.retain(|key, _| !partitions.contains(key));
        self.rest.take_if(|rest| partitions.iter().any(|of| of.partition == rest.partition && of.topic == rest.topic));
    }

    /// Prints what filters did; returns whether a record did not decode, or a program failed for it.
    pub(super) fn report(&self, context: &Context) -> bool {
        let (filter, jq) = (self.filter.as_ref(), self.jq.as_ref());
        let read = filter.map(Filter::read).or(jq.map(JqStage::read));
        let matched = jq.map(JqStage::matched).or(filter.map(Filter::matched));
        if let (Some(read), Some(matched)) = (read, matched) {
            say(context, &format!("read {}, {matched} matched", counted(read, "record")));
        }
        let has_undecodable = self.decode.as_ref().is_some_and(DecodeStage::report_failures);
        jq.is_some_and(JqStage::report_failures) || has_undecodable
    }

    fn commit_written(&mut self, mode: CommitMode) -> Result<()> {
        let mut changed = Offsets::new();
        for (of, position) in self.writer.written() {
            if self.committed.get(&of) != Some(&position) {
                changed.insert(of, position);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        match self.consumer.commit(&changed, mode) {
            Ok(mut committed) => {
                if !committed.is_empty() {
                    self.metrics.committed();
                }
                self.committed.append(&mut committed);
            }
            Err(error) => {
                self.metrics.commit_failed(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes what is left, commits what was really written, also after a failure, and leaves the group.
    pub(super) fn finish(&mut self) -> Result<()> {
        let mut flushed = self.writer.flush();
        self.count_output();
        // What was lost meanwhile is not to be committed. Whatever fails, the rest is committed and the group left.
        while self.consumer.poll_news() {
            let handled = match self.consumer.next(Instant::now()) {
                Ok(Event::Revoking(partitions)) => self.on_revoked(&partitions),
                Ok(Event::Lost(partitions, why)) => self.on_lost(&partitions, &why),
                Ok(Event::Deleted(partitions)) => self.on_deleted(&partitions),
                _ => break,
            };
            flushed = flushed.and(handled);
        }
        let committed = if self.commit == Commit::None { Ok(()) } else { self.commit_written(CommitMode::Final) };
        let closed = self.consumer.close();
        committed.and(flushed).and(closed)
    }
}

/// Writes a record, or what a program makes of it.
#[inline(always)]
fn write_record(
    jq: &mut Option<JqStage>,
    writer: &mut Writer,
    format: &mut impl Format,
    batch: &Batch,
    record: &RecordRef<'_>,
    view: &View<'_>,
) -> Result<Outcome> {
    if let Some(jq) = jq {
        return jq.write(writer, format, batch, record, view);
    }
    let buffer = writer.buffer();
    let start = buffer.len();
    format.write(buffer, record, view).inspect_err(|_| buffer.truncate(start))?;
    Ok(Outcome::Written)
}

/// [`write_record`], apart from the loop that writes what is shown as its bytes.
#[inline(never)]
fn write_decoded(
    jq: &mut Option<JqStage>,
    writer: &mut Writer,
    format: &mut impl Format,
    batch: &Batch,
    record: RecordRef<'_>,
    view: &View<'_>,
) -> Result<Outcome> {
    write_record(jq, writer, format, batch, &record, view)
}

/// `t/0, t/1`, or "none".
fn named(partitions: &[TopicPartition]) -> String {
    if partitions.is_empty() {
        return "none".to_owned();
    }
    let each: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    each.join(", ")
}
