//! Sends sealed batches: compresses them off-thread, hands them to their leaders, refreshes metadata, reports.

mod answers;
mod identities;
mod metadata;
mod trouble;

use super::super::cluster::{Cluster, TopicAnswer, TopicInfo};
use super::super::net::{self, Backoff, Connection, backoff, clock};
use super::super::wire::{Codec, Compression, ProducerStamp, Sealed};
use super::identity::{self, TransactionVersion};
use super::queue::{Batch, ProducerId, Queue};
use super::request::{self, Entry};
use super::{MAX_OPEN, Wake, cost};
use crate::engine::{Acks, ProducerConfig, Receipt, Slot as SlotId};
use crate::error::{Error, Result};
use crate::record::{BrokerId, LeaderEpoch, PartitionId};
use answers::SentBatch;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use metadata::pending;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use trouble::Trouble;
use uuid::Uuid;

/// A request takes batches of further partitions up to this many bytes.
const MAX_REQUEST: usize = 4 << 20;
/// The sender wakes up now and then even when nothing is due.
const FAR: Duration = Duration::from_secs(3600);
/// What a slow disk may add to the time that the broker waits for its replicas.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// A sealed batch on its way to the sender.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) slot: usize,
    pub(super) sealed: Sealed,
    pub(super) first_record: u64,
    pub(super) opened: Instant,
}

#[derive(Debug)]
pub(super) enum ToSender {
    /// A topic's partitions from this one on take the next slots; whether each of all has a leader is noted in the
    /// flags.
    Partitions(TopicInfo, usize, Arc<[AtomicBool]>),
    Batch(Outgoing),
    /// What was not sent yet is given up.
    Abandon,
    /// The transaction has ended: partitions must be added again, under this identity.
    TransactionEnded(ProducerId),
}

#[derive(Debug)]
pub(super) enum Feedback {
    Answered {
        slot: SlotId,
        /// Bytes of the buffer that are free now; 0 while a part of the batch is still on its way.
        freed_bytes: usize,
        receipt: Box<Receipt>,
        /// The batch's memory, to be used again.
        buffer: Option<BytesMut>,
    },
    /// A topic has more partitions than before.
    Grown(TopicInfo),
    /// A signal was received.
    Woken,
}

/// One partition as the sender sees it.
struct Slot {
    topic: Arc<str>,
    topic_id: Uuid,
    partition: PartitionId,
    leader: Option<BrokerId>,
    leader_epoch: Option<LeaderEpoch>,
    /// The topic's flags: whether each partition has a leader.
    available: Arc<[AtomicBool]>,
    queue: Queue,
    /// Records and buffer bytes of batches on their way, by their first record: a split batch counts once.
    sizes: BTreeMap<u64, (u64, usize)>,
}

enum Link {
    Connecting,
    Open(Arc<Connection>),
}

#[derive(Default)]
struct Broker {
    link: Option<Link>,
    in_flight: usize,
    retry_at: Option<Instant>,
    /// Connections that failed since the last that did not.
    failures: u32,
    /// A quota was exceeded: nothing is sent before (KIP-219).
    throttled_until: Option<Instant>,
    /// The slot that the next request looks at first: the one that the last full request had no room for. Those before
    /// it would else have every request to themselves.
    next_slot: usize,
}

/// What a task that the sender started came back with.
enum Event {
    /// `None` with acks=0, when the socket has the request: that is as good as it gets.
    Answered {
        broker: BrokerId,
        sent: Vec<SentBatch>,
        response: Result<Option<ProduceResponse>>,
    },
    Compressed {
        slot: usize,
        first_record: u64,
        sealed: Sealed,
    },
    Connected {
        broker: BrokerId,
        connection: Result<Arc<Connection>>,
    },
    Metadata(Result<Vec<TopicAnswer>>),
    Identity(Result<ProducerId>),
    /// Partitions were added to the transaction.
    Added(Vec<usize>, Result<()>),
}

/// Who produces, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// `None` without idempotence.
    pub(super) producer: Option<ProducerId>,
    /// `None` without transactions.
    pub(super) transactions: Option<TransactionVersion>,
}

