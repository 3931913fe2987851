//! `kpipe topics reassign`: a plan that can be read and changed, carried out, watched, cancelled.

use super::parse_broker;
use crate::cli::Context;
use crate::cli::listing::{confirm, print, print_lines, read_json_lines, right_align, say, table};
use crate::cli::places::{Places, named, parse_places};
use crate::config::parse_duration;
use crate::engine::{Topic, no_such_partition};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::record::{BrokerId, TopicPartition};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Moves partitions to other brokers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe topics reassign plan orders --to 1,2,3 >plan.jsonl   # review it, change it\n  \
    kpipe topics reassign execute plan.jsonl --yes >undo.jsonl      # what undoes it\n  \
    kpipe topics reassign progress --wait 10m\n  \
    kpipe topics reassign cancel --yes")]
pub(super) struct Reassign {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes JSON lines that spread partitions evenly over brokers and racks, and move no more than that takes
    Plan {
        /// Topics, or some of their partitions
        #[arg(required = true, value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// The brokers [default: all that are up]
        #[arg(long, value_delimiter = ',', value_name = "BROKER,..", value_parser = parse_broker)]
        to: Vec<BrokerId>,
        /// How many replicas [default: as many as there are]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        replication_factor: Option<u16>,
    },
    /// Begins to move what a plan says; writes the plan that undoes it
    Execute {
        /// The plan; - is stdin
        plan: PathBuf,
        /// Shows what would move
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// What moves now
    Progress {
        /// Waits until nothing moves; exit code 1 when that takes longer
        #[arg(long, value_name = "LIMIT", value_parser = parse_duration)]
        wait: Option<Duration>,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Leaves what moves where it was
    Cancel {
        /// Topics, or some of their partitions [default: all that move]
        #[arg(value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// Shows what would be cancelled
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
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
    /// Where it is, for the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<BrokerId>>,
}

impl Reassign {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::Plan { topics, to, replication_factor } => plan(context, topics, to, *replication_factor)?,
            Verb::Execute { plan, dry_run, yes } => execute(context, plan, *dry_run, *yes)?,
            Verb::Progress { wait, json } => return Ok(progress(context, *wait, *json)?),
            Verb::Cancel { topics, dry_run, yes } => cancel(context, topics, *dry_run, *yes)?,
        }
        Ok(EXIT_OK)
    }
}

fn plan(context: &Context, topics: &[Places], wanted: &[BrokerId], factor: Option<u16>) -> Result<()> {
    let admin = context.admin("topics reassign")?;
    let alive = admin.brokers()?.brokers.into_iter().filter(|broker| !broker.fenced);
    let racks: BTreeMap<BrokerId, Option<String>> = alive.map(|broker| (broker.id, broker.rack)).collect();
    if let Some(missing) = wanted.iter().find(|id| !racks.contains_key(id)) {
        return Err(Error::Usage(format!(
            "--to: there is no broker {missing} that is up: see `kpipe cluster brokers`"
        )));
    }
    let racks: BTreeMap<BrokerId, Option<String>> =
        racks.into_iter().filter(|(id, _)| wanted.is_empty() || wanted.contains(id)).collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.topic.clone()).collect();
    let states = admin.topics(Some(&names), false)?;
    let count = |name: &str| states.iter().find(|topic| topic.name == name).map_or(0, |topic| topic.partitions.len());
    let places = named(topics, |topic| Ok(count(topic)))?;
    let mut current = replicas(&states);
    current.retain(|at, _| places.contains(at));
    let most = factor.map_or_else(|| current.values().map(Vec::len).max().unwrap_or(0), usize::from);
    if most > racks.len() {
        return Err(Error::Usage(format!("{most} replicas need as many brokers; there are {}", racks.len())));
    }
    let steps = spread(&current, &racks, factor.map(usize::from)).into_iter().filter_map(|(at, replicas)| {
        let from = current.get(&at)?.clone();
        let step = Step { topic: at.topic.to_string(), partition: at.partition, replicas, from: Some(from) };
        (step.from.as_ref() != Some(&step.replicas)).then_some(step)
    });
    let steps: Vec<Step> = steps.collect();
    print_lines(steps.iter().map(|step| json!(step)))?;
    say(context, &format!("{} of {} partitions would change", steps.len(), current.len()));
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

/// Replicas for each partition, so that each broker keeps as many as any other, give or take one, and leads as many;
/// those that are well where they are stay. Replicas of a partition stand in different racks as far as there are some.
fn spread(
    current: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    racks: &BTreeMap<BrokerId, Option<String>>,
    factor: Option<usize>,
) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
    let wanted = |replicas: &Vec<BrokerId>| factor.unwrap_or(replicas.len());
    let total: usize = current.values().map(wanted).sum();
    let fair = total.div_ceil(racks.len().max(1));
    let mut load: HashMap<BrokerId, usize> = racks.keys().map(|id| (*id, 0)).collect();
    let mut kept: BTreeMap<TopicPartition, Vec<BrokerId>> = BTreeMap::new();
    for (at, replicas) in current {
        let mut stay = Vec::new();
        for id in replicas.iter().take(wanted(replicas)) {
            if let Some(count) = load.get_mut(id).filter(|count| **count < fair) {
                *count += 1;
                stay.push(*id);
            }
        }
        kept.insert(at.clone(), stay);
    }
    for (at, replicas) in &mut kept {
        while replicas.len() < wanted(&current[at]) {
            let rack_used =
                |id: &BrokerId| racks[id].is_some() && replicas.iter().any(|other| racks[other] == racks[id]);
            let free = racks.keys().filter(|id| !replicas.contains(id));
            let Some(best) = free.min_by_key(|id| (rack_used(id), load[*id], **id)).copied() else { break };
            *load.entry(best).or_default() += 1;
            replicas.push(best);
        }
    }
    even_out(&mut kept, &mut load, racks);
    // The first of each leads: whoever leads fewest so far, the present leader where that is no worse.
    let mut leads: HashMap<BrokerId, usize> = HashMap::new();
    for replicas in kept.values_mut() {
        let fewest = replicas.iter().map(|id| leads.get(id).copied().unwrap_or(0)).min().unwrap_or(0);
        let leader = replicas.iter().position(|id| leads.get(id).copied().unwrap_or(0) == fewest).unwrap_or(0);
        if !replicas.is_empty() {
            replicas[..=leader].rotate_right(1);
            *leads.entry(replicas[0]).or_default() += 1;
        }
    }
    kept
}

