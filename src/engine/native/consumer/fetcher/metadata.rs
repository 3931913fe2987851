//! Metadata: leaders, topics that come and go, and topics that were created again.

use super::super::positions::{AssignmentId, Leader, LeaderChange, Source};
use super::{Ended, Event, Fetcher, Start, Subscription, TopicAnswer};
use crate::engine::native::cluster::{Described, PartitionInfo, TopicInfo};
use crate::engine::native::net::clock;
use crate::error::{Action, Error, ErrorCode, Result};
use crate::record::{PartitionId, TopicPartition};
use kafka_protocol::error::ResponseError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A topic that stays unknown this long was deleted.
const DELETED_AFTER: Duration = Duration::from_secs(10);

/// What metadata tells of one topic.
type Found<'a> = BTreeMap<&'a str, &'a std::result::Result<TopicInfo, ResponseError>>;

impl Fetcher {
    /// Whether this reader looks for new partitions itself: a group's members do that for it.
    fn looks_for_partitions(&self) -> bool {
        !self.is_member && self.config.partitions.is_none() && !self.config.stop_at_end
    }

    pub(super) fn look_up(&mut self) {
        if self.is_looking {
            return;
        }
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        let is_open = matches!(self.config.subscription, Subscription::Pattern(_)) && self.looks_for_partitions();
        names.extend(
            self.positions.ids().into_iter().filter_map(|id| Some(self.positions.target(id)?.of.topic.clone())),
        );
        if names.is_empty() && !is_open {
            self.look_at = clock::now() + self.config.refresh;
            return;
        }
        self.is_looking = true;
        // A repeated question goes to another broker: one that is cut off would always answer the same.
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        let cluster = self.cluster.clone();
        self.events.spawn(async move {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            let names = (!is_open).then_some(&names[..]);
            Event::Leaders(if is_first {
                cluster.described(names, false).await
            } else {
                cluster.refreshed(names).await
            })
        });
    }

    pub(super) fn on_leaders(&mut self, described: Result<Described>) -> Result<(), Ended> {
        self.is_looking = false;
        self.look_at = clock::now() + self.config.refresh;
        let Described { topics, by, brokers } = match described {
            Ok(described) => described,
            Err(error) => {
                for id in self.positions.ids() {
                    if self.positions.is_leaderless(id) {
                        self.failed(id, error.clone())?;
                    }
                }
                return Ok(());
            }
        };
        let source = Source { by, brokers, at: clock::now() };
        let found: Found<'_> = topics.iter().map(|(name, topic)| (name.as_str(), topic)).collect();
        let (mut recreated, mut deleted, mut shrunk) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        for id in self.positions.ids() {
            let Some(of) = self.positions.target(id).map(|target| target.of.clone()) else { continue };
            match found.get(&*of.topic).map(|topic| topic.as_ref()) {
                Some(Err(code)) if !code.is_transient() => {
                    return self.fail(Error::kafka(Action::LookUp, &of, *code));
                }
                Some(Ok(topic)) if partition(topic, of.partition).is_some() => {
                    if self.take_leader(id, &of, topic, &source)? {
                        recreated.insert(of.topic);
                    }
                }
                listed => {
                    let error = Error::kafka(Action::LookUp, &of, ResponseError::UnknownTopicOrPartition);
                    let is_listed = matches!(listed, Some(Ok(_)));
                    let is_named = matches!(self.config.subscription, Subscription::Topics(_));
                    // From a member the group takes what is gone; only a topic that was named must be there.
                    let is_the_groups = self.is_member && (is_listed || !is_named);
                    let is_gone = self.positions.missing(id, clock::now()) > DELETED_AFTER && !is_the_groups;
                    if is_gone && is_listed && self.config.partitions.is_none() {
                        shrunk.push(of);
                    } else if is_gone {
                        deleted.entry(of.topic).or_insert(error);
                    } else if self.positions.is_leaderless(id) {
                        self.failed(id, error)?;
                    }
                }
            }
        }
        for topic in recreated {
            tracing::warn!("topic {topic} was deleted and created again; reading from {}", self.restart());
        }
        for (topic, error) in deleted {
            self.on_deleted(&topic, error)?;
        }
        if !shrunk.is_empty() {
            let partitions = super::named(shrunk.iter().map(ToString::to_string));
            tracing::warn!("{partitions} no longer exist; no longer consuming them");
            self.drop_gone(|of| shrunk.contains(of))?;
        }
        if self.looks_for_partitions() {
            self.add_new(&topics);
        }
        Ok(())
    }

    /// Takes what metadata tells of a partition; whether its topic was created again.
    fn take_leader(
        &mut self,
        id: AssignmentId,
        of: &TopicPartition,
        topic: &TopicInfo,
        source: &Source,
    ) -> Result<bool, Ended> {
        let info = partition(topic, of.partition);
        let leader = info.and_then(|info| {
            let (leader, epoch) = (info.leader?, info.leader_epoch);
            Some(Leader { leader, epoch, topic_id: topic.id })
        });
        let change = leader.map(|leader| self.positions.set_leader(id, leader, source, self.restart()));
        let change = change.unwrap_or(LeaderChange::Stale);
        if change == LeaderChange::Stale && self.positions.is_leaderless(id) {
            self.failed(id, Error::kafka(Action::LookUp, of, ResponseError::LeaderNotAvailable))?;
        }
        Ok(change == LeaderChange::Recreated)
    }

    /// Where a partition begins that was not there when the run began.
    pub(super) fn restart(&self) -> Start {
        if self.config.group.is_some() { self.config.fallback } else { Start::Beginning }
    }

    /// A topic no longer exists. It leaves a subscription by pattern; for a named topic this is an error.
    fn on_deleted(&mut self, topic: &Arc<str>, error: Error) -> Result<(), Ended> {
        if matches!(self.config.subscription, Subscription::Topics(_)) {
            return self.fail(error);
        }
        tracing::warn!("topic {topic} was deleted: no longer consuming it");
        self.drop_gone(|of| of.topic == *topic)
    }

    /// Reads no more of partitions that are gone.
    fn drop_gone(&mut self, is_gone: impl Fn(&TopicPartition) -> bool) -> Result<(), Ended> {
        let partitions = self.positions.ids().into_iter().filter_map(|id| Some(self.positions.target(id)?.of.clone()));
        let gone: Vec<TopicPartition> = partitions.filter(&is_gone).collect();
        let ids = self.positions.remove(&is_gone);
        self.known.retain(|of| !is_gone(of));
        self.assignments.delete(&ids, gone);
        self.send(super::Delivery::Woken)
    }

    /// Reads what has been created since, from its beginning.
    fn add_new(&mut self, topics: &[TopicAnswer]) {
        let now = clock::now();
        let wanted = topics.iter().filter_map(|(_, topic)| topic.as_ref().ok());
        for topic in wanted.filter(|topic| self.config.subscription.wants(&topic.name, topic.internal)) {
            for index in 0..topic.partitions.len() {
                let of = TopicPartition::new(topic.name.clone(), index as PartitionId);
                if self.known.insert(of.clone()) {
                    self.positions.add(of, Start::Beginning, now);
                }
            }
        }
    }
}

fn partition(topic: &TopicInfo, index: PartitionId) -> Option<&PartitionInfo> {
    usize::try_from(index).ok().and_then(|index| topic.partitions.get(index))
}
