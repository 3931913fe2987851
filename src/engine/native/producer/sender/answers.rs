//! Interprets Produce responses: which batches are settled, and what is reported to the command.

use super::{Feedback, Sender};
use crate::engine::native::cluster::Asked;
use crate::engine::native::net::{backoff, throttle};
use crate::engine::native::producer::queue::{Answer, BadRecord, Done, Refusal};
use crate::engine::native::wire::view;
use crate::engine::{Failure, Receipt};
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::{BrokerId, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ProduceResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use uuid::Uuid;

/// A batch in a request.
pub(super) struct SentBatch {
    pub(super) slot: usize,
    pub(super) first_record: u64,
    /// The topic's ID when it was sent; by the time of the answer the topic may have been created again.
    pub(super) topic_id: Uuid,
}

impl Sender {
    pub(super) fn answered(
        &mut self,
        broker: BrokerId,
        sent: Vec<SentBatch>,
        response: Result<Option<ProduceResponse>>,
        now: Instant,
    ) {
        let entry = self.brokers.entry(broker).or_default();
        entry.in_flight = entry.in_flight.saturating_sub(1);
        let read = response.and_then(|response| {
            let throttled = response.as_ref().map_or(0, |response| response.throttle_time_ms);
            Ok((throttled, response.map(|response| self.by_slot(broker, &sent, response)).transpose()?))
        });
        let (throttled, mut answers) = match read {
            Ok((throttled, Some(answers))) => (throttled, answers),
            Ok((_, None)) => {
                for SentBatch { slot, first_record, .. } in sent {
                    self.settle(slot, first_record, Answer::Written { offset: -1, append_time: -1 }, now);
                }
                return;
            }
            Err(error) => {
                self.trouble.failed(sent.iter().map(|batch| batch.slot), &error);
                self.cluster.options.observer.retried(&error);
                self.refresh_soon(now);
                for SentBatch { slot, first_record, .. } in sent {
                    self.settle(slot, first_record, Answer::Lost(error.clone()), now);
                }
                return;
            }
        };
        if throttled > 0 {
            let wait = throttle(throttled);
            tracing::info!(broker = %self.cluster.node(broker), ?wait, "throttled by a quota");
            self.brokers.entry(broker).or_default().throttled_until = Some(now + wait);
        }
        for SentBatch { slot, first_record, .. } in sent {
            let Some(answer) = answers.remove(&slot) else { continue };
            let answer = match error_code(answer.error_code) {
                None => Answer::Written { offset: answer.base_offset, append_time: answer.log_append_time_ms },
                Some(code) => {
                    let of = TopicPartition::new(self.slots[slot].topic.clone(), self.slots[slot].partition);
                    Answer::Refused(refusal(Subject::Replica(of, self.cluster.node(broker)), code, answer))
                }
            };
            if let Answer::Refused(Refusal { error, code, .. }) = &answer
                && (code.is_transient() || *code == ResponseError::OutOfOrderSequenceNumber)
            {
                self.trouble.failed([slot], error);
                self.cluster.options.observer.retried(error);
                self.refresh_soon(now);
            }
            self.settle(slot, first_record, answer, now);
        }
    }

    /// The answer for each slot of `sent`.
    ///
    /// # Errors
    /// One is missing or twice, or was not sent: then nothing of it is believed.
    fn by_slot(
        &self,
        broker: BrokerId,
        sent: &[SentBatch],
        response: ProduceResponse,
    ) -> Result<BTreeMap<usize, PartitionProduceResponse>> {
        let of = |slot: usize| TopicPartition::new(self.slots[slot].topic.clone(), self.slots[slot].partition);
        let slots: BTreeMap<TopicPartition, usize> = sent.iter().map(|batch| (of(batch.slot), batch.slot)).collect();
        let mut asked = Asked::of(&self.cluster.node(broker), ApiKey::Produce, slots.keys().cloned());
        let mut answers = BTreeMap::new();
        for topic in response.responses {
            let by_id =
                || sent.iter().find(|batch| batch.topic_id == topic.topic_id).map(|batch| &self.slots[batch.slot]);
            let name: Arc<str> = match topic.name.is_empty() {
                true => by_id().map_or_else(|| topic.topic_id.to_string().into(), |slot| slot.topic.clone()),
                false => topic.name.as_str().into(),
            };
            for partition in topic.partition_responses {
                let of = TopicPartition::new(name.clone(), partition.index);
                asked.answered(&of)?;
                if partition.error_code == 0 && partition.base_offset < -1 {
                    return Err(asked.malformed(format_args!("{of} has offset {}", partition.base_offset)));
                }
                answers.extend(slots.get(&of).map(|slot| (*slot, partition)));
            }
        }
        asked.complete()?;
        Ok(answers)
    }

    pub(super) fn settle(&mut self, slot: usize, first_record: u64, answer: Answer, now: Instant) {
        let first = self.cluster.options.retry_backoff;
        let done = self.slots[slot].queue.answered(first_record, answer, now, |attempt| backoff(first, attempt));
        self.finish(slot, done);
        self.compress(slot); // halves of a batch that was too large
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            let done = self.slots[slot].queue.expire(now);
            if !done.is_empty() {
                let limit = self.config.delivery_timeout;
                let timed_out = |mut done: Done| {
                    if let Err((error, _)) = &mut done.outcome {
                        let partition = TopicPartition::new(self.slots[slot].topic.clone(), self.slots[slot].partition);
                        *error = Error::Undelivered { partition, limit, last: Box::new(error.clone()) };
                    }
                    done
                };
                let done = done.into_iter().map(timed_out).collect();
                self.finish(slot, done);
            }
        }
    }

    /// Reports what is done with; the first failure may end it all.
    pub(super) fn finish(&mut self, index: usize, done: Vec<Done>) {
        let failed = done.iter().any(|done| done.outcome.is_err());
        self.report(index, done);
        if failed && self.config.stop_on_failure && self.abandoned.is_none() {
            self.abandon(Error::NotSent);
        }
    }

    pub(super) fn report(&mut self, index: usize, done: Vec<Done>) {
        if done.is_empty() {
            return;
        }
        for Done { batch, outcome } in done {
            if outcome.is_ok() {
                self.trouble.ended(index);
                self.refresh_backoff.reset();
            } else if self.slots[index].queue.is_empty() {
                self.trouble.given_up(index);
            }
            let slot = &mut self.slots[index];
            let records = batch.sealed.count as u64;
            let keep = self.config.keep_failed;
            let failure = |(error, possibly_written)| Failure {
                error,
                possibly_written,
                records: keep.then(|| view(&batch.sealed, slot.topic.clone(), slot.partition)).flatten(),
            };
            let (offset, append_time) = match &outcome {
                Ok(written) => *written,
                Err(_) => (None, None),
            };
            let receipt = Receipt {
                slot: index,
                append_time,
                topic: slot.topic.clone(),
                partition: slot.partition,
                records,
                bytes: batch.sealed.len() as u64,
                first_record: batch.first_record,
                outcome: outcome.map(|_| offset).map_err(failure),
            };
            // The batch that this one is, or was split from.
            let whole = slot.sizes.range_mut(..=batch.first_record).next_back();
            let freed = match whole {
                Some((&first, (left, len))) => {
                    *left = left.saturating_sub(records);
                    let freed = if *left == 0 { *len } else { 0 };
                    if *left == 0 {
                        slot.sizes.remove(&first);
                    }
                    freed
                }
                None => 0,
            };
            let buffer = batch.sealed.records.try_into_mut().ok();
            // Err: the producer is gone, nobody wants to know.
            let _ = self.report.send(Feedback::Answered {
                slot: index,
                freed_bytes: freed,
                receipt: Box::new(receipt),
                buffer,
            });
        }
        if self.armed.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

fn refusal(subject: Subject, code: ResponseError, answer: PartitionProduceResponse) -> Refusal {
    let detail = answer.error_message.map(|message| message.to_string());
    let bad = answer.record_errors.into_iter().map(|record| BadRecord {
        index: record.batch_index as usize,
        why: record.batch_index_error_message.map(|message| message.to_string()),
    });
    Refusal { error: Error::Kafka { action: Action::Produce, subject, code, detail }, code, bad_records: bad.collect() }
}
