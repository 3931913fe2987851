//! Which records go on: what a record must match, and which of those that do are sampled. Calls `record` and `codec`.

mod condition;
mod failure;
#[cfg(feature = "jq")]
mod jq;
#[cfg(test)]
mod tests;
#[cfg(not(feature = "jq"))]
mod without_jq;

pub use condition::{Condition, Field, Test};
pub use failure::{Failure, Limit};
#[cfg(feature = "jq")]
pub use jq::{Jq, Output};
#[cfg(not(feature = "jq"))]
pub use without_jq::{Jq, Output};

use crate::codec::View;
use crate::record::{Malformed, Offset, PartitionId, RecordRef, Records};

/// A batch is searched as a whole only while a hit saves looking into so many records.
const LEAST_SKIPPED: u32 = 4;
/// So many hits are looked at before the search is judged.
const FIRST_HITS: u32 = 16;

/// Which of the matching records go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// About this share of them: those whose hash of topic partition and offset lies below it, so that each run chooses
    /// the same ones.
    Share(u64),
    /// The first one and every so manyth after it.
    Every(u64),
}

impl Sampling {
    /// A share between 0 and 1.
    pub fn share(share: f64) -> Self {
        Self::Share((share * u64::MAX as f64) as u64)
    }
}

/// Lends the records of batches that match.
#[derive(Debug)]
pub struct Filter {
    /// All of them must hold.
    conditions: Vec<Condition>,
    /// Records that do not match go on instead.
    is_inverted: bool,
    sampling: Option<Sampling>,
    /// The condition whose matches are looked for in whole batches.
    searched: Option<usize>,
    read: u64,
    matched: u64,
}

impl Filter {
    /// Lends records for which all `conditions` hold, or with `is_inverted` the others.
    pub fn new(conditions: Vec<Condition>, is_inverted: bool, sampling: Option<Sampling>) -> Self {
        let searched =
            if is_inverted { None } else { conditions.iter().position(|condition| condition.search().is_some()) };
        Self { conditions, is_inverted, sampling, searched, read: 0, matched: 0 }
    }

    /// How many records were looked at.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// How many of them matched, before sampling.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// The next record of `partition` that goes on.
    ///
    /// # Errors
    /// A record is malformed.
    pub fn next<'a>(
        &mut self,
        partition: PartitionId,
        records: &mut Records<'a>,
    ) -> Option<Result<RecordRef<'a>, Malformed>> {
        // Where the batch lends only a part of its records, each is counted for itself.
        let searched = self.searched.filter(|_| records.lends_all());
        let (mut hits, mut seen) = (0, 0);
        loop {
            if let Some(search) = searched.and_then(|index| self.conditions[index].search())
                && (hits < FIRST_HITS || seen >= hits * LEAST_SKIPPED)
            {
                let before = records.remaining();
                match search.find(records.remaining_bytes()) {
                    Some(found) => records.skip_to(found.start()),
                    None => records.skip_all(),
                }
                let skipped = before - records.remaining();
                self.read += u64::from(skipped);
                (hits, seen) = (hits + 1, seen + skipped);
            }
            let record = match records.next()? {
                Ok(record) => record,
                Err(malformed) => return Some(Err(malformed)),
            };
            if self.passes(partition, &record, &View::PLAIN) {
                return Some(Ok(record));
            }
        }
    }

    /// Whether `record` of `partition` goes on, where a schema may have made other text of its key and value.
    #[inline]
    pub fn passes(&mut self, partition: PartitionId, record: &RecordRef<'_>, view: &View<'_>) -> bool {
        self.read += 1;
        if self.conditions.iter().all(|condition| condition.holds(record, view)) == self.is_inverted {
            return false;
        }
        self.matched += 1;
        self.is_sampled(partition, record.offset)
    }

    fn is_sampled(&self, partition: PartitionId, offset: Offset) -> bool {
        match self.sampling {
            None => true,
            Some(Sampling::Share(below)) => hash(partition, offset) < below,
            Some(Sampling::Every(every)) => (self.matched - 1).is_multiple_of(every),
        }
    }
}

/// The next record of `partition`: that goes on, where there is a filter.
///
/// # Errors
/// A record is malformed.
#[inline]
pub fn next<'a>(
    filter: Option<&mut Filter>,
    partition: PartitionId,
    records: &mut Records<'a>,
) -> Option<Result<RecordRef<'a>, Malformed>> {
    match filter {
        None => records.next(),
        Some(filter) => filter.next(partition, records),
    }
}

/// Whether `record` of `partition`, shown as `view`, passes: always where there is no filter.
#[inline]
pub fn passes(filter: Option<&mut Filter>, partition: PartitionId, record: &RecordRef<'_>, view: &View<'_>) -> bool {
    filter.is_none_or(|filter| filter.passes(partition, record, view))
}

/// Spreads offsets evenly (the finalizer of SplitMix64).
fn hash(partition: PartitionId, offset: Offset) -> u64 {
    let mut x = (offset as u64) ^ (u64::from(partition as u32) << 40);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
