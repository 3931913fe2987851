//! What each record goes through once it is read: skipped, held back, appended, and accounted for.

use super::pace::Pace;
use super::refusals::{Bad, Refusals};
use super::report::Report;
use super::transaction::Transaction;
use crate::codec::framed::{EncodeError, Encoder};
use crate::engine::Producer;
use crate::error::{Error, RefusedRecord, Result};
use crate::input::{BadLine, Frame, Read, Reader};
use crate::record::{PartitionId, Timestamp, now};
use std::time::{Duration, Instant};

/// `--skip`: records of the input that an earlier run delivered.
pub(super) struct Skip {
    pub(super) left: u64,
}

impl Skip {
    /// Whether the next record is one of them.
    #[inline]
    fn takes_next(&mut self) -> bool {
        let takes = self.left > 0;
        self.left -= u64::from(takes);
        takes
    }
}

/// Delivers records, by the policies that the command line sets.
pub(super) struct Delivery<'a> {
    pub(super) producer: Box<dyn Producer>,
    pub(super) report: Report,
    /// Encodes keys and values that have a schema.
    pub(super) encoder: Option<Encoder>,
    /// Where records go; `None` is where each says.
    pub(super) topic: Option<&'a str>,
    pub(super) partition: Option<PartitionId>,
    pub(super) skip: Skip,
    pub(super) refusals: Refusals,
    pub(super) pace: Option<Pace>,
    pub(super) transaction: Option<Transaction>,
    /// The timestamp of records that have none.
    pub(super) now: Timestamp,
}

/// The record with its key and value encoded.
#[inline]
fn encode<'a>(encoder: &'a mut Encoder, topic: &str, read: Read<'a>) -> Result<Read<'a>, Bad> {
    match encoder.encode(topic, read.record, read.key, read.value) {
        Ok(record) => Ok(Read { record, ..read }),
        Err(EncodeError::Unfit(why)) => Err(Bad::Line(BadLine::new(why))),
        Err(EncodeError::Fatal(error)) => Err(Bad::Fatal(error)),
    }
}

#[cold]
fn without_registry() -> BadLine {
    BadLine::new("the record names a schema, and no schema registry is set (use --registry URL)".to_owned())
}

impl Delivery<'_> {
    /// The input continues: notes the time, and sends what has been open for too long.
    pub(super) fn tick(&mut self) -> Result<()> {
        self.now = now();
        self.producer.tick(self.now, self.report.held_bytes())
    }

    /// Whether a signal ends the run without what was read but not sent yet.
    pub(super) fn ends_at_signal(&self) -> bool {
        self.transaction.is_some() || self.pace.is_some()
    }

    /// Whether the failures so far end the run.
    pub(super) fn has_failed(&self) -> bool {
        self.refusals.end_run(&self.report)
    }

    #[inline]
    pub(super) fn append(&mut self, reader: &mut Reader, frame: &Frame<'_>) -> Result<(), Bad> {
        let Some(read) = reader.read(frame).map_err(Bad::Line)? else { return Ok(()) };
        if self.skip.takes_next() {
            return Ok(());
        }
        let Some(topic) = self.topic.or(read.topic) else {
            return Err(Bad::Record(Error::Refused(RefusedRecord::NoTopic)));
        };
        if let Some(wait) = self.pace.as_mut().and_then(Pace::next) {
            self.wait(wait).map_err(Bad::Fatal)?;
        }
        let read = match &mut self.encoder {
            Some(encoder) => encode(encoder, topic, read)?,
            None if read.names_schema() => return Err(Bad::Line(without_registry())),
            None => read,
        };
        let slot = match self.producer.append(topic, self.partition.or(read.partition), &read.record) {
            Ok(slot) => slot,
            Err(error @ (Error::Refused(_) | Error::Kafka { .. })) => return Err(Bad::Record(error)),
            Err(error) => return Err(Bad::Fatal(error)),
        };
        self.report.appended(slot, read.record.timestamp.unwrap_or(self.now));
        if let Some(transaction) = &mut self.transaction
            && transaction.appended()
        {
            transaction.commit(&mut *self.producer, &mut self.report).map_err(Bad::Fatal)?;
        }
        Ok(())
    }

    /// A line that is no record, or a record that can never be sent.
    pub(super) fn refuse(&mut self, error: Error, reader: &mut Reader, frame: &Frame<'_>) -> Result<()> {
        self.refusals.refuse(error, self.topic, self.encoder.as_ref(), reader, frame, &mut self.report)
    }

    /// Waits for `--rate`.
    fn wait(&mut self, time: Duration) -> Result<()> {
        self.idle()?;
        let waited = self.pace.as_ref().is_none_or(|pace| pace.wait(time));
        self.tick()?;
        if waited { Ok(()) } else { Err(Error::Stopped) }
    }

    /// The input has nothing right now; returns when to call again without it.
    pub(super) fn idle(&mut self) -> Result<Option<Instant>> {
        let again = self.producer.idle()?;
        self.settle()?;
        self.report.flush()?;
        let due = self.transaction.as_ref().and_then(Transaction::due_at);
        Ok([again, due].into_iter().flatten().min())
    }

    /// Notes and reports what became known; commits a transaction that is due.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.report.take(&mut *self.producer)?;
        match &mut self.transaction {
            None => self.report.settle(),
            Some(transaction) if transaction.is_due() => transaction.commit(&mut *self.producer, &mut self.report),
            Some(_) => Ok(()),
        }
    }

    /// Delivers what was read, and ends the transaction. `is_whole`: the input was read to its end.
    pub(super) fn finish(&mut self, is_whole: bool) -> Result<()> {
        if let Some(transaction) = &mut self.transaction {
            return transaction.finish(&mut *self.producer, &mut self.report, is_whole);
        }
        let finished = self.producer.finish();
        self.report.take(&mut *self.producer)?;
        finished
    }
}
