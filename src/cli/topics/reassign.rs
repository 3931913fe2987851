//! `kpipe topics reassign`: a plan that can be read and changed, carried out, watched, cancelled.

use super::parse_broker;
use super::spread::spread;
use crate::cli::Context;
use crate::cli::guard::{Decision, Guard};
use crate::cli::listing::{print, print_lines, read_json_lines, right_align, say, table};
use crate::cli::selection::{TopicSelection, named, parse_selection};
use crate::config::parse_duration;
use crate::engine::{Topic, no_such_partition};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::record::{BrokerId, TopicPartition};
use crate::text::counted;
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe topics reassign plan orders --to 1,2,3 >plan.jsonl   # review and edit it\n  \
    kpipe topics reassign execute plan.jsonl --yes >undo.jsonl # the plan that reverts it\n  \
    kpipe topics reassign progress --wait 10m\n  \
    kpipe topics reassign cancel --yes")]
pub(super) struct Reassign {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a plan that balances partitions over brokers and racks with as few moves as possible
    Plan {
        /// Topics, or topic partitions
        #[arg(required = true, value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// Brokers to use [default: all live brokers]
        #[arg(long, value_delimiter = ',', value_name = "BROKER,...", value_parser = parse_broker)]
        to: Vec<BrokerId>,
        /// Replication factor [default: unchanged]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        replication_factor: Option<u16>,
    },
    /// Start the reassignments of a plan; prints the plan that reverts them
    Execute {
        /// Plan file; - for stdin
        plan: PathBuf,
        #[command(flatten)]
        guard: Guard,
    },
    /// Show the reassignments in progress
    Progress {
        /// Wait until no reassignments are left; exit code 1 if that takes longer than DURATION
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        wait: Option<Duration>,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Cancel reassignments in progress; replicas stay on their original brokers
    Cancel {
        /// Topics, or topic partitions [default: all that are moving]
        #[arg(value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        #[command(flatten)]
        guard: Guard,
    },
}

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    topic: String,
    partition: i32,
    /// The preferred leader comes first.
    replicas: Vec<BrokerId>,
    /// The present replicas, for the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<BrokerId>>,
}

impl Reassign {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        match &self.verb {
            Verb::Plan { topics, to, replication_factor } => plan(context, topics, to, *replication_factor)?,
            Verb::Execute { plan, guard } => execute(context, plan, guard)?,
            Verb::Progress { wait, json } => return progress(context, *wait, *json),
            Verb::Cancel { topics, guard } => cancel(context, topics, guard)?,
        }
        Ok(EXIT_OK)
    }
}

fn plan(context: &Context, topics: &[TopicSelection], wanted: &[BrokerId], factor: Option<u16>) -> Result<()> {
    let admin = context.admin("topics reassign")?;
    let alive = admin.brokers()?.brokers.into_iter().filter(|broker| !broker.fenced);
    let racks: BTreeMap<BrokerId, Option<String>> = alive.map(|broker| (broker.id, broker.rack)).collect();
    if let Some(missing) = wanted.iter().find(|id| !racks.contains_key(id)) {
        return Err(Error::ClusterState(format!("--to: broker {missing} is not alive (see `kpipe cluster brokers`)")));
    }
    let racks: BTreeMap<BrokerId, Option<String>> =
        racks.into_iter().filter(|(id, _)| wanted.is_empty() || wanted.contains(id)).collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.topic.clone()).collect();
    let states = admin.topics(Some(&names))?.found;
    let count = |name: &str| states.iter().find(|topic| topic.name == name).map_or(0, |topic| topic.partitions.len());
    let partitions = named(topics, |topic| Ok(count(topic)))?;
    let mut current = replicas(&states);
    current.retain(|at, _| partitions.contains(at));
    let most = factor.map_or_else(|| current.values().map(Vec::len).max().unwrap_or(0), usize::from);
    if most > racks.len() {
        return Err(Error::ClusterState(format!(
            "{most} replicas need {most} brokers, but only {} are available",
            racks.len()
        )));
    }
    let steps = spread(&current, &racks, factor.map(usize::from)).into_iter().filter_map(|(at, replicas)| {
        let from = current.get(&at)?.clone();
        let step = Step { topic: at.topic.to_string(), partition: at.partition, replicas, from: Some(from) };
        (step.from.as_ref() != Some(&step.replicas)).then_some(step)
    });
    let steps: Vec<Step> = steps.collect();
    print_lines(steps.iter().map(|step| json!(step)))?;
    say(context, &format!("{} of {} would change", steps.len(), counted(current.len() as u64, "partition")));
    Ok(())
}

