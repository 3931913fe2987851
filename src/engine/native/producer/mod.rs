//! Delivering: records are written once into their partition's open batch on the command's own thread; sealed
//! batches go to the sender on the network's; what became of them comes back as one receipt a batch.

mod identity;
mod partitioner;
mod queue;
mod request;
mod sender;

use super::Client;
use super::cluster::{Cluster, TopicInfo};
use super::wire::{BatchBuilder, Sealed};
use crate::engine::{NewTopic, Producer, ProducerConfig, Receipt, Slot, no_such_partition};
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::record::{PartitionId, RecordRef, Timestamp};
use crate::signal::{Until, Waker};
use bytes::BytesMut;
use kafka_protocol::error::ResponseError;
use queue::ProducerId;
use sender::{Feedback, Outgoing, Sender, ToSender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Batches of one partition that may be on their way before the input waits: more would only use memory.
const MAX_QUEUED: usize = 16;
/// A batch that a busy input fills this slowly is sent as it is.
const MAX_OPEN: Duration = Duration::from_millis(100);

/// What is kept of a record beside its bytes while it is on its way: chiefly its place in the input's order.
const RECORD_OVERHEAD: usize = 16;

/// What a batch counts for against [`ProducerConfig::buffer_memory`].
fn cost(sealed: &Sealed) -> usize {
    sealed.len() + RECORD_OVERHEAD * sealed.count as usize
}

/// Called, from the network's thread, when [`Producer::idle`] should be called again.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// [`Producer`] of the native engine.
pub struct NativeProducer {
    client: Client,
    config: ProducerConfig,
    topics: Vec<Topic>,
    /// Index of the topic that the last record went to.
    last: usize,
    sender: UnboundedSender<ToSender>,
    feedback: Receiver<Feedback>,
    /// Set when the sender shall call the command's waker at the next receipt.
    armed: Arc<AtomicBool>,
    now: Timestamp,
    identity: Option<ProducerId>,
    _waker: Waker,
    /// Records appended in all, and when the transaction began.
    appended: u64,
    before_transaction: u64,
    answered: u64,
    /// Bytes sealed and not answered.
    outstanding: usize,
    /// Bytes in open batches.
    open: usize,
    receipts: Vec<Receipt>,
    /// Memory of delivered batches, for those to come.
    spare: Vec<BytesMut>,
}

struct Topic {
    name: Arc<str>,
    partitions: Vec<Accumulator>,
    /// Index of the sender's slot of partition 0.
    first_slot: usize,
    /// Whether each partition has a leader; kept by the sender.
    available: Arc<[AtomicBool]>,
    sticky: usize,
}

/// The open batch of one partition.
#[derive(Default)]
struct Accumulator {
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
    /// Looks up the topics, takes a producer id if need be, and starts the sender.
    ///
    /// # Errors
    /// A topic does not exist and the brokers do not make it, or idempotence is denied.
    pub fn open(client: Client, config: ProducerConfig, wake: Wake) -> Result<Self> {
        let (sender, batches) = unbounded_channel();
        let (report, feedback) = channel();
        let armed = Arc::new(AtomicBool::new(false));
        let names: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        let (infos, identity) = client.network.run(Until::FirstSignal, async {
            let infos = find_topics(&client.cluster, &names, config.create_topics).await?;
            let deadline = Instant::now() + config.delivery_timeout;
            let identity = match config.idempotent {
                true => Some(identity::take(&client.cluster, config.transaction.as_ref(), deadline).await?),
                false => None,
            };
            Ok((infos, identity))
        })?;
        let woken = report.clone();
        let waker = client.network.stop().wake_with(move || {
            // Err: the producer is gone, nobody waits.
            let _ = woken.send(Feedback::Woken);
        });
        let task = Sender::new(client.cluster.clone(), config.clone(), identity, batches, report, armed.clone(), wake);
        client.network.handle().spawn(task.run());
        let mut producer = Self {
            client,
            config,
            topics: Vec::new(),
            last: 0,
            sender,
            feedback,
            armed,
            now: 0,
            identity,
            _waker: waker,
            appended: 0,
            before_transaction: 0,
            answered: 0,
            outstanding: 0,
            open: 0,
            receipts: Vec::new(),
            spare: Vec::new(),
        };
        for info in infos {
            producer.add_topic(info)?;
        }
        Ok(producer)
    }

    fn add_topic(&mut self, info: TopicInfo) -> Result<()> {
        let available: Arc<[AtomicBool]> =
            info.partitions.iter().map(|p| AtomicBool::new(p.leader.is_some())).collect();
        let first_slot = self.topics.last().map_or(0, |topic| topic.first_slot + topic.partitions.len());
        self.topics.push(Topic {
            name: info.name.clone(),
            partitions: info.partitions.iter().map(|_| Accumulator::default()).collect(),
            first_slot,
            sticky: partitioner::next_sticky(None, &available),
            available: available.clone(),
        });
        self.tell(ToSender::Topic(info, available))
    }

    fn tell(&self, message: ToSender) -> Result<()> {
        self.sender.send(message).map_err(|_| Error::TaskEnded("the sending task"))
    }

    /// The index of a topic; looks it up, and has the brokers make it, when it is new.
    fn topic(&mut self, name: &str) -> Result<usize> {
        if self.topics.get(self.last).is_some_and(|topic| *topic.name == *name) {
            return Ok(self.last);
        }
        let known = self.topics.iter().position(|topic| *topic.name == *name);
        self.last = match known {
            Some(index) => index,
            None => {
                let cluster = &self.client.cluster;
                let found = self
                    .client
                    .network
                    .run(Until::SecondSignal, find_topics(cluster, &[name], self.config.create_topics))?;
                for info in found {
                    self.add_topic(info)?;
                }
                self.topics.len() - 1
            }
        };
        Ok(self.last)
    }

    /// Sends a partition's open batch.
    fn seal(&mut self, topic: usize, partition: usize) -> Result<()> {
        let Topic { partitions, first_slot, .. } = &mut self.topics[topic];
        let accumulator = &mut partitions[partition];
        // The next batch will likely be as large: taken at once, its memory need not grow and move.
        let spare = self.spare.pop().unwrap_or_else(|| BytesMut::with_capacity(accumulator.builder.len()));
        self.open -= accumulator.builder.len();
        let sealed = accumulator.builder.seal(spare);
        self.outstanding += cost(&sealed);
        accumulator.unanswered += 1;
        let opened = accumulator.opened.take().unwrap_or_else(Instant::now);
        let slot = *first_slot + partition;
        let first_record = accumulator.first_record;
        self.tell(ToSender::Batch(Outgoing { slot, sealed, first_record, opened }))
    }

    /// Notes one answer.
    fn note(&mut self, feedback: Feedback) {
        let Feedback::Answered { slot, freed_bytes, receipt, buffer } = feedback else { return };
        self.outstanding = self.outstanding.saturating_sub(freed_bytes);
        self.answered += receipt.records;
        if let Some(topic) = self.topics.iter_mut().rfind(|topic| topic.first_slot <= slot) {
            let accumulator = &mut topic.partitions[slot - topic.first_slot];
            // A batch that was split is answered more than once; only its last part ends it.
            accumulator.unanswered = accumulator.unanswered.saturating_sub(usize::from(freed_bytes > 0));
        }
        // Two spare buffers a core are plenty: one is filled while another is sent.
        if let Some(buffer) = buffer.filter(|_| self.spare.len() < 4) {
            self.spare.push(buffer);
        }
        self.receipts.push(*receipt);
    }

    fn note_all(&mut self) {
        while let Ok(feedback) = self.feedback.try_recv() {
            self.note(feedback);
        }
    }

    /// Waits for an answer.
    fn wait(&mut self) -> Result<()> {
        if self.client.network.stop().signals() > 1 {
            return Err(Error::Stopped);
        }
        let feedback = self.feedback.recv();
        self.note(feedback.map_err(|_| Error::TaskEnded("the sending task"))?);
        Ok(())
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

/// The topics of `names`; makes those that are missing, when it is told how.
async fn find_topics(cluster: &Cluster, names: &[&str], create: Option<(i32, Option<i16>)>) -> Result<Vec<TopicInfo>> {
    if let Some((partitions, replication_factor)) = create {
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
            return Err(Error::Usage(format!(
                "a record of {size} bytes is larger than --max-record-size {}",
                self.config.max_record_size
            )));
        }
        let Topic { partitions, available, sticky, name, .. } = &mut self.topics[index];
        let count = partitions.len();
        let asked = match partition {
            Some(partition) => Some(partition as usize),
            None => self.config.partitioner.choose(record.key, self.appended, count),
        };
        let keyless = asked.is_none();
        let chosen = asked.unwrap_or(*sticky);
        let Some(accumulator) = partitions.get(chosen) else {
            let of = TopicPartition::new(name.clone(), partition.unwrap_or_default());
            return Err(no_such_partition(&of, count));
        };
        let mut chosen = chosen;
        if !accumulator.builder.is_empty() && accumulator.builder.len() + size > self.config.batch_size {
            if keyless {
                *sticky = partitioner::next_sticky(Some(chosen), available);
            }
            self.seal(index, chosen)?;
            if keyless {
                chosen = self.topics[index].sticky;
            }
        }
        while self.topics[index].partitions[chosen].unanswered >= MAX_QUEUED
            || (self.outstanding > 0 && self.outstanding + self.open + size > self.config.buffer_memory)
        {
            if self.outstanding == 0 {
                self.seal_where(|_| true)?;
            }
            self.wait()?;
        }
        if self.open > self.config.buffer_memory / 2 {
            self.seal_where(|_| true)?;
        }

        let accumulator = &mut self.topics[index].partitions[chosen];
        let before = if accumulator.builder.is_empty() {
            accumulator.first_record = accumulator.appended;
            accumulator.opened = Some(Instant::now());
            0
        } else {
            accumulator.builder.len()
        };
        accumulator.builder.append(record, self.now);
        self.open += accumulator.builder.len() - before;
        accumulator.appended += 1;
        self.appended += 1;
        if accumulator.builder.len() >= self.config.batch_size {
            self.seal(index, chosen)?;
        }
        Ok(self.topics[index].first_slot + chosen)
    }

    fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn idle(&mut self) -> Result<Option<Instant>> {
        // Armed before looking: an answer that comes in between wakes the command for nothing, but is not missed.
        self.armed.store(true, Ordering::SeqCst);
        self.note_all();
        let linger = self.config.linger;
        let now = Instant::now();
        let age = |a: &Accumulator| a.opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened));
        // While an earlier batch awaits its answer, more records may join this one: that costs them no time.
        self.seal_where(|a| a.unanswered == 0 && age(a) >= linger)?;
        let held = self.topics.iter().flat_map(|topic| &topic.partitions).filter(|a| a.unanswered == 0);
        Ok(held.filter_map(|a| Some(a.opened? + linger)).min())
    }

    fn busy(&mut self) -> Result<()> {
        self.note_all();
        let limit = self.config.linger.max(MAX_OPEN);
        let now = Instant::now();
        self.seal_where(|a| a.unanswered == 0 && a.opened.is_some_and(|o| now.saturating_duration_since(o) >= limit))
    }

    fn receipts(&mut self) -> Vec<Receipt> {
        self.note_all();
        std::mem::take(&mut self.receipts)
    }

    fn finish(&mut self) -> Result<()> {
        self.seal_where(|_| true)?;
        while self.unconfirmed() > 0 {
            self.wait()?;
        }
        Ok(())
    }

    fn abandon(&mut self) -> Result<()> {
        self.tell(ToSender::Abandon)
    }

    fn end_transaction(&mut self, commit: bool) -> Result<()> {
        let (Some(transaction), Some(identity)) = (&self.config.transaction, self.identity) else { return Ok(()) };
        if self.appended == self.before_transaction {
            return Ok(()); // nothing was announced: there is no transaction to be ended
        }
        let deadline = Instant::now() + self.config.delivery_timeout;
        let cluster = &self.client.cluster;
        self.client
            .network
            .run(Until::SecondSignal, identity::end(cluster, &transaction.id, identity, commit, deadline))?;
        self.before_transaction = self.appended;
        self.tell(ToSender::TransactionEnded)
    }

    fn unconfirmed(&self) -> u64 {
        self.appended - self.answered
    }
}
