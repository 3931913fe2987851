//! The way of the input: read, cut, appended, settled.

use super::report::{Refused, Report};
use crate::cli::Context;
use crate::cli::denied;
use crate::engine::Operation;
use crate::engine::Producer;
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::input::{BadLine, Inbox, Message, Reader, Splitter};
use crate::metrics::Reporter;
use crate::record::now;
use crate::record::{PartitionId, Timestamp};
use crate::signal::Stop;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// When a transaction is committed before the input ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitEvery {
    pub(super) records: Option<u64>,
    pub(super) interval: Option<Duration>,
}

/// The open transaction.
struct Transaction {
    commit_every: CommitEvery,
    records: u64,
    began: Instant,
}

/// Holds records back to a pace.
struct Pace {
    a_second: f64,
    began: Instant,
    sent: u64,
    /// A signal ends the wait.
    stop: Stop,
}

impl Pace {
    fn keep(a_second: f64, context: &Context) -> Self {
        Self { a_second, began: Instant::now(), sent: 0, stop: context.stop.clone() }
    }
}

pub(super) struct ProduceRun<'a> {
    context: &'a Context,
    inbox: Inbox,
    splitter: Splitter,
    reader: Reader,
    /// Names of the sources, and which is being read.
    names: Vec<String>,
    source: usize,
    /// Lines read of this source.
    line: u64,
    delivery: Delivery<'a>,
}

/// The half of the work that a record goes through: apart from the half that cuts it from the input.
struct Delivery<'a> {
    producer: Box<dyn Producer>,
    report: Report,
    topic: Option<&'a str>,
    partition: Option<PartitionId>,
    /// Records still to be passed over.
    skip: u64,
    go_on: bool,
    pace: Option<Pace>,
    transaction: Option<Transaction>,
    now: Timestamp,
}

/// How the reading of the input came to its end.
enum Ended {
    AllRead,
    Stopped,
    /// A record failed, and the rest shall not be sent.
    Failed,
}

/// Why a line did not become a record on its way.
enum Bad {
    Line(BadLine),
    Record(Error),
    /// The work is over: a signal, or something else than the record.
    Fatal(Error),
}

/// Where records come from.
pub(super) struct Input {
    pub(super) inbox: Inbox,
    pub(super) splitter: Splitter,
    pub(super) reader: Reader,
    /// Names of the sources, for messages.
    pub(super) names: Vec<String>,
}

/// How records are delivered.
pub(super) struct Plan<'a> {
    /// Where they go; `None` is where each says.
    pub(super) topic: Option<&'a str>,
    pub(super) partition: Option<PartitionId>,
    /// How many of the first are passed over.
    pub(super) skip: u64,
    /// Whether the rest is sent after one that failed.
    pub(super) go_on: bool,
    /// No more than so many a second.
    pub(super) rate: Option<f64>,
    /// Everything is part of a transaction, committed in these commit_every.
    pub(super) transaction: Option<CommitEvery>,
}

impl<'a> ProduceRun<'a> {
    pub(super) fn new(
        context: &'a Context,
        input: Input,
        producer: Box<dyn Producer>,
        mut report: Report,
        plan: &Plan<'a>,
    ) -> Self {
        if plan.transaction.is_some() {
            report.committed(plan.skip);
        }
        let delivery = Delivery {
            producer,
            report,
            topic: plan.topic,
            partition: plan.partition,
            skip: plan.skip,
            go_on: plan.go_on,
            pace: plan.rate.map(|a_second| Pace::keep(a_second, context)),
            transaction: plan.transaction.map(|commit_every| Transaction {
                commit_every,
                records: 0,
                began: Instant::now(),
            }),
            now: 0,
        };
        let Input { inbox, splitter, reader, names } = input;
        Self { context, inbox, splitter, reader, names, source: 0, line: 0, delivery }
    }