fn execute(context: &Context, file: &Path, dry_run: bool, yes: bool) -> Result<()> {
    let steps: Vec<Step> = read_json_lines(file)?;
    let admin = context.admin("topics reassign")?;
    let names: std::collections::BTreeSet<String> = steps.iter().map(|step| step.topic.clone()).collect();
    let states = admin.topics(Some(&names.into_iter().collect::<Vec<_>>()), false)?;
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
        say(context, "everything is where the plan wants it");
        return Ok(());
    }
    let moves: Vec<String> = undo
        .iter()
        .map(|s| {
            format!(
                "{}/{} from {} to {}",
                s.topic,
                s.partition,
                ids(&s.replicas),
                ids(s.from.as_deref().unwrap_or_default())
            )
        })
        .collect();
    if dry_run {
        for line in &moves {
            say(context, &format!("would move {line}"));
        }
        return Ok(());
    }
    if !yes {
        confirm("topics reassign execute", &format!("Move {}?", moves.join(", ")))?;
    }
    admin.reassign(&to)?;
    print_lines(undo.iter().map(|step| json!(step)))?;
    say(context, &format!("{} partitions move; kpipe topics reassign progress --wait 10m waits for them", to.len()));
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

fn cancel(context: &Context, topics: &[Places], dry_run: bool, yes: bool) -> Result<()> {
    let admin = context.admin("topics reassign")?;
    let asked = if topics.is_empty() { None } else { Some(named(topics, |topic| admin.partition_count(topic))?) };
    let moving = admin.reassignments()?;
    let places: Vec<TopicPartition> =
        moving.into_keys().filter(|at| asked.as_ref().is_none_or(|asked| asked.contains(at))).collect();
    let names: Vec<String> = places.iter().map(ToString::to_string).collect();
    if places.is_empty() {
        say(context, "nothing moves");
        return Ok(());
    }
    if dry_run {
        say(context, &format!("would leave {} where they were", names.join(", ")));
        return Ok(());
    }
    if !yes {
        confirm("topics reassign cancel", &format!("Leave {} where they were?", names.join(", ")))?;
    }
    let cancelled = admin.reassign(&places.into_iter().map(|at| (at, None)).collect())?;
    say(context, &format!("cancelled {} moves", cancelled.values().filter(|was| **was).count()));
    Ok(())
}

