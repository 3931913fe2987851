//! Sends sealed batches: compresses them off-thread, hands them to their leaders, looks leaders up anew, reports.

mod answers;

use super::super::cluster::{Cluster, TopicAnswer, TopicInfo};
use super::super::net::{Connection, backoff};
use super::super::wire::{Codec, Compression, ProducerStamp, Sealed};
use super::identity::{self, TransactionVersion};
use super::queue::{Batch, ProducerId, Queue};
use super::request::{self, Entry};
use super::{Wake, cost};
use crate::engine::{Acks, ProducerConfig, Receipt, Slot as SlotId};
use crate::error::{Action, Subject};
use crate::error::{Error, Result};
use crate::record::PartitionId;
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use uuid::Uuid;

/// A request takes batches of further partitions up to this many bytes.
const MAX_REQUEST: usize = 4 << 20;
/// Leaders are looked up this often even when nothing fails, as Java's `metadata.max.age.ms` has it.
const METADATA_AGE: Duration = Duration::from_secs(300);
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
    /// A topic's partitions take the next slots; whether each has a leader is noted in the flags.
    Topic(TopicInfo, Arc<[AtomicBool]>),
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
    /// A signal came.
    Woken,
}

/// One partition as the sender sees it.
struct Slot {
    topic: Arc<str>,
    topic_id: Uuid,
    partition: PartitionId,
    leader: Option<i32>,
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
    attempts: u32,
    /// A quota was exceeded: nothing is sent before (KIP-219).
    throttled_until: Option<Instant>,
}

