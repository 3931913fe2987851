//! Topic configs: all are kept and shown; `max.message.bytes`, `message.timestamp.type`, `retention.ms` and
//! `retention.bytes` have an effect.

use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;

/// Why a request was refused, and Kafka's message.
pub(super) type Refused = (E, String);

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
        if name == "max.message.bytes" && value.parse::<i32>().is_ok_and(|bytes| bytes < 0) {
            return invalid("Value must be at least 0");
        }
    }
    Ok(())
}

/// The largest batch that a topic accepts.
pub(super) fn max_message_bytes(configs: &BTreeMap<String, String>) -> usize {
    const DEFAULT: usize = 1_048_588;
    configs.get("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(DEFAULT)
}

/// Whether records get the broker's time.
pub(super) fn append_time(configs: &BTreeMap<String, String>) -> bool {
    configs.get("message.timestamp.type").is_some_and(|value| value == "LogAppendTime")
}

/// What the configs take in memory.
pub(super) fn bytes(configs: &BTreeMap<String, String>) -> usize {
    configs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// How long records are kept, where the topic says so, in milliseconds.
pub(super) fn retention_ms(configs: &BTreeMap<String, String>) -> Option<i64> {
    configs.get("retention.ms").and_then(|value| value.parse().ok()).filter(|millis| *millis >= 0)
}

/// How many bytes of a partition are kept, where the topic says so.
pub(super) fn retention_bytes(configs: &BTreeMap<String, String>) -> Option<usize> {
    configs.get("retention.bytes").and_then(|value| value.parse().ok())
}
