//! What the cluster holds: brokers, topics with their logs, groups. No I/O here, and no clock: every request finds its
//! topic, partition or coordinator through these. Calls [`log`](super::log), [`group`](super::group) and
//! [`configs`](super::configs).

mod groups;
mod partition;
mod replication;
mod retention;
mod topics;
mod transactions;

pub(super) use partition::Partition;
pub(super) use replication::{Acks, Progress};
pub(super) use topics::{NewTopic, UNKNOWN_TOPIC, check_name};
pub(super) use transactions::Enlist;

use super::group::{Answer, Group, Waiter};
use super::transactions::Transactions;
use crate::record::{BrokerId, PartitionId};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::protocol::StrBytes;
use retention::Retained;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Kafka's `replica.lag.time.max.ms`.
const REPLICA_LAG: Duration = Duration::from_secs(30);

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
    isolated: BTreeMap<BrokerId, BTreeMap<String, Topic>>,
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
    /// The brokers that do not replicate.
    paused: BTreeSet<BrokerId>,
    replica_lag: Duration,
    /// When old records are deleted and logs compacted next; `None` when no topic asked for that the last time.
    clean_at: Option<Instant>,
    /// Whether something has changed that requests may wait for, other than by a request.
    is_changed: bool,
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
            isolated: BTreeMap::new(),
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
            paused: BTreeSet::new(),
            replica_lag: REPLICA_LAG,
            clean_at: None,
            is_changed: false,
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

    /// The topics as `broker` sees them.
    pub(super) fn topics_seen_by(&self, broker: BrokerId) -> &BTreeMap<String, Topic> {
        self.isolated.get(&broker).unwrap_or(&self.topics)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&String, &Topic)> {
        self.topics.iter()
    }

    /// A topic by name, or by ID where the name is empty.
    pub(super) fn topic(&self, name: &str, id: Uuid) -> Result<(&str, &Topic), E> {
        match name {
            "" => self.names.get(&id).and_then(|name| named(&self.topics, name)).ok_or(E::UnknownTopicId),
            name => named(&self.topics, name).ok_or(E::UnknownTopicOrPartition),
        }
    }

    /// [`Cluster::topic`] as `broker` sees it. One that is cut off knows what was deleted meanwhile, and not what was created.
    pub(super) fn topic_seen_by(&self, broker: BrokerId, name: &str, id: Uuid) -> Result<(&str, &Topic), E> {
        let Some(seen) = self.isolated.get(&broker) else { return self.topic(name, id) };
        match name {
            "" => {
                let found = seen.iter().find(|(_, topic)| topic.id == id);
                found.map(|(name, topic)| (name.as_str(), topic)).ok_or(E::UnknownTopicId)
            }
            name => named(seen, name).ok_or(E::UnknownTopicOrPartition),
        }
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

    /// Returns once whether something has changed by itself that requests may wait for.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }
}

fn named<'a>(topics: &'a BTreeMap<String, Topic>, name: &str) -> Option<(&'a str, &'a Topic)> {
    topics.get_key_value(name).map(|(name, topic)| (name.as_str(), topic))
}