/// What a task that the sender started came back with.
enum Event {
    /// `None` with acks=0, when the socket has the request: that is as good as it gets.
    Answered {
        broker: i32,
        sent: Vec<(usize, u64)>,
        response: Result<Option<ProduceResponse>>,
    },
    Compressed {
        slot: usize,
        first_record: u64,
        sealed: Sealed,
    },
    Connected {
        broker: i32,
        connection: Result<Arc<Connection>>,
    },
    Leaders(Result<Vec<TopicAnswer>>),
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
    report: std::sync::mpsc::Sender<Feedback>,
    armed: Arc<AtomicBool>,
    wake: Wake,
    slots: Vec<Slot>,
    brokers: HashMap<i32, Broker>,
    events: JoinSet<Event>,
    /// Whether a look-up of leaders is under way, and when the next is due.
    looking: bool,
    look_at: Option<Instant>,
    asking_identity: bool,
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
        report: std::sync::mpsc::Sender<Feedback>,
        armed: Arc<AtomicBool>,
        wake: Wake,
    ) -> Self {
        Self {
            cluster,
            config,
            identity,
            batches,
            report,
            armed,
            wake,
            slots: Vec::new(),
            brokers: HashMap::new(),
            events: JoinSet::new(),
            looking: false,
            look_at: Some(Instant::now() + METADATA_AGE),
            asking_identity: false,
            added: BTreeSet::new(),
            adding: false,
            abandoned: None,
        }
    }

    /// Sends until the producer is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.expire(now);
            self.look_up(now);
            self.renew_identity();
            self.add_partitions();
            self.send(now);
            let timer = self.next_timer();
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
            ToSender::Topic(info, available) => {
                for (index, partition) in info.partitions.iter().enumerate() {
                    self.slots.push(Slot {
                        topic: info.name.clone(),
                        topic_id: info.id,
                        partition: index as PartitionId,
                        leader: partition.leader,
                        available: available.clone(),
                        queue: Queue::new(self.config.transaction.is_some()),
                        sizes: BTreeMap::new(),
                    });
                }
            }
            ToSender::Batch(outgoing) => {
                let Outgoing { slot, sealed, first_record, opened } = outgoing;
                let deadline = opened + self.config.delivery_timeout;
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

    /// Gives up what was never sent, now and from now on.
    fn abandon(&mut self, error: Error) {
        for slot in 0..self.slots.len() {
            let done = self.slots[slot].queue.abandon(&error);
            self.report(slot, done);
        }
        self.abandoned = Some(error);
    }

    /// Adds the partitions that have something to send to the transaction, where the first batch does not do that.
    fn add_partitions(&mut self) {
        let (Some(transaction), Some(identity)) = (&self.config.transaction, self.identity.producer) else { return };
        if self.adding || self.identity.transactions == Some(TransactionVersion::Two) {
            return;
        }
        let waits = |slot: &usize| !self.slots[*slot].queue.is_empty() && !self.added.contains(slot);
        let slots: Vec<usize> = (0..self.slots.len()).filter(waits).collect();
        if slots.is_empty() {
            return;
        }
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for &slot in &slots {
            topics.entry(self.slots[slot].topic.to_string()).or_default().push(self.slots[slot].partition);
        }
        self.adding = true;
        let (cluster, id) = (self.cluster.clone(), transaction.id.clone());
        let deadline = Instant::now() + self.config.delivery_timeout;
        self.events.spawn(async move {
            let added = identity::add_partitions(&cluster, &id, identity, topics, deadline).await;
            Event::Added(slots, added)
        });
    }

    fn compress(&mut self, slot: usize) {
        for (first_record, sealed) in self.slots[slot].queue.take_raw() {
            let compression = self.config.compression;
            self.events.spawn_blocking(move || Event::Compressed {
                slot,
                first_record,
                sealed: compress(sealed, compression),
            });
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Compressed { slot, first_record, sealed } => {
                self.cluster.options.observer.batch_ready(sealed.records.len());
                self.slots[slot].queue.compressed(first_record, sealed);
            }
            Event::Connected { broker, connection } => {
                let entry = self.brokers.entry(broker).or_default();
                match connection {
                    Ok(connection) => {
                        entry.link = Some(Link::Open(connection));
                        entry.attempts = 0;
                    }
                    Err(error) => {
                        if entry.attempts == 0 {
                            tracing::warn!(error_name = error.name(), %error, "trying on");
                        }
                        entry.link = None;
                        entry.retry_at = Some(now + backoff(self.cluster.options.retry_backoff, entry.attempts));
                        entry.attempts += 1;
                        self.look_soon(now);
                    }
                }
            }
            Event::Leaders(found) => {
                self.looking = false;
                self.look_at = Some(now + METADATA_AGE);
                match found {
                    Ok(topics) => self.set_leaders(topics),
                    Err(error) => {
                        tracing::warn!(error_name = error.name(), %error, "looking up leaders again");
                        self.look_soon(now);
                    }
                }
            }
            Event::Identity(identity) => {
                self.asking_identity = false;
                match identity {
                    Ok(identity) => self.identity.producer = Some(identity),
                    // Asked again as long as a batch waits for it, whose own deadline ends that.
                    Err(error) => tracing::warn!(error_name = error.name(), %error, "asking for a producer id again"),
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

    fn set_leaders(&mut self, topics: Vec<TopicAnswer>) {
        for (name, topic) in topics {
            for slot in self.slots.iter_mut().filter(|slot| *slot.topic == *name) {
                let found =
                    topic.as_ref().ok().and_then(|info| Some((info.id, info.partitions.get(slot.partition as usize)?)));
                let leader = found.and_then(|(_, partition)| partition.leader);
                if slot.leader.is_some() && slot.leader != leader {
                    let (topic, partition, before) = (&*slot.topic, slot.partition, slot.leader);
                    tracing::info!(topic, partition, before, leader, "the leader changed");
                }
                slot.leader = leader;
                slot.available[slot.partition as usize].store(slot.leader.is_some(), Ordering::Relaxed);
                if let Some((id, _)) = found {
                    slot.topic_id = id;
                }
            }
        }
    }

    fn look_soon(&mut self, now: Instant) {
        let soon = now + self.cluster.options.retry_backoff;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    fn look_up(&mut self, now: Instant) {
        if self.looking || self.slots.is_empty() || self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.looking = true;
        self.look_at = None;
        let mut names: Vec<Arc<str>> = self.slots.iter().map(|slot| slot.topic.clone()).collect();
        names.dedup();
        let cluster = self.cluster.clone();
        self.events.spawn(async move {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            Event::Leaders(cluster.metadata(Some(&names), false).await)
        });
    }

    fn renew_identity(&mut self) {
        if self.asking_identity || !self.slots.iter().any(|slot| slot.queue.needs_producer()) {
            return;
        }
        if let Some(transaction) = &self.config.transaction {
            // A part of the transaction may be lost: all that can be done is to abort it.
            return self.abandon({
                let subject = Subject::TransactionalId(transaction.id.clone());
                Error::kafka(Action::Produce, subject, ResponseError::OutOfOrderSequenceNumber)
            });
        }
        self.asking_identity = true;
        tracing::warn!("the broker lost track of this producer's sequences: taking a new producer id");
        let cluster = self.cluster.clone();
        let deadline = Instant::now() + self.config.delivery_timeout;
        self.events.spawn(async move { Event::Identity(identity::take(&cluster, None, deadline).await) });
    }

    /// Sends what may be sent now, a request to each broker at a time.
    fn send(&mut self, now: Instant) {
        let mut leaders: Vec<i32> =
            self.slots.iter().filter(|slot| !slot.queue.is_empty()).filter_map(|slot| slot.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        if self.slots.iter().any(|slot| slot.leader.is_none() && !slot.queue.is_empty()) {
            self.look_soon(now);
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
    fn open_connection(&mut self, broker: i32, now: Instant) -> Option<Arc<Connection>> {
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
    fn send_one(&mut self, broker: i32, connection: &Arc<Connection>, now: Instant) -> bool {
        let ids = self.slots.iter().filter(|slot| slot.leader == Some(broker)).all(|slot| slot.topic_id != Uuid::nil());
        let added_first = self.identity.transactions == Some(TransactionVersion::One);
        let newest = match ids {
            _ if added_first => request::LAST_WITH_ADDED_PARTITIONS,
            true => i16::MAX,
            false => request::LAST_BY_NAME,
        };
        let Ok(version) = connection.version::<ProduceRequest>(newest) else { return false };
        let transactional = self.config.transaction.is_some();
        let mut batches: Vec<(usize, Sealed, ProducerStamp)> = Vec::new();
        let mut sent = Vec::new();
        let mut bytes = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let is_ready = !added_first || self.added.contains(&index);
            if slot.leader != Some(broker) || bytes >= MAX_REQUEST || !is_ready {
                continue;
            }
            if let Some((batch, stamp)) = slot.queue.next(now, self.config.max_in_flight, self.identity.producer) {
                bytes += batch.sealed.len();
                sent.push((index, batch.first_record));
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
        let limit = self.cluster.options.request_timeout + ANSWER_SLACK;
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

    fn next_timer(&self) -> Instant {
        let waiting = self.slots.iter().filter(|slot| !slot.queue.is_empty());
        let queues = waiting.flat_map(|slot| [slot.queue.retry_at(), slot.queue.deadline()]);
        let brokers = self.brokers.values().filter(|b| b.link.is_none()).map(|broker| broker.retry_at);
        let throttled = self.brokers.values().map(|b| b.throttled_until.filter(|&until| until > Instant::now()));
        let far = Instant::now() + METADATA_AGE;
        // A moment that has passed would spin: whatever was due then is waited for by other means.
        let soonest = Instant::now() + Duration::from_millis(1);
        queues.chain(brokers).chain(throttled).chain([self.look_at]).flatten().fold(far, Instant::min).max(soonest)
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
