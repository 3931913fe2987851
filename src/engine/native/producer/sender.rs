//! Sends sealed batches: compresses them off-thread, hands them to their leaders, looks leaders up anew, reports.

use super::super::cluster::{Cluster, TopicInfo};
use super::super::net::{Connection, Frame, Sent, backoff};
use super::super::wire::{Codec, Compression, ProducerStamp, Sealed};
use super::Wake;
use super::queue::{Answer, Batch, Done, ProducerId, Queue};
use crate::engine::{Acks, Failure, ProducerConfig, Receipt, place};
use crate::error::{Code, Error, Result};
use crate::record::PartitionId;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId as WireProducerId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use uuid::Uuid;

/// The last version of Produce that names topics; later ones have ids (KIP-516).
const LAST_PRODUCE_BY_NAME: i16 = 12;
/// The first version of Produce in the flexible encoding (KIP-482).
const FIRST_FLEXIBLE: i16 = 9;
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
    /// A topic's partitions take the next slots.
    Topic(TopicInfo),
    Batch(Outgoing),
}

#[derive(Debug)]
pub(super) enum Feedback {
    Answered {
        slot: usize,
        /// Bytes of the buffer that are free now; 0 while a part of the batch is still on its way.
        sealed_len: usize,
        receipt: Receipt,
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
}

/// What a task that the sender started came back with.
enum Event {
    Answered { broker: i32, sent: Vec<(usize, u64)>, response: Result<ProduceResponse> },
    Compressed { slot: usize, first_record: u64, sealed: Sealed },
    Connected { broker: i32, connection: Result<Arc<Connection>> },
    Leaders(Result<Vec<(String, std::result::Result<TopicInfo, Code>)>>),
    Identity(Result<ProducerId>),
}

pub(super) struct Sender {
    cluster: Arc<Cluster>,
    config: ProducerConfig,
    identity: Option<ProducerId>,
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
}

impl Sender {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        config: ProducerConfig,
        identity: Option<ProducerId>,
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
        }
    }

    /// Sends until the producer is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.expire(now);
            self.look_up(now);
            self.renew_identity();
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
            ToSender::Topic(info) => {
                for (index, partition) in info.partitions.iter().enumerate() {
                    self.slots.push(Slot {
                        topic: info.name.clone(),
                        topic_id: info.id,
                        partition: index as PartitionId,
                        leader: partition.leader,
                        queue: Queue::new(),
                        sizes: BTreeMap::new(),
                    });
                }
            }
            ToSender::Batch(outgoing) => {
                let Outgoing { slot, sealed, first_record, opened } = outgoing;
                let deadline = opened + self.config.delivery_timeout;
                let compress = self.config.compression.codec != Codec::None;
                let entry = &mut self.slots[slot];
                entry.sizes.insert(first_record, (sealed.count as u64, sealed.len()));
                entry.queue.push(Batch::new(first_record, sealed, compress, deadline));
                self.compress(slot);
            }
        }
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
            Event::Compressed { slot, first_record, sealed } => self.slots[slot].queue.compressed(first_record, sealed),
            Event::Connected { broker, connection } => {
                let entry = self.brokers.entry(broker).or_default();
                match connection {
                    Ok(connection) => {
                        entry.link = Some(Link::Open(connection));
                        entry.attempts = 0;
                    }
                    Err(error) => {
                        if entry.attempts == 0 {
                            tracing::warn!(%error, "trying on");
                        }
                        entry.link = None;
                        entry.retry_at = Some(now + backoff(self.cluster.config.retry_backoff, entry.attempts));
                        entry.attempts += 1;
                        self.look_soon(now);
                    }
                }
            }
            Event::Leaders(found) => {
                self.looking = false;
                self.look_at = Some(now + METADATA_AGE);
                match found {
                    Ok(topics) => self.set_leaders(topics, now),
                    Err(error) => {
                        tracing::warn!(%error, "looking up leaders again");
                        self.look_soon(now);
                    }
                }
            }
            Event::Identity(identity) => {
                self.asking_identity = false;
                match identity {
                    Ok(identity) => self.identity = Some(identity),
                    // Asked again as long as a batch waits for it, whose own deadline ends that.
                    Err(error) => tracing::warn!(%error, "asking for a producer id again"),
                }
            }
            Event::Answered { broker, sent, response } => self.answered(broker, sent, response, now),
        }
    }

    fn set_leaders(&mut self, topics: Vec<(String, std::result::Result<TopicInfo, Code>)>, now: Instant) {
        for (name, topic) in topics {
            for slot in self.slots.iter_mut().filter(|slot| *slot.topic == *name) {
                let found =
                    topic.as_ref().ok().and_then(|info| Some((info.id, info.partitions.get(slot.partition as usize)?)));
                slot.leader = found.and_then(|(_, partition)| partition.leader);
                if let Some((id, _)) = found {
                    slot.topic_id = id;
                }
            }
        }
        if self.slots.iter().any(|slot| slot.leader.is_none() && !slot.queue.is_empty()) {
            self.look_soon(now);
        }
    }

    fn look_soon(&mut self, now: Instant) {
        let soon = now + self.cluster.config.retry_backoff;
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
        if self.asking_identity || !self.slots.iter().any(|slot| slot.queue.wants_producer()) {
            return;
        }
        self.asking_identity = true;
        tracing::warn!("the broker lost track of this producer's sequences: taking a new producer id");
        let cluster = self.cluster.clone();
        let deadline = Instant::now() + self.config.delivery_timeout;
        self.events.spawn(async move { Event::Identity(init_producer_id(&cluster, deadline).await) });
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
        let Ok(version) = connection.version::<ProduceRequest>(if ids { i16::MAX } else { LAST_PRODUCE_BY_NAME })
        else {
            return false;
        };
        let mut batches: Vec<(usize, Sealed, ProducerStamp)> = Vec::new();
        let mut sent = Vec::new();
        let mut bytes = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.leader != Some(broker) || bytes >= MAX_REQUEST {
                continue;
            }
            if let Some((batch, stamp)) = slot.queue.next(now, self.config.max_in_flight, self.identity) {
                bytes += batch.sealed.len();
                sent.push((index, batch.first_record));
                batches.push((index, batch.sealed.clone(), stamp));
            }
        }
        if batches.is_empty() {
            return false;
        }
        let body = self.encode(&batches, version);
        if self.config.acks == Acks::None {
            let result = connection.send_unanswered::<ProduceRequest>(body, version);
            self.unanswered(sent, result, now);
            return true;
        }
        let limit = self.cluster.config.request_timeout + ANSWER_SLACK;
        let connection = connection.clone();
        let begun = connection.begin::<ProduceRequest>(body, version);
        self.brokers.entry(broker).or_default().in_flight += 1;
        self.events.spawn(async move {
            let response = wait_for(&connection, begun, version, limit).await;
            Event::Answered { broker, sent, response }
        });
        true
    }

    /// Produce is written by hand: the schemas would copy the batches.
    /// <https://kafka.apache.org/protocol#The_Messages_Produce>
    fn encode(&self, batches: &[(usize, Sealed, ProducerStamp)], version: i16) -> Frame {
        let flexible = version >= FIRST_FLEXIBLE;
        let mut topics: BTreeMap<&str, Vec<&(usize, Sealed, ProducerStamp)>> = BTreeMap::new();
        for batch in batches {
            topics.entry(&self.slots[batch.0].topic).or_default().push(batch);
        }
        let mut frame = Frame::new();
        let mut out = BytesMut::with_capacity(64 + batches.len() * 80);
        if flexible {
            out.put_u8(0)
        } else {
            out.put_i16(-1)
        } // transactional id: none
        out.put_i16(self.config.acks as i16);
        out.put_i32(self.cluster.config.request_timeout.as_millis() as i32);
        put_len(&mut out, topics.len(), flexible);
        for (name, batches) in topics {
            if version > LAST_PRODUCE_BY_NAME {
                out.put_slice(self.slots[batches[0].0].topic_id.as_bytes());
            } else if flexible {
                put_len(&mut out, name.len(), true);
                out.put_slice(name.as_bytes());
            } else {
                out.put_i16(name.len() as i16);
                out.put_slice(name.as_bytes());
            }
            put_len(&mut out, batches.len(), flexible);
            for (slot, sealed, stamp) in batches {
                out.put_i32(self.slots[*slot].partition);
                put_len(&mut out, sealed.len(), flexible);
                out.put_slice(&sealed.header(*stamp));
                frame.push(out.split().freeze());
                frame.push(sealed.records.clone());
                if flexible {
                    out.put_u8(0); // no tagged fields of the partition
                }
            }
            if flexible {
                out.put_u8(0); // nor of the topic
            }
        }
        if flexible {
            out.put_u8(0); // nor of the request
        }
        frame.push(out.freeze());
        frame
    }

    /// acks=0: what is handed to the socket is as good as it gets.
    fn unanswered(&mut self, sent: Vec<(usize, u64)>, result: Result<()>, now: Instant) {
        for (slot, first_record) in sent {
            let answer = match &result {
                Ok(()) => Answer::Written(-1),
                Err(error) => Answer::Lost(error.clone()),
            };
            self.settle(slot, first_record, answer, now);
        }
    }

    fn answered(&mut self, broker: i32, sent: Vec<(usize, u64)>, response: Result<ProduceResponse>, now: Instant) {
        let entry = self.brokers.entry(broker).or_default();
        entry.in_flight = entry.in_flight.saturating_sub(1);
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                tracing::info!(%error, "a produce request was lost; its batches are sent again");
                self.look_soon(now);
                for (slot, first_record) in sent {
                    self.settle(slot, first_record, Answer::Lost(error.clone()), now);
                }
                return;
            }
        };
        let mut answers = HashMap::new();
        for topic in response.responses {
            for partition in topic.partition_responses {
                let slot = self.slots.iter().position(|slot| {
                    slot.partition == partition.index
                        && if topic.name.is_empty() {
                            slot.topic_id == topic.topic_id
                        } else {
                            *slot.topic == **topic.name
                        }
                });
                let Some(slot) = slot else { continue };
                let message = partition.error_message.map(|message| message.to_string());
                answers.insert(slot, (partition.error_code, message, partition.base_offset));
            }
        }
        for (slot, first_record) in sent {
            let label = || place(&self.slots[slot].topic, self.slots[slot].partition);
            let answer = match answers.remove(&slot) {
                Some((0, _, offset)) => Answer::Written(offset),
                Some((code, message, _)) => {
                    let what = format!("{} on {}", label(), self.cluster.label(broker));
                    Answer::Refused(Error::Kafka { what, code: Code(code), message }, Code(code))
                }
                None => Answer::Lost(Error::Network(format!("the answer left out {}", label()))),
            };
            if let Answer::Refused(error, code) = &answer
                && code.is_retriable()
            {
                tracing::info!(%error, "sending again");
                self.look_soon(now);
            }
            self.settle(slot, first_record, answer, now);
        }
    }

    fn settle(&mut self, slot: usize, first_record: u64, answer: Answer, now: Instant) {
        let first = self.cluster.config.retry_backoff;
        let done = self.slots[slot].queue.answered(first_record, answer, now, |attempt| backoff(first, attempt));
        self.finish(slot, done);
        self.compress(slot); // halves of a batch that was too large
    }

    fn expire(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            let done = self.slots[slot].queue.expire(now);
            if !done.is_empty() {
                let limit = self.config.delivery_timeout;
                let timed_out = |mut done: Done| {
                    if let Err((error, _)) = &mut done.outcome {
                        let what = place(&self.slots[slot].topic, self.slots[slot].partition);
                        *error = Error::Network(format!("{what}: not delivered within {limit:?}; last: {error}"));
                    }
                    done
                };
                let done = done.into_iter().map(timed_out).collect();
                self.finish(slot, done);
            }
        }
    }

    /// Reports what is done with.
    fn finish(&mut self, index: usize, done: Vec<Done>) {
        if done.is_empty() {
            return;
        }
        for Done { batch, outcome } in done {
            let slot = &mut self.slots[index];
            let records = batch.sealed.count as u64;
            let receipt = Receipt {
                topic: slot.topic.clone(),
                partition: slot.partition,
                records,
                bytes: batch.sealed.len() as u64,
                first_record: batch.first_record,
                outcome: outcome.map_err(|(error, possibly_written)| Failure { error, possibly_written }),
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
            let _ = self.report.send(Feedback::Answered { slot: index, sealed_len: freed, receipt, buffer });
        }
        if self.armed.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    fn next_timer(&self) -> Instant {
        let waiting = self.slots.iter().filter(|slot| !slot.queue.is_empty());
        let queues = waiting.flat_map(|slot| [slot.queue.retry_at(), slot.queue.deadline()]);
        let brokers = self.brokers.values().filter(|b| b.link.is_none()).map(|broker| broker.retry_at);
        let far = Instant::now() + METADATA_AGE;
        // A moment that has passed would spin: whatever was due then is waited for by other means.
        let soonest = Instant::now() + Duration::from_millis(1);
        queues.chain(brokers).chain([self.look_at]).flatten().fold(far, Instant::min).max(soonest)
    }
}

async fn wait_for(
    connection: &Connection,
    begun: Result<Sent>,
    version: i16,
    limit: Duration,
) -> Result<ProduceResponse> {
    let answer = connection.answer::<ProduceRequest>(begun?, version, limit).await?;
    connection.decode::<ProduceRequest>(answer, version)
}

/// An array's or a byte string's length; compact ones are unsigned varints, plus one (KIP-482).
fn put_len(out: &mut BytesMut, len: usize, compact: bool) {
    if !compact {
        return out.put_i32(len as i32);
    }
    let mut rest = len as u32 + 1;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
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

/// Takes a producer id (KIP-98); asks again while the cluster is not ready, until `deadline`.
pub(super) async fn init_producer_id(cluster: &Cluster, deadline: Instant) -> Result<ProducerId> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let mut attempt = 0;
    loop {
        let answer = async { cluster.any().await?.request(&request).await }.await;
        let error = match answer {
            Ok(response) if response.error_code == 0 => {
                return Ok(ProducerId { id: response.producer_id.0, epoch: response.producer_epoch });
            }
            Ok(response) => {
                let error = Error::kafka("a producer id for idempotence", response.error_code);
                if !Code(response.error_code).is_retriable() {
                    return Err(error);
                }
                error
            }
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        tracing::info!(%error, "asking for a producer id again");
        tokio::time::sleep(backoff(cluster.config.retry_backoff, attempt)).await;
        attempt += 1;
    }
}
