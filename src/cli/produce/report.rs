//! What became of the records, told to people on stderr, to scripts on stdout, and to the dead-letter file.

use super::ledger::{Ledger, Settled};
use crate::cli::hints::WithHint;
use crate::engine::{Failure, Producer};
use crate::error::ErrorCode;
use crate::error::{Error, Result};
use crate::metrics::{Messages, Metrics};
use crate::output::{DeadLetters, Writer};
use crate::record::RecordRef;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Tells people something; what is drawn on their terminal gives way.
macro_rules! note {
    ($($what:tt)*) => {{
        let text = format!($($what)*);
        let _ = Messages.write_all(format!("kpipe: {text}\n").as_bytes()); // as eprintln, which would panic
    }};
}

/// Outcomes so far.
#[derive(Debug)]
pub(super) struct Report {
    metrics: Metrics,
    /// In the input's order; not kept where nobody asks for that order.
    ledger: Option<Ledger>,
    receipts: Option<Writer>,
    dead_letters: Option<DeadLetters>,
    delivered: u64,
    bytes: u64,
    batches: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    /// The first that an ACL would have helped.
    denied: Option<Error>,
    /// Records before the first that failed, counting skipped ones.
    leading: Option<u64>,
    /// Where transactions are committed in commit_every: the input's records up to the last commit.
    committed: Option<u64>,
    /// Failures of neighbours for the same reason, told as one: first, count, why.
    pending_failure: Option<(u64, u64, String)>,
}

