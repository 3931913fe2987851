//! What changes topics: create, alter, add-partitions, delete-records, delete, elect-leaders.

use super::parse_config;
use crate::cli::Context;
use crate::cli::consume::parse_time;
use crate::cli::guard::{Decision, Guard};
use crate::cli::hints::WithHint;
use crate::cli::listing::{Table, or_dash, report_incomplete, right_align, say, table};
use crate::cli::report::tell;
use crate::cli::selection::{TopicSelection, named};
use crate::engine::{
    Bounds, ConfigChange, Configured, Elected, Election, Listing, NativeAdmin, NewTopic, OffsetAt, Partition, Topic,
    out_of_range,
};
use crate::error::{EXIT_FAILED, EXIT_OK, Result};
use crate::record::{BrokerId, Offset, TopicPartition};
use crate::text::counted;
use clap::Args;
use kafka_protocol::error::ResponseError;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Topic name
    name: String,
    /// Number of partitions [default: the brokers' num.partitions]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replication factor [default: the brokers' default.replication.factor]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// Replicas of each partition, preferred leader first: 1:2,2:3 creates two partitions
    #[arg(long, value_name = "ID:ID,...", value_parser = parse_brokers, value_delimiter = ',',
          conflicts_with_all = ["partitions", "replication_factor"])]
    assignment: Vec<Brokers>,
    /// Set a topic config, such as retention.ms=3600000
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Succeed if the topic already exists, whatever its configs
    #[arg(long)]
    if_not_exists: bool,
    /// Only have the cluster validate the request
    #[arg(long)]
    dry_run: bool,
}

/// A partition's brokers.
#[derive(Debug, Clone)]
struct Brokers(Vec<BrokerId>);

fn parse_brokers(text: &str) -> Result<Brokers, String> {
    let ids: Result<Vec<BrokerId>, _> = text.split(':').map(|id| id.trim().parse().map(BrokerId)).collect();
    ids.map(Brokers).map_err(|_| "expected broker IDs, such as 1:2:3".to_owned())
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
                say(context, &format!("topic {name} already exists"));
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
    let changed = if dry_run { "would change" } else { "changed" };
    say(context, &format!("{changed} {} of topic {name}", counted(changes.len() as u64, "config")));
    Ok(())
}

