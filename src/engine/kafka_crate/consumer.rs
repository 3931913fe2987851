//! Reading through the `kafka` crate.

use super::Connection;
use crate::engine::native::{Backoff, Outage};
use crate::engine::{
    CommitMode, Consumer, ConsumerConfig, End, Event, Offsets, Start, Subscription, no_such_partition, out_of_range,
    unsupported_by_kafka_crate,
};
use crate::error::{Action, Error, Result, Subject};
use crate::record::{Batch, Headers, Offset, PartitionId, RecordRef, TimestampType, TopicPartition, encode};
use bytes::BytesMut;
use kafka::client::{CommitOffset, FetchOffset, FetchPartition};
use kafka_protocol::error::ResponseError;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that a fetch may ask for of one partition, while it looks for the size of a large record.
const MAX_FETCH: i32 = 256 << 20;
/// A reader with an end gives up when fetching fails this long; a tail continues to retry.
const OUTAGE_LIMIT: Duration = Duration::from_secs(60);
/// How long the brokers may hold a fetch: signals are looked at in between.
const FETCH_WAIT: Duration = Duration::from_millis(250);

/// [`Consumer`] of the `kafka` crate.
pub struct KafkaConsumer {
    client: Connection,
    config: ConsumerConfig,
    partitions: Vec<Reading>,
    ready: VecDeque<Batch>,
    outage: Outage,
    backoff: Backoff,
}

struct Reading {
    topic: Arc<str>,
    partition: PartitionId,
    position: Offset,
    until: Offset,
    max_bytes: i32,
}

impl KafkaConsumer {
    pub fn open(mut client: Connection, config: ConsumerConfig) -> Result<Self> {
        let by_time = "brokers before 0.10.1 index timestamps by segment only";
        if [config.start, config.fallback].iter().any(|start| matches!(start, Start::Time(_))) {
            return Err(unsupported_by_kafka_crate("-o @TIME", by_time));
        }
        if matches!(config.end, Some(End::Time(_))) {
            return Err(unsupported_by_kafka_crate("--until @TIME", by_time));
        }
        let Subscription::Topics(topics) = &config.subscription else {
            return Err(unsupported_by_kafka_crate("--regex", "the kafka engine does not support patterns"));
        };
        let mut partitions = Vec::new();
        for topic in topics {
            partitions.extend(readings(&mut client, &config, topic)?);
        }
        client
            .inner
            .set_fetch_max_wait_time(FETCH_WAIT)
            .map_err(|e| client.error(Action::Fetch, Subject::Cluster, &e))?;
        client.inner.set_fetch_min_bytes(1);
        let backoff = Backoff::new(client.options.retry_backoff);
        Ok(Self { client, config, partitions, ready: VecDeque::new(), outage: Outage::default(), backoff })
    }

    fn fetch(&mut self) -> Result<()> {
        let wanted: Vec<FetchPartition<'_>> = self
            .partitions
            .iter()
            .filter(|p| p.position < p.until)
            .map(|p| FetchPartition::new(&p.topic, p.partition, p.position).with_max_bytes(p.max_bytes))
            .collect();
        let asked_at = Instant::now();
        let responses = match self.client.inner.fetch_messages(&wanted) {
            Ok(responses) => responses,
            Err(error) => {
                let error = self.client.error(Action::Fetch, Subject::Cluster, &error);
                return self.recover(error);
            }
        };
        let (mut failed, mut is_fruitless) = (None, asked_at.elapsed() < FETCH_WAIT / 2);
        for response in &responses {
            for topic in response.topics() {
                for fetched in topic.partitions() {
                    let Some(reading) = self
                        .partitions
                        .iter_mut()
                        .find(|p| *p.topic == *topic.topic() && p.partition == fetched.partition())
                    else {
                        continue;
                    };
                    let data = match fetched.data() {
                        Ok(data) => data,
                        Err(error) => {
                            let of = TopicPartition::new(reading.topic.clone(), reading.partition);
                            failed = Some(self.client.error(Action::Fetch, of.into(), &error));
                            continue;
                        }
                    };
                    match batch(reading, data) {
                        Some(batch) => {
                            is_fruitless = false;
                            reading.position = batch.next_offset;
                            reading.max_bytes = self.config.fetch_bytes as i32;
                            self.ready.push_back(batch);
                        }
                        None if data.highwatermark_offset() > reading.position => {
                            // The next record is larger than what was asked for.
                            if reading.max_bytes >= MAX_FETCH {
                                return Err(Error::Corrupt {
                                    partition: TopicPartition::new(reading.topic.clone(), reading.partition),
                                    offset: reading.position,
                                    why: "the record is larger than 256 MiB".to_owned(),
                                });
                            }
                            is_fruitless = false;
                            reading.max_bytes = reading.max_bytes.saturating_mul(2).min(MAX_FETCH);
                        }
                        None => {}
                    }
                }
            }
        }
        match failed {
            Some(error) => self.recover(error),
            // Answered at once, without anything of use.
            None if is_fruitless => {
                self.client.stop.wait(self.backoff.next_wait());
                Ok(())
            }
            None => {
                self.outage.ended();
                self.backoff.reset();
                Ok(())
            }
        }
    }

    /// Looks for the leaders again when that may help.
    fn recover(&mut self, error: Error) -> Result<()> {
        if !error.is_transient() {
            return Err(error);
        }
        if self.outage.failed(&error) > OUTAGE_LIMIT && self.config.stop_at_end {
            return Err(error);
        }
        self.client.stop.wait(self.backoff.next_wait());
        if let Err(error) = self.client.refresh() {
            tracing::debug!(%error, "asking for metadata again");
        }
        Ok(())
    }
}

