use super::super::{BatchBuilder, Compression, ProducerStamp, cut};
use super::*;
use crate::record::{HeaderBuf, RecordRef};
use bytes::BytesMut;
use proptest::prelude::*;

type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn decoder() -> Decoder {
    Decoder {
        topic: "t".into(),
        partition: 3,
        from: 0,
        until: i64::MAX,
        isolation: Isolation::Committed,
        aborted: Vec::new(),
        max_unpacked: usize::MAX,
    }
}

fn seal(records: &[Owned], codec: Codec) -> super::super::Sealed {
    let mut builder = BatchBuilder::default();
    for (key, value, timestamp, headers) in records {
        let mut buf = HeaderBuf::default();
        headers.iter().for_each(|(k, v)| buf.push(k, v.as_deref()));
        let record = RecordRef {
            offset: 0,
            timestamp: Some(*timestamp),
            key: key.as_deref(),
            value: value.as_deref(),
            headers: buf.as_headers(),
        };
        builder.append(&record, 0);
    }
    let mut sealed = builder.seal(BytesMut::new());
    if codec != Codec::None {
        sealed.records = Compression { codec, level: None }.compress(&sealed.records).unwrap().into();
        sealed.codec = codec;
    }
    sealed
}

fn wire(sealed: &super::super::Sealed, stamp: ProducerStamp) -> Vec<u8> {
    [&sealed.header(stamp)[..], &sealed.records].concat()
}

fn read(batches: &[Batch]) -> Vec<Owned> {
    let own = |r: RecordRef<'_>| {
        let headers = r.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
        (r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), r.timestamp.unwrap(), headers)
    };
    batches.iter().flat_map(Batch::records).map(|r| own(r.unwrap())).collect()
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let header = (prop::collection::vec(any::<u8>(), 0..9), bytes());
    let record = (bytes(), bytes(), 0..4_000_000_000_000i64, prop::collection::vec(header, 0..3));
    prop::collection::vec(record, 1..30)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in records(), codec in 0..5i16) {
        let bytes = wire(&seal(&records, Codec::from_attributes(codec).unwrap()), ProducerStamp::NONE);
        let (batches, corrupt) = decoder().decode(batches(bytes.into()).unwrap());
        prop_assert!(corrupt.is_none());
        prop_assert_eq!(read(&batches), records);
    }

    #[test]
    fn the_parts_of_a_batch_hold_its_records(records in records(), at: Vec<prop::sample::Index>) {
        let mut at: Vec<usize> = at.iter().map(|at| at.index(records.len())).filter(|&at| at > 0).collect();
        at.sort_unstable();
        at.dedup();
        let parts = cut(&seal(&records, Codec::None), &at).unwrap();
        prop_assert_eq!(parts.len(), at.len() + 1);
        let mut bytes = Vec::new();
        let mut offset = 0;
        for part in parts {
            let start = bytes.len();
            bytes.extend(wire(&part, ProducerStamp::NONE));
            bytes[start..start + 8].copy_from_slice(&i64::to_be_bytes(offset));
            offset += i64::from(part.count);
        }
        let (batches, _) = decoder().decode(batches(bytes.into()).unwrap());
        prop_assert_eq!(read(&batches), records);
    }

    #[test]
    fn a_damaged_batch_is_refused(records in records(), at: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = wire(&seal(&records, Codec::None), ProducerStamp::NONE);
        // Base offset and leader epoch are the broker's to change: the checksum leaves them out.
        let at = 16 + at.index(bytes.len() - 16);
        bytes[at] ^= 1 << bit;
        if let Ok(raw) = batches(bytes.into()) {
            let (batches, corrupt) = decoder().decode(raw);
            prop_assert!(corrupt.is_some() || batches.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, magic in 0..4u8) {
        let mut bytes = bytes;
        if bytes.len() > 16 {
            bytes[16] = magic;
            let len = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&len.to_be_bytes());
        }
        if let Ok(raw) = batches(bytes.into()) {
            let (batches, _) = decoder().decode(raw);
            batches.iter().flat_map(Batch::records).for_each(drop);
        }
    }
}

