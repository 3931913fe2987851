//! What topics there are: list, describe, offsets.

use crate::cli::Context;
use crate::cli::listing::{Table, bytes, or_dash, print, print_lines, report_incomplete, right_align, table};
use crate::cli::selection::{TopicSelection, named};
use crate::engine::{ConfigEntry, ConfigSource, Configured, Engine, Listing, NativeAdmin, OffsetAt, Partition, Topic};
use crate::error::{Error, ErrorCode, Result};
use crate::record::{BrokerId, TopicPartition};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn list(context: &Context, all: bool, json: bool) -> Result<u8> {
    let Listing { found: mut topics, incomplete } = context.connect()?.topics(None)?;
    // Names that begin like this are Kafka's own also where the engine cannot know.
    topics.retain(|t| all || !t.internal.unwrap_or(t.name.starts_with("__")));
    let replicas = |t: &Topic| t.partitions.iter().filter_map(|p| p.replicas.as_ref().map(Vec::len)).max();
    if json {
        let line = |t: &Topic| {
            json!({
                "topic": t.name,
                "partitions": t.partitions.len(),
                "replication_factor": replicas(t),
                "internal": t.internal,
            })
        };
        print_lines(topics.iter().map(line))?;
    } else {
        let mut table = table(&["TOPIC", "PARTITIONS", "REPLICAS"]);
        for topic in &topics {
            table.add_row([topic.name.clone(), topic.partitions.len().to_string(), or_dash(replicas(topic))]);
        }
        right_align(&mut table, 1..3);
        print(&table.to_string())?;
    }
    Ok(report_incomplete(&incomplete))
}

/// Which partitions are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Only {
    pub(super) under_replicated: bool,
    pub(super) offline: bool,
}

impl Only {
    fn shows(self, partition: &Partition) -> bool {
        let under = self.under_replicated && partition.is_under_replicated();
        let offline = self.offline && partition.leader.is_none();
        under || offline || !(self.under_replicated || self.offline)
    }
}

/// What only the native engine can find out about topics.
#[derive(Default)]
struct Details {
    configs: BTreeMap<String, Vec<ConfigEntry>>,
    /// Bytes on disk of the largest replica of each partition.
    sizes: BTreeMap<TopicPartition, i64>,
}

