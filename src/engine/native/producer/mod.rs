//! Delivery: each record is written once, into its partition's open batch, on the command's own thread; sealed
//! batches go to the sender on the network thread, which returns one receipt per batch.

mod identity;
mod missing;
mod partitioner;
mod queue;
mod request;
mod sender;

use super::Client;
use super::cluster::{Cluster, TopicInfo};
use super::net::{Receiver, clock};
use super::wire::{BatchBuilder, Sealed};
use crate::engine::{
    NewTopic, Producer, ProducerConfig, Receipt, Slot, TopicCreation, TransactionEnd, no_such_partition,
};
use crate::error::{Error, RefusedRecord, Result};
use crate::record::TopicPartition;
use crate::record::{PartitionId, RecordRef, Timestamp};
use crate::signal::{Until, Waker};
use bytes::BytesMut;
use identity::TransactionVersion;
use kafka_protocol::error::ResponseError;
use missing::Missing;
use queue::ProducerId;
pub(in crate::engine) use queue::precedes_append;
use sender::{Feedback, Outgoing, Sender, ToSender};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The most sealed batches of one partition before input waits: more would only use memory.
const MAX_QUEUED: usize = 16;
/// A batch that busy input does not fill within this time is sent as it is.
const MAX_OPEN: Duration = Duration::from_millis(100);

/// The shortest interval between metadata refreshes for records that name a nonexistent partition.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Memory per batch beside its records: its entries in the queue and elsewhere, and its receipt.
const BATCH_OVERHEAD: usize = 512;

/// A batch's share of [`ProducerConfig::buffer_memory`]. What the command keeps of its records is reported by
/// [`Producer::tick`].
fn cost(sealed: &Sealed) -> usize {
    sealed.len() + BATCH_OVERHEAD
}

/// Called, from the network's thread, when [`Producer::idle`] should be called again.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// [`Producer`] of the native engine.
pub struct NativeProducer {
    client: Client,
    config: ProducerConfig,
    topics: Vec<Topic>,
    /// Topic and partition of each slot.
    slots: Vec<(usize, usize)>,
    /// Index of the topic that the last record went to.
    last: usize,
    missing: Missing,
    sender: UnboundedSender<ToSender>,
    feedback: Receiver<Feedback>,
    /// Set when the sender is to call the command's waker at the next receipt.
    armed: Arc<AtomicBool>,
    now: Timestamp,
    /// Of a transactional producer.
    transactional: Option<(ProducerId, TransactionVersion)>,
    _waker: Waker,
    /// Records appended in all, and when the transaction began.
    appended: u64,
    before_transaction: u64,
    answered: u64,
    /// Bytes sealed and not answered.
    outstanding: usize,
    /// Bytes in open batches.
    open: usize,
    /// Bytes that the command keeps of records until they are acknowledged in order.
    held: usize,
    receipts: Vec<Receipt>,
    /// Buffers of delivered batches, for reuse.
    spare: Vec<BytesMut>,
}

struct Topic {
    name: Arc<str>,
    partitions: Vec<Accumulator>,
    /// Whether each partition has a leader; kept by the sender.
    available: Arc<[AtomicBool]>,
    sticky: usize,
    /// When a record last named a partition that the topic did not have.
    asked_at: Option<Instant>,
}

/// The open batch of one partition.
#[derive(Default)]
struct Accumulator {
    slot: Slot,
    builder: BatchBuilder,
    /// Records appended, and when the batch was opened.
    appended: u64,
    first_record: u64,
    opened: Option<Instant>,
    /// Sealed and not answered.
    unanswered: usize,
}

impl std::fmt::Debug for NativeProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeProducer").field("appended", &self.appended).finish_non_exhaustive()
    }
}

