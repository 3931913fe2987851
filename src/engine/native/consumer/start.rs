//! Which partitions are read, and where reading begins and ends in each.

use super::super::cluster::{Cluster, Listed, TopicInfo};
use super::super::group::offsets;
use super::bounds::{self, Bounds, ByPartition};
use super::last;
use super::positions::{Begin, Lookup, Target};
use super::scan::{Log, scan};
use crate::engine::{ConsumerConfig, End, OffsetAt, Start, Subscription, no_such_partition, out_of_range};
use crate::error::Result;
use crate::record::{BrokerId, Offset, PartitionId, Position, Timestamp, TopicPartition};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
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

/// Bytes of a fetch that looks for a time: the first record fetched is mostly the one.
const TIME_FETCH_BYTES: usize = 64 << 10;

/// Where looking for times begins in partitions, as their leader lists it; `None` for the beginning.
type AtTimes = BTreeMap<(TopicPartition, Timestamp), Result<Option<Offset>>>;

/// What is known of a partition when the place to begin is chosen.
struct Known<'a> {
    bounds: Bounds,
    /// The group's committed offset.
    committed: Option<Position>,
    at_times: &'a AtTimes,
}

/// Where to begin and to end in partitions that `leader` leads, each asked for with its [`Start`].
pub(super) async fn begin(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    asked: &[(Target, Start)],
) -> ByPartition<Lookup> {
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
) -> Result<ByPartition<Lookup>> {
    let of = |wanted: &dyn Fn(Start) -> bool| -> Vec<TopicPartition> {
        asked.iter().filter(|(_, start)| wanted(*start)).map(|(target, _)| target.of.clone()).collect()
    };
    let stored = of(&|start| start == Start::Stored);
    let mut committed = match &config.group {
        Some(group) if !stored.is_empty() => offsets::fetch(cluster, &group.id, &stored).await?,
        _ => BTreeMap::new(),
    };
    let mut times: BTreeMap<Timestamp, Vec<TopicPartition>> = BTreeMap::new();
    for (target, start) in asked {
        if let Start::Time(time) = or_fallback(*start, committed.get(&target.of), config.fallback) {
            times.entry(time).or_default().push(target.of.clone());
        }
    }
    if let Some(End::Time(time)) = config.end {
        times.insert(time, of(&|_| true));
    }
    let mut at_times = AtTimes::new();
    for (time, partitions) in times {
        let connection = cluster.broker(leader).await?;
        let list = |at| cluster.list_offsets(&connection, &partitions, at, config.isolation);
        let (mut ends, found) = (list(OffsetAt::Latest).await?, list(OffsetAt::Time(time)).await?);
        for (of, found) in found {
            let end = ends.remove(&of).transpose().map(Option::flatten);
            let from = end.and_then(|end| Ok(sought_from(found?, end)));
            at_times.insert((of, time), from);
        }
    }
    // Asked last, so that what was found before lies within.
    let mut all = bounds::ask(cluster, leader, &of(&|_| true), config.isolation).await?;
    let log = Log { cluster, config, leader };
    let mut begins = BTreeMap::new();
    for (target, start) in asked {
        let begin = match all.remove(&target.of) {
            None => continue,
            Some(Err(error)) => Err(error),
            Some(Ok(bounds)) => {
                let known = Known { bounds, committed: committed.remove(&target.of), at_times: &at_times };
                begin_one(&log, target, *start, known).await
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

async fn begin_one(log: &Log<'_>, target: &Target, start: Start, known: Known<'_>) -> Result<Lookup> {
    let config = log.config;
    if start == Start::Stored
        && !target.is_recreated
        && let Some(epoch) = known.committed.and_then(|committed| known.bounds.newer_epoch(committed))
    {
        return Ok(Lookup::Behind(epoch));
    }
    let until = until(log, target, &known).await?;
    let Known { bounds, committed, at_times } = known;
    let mut chosen = or_fallback(start, committed.as_ref(), config.fallback);
    if let (Start::Stored, Some(position)) = (chosen, committed) {
        match not_in(&bounds, &target.of, position) {
            None => return Ok(Lookup::Begin(Begin { position, until, committed: Some(position.offset) })),
            Some(why) => {
                // Retention, or a topic created again, took what the group had not read.
                tracing::warn!("the committed offset is unusable: {why}; resuming at {}", config.fallback);
                chosen = config.fallback;
            }
        }
    }
    let offset = match chosen {
        Start::Beginning | Start::Stored => bounds.first,
        Start::End => bounds.reachable,
        Start::At(offset) => at(config, &target.of, offset, &bounds)?,
        Start::Last(count) => last::find(log, target, count, &bounds).await?,
        Start::Time(time) => at_time(log, target, time, &bounds, at_times).await?,
    };
    let committed = committed.map(|position| position.offset);
    Ok(Lookup::Begin(Begin { position: Position { offset, leader_epoch: None }, until, committed }))
}

/// Where a partition ends.
async fn until(log: &Log<'_>, target: &Target, known: &Known<'_>) -> Result<Offset> {
    let bounds = &known.bounds;
    let until = match log.config.end {
        None => Offset::MAX,
        Some(End::AtStartup) => bounds.reachable,
        Some(End::At(offset)) => offset,
        Some(End::Last(count)) => last::find(log, target, count, bounds).await?,
        Some(End::Time(time)) => at_time(log, target, time, bounds, known.at_times).await?,
    };
    Ok(if log.config.stop_at_end { until.min(bounds.reachable) } else { until })
}

/// The offset of the first visible record with this timestamp or a later one. Brokers also list markers of
/// transactions and records of aborted ones, so that is where looking for it begins.
async fn at_time(
    log: &Log<'_>,
    target: &Target,
    time: Timestamp,
    bounds: &Bounds,
    at_times: &AtTimes,
) -> Result<Offset> {
    struct Sought {
        time: Timestamp,
        found: Option<Offset>,
    }
    let listed = match at_times.get(&(target.of.clone(), time)) {
        Some(from) => from.clone()?.unwrap_or(bounds.first).clamp(bounds.first, bounds.end),
        None => return Ok(bounds.reachable),
    };
    let target = Target { position: listed, until: bounds.reachable, last_epoch: None, ..target.clone() };
    let sought = Sought { time, found: None };
    let sought = scan(log, target, TIME_FETCH_BYTES, sought, |sought, record| {
        let is_found = record.timestamp.is_some_and(|timestamp| timestamp >= sought.time);
        if !is_found {
            return ControlFlow::Continue(());
        }
        sought.found = Some(record.offset);
        ControlFlow::Break(())
    })
    .await?;
    Ok(sought.found.unwrap_or_else(|| listed.max(bounds.reachable)))
}

/// Where looking for a time begins: at the first record that is as late, or where none is, at the end as it was before
/// that was looked up. So a record that comes meanwhile is not skipped.
fn sought_from(listed: Option<Listed>, end_before: Option<Listed>) -> Option<Offset> {
    listed.or(end_before).map(|listed| listed.offset)
}

/// Why a committed offset is of no use: it lies outside of the log, or belongs to a topic of this name that was deleted.
fn not_in(bounds: &Bounds, of: &TopicPartition, committed: Position) -> Option<String> {
    if !(bounds.first..=bounds.end).contains(&committed.offset) {
        return Some(out_of_range(of, committed.offset, bounds.first, bounds.end).to_string());
    }
    bounds
        .newer_epoch(committed)
        .map(|_| format!("{} of {of} belongs to a topic that was deleted and created again", committed.offset))
}

/// An offset that was asked for. A partition that does not hold it is an error where the partition was named; in others
/// the offset stands for the nearest end.
fn at(config: &ConsumerConfig, of: &TopicPartition, offset: Offset, bounds: &Bounds) -> Result<Offset> {
    if (bounds.first..=bounds.end).contains(&offset) {
        return Ok(offset);
    }
    if offset > bounds.end && config.end.is_some() {
        return Ok(bounds.reachable); // a partition that is shorter than the range
    }
    let error = out_of_range(of, offset, bounds.first, bounds.end);
    let nearest = if offset > bounds.end { bounds.reachable } else { bounds.first };
    if config.group.is_none() && config.partitions.is_some() {
        return Err(error);
    }
    tracing::warn!("{error}; beginning at {nearest}");
    Ok(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_sought_from_the_end_before_it_was_looked_up_where_no_record_is_as_late() {
        let at = |offset| Some(Listed { offset, leader_epoch: None });
        assert_eq!(sought_from(at(3), at(7)), Some(3));
        assert_eq!(sought_from(at(9), at(7)), Some(9), "a record that came between the two questions");
        assert_eq!(sought_from(None, at(7)), Some(7));
    }
}
