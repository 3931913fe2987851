//! Delivering through the `kafka` crate.

use super::Connection;
use crate::engine::native::{Backoff, Outage, precedes_append};
use crate::engine::{
    Acks, Codec, Failure, Producer, ProducerConfig, Receipt, Slot, TransactionEnd, no_such_partition,
    unsupported_by_kafka_crate,
};
use crate::error::{Action, Error, ErrorCode, RefusedRecord, Result, Subject, error_code};
use crate::record::{Batch, Headers, Offset, PartitionId, RecordRef, Timestamp, TopicPartition, encode};
use bytes::BytesMut;
use kafka::client::{Compression, ProduceMessage, RequiredAcks};
use kafka_protocol::error::ResponseError;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// [`Producer`] of the `kafka` crate: one request at a time, so order is kept; without idempotence, so a retry
/// after a lost answer may double a batch.
pub struct KafkaProducer {
    client: Connection,
    config: ProducerConfig,
    topics: Vec<(Arc<str>, usize)>,
    last: usize,
    /// The batch's keys and values, one after the other.
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    opened: Instant,
    /// Records appended, in all and by slot.
    appended: u64,
    by_slot: HashMap<Slot, u64>,
    answered: u64,
    round_robin: usize,
    receipts: Vec<Receipt>,
    outage: Outage,
}

struct Entry {
    topic: usize,
    partition: PartitionId,
    key: Option<std::ops::Range<usize>>,
    value: Option<std::ops::Range<usize>>,
    slot: Slot,
    /// Its number in the slot.
    record: u64,
    /// Whether a broker may have it although it did not acknowledge it.
    possibly_written: bool,
}

/// Records of one request that went to one partition.
struct Run {
    first: Entry,
    records: u64,
    bytes: u64,
    offset: Option<Offset>,
}

/// The base offset of each partition's records, or the brokers' error.
type Outcomes = HashMap<(String, PartitionId), std::result::Result<Offset, ResponseError>>;

impl KafkaProducer {
    pub fn open(mut client: Connection, config: ProducerConfig) -> Result<Self> {
        client.inner.set_compression(match (config.compression.codec, config.compression.level) {
            (codec @ (Codec::Lz4 | Codec::Zstd), _) => {
                return Err(unsupported_by_kafka_crate(
                    format!("-z {}", codec.name()),
                    "the kafka engine does not support this codec",
                ));
            }
            (_, Some(level)) => {
                return Err(unsupported_by_kafka_crate(
                    format!("-z level {level}"),
                    "the kafka engine does not support compression levels",
                ));
            }
            (Codec::None, _) => Compression::NONE,
            (Codec::Gzip, _) => Compression::GZIP,
            (Codec::Snappy, _) => Compression::SNAPPY,
        });
        let mut producer = Self {
            client,
            topics: Vec::new(),
            last: 0,
            bytes: Vec::new(),
            entries: VecDeque::new(),
            opened: Instant::now(),
            appended: 0,
            by_slot: HashMap::new(),
            answered: 0,
            round_robin: 0,
            receipts: Vec::new(),
            outage: Outage::default(),
            config,
        };
        for topic in producer.config.topics.clone() {
            producer.topic(&topic)?;
        }
        Ok(producer)
    }

    fn topic(&mut self, name: &str) -> Result<usize> {
        if self.topics.get(self.last).is_none_or(|(topic, _)| **topic != *name) {
            let known = self.topics.iter().position(|(topic, _)| **topic == *name);
            self.last = match known {
                Some(index) => index,
                None => {
                    let count = self.client.count(name, true)?;
                    self.topics.push((name.into(), count));
                    self.topics.len() - 1
                }
            };
        }
        Ok(self.last)
    }

