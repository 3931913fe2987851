//! Which broker leads and which follow: appending, elections, brokers that crash, are cut off or pause.

use super::retention::Held;
use super::{Cluster, Partition, Topic};
use crate::local::configs;
use crate::local::log::{Appended, Refusal};
use crate::record::{BrokerId, Offset, PartitionId, now};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Whose acknowledgment a producer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Acks {
    /// Nobody's, or the leader's.
    Leader,
    /// All in-sync replicas'.
    InSync,
}

/// How far appended records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Progress {
    /// Not all in-sync replicas have them.
    Replicating,
    Replicated,
}

/// Appends to a log as its topic's configs say.
fn append(topic: &mut Topic, index: usize, records: &Bytes, acks: Acks) -> Result<(Appended, Offset), Refusal> {
    let replication = configs::replication(&topic.configs);
    let partition = topic.partitions.get_mut(index).ok_or(E::UnknownTopicOrPartition)?;
    if acks == Acks::InSync && partition.lacks_replicas(replication.min_in_sync) {
        return Err(E::NotEnoughReplicas.into());
    }
    let options = configs::append_options(&topic.configs, partition.leader_epoch, now());
    let appended = partition.log.append(records, &options)?;
    partition.advance(replication);
    Ok((appended, partition.log.start()))
}

impl Cluster {
    /// Appends to a partition that `broker` leads; the oldest batches of all partitions make room. Returns the log
    /// start offset too.
    pub(in crate::local) fn append(
        &mut self,
        name: &str,
        id: Uuid,
        index: PartitionId,
        broker: BrokerId,
        records: &Bytes,
        acks: Acks,
    ) -> Result<(Appended, Offset), Refusal> {
        self.led(name, id, index, broker)?;
        let name = self.topic_seen_by(broker, name, id)?.0.to_owned();
        if let Some(topics) = self.isolated.get_mut(&broker) {
            // A leader that is cut off does not know yet whether another leads: it takes what nobody else must have.
            let topic = topics.get_mut(&name).ok_or(E::UnknownTopicOrPartition)?;
            let held: usize = topic.partitions.iter().map(|partition| partition.log.bytes()).sum();
            return match acks {
                Acks::InSync => Err(E::NotEnoughReplicas.into()),
                Acks::Leader if held > self.retain_bytes => Err(E::KafkaStorageError.into()),
                Acks::Leader => append(topic, index as usize, records, acks),
            };
        }
        let topic = self.topics.get_mut(&name).ok_or(E::UnknownTopicOrPartition)?;
        let (id, before) = (topic.id, topic.partitions.get(index as usize).map(Held::by));
        let (appended, _) = append(topic, index as usize, records, acks)?;
        if let (Some(before), Some(partition)) = (before, topic.partitions.get(index as usize)) {
            self.retained.change(id, index, before, partition);
        }
        self.make_room();
        let start = self.led(&name, id, index, broker)?.log.start();
        Ok((appended, start))
    }

    /// How far records at `offset` are that `broker` appended under `leader_epoch`.
    pub(in crate::local) fn progress(
        &self,
        name: &str,
        index: PartitionId,
        broker: BrokerId,
        leader_epoch: i32,
        offset: Offset,
    ) -> Result<Progress, E> {
        let led = self.led(name, Uuid::nil(), index, broker)?;
        let replication = configs::replication(&self.topic(name, Uuid::nil())?.1.configs);
        if led.leader_epoch != leader_epoch {
            Err(E::NotLeaderOrFollower) // the records may be others, or gone
        } else if led.high_watermark() <= offset {
            Ok(Progress::Replicating)
        } else if led.lacks_replicas(replication.min_in_sync) {
            Err(E::NotEnoughReplicasAfterAppend)
        } else {
            Ok(Progress::Replicated)
        }
    }

