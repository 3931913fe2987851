use super::*;
use crate::engine::native::wire::{BatchBuilder, ProducerStamp};
use crate::record::RecordRef;
use bytes::BytesMut;
use proptest::prelude::*;

pub(super) const OPTIONS: AppendOptions = AppendOptions {
    max_message_bytes: 1 << 20,
    append_time: None,
    earliest: i64::MIN,
    latest: i64::MAX,
    needs_keys: false,
    leader_epoch: 7,
};

fn batch(values: &[i64], producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::default();
    for time in values {
        let record = RecordRef { timestamp: Some(*time), value: Some(b"v"), ..RecordRef::default() };
        builder.append(&record, 0);
    }
    let sealed = builder.seal(BytesMut::new());
    let stamp = ProducerStamp { producer_id, producer_epoch, base_sequence, transactional: false };
    [&sealed.header(stamp)[..], &sealed.records].concat().into()
}

pub(super) fn transactional(values: &[i64], producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::default();
    for time in values {
        let record = RecordRef { timestamp: Some(*time), value: Some(b"v"), ..RecordRef::default() };
        builder.append(&record, 0);
    }
    let sealed = builder.seal(BytesMut::new());
    let stamp = ProducerStamp { producer_id, producer_epoch, base_sequence, transactional: true };
    [&sealed.header(stamp)[..], &sealed.records].concat().into()
}

/// As in Kafka since 2.4 (KAFKA-7190).
#[test]
fn a_producer_is_remembered_when_its_records_have_gone() {
    let mut log = Log::default();
    log.append(&batch(&[1, 2], 5, 0, 0), &OPTIONS).unwrap();
    log.delete_before(2);
    assert_eq!((log.start(), log.batches.len()), (2, 0));
    assert_eq!(log.append(&batch(&[9], 5, 0, 4), &OPTIONS), Err(E::OutOfOrderSequenceNumber.into()));
    for other in 100..250 {
        log.append(&batch(&[1], other, 0, 0), &OPTIONS).unwrap();
        log.delete_before(log.next());
    }
    assert!(log.producers.active().count() <= 101, "not without end: {}", log.producers.active().count());
    assert!(log.append(&batch(&[9], 5, 0, 4), &OPTIONS).is_ok(), "the first is forgotten first");
}

#[test]
fn a_repeat_is_recognized_and_a_gap_refused() {
    let mut log = Log::default();
    let first = log.append(&batch(&[1, 2], 5, 0, 0), &OPTIONS).unwrap();
    let second = log.append(&batch(&[3], 5, 0, 2), &OPTIONS).unwrap();
    assert_eq!((first.base, second.base, log.next()), (0, 2, 3));
    let again = log.append(&batch(&[1, 2], 5, 0, 0), &OPTIONS).unwrap();
    assert_eq!((again.base, log.next()), (0, 3));
    assert_eq!(log.append(&batch(&[9], 5, 0, 4), &OPTIONS), Err(E::OutOfOrderSequenceNumber.into()));
    assert_eq!(log.append(&batch(&[9], 5, 1, 4), &OPTIONS), Err(E::OutOfOrderSequenceNumber.into()));
    assert_eq!(log.append(&batch(&[9], 5, 1, 0), &OPTIONS).unwrap().base, 3);
    assert_eq!(log.append(&batch(&[9], 5, 0, 3), &OPTIONS), Err(E::InvalidProducerEpoch.into()));
}

