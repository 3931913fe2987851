//! Reading: positions, the fetches that run ahead of them, and the group's offsets.

mod fetcher;
mod offsets;
mod positions;

use super::Client;
use super::cluster::{EARLIEST, LATEST, TopicInfo};
use crate::engine::{Consumer, ConsumerConfig, Event, Offsets, Start, no_such_partition, out_of_range};
use crate::error::{Code, Error, Result};
use crate::record::{Batch, Offset, PartitionId};
use fetcher::{Budget, Delivery, Fetcher, Held};
use positions::{Positions, Target};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// [`Consumer`] of the native engine.
#[derive(Debug)]
pub struct NativeConsumer {
    client: Client,
    group: Option<String>,
    deliveries: Receiver<Delivery>,
    /// Decoded, not handed out yet.
    ready: VecDeque<Batch>,
    /// Memory that `ready` and the batch handed out last stand in.
    held: Option<Held>,
    /// What the last delivery said after its batches.
    failed: Option<Error>,
}

type Place = (Arc<str>, PartitionId);

impl NativeConsumer {
    /// Resolves where to begin and to end, and starts fetching.
    ///
    /// # Errors
    /// A topic or partition does not exist, an offset is out of range, or the cluster does not answer.
    pub fn open(client: Client, config: ConsumerConfig) -> Result<Self> {
        let targets = client.network.run(1, resolve(&client, &config))?;
        let (deliver, deliveries) = channel();
        wake_on_stop(&client, &deliver);
        let fetcher = Fetcher {
            cluster: client.cluster.clone(),
            positions: Positions::new(targets),
            budget: Arc::new(Budget::new(config.fetch_ahead)),
            deliver,
            config: config.clone(),
        };
        client.network.handle().spawn(fetcher.run());
        Ok(Self { client, group: config.group, deliveries, ready: VecDeque::new(), held: None, failed: None })
    }
}

fn wake_on_stop(client: &Client, deliver: &Sender<Delivery>) {
    let deliver = deliver.clone();
    client.network.stop().wake_with(move || {
        // Err: the consumer is gone, nobody waits.
        let _ = deliver.send(Delivery::Woken);
    });
}

impl Consumer for NativeConsumer {
    fn next(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if self.client.network.stop().is_raised() {
                return Ok(Event::Stopped);
            }
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Event::Batch(batch));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            // All of the last delivery is handled: its memory may be fetched into again.
            self.held = None;
            let delivery = match self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(delivery) => delivery,
                Err(RecvTimeoutError::Timeout) => return Ok(Event::Timeout),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Network("the fetching task ended unexpectedly".to_owned()));
                }
            };
            let decoded = match delivery {
                Delivery::Woken => continue,
                Delivery::End => return Ok(Event::End),
                Delivery::Failed(error) => return Err(error),
                Delivery::Decoded(decoded) => decoded,
                Delivery::Decoding(pending) => pending
                    .blocking_recv()
                    .map_err(|_| Error::Network("decompression ended unexpectedly".to_owned()))?,
            };
            self.ready = decoded.batches.into();
            self.held = Some(decoded.held);
            self.failed = decoded.failed;
        }
    }

    fn commit(&mut self, written: &Offsets) -> Result<()> {
        let Some(group) = &self.group else {
            return Err(Error::Usage("committing needs a group: -g".to_owned()));
        };
        if written.is_empty() {
            return Ok(());
        }
        // A first signal must not keep what was written from being committed.
        self.client.network.run(2, offsets::commit(&self.client.cluster, group, written))
    }
}

async fn resolve(client: &Client, config: &ConsumerConfig) -> Result<Vec<Target>> {
    let cluster = &client.cluster;
    let names: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    let topics = cluster.topics(&names, false).await?;
    let mut places: Vec<Place> = Vec::new();
    for topic in &topics {
        let count = topic.partitions.len();
        match &config.partitions {
            None => places.extend((0..count as PartitionId).map(|p| (topic.name.clone(), p))),
            Some(wanted) => {
                if let Some(&none) = wanted.iter().find(|&&p| p < 0 || p as usize >= count) {
                    return Err(no_such_partition(&topic.name, none, count));
                }
                places.extend(wanted.iter().map(|&p| (topic.name.clone(), p)));
            }
        }
    }
    let committed = config.isolation == crate::engine::Isolation::Committed;
    let first = cluster.list_offsets(&places, EARLIEST, committed).await?;
    let next = cluster.list_offsets(&places, LATEST, committed).await?;
    let stored = match (&config.group, config.start) {
        (Some(group), Start::Stored) => offsets::fetch(cluster, group, &places).await?,
        _ => HashMap::new(),
    };
    let by_time = |start| match start {
        Start::Time(timestamp) => Some(timestamp),
        _ => None,
    };
    let at_time = match by_time(config.start).or(by_time(config.fallback)) {
        Some(timestamp) => cluster.list_offsets(&places, timestamp, committed).await?,
        None => HashMap::new(),
    };
    let resolve_one = |place: &Place| -> Result<Target> {
        let (topic, partition) = place;
        let unknown = || Error::Network(format!("no offsets for {}", crate::engine::place(topic, *partition)));
        let (first, next) = (*first.get(place).ok_or_else(unknown)?, *next.get(place).ok_or_else(unknown)?);
        let from = |start| -> Option<Offset> {
            Some(match start {
                Start::Beginning => first,
                Start::End => next,
                Start::Stored => *stored.get(place)?,
                Start::At(offset) => offset,
                Start::Last(count) => next.saturating_sub_unsigned(count).max(first),
                // -1: nothing is so late
                Start::Time(_) => at_time.get(place).copied().filter(|&offset| offset >= 0).unwrap_or(next),
            })
        };
        let mut position = from(config.start).or_else(|| from(config.fallback)).unwrap_or(first);
        if position < first || position > next {
            if config.start != Start::Stored {
                return Err(out_of_range(topic, *partition, position, first, next));
            }
            // Retention, or a topic made anew, took what the group had not read.
            let from = from(config.fallback).unwrap_or(first);
            let lost = out_of_range(topic, *partition, position, first, next);
            tracing::warn!("committed {lost}; going on from {from}");
            position = from;
        }
        let info = topics.iter().find(|info| info.name == *topic);
        let id = info.map_or(uuid::Uuid::nil(), |info: &TopicInfo| info.id);
        let until = if config.stop_at_end { next } else { Offset::MAX };
        Ok(Target { topic: topic.clone(), id, partition: *partition, position, until })
    };
    places.iter().map(resolve_one).collect()
}

/// What to say when a fetch is answered with an error that no retry mends.
async fn explain(cluster: &super::cluster::Cluster, place: &Place, asked: Offset, code: i16) -> Error {
    const OFFSET_OUT_OF_RANGE: i16 = 1;
    if code == OFFSET_OUT_OF_RANGE {
        let one = std::slice::from_ref(place);
        let first = cluster.list_offsets(one, EARLIEST, false).await.ok().and_then(|found| found.get(place).copied());
        let next = cluster.list_offsets(one, LATEST, false).await.ok().and_then(|found| found.get(place).copied());
        if let (Some(first), Some(next)) = (first, next) {
            return out_of_range(&place.0, place.1, asked, first, next);
        }
    }
    Error::Kafka {
        what: format!("fetching {}", crate::engine::place(&place.0, place.1)),
        code: Code(code),
        message: None,
    }
}