impl Report {
    pub(super) fn new(
        metrics: Metrics,
        ledger: Option<Ledger>,
        receipts: Option<Writer>,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        Self {
            metrics,
            ledger,
            receipts,
            dead_letters,
            delivered: 0,
            bytes: 0,
            batches: 0,
            failed: 0,
            errors: BTreeMap::new(),
            denied: None,
            leading: None,
            committed: None,
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

    #[inline]
    pub(super) fn appended(&mut self, slot: crate::engine::Slot, timestamp: crate::record::Timestamp) {
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
            None => note!("{}", WithHint(error)),
        }
        let Some(letters) = &mut self.dead_letters else { return Ok(()) };
        match what {
            Refused::Line(line) => letters.line(topic, line, error),
            Refused::Record(record) => letters.record(topic, None, record, error),
        }
    }

    /// Notes the producer's news.
    pub(super) fn take(&mut self, producer: &mut dyn Producer) -> Result<()> {
        for receipt in producer.receipts() {
            match &receipt.outcome {
                Ok(_) => {
                    self.delivered += receipt.records;
                    self.bytes += receipt.bytes;
                    self.batches += 1;
                    self.metrics.delivered(receipt.records);
                }
                Err(Failure { error, records, .. }) => {
                    self.failed += receipt.records;
                    self.metrics.failed(receipt.records, error);
                    *self.errors.entry(error.name()).or_default() += receipt.records;
                    if matches!(error, Error::Kafka { code, .. } if code.is_denied()) {
                        self.denied.get_or_insert_with(|| error.clone());
                    }
                    if let (Some(letters), Some(batch)) = (&mut self.dead_letters, records) {
                        for record in batch.records().flatten() {
                            letters.record(&receipt.topic, Some(receipt.partition), &record, error)?;
                        }
                    }
                }
            }
            match &mut self.ledger {
                Some(ledger) => ledger.answered(&receipt),
                None => {
                    if let Err(failure) = &receipt.outcome {
                        note!("{} records not delivered: {}", receipt.records, WithHint(&failure.error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells what is settled.
    ///
    /// # Errors
    /// Nobody reads the receipts any more, or they cannot be written.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Self { ledger, receipts, leading, pending_failure, .. } = self;
        let Some(ledger) = ledger else { return Ok(()) };
        ledger.settle(|settled| {
            if let Err(failure) = &settled.result {
                leading.get_or_insert(settled.record - 1);
                let possibly = if failure.possibly_written { "; perhaps written all the same" } else { "" };
                let why = format!("{}{possibly}", WithHint(&failure.error));
                match pending_failure {
                    Some((first, count, same)) if *same == why && *first + *count == settled.record => {
                        *count += settled.count;
                    }
                    _ => tell(pending_failure.replace((settled.record, settled.count, why))),
                }
            }
            match receipts {
                Some(receipts) => write_receipts(receipts, &settled).map_err(gone),
                None => Ok(()),
            }
        })
    }

    /// A transaction was committed, with so many records; or is about to begin, with none.
    pub(super) fn committed(&mut self, records: u64) {
        *self.committed.get_or_insert(0) += records;
    }

    /// The transaction was aborted.
    pub(super) fn aborted(&mut self, error: &Error) -> Result<()> {
        self.failed += std::mem::take(&mut self.delivered);
        if let Some(ledger) = &mut self.ledger {
            ledger.fail_all(error);
        }
        self.settle()
    }

    /// Writes the receipts that wait.
    pub(super) fn flush(&mut self) -> Result<()> {
        tell(self.pending_failure.take());
        self.receipts.as_mut().map_or(Ok(()), Writer::flush).map_err(gone)
    }

    /// Makes sure that the dead letters are on the disk, and tells the sum of it all. `whole`: the input was read
    /// to its end.
    pub(super) fn close(&mut self, quiet: bool, elapsed: Duration, whole: bool) -> Result<()> {
        self.settle()?;
        self.flush()?;
        if let Some(letters) = &mut self.dead_letters {
            letters.close()?;
        }
        if (self.failed > 0 || !whole)
            && let Some(leading) = self.leading()
        {
            note!("the first {leading} records are delivered; --skip {leading} goes on after them");
        }
        if !quiet {
            let seconds = elapsed.as_secs_f64();
            let Self { delivered, bytes, batches, failed, .. } = self;
            let failures: Vec<_> = self.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let failures =
                if *failed > 0 { format!("; {failed} failed: {}", failures.join(", ")) } else { String::new() };
            note!("{delivered} records delivered in {batches} batches, {bytes} bytes, {seconds:.2} s{failures}");
        }
        Ok(())
    }

    /// How many of the input's first records are known to be delivered, when it was ended early.
    pub(super) fn leading(&self) -> Option<u64> {
        self.committed.or(self.leading).or(self.ledger.as_ref().map(Ledger::settled))
    }
}

/// What there is of a record that was refused.
pub(super) enum Refused<'a> {
    Line(&'a [u8]),
    Record(&'a RecordRef<'a>),
}

fn tell(lost: Option<(u64, u64, String)>) {
    match lost {
        Some((first, 1, why)) => note!("not delivered: record {first}: {why}"),
        Some((first, count, why)) => note!("not delivered: {count} records from record {first} on: {why}"),
        None => {}
    }
}

/// Unlike a `consume` without a reader, receipts that nobody reads are a failure.
fn gone(error: Error) -> Error {
    match error {
        Error::ReaderGone => Error::Io("the reader of the receipts has gone".to_owned()),
        other => other,
    }
}

/// A JSON object a record. A record after another of the same batch differs in two numbers, which are counted on
/// in a copy of the line before.
fn write_receipts(out: &mut Writer, settled: &Settled<'_>) -> Result<()> {
    let mut line = None;
    for n in 0..settled.count {
        let buffer = out.buffer();
        line = match line.and_then(|line| count_on(buffer, line)) {
            Some(line) => Some(line),
            None => Some(write_receipt(buffer, settled, n)),
        };
        if out.flush_if_large()? {
            line = None; // what could be copied is gone
        }
    }
    Ok(())
}

/// Where a line stands in the buffer, and where its numbers end in it.
#[derive(Clone, Copy)]
struct Line {
    start: usize,
    len: usize,
    record_end: usize,
    offset_end: Option<usize>,
}

fn write_receipt(out: &mut Vec<u8>, settled: &Settled<'_>, n: u64) -> Line {
    let start = out.len();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"record\":");
    out.extend_from_slice(digits.format(settled.record + n).as_bytes());
    let record_end = out.len() - start;
    if let Some((topic, partition)) = settled.place {
        out.extend_from_slice(b",\"topic\":\"");
        out.extend_from_slice(topic.as_bytes()); // a topic's name needs no escapes
        out.extend_from_slice(b"\",\"partition\":");
        out.extend_from_slice(digits.format(partition).as_bytes());
    }
    let mut offset_end = None;
    match &settled.result {
        Ok(offset) => {
            if let Some(offset) = offset {
                out.extend_from_slice(b",\"offset\":");
                out.extend_from_slice(digits.format(offset + n as i64).as_bytes());
                offset_end = Some(out.len() - start);
            }
            out.extend_from_slice(b",\"timestamp\":");
            out.extend_from_slice(digits.format(settled.timestamp).as_bytes());
        }
        Err(failure) => {
            let quoted = |text: String| serde_json::Value::from(text).to_string();
            let (name, message) = (quoted(failure.error.name()), quoted(failure.error.to_string()));
            let possibly = failure.possibly_written;
            out.extend_from_slice(
                format!(",\"error\":{name},\"message\":{message},\"possibly_written\":{possibly}").as_bytes(),
            );
        }
    }
    out.extend_from_slice(b"}\n");
    Line { start, len: out.len() - start, record_end, offset_end }
}

/// Copies `line` to the end with its numbers counted on; `None` when one gets longer, and nothing is written.
fn count_on(out: &mut Vec<u8>, line: Line) -> Option<Line> {
    let start = out.len();
    out.extend_from_within(line.start..line.start + line.len);
    let copy = &mut out[start..];
    let counted =
        increment(&mut copy[..line.record_end]) && line.offset_end.is_none_or(|end| increment(&mut copy[..end]));
    if !counted {
        out.truncate(start);
        return None;
    }
    Some(Line { start, ..line })
}

/// Counts on the decimal number that `text` ends with; false when it would need another digit.
fn increment(text: &mut [u8]) -> bool {
    for digit in text.iter_mut().rev() {
        match digit {
            b'0'..=b'8' => {
                *digit += 1;
                return true;
            }
            b'9' => *digit = b'0',
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn receipts_count_on_across_any_number_of_digits() {
        let topic: Arc<str> = "t".into();
        let settled = Settled { record: 7, count: 2_000, place: Some((&topic, 3)), timestamp: 5, result: Ok(Some(95)) };
        let mut out = Vec::new();
        let mut line = None;
        for n in 0..settled.count {
            line = match line.and_then(|line| count_on(&mut out, line)) {
                Some(line) => Some(line),
                None => Some(write_receipt(&mut out, &settled, n)),
            };
        }
        for (n, line) in String::from_utf8(out).unwrap().lines().enumerate() {
            let expected =
                format!(r#"{{"record":{},"topic":"t","partition":3,"offset":{},"timestamp":5}}"#, n + 7, n + 95);
            assert_eq!(line, expected);
        }
    }
}
