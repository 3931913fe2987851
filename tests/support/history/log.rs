//! What is in a partition's log, and what was taken from it on purpose.

use super::RecordId;
use bytes::Bytes;
use kpipe::engine::native::wire::{Decoder, Isolation, batches};
use kpipe::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// A record in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    pub id: RecordId,
    /// Whether readers of committed records see it; of an open transaction they do not.
    pub is_visible: bool,
    pub is_transactional: bool,
}

/// A partition's log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub records: BTreeMap<Offset, Logged>,
    /// Records that were deleted, truncated or went with their topic: any of these may be gone, or come again.
    pub removed: BTreeSet<RecordId>,
    /// Where a transaction that is still open begins: readers of committed records read no further.
    pub open_from: Option<Offset>,
    /// Whether offsets may have been given twice: after a truncation, or for a topic that was created again.
    pub is_rewritten: bool,
    /// Whether its topic was created again.
    pub is_recreated: bool,
}

/// The end of a transaction, as a control batch has it.
const ABORT: u8 = 0;

impl Log {
    /// Reads record batches, all of a log that starts at `start`.
    pub fn read(of: &TopicPartition, bytes: Bytes, start: Offset) -> Self {
        let mut records: BTreeMap<Offset, Logged> = BTreeMap::new();
        // The offsets that each producer has written in its open transaction.
        let mut open: BTreeMap<i64, Vec<Offset>> = BTreeMap::new();
        for batch in batches(bytes).expect("the log's batches are whole") {
            let (producer, ..) = batch.producer();
            if batch.is_control() {
                // The marker's key, two numbers of two bytes, begins at the sixth byte of the only record.
                let is_abort = batch.bytes()[61 + 5 + 3] == ABORT;
                for offset in open.remove(&producer).into_iter().flatten() {
                    if let Some(record) = records.get_mut(&offset) {
                        record.is_visible = !is_abort;
                    }
                }
                continue;
            }
            let is_transactional = batch.is_transactional();
            let decoder = Decoder {
                topic: of.topic.clone(),
                partition: of.partition,
                from: start,
                until: Offset::MAX,
                isolation: Isolation::Uncommitted,
                aborted: Vec::new(),
                max_unpacked: usize::MAX,
            };
            let (decoded, corrupt) = decoder.decode(vec![batch]);
            assert!(corrupt.is_none(), "{of}: {corrupt:?}");
            for record in decoded.iter().flat_map(|batch| batch.records()) {
                let record = record.expect("the log's records are whole");
                let id = record.value.and_then(RecordId::of).expect("every record names itself");
                records.insert(record.offset, Logged { id, is_visible: !is_transactional, is_transactional });
                if is_transactional {
                    open.entry(producer).or_default().push(record.offset);
                }
            }
        }
        let open_from = open.into_values().flatten().min();
        Self { records, open_from, ..Self::default() }
    }

    /// Where each record stands, in order.
    pub fn places(&self) -> BTreeMap<RecordId, Vec<Offset>> {
        let mut places: BTreeMap<RecordId, Vec<Offset>> = BTreeMap::new();
        for (offset, record) in &self.records {
            places.entry(record.id).or_default().push(*offset);
        }
        places
    }
}