impl NativeProducer {
    /// Looks up the topics, obtains a producer ID if needed, and starts the sender.
    ///
    /// # Errors
    /// A topic does not exist and the brokers do not create it, or idempotence is denied.
    pub fn open(client: Client, config: ProducerConfig, wake: Wake) -> Result<Self> {
        let (sender, batches) = unbounded_channel();
        let (report, feedback) = client.network.channel();
        let armed = Arc::new(AtomicBool::new(false));
        let names: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        let (infos, identity, version) = client.network.run(Until::FirstSignal, async {
            let infos = find_topics(&client.cluster, &names, config.create_topics).await?;
            let deadline = clock::now() + config.delivery_timeout;
            let identity = match config.idempotent {
                true => Some(identity::take(&client.cluster, config.transaction.as_ref(), deadline).await?),
                false => None,
            };
            let version = match config.transaction {
                Some(_) => Some(identity::transaction_version(&client.cluster, deadline).await?),
                None => None,
            };
            Ok((infos, identity, version))
        })?;
        let woken = report.clone();
        let waker = client.network.stop().wake_with(move || {
            // Err: the producer has been dropped.
            let _ = woken.send(Feedback::Woken);
        });
        let identity_of = sender::Identity { producer: identity, transactions: version };
        let task =
            Sender::new(client.cluster.clone(), config.clone(), identity_of, batches, report, armed.clone(), wake);
        client.network.handle().spawn(task.run());
        let mut producer = Self {
            client,
            config,
            topics: Vec::new(),
            slots: Vec::new(),
            last: 0,
            missing: Missing::default(),
            sender,
            feedback,
            armed,
            now: 0,
            transactional: identity.zip(version),
            _waker: waker,
            appended: 0,
            before_transaction: 0,
            answered: 0,
            outstanding: 0,
            open: 0,
            held: 0,
            receipts: Vec::new(),
            spare: Vec::new(),
        };
        for info in infos {
            producer.add_partitions(info)?;
        }
        Ok(producer)
    }

    /// Adds a topic, or the partitions that were added to it.
    fn add_partitions(&mut self, info: TopicInfo) -> Result<()> {
        let index = match self.topics.iter().position(|topic| topic.name == info.name) {
            Some(index) if self.topics[index].partitions.len() >= info.partitions.len() => return Ok(()),
            Some(index) => index,
            None => {
                self.topics.push(Topic {
                    name: info.name.clone(),
                    partitions: Vec::new(),
                    available: Arc::new([]),
                    sticky: 0,
                    asked_at: None,
                });
                self.topics.len() - 1
            }
        };
        let topic = &mut self.topics[index];
        let first = topic.partitions.len();
        topic.available = info.partitions.iter().map(|p| AtomicBool::new(p.leader.is_some())).collect();
        if first == 0 {
            topic.sticky = partitioner::next_sticky(None, &topic.available);
        } else {
            tracing::info!(topic = &*topic.name, partitions = info.partitions.len(), "partitions were added");
        }
        for partition in first..info.partitions.len() {
            topic.partitions.push(Accumulator { slot: self.slots.len(), ..Accumulator::default() });
            self.slots.push((index, partition));
        }
        let available = topic.available.clone();
        self.tell(ToSender::Partitions(info, first, available))
    }

    /// Asks whether a topic has a partition by now, at most once in [`ASK_AGAIN`].
    fn look_for_partition(&mut self, index: usize, partition: usize) -> Result<bool> {
        let topic = &mut self.topics[index];
        if topic.asked_at.is_some_and(|at| clock::since(at) < ASK_AGAIN) {
            return Ok(false);
        }
        topic.asked_at = Some(clock::now());
        let name = topic.name.clone();
        self.look_up(&name, None)?;
        Ok(partition < self.topics[index].partitions.len())
    }

    fn tell(&self, message: ToSender) -> Result<()> {
        self.sender.send(message).map_err(|_| Error::TaskEnded("the sending task"))
    }

    /// The index of a topic; a new one is looked up, and created by the brokers if configured.
    fn topic(&mut self, name: &str) -> Result<usize> {
        if self.topics.get(self.last).is_some_and(|topic| *topic.name == *name) {
            return Ok(self.last);
        }
        let known = self.topics.iter().position(|topic| *topic.name == *name);
        self.last = match known {
            Some(index) => index,
            None => {
                if let Some(error) = self.missing.get(name) {
                    return Err(error);
                }
                let looked_up = self.look_up(name, self.config.create_topics);
                looked_up.inspect_err(|error| self.missing.note(name, error))?;
                self.topics.len() - 1
            }
        };
        Ok(self.last)
    }

    /// Looks up a topic, until the delivery timeout if no broker can be asked, and adds it or its new partitions.
    fn look_up(&mut self, name: &str, create: Option<TopicCreation>) -> Result<()> {
        self.note_all()?;
        self.send_idle()?;
        let cluster = &self.client.cluster;
        let deadline = clock::now() + self.config.delivery_timeout;
        let ask = || async {
            match find_topics(cluster, &[name], create).await {
                Err(error) if error.is_connection() => Err(error),
                found => Ok(found),
            }
        };
        let looked_up = cluster.retry().until_deadline(deadline).run(ask);
        let found = self.client.network.run(Until::SecondSignal, looked_up)??;
        found.into_iter().try_for_each(|info| self.add_partitions(info))
    }

