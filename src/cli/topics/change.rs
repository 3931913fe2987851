//! What changes topics: create, alter, add-partitions, delete-records, delete, elect-leaders.

use super::{Safety, parse_config};
use crate::cli::Context;
use crate::cli::consume::parse_time;
use crate::cli::listing::{confirm, or_dash, print, right_align, say, table};
use crate::cli::places::{Places, named};
use crate::engine::{ConfigChange, Configured, NewTopic, OffsetAt, Partition, Topic};
use crate::error::{EXIT_FAILED, EXIT_OK, Result};
use crate::record::{BrokerId, Offset, TopicPartition};
use clap::Args;
use kafka_protocol::error::ResponseError;
use std::collections::BTreeMap;

/// Makes a topic
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name
    name: String,
    /// How many partitions [default: the brokers']
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many brokers keep each partition [default: the brokers']
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// The brokers of each partition, the preferred leader first: 1:2,2:3 is two partitions
    #[arg(long, value_name = "ID:ID,..", value_parser = parse_brokers, value_delimiter = ',',
          conflicts_with_all = ["partitions", "replication_factor"])]
    assignment: Vec<Brokers>,
    /// Sets a topic config, like retention.ms=3600000
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Is content with a topic that is there already, whatever it is like
    #[arg(long)]
    if_not_exists: bool,
    /// Only asks the cluster whether it would
    #[arg(long)]
    dry_run: bool,
}

/// A partition's brokers.
#[derive(Debug, Clone)]
struct Brokers(Vec<BrokerId>);

fn parse_brokers(text: &str) -> Result<Brokers, String> {
    let ids: Result<Vec<BrokerId>, _> = text.split(':').map(|id| id.trim().parse().map(BrokerId)).collect();
    ids.map(Brokers).map_err(|_| "expected broker ids like 1:2:3".to_owned())
}

impl Create {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let topic = NewTopic {
            name: self.name.clone(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: self.configs.clone(),
            assignment: self.assignment.iter().map(|brokers| brokers.0.clone()).collect(),
        };
        let name = &self.name;
        match context.admin("topics create")?.create_topic(&topic, self.dry_run) {
            Err(error) if self.if_not_exists && error.code() == Some(ResponseError::TopicAlreadyExists) => {
                say(context, &format!("topic {name} is there"));
            }
            Err(error) => return Err(error),
            Ok(()) if self.dry_run => say(context, &format!("would create topic {name}")),
            Ok(()) => say(context, &format!("created topic {name}")),
        }
        Ok(())
    }
}

pub(super) fn alter(context: &Context, name: &str, changes: &[ConfigChange], dry_run: bool) -> Result<()> {
    let admin = context.admin("topics alter")?;
    admin.alter_configs(&Configured::Topic(name.to_owned()), changes, dry_run)?;
    let would = if dry_run { "would change" } else { "changed" };
    say(context, &format!("{would} {} configs of topic {name}", changes.len()));
    Ok(())
}

pub(super) fn add_partitions(context: &Context, name: &str, to: i32, dry_run: bool) -> Result<()> {
    let admin = context.admin("topics add-partitions")?;
    admin.add_partitions(name, to, dry_run)?;
    let has = if dry_run { "would have" } else { "has" };
    say(context, &format!("topic {name} {has} {to} partitions"));
    Ok(())
}

/// Up to where records are deleted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    Offset(Offset),
    Time(i64),
    End,
}

pub(super) fn parse_before(text: &str) -> Result<Before, String> {
    match (text, text.strip_prefix('@')) {
        ("end" | "latest", _) => Ok(Before::End),
        (_, Some(time)) => parse_time(time).map(Before::Time),
        _ => {
            let offset = text.parse().ok().filter(|offset| *offset >= 0).map(Before::Offset);
            offset.ok_or_else(|| "expected an offset, @TIME or end".to_owned())
        }
    }
}

