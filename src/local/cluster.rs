//! What the cluster holds: brokers, topics with their logs, groups. No I/O here; every request finds its topic,
//! partition or coordinator through these.

use super::configs::{self, Refused};
use super::group::{Answer, Group, Waiter};
use super::log::{Appended, Log, Terms};
use crate::record::{PartitionId, now};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;
use tokio::sync::oneshot;
use uuid::Uuid;

/// A topic's replicas, unless it is made with another number.
const REPLICAS: usize = 3;
/// More partitions than this, in all, are refused: each takes memory of its own.
const MOST_PARTITIONS: usize = 100_000;

/// A broker: its port, and whether it is up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broker {
    pub(super) id: i32,
    pub(super) port: u16,
    pub(super) up: bool,
}

/// A partition. Its log is the cluster's: a leader that moves takes all of it along.
#[derive(Debug)]
pub(super) struct Partition {
    /// `None` while all of its replicas are down.
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    pub(super) replicas: Vec<i32>,
    pub(super) log: Log,
    /// What it answers instead of serving, by order of a test.
    pub(super) error: Option<E>,
}

#[derive(Debug)]
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
    pub(super) groups: BTreeMap<String, Group>,
    /// Groups whose coordinator was moved, and where to.
    moved: HashMap<String, i32>,
    /// Who waits for a group's answer.
    pub(super) waiting: HashMap<Waiter, oneshot::Sender<Answer>>,
    next_waiter: Waiter,
    next_producer_id: i64,
    retain_bytes: usize,
    held_bytes: usize,
    /// The partition of each batch that is held, the oldest first.
    order: VecDeque<(Uuid, PartitionId)>,
}

