//! Receipts: a JSON object a record.

use super::ledger::Settled;
use crate::error::Result;
use crate::output::Writer;

/// Writes the receipt of each record. One after another of the same batch differs in two numbers, which are counted on
/// in a copy of the line before.
pub(super) fn write_receipts(out: &mut Writer, settled: &Settled<'_>) -> Result<()> {
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