#[test]
fn a_batch_cut_short_at_the_end_is_left_for_the_next_fetch() {
    let whole = wire(&seal(&[(None, Some(b"v".to_vec()), 1, vec![])], Codec::None), ProducerStamp::NONE);
    let cut = [&whole[..], &whole[..whole.len() - 1]].concat();
    assert_eq!(batches(cut.into()).unwrap().len(), 1);
}

#[test]
fn aborted_records_are_shown_only_to_those_who_ask() {
    let stamp = ProducerStamp { producer_id: 7, producer_epoch: 0, base_sequence: 0, transactional: true };
    let one = |value: &str| seal(&[(None, Some(value.into()), 1, vec![])], Codec::None);
    let place = |mut bytes: Vec<u8>, offset: i64| {
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    };
    let control = |offset: i64| {
        let mut bytes = wire(&one("marker"), stamp);
        bytes[22] |= CONTROL as u8;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        place(bytes, offset)
    };
    let set = [
        place(wire(&one("aborted"), stamp), 0),
        place(wire(&one("outside"), ProducerStamp::NONE), 1),
        control(2),
        place(wire(&one("committed"), stamp), 3),
        control(4),
    ]
    .concat();
    let values = |isolation| {
        let decoder = Decoder { isolation, aborted: vec![(7, 0)], ..decoder() };
        let (batches, corrupt) = decoder.decode(batches(set.clone().into()).unwrap());
        assert!(corrupt.is_none());
        assert_eq!(batches.last().unwrap().next_offset, 5, "the marker at the end is passed over");
        assert!(batches.iter().all(|batch| batch.count == 0 || batch.records().next().is_some()));
        read(&batches).into_iter().map(|r| String::from_utf8(r.1.unwrap()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(values(Isolation::Committed), ["outside", "committed"]);
    assert_eq!(values(Isolation::Uncommitted), ["aborted", "outside", "committed"]);
}

#[test]
fn what_is_not_visible_moves_the_position() {
    let stamp = ProducerStamp { producer_id: 7, producer_epoch: 0, base_sequence: 0, transactional: true };
    let records: Vec<Owned> = (0..3).map(|n| (None, Some(vec![n]), 1, vec![])).collect();
    let aborted = wire(&seal(&records, Codec::None), stamp);
    let decoder = Decoder { aborted: vec![(7, 0)], ..decoder() };
    let (batches, _) = decoder.decode(batches(aborted.into()).unwrap());
    let moved: Vec<_> = batches.iter().map(|batch| (batch.records().count(), batch.next_offset)).collect();
    assert_eq!(moved, [(0, 3)]);
}

#[test]
fn repeated_and_reversed_batches_are_lent_once() {
    let records: Vec<Owned> = (0..3).map(|n| (None, Some(vec![n]), 1, vec![])).collect();
    let at = |offset: i64| {
        let mut bytes = wire(&seal(&records, Codec::None), ProducerStamp::NONE);
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    };
    for (offsets, lent) in
        [(&[0, 0, 3][..], vec![0, 1, 2, 3, 4, 5]), (&[3, 0], vec![3, 4, 5]), (&[0, 1, 3], vec![0, 1, 2, 3, 4, 5])]
    {
        let set = offsets.iter().flat_map(|offset| at(*offset)).collect::<Vec<u8>>();
        let (batches, corrupt) = decoder().decode(batches(set.into()).unwrap());
        assert!(corrupt.is_none());
        let read: Vec<_> = batches.iter().flat_map(Batch::records).map(|record| record.unwrap().offset).collect();
        assert_eq!(read, lent, "{offsets:?}");
    }
}

#[test]
fn a_count_that_does_not_fit_the_records_is_corrupt() {
    let records: Vec<Owned> = (0..3).map(|n| (None, Some(vec![n]), 1, vec![])).collect();
    let patched = |at: usize, value: i32| {
        let mut bytes = wire(&seal(&records, Codec::None), ProducerStamp::NONE);
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let (batches, corrupt) = decoder().decode(batches(bytes.into()).unwrap());
        corrupt.is_some() || batches.iter().flat_map(Batch::records).any(|record| record.is_err())
    };
    assert!(!patched(57, 3));
    assert!(patched(57, 2), "a record is left over");
    assert!(patched(57, 4), "a record is missing");
    assert!(patched(57, -1));
    assert!(patched(23, 1), "the last record lies beyond the batch");
    assert!(!patched(23, 9), "compaction removes records at the end");
}
