//! A simulated broker that checks sequences as Kafka does, and a network that loses, delays and refuses.

use super::*;
use crate::engine::native::wire::BatchBuilder;
use crate::error::{Action, Subject};
use crate::record::{Headers, RecordRef};
use proptest::prelude::*;

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// Never arrives.
    RequestLost,
    /// Is applied, and nobody hears of it.
    AnswerLost,
    /// The leader has moved.
    Refused,
    /// Is applied, and then answered with an error: leadership or log directory were lost while the batch waited
    /// for its replicas, or something failed in the broker.
    AppendedAndRefused(ResponseError),
    /// Too large, unless it is a single record.
    TooLarge,
    /// The broker forgets the producer, as after an unclean election.
    Forgets,
    /// Refused for good.
    Invalid,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Answered),
        2 => Just(Fate::RequestLost),
        2 => Just(Fate::AnswerLost),
        2 => Just(Fate::Refused),
        1 => Just(Fate::AppendedAndRefused(ResponseError::NotLeaderOrFollower)),
        1 => Just(Fate::AppendedAndRefused(ResponseError::KafkaStorageError)),
        1 => Just(Fate::AppendedAndRefused(ResponseError::UnknownServerError)),
        1 => Just(Fate::TooLarge),
        1 => Just(Fate::Invalid),
    ]
}

/// The log of a partition and the last batches of its producer (KIP-98, as ProducerStateEntry keeps them).
#[derive(Default)]
struct Log {
    records: Vec<u64>,
    producer: Option<(i64, i16)>,
    next: i32,
    /// Sequence number, records and offset.
    recent: VecDeque<(i32, i32, i64)>,
    /// How many it remembers: five, or one in Kafka 0.11.
    remembers: usize,
    bad: Bad,
}

/// Records that the broker refuses, and whether it names them (KIP-467).
#[derive(Debug, Clone, Default)]
struct Bad {
    records: Vec<u64>,
    are_named: bool,
}

impl Log {
    fn append(&mut self, stamp: ProducerStamp, first: u64, count: i32) -> Answer {
        let bad = (0..count as usize).filter(|&index| self.bad.records.contains(&(first + index as u64)));
        let bad_records: Vec<_> = bad.map(|index| BadRecord { index, why: Some("no key".to_owned()) }).collect();
        if !bad_records.is_empty() {
            let (code, are_named) = (ResponseError::InvalidRecord, self.bad.are_named);
            let error = Error::kafka(Action::Produce, Subject::topic_named("t"), code);
            let bad_records = if are_named { bad_records } else { Vec::new() };
            return Answer::Refused(Refusal { error, code, bad_records });
        }
        if stamp.producer_id >= 0 {
            let identity = (stamp.producer_id, stamp.producer_epoch);
            if let Some((id, epoch)) = self.producer.filter(|&(id, _)| id == identity.0) {
                if identity.1 < epoch {
                    return refused(ResponseError::InvalidProducerEpoch);
                }
                if identity.1 > epoch && stamp.base_sequence != 0 {
                    return refused(ResponseError::OutOfOrderSequenceNumber);
                }
                assert_eq!(id, identity.0);
            }
            if self.producer != Some(identity) {
                // Kafka takes any first number of a producer that it does not know.
                (self.producer, self.next) = (Some(identity), stamp.base_sequence);
                self.recent.clear();
            }
            if let Some(&(.., offset)) = self.recent.iter().find(|r| (r.0, r.1) == (stamp.base_sequence, count)) {
                return Answer::Written { offset, append_time: -1 };
            }
            if stamp.base_sequence != self.next {
                return refused(ResponseError::OutOfOrderSequenceNumber);
            }
            self.next = add(stamp.base_sequence, count);
            self.recent.push_back((stamp.base_sequence, count, self.records.len() as i64));
            if self.recent.len() > self.remembers {
                self.recent.pop_front();
            }
        }
        let offset = self.records.len() as i64;
        self.records.extend(first..first + count as u64);
        Answer::Written { offset, append_time: -1 }
    }
}

