//! Topic configs: all are kept and shown; `max.message.bytes` and `message.timestamp.type` have an effect.

use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;

/// Why a request about topics was refused, and the words that Kafka adds.
pub(super) type Refused = (E, String);

/// What a value has to be; the numbers are DescribeConfigs' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A topic config of Kafka 4.4: its name, its default, what it has to be.
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

/// The largest batch that a topic takes.
pub(super) fn max_message_bytes(configs: &BTreeMap<String, String>) -> usize {
    const DEFAULT: usize = 1_048_588;
    configs.get("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(DEFAULT)
}

/// Whether a record's time is when the broker got it.
pub(super) fn append_time(configs: &BTreeMap<String, String>) -> bool {
    configs.get("message.timestamp.type").is_some_and(|value| value == "LogAppendTime")
}
