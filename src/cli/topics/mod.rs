//! `kpipe topics`: list, describe, offsets, count; create, alter, add-partitions, delete-records, delete; elect-leaders,
//! reassign.

mod change;
mod count;
mod reassign;
mod show;
mod spread;

use super::Context;
use super::consume::parse_time;
use super::guard::Guard;
use super::selection::{TopicSelection, parse_selection};
use crate::engine::{ConfigChange, Election, OffsetAt, Operation};
use crate::error::{EXIT_OK, Result};
use crate::record::BrokerId;
use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe topics create clicks --partitions 6 --config retention.ms=3600000 --if-not-exists\n  \
    kpipe topics describe --under-replicated\n  \
    kpipe topics alter clicks --config max.message.bytes=2000000 --unset retention.ms --dry-run\n  \
    kpipe topics delete-records clicks --before @-7d --yes\n  \
    kpipe topics reassign plan clicks --to 1,2,3 >plan.jsonl")]
pub(super) struct Topics {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List topics with their partition counts and replication factors
    List {
        /// Include internal topics
        #[arg(short, long)]
        all: bool,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Describe topics: leaders, replicas, offsets, bytes on disk, non-default configs
    Describe {
        /// Topics to describe [default: all]
        topics: Vec<String>,
        /// Only under-replicated partitions
        #[arg(long)]
        under_replicated: bool,
        /// Only partitions without a leader
        #[arg(long)]
        offline: bool,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Print the offset of each partition at a point in time
    Offsets {
        /// Topics, or topic partitions
        #[arg(required = true, value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// beginning, end, or @TIME: the first record at or after that time
        #[arg(long, value_name = "OFFSET", default_value = "end", value_parser = parse_at)]
        at: OffsetAt,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Count the records that a consumer sees, by reading the topics
    Count(count::Count),
    /// Create a topic
    Create(change::Create),
    /// Set or unset topic configs
    #[command(group(ArgGroup::new("change").args(["configs", "unset"]).required(true).multiple(true)))]
    Alter {
        /// Topic name
        name: String,
        /// Set a config, such as retention.ms=3600000
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(String, String)>,
        /// Reset a config to its default
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
        /// Only have the cluster validate the request
        #[arg(long)]
        dry_run: bool,
    },
    /// Add partitions to a topic; this changes where keyed records go
    AddPartitions {
        /// Topic name
        name: String,
        /// Total number of partitions
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        to: i32,
        /// Only have the cluster validate the request
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete the oldest records of partitions
    DeleteRecords {
        /// Topics, or topic partitions
        #[arg(required = true, value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// Delete all records before this offset, time (@TIME) or end
        #[arg(long, value_name = "OFFSET|@TIME|end", value_parser = change::parse_before)]
        before: change::Before,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete topics with all their records
    Delete {
        /// Topics to delete
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        guard: Guard,
    },
    /// Elect the preferred replica as leader of each partition
    #[command(group(ArgGroup::new("which").args(["topics", "all"]).required(true)))]
    ElectLeaders {
        /// Topics, or topic partitions
        #[arg(value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// All partitions
        #[arg(short, long)]
        all: bool,
        /// Elect a live replica that is out of sync if no in-sync replica is alive: records it lacks are lost
        #[arg(long)]
        unclean: bool,
        #[command(flatten)]
        guard: Guard,
    },
    /// Move partitions to other brokers
    Reassign(reassign::Reassign),
}

pub(super) fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Configs that are set, and configs that are reset to their defaults.
pub(super) fn changes(configs: &[(String, String)], unset: &[String]) -> Vec<ConfigChange> {
    let set = configs.iter().map(|(name, value)| ConfigChange { name: name.clone(), value: Some(value.clone()) });
    set.chain(unset.iter().map(|name| ConfigChange { name: name.clone(), value: None })).collect()
}

fn parse_at(text: &str) -> Result<OffsetAt, String> {
    match text {
        "beginning" | "earliest" => Ok(OffsetAt::Earliest),
        "end" | "latest" => Ok(OffsetAt::Latest),
        time => parse_time(time.strip_prefix('@').unwrap_or(time)).map(OffsetAt::Time),
    }
}

pub(super) fn parse_broker(text: &str) -> Result<BrokerId, String> {
    text.trim().parse().map(BrokerId).map_err(|_| "expected a broker ID".to_owned())
}

impl Topics {
    /// The operation that the command needs for what no request of its own names.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } | Verb::Describe { .. } | Verb::Offsets { .. } => Operation::Describe,
            Verb::Count(_) => Operation::Read,
            Verb::Create(_) => Operation::Create,
            Verb::Alter { .. } => Operation::AlterConfigs,
            Verb::AddPartitions { .. } | Verb::ElectLeaders { .. } | Verb::Reassign(_) => Operation::Alter,
            Verb::DeleteRecords { .. } | Verb::Delete { .. } => Operation::Delete,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        match &self.verb {
            Verb::List { all, json } => return show::list(context, *all, *json),
            Verb::Describe { topics, under_replicated, offline, json } => {
                let only = show::Only { under_replicated: *under_replicated, offline: *offline };
                return show::describe(context, topics, only, *json);
            }
            Verb::Offsets { topics, at, json } => return show::offsets(context, topics, *at, *json),
            Verb::Count(count) => count.run(context)?,
            Verb::Create(create) => create.run(context)?,
            Verb::Alter { name, configs, unset, dry_run } => {
                change::alter(context, name, &changes(configs, unset), *dry_run)?;
            }
            Verb::AddPartitions { name, to, dry_run } => change::add_partitions(context, name, *to, *dry_run)?,
            Verb::DeleteRecords { topics, before, guard } => {
                return change::delete_records(context, topics, *before, guard);
            }
            Verb::Delete { names, guard } => change::delete(context, names, guard)?,
            Verb::ElectLeaders { topics, unclean, guard, .. } => {
                let election = if *unclean { Election::Unclean } else { Election::Preferred };
                return change::elect_leaders(context, topics, election, guard);
            }
            Verb::Reassign(reassign) => return reassign.run(context),
        }
        Ok(EXIT_OK)
    }
}