fn refused(error: ResponseError) -> Answer {
    let named = Error::kafka(Action::Produce, Subject::topic_named("t"), error);
    Answer::Refused(Refusal { error: named, code: error, bad_records: Vec::new() })
}

fn sealed(count: i32) -> Sealed {
    let mut builder = BatchBuilder::default();
    for _ in 0..count {
        let record =
            RecordRef { offset: 0, timestamp: Some(0), key: None, value: Some(b"v"), headers: Headers::default() };
        builder.append(&record, 0);
    }
    builder.seal(bytes::BytesMut::new())
}

struct Run {
    log: Log,
    done: Vec<Done>,
}

/// Drives batches, each of so many records and to be delivered within so many milliseconds after the one before,
/// through a queue with one fate a request, then with a healthy broker until all is done.
fn run(batches: &[(i32, u64)], fates: &[Fate], window: usize, idempotent: bool) -> Run {
    run_refusing(Bad::default(), batches, fates, window, idempotent)
}

fn run_refusing(bad: Bad, batches: &[(i32, u64)], fates: &[Fate], window: usize, idempotent: bool) -> Run {
    let mut now = Instant::now();
    let mut queue = Queue::new(false);
    let (mut record, mut deadline) = (0, now);
    for &(count, within) in batches {
        deadline += Duration::from_millis(within);
        queue.push(Batch::new(record, sealed(count), false, deadline));
        record += count as u64;
    }
    let mut fates = fates.iter().copied();
    let mut run = Run { log: Log { bad, remembers: window, ..Log::default() }, done: Vec::new() };
    // Requests on the wire, in order, answered in order.
    let mut wire: VecDeque<(u64, Answer)> = VecDeque::new();
    for _ in 0..100_000 {
        if queue.is_empty() {
            return run;
        }
        run.done.extend(queue.expire(now));
        assert!(!queue.needs_producer(), "an epoch does");
        let identity = idempotent.then_some(ProducerId { id: 1, epoch: 0 });
        while wire.len() < window {
            let Some((batch, stamp)) = queue.next(now, window, identity) else { break };
            let (first, count) = (batch.first_record, batch.sealed.count);
            let lost = || Answer::Lost(Error::NotTaken);
            let answer = match fates.next().unwrap_or(Fate::Answered) {
                Fate::Answered => run.log.append(stamp, first, count),
                Fate::RequestLost => lost(),
                Fate::AnswerLost => {
                    run.log.append(stamp, first, count);
                    lost()
                }
                Fate::Refused => refused(ResponseError::NotLeaderOrFollower),
                // Also of what it once took: max.message.bytes may have changed.
                Fate::TooLarge if count > 1 => refused(ResponseError::MessageTooLarge),
                Fate::AppendedAndRefused(code) => match run.log.append(stamp, first, count) {
                    Answer::Written { .. } => refused(code),
                    answer => answer,
                },
                Fate::TooLarge => run.log.append(stamp, first, count),
                Fate::Forgets => {
                    run.log.producer = None;
                    run.log.append(stamp, first, count)
                }
                Fate::Invalid => refused(ResponseError::InvalidRecord),
            };
            wire.push_back((first, answer));
        }
        match wire.pop_front() {
            Some((first, answer)) => run.done.extend(queue.answered(first, answer, now, |_| Duration::from_millis(1))),
            None => now += Duration::from_millis(1),
        }
    }
    panic!("the queue stands still: {queue:?}");
}

