//! What the cluster holds: brokers, topics with their logs, groups. No I/O here, and no clock: every request finds its
//! topic, partition or coordinator through these. Calls [`log`](super::log), [`group`](super::group) and
//! [`configs`](super::configs).

mod groups;
mod topics;
mod transactions;

pub(super) use topics::{NewTopic, UNKNOWN_TOPIC, check_name};
pub(super) use transactions::Enlist;

use super::configs;
use super::group::{Answer, Group, Waiter};
use super::log::{AppendOptions, Appended, Log};
use super::transactions::Transactions;
use crate::record::{BrokerId, PartitionId, now};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Where brokers listen.
pub(super) const HOST: &str = "127.0.0.1";

/// An address that a broker tells clients.
#[derive(Debug, Clone)]
pub(super) struct Advertised {
    pub(super) host: StrBytes,
    pub(super) port: u16,
}

/// A broker: where it tells clients that it is, and whether it is up.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    pub(super) id: BrokerId,
    /// Where it listens.
    pub(super) port: u16,
    pub(super) advertised: Advertised,
    pub(super) up: bool,
}

/// A partition. Its log belongs to the cluster: a leader that moves takes all of it along.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    /// `None` while all of its replicas are down.
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: i32,
    pub(super) replicas: Vec<BrokerId>,
    pub(super) log: Log,
    /// The error that a test has ordered in place of service.
    pub(super) error: Option<E>,
}

#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) id: Uuid,
    pub(super) partitions: Vec<Partition>,
    /// Those that differ from the defaults.
    pub(super) configs: BTreeMap<String, String>,
}

/// The whole cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) brokers: Vec<Broker>,
    topics: BTreeMap<String, Topic>,
    /// The topics as they were when a broker was cut off from the others.
    isolated: HashMap<BrokerId, BTreeMap<String, Topic>>,
    names: HashMap<Uuid, String>,
    partition_count: usize,
    /// Bytes of all topics' configs.
    config_bytes: usize,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) transactions: Transactions,
    /// Groups whose coordinator was moved, and where to.
    moved: HashMap<String, BrokerId>,
    /// The requests that wait for a group's answer.
    waiting: HashMap<Waiter, oneshot::Sender<Answer>>,
    next_waiter: Waiter,
    next_producer_id: i64,
    retain_bytes: usize,
    retained: Retained,
}

/// What all logs hold, and in which order it came.
#[derive(Debug, Default)]
struct Retained {
    bytes: usize,
    batches: usize,
    /// The partition of each batch, the oldest first. Batches that a deletion has removed are skipped later.
    order: VecDeque<(Uuid, PartitionId)>,
}

impl Retained {
    fn add(&mut self, id: Uuid, partition: PartitionId, bytes: usize) {
        self.bytes += bytes;
        self.batches += 1;
        self.order.push_back((id, partition));
    }

    fn remove(&mut self, batches: usize, bytes: usize) {
        self.bytes -= bytes;
        self.batches -= batches;
    }
}

impl Cluster {
    pub(super) fn new(ports: &[u16], retain_bytes: usize) -> Self {
        let broker = |(index, port): (usize, &u16)| {
            let advertised = Advertised { host: StrBytes::from_static_str(HOST), port: *port };
            Broker { id: BrokerId(index as i32 + 1), port: *port, advertised, up: true }
        };
        Self {
            brokers: ports.iter().enumerate().map(broker).collect(),
            topics: BTreeMap::new(),
            isolated: HashMap::new(),
            names: HashMap::new(),
            partition_count: 0,
            config_bytes: 0,
            groups: BTreeMap::new(),
            transactions: Transactions::default(),
            moved: HashMap::new(),
            waiting: HashMap::new(),
            next_waiter: 0,
            next_producer_id: 0,
            retain_bytes,
            retained: Retained::default(),
        }
    }

    pub(super) fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// The broker that acts as the controller: the first that is up.
    pub(super) fn controller(&self) -> Option<BrokerId> {
        self.brokers.iter().find(|broker| broker.up).map(|broker| broker.id)
    }