fn ids(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The replicas of each partition.
fn replicas(topics: &[Topic]) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
    let partitions = topics.iter().flat_map(Topic::named_partitions);
    partitions.map(|(at, partition)| (at, partition.replicas.clone().unwrap_or_default())).collect()
}

fn execute(context: &Context, file: &Path, guard: &Guard) -> Result<()> {
    let steps: Vec<Step> = read_json_lines(file)?;
    let admin = context.admin("topics reassign")?;
    let names: std::collections::BTreeSet<String> = steps.iter().map(|step| step.topic.clone()).collect();
    let states = admin.topics(Some(&names.into_iter().collect::<Vec<_>>()))?.found;
    let current = replicas(&states);
    let mut undo = Vec::new();
    let mut to = BTreeMap::new();
    for step in steps {
        let at = TopicPartition::new(step.topic.as_str(), step.partition);
        let Some(before) = current.get(&at) else {
            let count = current.keys().filter(|other| other.topic == at.topic).count();
            return Err(no_such_partition(&at, count));
        };
        if *before != step.replicas {
            undo.push(Step { replicas: before.clone(), from: Some(step.replicas.clone()), ..step.clone() });
            to.insert(at, Some(step.replicas));
        }
    }
    if to.is_empty() {
        say(context, "nothing to move: the plan matches the current assignment");
        return Ok(());
    }
    let mut moves = table(&["TOPIC", "PARTITION", "FROM", "TO"]);
    for step in &undo {
        let (from, to) = (ids(&step.replicas), ids(step.from.as_deref().unwrap_or_default()));
        moves.add_row([step.topic.clone(), step.partition.to_string(), from, to]);
    }
    right_align(&mut moves, [1]);
    let what = counted(to.len() as u64, "partition");
    if guard.decide(context, "topics reassign execute", "move", &what, Some(&moves))? == Decision::DryRun {
        return Ok(());
    }
    admin.reassign(&to)?;
    print_lines(undo.iter().map(|step| json!(step)))?;
    say(context, &format!("moving {what} (kpipe topics reassign progress --wait 10m waits for completion)"));
    Ok(())
}

fn progress(context: &Context, wait: Option<Duration>, json: bool) -> Result<u8> {
    let admin = context.admin("topics reassign")?;
    let deadline = wait.map(|limit| Instant::now() + limit);
    let moving = loop {
        let moving = admin.reassignments()?;
        if moving.is_empty() || deadline.is_none_or(|at| Instant::now() >= at) {
            break moving;
        }
        if context.stop.wait(LOOK_EVERY) {
            return Err(Error::Stopped);
        }
    };
    let failed = wait.is_some() && !moving.is_empty();
    if json {
        print_lines(moving.iter().map(|(TopicPartition { topic, partition }, moving)| {
            json!({
                "topic": &**topic, "partition": partition, "replicas": moving.replicas, "adding": moving.adding,
                "removing": moving.removing,
            })
        }))?;
    } else {
        let mut table = table(&["TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING"]);
        for (TopicPartition { topic, partition }, moving) in &moving {
            let row = [
                topic.to_string(),
                partition.to_string(),
                ids(&moving.replicas),
                ids(&moving.adding),
                ids(&moving.removing),
            ];
            table.add_row(row);
        }
        right_align(&mut table, [1]);
        print(&table.to_string())?;
    }
    Ok(if failed { EXIT_FAILED } else { EXIT_OK })
}

fn cancel(context: &Context, topics: &[TopicSelection], guard: &Guard) -> Result<()> {
    let admin = context.admin("topics reassign")?;
    let asked = if topics.is_empty() { None } else { Some(named(topics, |topic| admin.partition_count(topic))?) };
    let moving = admin.reassignments()?;
    let partitions: Vec<TopicPartition> =
        moving.into_keys().filter(|at| asked.as_ref().is_none_or(|asked| asked.contains(at))).collect();
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    if partitions.is_empty() {
        say(context, "no reassignments in progress");
        return Ok(());
    }
    let what = format!("the reassignment of {}", names.join(", "));
    if guard.decide(context, "topics reassign cancel", "cancel", &what, None)? == Decision::Proceed {
        let canceled = admin.reassign(&partitions.into_iter().map(|at| (at, None)).collect())?;
        let count = canceled.values().filter(|was_moving| **was_moving).count();
        say(context, &format!("canceled {}", counted(count as u64, "reassignment")));
    }
    Ok(())
}