    /// Reads and delivers all; the exit code when nothing but records failed.
    pub(super) fn run(mut self, reporter: Reporter) -> anyhow::Result<u8> {
        let started = Instant::now();
        let ended = self.feed();
        let finished = self.finish(&ended);
        let whole = matches!(ended, Ok(Ended::AllRead));
        self.context.metrics.ready(false);
        drop(reporter);
        let told = self.delivery.report.close(self.context.quiet, started.elapsed(), whole);
        let Delivery { producer, report, .. } = &self.delivery;
        if let Some(error) = report.denied() {
            let advice = denied::explain(error, &self.context.options.security, |_| Operation::Write, |_| None);
            crate::cli::report::block(&advice.unwrap_or_default());
        }
        if let (Ok(_), Ok(()), Err(error)) = (&ended, &finished, told) {
            return Err(error.into());
        }
        match (ended, finished) {
            (_, Err(Error::Stopped)) => {
                let open = producer.unconfirmed();
                if open > 0 {
                    let leading =
                        report.leading().map(|n| format!("; the first {n} are delivered")).unwrap_or_default();
                    crate::cli::report::tell(format!("stopped with {open} records unconfirmed{leading}"));
                }
                Ok(self.context.stop.exit_code())
            }
            (Err(error), Err(more)) => Err(anyhow::Error::new(error).context(more.to_string())),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error.into()),
            (Ok(Ended::Stopped), _) => Ok(self.context.stop.exit_code()),
            (Ok(Ended::Failed), _) => Ok(EXIT_FAILED),
            (Ok(Ended::AllRead), _) => Ok(if report.failed() > 0 { EXIT_FAILED } else { EXIT_OK }),
        }
    }

    /// Reads the input to its end, a signal, or the first failure.
    fn feed(&mut self) -> Result<Ended> {
        loop {
            if self.context.stop.is_raised() {
                return self.take_what_was_read();
            }
            let message = match self.inbox.try_next() {
                Some(message) => message,
                None => {
                    let again = self.delivery.idle()?;
                    self.inbox.next(again).unwrap_or(Message::Woken)
                }
            };
            if let Some(ended) = self.handle(message)? {
                return Ok(ended);
            }
        }
    }

    /// A signal ends the reading; what the reading thread already took from the input is still delivered.
    fn take_what_was_read(&mut self) -> Result<Ended> {
        let aborts = self.delivery.transaction.is_some() || self.delivery.pace.is_some();
        while !aborts && let Some(message) = self.inbox.take_last() {
            if self.handle(message)?.is_some() {
                break;
            }
        }
        Ok(Ended::Stopped)
    }

    fn handle(&mut self, message: Message) -> Result<Option<Ended>> {
        match message {
            Message::Chunk(chunk) => {
                self.context.metrics.read(chunk.len());
                self.delivery.set_now(now());
                if let Some(ended) = self.take(&chunk)? {
                    return Ok(Some(ended));
                }
                self.inbox.recycle(chunk);
                self.delivery.producer.busy()?;
            }
            Message::EndOfSource => {
                if let Some(last) = self.splitter.finish() {
                    self.delivery.set_now(now());
                    self.line += 1;
                    let appended = self.delivery.append(&mut self.reader, &last);
                    if let Err(bad) = appended {
                        self.bad(bad, &last)?;
                    }
                }
                self.source += 1;
                self.line = 0;
            }
            Message::End => return Ok(Some(Ended::AllRead)),
            Message::Failed(error) => return Err(error),
            Message::Woken => {}
        }
        self.delivery.settle()?;
        Ok((self.delivery.report.failed() > 0 && !self.delivery.go_on).then_some(Ended::Failed))
    }

    fn take(&mut self, chunk: &[u8]) -> Result<Option<Ended>> {
        let Self { delivery, reader, splitter, line, names, source, .. } = self;
        let fed = splitter.feed(chunk, |bytes| {
            *line += 1;
            match delivery.append(reader, bytes) {
                Ok(()) => ControlFlow::Continue(()),
                Err(Bad::Fatal(error)) => ControlFlow::Break(error),
                Err(bad) => match delivery.refuse(locate(bad, names, *source, *line), reader, bytes) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(error),
                },
            }
        });
        match fed {
            Ok(ControlFlow::Continue(())) => Ok(None),
            Ok(ControlFlow::Break(Error::Stopped)) => Ok(Some(Ended::Stopped)),
            Ok(ControlFlow::Break(error)) => Err(error),
            Err(bad) => {
                // Too long to be kept: nothing after it can be told apart.
                self.line += 1;
                Err(locate(Bad::Line(bad), &self.names, self.source, self.line))
            }
        }
    }

    fn bad(&mut self, bad: Bad, line: &[u8]) -> Result<()> {
        match bad {
            Bad::Fatal(error) => Err(error),
            bad => {
                let error = locate(bad, &self.names, self.source, self.line);
                self.delivery.refuse(error, &mut self.reader, line)
            }
        }
    }

    /// Delivers what was read, and ends the transaction.
    fn finish(&mut self, ended: &Result<Ended>) -> Result<()> {
        let commit = matches!(ended, Ok(Ended::AllRead));
        self.delivery.finish(commit)
    }
}