pub(super) fn delete_records(context: &Context, topics: &[Places], before: Before, safety: &Safety) -> Result<()> {
    let admin = context.admin("topics delete-records")?;
    let places = named(topics, |topic| admin.partition_count(topic))?;
    let (first, end) = (admin.offsets_at(&places, OffsetAt::Earliest)?, admin.offsets_at(&places, OffsetAt::Latest)?);
    let at_time = match before {
        Before::Time(time) => admin.offsets_at(&places, OffsetAt::Time(time))?,
        _ => Default::default(),
    };
    let of =
        |offsets: &BTreeMap<TopicPartition, Option<Offset>>, of: &TopicPartition| offsets.get(of).copied().flatten();
    let mut plan: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for at in &places {
        let (first, end) = (of(&first, at).unwrap_or(0), of(&end, at).unwrap_or(0));
        let before = match before {
            Before::Offset(offset) if offset > end => {
                return Err(crate::engine::out_of_range(at, offset, first, end));
            }
            Before::Offset(offset) => offset,
            Before::End => end,
            // No record is so late: all are before.
            Before::Time(_) => of(&at_time, at).unwrap_or(end),
        };
        if before > first {
            plan.insert(at.clone(), before);
        }
    }
    let count: i64 = plan.iter().map(|(at, before)| before - of(&first, at).unwrap_or(0)).sum();
    if safety.dry_run || !safety.yes {
        let mut table = table(&["TOPIC", "PARTITION", "FIRST", "FIRST THEN", "NEXT"]);
        for at in &places {
            let then = plan.get(at).copied().or(of(&first, at));
            let row = [or_dash(of(&first, at)), or_dash(then), or_dash(of(&end, at))];
            table.add_row([vec![at.topic.to_string(), at.partition.to_string()], row.to_vec()].concat());
        }
        right_align(&mut table, 1..5);
        print(&table.to_string())?;
    }
    if safety.dry_run || plan.is_empty() {
        say(context, &format!("{} {count} offsets to delete", if plan.is_empty() { "there are" } else { "would be" }));
        return Ok(());
    }
    if !safety.yes {
        confirm("topics delete-records", &format!("Delete the records of these {count} offsets?"))?;
    }
    admin.delete_records(&plan)?;
    say(context, &format!("deleted the records of {count} offsets"));
    Ok(())
}

pub(super) fn delete(context: &Context, names: &[String], safety: &Safety) -> Result<()> {
    if safety.dry_run {
        for topic in context.admin("topics delete")?.topics(Some(names), true)? {
            let count =
                |offset: fn(&Partition) -> Option<Offset>| -> i64 { topic.partitions.iter().filter_map(offset).sum() };
            let offsets = count(|p| p.next_offset) - count(|p| p.first_offset);
            say(context, &format!("would delete topic {} with {offsets} offsets", topic.name));
        }
        return Ok(());
    }
    if !safety.yes {
        confirm("topics delete", &format!("Delete {} with all records?", names.join(", ")))?;
    }
    let admin = context.admin("topics delete")?;
    for name in names {
        admin.delete_topic(name)?;
        say(context, &format!("deleted topic {name}"));
    }
    Ok(())
}

pub(super) fn elect_leaders(
    context: &Context,
    topics: &[Places],
    unclean: bool,
    safety: &Safety,
) -> anyhow::Result<u8> {
    let admin = context.admin("topics elect-leaders")?;
    let topics_now = admin.topics(None, false)?;
    let states: BTreeMap<TopicPartition, &Partition> = topics_now.iter().flat_map(Topic::named_partitions).collect();
    let mut places = if topics.is_empty() {
        states.keys().cloned().collect()
    } else {
        named(topics, |topic| admin.partition_count(topic))?
    };
    places.retain(|at| {
        let needs = |state: &&Partition| if unclean { state.leader.is_none() } else { !state.has_preferred_leader() };
        states.get(at).is_some_and(needs)
    });
    let named: Vec<String> = places.iter().map(ToString::to_string).collect();
    if places.is_empty() {
        say(context, "no partition needs another leader");
        return Ok(EXIT_OK);
    }
    if safety.dry_run {
        say(context, &format!("would elect leaders of {}", named.join(", ")));
        return Ok(EXIT_OK);
    }
    if unclean && !safety.yes {
        let what = "Records that only lost replicas have will be gone. Elect leaders of";
        confirm("topics elect-leaders --unclean", &format!("{what} {}?", named.join(", ")))?;
    }
    let mut failed = false;
    for (at, elected) in admin.elect_leaders(&places, unclean)? {
        match elected {
            Ok(true) => say(context, &format!("elected the leader of {at}")),
            Ok(false) => say(context, &format!("{at} needs no other leader")),
            Err(error) => {
                eprintln!("kpipe: {error}");
                failed = true;
            }
        }
    }
    Ok(if failed { EXIT_FAILED } else { EXIT_OK })
}