#[test]
fn an_open_transaction_holds_back_the_last_stable_offset_until_its_marker() {
    let mut log = Log::default();
    let (five, six) = (Stamp { producer_id: 5, epoch: 0 }, Stamp { producer_id: 6, epoch: 0 });
    log.append(&batch(&[1], -1, -1, -1), &OPTIONS).unwrap();
    log.append(&transactional(&[2, 3], 5, 0, 0), &OPTIONS).unwrap();
    log.append(&transactional(&[4], 6, 0, 0), &OPTIONS).unwrap();
    assert_eq!((log.last_stable_offset(log.next()), log.next()), (1, 4));
    assert_eq!(log.append(&batch(&[9], 5, 0, 2), &OPTIONS), Err(E::InvalidTxnState.into()), "it is in a transaction");
    log.append_marker(five, Outcome::Abort, 7, 100);
    assert_eq!((log.last_stable_offset(log.next()), log.next()), (3, 5));
    log.append_marker(six, Outcome::Commit, 7, 100);
    assert_eq!((log.last_stable_offset(log.next()), log.next()), (6, 6));
    assert_eq!(log.aborted(0, 6).collect::<Vec<_>>(), [&Aborted { producer_id: 5, first: 1, last: 4 }]);
    assert_eq!(log.aborted(5, 6).count() + log.aborted(0, 1).count(), 0);
    assert_eq!(log.append(&transactional(&[9], 5, 0, 2), &OPTIONS).unwrap().base, 6);
    log.append_marker(Stamp { producer_id: 5, epoch: 1 }, Outcome::Commit, 7, 100);
    assert_eq!(log.append(&transactional(&[9], 5, 0, 3), &OPTIONS), Err(E::InvalidProducerEpoch.into()));
    // What a reader decodes of it: the aborted records are left out.
    let decoder = Decoder {
        topic: "".into(),
        partition: 0,
        from: 0,
        until: Offset::MAX,
        isolation: Isolation::Committed,
        aborted: log.aborted(0, 8).map(|aborted| (aborted.producer_id, aborted.first)).collect(),
        max_unpacked: usize::MAX,
    };
    let (decoded, corrupt) = decoder.decode(batches(log.read(0, 8, usize::MAX, true).0).unwrap());
    assert!(corrupt.is_none());
    let offsets: Vec<_> = decoded.iter().flat_map(|batch| batch.records()).map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [0, 3, 6]);
}

#[test]
fn retention_and_deletion_remove_whole_batches() {
    let filled = || {
        let mut log = Log::default();
        for time in [10, 20, 30] {
            log.append(&batch(&[time, time], -1, -1, -1), &OPTIONS).unwrap();
        }
        log
    };
    let mut log = filled();
    let each = log.disk_bytes() / 3;
    assert_eq!((log.expire(Some(20), None, 0), log.expire(Some(20), None, 6)), (0, 1), "not beyond the high watermark");
    assert_eq!((log.start(), log.expire(None, Some(each * 2), 6)), (2, 0));
    assert_eq!((log.expire(None, Some(each), 6), log.start()), (1, 4));
    let mut log = filled();
    assert_eq!((log.delete_before(3), log.start(), log.batch_count()), (1, 3, 2));
    assert_eq!((log.delete_before(99), log.start(), log.bytes()), (2, 6, 0));
}

#[test]
fn a_cut_log_remembers_the_producers_of_what_is_left() {
    let mut log = Log::default();
    let five = Stamp { producer_id: 5, epoch: 0 };
    log.append(&transactional(&[1], 5, 0, 0), &OPTIONS).unwrap();
    log.append_marker(five, Outcome::Abort, 7, 100);
    log.append(&batch(&[2], 6, 0, 0), &OPTIONS).unwrap();
    log.append(&batch(&[3], 6, 0, 1), &OPTIONS).unwrap();
    log.append(&transactional(&[4], 5, 0, 1), &OPTIONS).unwrap();
    assert_eq!(log.last_stable_offset(log.next()), 4);
    log.truncate(3);
    assert_eq!((log.next(), log.last_stable_offset(3), log.aborted(0, 3).count()), (3, 3, 1));
    assert_eq!(log.append(&batch(&[9], 6, 0, 2), &OPTIONS), Err(E::OutOfOrderSequenceNumber.into()), "one was lost");
    assert_eq!(log.append(&batch(&[2], 6, 0, 0), &OPTIONS).unwrap().base, 2, "a repeat");
    assert_eq!(log.append(&batch(&[3], 6, 0, 1), &OPTIONS).unwrap().base, 3);
}

#[test]
fn logs_are_the_same_up_to_where_their_epochs_part() {
    let (mut ours, mut theirs) = (Log::default(), Log::default());
    assert_eq!(ours.common_end(&theirs), 0);
    let at = |log: &mut Log, leader_epoch| {
        log.append(&batch(&[1], -1, -1, -1), &AppendOptions { leader_epoch, ..OPTIONS }).unwrap();
    };
    for log in [&mut ours, &mut theirs] {
        at(log, 0);
        at(log, 0);
    }
    at(&mut theirs, 0);
    assert_eq!((ours.common_end(&theirs), theirs.common_end(&ours)), (2, 2));
    at(&mut ours, 2);
    at(&mut theirs, 1);
    assert_eq!((ours.common_end(&theirs), theirs.common_end(&ours)), (2, 2));
    let theirs = ours.clone();
    at(&mut ours, 3);
    assert_eq!(ours.common_end(&theirs), 3);
    assert_eq!(ours.common_end(&Log::default()), 0);
}

