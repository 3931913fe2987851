//! Compaction: of all records with a key only the last stays, as in a topic with `cleanup.policy=compact`. Batches keep
//! their offsets, so that gaps remain where records were.

use super::{Log, each_record};
use crate::engine::native::wire::{Compression, HEADER_LEN, RawBatch};
use crate::local::limits::MOST_UNPACKED;
use crate::record::{Offset, RecordRef, Timestamp, varint};
use std::collections::{BTreeMap, HashMap, HashSet};

/// When a log is compacted, and how far.
#[derive(Debug, Clone, Copy)]
pub(in crate::local) struct Compaction {
    /// `min.cleanable.dirty.ratio`: the share that has not been compacted yet.
    pub(in crate::local) dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records stay.
    pub(in crate::local) min_lag: i64,
    /// `delete.retention.ms`: how long tombstones stay.
    pub(in crate::local) tombstones_stay: i64,
}

impl Compaction {
    /// At once, as far as there are committed records. Tombstones stay for a day.
    pub(in crate::local) const NOW: Self = Self { dirty_ratio: 0.0, min_lag: 0, tombstones_stay: 86_400_000 };
}

/// How far a log has been compacted.
#[derive(Debug, Clone, Default)]
pub(super) struct Compacted {
    until: Offset,
    /// When the tombstones of a batch may go, by its first offset.
    tombstones: BTreeMap<Offset, Timestamp>,
}

impl Log {
    /// Compacts what is before `stable`, the last stable offset, if enough is new; returns how many records went.
    pub(in crate::local) fn compact(&mut self, how: Compaction, stable: Offset, now: Timestamp) -> usize {
        // The tombstones of deleted batches are gone.
        let begin = self.batches.front().map_or(self.next, RawBatch::base_offset);
        self.compacted.tombstones = self.compacted.tombstones.split_off(&begin);
        let first = self.batches.partition_point(|batch| batch.next_offset() <= self.compacted.until);
        let is_due = |batch: &&RawBatch| {
            batch.next_offset() <= stable && batch.max_timestamp() <= now.saturating_sub(how.min_lag)
        };
        let (mut until, mut dirty) = (self.compacted.until.min(stable), 0);
        for batch in self.batches.range(first..).take_while(is_due) {
            (until, dirty) = (batch.next_offset(), dirty + batch.len());
        }
        let total = || -> usize {
            self.batches.iter().take_while(|batch| batch.next_offset() <= until).map(RawBatch::len).sum()
        };
        let is_dirty = dirty > 0 && dirty as f64 >= how.dirty_ratio * total() as f64;
        if !is_dirty && !self.compacted.tombstones.values().any(|due| *due <= now) {
            return 0;
        }
        let last = self.last_of_keys(until);
        let lasts = self.producers.last_offsets();
        let mut removed = 0;
        let kept = std::mem::take(&mut self.batches).into_iter().filter_map(|batch| {
            if batch.next_offset() > until || batch.is_control() {
                return Some(batch);
            }
            let is_aborted = self.producers.is_aborted(&batch);
            let due = self.compacted.tombstones.get(&batch.base_offset()).copied();
            let mut has_tombstone = false;
            let stays = |record: &RecordRef<'_>| {
                let Some(key) = record.key else { return !is_aborted };
                let is_last = !is_aborted && last.get(key) == Some(&record.offset);
                if record.value.is_some() || !is_last {
                    return is_last;
                }
                let stays = due.is_none_or(|due| due > now);
                has_tombstone |= stays;
                stays
            };
            // None: it cannot be read, and stays as it is.
            let Some(rest) = retain(&batch, stays) else { return Some(batch) };
            removed += (batch.record_count() - rest.record_count()).max(0) as usize;
            if has_tombstone {
                let due = due.unwrap_or_else(|| now.saturating_add(how.tombstones_stay));
                self.compacted.tombstones.insert(batch.base_offset(), due);
            } else {
                self.compacted.tombstones.remove(&batch.base_offset());
            }
            // The last batch of a producer stays for its sequence, even without records.
            (rest.record_count() > 0 || lasts.contains(&(batch.next_offset() - 1))).then_some(rest)
        });
        self.batches = kept.collect();
        self.bytes = self.batches.iter().map(super::size).sum();
        self.compacted.until = until;
        removed
    }

    /// The last offset of each key before `until`, without aborted records.
    fn last_of_keys(&self, until: Offset) -> HashMap<Vec<u8>, Offset> {
        let mut last = HashMap::new();
        let data = self.batches.iter().filter(|batch| !batch.is_control() && !self.producers.is_aborted(batch));
        for batch in data.take_while(|batch| batch.next_offset() <= until) {
            each_record(batch, |record| {
                if let Some(key) = record.key {
                    last.insert(key.to_vec(), record.offset);
                }
            });
        }
        last
    }
}