impl Delivery<'_> {
    fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        self.producer.set_now(now);
    }

    #[inline]
    fn append(&mut self, reader: &mut Reader, line: &[u8]) -> Result<(), Bad> {
        let Some(read) = reader.read(line).map_err(Bad::Line)? else { return Ok(()) };
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        let Some(topic) = self.topic.or(read.topic) else {
            return Err(Bad::Record(Error::Usage("the record names no topic".to_owned())));
        };
        if self.pace.is_some() {
            self.wait_for_pace().map_err(Bad::Fatal)?;
        }
        let slot = match self.producer.append(topic, self.partition.or(read.partition), &read.record) {
            Ok(slot) => slot,
            Err(error @ (Error::Usage(_) | Error::Kafka { .. })) => return Err(Bad::Record(error)),
            Err(error) => return Err(Bad::Fatal(error)),
        };
        self.report.appended(slot, read.record.timestamp.unwrap_or(self.now));
        if let Some(transaction) = &mut self.transaction {
            transaction.records += 1;
            if transaction.commit_every.records.is_some_and(|limit| transaction.records >= limit) {
                self.commit().map_err(Bad::Fatal)?;
            }
        }
        Ok(())
    }

    /// A line that is no record, or a record that can never be sent.
    fn refuse(&mut self, error: Error, reader: &mut Reader, line: &[u8]) -> Result<()> {
        if !self.go_on {
            return Err(error);
        }
        match reader.read(line) {
            Ok(Some(read)) => {
                let topic = self.topic.or(read.topic).unwrap_or_default();
                self.report.refused(&error, topic, Refused::Record(&read.record))
            }
            _ => self.report.refused(&error, self.topic.unwrap_or_default(), Refused::Line(line)),
        }
    }

    /// Waits until the next record is due.
    fn wait_for_pace(&mut self) -> Result<()> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let due = pace.began + Duration::from_secs_f64(pace.sent as f64 / pace.a_second);
        pace.sent += 1;
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        self.idle()?;
        let stopped = self.pace.as_ref().is_some_and(|pace| pace.stop.wait(wait));
        self.set_now(now());
        if stopped { Err(Error::Stopped) } else { Ok(()) }
    }

    /// The input has nothing right now; returns when to look again without it.
    fn idle(&mut self) -> Result<Option<Instant>> {
        let again = self.producer.idle()?;
        self.settle()?;
        self.report.flush()?;
        let step = self.transaction.as_ref().and_then(|t| Some((t, t.commit_every.interval?)));
        let due = step.filter(|(t, _)| t.records > 0).map(|(t, interval)| t.began + interval);
        Ok([again, due].into_iter().flatten().min())
    }

    /// Notes and tells what became known; commits a step that is due.
    fn settle(&mut self) -> Result<()> {
        self.report.take(&mut *self.producer)?;
        match &self.transaction {
            None => self.report.settle(),
            Some(t)
                if t.records > 0 && t.commit_every.interval.is_some_and(|interval| t.began.elapsed() >= interval) =>
            {
                self.commit()
            }
            Some(_) => Ok(()),
        }
    }

    /// Delivers and commits what was read, and begins the next transaction.
    fn commit(&mut self) -> Result<()> {
        self.producer.finish()?;
        self.report.take(&mut *self.producer)?;
        if self.report.failed() > 0 {
            return Ok(()); // the work ends, and aborts
        }
        self.producer.end_transaction(true)?;
        if let Some(transaction) = &mut self.transaction {
            self.report.committed(transaction.records);
            (transaction.records, transaction.began) = (0, Instant::now());
        }
        self.report.settle()
    }

    /// Ends it: delivers what was read; with a transaction commits, or aborts unless `commit`.
    fn finish(&mut self, commit: bool) -> Result<()> {
        if self.transaction.is_none() {
            let finished = self.producer.finish();
            self.report.take(&mut *self.producer)?;
            return finished;
        }
        if commit && self.report.failed() == 0 {
            match self.commit() {
                Ok(()) if self.report.failed() == 0 => return Ok(()),
                Ok(()) | Err(Error::Stopped) => {}
                Err(error) => {
                    self.abort(&error)?;
                    return Err(error);
                }
            }
        }
        self.abort(&Error::NotSent)
    }

    fn abort(&mut self, why: &Error) -> Result<()> {
        self.producer.abandon()?;
        self.producer.finish()?;
        self.report.take(&mut *self.producer)?;
        let aborted = self.producer.end_transaction(false);
        crate::cli::report::tell(
            "the transaction is aborted: nothing of it is visible to readers of committed records",
        );
        self.report.aborted(&Error::Aborted(Box::new(why.clone())))?;
        aborted
    }
}

/// Says where in the input something is wrong.
fn locate(bad: Bad, names: &[String], source: usize, line: u64) -> Error {
    let source_name = names.get(source).cloned().unwrap_or_default();
    match bad {
        Bad::Line(bad) => Error::Input { source_name, line, byte: bad.byte, what: bad.what },
        Bad::Record(Error::Usage(what)) => Error::Input { source_name, line, byte: None, what },
        Bad::Record(error) => Error::Input { source_name, line, byte: None, what: error.to_string() },
        Bad::Fatal(error) => error,
    }
}