    /// Sends a partition's open batch.
    fn seal(&mut self, topic: usize, partition: usize) -> Result<()> {
        let accumulator = &mut self.topics[topic].partitions[partition];
        // The next batch will likely be as large: taken at once, its memory need not grow and move.
        let spare = self.spare.pop().unwrap_or_else(|| BytesMut::with_capacity(accumulator.builder.len()));
        self.open -= accumulator.builder.len();
        let sealed = accumulator.builder.seal(spare);
        self.outstanding += cost(&sealed);
        accumulator.unanswered += 1;
        let opened = accumulator.opened.take().unwrap_or_else(clock::now);
        let (slot, first_record) = (accumulator.slot, accumulator.first_record);
        self.tell(ToSender::Batch(Outgoing { slot, sealed, first_record, opened }))
    }

    /// Takes one receipt into account.
    fn note(&mut self, feedback: Feedback) -> Result<()> {
        let (slot, freed_bytes, receipt, buffer) = match feedback {
            Feedback::Woken => return Ok(()),
            Feedback::Grown(info) => return self.add_partitions(info),
            Feedback::Answered { slot, freed_bytes, receipt, buffer } => (slot, freed_bytes, receipt, buffer),
        };
        self.outstanding = self.outstanding.saturating_sub(freed_bytes);
        self.answered += receipt.records;
        let (topic, partition) = self.slots[slot];
        let accumulator = &mut self.topics[topic].partitions[partition];
        // A batch that was cut is answered more than once; only its last part ends it.
        accumulator.unanswered = accumulator.unanswered.saturating_sub(usize::from(freed_bytes > 0));
        // Two spare buffers a core are plenty: one is filled while another is sent.
        if let Some(buffer) = buffer.filter(|_| self.spare.len() < 4) {
            self.spare.push(buffer);
        }
        self.receipts.push(*receipt);
        Ok(())
    }

    fn note_all(&mut self) -> Result<()> {
        while let Ok(feedback) = self.feedback.try_recv() {
            self.note(feedback)?;
        }
        Ok(())
    }

    /// Waits for a receipt.
    fn wait(&mut self) -> Result<()> {
        if self.client.network.stop().signals() > 1 {
            return Err(Error::Stopped);
        }
        let feedback = self.feedback.recv();
        self.note(feedback.map_err(|_| Error::TaskEnded("the sending task"))?)
    }

    /// Switches the partition for a topic's keyless records.
    fn move_sticky(&mut self, topic: usize) {
        let Topic { sticky, available, .. } = &mut self.topics[topic];
        *sticky = partitioner::next_sticky(Some(*sticky), available);
    }

    /// Waits until the buffer has space for a record of `size` bytes.
    fn make_room(&mut self, topic: usize, partition: usize, size: usize) -> Result<()> {
        loop {
            let is_full = self.outstanding + self.open + self.held + size > self.config.buffer_memory;
            let is_queued = self.topics[topic].partitions[partition].unanswered >= MAX_QUEUED;
            if !(is_queued || is_full && self.outstanding > 0) {
                return Ok(());
            }
            self.send_idle()?;
            self.wait()?;
            if self.outstanding == 0 {
                // Everything has an outcome: the command drops what it holds at its next turn.
                self.held = 0;
            }
        }
    }

    /// Sends the open batches of partitions that await no answer, before the command waits for something else.
    fn send_idle(&mut self) -> Result<()> {
        self.seal_where(|accumulator| accumulator.unanswered == 0)
    }

    fn seal_where(&mut self, due: impl Fn(&Accumulator) -> bool) -> Result<()> {
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].partitions.len() {
                let accumulator = &self.topics[topic].partitions[partition];
                if !accumulator.builder.is_empty() && due(accumulator) {
                    self.seal(topic, partition)?;
                }
            }
        }
        Ok(())
    }
}

/// The topics of `names`; creates missing ones if configured to.
async fn find_topics(cluster: &Cluster, names: &[&str], create: Option<TopicCreation>) -> Result<Vec<TopicInfo>> {
    if let Some(TopicCreation { partitions, replication_factor }) = create {
        for (name, topic) in cluster.metadata(Some(names), false).await? {
            if topic.is_err_and(|code| code == ResponseError::UnknownTopicOrPartition) {
                let topic = NewTopic { name, partitions: Some(partitions), replication_factor, ..NewTopic::default() };
                match cluster.create_topic(&topic, false).await {
                    // Another producer was faster.
                    Err(error) if error.code() == Some(ResponseError::TopicAlreadyExists) => {}
                    created => created?,
                }
            }
        }
    }
    cluster.topics(names, create.is_none()).await
}

