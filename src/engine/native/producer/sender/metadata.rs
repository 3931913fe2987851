//! Leaders and partitions, as far as the sender knows them.

use super::{Event, Feedback, Sender, Slot};
use crate::engine::native::cluster::TopicAnswer;
use crate::error::{Action, Error};
use crate::record::{BrokerId, LeaderEpoch, TopicPartition};
use kafka_protocol::error::ResponseError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A refresh of metadata that comes sooner than this need not be brought forward.
const SOON: Duration = Duration::from_secs(1);

impl Slot {
    /// Whether what is known of the partition is newer than a leader of this epoch. Without topic IDs (before Kafka 2.8)
    /// a lower epoch may also be that of a topic which was created again.
    fn is_newer_than(&self, topic_id: Uuid, epoch: Option<LeaderEpoch>) -> bool {
        !topic_id.is_nil() && topic_id == self.topic_id && epoch < self.leader_epoch
    }
}

impl Sender {
    pub(super) fn set_leaders(&mut self, topics: Vec<TopicAnswer>) {
        for (name, topic) in topics {
            let mut known = 0;
            for slot in self.slots.iter_mut().filter(|slot| *slot.topic == *name) {
                known += 1;
                let found =
                    topic.as_ref().ok().and_then(|info| Some((info.id, info.partitions.get(slot.partition as usize)?)));
                if found.is_some_and(|(id, partition)| slot.is_newer_than(id, partition.leader_epoch)) {
                    continue;
                }
                let leader = found.and_then(|(_, partition)| partition.leader);
                if slot.leader.is_some() && slot.leader != leader {
                    let (topic, partition) = (&*slot.topic, slot.partition);
                    let id = |broker: Option<BrokerId>| broker.map(|id| id.0);
                    tracing::info!(
                        topic,
                        partition,
                        before = id(slot.leader),
                        leader = id(leader),
                        "the leader changed"
                    );
                }
                slot.leader = leader;
                slot.available[slot.partition as usize].store(slot.leader.is_some(), Ordering::Relaxed);
                if let Some((id, partition)) = found {
                    if !slot.topic_id.is_nil() && id != slot.topic_id {
                        slot.queue.restart();
                    }
                    (slot.topic_id, slot.leader_epoch) = (id, partition.leader_epoch);
                }
            }
            if let Ok(info) = topic
                && info.partitions.len() > known
            {
                // Err: the producer is gone, nobody wants to know.
                let _ = self.report.send(Feedback::Grown(info));
            }
        }
        let leaderless: Vec<usize> = pending(&self.slots, |slot| slot.leader.is_none()).collect();
        if let Some(&first) = leaderless.first() {
            let of = TopicPartition::new(self.slots[first].topic.clone(), self.slots[first].partition);
            let error = Error::kafka(Action::Produce, of, ResponseError::LeaderNotAvailable);
            self.trouble.failed(leaderless, &error);
        }
    }

    /// Has metadata refreshed before its age demands it, for something points to its being outdated.
    pub(super) fn refresh_soon(&mut self, now: Instant) {
        if self.is_refreshing || self.refresh_at.is_some_and(|at| at <= now + SOON) {
            return;
        }
        self.refresh_at = Some(now + self.refresh_backoff.next_wait());
    }

    pub(super) fn refresh(&mut self, now: Instant) {
        if self.is_refreshing || self.slots.is_empty() || self.refresh_at.is_none_or(|at| at > now) {
            return;
        }
        self.is_refreshing = true;
        self.refresh_at = None;
        let mut names: Vec<Arc<str>> = self.slots.iter().map(|slot| slot.topic.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let cluster = self.cluster.clone();
        self.events.spawn(async move {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            Event::Metadata(cluster.refreshed(Some(&names)).await.map(|found| found.topics))
        });
    }
}

/// The slots with something to deliver that `are` so.
pub(super) fn pending(slots: &[Slot], are: impl Fn(&Slot) -> bool) -> impl Iterator<Item = usize> {
    let pending = move |(_, slot): &(usize, &Slot)| !slot.queue.is_empty() && are(slot);
    slots.iter().enumerate().filter(pending).map(|(index, _)| index)
}
