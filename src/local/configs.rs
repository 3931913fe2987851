//! Topic configs: all are kept and shown; those that the functions below read have an effect.

use super::log::{AppendOptions, Compaction};
use crate::record::Timestamp;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Why a request was refused, and Kafka's message.
pub(super) type Refused = (E, String);

/// What a topic's configs determine about replication.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replication {
    /// `min.insync.replicas`.
    pub(super) min_in_sync: usize,
    /// `unclean.leader.election.enable`.
    pub(super) elects_uncleanly: bool,
}

/// The type of a value; the numbers are DescribeConfigs' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A topic config of Kafka 4.4: its name, default and type.
pub(super) const CONFIGS: [(&str, &str, Kind); 37] = [
    ("cleanup.policy", "delete", Kind::List),
    ("compression.gzip.level", "-1", Kind::Int),
    ("compression.lz4.level", "9", Kind::Int),
    ("compression.type", "producer", Kind::Text),
    ("compression.zstd.level", "3", Kind::Int),
    ("delete.retention.ms", "86400000", Kind::Long),
    ("errors.deadletterqueue.group.enable", "false", Kind::Boolean),
    ("file.delete.delay.ms", "60000", Kind::Long),
    ("flush.messages", "9223372036854775807", Kind::Long),
    ("flush.ms", "9223372036854775807", Kind::Long),
    ("follower.replication.throttled.replicas", "", Kind::List),
    ("index.interval.bytes", "4096", Kind::Int),
    ("leader.replication.throttled.replicas", "", Kind::List),
    ("local.retention.bytes", "-2", Kind::Long),
    ("local.retention.ms", "-2", Kind::Long),
    ("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    ("max.decompressed.message.bytes", "2147483639", Kind::Int),
    ("max.message.bytes", "1048588", Kind::Int),
    ("message.timestamp.after.max.ms", "3600000", Kind::Long),
    ("message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    ("message.timestamp.type", "CreateTime", Kind::Text),
    ("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    ("min.compaction.lag.ms", "0", Kind::Long),
    ("min.insync.replicas", "1", Kind::Int),
    ("preallocate", "false", Kind::Boolean),
    ("remote.copy.lag.bytes", "-1", Kind::Long),
    ("remote.copy.lag.ms", "0", Kind::Long),
    ("remote.log.copy.disable", "false", Kind::Boolean),
    ("remote.log.delete.on.disable", "false", Kind::Boolean),
    ("remote.storage.enable", "false", Kind::Boolean),
    ("retention.bytes", "-1", Kind::Long),
    ("retention.ms", "604800000", Kind::Long),
    ("segment.bytes", "1073741824", Kind::Int),
    ("segment.index.bytes", "10485760", Kind::Int),
    ("segment.jitter.ms", "0", Kind::Long),
    ("segment.ms", "604800000", Kind::Long),
    ("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// Refuses what Kafka would.
pub(super) fn check(configs: &BTreeMap<String, String>) -> Result<(), Refused> {
    for (name, value) in configs {
        let Some((.., kind)) = CONFIGS.iter().find(|(known, ..)| known == name) else {
            return Err((E::InvalidConfig, format!("Unknown topic config name: {name}")));
        };
        let invalid =
            |why: &str| Err((E::InvalidConfig, format!("Invalid value {value} for configuration {name}: {why}")));
        match kind {
            Kind::Boolean if value != "true" && value != "false" => {
                return invalid("Expected value to be either true or false");
            }
            Kind::Int if value.parse::<i32>().is_err() => return invalid("Not a number of type INT"),
            Kind::Long if value.parse::<i64>().is_err() => return invalid("Not a number of type LONG"),
            Kind::Double if value.parse::<f64>().is_err() => return invalid("Not a number of type DOUBLE"),
            _ => {}
        }
        if name == "message.timestamp.type" && !["CreateTime", "LogAppendTime"].contains(&value.as_str()) {
            return invalid("String must be one of: CreateTime, LogAppendTime");
        }
        if name == "cleanup.policy" && !value.split(',').all(|item| ["compact", "delete", ""].contains(&item.trim())) {
            return invalid("String must be one of: compact, delete");
        }
        let is_share = |ratio: f64| (0.0..=1.0).contains(&ratio);
        if name == "min.cleanable.dirty.ratio" && value.parse().is_ok_and(|ratio| !is_share(ratio)) {
            return invalid("Value must be from 0 to 1");
        }
        if let Some(least) = least(name)
            && value.parse::<i64>().is_ok_and(|number| number < least)
        {
            return invalid(&format!("Value must be at least {least}"));
        }
    }
    Ok(())
}

/// The least value of a config.
fn least(name: &str) -> Option<i64> {
    match name {
        "min.insync.replicas" => Some(1),
        "delete.retention.ms"
        | "max.compaction.lag.ms"
        | "max.message.bytes"
        | "message.timestamp.after.max.ms"
        | "message.timestamp.before.max.ms"
        | "min.compaction.lag.ms"
        | "remote.copy.lag.ms" => Some(0),
        _ => None,
    }
}

/// A config's value, or its default.
fn value<T: FromStr>(configs: &BTreeMap<String, String>, name: &str, default: T) -> T {
    configs.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What the topic accepts of a batch that comes `now`.
pub(super) fn append_options(configs: &BTreeMap<String, String>, leader_epoch: i32, now: Timestamp) -> AppendOptions {
    const HOUR: i64 = 3_600_000;
    let has_append_time = configs.get("message.timestamp.type").is_some_and(|value| value == "LogAppendTime");
    let before = value(configs, "message.timestamp.before.max.ms", i64::MAX);
    AppendOptions {
        max_message_bytes: value(configs, "max.message.bytes", 1_048_588),
        append_time: has_append_time.then_some(now),
        earliest: if before == i64::MAX { Timestamp::MIN } else { now.saturating_sub(before) },
        latest: now.saturating_add(value(configs, "message.timestamp.after.max.ms", HOUR)),
        needs_keys: has_policy(configs, "compact"),
        leader_epoch,
    }
}

/// Whether `cleanup.policy` includes `policy`.
pub(super) fn has_policy(configs: &BTreeMap<String, String>, policy: &str) -> bool {
    configs.get("cleanup.policy").map_or("delete", String::as_str).split(',').any(|item| item.trim() == policy)
}

/// How the topic is compacted, if it is.
pub(super) fn compaction(configs: &BTreeMap<String, String>) -> Option<Compaction> {
    has_policy(configs, "compact").then(|| Compaction {
        dirty_ratio: value(configs, "min.cleanable.dirty.ratio", 0.5),
        min_lag: value(configs, "min.compaction.lag.ms", 0),
        tombstones_stay: value(configs, "delete.retention.ms", 86_400_000),
    })
}

/// What the configs take in memory.
pub(super) fn bytes(configs: &BTreeMap<String, String>) -> usize {
    configs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// How long records are kept, where the topic says so, in milliseconds.
pub(super) fn retention_ms(configs: &BTreeMap<String, String>) -> Option<i64> {
    let millis = configs.get("retention.ms").filter(|_| has_policy(configs, "delete"))?;
    millis.parse().ok().filter(|millis| *millis >= 0)
}

/// How many bytes of a partition are kept, where the topic says so.
pub(super) fn retention_bytes(configs: &BTreeMap<String, String>) -> Option<usize> {
    configs.get("retention.bytes").filter(|_| has_policy(configs, "delete"))?.parse().ok()
}

/// How the topic is replicated.
pub(super) fn replication(configs: &BTreeMap<String, String>) -> Replication {
    Replication {
        min_in_sync: value(configs, "min.insync.replicas", 1),
        elects_uncleanly: value(configs, "unclean.leader.election.enable", false),
    }
}