pub(super) fn add_partitions(context: &Context, name: &str, to: i32, dry_run: bool) -> Result<()> {
    let admin = context.admin("topics add-partitions")?;
    admin.add_partitions(name, to, dry_run)?;
    let has = if dry_run { "would have" } else { "has" };
    say(context, &format!("topic {name} {has} {}", counted(to as u64, "partition")));
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

/// What is to be deleted of one partition.
struct Deletion {
    first: Offset,
    next: Offset,
    /// The first offset that is kept.
    keep_from: Offset,
}

/// What is to be deleted of each partition, or why that is not known.
fn plan_deletions(
    admin: &NativeAdmin,
    partitions: &[TopicPartition],
    before: Before,
) -> Result<BTreeMap<TopicPartition, Result<Deletion>>> {
    let mut at_time = match before {
        Before::Time(time) => admin.offsets_at(partitions, OffsetAt::Time(time))?,
        Before::Offset(_) | Before::End => BTreeMap::new(),
    };
    let mut plan = BTreeMap::new();
    for (of, bounds) in admin.bounds(partitions)? {
        let at_time = at_time.remove(&of).transpose().map(Option::flatten);
        let bounds = bounds.and_then(|bounds| Ok((bounds, at_time?)));
        let deletion = bounds.map(|(Bounds { first, end: next }, at_time)| {
            let keep_from = match before {
                Before::Offset(offset) => offset,
                Before::End => next,
                // No record is so late: all are before.
                Before::Time(_) => at_time.unwrap_or(next),
            };
            Deletion { first, next, keep_from: keep_from.max(first) }
        });
        if let (Ok(Deletion { first, next, keep_from }), Before::Offset(offset)) = (&deletion, before)
            && keep_from > next
        {
            return Err(out_of_range(&of, offset, *first, *next));
        }
        plan.insert(of, deletion);
    }
    Ok(plan)
}

fn deletions_table(plan: &BTreeMap<TopicPartition, Result<Deletion>>) -> Table {
    let mut table = table(&["TOPIC", "PARTITION", "LOG-START", "NEW-LOG-START", "END"]);
    for (of, deletion) in plan {
        let known = deletion.as_ref().ok();
        table.add_row([
            of.topic.to_string(),
            of.partition.to_string(),
            or_dash(known.map(|deletion| deletion.first)),
            or_dash(known.map(|deletion| deletion.keep_from)),
            or_dash(known.map(|deletion| deletion.next)),
        ]);
    }
    right_align(&mut table, 1..5);
    table
}

pub(super) fn delete_records(
    context: &Context,
    topics: &[TopicSelection],
    before: Before,
    guard: &Guard,
) -> Result<u8> {
    let admin = context.admin("topics delete-records")?;
    let partitions = named(topics, |topic| admin.partition_count(topic))?;
    let plan = plan_deletions(&admin, &partitions, before)?;
    let known = plan.iter().filter_map(|(of, deletion)| Some((of, deletion.as_ref().ok()?)));
    let deletions: BTreeMap<TopicPartition, Offset> = known
        .clone()
        .filter(|(_, deletion)| deletion.keep_from > deletion.first)
        .map(|(of, deletion)| (of.clone(), deletion.keep_from))
        .collect();
    // Offsets are counted: compaction and transactions leave some without a record.
    let count: i64 = known.map(|(_, deletion)| deletion.keep_from - deletion.first).sum();
    let what = format!("up to {}", counted(count as u64, "record"));
    if deletions.is_empty() && !guard.dry_run {
        say(context, "no records to delete");
    } else if guard.decide(context, "topics delete-records", "delete", &what, Some(&deletions_table(&plan)))?
        == Decision::Proceed
    {
        admin.delete_records(&deletions)?;
        say(context, &format!("deleted {what}"));
    }
    Ok(report_incomplete(plan.values().filter_map(|deletion| deletion.as_ref().err())))
}

pub(super) fn delete(context: &Context, names: &[String], guard: &Guard) -> Result<()> {
    let admin = context.admin("topics delete")?;
    let mut details = table(&["TOPIC", "PARTITIONS", "MAX-RECORDS"]);
    if guard.dry_run || !guard.yes {
        let mut topics = admin.topics(Some(names))?.found;
        admin.fill_offsets(&mut topics)?; // what is not known is shown so
        for topic in &topics {
            let records = |p: &Partition| Some(p.next_offset? - p.first_offset?);
            let records: Option<i64> = topic.partitions.iter().map(records).sum();
            details.add_row([topic.name.clone(), topic.partitions.len().to_string(), or_dash(records)]);
        }
        right_align(&mut details, 1..3);
    }
    let what = format!("{} and all of {} records", names.join(", "), if names.len() == 1 { "its" } else { "their" });
    if guard.decide(context, "topics delete", "delete", &what, Some(&details))? == Decision::Proceed {
        for name in names {
            admin.delete_topic(name)?;
            say(context, &format!("deleted topic {name}"));
        }
    }
    Ok(())
}

/// Partitions whose leader an election would change.
fn electable(admin: &NativeAdmin, topics: &[TopicSelection], election: Election) -> Result<Listing<TopicPartition>> {
    let Listing { found: all, incomplete } = admin.topics(None)?;
    let states: BTreeMap<TopicPartition, &Partition> = all.iter().flat_map(Topic::named_partitions).collect();
    let mut partitions = if topics.is_empty() {
        states.keys().cloned().collect()
    } else {
        named(topics, |topic| admin.partition_count(topic))?
    };
    let is_needed = |state: &&Partition| match election {
        Election::Preferred => !state.has_preferred_leader(),
        Election::Unclean => state.leader.is_none(),
    };
    partitions.retain(|of| states.get(of).is_some_and(is_needed));
    Ok(Listing { found: partitions, incomplete })
}

pub(super) fn elect_leaders(
    context: &Context,
    topics: &[TopicSelection],
    election: Election,
    guard: &Guard,
) -> Result<u8> {
    let admin = context.admin("topics elect-leaders")?;
    let Listing { found: partitions, incomplete } = electable(&admin, topics, election)?;
    let code = report_incomplete(&incomplete);
    if partitions.is_empty() {
        let why = match election {
            Election::Preferred => "every partition already has its preferred leader",
            Election::Unclean => "every partition has a leader",
        };
        say(context, why);
        return Ok(code);
    }
    let names = partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let decision = match election {
        Election::Preferred => guard.without_question().decide(
            context,
            "topics elect-leaders",
            "elect",
            &format!("leaders of {names}"),
            None,
        ),
        Election::Unclean => {
            let what = format!("leaders of {names}, and lose the records that only replicas which are down have");
            guard.decide(context, "topics elect-leaders --unclean", "elect", &what, None)
        }
    };
    if decision? == Decision::DryRun {
        return Ok(code);
    }
    let mut failed = code != EXIT_OK;
    for (of, elected) in admin.elect_leaders(&partitions, election)? {
        match elected {
            Ok(Elected::NewLeader) => say(context, &format!("elected the leader of {of}")),
            Ok(Elected::NotNeeded) => say(context, &format!("{of} already has this leader")),
            Err(error) => {
                tell(WithHint(&error));
                failed = true;
            }
        }
    }
    Ok(if failed { EXIT_FAILED } else { EXIT_OK })
}