/// Every record is reported once; those reported as written are in the log, where the report says, and those reported
/// as not written are not.
fn check(run: &Run, total: u64) -> Result<(), TestCaseError> {
    let mut reported = Vec::new();
    for Done { batch, outcome } in &run.done {
        let records = batch.first_record..batch.first_record + batch.sealed.count as u64;
        for (index, record) in records.clone().enumerate() {
            match outcome {
                Ok((Some(offset), _)) => {
                    prop_assert_eq!(run.log.records.get(*offset as usize + index), Some(&record), "acknowledged there");
                }
                Ok((None, _)) => prop_assert!(run.log.records.contains(&record), "{record} is acknowledged, not there"),
                Err((_, false)) => prop_assert!(!run.log.records.contains(&record), "{record} is not written, but is"),
                Err((_, true)) => {}
            }
        }
        reported.extend(records);
    }
    reported.sort_unstable();
    prop_assert_eq!(&reported, &(0..total).collect::<Vec<_>>());
    Ok(())
}

fn batches() -> impl Strategy<Value = Vec<(i32, u64)>> {
    // A few expire while the broker misbehaves, most do not.
    let within = prop_oneof![3 => 0..4u64, 1 => Just(3_600_000)];
    prop::collection::vec((1..6i32, within), 1..14)
}

