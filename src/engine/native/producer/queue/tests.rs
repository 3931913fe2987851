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
        1 => Just(Fate::TooLarge),
        1 => Just(Fate::Invalid),
    ]
}

/// The log of a partition and the last five batches of its producer (KIP-98, as ProducerStateEntry keeps them).
#[derive(Default)]
struct Log {
    records: Vec<u64>,
    producer: Option<i64>,
    next: i32,
    recent: VecDeque<(i32, i32)>,
}

impl Log {
    fn append(&mut self, stamp: ProducerStamp, first: u64, count: i32) -> Answer {
        if stamp.producer_id >= 0 {
            if self.producer != Some(stamp.producer_id) {
                // Kafka takes any first number of a producer that it does not know.
                *self = Self {
                    records: std::mem::take(&mut self.records),
                    producer: Some(stamp.producer_id),
                    next: stamp.base_sequence,
                    ..Self::default()
                };
            }
            if self.recent.contains(&(stamp.base_sequence, count)) {
                return Answer::Written { offset: -1, append_time: -1 };
            }
            if stamp.base_sequence != self.next {
                return refused(ResponseError::OutOfOrderSequenceNumber);
            }
            self.next = add(stamp.base_sequence, count);
            self.recent.push_back((stamp.base_sequence, count));
            if self.recent.len() > 5 {
                self.recent.pop_front();
            }
        }
        let offset = self.records.len() as i64;
        self.records.extend(first..first + count as u64);
        Answer::Written { offset, append_time: -1 }
    }
}

fn refused(error: ResponseError) -> Answer {
    Answer::Refused(Error::kafka(Action::Produce, Subject::topic_named("t"), error), error)
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

/// Drives `batches` through a queue with one fate a request, then with a healthy broker until all is done.
fn run(batches: &[i32], fates: &[Fate], window: usize, idempotent: bool) -> Run {
    let mut now = Instant::now();
    let mut queue = Queue::new();
    let mut record = 0;
    for &count in batches {
        queue.push(Batch::new(record, sealed(count), false, now + Duration::from_secs(3600)));
        record += count as u64;
    }
    let mut fates = fates.iter().copied();
    let mut producer = 1;
    let mut run = Run { log: Log::default(), done: Vec::new() };
    // Requests on the wire, in order, answered in order.
    let mut wire: VecDeque<(u64, Answer)> = VecDeque::new();
    for _ in 0..100_000 {
        if queue.is_empty() {
            return run;
        }
        if queue.wants_producer() {
            producer += 1;
        }
        let identity = idempotent.then_some(ProducerId { id: producer, epoch: 0 });
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
                // A broker does not find too large what it once took.
                Fate::TooLarge if count > 1 && !run.log.records.contains(&first) => {
                    refused(ResponseError::MessageTooLarge)
                }
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

/// Every record is reported once; those reported as written are in the log.
fn check(run: &Run, total: u64) -> Result<(), TestCaseError> {
    let mut reported = Vec::new();
    let mut failed = Vec::new();
    for done in &run.done {
        let records = done.batch.first_record..done.batch.first_record + done.batch.sealed.count as u64;
        if done.outcome.is_err() {
            failed.extend(records.clone());
        }
        reported.extend(records);
    }
    reported.sort_unstable();
    prop_assert_eq!(&reported, &(0..total).collect::<Vec<_>>());
    let missing = (0..total).filter(|r| !run.log.records.contains(r) && !failed.contains(r)).count();
    prop_assert_eq!(missing, 0, "acknowledged but not in the log");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn an_idempotent_producer_loses_nothing_doubles_nothing_and_keeps_order(
        batches in prop::collection::vec(1..6i32, 1..14),
        fates in prop::collection::vec(fate(), 0..40),
        window in 1..6usize,
    ) {
        let total = batches.iter().sum::<i32>() as u64;
        let run = run(&batches, &fates, window, true);
        check(&run, total)?;
        prop_assert!(run.log.records.is_sorted_by(|a, b| a < b), "doubled or out of order: {:?}", run.log.records);
    }

    #[test]
    fn without_idempotence_order_is_kept_and_nothing_is_lost(
        batches in prop::collection::vec(1..6i32, 1..14),
        fates in prop::collection::vec(fate(), 0..40),
    ) {
        let total = batches.iter().sum::<i32>() as u64;
        let run = run(&batches, &fates, 5, false);
        check(&run, total)?;
        let mut first = run.log.records.clone();
        let mut seen = std::collections::HashSet::new();
        first.retain(|record| seen.insert(*record));
        prop_assert!(first.is_sorted(), "out of order: {:?}", run.log.records);
    }
}

#[test]
fn a_broker_that_forgot_the_producer_gets_a_new_one() {
    let run = run(&[2, 2, 2, 2], &[Fate::Answered, Fate::Forgets], 1, true);
    assert_eq!(run.log.records, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_batch_given_up_after_it_may_have_been_written_says_so() {
    let now = Instant::now();
    let mut queue = Queue::new();
    queue.push(Batch::new(0, sealed(1), false, now + Duration::from_secs(1)));
    let producer = Some(ProducerId { id: 1, epoch: 0 });
    queue.next(now, 5, producer);
    assert!(queue.answered(0, Answer::Lost(Error::NotTaken), now, |_| Duration::ZERO).is_empty());
    let done = queue.expire(now + Duration::from_secs(2));
    assert!(matches!(done[0].outcome, Err((_, true))));
    queue.push(Batch::new(1, sealed(1), false, now + Duration::from_secs(9)));
    assert!(queue.wants_producer(), "its sequence may be used");
    assert!(queue.next(now, 5, producer).is_none());
    let (_, stamp) = queue.next(now, 5, Some(ProducerId { id: 2, epoch: 0 })).unwrap();
    assert_eq!((stamp.producer_id, stamp.base_sequence), (2, 0));
}