/// Where to begin and to end in the partitions of a topic.
fn readings(client: &mut Connection, config: &ConsumerConfig, topic: &str) -> Result<Vec<Reading>> {
    let count = client.count(topic, false)?;
    let wanted = config.partitions.clone().unwrap_or_else(|| (0..count as PartitionId).collect());
    let there: Vec<PartitionId> =
        wanted.iter().copied().filter(|p| usize::try_from(*p).is_ok_and(|index| index < count)).collect();
    let first = client.offsets_of(topic, &there, FetchOffset::Earliest)?;
    let next = client.offsets_of(topic, &there, FetchOffset::Latest)?;
    let committed = match (config.group.as_ref().map(|group| group.id.as_str()), config.start) {
        (Some(group), Start::Stored) => client
            .inner
            .fetch_group_topic_offset(group, topic)
            .map_err(|e| client.error(Action::FetchOffsets, Subject::group_named(group), &e))?
            .into_iter()
            .filter(|p| p.offset >= 0)
            .map(|p| (p.partition, p.offset))
            .collect(),
        _ => HashMap::new(),
    };
    let reading = |partition| {
        let of = TopicPartition::new(topic, partition);
        let (Some(&first), Some(&next)) = (first.get(&partition), next.get(&partition)) else {
            let leaderless = || Error::kafka(Action::LookUp, &of, ResponseError::LeaderNotAvailable);
            return Err(if there.contains(&partition) { leaderless() } else { no_such_partition(&of, count) });
        };
        let from = |start| match start {
            Start::Beginning => Some(first),
            Start::End | Start::Time(_) => Some(next),
            Start::Stored => committed.get(&partition).copied(),
            Start::At(offset) => Some(offset),
            Start::Last(count) => Some(next.saturating_sub_unsigned(count).max(first)),
        };
        let mut position = from(config.start).or_else(|| from(config.fallback)).unwrap_or(first);
        if config.end.is_some() && position > next {
            position = next; // a partition that is shorter than the range
        }
        if position < first || position > next {
            let error = out_of_range(&of, position, first, next);
            if config.start != Start::Stored {
                return Err(error);
            }
            position = from(config.fallback).unwrap_or(first);
            tracing::warn!("committed {error}; resuming at {position}");
        }
        let until = match config.end {
            Some(End::At(offset)) => offset,
            Some(End::Last(count)) => next.saturating_sub_unsigned(count),
            Some(End::AtStartup | End::Time(_)) => next,
            None => Offset::MAX,
        };
        let until = if config.stop_at_end { until.min(next) } else { until };
        Ok(Reading { topic: of.topic, partition, position, until, max_bytes: config.fetch_bytes as i32 })
    };
    wanted.into_iter().map(reading).collect()
}

/// Converts fetched messages to the record module's batches.
fn batch(reading: &Reading, data: &kafka::client::fetch::Data<'_>) -> Option<Batch> {
    let messages = data.messages().iter().filter(|m| m.offset >= reading.position);
    let base_offset = messages.clone().next()?.offset;
    let mut records = BytesMut::new();
    let (mut count, mut next_offset) = (0, base_offset);
    for message in messages {
        let record = RecordRef {
            offset: message.offset,
            timestamp: None,
            key: Some(message.key),
            value: Some(message.value),
            headers: Headers::default(),
        };
        let Ok(delta) = i32::try_from(message.offset - base_offset) else { break };
        encode(&mut records, &record, 0, delta);
        next_offset = message.offset + 1;
        count += 1;
    }
    Some(Batch {
        topic: reading.topic.clone(),
        partition: reading.partition,
        base_offset,
        base_timestamp: None,
        timestamp_type: TimestampType::Create,
        nulls_known: false,
        leader_epoch: -1,
        from: reading.position,
        until: reading.until,
        next_offset: next_offset.min(reading.until),
        count,
        records: records.freeze(),
    })
}

impl Consumer for KafkaConsumer {
    fn poll_news(&self) -> bool {
        self.client.stop.is_raised()
    }

    fn next(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if self.client.stop.is_raised() {
                return Ok(Event::Stopped);
            }
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Event::Batch(batch));
            }
            if self.partitions.iter().all(|p| p.position >= p.until) {
                return Ok(Event::End);
            }
            if Instant::now() >= deadline {
                return Ok(Event::Timeout);
            }
            self.fetch()?;
        }
    }

    fn commit(&mut self, written: &Offsets, _mode: CommitMode) -> Result<Offsets> {
        let Some(group) = self.config.group.as_ref().map(|group| group.id.clone()) else {
            return Err(Error::Usage("committing requires a group (-g)".to_owned()));
        };
        let offsets: Vec<CommitOffset<'_>> =
            written.iter().map(|(of, at)| CommitOffset::new(&of.topic, of.partition, at.offset)).collect();
        if offsets.is_empty() {
            return Ok(Offsets::new());
        }
        let deadline = Instant::now() + self.client.options.retry_limit();
        let (mut outage, mut backoff) = (Outage::default(), Backoff::new(self.client.options.retry_backoff));
        loop {
            let Err(error) = self.client.inner.commit_offsets(&group, &offsets) else { return Ok(written.clone()) };
            let partitions = written.iter().map(|(of, at)| (of.clone(), at.offset)).collect();
            let subject = Subject::GroupPartitions { group: group.clone(), partitions };
            let error = self.client.error(Action::CommitOffsets, subject, &error);
            if !error.is_transient() || Instant::now() >= deadline {
                return Err(error);
            }
            outage.failed(&error);
            std::thread::sleep(backoff.next_wait());
            if let Err(error) = self.client.refresh() {
                tracing::debug!(%error, "asking for metadata again");
            }
        }
    }
}