impl Cluster {
    pub(super) fn new(ports: &[u16], retain_bytes: usize) -> Self {
        let broker = |(index, port): (usize, &u16)| Broker { id: index as i32 + 1, port: *port, up: true };
        Self {
            brokers: ports.iter().enumerate().map(broker).collect(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            moved: HashMap::new(),
            waiting: HashMap::new(),
            next_waiter: 0,
            next_producer_id: 0,
            retain_bytes,
            held_bytes: 0,
            order: VecDeque::new(),
        }
    }

    pub(super) fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// The broker that stands for the controller.
    pub(super) fn controller(&self) -> i32 {
        self.brokers.iter().find(|broker| broker.up).map_or(-1, |broker| broker.id)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&String, &Topic)> {
        self.topics.iter()
    }

    /// A topic by name, or by id where the name is empty.
    pub(super) fn topic(&self, name: &str, id: Uuid) -> Result<(&str, &Topic), E> {
        if name.is_empty() {
            let found = self.topics.iter().find(|(_, topic)| topic.id == id);
            return found.map(|(name, topic)| (name.as_str(), topic)).ok_or(E::UnknownTopicId);
        }
        let found = self.topics.get_key_value(name);
        found.map(|(name, topic)| (name.as_str(), topic)).ok_or(E::UnknownTopicOrPartition)
    }

    /// A partition that `broker` leads.
    pub(super) fn led(&self, name: &str, id: Uuid, partition: PartitionId, broker: i32) -> Result<&Partition, E> {
        let (_, topic) = self.topic(name, id)?;
        let partition = usize::try_from(partition).ok().and_then(|index| topic.partitions.get(index));
        let partition = partition.ok_or(E::UnknownTopicOrPartition)?;
        match partition.error {
            Some(error) => Err(error),
            None if partition.leader == Some(broker) => Ok(partition),
            None => Err(E::NotLeaderOrFollower),
        }
    }

    /// Appends to a partition that `broker` leads; the oldest batches of all make room.
    pub(super) fn append(
        &mut self,
        name: &str,
        id: Uuid,
        partition: PartitionId,
        broker: i32,
        records: &Bytes,
    ) -> Result<(Appended, i64), E> {
        self.led(name, id, partition, broker)?;
        let name = self.topic(name, id)?.0.to_owned();
        let topic = self.topics.get_mut(&name).ok_or(E::UnknownTopicOrPartition)?;
        let (id, led) = (topic.id, &mut topic.partitions[partition as usize]);
        let terms = Terms {
            max_message_bytes: configs::max_message_bytes(&topic.configs),
            append_time: configs::append_time(&topic.configs).then(now),
            leader_epoch: led.leader_epoch,
        };
        let appended = led.log.append(records, &terms)?;
        if appended.bytes > 0 {
            self.held_bytes += appended.bytes;
            self.order.push_back((id, partition));
        }
        while self.held_bytes > self.retain_bytes {
            let Some((id, partition)) = self.order.pop_front() else { break };
            let topic = self.topics.values_mut().find(|topic| topic.id == id);
            if let Some(oldest) = topic.and_then(|topic| topic.partitions.get_mut(partition as usize)) {
                self.held_bytes -= oldest.log.drop_first();
            }
        }
        let start = self.led(&name, id, partition, broker)?.log.start();
        Ok((appended, start))
    }

    /// Makes a topic. `None` partitions are one, `None` replicas three or as many as there are brokers.
    pub(super) fn create(&mut self, name: &str, new: &NewTopic, validate_only: bool) -> Result<(), Refused> {
        check_name(name)?;
        if self.topics.contains_key(name) {
            return Err((E::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        let known: Vec<i32> = self.brokers.iter().map(|broker| broker.id).collect();
        let replicas = match &new.assignments {
            Some(assignments) => {
                let wrong = |ids: &Vec<i32>| ids.is_empty() || ids.iter().any(|id| !known.contains(id));
                if assignments.is_empty() || assignments.iter().any(wrong) {
                    return Err((
                        E::InvalidReplicaAssignment,
                        "a replica assignment names a broker that is not there".to_owned(),
                    ));
                }
                assignments.clone()
            }
            None => {
                let factor = new.replication_factor.map_or(known.len().min(REPLICAS), usize::from);
                if factor == 0 || factor > known.len() {
                    let up = known.len();
                    let why = format!(
                        "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {up} broker(s) are registered."
                    );
                    return Err((E::InvalidReplicationFactor, why));
                }
                self.spread(0, new.partitions.unwrap_or(1), factor)?
            }
        };
        configs::check(&new.configs)?;
        self.check_count(replicas.len())?;
        if !validate_only {
            let partitions = replicas.into_iter().map(|replicas| self.partition(replicas)).collect();
            let id = Uuid::from_u128(fastrand::u128(1..));
            self.topics.insert(name.to_owned(), Topic { id, partitions, configs: new.configs.clone() });
        }
        Ok(())
    }

    /// Adds partitions until there are `count`.
    pub(super) fn grow(&mut self, name: &str, count: i32, validate_only: bool) -> Result<(), Refused> {
        let topic = self.topics.get(name).ok_or_else(|| (E::UnknownTopicOrPartition, unknown()))?;
        let (have, factor) = (topic.partitions.len(), topic.partitions.first().map_or(1, |p| p.replicas.len()));
        let more = count.saturating_sub(have as i32);
        if more <= 0 {
            let why = if more == 0 {
                format!("Topic already has {have} partition(s).")
            } else {
                format!("The topic {name} currently has {have} partition(s); {count} would not be an increase.")
            };
            return Err((E::InvalidPartitions, why));
        }
        let replicas = self.spread(have, more, factor)?;
        self.check_count(replicas.len())?;
        if !validate_only {
            let mut added: Vec<Partition> = replicas.into_iter().map(|replicas| self.partition(replicas)).collect();
            if let Some(topic) = self.topics.get_mut(name) {
                topic.partitions.append(&mut added);
            }
        }
        Ok(())
    }

    /// Deletes a topic with its records and the offsets that groups keep of it.
    pub(super) fn delete(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        self.held_bytes -= topic.partitions.iter().map(|partition| partition.log.bytes()).sum::<usize>();
        self.order.retain(|(id, _)| *id != topic.id);
        for group in self.groups.values_mut() {
            group.offsets.retain(|(of, _), _| of != name);
        }
    }

    /// The replicas of `count` partitions from number `first` on: brokers in turn.
    fn spread(&self, first: usize, count: i32, factor: usize) -> Result<Vec<Vec<i32>>, Refused> {
        let count = usize::try_from(count).ok().filter(|count| (1..=MOST_PARTITIONS).contains(count));
        let count = count.ok_or_else(|| {
            (E::InvalidPartitions, "Number of partitions was set to an invalid non-positive value.".to_owned())
        })?;
        let brokers = self.brokers.len();
        let replicas = |n: usize| (0..factor).map(|r| self.brokers[(n + r) % brokers].id).collect();
        Ok((first..first + count).map(replicas).collect())
    }

    fn check_count(&self, more: usize) -> Result<(), Refused> {
        let have: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        if have + more <= MOST_PARTITIONS {
            return Ok(());
        }
        Err((E::PolicyViolation, format!("kpipe local holds up to {MOST_PARTITIONS} partitions")))
    }

    fn partition(&self, replicas: Vec<i32>) -> Partition {
        let leader = replicas.iter().copied().find(|id| self.is_up(*id));
        Partition { leader, leader_epoch: 0, replicas, log: Log::default(), error: None }
    }

    pub(super) fn is_up(&self, broker: i32) -> bool {
        self.broker(broker).is_some_and(|broker| broker.up)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, partition: PartitionId) -> Option<&mut Partition> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get_mut(topic)?.partitions.get_mut(index)
    }

    /// Has a partition led by another broker, or by none; false when there is no such partition, or the broker is
    /// down.
    pub(super) fn move_leader(&mut self, topic: &str, partition: PartitionId, to: Option<i32>) -> bool {
        let up = to.is_none_or(|to| self.is_up(to));
        let Some(partition) = self.partition_mut(topic, partition).filter(|_| up) else { return false };
        partition.leader = to;
        partition.leader_epoch += 1;
        true
    }

    /// Deletes a topic and creates one of the same name, partitions and configs; false when there is none.
    pub(super) fn recreate(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.get(name) else { return false };
        let new = NewTopic {
            assignments: Some(topic.partitions.iter().map(|partition| partition.replicas.clone()).collect()),
            configs: topic.configs.clone(),
            ..NewTopic::default()
        };
        self.delete(name);
        self.create(name, &new, false).is_ok()
    }

    /// Leads a partition anew from a log that ends at `offset`; false when there is no such partition.
    pub(super) fn truncate(&mut self, topic: &str, partition: PartitionId, offset: i64) -> bool {
        let Some(topic) = self.topics.get_mut(topic) else { return false };
        let Some(found) = topic.partitions.get_mut(partition as usize) else { return false };
        found.leader_epoch += 1;
        let (batches, bytes) = found.log.truncate(offset);
        self.held_bytes -= bytes;
        for _ in 0..batches {
            let newest = self.order.iter().rposition(|of| *of == (topic.id, partition));
            newest.map(|index| self.order.remove(index));
        }
        true
    }

    /// A broker goes down or comes up: what it led is led by another replica that is up.
    pub(super) fn set_up(&mut self, id: i32, up: bool) {
        for broker in self.brokers.iter_mut().filter(|broker| broker.id == id) {
            broker.up = up;
        }
        let alive: Vec<i32> = self.brokers.iter().filter(|broker| broker.up).map(|broker| broker.id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.leader.is_none_or(|leader| !alive.contains(&leader)) {
                let leader = partition.replicas.iter().copied().find(|id| alive.contains(id));
                partition.leader_epoch += i32::from(leader != partition.leader);
                partition.leader = leader;
            }
        }
    }

    /// The broker that coordinates `group`; `None` when all are down.
    pub(super) fn coordinator(&self, group: &str) -> Option<i32> {
        if let Some(moved) = self.moved.get(group).filter(|id| self.is_up(**id)) {
            return Some(*moved);
        }
        let sum: usize = group.bytes().map(usize::from).sum();
        let count = self.brokers.len();
        (0..count).map(|n| self.brokers[(sum + n) % count]).find(|broker| broker.up).map(|broker| broker.id)
    }

    /// Coordinates `group` at `to` from now on.
    pub(super) fn move_coordinator(&mut self, group: &str, to: i32) {
        self.moved.insert(group.to_owned(), to);
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }

    /// A place to wait for a group's answer.
    pub(super) fn wait(&mut self) -> (Waiter, oneshot::Receiver<Answer>) {
        let (answered, answer) = oneshot::channel();
        self.next_waiter += 1;
        self.waiting.insert(self.next_waiter, answered);
        (self.next_waiter, answer)
    }

    /// Hands out what groups have answered.
    pub(super) fn hand_out(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let (Answer::Joined(waiter, _) | Answer::Synced(waiter, _)) = &answer;
            if let Some(waiting) = self.waiting.remove(waiter) {
                let _ = waiting.send(answer); // Err: its connection is gone
            }
        }
    }

    /// Does what is due in all groups; returns when there is more.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let answers = self.groups.values_mut().flat_map(|group| group.tick(now)).collect();
        self.hand_out(answers);
        self.groups.values().filter_map(Group::due).min()
    }
}

/// What a topic is made with.
#[derive(Debug, Clone, Default)]
pub(super) struct NewTopic {
    pub(super) partitions: Option<i32>,
    pub(super) replication_factor: Option<u16>,
    pub(super) assignments: Option<Vec<Vec<i32>>>,
    pub(super) configs: BTreeMap<String, String>,
}

/// Kafka's words for a topic that is not there.
pub(super) fn unknown() -> String {
    "This server does not host this topic-partition.".to_owned()
}

/// Kafka's rule for names.
pub(super) fn check_name(name: &str) -> Result<(), Refused> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let why = match name {
        "" => "Topic name is invalid: the empty string is not allowed".to_owned(),
        "." | ".." => "Topic name is invalid: '.' or '..' is not allowed".to_owned(),
        _ if name.len() > 249 => {
            format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249")
        }
        _ if !name.chars().all(legal) => format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
        _ => return Ok(()),
    };
    Err((E::InvalidTopicException, why))
}