/// The batch with the records that stay alone, at their offsets; `None` when it cannot be read.
fn retain(batch: &RawBatch, mut stays: impl FnMut(&RecordRef<'_>) -> bool) -> Option<RawBatch> {
    let mut gone = HashSet::new();
    let mut seen = 0;
    each_record(batch, |record| {
        if !stays(&record) {
            gone.insert(seen);
        }
        seen += 1;
    });
    if seen != batch.record_count() {
        return None;
    }
    if gone.is_empty() {
        return Some(batch.clone());
    }
    let codec = batch.codec()?;
    let records = codec.decompress_within(&batch.bytes()[HEADER_LEN..], MOST_UNPACKED).ok()?;
    let (mut left, mut rest) = (&records[..], Vec::new());
    for index in 0..seen {
        let from = left;
        let len = usize::try_from(varint::read(&mut left)?).ok()?;
        left = left.get(len..)?;
        if !gone.contains(&index) {
            rest.extend_from_slice(&from[..from.len() - left.len()]);
        }
    }
    let rest = Compression { codec, level: None }.compress(&rest).ok()?;
    Some(batch.with_records(&rest, seen - gone.len() as i32))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OPTIONS, transactional};
    use super::super::{Outcome, Stamp};
    use super::*;
    use crate::engine::native::wire::{BatchBuilder, Codec, ProducerStamp};
    use bytes::{Bytes, BytesMut};

    /// A batch of keys with values; an empty value is null.
    fn keyed(records: &[(&str, &str)], stamp: ProducerStamp, codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::default();
        for (key, value) in records {
            let value = (!value.is_empty()).then_some(value.as_bytes());
            let record = RecordRef { timestamp: Some(50), key: Some(key.as_bytes()), value, ..RecordRef::default() };
            builder.append(&record, 0);
        }
        let mut sealed = builder.seal(BytesMut::new());
        sealed.records = Compression { codec, level: None }.compress(&sealed.records).unwrap().into();
        sealed.codec = codec;
        [&sealed.header(stamp)[..], &sealed.records].concat().into()
    }

    fn shown(log: &Log) -> Vec<(Offset, String, Option<String>)> {
        let mut all = Vec::new();
        for batch in log.batches.iter().filter(|batch| !batch.is_control()) {
            assert!(batch.is_intact());
            each_record(batch, |r| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                all.push((r.offset, r.key.map(text).unwrap_or_default(), r.value.map(text)));
            });
        }
        all
    }

    #[test]
    fn the_last_record_of_each_key_stays_at_its_offset_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut log = Log::default();
            let stamp = ProducerStamp::NONE;
            log.append(&keyed(&[("a", "1"), ("b", "1"), ("a", "2")], stamp, codec), &OPTIONS).unwrap();
            log.append(&keyed(&[("a", "3"), ("c", "1")], stamp, codec), &OPTIONS).unwrap();
            assert_eq!(log.batches[0].codec(), Some(codec));
            assert_eq!(log.compact(Compaction::NOW, 5, 100), 2);
            let text = |n: &str| Some(n.to_owned());
            let expected = [(1, "b".into(), text("1")), (3, "a".into(), text("3")), (4, "c".into(), text("1"))];
            assert_eq!(shown(&log), expected, "{codec:?}");
            assert_eq!((log.compact(Compaction::NOW, 5, 100), log.next(), log.start()), (0, 5, 0));
        }
    }

    #[test]
    fn tombstones_stay_for_a_while_and_what_is_new_or_open_stays() {
        let mut log = Log::default();
        let stamp = ProducerStamp::NONE;
        log.append(&keyed(&[("a", "1"), ("a", "")], stamp, Codec::None), &OPTIONS).unwrap();
        log.append(&keyed(&[("b", "1"), ("b", "2")], stamp, Codec::None), &OPTIONS).unwrap();
        let how = Compaction { tombstones_stay: 10, ..Compaction::NOW };
        assert_eq!(log.compact(Compaction { min_lag: 51, ..how }, 4, 100), 0, "too young");
        assert_eq!(log.compact(how, 2, 100), 1, "up to the last stable offset");
        assert_eq!((log.compacted.tombstones.values().next().copied(), shown(&log).len()), (Some(110), 3));
        assert_eq!(log.compact(Compaction { dirty_ratio: 0.9, ..how }, 4, 105), 0, "not enough is new");
        assert_eq!(log.compact(Compaction { dirty_ratio: 0.9, ..how }, 4, 110), 2, "the tombstone goes");
        assert_eq!(
            (log.compacted.tombstones.values().next().copied(), shown(&log)),
            (None, vec![(3, "b".to_owned(), Some("2".to_owned()))])
        );
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_without_records_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut log = Log::default();
            let stamp = ProducerStamp { producer_id: 5, producer_epoch: 0, base_sequence: 0, transactional: false };
            log.append(&keyed(&[("a", "1"), ("b", "1")], stamp, codec), &OPTIONS).unwrap();
            log.append(&keyed(&[("a", "2"), ("b", "2")], ProducerStamp::NONE, codec), &OPTIONS).unwrap();
            assert_eq!(log.compact(Compaction::NOW, 4, 100), 2);
            let batch = &log.batches[0];
            assert_eq!((batch.record_count(), batch.is_intact()), (0, true));
            let unpacked = codec.decompress_within(&batch.bytes()[HEADER_LEN..], 100).unwrap();
            assert_eq!(unpacked.len(), 0, "{codec:?}");
        }
    }

    #[test]
    fn aborted_records_go_and_the_last_batch_of_a_producer_stays() {
        let mut log = Log::default();
        let stamp = ProducerStamp { producer_id: 5, producer_epoch: 0, base_sequence: 0, transactional: false };
        log.append(&keyed(&[("a", "1")], stamp, Codec::None), &OPTIONS).unwrap();
        log.append(&keyed(&[("a", "2")], ProducerStamp::NONE, Codec::None), &OPTIONS).unwrap();
        log.append(&transactional(&[1], 6, 0, 0), &OPTIONS).unwrap();
        log.append_marker(Stamp { producer_id: 6, epoch: 0 }, Outcome::Abort, 7, 100);
        assert_eq!(log.compact(Compaction::NOW, 4, 100), 2);
        assert_eq!(shown(&log).len(), 1);
        assert_eq!((log.batches.len(), log.batches[0].record_count()), (3, 0), "its sequence is still known");
        assert_eq!(log.append(&keyed(&[("a", "1")], stamp, Codec::None), &OPTIONS).unwrap().base, 0, "a repeat");
    }
}
