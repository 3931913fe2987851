//! Where the last N visible records of a partition begin. Offsets do not count records: compaction removes some,
//! transactions take some for markers, and aborted ones are not visible. So the log is read backward in growing steps.

use super::bounds::Bounds;
use super::positions::Target;
use super::scan::{Log, scan};
use crate::error::Result;
use crate::record::Offset;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// The first step reads at least so many offsets.
const FIRST_STEP: Offset = 64;
/// Each step is so many times as long as the one before.
const GROWTH: Offset = 4;
/// Bytes of a fetch.
const FETCH_BYTES: usize = 1 << 20;

/// The offsets of the last `most` records.
struct LastOffsets {
    most: usize,
    offsets: VecDeque<Offset>,
}

/// The offset of the `count`th last record before `bounds.reachable` that this reader sees; the first offset when there
/// are no more.
pub(super) async fn find(log: &Log<'_>, target: &Target, count: u64, bounds: &Bounds) -> Result<Offset> {
    let mut missing = usize::try_from(count).unwrap_or(usize::MAX);
    let mut end = bounds.reachable;
    let mut step = Offset::try_from(count).unwrap_or(Offset::MAX).max(FIRST_STEP);
    while missing > 0 && end > bounds.first {
        let start = end.saturating_sub(step).max(bounds.first);
        // More offsets than there are: all of it, whatever is visible.
        if start == bounds.first && Offset::try_from(missing).is_ok_and(|missing| missing >= end - start) {
            return Ok(start);
        }
        let target = Target { position: start, until: end, last_epoch: None, ..target.clone() };
        let last = LastOffsets { most: missing, offsets: VecDeque::new() };
        let LastOffsets { offsets, .. } = scan(log, target, FETCH_BYTES, last, |last, record| {
            if last.offsets.len() == last.most {
                last.offsets.pop_front();
            }
            last.offsets.push_back(record.offset);
            ControlFlow::Continue(())
        })
        .await?;
        if offsets.len() == missing {
            return Ok(offsets.front().copied().unwrap_or(end));
        }
        missing -= offsets.len();
        end = start;
        step = step.saturating_mul(GROWTH);
    }
    Ok(end)
}