/// Moves replicas from brokers that keep most to those that keep fewest, as long as that brings them nearer and puts
/// no two replicas of a partition into one rack that stood in two.
fn even_out(
    kept: &mut BTreeMap<TopicPartition, Vec<BrokerId>>,
    load: &mut HashMap<BrokerId, usize>,
    racks: &BTreeMap<BrokerId, Option<String>>,
) {
    loop {
        let mut by_load: Vec<BrokerId> = racks.keys().copied().collect();
        by_load.sort_by_key(|id| (load[id], *id));
        let pairs = by_load.iter().rev().flat_map(|most| by_load.iter().map(move |least| (*most, *least)));
        let move_from_to = pairs.filter(|(most, least)| load[most] > load[least] + 1).find_map(|(most, least)| {
            let fits = |ids: &Vec<BrokerId>| {
                let rest = || ids.iter().filter(|id| **id != most);
                let in_rack = |of: BrokerId| racks[&of].is_some() && rest().any(|id| racks[id] == racks[&of]);
                ids.contains(&most) && !ids.contains(&least) && (!in_rack(least) || in_rack(most))
            };
            kept.iter().find(|(_, ids)| fits(ids)).map(|(at, _)| (at.clone(), most, least))
        });
        let Some((at, most, least)) = move_from_to else { return };
        for id in kept.get_mut(&at).into_iter().flatten().filter(|id| **id == most) {
            *id = least;
        }
        *load.entry(most).or_default() -= 1;
        *load.entry(least).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(replicas: &[&[i32]]) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
        replicas
            .iter()
            .enumerate()
            .map(|(p, ids)| (TopicPartition::new("t", p as i32), ids.iter().copied().map(BrokerId).collect()))
            .collect()
    }

    fn racks(of: &[(i32, &str)]) -> BTreeMap<BrokerId, Option<String>> {
        of.iter().map(|(id, rack)| (BrokerId(*id), Some((*rack).to_owned()))).collect()
    }

    #[test]
    fn what_is_well_spread_stays() {
        let current = places(&[&[1, 2], &[2, 3], &[3, 1]]);
        assert_eq!(spread(&current, &racks(&[(1, "a"), (2, "b"), (3, "c")]), None), current);
    }

    #[test]
    fn replicas_stand_in_different_racks() {
        let spread =
            spread(&places(&[&[1], &[1], &[1], &[1]]), &racks(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]), Some(2));
        for ids in spread.values() {
            assert_ne!(ids[0].0 <= 2, ids[1].0 <= 2, "{spread:?}");
        }
    }

    proptest! {
        #[test]
        fn every_broker_keeps_and_leads_its_share(
            partitions in 1..30usize, brokers in 1..7i32, factor in 1..4usize, seed in any::<u64>()
        ) {
            let factor = factor.min(brokers as usize);
            let mut random = fastrand::Rng::with_seed(seed);
            let anywhere = || {
                let mut ids: Vec<i32> = (1..=brokers).collect();
                random.shuffle(&mut ids);
                ids.truncate(factor);
                ids
            };
            let lists: Vec<Vec<i32>> = std::iter::repeat_with(anywhere).take(partitions).collect();
            let current = places(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let all = (1..=brokers).map(|id| (BrokerId(id), None)).collect();
            let spread = spread(&current, &all, None);
            let mut kept: HashMap<BrokerId, usize> = HashMap::new();
            for ids in spread.values() {
                prop_assert_eq!(ids.len(), factor);
                let mut distinct = ids.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), factor);
                ids.iter().for_each(|id| *kept.entry(*id).or_default() += 1);
            }
            let counts: Vec<usize> = (1..=brokers).map(|id| kept.get(&BrokerId(id)).copied().unwrap_or(0)).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}