    pub(super) fn is_up(&self, broker: BrokerId) -> bool {
        self.broker(broker).is_some_and(|broker| broker.up)
    }

    /// Cuts a broker off from the others: it sees the topics as they are now, until it is joined again.
    pub(super) fn isolate(&mut self, broker: BrokerId, is_isolated: bool) {
        if is_isolated {
            self.isolated.insert(broker, self.topics.clone());
        } else {
            self.isolated.remove(&broker);
        }
    }

    /// The topics as `broker` sees them.
    pub(super) fn topics_seen_by(&self, broker: BrokerId) -> &BTreeMap<String, Topic> {
        self.isolated.get(&broker).unwrap_or(&self.topics)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&String, &Topic)> {
        self.topics.iter()
    }

    /// A topic by name, or by ID where the name is empty.
    pub(super) fn topic(&self, name: &str, id: Uuid) -> Result<(&str, &Topic), E> {
        self.topic_of(&self.topics, name, id)
    }

    /// [`Cluster::topic`] as `broker` sees it.
    pub(super) fn topic_seen_by(&self, broker: BrokerId, name: &str, id: Uuid) -> Result<(&str, &Topic), E> {
        self.topic_of(self.topics_seen_by(broker), name, id)
    }

    fn topic_of<'a>(
        &'a self,
        topics: &'a BTreeMap<String, Topic>,
        name: &str,
        id: Uuid,
    ) -> Result<(&'a str, &'a Topic), E> {
        let (name, missing) = match name {
            "" => (self.names.get(&id).map_or("", String::as_str), E::UnknownTopicId),
            name => (name, E::UnknownTopicOrPartition),
        };
        topics.get_key_value(name).map(|(name, topic)| (name.as_str(), topic)).ok_or(missing)
    }

    pub(super) fn has_partition(&self, name: &str, id: Uuid, partition: PartitionId) -> bool {
        let index = usize::try_from(partition);
        self.topic(name, id).is_ok_and(|(_, topic)| index.is_ok_and(|index| index < topic.partitions.len()))
    }

    /// A partition that `broker` leads.
    pub(super) fn led(&self, name: &str, id: Uuid, partition: PartitionId, broker: BrokerId) -> Result<&Partition, E> {
        let (_, topic) = self.topic_seen_by(broker, name, id)?;
        let partition = usize::try_from(partition).ok().and_then(|index| topic.partitions.get(index));
        let partition = partition.ok_or(E::UnknownTopicOrPartition)?;
        match partition.error {
            Some(error) => Err(error),
            None if partition.leader == Some(broker) => Ok(partition),
            None => Err(E::NotLeaderOrFollower),
        }
    }

    pub(super) fn partition_mut(&mut self, topic: &str, partition: PartitionId) -> Option<&mut Partition> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get_mut(topic)?.partitions.get_mut(index)
    }

    /// Appends to a partition that `broker` leads; the oldest batches of all partitions make room. Returns the log
    /// start offset too.
    pub(super) fn append(
        &mut self,
        name: &str,
        id: Uuid,
        partition: PartitionId,
        broker: BrokerId,
        records: &Bytes,
    ) -> Result<(Appended, i64), E> {
        self.led(name, id, partition, broker)?;
        if self.isolated.contains_key(&broker) {
            return Err(E::NotEnoughReplicas);
        }
        let name = self.topic(name, id)?.0.to_owned();
        let topic = self.topics.get_mut(&name).ok_or(E::UnknownTopicOrPartition)?;
        let (id, led) = (topic.id, &mut topic.partitions[partition as usize]);
        let options = AppendOptions {
            max_message_bytes: configs::max_message_bytes(&topic.configs),
            append_time: configs::append_time(&topic.configs).then(now),
            leader_epoch: led.leader_epoch,
        };
        let appended = led.log.append(records, &options)?;
        if appended.bytes > 0 {
            self.retained.add(id, partition, appended.bytes);
        }
        self.make_room();
        let start = self.led(&name, id, partition, broker)?.log.start();
        Ok((appended, start))
    }

    /// Drops the oldest batches beyond `retain_bytes`.
    fn make_room(&mut self) {
        while self.retained.bytes > self.retain_bytes {
            let Some((id, partition)) = self.retained.order.pop_front() else { break };
            let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
            if let Some(oldest) = topic.and_then(|topic| topic.partitions.get_mut(partition as usize))
                && let Some(freed) = oldest.log.drop_first()
            {
                self.retained.remove(1, freed);
            }
        }
        // The entries of deleted batches would grow without end.
        if self.retained.order.len() > 2 * self.retained.batches + 1000 {
            let mut left: HashMap<(Uuid, PartitionId), usize> = HashMap::new();
            for topic in self.topics.values() {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    left.insert((topic.id, index as PartitionId), partition.log.batch_count());
                }
            }
            // The newest entries stand for the batches that are left.
            let mut kept: VecDeque<_> = VecDeque::with_capacity(self.retained.batches);
            for of in self.retained.order.drain(..).rev() {
                if let Some(count) = left.get_mut(&of).filter(|count| **count > 0) {
                    *count -= 1;
                    kept.push_front(of);
                }
            }
            self.retained.order = kept;
        }
    }

    /// Deletes the records of a partition before `offset`; returns the log start offset, or `None` when there is no such
    /// partition.
    pub(super) fn delete_records(&mut self, topic: &str, partition: PartitionId, offset: i64) -> Option<i64> {
        let found = self.partition_mut(topic, partition)?;
        let (batches, freed) = found.log.delete_before(offset);
        let start = found.log.start();
        self.retained.remove(batches, freed);
        Some(start)
    }

    /// Applies `retention.ms` and `retention.bytes`; returns whether any topic has them.
    pub(super) fn expire_records(&mut self) -> bool {
        let mut any = false;
        for topic in self.topics.values_mut() {
            let since = configs::retention_ms(&topic.configs).map(|millis| now().saturating_sub(millis));
            let most = configs::retention_bytes(&topic.configs);
            if since.is_none() && most.is_none() {
                continue;
            }
            any = true;
            for partition in &mut topic.partitions {
                let (batches, freed) = partition.log.expire(since, most);
                self.retained.remove(batches, freed);
            }
        }
        any
    }

    /// Compacts a topic at once; false when it does not exist.
    pub(super) fn compact(&mut self, topic: &str) -> bool {
        let Some(topic) = self.topics.get_mut(topic) else { return false };
        for partition in &mut topic.partitions {
            let (batches, freed) = partition.log.compact();
            self.retained.remove(batches, freed);
        }
        true
    }

    /// Has a partition led by another broker, or by none; false when there is no such partition, or the broker is
    /// down.
    pub(super) fn move_leader(&mut self, topic: &str, partition: PartitionId, to: Option<BrokerId>) -> bool {
        let up = to.is_none_or(|to| self.is_up(to));
        let Some(partition) = self.partition_mut(topic, partition).filter(|_| up) else { return false };
        partition.leader = to;
        partition.leader_epoch += 1;
        true
    }

    /// Elects a leader again for a partition whose log now ends at `offset`; false when there is no such partition.
    pub(super) fn truncate(&mut self, topic: &str, partition: PartitionId, offset: i64) -> bool {
        let Some(found) = self.partition_mut(topic, partition) else { return false };
        found.leader_epoch += 1;
        let (batches, bytes) = found.log.truncate(offset);
        self.retained.remove(batches, bytes);
        true
    }

    /// Starts or stops a broker: what it led is led by another replica that is up.
    pub(super) fn set_up(&mut self, id: BrokerId, up: bool) {
        for broker in self.brokers.iter_mut().filter(|broker| broker.id == id) {
            broker.up = up;
        }
        let alive: Vec<BrokerId> = self.brokers.iter().filter(|broker| broker.up).map(|broker| broker.id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.leader.is_none_or(|leader| !alive.contains(&leader)) {
                let leader = partition.replicas.iter().copied().find(|id| alive.contains(id));
                partition.leader_epoch += i32::from(leader != partition.leader);
                partition.leader = leader;
            }
        }
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }
}