    /// Changes a partition, and keeps account of what it holds; `None` when there is no such partition.
    pub(super) fn change_partition<T>(
        &mut self,
        topic: &str,
        index: PartitionId,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let topic = self.topics.get_mut(topic)?;
        let replication = configs::replication(&topic.configs);
        let partition = topic.partitions.get_mut(usize::try_from(index).ok()?)?;
        let before = Held::by(partition);
        let changed = change(partition);
        partition.advance(replication);
        self.retained.change(topic.id, index, before, partition);
        self.make_room();
        Some(changed)
    }

    /// [`Cluster::change_partition`] of each; where there is no leader afterwards, one is elected.
    fn change_partitions(&mut self, mut change: impl FnMut(&mut Partition)) {
        let (up, following) = (self.up(), self.following());
        for topic in self.topics.values_mut() {
            let replication = configs::replication(&topic.configs);
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let before = Held::by(partition);
                change(partition);
                if partition.leader.is_none()
                    && let Some(to) = partition.candidate(|id| up.contains(&id), replication)
                {
                    partition.elect(to, |id| following.contains(&id), now());
                }
                partition.advance(replication);
                self.retained.change(topic.id, index as PartitionId, before, partition);
            }
        }
        self.make_room();
    }

    /// Elects leaders and acknowledges records where topic configs allow it now.
    pub(super) fn apply_replication(&mut self) {
        self.change_partitions(|_| {});
    }

    fn up(&self) -> BTreeSet<BrokerId> {
        self.brokers.iter().filter(|broker| broker.up).map(|broker| broker.id).collect()
    }

    /// The brokers that replicate what others lead.
    fn following(&self) -> BTreeSet<BrokerId> {
        let is_stopped = |id: &BrokerId| self.paused.contains(id) || self.isolated.contains_key(id);
        self.up().into_iter().filter(|id| !is_stopped(id)).collect()
    }

    /// The leaders that a broker follows: none where it does not replicate, and none that is cut off.
    fn reachable_leaders(&self, id: BrokerId) -> BTreeSet<BrokerId> {
        let is_reachable = |leader: &BrokerId| *leader != id && !self.isolated.contains_key(leader);
        let follows = self.following().contains(&id);
        self.up().into_iter().filter(|leader| follows && is_reachable(leader)).collect()
    }

    /// Has a partition led by another broker, or by none; false when there is no such partition, or the broker is
    /// down.
    pub(in crate::local) fn move_leader(&mut self, topic: &str, index: PartitionId, to: Option<BrokerId>) -> bool {
        if to.is_some_and(|to| !self.is_up(to)) {
            return false;
        }
        let following = self.following();
        let gone: Vec<BrokerId> = self.isolated.keys().copied().filter(|id| Some(*id) != to).collect();
        let moved = self.change_partition(topic, index, |partition| match to {
            Some(to) => {
                partition.elect(to, |id| following.contains(&id), now());
                gone.iter().for_each(|id| partition.drop_in_sync(*id));
            }
            None => {
                partition.leader = None;
                partition.leader_epoch += 1;
            }
        });
        moved.is_some()
    }

    /// Elects a leader again for a partition whose log now ends at `offset`; false when there is no such partition.
    pub(in crate::local) fn truncate(&mut self, topic: &str, index: PartitionId, offset: Offset) -> bool {
        self.change_partition(topic, index, |partition| partition.truncate(offset, now())).is_some()
    }

    /// Cuts off what a replica that is down or behind has from `offset` on; false when there is none.
    pub(in crate::local) fn truncate_replica(
        &mut self,
        topic: &str,
        index: PartitionId,
        broker: BrokerId,
        offset: Offset,
    ) -> bool {
        self.change_partition(topic, index, |partition| partition.truncate_replica(broker, offset)).unwrap_or(false)
    }

    /// Starts or stops a broker: what it led is led by another in-sync replica that is up, and what it comes back to it
    /// follows.
    pub(in crate::local) fn set_up(&mut self, id: BrokerId, up: bool) {
        for broker in self.brokers.iter_mut().filter(|broker| broker.id == id) {
            broker.up = up;
        }
        let reachable = self.reachable_leaders(id);
        self.change_partitions(|partition| {
            if !up {
                partition.go_down(id);
            } else if partition.is_led_by(&reachable) {
                partition.catch_up(id);
            }
        });
    }

    /// Stops or resumes a broker's replication of what others lead.
    pub(in crate::local) fn set_replicating(&mut self, id: BrokerId, is_replicating: bool) {
        if is_replicating {
            self.paused.remove(&id);
        } else {
            self.paused.insert(id);
        }
        self.follow_or_fall_behind(id);
    }

    fn follow_or_fall_behind(&mut self, id: BrokerId) {
        let (follows, reachable) = (self.following().contains(&id), self.reachable_leaders(id));
        self.change_partitions(|partition| {
            if !follows {
                partition.fall_behind(id);
            } else if partition.is_led_by(&reachable) {
                partition.catch_up(id);
            }
        });
    }

    /// Cuts a broker off from the others, or joins it again: meanwhile it sees the topics as they were. What it leads it
    /// keeps leading until another is elected.
    pub(in crate::local) fn isolate(&mut self, id: BrokerId, is_isolated: bool) {
        if is_isolated {
            let mut seen = self.topics.clone();
            for partition in seen.values_mut().flat_map(|topic| &mut topic.partitions) {
                for other in partition.replicas.clone() {
                    partition.fall_behind(other);
                }
            }
            self.isolated.entry(id).or_insert(seen);
            // The controller notices that it is gone.
            self.change_partitions(|partition| {
                if partition.leader != Some(id) {
                    partition.fall_behind(id);
                    partition.drop_in_sync(id);
                }
            });
        } else if let Some(mut seen) = self.isolated.remove(&id) {
            for (name, topic) in &mut self.topics {
                let Some(seen) = seen.get_mut(name).filter(|seen| seen.id == topic.id) else { continue };
                for (index, partition) in topic.partitions.iter_mut().enumerate() {
                    let Some(seen) = seen.partitions.get_mut(index) else { continue };
                    // Nobody else was elected: what it took meanwhile counts.
                    if partition.leader == Some(id) && partition.leader_epoch == seen.leader_epoch {
                        let before = Held::by(partition);
                        std::mem::swap(&mut partition.log, &mut seen.log);
                        self.retained.change(topic.id, index as PartitionId, before, partition);
                    }
                }
            }
            self.change_partitions(|partition| {
                if partition.leader == Some(id) {
                    partition.write_pending(now());
                }
            });
            // It follows the others, and they follow it.
            for broker in self.up() {
                self.follow_or_fall_behind(broker);
            }
        }
    }

    /// Whether the leader of a partition can be told to end a transaction.
    pub(super) fn can_reach_leader(&self, topic: &str, index: PartitionId) -> bool {
        let partition = usize::try_from(index).ok().and_then(|at| self.topics.get(topic)?.partitions.get(at));
        let leader = partition.and_then(|partition| partition.leader);
        leader.is_some_and(|leader| !self.isolated.contains_key(&leader))
    }

    /// Sets how long a replica may lack records before it is out of sync.
    pub(in crate::local) fn set_replica_lag(&mut self, most: Duration) {
        self.replica_lag = most;
    }

    /// Takes replicas that lack records for too long out of the in-sync ones; returns when the next may follow.
    pub(super) fn shrink_in_sync(&mut self, now: Instant) -> Option<Instant> {
        if self.paused.is_empty() {
            return None; // those that are down or cut off left at once
        }
        let (most, mut due, mut is_changed) = (self.replica_lag, None, false);
        self.change_partitions(|partition| {
            let before = partition.in_sync().len();
            let next = partition.shrink(most, now);
            is_changed |= partition.in_sync().len() < before;
            due = due.into_iter().chain(next).min();
        });
        self.is_changed |= is_changed;
        due
    }
}
