//! Which partitions are read, and where reading begins and ends in each.

use super::super::cluster::{Cluster, TopicInfo};
use super::super::group::offsets;
use super::bounds::{self, Bounds, ByPartition};
use super::last;
use super::positions::{Begin, Target};
use crate::engine::{ConsumerConfig, OffsetAt, Start, Subscription, no_such_partition, out_of_range};
use crate::error::Result;
use crate::record::{BrokerId, Offset, PartitionId, Position, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All partitions that `config` names.
///
/// # Errors
/// A topic or partition does not exist, or the cluster does not answer.
pub(super) async fn partitions(cluster: &Cluster, config: &ConsumerConfig) -> Result<Vec<TopicPartition>> {
    let mut partitions: Vec<TopicPartition> = Vec::new();
    for topic in &topics(cluster, &config.subscription).await? {
        let count = topic.partitions.len();
        match &config.partitions {
            None => partitions.extend((0..count as PartitionId).map(|p| TopicPartition::new(topic.name.clone(), p))),
            Some(named) => {
                if let Some(&none) = named.iter().find(|&&p| p < 0 || p as usize >= count) {
                    return Err(no_such_partition(&TopicPartition::new(topic.name.clone(), none), count));
                }
                partitions.extend(named.iter().map(|&p| TopicPartition::new(topic.name.clone(), p)));
            }
        }
    }
    Ok(partitions)
}

async fn topics(cluster: &Cluster, subscription: &Subscription) -> Result<Vec<TopicInfo>> {
    match subscription {
        Subscription::Topics(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            cluster.topics(&names, false).await
        }
        Subscription::Pattern(_) => {
            let all = cluster.metadata(None, false).await?.into_iter().filter_map(|(_, topic)| topic.ok());
            Ok(all.filter(|topic| subscription.wants(&topic.name, topic.internal)).collect())
        }
    }
}

/// What is known of a partition when the place to begin is chosen.
struct Known {
    bounds: Bounds,
    /// The group's committed offset.
    committed: Option<Position>,
    /// The first record at the time asked for, or later.
    at_time: Option<Offset>,
}

/// Where to begin and to end in partitions that `leader` leads, each asked for with its [`Start`].
pub(super) async fn begin(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    asked: &[(Target, Start)],
) -> ByPartition<Begin> {
    match begin_all(cluster, config, leader, asked).await {
        Ok(begins) => begins,
        Err(error) => asked.iter().map(|(target, _)| (target.of.clone(), Err(error.clone()))).collect(),
    }
}

async fn begin_all(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    asked: &[(Target, Start)],
) -> Result<ByPartition<Begin>> {
    let of = |wanted: &dyn Fn(Start) -> bool| -> Vec<TopicPartition> {
        asked.iter().filter(|(_, start)| wanted(*start)).map(|(target, _)| target.of.clone()).collect()
    };
    let stored = of(&|start| start == Start::Stored);
    let mut committed = match &config.group {
        Some(group) if !stored.is_empty() => offsets::fetch(cluster, &group.id, &stored).await?,
        _ => HashMap::new(),
    };
    let mut times: BTreeMap<i64, Vec<TopicPartition>> = BTreeMap::new();
    for (target, start) in asked {
        if let Start::Time(time) = or_fallback(*start, committed.get(&target.of), config.fallback) {
            times.entry(time).or_default().push(target.of.clone());
        }
    }
    let mut at_time = HashMap::new();
    for (time, partitions) in times {
        let connection = cluster.broker(leader).await?;
        let at = OffsetAt::Time(time);
        at_time.extend(cluster.list_offsets(&connection, &partitions, at, config.isolation).await?);
    }
    // Asked last, so that what was found before lies within.
    let mut all = bounds::ask(cluster, leader, &of(&|_| true), config.isolation).await?;
    let mut begins = HashMap::new();
    for (target, start) in asked {
        let Some(bounds) = all.remove(&target.of) else { continue };
        let at_time = at_time.remove(&target.of).transpose();
        let begin = match (bounds, at_time) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(bounds), Ok(at_time)) => {
                let at_time = at_time.flatten().map(|listed| listed.offset);
                let known = Known { bounds, committed: committed.remove(&target.of), at_time };
                begin_one(cluster, config, leader, target, *start, known).await
            }
        };
        begins.insert(target.of.clone(), begin);
    }
    Ok(begins)
}

/// Where a partition begins that has, or lacks, a committed offset.
fn or_fallback(start: Start, committed: Option<&Position>, fallback: Start) -> Start {
    if start == Start::Stored && committed.is_none() { fallback } else { start }
}

async fn begin_one(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    target: &Target,
    start: Start,
    known: Known,
) -> Result<Begin> {
    let Known { bounds, committed, .. } = known;
    let until = if config.stop_at_end { bounds.reachable } else { Offset::MAX };
    let mut chosen = or_fallback(start, committed.as_ref(), config.fallback);
    if let (Start::Stored, Some(position)) = (chosen, committed) {
        match not_in(&bounds, &target.of, position) {
            None => return Ok(Begin { position, until, committed: Some(position.offset) }),
            Some(why) => {
                // Retention, or a topic created again, took what the group had not read.
                tracing::warn!("committed offset: {why}; resuming at {}", described(config.fallback));
                chosen = config.fallback;
            }
        }
    }
    let offset = match chosen {
        Start::Beginning | Start::Stored => bounds.first,
        Start::End => bounds.reachable,
        Start::At(offset) => at(config, &target.of, offset, &bounds)?,
        Start::Last(count) => last::find(cluster, config, leader, target, count, &bounds).await?,
        // Where no record is as late, the end is meant.
        Start::Time(_) => known.at_time.unwrap_or(bounds.reachable).clamp(bounds.first, bounds.end),
    };
    let committed = committed.map(|position| position.offset);
    Ok(Begin { position: Position { offset, leader_epoch: None }, until, committed })
}

/// Why a committed offset is of no use: it lies outside of the log, or belongs to a topic of this name that was deleted.
fn not_in(bounds: &Bounds, of: &TopicPartition, committed: Position) -> Option<String> {
    if !(bounds.first..=bounds.end).contains(&committed.offset) {
        return Some(out_of_range(of, committed.offset, bounds.first, bounds.end).to_string());
    }
    let is_older_topic = committed.leader_epoch.is_some_and(|epoch| bounds.leader_epoch.is_some_and(|now| epoch > now));
    is_older_topic
        .then(|| format!("{} of {of} belongs to a topic that was deleted and created again", committed.offset))
}

/// An offset that was asked for. A partition that does not hold it is an error where it was named, or where nothing may
/// be skipped; in others it stands for the nearest end.
fn at(config: &ConsumerConfig, of: &TopicPartition, offset: Offset, bounds: &Bounds) -> Result<Offset> {
    if (bounds.first..=bounds.end).contains(&offset) {
        return Ok(offset);
    }
    let error = out_of_range(of, offset, bounds.first, bounds.end);
    let nearest = if offset > bounds.end { bounds.reachable } else { bounds.first };
    if config.group.is_none() && (config.partitions.is_some() || offset < bounds.first) {
        return Err(error);
    }
    tracing::warn!("{error}; beginning at {nearest}");
    Ok(nearest)
}

fn described(start: Start) -> String {
    match start {
        Start::Beginning | Start::Stored => "the beginning".to_owned(),
        Start::End => "the end".to_owned(),
        Start::At(offset) => format!("offset {offset}"),
        Start::Last(count) => format!("the last {count} records"),
        Start::Time(time) => format!("time {time}"),
    }
}