pub(super) struct Sender {
    cluster: Arc<Cluster>,
    config: ProducerConfig,
    identity: Identity,
    batches: UnboundedReceiver<ToSender>,
    report: net::Sender<Feedback>,
    armed: Arc<AtomicBool>,
    wake: Wake,
    slots: Vec<Slot>,
    brokers: BTreeMap<BrokerId, Broker>,
    events: JoinSet<Event>,
    /// Whether metadata is being refreshed, and when that is due next.
    is_refreshing: bool,
    refresh_at: Option<Instant>,
    refresh_backoff: Backoff,
    /// Whether a producer ID is being asked for, and when it may be again.
    is_renewing: bool,
    renew_at: Option<Instant>,
    renew_backoff: Backoff,
    trouble: Trouble,
    /// Slots that belong to the transaction, and whether more are being added.
    added: BTreeSet<usize>,
    adding: bool,
    /// Why nothing new is sent any more.
    abandoned: Option<Error>,
}

impl Sender {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        config: ProducerConfig,
        identity: Identity,
        batches: UnboundedReceiver<ToSender>,
        report: net::Sender<Feedback>,
        armed: Arc<AtomicBool>,
        wake: Wake,
    ) -> Self {
        let (max_age, first_wait) = (config.metadata_max_age, cluster.options.retry_backoff);
        Self {
            cluster,
            config,
            identity,
            batches,
            report,
            armed,
            wake,
            slots: Vec::new(),
            brokers: BTreeMap::new(),
            events: JoinSet::new(),
            is_refreshing: false,
            refresh_at: Some(clock::now() + max_age),
            refresh_backoff: Backoff::new(first_wait),
            is_renewing: false,
            renew_at: None,
            renew_backoff: Backoff::new(first_wait),
            trouble: Trouble::default(),
            added: BTreeSet::new(),
            adding: false,
            abandoned: None,
        }
    }

    /// Sends until the producer is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let now = clock::now();
            self.expire(now);
            self.refresh(now);
            self.renew_identity(now);
            self.add_partitions();
            self.send(now);
            let timer = self.next_timer(now);
            tokio::select! {
                biased;
                message = self.batches.recv() => {
                    let Some(message) = message else { return };
                    self.accept(message);
                    while let Ok(more) = self.batches.try_recv() {
                        self.accept(more);
                    }
                }
                Some(event) = self.events.join_next() => {
                    // Err: the runtime ends.
                    let Ok(event) = event else { return };
                    self.handle(event);
                }
                () = tokio::time::sleep_until(timer.into()) => {}
            }
        }
    }

    fn accept(&mut self, message: ToSender) {
        match message {
            ToSender::Abandon => self.abandon(Error::NotSent),
            ToSender::TransactionEnded(next) => {
                self.added.clear();
                self.identity.producer = Some(next);
            }
            ToSender::Partitions(info, first, available) => self.add_slots(&info, first, &available),
            ToSender::Batch(outgoing) => {
                let Outgoing { slot, sealed, first_record, opened } = outgoing;
                // Time in which the command did not send the batch, for it waited elsewhere, does not count.
                let held_up = clock::now().checked_sub(self.config.linger.max(MAX_OPEN));
                let deadline = held_up.map_or(opened, |at| opened.max(at)) + self.config.delivery_timeout;
                let compress = self.config.compression.codec != Codec::None;
                self.cluster.options.observer.batch_filled(sealed.records.len());
                if !compress {
                    self.cluster.options.observer.batch_ready(sealed.records.len());
                }
                let entry = &mut self.slots[slot];
                entry.sizes.insert(first_record, (sealed.count as u64, cost(&sealed)));
                entry.queue.push(Batch::new(first_record, sealed, compress, deadline));
                match self.abandoned.clone() {
                    None => self.compress(slot),
                    Some(error) => self.abandon(error),
                }
            }
        }
    }

    fn add_slots(&mut self, info: &TopicInfo, first: usize, available: &Arc<[AtomicBool]>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.topic == info.name) {
            slot.available = available.clone();
        }
        for (index, partition) in info.partitions.iter().enumerate().skip(first) {
            self.slots.push(Slot {
                topic: info.name.clone(),
                topic_id: info.id,
                partition: index as PartitionId,
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                available: available.clone(),
                queue: Queue::new(self.config.transaction.is_some()),
                sizes: BTreeMap::new(),
            });
        }
    }

    /// Gives up what was never sent, now and from now on.
    fn abandon(&mut self, error: Error) {
        for slot in 0..self.slots.len() {
            let done = self.slots[slot].queue.abandon(&error);
            self.report(slot, done);
        }
        self.abandoned = Some(error);
    }

    fn compress(&mut self, slot: usize) {
        for (first_record, sealed) in self.slots[slot].queue.take_raw() {
            let compression = self.config.compression;
            let work = move || Event::Compressed { slot, first_record, sealed: compress(sealed, compression) };
            self.cluster.options.platform.spawn_blocking(&mut self.events, work);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Compressed { slot, first_record, sealed } => {
                self.cluster.options.observer.batch_ready(sealed.records.len());
                self.slots[slot].queue.compressed(first_record, sealed);
            }
            Event::Connected { broker, connection } => self.connected(broker, connection, now),
            Event::Metadata(found) => {
                self.is_refreshing = false;
                self.refresh_at = Some(now + self.config.metadata_max_age);
                match found {
                    Ok(topics) => self.set_leaders(topics),
                    Err(error) => {
                        self.trouble.failed(pending(&self.slots, |_| true), &error);
                        self.refresh_soon(now);
                    }
                }
            }
            Event::Identity(identity) => {
                self.is_renewing = false;
                match identity {
                    Ok(identity) => {
                        self.identity.producer = Some(identity);
                        self.renew_backoff.reset();
                    }
                    // Asked again as long as a batch waits for it, whose own deadline ends that.
                    Err(error) => {
                        self.renew_at = Some(now + self.renew_backoff.next_wait());
                        self.trouble.failed(pending(&self.slots, |slot| slot.queue.needs_producer()), &error);
                    }
                }
            }
            Event::Added(slots, result) => {
                self.adding = false;
                match result {
                    Ok(()) => self.added.extend(slots),
                    Err(error) => self.abandon(error),
                }
            }
            Event::Answered { broker, sent, response } => self.answered(broker, sent, response, now),
        }
    }

    fn connected(&mut self, broker: BrokerId, connection: Result<Arc<Connection>>, now: Instant) {
        let entry = self.brokers.entry(broker).or_default();
        match connection {
            Ok(connection) => {
                entry.link = Some(Link::Open(connection));
                entry.failures = 0;
            }
            Err(error) => {
                entry.link = None;
                entry.retry_at = Some(now + backoff(self.cluster.options.retry_backoff, entry.failures));
                entry.failures += 1;
                let waiting: Vec<usize> = pending(&self.slots, |slot| slot.leader == Some(broker)).collect();
                self.refresh_soon(now);
                if error.is_transient() {
                    self.trouble.failed(waiting, &error);
                } else {
                    self.refuse(waiting, &error);
                }
            }
        }
    }

    /// Gives up what waits for a broker that cannot be reached, where no retry mends that.
    fn refuse(&mut self, slots: Vec<usize>, error: &Error) {
        for slot in slots {
            let done = self.slots[slot].queue.abandon(error);
            self.finish(slot, done);
        }
    }

    /// Sends what may be sent now, a request to each broker at a time.
    fn send(&mut self, now: Instant) {
        let mut leaders: Vec<BrokerId> =
            self.slots.iter().filter(|slot| !slot.queue.is_empty()).filter_map(|slot| slot.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        if self.slots.iter().any(|slot| slot.leader.is_none() && !slot.queue.is_empty()) {
            self.refresh_soon(now);
        }
        for broker in leaders {
            while let Some(connection) = self.open_connection(broker, now) {
                if !self.send_one(broker, &connection, now) {
                    break;
                }
            }
        }
    }

    /// The connection to a broker, when it is open and may take another request; else it is being made.
    fn open_connection(&mut self, broker: BrokerId, now: Instant) -> Option<Arc<Connection>> {
        let entry = self.brokers.entry(broker).or_default();
        if entry.throttled_until.is_some_and(|until| until > now) {
            return None;
        }
        match &entry.link {
            Some(Link::Open(connection)) if connection.is_open() => {
                return (entry.in_flight < self.config.max_in_flight).then(|| connection.clone());
            }
            Some(Link::Connecting) => return None,
            _ => {}
        }
        if entry.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        entry.link = Some(Link::Connecting);
        let cluster = self.cluster.clone();
        self.events.spawn(async move { Event::Connected { broker, connection: cluster.broker(broker).await } });
        None
    }

    /// Puts one batch of each partition that `broker` leads into a request; false when there is none to send.
    fn send_one(&mut self, broker: BrokerId, connection: &Arc<Connection>, now: Instant) -> bool {
        let ids = self.slots.iter().filter(|slot| slot.leader == Some(broker)).all(|slot| slot.topic_id != Uuid::nil());
        let added_first = self.identity.transactions == Some(TransactionVersion::One);
        let newest = match ids {
            _ if added_first => request::LAST_WITH_ADDED_PARTITIONS,
            true => i16::MAX,
            false => request::LAST_BY_NAME,
        };
        let version = match connection.version::<ProduceRequest>(newest) {
            Ok(version) => version,
            Err(error) => {
                self.abandon(error);
                return false;
            }
        };
        let transactional = self.config.transaction.is_some();
        let max_in_flight = if version < request::FIRST_WITH_FIVE_REMEMBERED { 1 } else { self.config.max_in_flight };
        let mut batches: Vec<(usize, Sealed, ProducerStamp)> = Vec::new();
        let mut sent = Vec::new();
        let (mut bytes, mut latest) = (0, now);
        let first = self.brokers.get(&broker).map_or(0, |broker| broker.next_slot);
        for index in (first..self.slots.len()).chain(0..first) {
            let slot = &mut self.slots[index];
            let is_ready = !added_first || self.added.contains(&index);
            if slot.leader != Some(broker) || !is_ready {
                continue;
            }
            if bytes >= MAX_REQUEST {
                self.brokers.entry(broker).or_default().next_slot = index;
                break;
            }
            if let Some((batch, stamp)) = slot.queue.next(now, max_in_flight, self.identity.producer) {
                bytes += batch.sealed.len();
                latest = latest.max(batch.deadline);
                sent.push(SentBatch { slot: index, first_record: batch.first_record, topic_id: slot.topic_id });
                batches.push((index, batch.sealed.clone(), ProducerStamp { transactional, ..stamp }));
            }
        }
        if batches.is_empty() {
            return false;
        }
        let entry = |(slot, sealed, stamp): (usize, Sealed, ProducerStamp)| {
            let Slot { topic, topic_id, partition, .. } = &self.slots[slot];
            Entry { topic, topic_id: *topic_id, partition: *partition, sealed, stamp }
        };
        let entries: Vec<Entry<'_>> = batches.into_iter().map(entry).collect();
        let id = self.config.transaction.as_ref().map(|t| &t.id[..]);
        let body = request::encode(&entries, self.config.acks, self.cluster.options.request_timeout, id, version);
        // Not beyond the last batch's deadline.
        let limit = (self.cluster.options.request_timeout + ANSWER_SLACK).min(self.cluster.time_left(latest));
        let connection = connection.clone();
        self.brokers.entry(broker).or_default().in_flight += 1;
        if self.config.acks == Acks::None {
            let begun = connection.begin_unanswered::<ProduceRequest>(body, version);
            self.events.spawn(async move {
                let written = async { connection.written(begun?, limit).await };
                Event::Answered { broker, response: written.await.map(|()| None), sent }
            });
            return true;
        }
        let begun = connection.begin::<ProduceRequest>(body, version);
        self.events.spawn(async move {
            let answer = async {
                let answer = connection.answer::<ProduceRequest>(begun?, version, limit).await?;
                connection.decode::<ProduceRequest>(answer, version)
            };
            Event::Answered { broker, response: answer.await.map(Some), sent }
        });
        true
    }

    /// When something is due of itself. What was due by `now` was done, or waits for an event.
    fn next_timer(&self, now: Instant) -> Instant {
        let waiting = self.slots.iter().filter(|slot| !slot.queue.is_empty());
        let queues = waiting.flat_map(|slot| [slot.queue.retry_at(), slot.queue.deadline()]);
        let brokers = self.brokers.values().filter(|b| b.link.is_none()).map(|broker| broker.retry_at);
        let throttled = self.brokers.values().map(|broker| broker.throttled_until);
        let due = queues.chain(brokers).chain(throttled).chain([self.refresh_at, self.renew_at]).flatten();
        due.filter(|&at| at > now).fold(now + FAR, Instant::min)
    }
}

/// The batch compressed, or as it is when that would make it larger.
fn compress(sealed: Sealed, compression: Compression) -> Sealed {
    match compression.compress(&sealed.records) {
        Ok(packed) if packed.len() < sealed.records.len() => {
            Sealed { records: Bytes::from(packed), codec: compression.codec, ..sealed }
        }
        Ok(_) => sealed,
        Err(error) => {
            tracing::warn!(%error, "a batch could not be compressed; it is sent as it is");
            sealed
        }
    }
}
