//! Receipts: one JSON object per record of the input, in its order.

use super::Writer;
use crate::codec::write_string;
use crate::error::{Error, Result};
use crate::record::{Offset, PartitionId, Timestamp};

/// Neighbors of the input with one outcome.
#[derive(Debug)]
pub struct ReceiptRun<'a> {
    /// The first record's number in the input, from 1.
    pub record: u64,
    /// How many records.
    pub count: u64,
    /// Unknown for records that were refused before they had one.
    pub partition: Option<(&'a str, PartitionId)>,
    /// The records' timestamp, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The first record's offset, if the broker returned it; or why they failed.
    pub outcome: Result<Option<Offset>, Undelivered<'a>>,
}

/// Why records were not delivered.
#[derive(Debug, Clone, Copy)]
pub struct Undelivered<'a> {
    pub error: &'a Error,
    /// Whether the broker may have them all the same.
    pub possibly_written: bool,
}

/// Writes the receipt of each record. One after another of the same run differs in two numbers, which are incremented
/// in a copy of the line before.
///
/// # Errors
/// As [`Writer::flush`].
pub fn write_receipts(out: &mut Writer, run: &ReceiptRun<'_>) -> Result<()> {
    let mut line = None;
    for n in 0..run.count {
        let buffer = out.buffer();
        line = match line.and_then(|line| next_line(buffer, line)) {
            Some(line) => Some(line),
            None => Some(write_receipt(buffer, run, n)),
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

fn write_receipt(out: &mut Vec<u8>, run: &ReceiptRun<'_>, n: u64) -> Line {
    let start = out.len();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"record\":");
    out.extend_from_slice(digits.format(run.record + n).as_bytes());
    let record_end = out.len() - start;
    if let Some((topic, partition)) = run.partition {
        out.extend_from_slice(b",\"topic\":");
        write_string(out, topic);
        out.extend_from_slice(b",\"partition\":");
        out.extend_from_slice(digits.format(partition).as_bytes());
    }
    let mut offset_end = None;
    match &run.outcome {
        Ok(offset) => {
            if let Some(offset) = offset {
                out.extend_from_slice(b",\"offset\":");
                out.extend_from_slice(digits.format(offset + n as i64).as_bytes());
                offset_end = Some(out.len() - start);
            }
            out.extend_from_slice(b",\"timestamp\":");
            out.extend_from_slice(digits.format(run.timestamp).as_bytes());
        }
        Err(failure) => {
            out.extend_from_slice(b",\"error\":");
            write_string(out, &failure.error.name());
            out.extend_from_slice(b",\"message\":");
            write_string(out, &failure.error.to_string());
            out.extend_from_slice(if failure.possibly_written {
                b",\"possibly_written\":true"
            } else {
                b",\"possibly_written\":false"
            });
        }
    }
    out.extend_from_slice(b"}\n");
    Line { start, len: out.len() - start, record_end, offset_end }
}

/// Copies `line` to the end with its numbers incremented; `None` when one gets longer, and nothing is written.
fn next_line(out: &mut Vec<u8>, line: Line) -> Option<Line> {
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

/// Increments the decimal number that `text` ends with; false when it would need another digit.
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

    #[test]
    fn receipts_count_on_across_any_number_of_digits() {
        let run =
            ReceiptRun { record: 7, count: 2_000, partition: Some(("t", 3)), timestamp: 5, outcome: Ok(Some(95)) };
        let mut out = Vec::new();
        let mut line = None;
        for n in 0..run.count {
            line = match line.and_then(|line| next_line(&mut out, line)) {
                Some(line) => Some(line),
                None => Some(write_receipt(&mut out, &run, n)),
            };
        }
        for (n, line) in String::from_utf8(out).unwrap().lines().enumerate() {
            let expected =
                format!(r#"{{"record":{},"topic":"t","partition":3,"offset":{},"timestamp":5}}"#, n + 7, n + 95);
            assert_eq!(line, expected);
        }
    }
}