pub(super) fn describe(context: &Context, names: &[String], only: Only, json: bool) -> Result<u8> {
    let engine = context.connect()?;
    let Listing { found: mut topics, mut incomplete } = engine.topics((!names.is_empty()).then_some(names))?;
    incomplete.extend(engine.fill_offsets(&mut topics)?);
    let details = match &engine {
        Engine::Native(_) => details(&engine.admin("topics describe")?, &topics)?,
        Engine::Kafka(_) => Details::default(),
    };
    for topic in &mut topics {
        topic.partitions.retain(|partition| only.shows(partition));
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    if json {
        print_lines(topics.iter().map(|topic| as_json(topic, &details)))?;
    } else {
        let partitions = partitions_table(&topics, &details);
        let has_configs = topics.iter().any(|topic| details.configs.get(&topic.name).is_some_and(|c| !c.is_empty()));
        print(&if has_configs {
            format!("{partitions}\n\n{}", configs_table(&topics, &details))
        } else {
            partitions.to_string()
        })?;
    }
    Ok(report_incomplete(&incomplete))
}

fn partitions_table(topics: &[Topic], details: &Details) -> Table {
    let ids = |ids: &Option<Vec<BrokerId>>| match ids {
        Some(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        None => "-".to_owned(),
    };
    let mut table = table(&["TOPIC", "PARTITION", "LEADER", "REPLICAS", "IN-SYNC", "LOG-START", "END", "SIZE"]);
    for topic in topics {
        for (of, p) in topic.named_partitions() {
            table.add_row([
                topic.name.clone(),
                p.partition.to_string(),
                p.leader.map_or("none".to_owned(), |leader| leader.to_string()),
                ids(&p.replicas),
                ids(&p.in_sync_replicas),
                or_dash(p.first_offset),
                or_dash(p.next_offset),
                or_dash(details.sizes.get(&of).map(|size| bytes(*size))),
            ]);
        }
    }
    right_align(&mut table, [1, 2, 5, 6, 7]);
    table
}

fn configs_table(topics: &[Topic], details: &Details) -> Table {
    let mut table = table(&["TOPIC", "CONFIG", "VALUE", "SET BY"]);
    for topic in topics {
        for config in details.configs.get(&topic.name).into_iter().flatten() {
            let value = or_dash(config.value.as_ref());
            table.add_row([topic.name.clone(), config.name.clone(), value, config.source.to_string()]);
        }
    }
    table
}

/// Configs and sizes; whoever may not see them sees the rest.
fn details(admin: &NativeAdmin, topics: &[Topic]) -> Result<Details> {
    let mut details = Details::default();
    let of: Vec<Configured> = topics.iter().map(|topic| Configured::Topic(topic.name.clone())).collect();
    match admin.configs(&of) {
        Ok(found) => {
            for (of, mut configs) in found {
                if let Configured::Topic(name) = of {
                    configs.retain(|config| config.source == ConfigSource::Topic);
                    details.configs.insert(name, configs);
                }
            }
        }
        Err(error) => unless_denied(error)?,
    }
    // A broker that is down cannot be asked now.
    let alive = admin.alive()?;
    let replicas = topics.iter().flat_map(|t| &t.partitions).flat_map(|p| p.replicas.iter().flatten().copied());
    let brokers: BTreeSet<BrokerId> = replicas.filter(|id| alive.contains(id)).collect();
    for broker in brokers {
        match admin.log_dirs(&[broker]) {
            Ok(dirs) => {
                for (of, size) in dirs.into_iter().flat_map(|dir| dir.partitions) {
                    let largest = details.sizes.entry(of).or_default();
                    *largest = size.max(*largest);
                }
            }
            Err(error) => unless_denied(error)?,
        }
    }
    Ok(details)
}

/// Leaves out what is denied, what an old broker does not support, and what a broker that just went down has.
fn unless_denied(error: Error) -> Result<()> {
    let is_denied = error.code().is_some_and(|code| code.is_denied());
    if is_denied || matches!(error, Error::Unsupported { .. }) {
        tracing::info!(%error, "left out");
        return Ok(());
    }
    if error.is_transient() {
        tracing::warn!("left out: {error}");
        return Ok(());
    }
    Err(error)
}

fn as_json(topic: &Topic, details: &Details) -> Value {
    let mut value = json!(topic);
    if let Some(partitions) = value["partitions"].as_array_mut() {
        for ((of, _), shown) in topic.named_partitions().zip(partitions) {
            if let Some(size) = details.sizes.get(&of) {
                shown["bytes"] = json!(size);
            }
        }
    }
    if let Some(configs) = details.configs.get(&topic.name) {
        value["configs"] = configs.iter().map(|config| (config.name.clone(), json!(config.value))).collect();
    }
    value
}

pub(super) fn offsets(context: &Context, topics: &[TopicSelection], at: OffsetAt, json: bool) -> Result<u8> {
    let admin = context.admin("topics offsets")?;
    let partitions = named(topics, |topic| admin.partition_count(topic))?;
    let found = admin.offsets_at(&partitions, at)?;
    let offset = |found: &Result<Option<i64>>| found.as_ref().ok().copied().flatten();
    if json {
        print_lines(
            found
                .iter()
                .map(|(of, found)| json!({ "topic": &*of.topic, "partition": of.partition, "offset": offset(found) })),
        )?;
    } else {
        let mut table = table(&["TOPIC", "PARTITION", "OFFSET"]);
        for (of, found) in &found {
            table.add_row([of.topic.to_string(), of.partition.to_string(), or_dash(offset(found))]);
        }
        right_align(&mut table, 1..3);
        print(&table.to_string())?;
    }
    Ok(report_incomplete(found.values().filter_map(|found| found.as_ref().err())))
}
