//! Where reading begins in each partition, and where it ends.

use super::super::cluster::{Cluster, TopicInfo};
use super::super::group::offsets;
use super::positions::Target;
use crate::engine::{ConsumerConfig, Isolation, OffsetAt, Start, Subscription, no_such_partition, out_of_range};
use crate::error::{Action, Error, Result};
use crate::record::{Offset, PartitionId, TopicPartition};
use kafka_protocol::error::ResponseError;
use std::collections::HashMap;

/// All partitions that `config` names.
///
/// # Errors
/// A topic or partition does not exist, or the cluster does not answer.
pub(super) async fn places(cluster: &Cluster, config: &ConsumerConfig) -> Result<Vec<TopicPartition>> {
    let mut places: Vec<TopicPartition> = Vec::new();
    for topic in &topics(cluster, &config.subscription).await? {
        let count = topic.partitions.len();
        match &config.partitions {
            None => places.extend((0..count as PartitionId).map(|p| TopicPartition::new(topic.name.clone(), p))),
            Some(wanted) => {
                if let Some(&none) = wanted.iter().find(|&&p| p < 0 || p as usize >= count) {
                    return Err(no_such_partition(&TopicPartition::new(topic.name.clone(), none), count));
                }
                places.extend(wanted.iter().map(|&p| TopicPartition::new(topic.name.clone(), p)));
            }
        }
    }
    Ok(places)
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

/// Where to begin and to end in `places`.
///
/// # Errors
/// A partition does not exist, an offset is out of range, or the cluster does not answer.
pub(super) async fn resolve(
    cluster: &Cluster,
    config: &ConsumerConfig,
    places: &[TopicPartition],
) -> Result<Vec<Target>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let committed = config.isolation == Isolation::Committed;
    let (first, next) = cluster.bounds(places, committed).await?;
    let stored = match (&config.group, config.start) {
        (Some(group), Start::Stored) => offsets::fetch(cluster, &group.id, places).await?,
        _ => HashMap::new(),
    };
    let by_time = |start| match start {
        Start::Time(timestamp) => Some(timestamp),
        _ => None,
    };
    let at_time = match by_time(config.start).or(by_time(config.fallback)) {
        Some(timestamp) => cluster.list_offsets(places, OffsetAt::Time(timestamp), committed).await?,
        None => HashMap::new(),
    };
    let resolve_one = |of: &TopicPartition| -> Result<Target> {
        let unknown = || Error::kafka(Action::LookUp, of, ResponseError::UnknownTopicOrPartition);
        let (first, next) = (*first.get(of).ok_or_else(unknown)?, *next.get(of).ok_or_else(unknown)?);
        let from = |start| -> Option<Offset> {
            Some(match start {
                Start::Beginning => first,
                Start::End => next,
                Start::Stored => stored.get(of)?.offset,
                Start::At(offset) => offset,
                Start::Last(count) => next.saturating_sub_unsigned(count).max(first),
                // -1: nothing is so late
                Start::Time(_) => at_time.get(of).copied().filter(|&offset| offset >= 0).unwrap_or(next),
            })
        };
        let mut position = from(config.start).or_else(|| from(config.fallback)).unwrap_or(first);
        let mut last_epoch = stored.get(of).and_then(|stored| stored.leader_epoch);
        if position < first || position > next {
            if config.start != Start::Stored {
                return Err(out_of_range(of, position, first, next));
            }
            // Retention, or a topic made anew, took what the group had not read.
            let from = from(config.fallback).unwrap_or(first);
            let lost = out_of_range(of, position, first, next);
            tracing::warn!("committed {lost}; going on from {from}");
            position = from;
            last_epoch = None;
        }
        let id = uuid::Uuid::nil(); // known with the leader
        let until = if config.stop_at_end { next } else { Offset::MAX };
        Ok(Target { of: of.clone(), id, position, until, last_epoch })
    };
    places.iter().map(resolve_one).collect()
}