impl Producer for NativeProducer {
    fn append(&mut self, topic: &str, partition: Option<PartitionId>, record: &RecordRef<'_>) -> Result<Slot> {
        let index = self.topic(topic)?;
        let size = BatchBuilder::upper_bound(record);
        if size > self.config.max_record_size {
            return Err(Error::Refused(RefusedRecord::TooLarge { size, limit: self.config.max_record_size }));
        }
        let count = self.topics[index].partitions.len();
        let asked = match partition {
            Some(partition) => Some(partition as usize),
            None => self.config.partitioner.choose(record.key, self.appended, count),
        };
        let keyless = asked.is_none();
        let mut chosen = asked.unwrap_or(self.topics[index].sticky);
        if chosen >= count && !self.look_for_partition(index, chosen)? {
            let of = TopicPartition::new(self.topics[index].name.clone(), partition.unwrap_or_default());
            return Err(no_such_partition(&of, self.topics[index].partitions.len()));
        }
        let Topic { partitions, available, sticky, .. } = &mut self.topics[index];
        if keyless && !available[chosen].load(Ordering::Relaxed) {
            *sticky = partitioner::next_sticky(Some(chosen), available);
            chosen = *sticky;
        }
        let accumulator = &partitions[chosen];
        if !accumulator.builder.is_empty() && accumulator.builder.len() + size > self.config.batch_size {
            if keyless {
                *sticky = partitioner::next_sticky(Some(chosen), available);
            }
            self.seal(index, chosen)?;
            if keyless {
                chosen = self.topics[index].sticky;
            }
        }
        self.make_room(index, chosen, size)?;
        if self.open > self.config.buffer_memory / 2 {
            self.seal_where(|_| true)?;
        }

        let accumulator = &mut self.topics[index].partitions[chosen];
        let before = if accumulator.builder.is_empty() {
            accumulator.first_record = accumulator.appended;
            accumulator.opened = Some(clock::now());
            0
        } else {
            accumulator.builder.len()
        };
        accumulator.builder.append(record, self.now);
        self.open += accumulator.builder.len() - before;
        accumulator.appended += 1;
        self.appended += 1;
        if accumulator.builder.len() >= self.config.batch_size {
            if keyless {
                self.move_sticky(index);
            }
            self.seal(index, chosen)?;
        }
        Ok(self.topics[index].partitions[chosen].slot)
    }

    fn tick(&mut self, now: Timestamp, held_bytes: usize) -> Result<()> {
        self.now = now;
        self.held = held_bytes;
        self.note_all()?;
        let limit = self.config.linger.max(MAX_OPEN);
        let now = clock::now();
        self.seal_where(|a| a.unanswered == 0 && a.opened.is_some_and(|o| now.saturating_duration_since(o) >= limit))
    }

    fn idle(&mut self) -> Result<Option<Instant>> {
        // Armed before looking: an answer that comes in between wakes the command for nothing, but is not missed.
        self.armed.store(true, Ordering::SeqCst);
        self.note_all()?;
        let linger = self.config.linger;
        let now = clock::now();
        let age = |a: &Accumulator| a.opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened));
        // While an earlier batch awaits its answer, more records may join this one: that costs them no time.
        self.seal_where(|a| a.unanswered == 0 && age(a) >= linger)?;
        let held = self.topics.iter().flat_map(|topic| &topic.partitions).filter(|a| a.unanswered == 0);
        Ok(held.filter_map(|a| Some(a.opened? + linger)).min())
    }

    fn receipts(&mut self) -> Result<Vec<Receipt>> {
        self.note_all()?;
        Ok(std::mem::take(&mut self.receipts))
    }

    fn finish(&mut self) -> Result<()> {
        self.seal_where(|_| true)?;
        while self.unacknowledged() > 0 {
            self.wait()?;
        }
        Ok(())
    }

    fn abandon(&mut self) -> Result<()> {
        self.tell(ToSender::Abandon)
    }

    fn end_transaction(&mut self, end: TransactionEnd) -> Result<()> {
        let (Some(transaction), Some(identity)) = (&self.config.transaction, self.transactional) else { return Ok(()) };
        if self.appended == self.before_transaction {
            return Ok(()); // no partition was added: there is no transaction to be ended
        }
        let deadline = clock::now() + self.config.delivery_timeout;
        let in_doubt = Cell::new(false);
        let ended = identity::end(&self.client.cluster, &transaction.id, identity, end, deadline, &in_doubt);
        let next = match self.client.network.run(Until::SecondSignal, ended) {
            Ok(next) => next,
            Err(last) if end == TransactionEnd::Commit && in_doubt.get() => {
                return Err(Error::CommitUnknown { transactional_id: transaction.id.clone(), last: Box::new(last) });
            }
            Err(error) => return Err(error),
        };
        self.before_transaction = self.appended;
        self.transactional = Some((next, identity.1));
        self.tell(ToSender::TransactionEnded(next))
    }

    fn unacknowledged(&self) -> u64 {
        self.appended - self.answered
    }
}
