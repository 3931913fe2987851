//! What became of the records, reported to people on stderr, to scripts on stdout, and in the dead-letter file.

use super::ledger::Ledger;
use crate::cli::hints::WithHint;
use crate::cli::report::tell;
use crate::codec::View;
use crate::engine::{Failure, Producer, Receipt, Slot};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics::Metrics;
use crate::output::{DeadLetters, Writer, write_receipts};
use crate::record::{RecordRef, Timestamp};
use crate::text::counted;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why records failed, and whether they may be written all the same.
fn reason(failure: &Failure) -> String {
    let possibly = if failure.possibly_written { "; possibly written" } else { "" };
    format!("{}{possibly}", WithHint(&failure.error))
}

/// Outcomes so far.
#[derive(Debug)]
pub(super) struct Report {
    metrics: Metrics,
    /// In the input's order; not kept where nobody asks for that order.
    ledger: Option<Ledger>,
    receipts: Option<Writer>,
    dead_letters: Option<DeadLetters>,
    /// Records of the input that an earlier run delivered.
    skipped: u64,
    delivered: u64,
    bytes: u64,
    batches: u64,
    failed: u64,
    /// Failed records that may be written all the same.
    possibly_written: u64,
    errors: BTreeMap<String, u64>,
    /// The first that an ACL would have helped.
    denied: Option<Error>,
    /// Records before the first that failed, counting skipped ones.
    leading: Option<u64>,
    /// With transactions: the input's records up to the last commit.
    committed: Option<u64>,
    /// Records delivered by then.
    delivered_before: u64,
    pending_failure: Option<FailedRun>,
}

/// Failures of neighbors for the same reason, reported as one.
#[derive(Debug)]
struct FailedRun {
    /// The number of the first record in the input, from 1.
    first: u64,
    count: u64,
    why: String,
}

impl Report {
    pub(super) fn new(
        metrics: Metrics,
        skipped: u64,
        ledger: Option<Ledger>,
        receipts: Option<Writer>,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        Self {
            metrics,
            ledger,
            receipts,
            dead_letters,
            skipped,
            delivered: 0,
            bytes: 0,
            batches: 0,
            failed: 0,
            possibly_written: 0,
            errors: BTreeMap::new(),
            denied: None,
            leading: None,
            committed: None,
            delivered_before: 0,
            pending_failure: None,
        }
    }

    /// Records that are known to have failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// A failure that an ACL would have helped.
    pub(super) fn denied(&self) -> Option<&Error> {
        self.denied.as_ref()
    }

    /// Memory that is kept of records until they are acknowledged in order.
    pub(super) fn held_bytes(&self) -> usize {
        self.ledger.as_ref().map_or(0, Ledger::held_bytes)
    }

    #[inline]
    pub(super) fn appended(&mut self, slot: Slot, timestamp: Timestamp) {
        if let Some(ledger) = &mut self.ledger {
            ledger.appended(slot, timestamp);
        }
    }

    /// A record that will never be sent; `line` or `record` is what there is of it.
    pub(super) fn refused(&mut self, error: &Error, topic: &str, what: Refused<'_>) -> Result<()> {
        self.failed += 1;
        self.metrics.failed(1, error);
        *self.errors.entry(error.name()).or_default() += 1;
        match &mut self.ledger {
            Some(ledger) => ledger.refused(error.clone()),
            None => tell(WithHint(error)),
        }
        let Some(letters) = &mut self.dead_letters else { return Ok(()) };
        match what {
            Refused::Line(line) => letters.line(topic, line, error),
            Refused::Record(record, view) => letters.record(topic, None, record, view, error),
        }
    }

    /// Notes the outcomes that the producer has learned.
    pub(super) fn take(&mut self, producer: &mut dyn Producer) -> Result<()> {
        for receipt in producer.receipts()? {
            match &receipt.outcome {
                Ok(_) => {
                    self.delivered += receipt.records;
                    self.bytes += receipt.bytes;
                    self.batches += 1;
                    self.metrics.delivered(receipt.records);
                }
                Err(failure) => self.note_failure(&receipt, failure)?,
            }
            match (&mut self.ledger, &receipt.outcome) {
                (Some(ledger), _) => ledger.answered(&receipt),
                (None, Err(failure)) => {
                    let records = counted(receipt.records, "record");
                    tell(format_args!("not delivered: {records}: {}", reason(failure)));
                }
                (None, Ok(_)) => {}
            }
        }
        Ok(())
    }

    fn note_failure(&mut self, receipt: &Receipt, failure: &Failure) -> Result<()> {
        let Failure { error, possibly_written, records } = failure;
        self.failed += receipt.records;
        self.possibly_written += if *possibly_written { receipt.records } else { 0 };
        self.metrics.failed(receipt.records, error);
        *self.errors.entry(error.name()).or_default() += receipt.records;
        if matches!(error, Error::Kafka { code, .. } if code.is_denied()) {
            self.denied.get_or_insert_with(|| error.clone());
        }
        let (Some(letters), Some(batch)) = (&mut self.dead_letters, records) else { return Ok(()) };
        let why = if *possibly_written { format!("{error}; possibly written") } else { error.to_string() };
        for record in batch.records().flatten() {
            letters.record(&receipt.topic, Some(receipt.partition), &record, &View::PLAIN, &why)?;
        }
        Ok(())
    }