#[test]
fn records_that_a_topic_does_not_accept_are_refused() {
    let mut log = Log::default();
    let (early, late) = (AppendOptions { earliest: 10, ..OPTIONS }, AppendOptions { latest: 10, ..OPTIONS });
    let records = batch(&[10, 9], -1, -1, -1);
    let untimely = Err(Refusal { error: E::InvalidTimestamp, records: vec![1] });
    assert_eq!(log.append(&records, &early), untimely);
    assert_eq!(log.append(&batch(&[10, 11], -1, -1, -1), &late), untimely);
    assert!(log.append(&records, &AppendOptions { append_time: Some(99), ..early }).is_ok());
    assert!(log.append(&records, &late).is_ok());
    let keyless = log.append(&records, &AppendOptions { needs_keys: true, ..OPTIONS });
    assert_eq!(keyless, Err(Refusal { error: E::InvalidRecord, records: vec![0, 1] }));
}

#[test]
fn times_find_the_record_and_not_only_its_batch() {
    let mut log = Log::default();
    log.append(&batch(&[10, 20, 30], -1, -1, -1), &OPTIONS).unwrap();
    log.append(&batch(&[40, 25], -1, -1, -1), &OPTIONS).unwrap();
    assert_eq!(log.at_time(11), Some((1, 20)));
    assert_eq!(log.at_time(31), Some((3, 40)));
    assert_eq!(log.at_time(41), None);
    assert_eq!(log.max_timestamp(), Some((3, 40)));
    log.append(&batch(&[1], -1, -1, -1), &AppendOptions { append_time: Some(99), ..OPTIONS }).unwrap();
    assert_eq!(log.at_time(50), Some((5, 99)));
}

#[test]
fn bytes_that_are_not_one_whole_batch_are_refused() {
    let mut log = Log::default();
    let good = batch(&[1, 2, 3], -1, -1, -1);
    let refused = |log: &mut Log, bytes: Vec<u8>| log.append(&bytes.into(), &OPTIONS).unwrap_err().error;
    assert_eq!(refused(&mut log, Vec::new()), E::InvalidRecord);
    assert_eq!(refused(&mut log, [&good[..], &good[..]].concat()), E::InvalidRecord);
    assert_eq!(refused(&mut log, [&good[..], b"x"].concat()), E::InvalidRecord);
    let mut flipped = good.to_vec();
    flipped[70] ^= 1;
    assert_eq!(refused(&mut log, flipped), E::CorruptMessage);
    let small = AppendOptions { max_message_bytes: good.len() - 1, ..OPTIONS };
    assert_eq!(log.append(&good, &small), Err(E::MessageTooLarge.into()));
    assert_eq!(log.next(), 0);
}

proptest! {
    #[test]
    fn a_read_begins_with_the_batch_of_the_offset_and_keeps_its_limit(
        sizes in prop::collection::vec(1usize..5, 1..20), from in 0i64..60, most in 0usize..600, dropped in 0usize..5
    ) {
        let mut log = Log::default();
        for size in &sizes {
            log.append(&batch(&vec![1; *size], -1, -1, -1), &OPTIONS).unwrap();
        }
        (0..dropped).for_each(|_| { log.drop_first(); });
        let (read, _) = log.read(from, Offset::MAX, most, true);
        let found = batches(read.clone()).unwrap();
        prop_assert!(read.len() <= most || found.len() == 1);
        if from < log.next() && log.bytes() > 0 {
            prop_assert!(found[0].next_offset() > from, "at least one");
        }
        let whole: usize = batches(log.read(0, Offset::MAX, usize::MAX, false).0).unwrap().iter().map(RawBatch::len).sum();
        prop_assert_eq!(whole, log.disk_bytes());
    }

    #[test]
    fn any_bytes_are_appended_or_refused(bytes: Vec<u8>) {
        let _ = Log::default().append(&bytes.into(), &OPTIONS);
    }
}

#[test]
fn an_epoch_that_the_log_has_lost_ended_where_the_log_begins() {
    let mut log = Log::default();
    log.append(&batch(&[1, 2], -1, -1, -1), &OPTIONS).unwrap();
    assert_eq!(log.reported_end_of_epoch(7), (7, 2));
    log.truncate(0);
    assert_eq!(log.reported_end_of_epoch(7), (7, 0), "it is empty");
    log.append(&batch(&[3, 4, 5], -1, -1, -1), &AppendOptions { leader_epoch: 9, ..OPTIONS }).unwrap();
    assert_eq!(log.reported_end_of_epoch(7), (7, 0), "a reader at 2 must go back, not on");
    assert_eq!(log.reported_end_of_epoch(9), (9, 3));
}