fn total(batches: &[(i32, u64)]) -> u64 {
    batches.iter().map(|(count, _)| *count as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn an_idempotent_producer_loses_nothing_doubles_nothing_and_keeps_order(
        batches in batches(),
        fates in prop::collection::vec(fate(), 0..40),
        window in 1..6usize,
    ) {
        let run = run(&batches, &fates, window, true);
        check(&run, total(&batches))?;
        prop_assert!(run.log.records.is_sorted_by(|a, b| a < b), "doubled or out of order: {:?}", run.log.records);
    }

    #[test]
    fn bad_records_fail_alone(
        counts in prop::collection::vec(1..8i32, 1..8),
        bad in prop::collection::vec(0..30u64, 1..10),
        are_named: bool,
        window in 1..6usize,
        idempotent: bool,
    ) {
        let batches: Vec<_> = counts.into_iter().map(|count| (count, FOREVER)).collect();
        let bad = Bad { records: bad, are_named };
        let run = run_refusing(bad.clone(), &batches, &[], window, idempotent);
        check(&run, total(&batches))?;
        let good: Vec<u64> = (0..total(&batches)).filter(|record| !bad.records.contains(record)).collect();
        prop_assert_eq!(&run.log.records, &good);
        let failed = run.done.iter().filter_map(|done| done.outcome.as_ref().err());
        for (error, possibly_written) in failed {
            prop_assert!(!possibly_written && (!are_named || error.to_string().contains("no key")), "{}", error);
        }
    }

    #[test]
    fn bad_records_amid_faults_double_nothing(
        batches in batches(),
        bad in prop::collection::vec(0..30u64, 1..6),
        fates in prop::collection::vec(fate(), 0..40),
        are_named: bool,
        window in 1..6usize,
    ) {
        let run = run_refusing(Bad { records: bad, are_named }, &batches, &fates, window, true);
        check(&run, total(&batches))?;
        prop_assert!(run.log.records.is_sorted_by(|a, b| a < b), "doubled or out of order: {:?}", run.log.records);
    }

    #[test]
    fn without_idempotence_order_is_kept_and_nothing_is_lost(
        batches in batches(),
        fates in prop::collection::vec(fate(), 0..40),
    ) {
        let run = run(&batches, &fates, 5, false);
        check(&run, total(&batches))?;
        let mut first = run.log.records.clone();
        let mut seen = std::collections::HashSet::new();
        first.retain(|record| seen.insert(*record));
        prop_assert!(first.is_sorted(), "out of order: {:?}", run.log.records);
    }
}

const FOREVER: u64 = 3_600_000;

#[test]
fn with_a_broker_that_forgot_the_producer_numbers_begin_again() {
    let run = run(&[(2, FOREVER); 4], &[Fate::Answered, Fate::Forgets], 1, true);
    assert_eq!(run.log.records, (0..8).collect::<Vec<_>>());
}

/// A queue with a batch of one record that was sent once, with sequence number 0.
fn sent_once(now: Instant) -> Queue {
    let mut queue = Queue::new(false);
    queue.push(Batch::new(0, sealed(1), false, now + Duration::from_secs(1)));
    assert!(queue.next(now, 5, Some(ProducerId { id: 1, epoch: 0 })).is_some());
    queue
}

/// The broker appended it, and lost the leadership before the replicas had it; the next record must not have its
/// number, or the next leader would take it for the repeat.
#[test]
fn the_number_of_a_record_that_was_given_up_is_never_anothers() {
    use ResponseError as E;
    for code in [E::NotLeaderOrFollower, E::KafkaStorageError, E::UnknownServerError, E::MessageTooLarge] {
        let now = Instant::now();
        let mut queue = sent_once(now);
        let mut done = queue.answered(0, refused(code), now, |_| Duration::ZERO);
        done.extend(queue.expire(now + Duration::from_secs(2)));
        let possibly_written = code != E::MessageTooLarge;
        assert!(matches!(done[..], [Done { outcome: Err((_, told)), .. }] if told == possibly_written), "{code:?}");
        queue.push(Batch::new(1, sealed(1), false, now + Duration::from_secs(9)));
        assert!(!queue.needs_producer());
        let (batch, stamp) = queue.next(now, 5, Some(ProducerId { id: 1, epoch: 0 })).unwrap();
        assert_eq!((batch.first_record, stamp.producer_id, stamp.producer_epoch, stamp.base_sequence), (1, 1, 1, 0));
    }
}

#[test]
fn what_a_refusal_before_the_append_follows_is_possibly_written_all_the_same() {
    let now = Instant::now();
    let mut queue = sent_once(now);
    assert!(queue.answered(0, Answer::Lost(Error::NotTaken), now, |_| Duration::ZERO).is_empty());
    queue.next(now, 5, Some(ProducerId { id: 1, epoch: 0 })).unwrap();
    let denied = refused(ResponseError::TopicAuthorizationFailed);
    let done = queue.answered(0, denied, now, |_| Duration::ZERO);
    assert!(matches!(done[..], [Done { outcome: Err((_, true)), .. }]));
}

#[test]
fn a_partition_whose_epochs_are_used_up_needs_another_producer() {
    let now = Instant::now();
    let last = Some(ProducerId { id: 1, epoch: i16::MAX });
    let mut queue = Queue::new(false);
    for record in [0, 1] {
        queue.push(Batch::new(record, sealed(1), false, now + Duration::from_secs(9)));
    }
    queue.next(now, 5, last).unwrap();
    assert_eq!(queue.answered(0, refused(ResponseError::InvalidRecord), now, |_| Duration::ZERO).len(), 1);
    assert!(queue.needs_producer() && queue.next(now, 5, last).is_none());
    let (_, stamp) = queue.next(now, 5, Some(ProducerId { id: 2, epoch: 0 })).unwrap();
    assert_eq!((stamp.producer_id, stamp.base_sequence), (2, 0));
}

#[test]
fn a_transaction_that_lost_a_batch_sends_nothing_behind_it() {
    let now = Instant::now();
    let producer = Some(ProducerId { id: 1, epoch: 0 });
    let mut queue = Queue::new(true);
    for record in 0..3 {
        queue.push(Batch::new(record, sealed(1), false, now + Duration::from_secs(9)));
    }
    queue.next(now, 5, producer).unwrap();
    queue.answered(0, Answer::Written { offset: 0, append_time: -1 }, now, |_| Duration::ZERO);
    queue.next(now, 5, producer).unwrap();
    queue.next(now, 5, producer).unwrap();
    assert_eq!(queue.answered(1, refused(ResponseError::InvalidRecord), now, |_| Duration::ZERO).len(), 1);
    queue.answered(2, refused(ResponseError::OutOfOrderSequenceNumber), now, |_| Duration::ZERO);
    assert!(queue.needs_producer() && queue.next(now, 5, producer).is_none());
    let done = queue.abandon(&Error::NotSent);
    assert!(matches!(done[..], [Done { outcome: Err((Error::NotSent, false)), .. }]));
    assert!(queue.is_empty());
}

/// CORRUPT_MESSAGE, as brokers before 2.4 answer every time where one record of a batch has no key.
#[test]
fn a_batch_that_stays_corrupt_fails_for_its_bad_record_alone() {
    let now = Instant::now();
    let mut queue = Queue::new(false);
    queue.push(Batch::new(0, sealed(8), false, now + Duration::from_secs(60)));
    let (mut written, mut failed) = (Vec::new(), Vec::new());
    let bad = 5;
    for attempt in 0..30 {
        let Some((batch, _)) = queue.next(now, 1, Some(ProducerId { id: 1, epoch: 0 })) else { break };
        let (first, count) = (batch.first_record, batch.sealed.count as u64);
        let is_bad = (first..first + count).contains(&bad);
        let answer = match (is_bad, attempt) {
            (true, _) | (false, 1) => refused(ResponseError::CorruptMessage),
            _ => Answer::Written { offset: first as i64, append_time: -1 },
        };
        for done in queue.answered(first, answer, now, |_| Duration::ZERO) {
            let records = done.batch.first_record..done.batch.first_record + done.batch.sealed.count as u64;
            match done.outcome {
                Ok(_) => written.extend(records),
                Err((_, possibly_written)) => {
                    assert!(!possibly_written);
                    failed.extend(records);
                }
            }
        }
    }
    written.sort_unstable();
    assert_eq!((written, failed), (vec![0, 1, 2, 3, 4, 6, 7], vec![bad]));
    assert!(queue.is_empty());
}

/// With `--on-error stop` what stands behind a bad record is not sent; what stands before it, is.
#[test]
fn what_stands_behind_a_bad_record_counts_as_never_sent() {
    let now = Instant::now();
    let producer = Some(ProducerId { id: 1, epoch: 0 });
    let mut queue = Queue::new(false);
    queue.push(Batch::new(0, sealed(5), false, now + Duration::from_secs(9)));
    queue.next(now, 5, producer).unwrap();
    let code = ResponseError::InvalidRecord;
    let error = Error::kafka(Action::Produce, Subject::topic_named("t"), code);
    let bad_records = vec![BadRecord { index: 2, why: None }];
    let done = queue.answered(0, Answer::Refused(Refusal { error, code, bad_records }), now, |_| Duration::ZERO);
    assert!(matches!(&done[..], [Done { batch, .. }] if (batch.first_record, batch.sealed.count) == (2, 1)));
    let done = queue.abandon(&Error::NotSent);
    assert!(matches!(&done[..], [Done { batch, .. }] if (batch.first_record, batch.sealed.count) == (3, 2)));
    let (batch, stamp) = queue.next(now, 5, producer).unwrap();
    assert_eq!((batch.first_record, batch.sealed.count, stamp.base_sequence), (0, 2, 0));
}

/// The log of the new topic takes any first number, and so it would take the second batch before the first.
#[test]
fn after_a_topic_was_created_again_no_batch_overtakes_one_before_it() {
    let (now, producer) = (Instant::now(), Some(ProducerId { id: 1, epoch: 0 }));
    let written = || Answer::Written { offset: 0, append_time: -1 };
    for answer in [refused(ResponseError::UnknownTopicId), written()] {
        let mut queue = Queue::new(false);
        for record in 0..4 {
            queue.push(Batch::new(record, sealed(1), false, now + Duration::from_secs(60)));
        }
        assert!(queue.next(now, 5, producer).is_some());
        queue.answered(0, written(), now, |_| Duration::ZERO);
        assert!(queue.next(now, 5, producer).is_some());
        queue.restart();
        assert!(queue.next(now, 5, producer).is_none(), "the answer may be the topic's before");
        queue.answered(1, answer, now, |_| Duration::ZERO);
        assert!(queue.next(now, 5, producer).is_some());
        assert!(queue.next(now, 5, producer).is_none(), "the first is not in the new log yet");
    }
}