    /// Reports the outcomes that are known, in the input's order.
    ///
    /// # Errors
    /// Nobody reads the receipts any more, or they cannot be written.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Self { ledger, receipts, leading, pending_failure, .. } = self;
        let Some(ledger) = ledger else { return Ok(()) };
        ledger.settle(|settled| {
            if let Err(failure) = &settled.result {
                leading.get_or_insert(settled.record - 1);
                let why = reason(failure);
                match pending_failure {
                    Some(run) if run.why == why && run.first + run.count == settled.record => {
                        run.count += settled.count
                    }
                    _ => {
                        let (first, count) = (settled.record, settled.count);
                        tell_run(pending_failure.replace(FailedRun { first, count, why }));
                    }
                }
            }
            match receipts {
                Some(receipts) => write_receipts(receipts, &settled.receipts()).map_err(gone),
                None => Ok(()),
            }
        })
    }

    /// A transaction with so many records was committed; or is about to begin, with none.
    pub(super) fn committed(&mut self, records: u64) {
        *self.committed.get_or_insert(0) += records;
        self.delivered_before = self.delivered;
    }

    /// The open transaction was aborted: none of its records is delivered.
    pub(super) fn aborted(&mut self, error: &Error) -> Result<()> {
        self.undo(error, false)
    }

    /// Nobody knows whether the open transaction was committed.
    pub(super) fn in_doubt(&mut self, error: &Error) -> Result<()> {
        self.undo(error, true)
    }

    fn undo(&mut self, error: &Error, possibly_written: bool) -> Result<()> {
        let undone = self.delivered - self.delivered_before;
        self.delivered = self.delivered_before;
        self.failed += undone;
        self.possibly_written += if possibly_written { undone } else { 0 };
        if let Some(ledger) = &mut self.ledger {
            ledger.fail_all(error, possibly_written);
        }
        self.settle()
    }

    /// Writes the receipts that wait.
    pub(super) fn flush(&mut self) -> Result<()> {
        tell_run(self.pending_failure.take());
        self.receipts.as_mut().map_or(Ok(()), Writer::flush).map_err(gone)
    }

    /// Makes sure that the dead letters are on the disk, and reports the sum of it all. `is_whole`: the input was read
    /// to its end.
    pub(super) fn close(&mut self, quiet: bool, elapsed: Duration, is_whole: bool) -> Result<()> {
        self.settle()?;
        self.flush()?;
        if let Some(letters) = &mut self.dead_letters {
            letters.close()?;
        }
        if self.failed > 0 || !is_whole {
            self.tell_where_to_resume();
        }
        if !quiet {
            let seconds = elapsed.as_secs_f64();
            let failures: Vec<_> = self.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let failures = match self.failed {
                0 => String::new(),
                failed => {
                    format!("; {failed} failed{}{}", if failures.is_empty() { "" } else { ": " }, failures.join(", "))
                }
            };
            let delivered = counted(self.delivered, "record");
            let (batches, bytes) = (counted(self.batches, "batch"), counted(self.bytes, "byte"));
            tell(format_args!("{delivered} delivered in {batches}, {bytes}, {seconds:.2} s{failures}"));
        }
        Ok(())
    }

    /// Reports how an input that was not delivered as a whole can be continued.
    fn tell_where_to_resume(&self) {
        let (Some(leading), Some(delivered)) = (self.leading(), self.leading_words()) else { return };
        let repeated = self.delivered.saturating_sub(leading.saturating_sub(self.skipped));
        let mut again = Vec::new();
        if repeated > 0 {
            again.push(format!("duplicates {}", counted(repeated, "delivered record")));
        }
        if self.possibly_written > 0 {
            again.push(format!("may duplicate {}", counted(self.possibly_written, "possibly written record")));
        }
        match again.is_empty() {
            true if leading == 0 => {}
            true => tell(delivered),
            false => tell(format_args!("{delivered}; resuming {}", again.join(" and "))),
        }
    }

    /// [`Report::leading`] in words.
    pub(super) fn leading_words(&self) -> Option<String> {
        Some(match self.leading()? {
            0 => "not even the first record is known to be delivered".to_owned(),
            1 => "the first record was delivered (--skip 1 resumes after it)".to_owned(),
            n => format!("the first {n} records were delivered (--skip {n} resumes after them)"),
        })
    }

    /// How many of the input's first records are known to be delivered, when it was ended early.
    pub(super) fn leading(&self) -> Option<u64> {
        self.committed.or(self.leading).or(self.ledger.as_ref().map(Ledger::settled))
    }
}

/// What there is of a record that was refused.
pub(super) enum Refused<'a> {
    Line(&'a [u8]),
    Record(&'a RecordRef<'a>, &'a View<'a>),
}

fn tell_run(failed: Option<FailedRun>) {
    match failed {
        Some(FailedRun { first, count: 1, why }) => tell(format_args!("not delivered: record {first}: {why}")),
        Some(FailedRun { first, count, why }) => {
            tell(format_args!("not delivered: records {first} to {}: {why}", first + count - 1));
        }
        None => {}
    }
}

/// Unlike a `consume` without a reader, receipts that nobody reads are a failure.
fn gone(error: Error) -> Error {
    match error {
        Error::ReaderGone => Error::Io("the reader of the receipts closed the pipe".to_owned()),
        other => other,
    }
}