    fn keep(&mut self, bytes: Option<&[u8]>) -> Option<std::ops::Range<usize>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes?);
        Some(start..self.bytes.len())
    }

    /// Sends all, again and again where that may help, until the delivery timeout.
    fn flush(&mut self) -> Result<()> {
        let deadline = self.opened + self.config.delivery_timeout;
        let mut backoff = Backoff::new(self.client.options.retry_backoff);
        while !self.entries.is_empty() {
            if self.client.stop.signals() > 1 {
                return Err(Error::Stopped);
            }
            let answered = self.request();
            let is_late = Instant::now() >= deadline;
            let error = match answered {
                Ok(outcomes) => self.settle(&outcomes, is_late),
                Err(error) if error.is_transient() && !is_late => Some(error),
                Err(error) => {
                    self.give_up(&error);
                    None
                }
            };
            let Some(error) = error else { break }; // nothing is left
            self.outage.failed(&error);
            // Also after a signal: what was read is delivered, or a second signal ends it.
            std::thread::sleep(backoff.next_wait());
            if let Err(error) = self.client.refresh() {
                tracing::debug!(%error, "asking for metadata again");
            }
        }
        self.outage.ended();
        self.bytes.clear();
        Ok(())
    }

    fn give_up(&mut self, error: &Error) {
        for entry in std::mem::take(&mut self.entries) {
            let failure = self.failure(&entry, error);
            self.report(&entry, 1, 0, Err(failure));
        }
    }

    fn failure(&self, entry: &Entry, error: &Error) -> Failure {
        let slice = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &self.bytes[range]);
        let record = RecordRef {
            offset: 0,
            timestamp: None,
            key: slice(&entry.key),
            value: slice(&entry.value),
            headers: Headers::default(),
        };
        let mut records = BytesMut::new();
        encode(&mut records, &record, 0, 0);
        let topic = self.topics[entry.topic].0.clone();
        let batch = Batch::unplaced(topic, entry.partition, None, 1, records.freeze());
        let records = self.config.keep_failed.then_some(batch);
        Failure { error: error.clone(), possibly_written: entry.possibly_written, records }
    }

    /// Sends one request per broker; what they answered for each partition.
    fn request(&mut self) -> Result<Outcomes> {
        let bytes = &self.bytes;
        let slice = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &bytes[range]);
        let messages = self.entries.iter().map(|entry| {
            let topic = &self.topics[entry.topic].0;
            ProduceMessage { key: slice(&entry.key), value: slice(&entry.value), topic, partition: entry.partition }
        });
        let acks = match self.config.acks {
            Acks::None => RequiredAcks::None,
            Acks::Leader => RequiredAcks::One,
            Acks::All => RequiredAcks::All,
        };
        let limit = self.client.options.request_timeout;
        let confirms = self.client.inner.produce_messages(acks, limit, messages);
        let confirms = match confirms.map_err(|error| self.client.error(Action::Produce, Subject::Cluster, &error)) {
            Ok(confirms) => confirms,
            Err(error) => {
                let is_lost = error.is_connection();
                self.entries.iter_mut().for_each(|entry| entry.possibly_written |= is_lost);
                return Err(error);
            }
        };
        let outcomes = confirms.into_iter().flat_map(|confirm| {
            let topic = confirm.topic;
            confirm.partition_confirms.into_iter().map(move |partition| {
                let known = |code| error_code(code as i16).unwrap_or(ResponseError::UnknownServerError);
                ((topic.clone(), partition.partition), partition.offset.map_err(known))
            })
        });
        Ok(outcomes.collect())
    }

    /// Reports the entries that have an outcome, and keeps those that are to be sent again unless it is too late for
    /// that. Returns why one is kept.
    fn settle(&mut self, outcomes: &Outcomes, is_late: bool) -> Option<Error> {
        let mut failed = None;
        let mut left = VecDeque::new();
        let mut runs: HashMap<(usize, PartitionId), Run> = HashMap::new();
        for mut entry in std::mem::take(&mut self.entries) {
            let key = (self.topics[entry.topic].0.to_string(), entry.partition);
            let outcome = match outcomes.get(&key) {
                Some(outcome) => outcome.map(|offset| (offset >= 0).then_some(offset)),
                None if self.config.acks == Acks::None => Ok(None),
                None => Err(ResponseError::UnknownServerError),
            };
            match outcome {
                Ok(offset) => {
                    let len = entry.key.as_ref().map_or(0, |r| r.len()) + entry.value.as_ref().map_or(0, |r| r.len());
                    let partition = (entry.topic, entry.partition);
                    let run = runs.entry(partition).or_insert(Run { first: entry, records: 0, bytes: 0, offset });
                    run.records += 1;
                    run.bytes += len as u64;
                }
                Err(code) => {
                    entry.possibly_written |= !precedes_append(code);
                    let error = Error::kafka(Action::Produce, TopicPartition::new(key.0.as_str(), key.1), code);
                    if code.is_transient() && !is_late {
                        left.push_back(entry);
                        failed = Some(error);
                    } else {
                        let failure = self.failure(&entry, &error);
                        self.report(&entry, 1, 0, Err(failure));
                    }
                }
            }
        }
        for Run { first, records, bytes, offset } in runs.into_values() {
            self.report(&first, records, bytes, Ok(offset));
        }
        self.entries = left;
        failed
    }

    fn report(
        &mut self,
        first: &Entry,
        records: u64,
        bytes: u64,
        outcome: std::result::Result<Option<Offset>, Failure>,
    ) {
        self.answered += records;
        self.receipts.push(Receipt {
            slot: first.slot,
            append_time: None,
            topic: self.topics[first.topic].0.clone(),
            partition: first.partition,
            records,
            bytes,
            first_record: first.record,
            outcome,
        });
    }
}

