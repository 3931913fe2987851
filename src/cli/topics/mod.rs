//! `kpipe topics`: list, describe, offsets; create, alter, add-partitions, delete-records, delete; elect-leaders,
//! reassign.

mod change;
mod reassign;
mod show;

use super::Context;
use super::consume::parse_time;
use super::places::{Places, parse_places};
use crate::engine::{ConfigChange, OffsetAt, Operation};
use crate::error::{EXIT_OK, Result};
use crate::record::BrokerId;
use clap::{ArgGroup, Args, Subcommand};

/// Looks after topics.
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
    /// Names and sizes of all topics
    List {
        /// Kafka's own topics too
        #[arg(short, long)]
        all: bool,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Partitions, leaders, replicas, offsets, bytes on disk, and configs that are not the defaults
    Describe {
        /// The topics; all when none is given
        topics: Vec<String>,
        /// Only partitions with replicas that are not in sync
        #[arg(long)]
        under_replicated: bool,
        /// Only partitions without a leader
        #[arg(long)]
        offline: bool,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// The offset of each partition at a time
    Offsets {
        /// Topics, or some of their partitions
        #[arg(required = true, value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// beginning, end, or a time as consume -o takes it: the first record then or later
        #[arg(long, default_value = "end", value_parser = parse_at)]
        at: OffsetAt,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Makes a topic
    Create(change::Create),
    /// Sets and unsets a topic's configs
    #[command(group(ArgGroup::new("change").args(["configs", "unset"]).required(true).multiple(true)))]
    Alter {
        /// Its name
        name: String,
        /// Sets a config, like retention.ms=3600000
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(String, String)>,
        /// Goes back to the default
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
        /// Only asks the cluster whether it would
        #[arg(long)]
        dry_run: bool,
    },
    /// Gives a topic more partitions; keyed records go elsewhere from then on
    AddPartitions {
        /// Its name
        name: String,
        /// How many there shall be
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        to: i32,
        /// Only asks the cluster whether it would
        #[arg(long)]
        dry_run: bool,
    },
    /// Deletes the oldest records of partitions
    DeleteRecords {
        /// A topic, or some of its partitions
        #[arg(required = true, value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// All before this offset, time (@TIME), or end
        #[arg(long, value_name = "OFFSET|@TIME|end", value_parser = change::parse_before)]
        before: change::Before,
        #[command(flatten)]
        safety: Safety,
    },
    /// Deletes topics with all their records
    Delete {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        safety: Safety,
    },
    /// Has the preferred replica lead each partition again
    #[command(group(ArgGroup::new("which").args(["topics", "all"]).required(true)))]
    ElectLeaders {
        /// Topics, or some of their partitions
        #[arg(value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// All partitions
        #[arg(short, long)]
        all: bool,
        /// Any replica that is alive, where none in sync is: what it has not is lost
        #[arg(long)]
        unclean: bool,
        #[command(flatten)]
        safety: Safety,
    },
    /// Moves partitions to other brokers
    Reassign(reassign::Reassign),
}

/// How a verb that destroys is kept from doing so by mistake.
#[derive(Debug, Args)]
pub(super) struct Safety {
    /// Shows what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Does not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

pub(super) fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What is set and what goes back to its default.
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
    /// What it does with a topic, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } | Verb::Describe { .. } | Verb::Offsets { .. } => Operation::Describe,
            Verb::Create(_) => Operation::Create,
            Verb::Alter { .. } => Operation::AlterConfigs,
            Verb::AddPartitions { .. } | Verb::ElectLeaders { .. } | Verb::Reassign(_) => Operation::Alter,
            Verb::DeleteRecords { .. } | Verb::Delete { .. } => Operation::Delete,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::List { all, json } => show::list(context, *all, *json)?,
            Verb::Describe { topics, under_replicated, offline, json } => {
                let only = show::Only { under_replicated: *under_replicated, offline: *offline };
                show::describe(context, topics, only, *json)?;
            }
            Verb::Offsets { topics, at, json } => show::offsets(context, topics, *at, *json)?,
            Verb::Create(create) => create.run(context)?,
            Verb::Alter { name, configs, unset, dry_run } => {
                change::alter(context, name, &changes(configs, unset), *dry_run)?;
            }
            Verb::AddPartitions { name, to, dry_run } => change::add_partitions(context, name, *to, *dry_run)?,
            Verb::DeleteRecords { topics, before, safety } => {
                change::delete_records(context, topics, *before, safety)?;
            }
            Verb::Delete { names, safety } => change::delete(context, names, safety)?,
            Verb::ElectLeaders { topics, unclean, safety, .. } => {
                return change::elect_leaders(context, topics, *unclean, safety);
            }
            Verb::Reassign(reassign) => return reassign.run(context),
        }
        Ok(EXIT_OK)
    }
}