impl Producer for KafkaProducer {
    fn append(&mut self, topic: &str, partition: Option<PartitionId>, record: &RecordRef<'_>) -> Result<Slot> {
        if !record.headers.is_empty() {
            return Err(unsupported_by_kafka_crate(
                "headers",
                "the kafka engine writes message format v0, which has no headers",
            ));
        }
        if record.timestamp.is_some() {
            return Err(unsupported_by_kafka_crate(
                "timestamps",
                "the kafka engine writes message format v0, which has no timestamps",
            ));
        }
        let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + 34;
        if size > self.config.max_record_size {
            return Err(Error::Refused(RefusedRecord::TooLarge { size, limit: self.config.max_record_size }));
        }
        let topic = self.topic(topic)?;
        let (name, count) = &self.topics[topic];
        let partition = match (partition, record.key) {
            (Some(partition), _) if partition < 0 || partition as usize >= *count => {
                return Err(no_such_partition(&TopicPartition::new(name.clone(), partition), *count));
            }
            (Some(partition), _) => partition,
            (None, key) => {
                let chosen = self.config.partitioner.choose(key, self.appended, *count);
                chosen.unwrap_or(self.round_robin % count) as PartitionId
            }
        };
        // A message takes some 26 bytes beside its key and value.
        let batched = self.bytes.len() + self.entries.len() * 34;
        if !self.entries.is_empty() && batched + size > self.config.batch_size {
            self.round_robin += 1;
            self.flush()?;
        }
        if self.entries.is_empty() {
            self.opened = Instant::now();
        }
        let (key, value) = (self.keep(record.key), self.keep(record.value));
        // Topics are never forgotten, so what stands before this one stays the same.
        let before: usize = self.topics[..topic].iter().map(|(_, count)| count).sum();
        let slot = before + partition as usize;
        let count = self.by_slot.entry(slot).or_default();
        self.entries.push_back(Entry { topic, partition, key, value, slot, record: *count, possibly_written: false });
        *count += 1;
        self.appended += 1;
        Ok(slot)
    }

    fn tick(&mut self, _: Timestamp, _: usize) -> Result<()> {
        Ok(())
    }

    fn idle(&mut self) -> Result<Option<Instant>> {
        let due = self.opened + self.config.linger;
        if !self.entries.is_empty() && Instant::now() < due {
            return Ok(Some(due));
        }
        self.flush()?;
        Ok(None)
    }

    fn receipts(&mut self) -> Result<Vec<Receipt>> {
        Ok(std::mem::take(&mut self.receipts))
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }

    fn abandon(&mut self) -> Result<()> {
        self.give_up(&Error::NotSent);
        Ok(())
    }

    fn end_transaction(&mut self, _: TransactionEnd) -> Result<()> {
        Err(unsupported_by_kafka_crate(
            "--transactional-id",
            "neither the kafka engine nor brokers before 0.11 support transactions",
        ))
    }

    fn unacknowledged(&self) -> u64 {
        self.appended - self.answered
    }
}
