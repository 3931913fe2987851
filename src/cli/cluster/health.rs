//! `kpipe cluster health`: problems of a cluster, for people and for scripts.

use crate::cli::Context;
use crate::cli::listing::{print_lines, say};
use crate::config::parse_duration;
use crate::engine::{Broker, ConfigEntry, Configured, Listing, NativeAdmin, Partition, Topic};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::record::BrokerId;
use crate::text::counted;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often `--wait` checks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A quorum node that is behind for longer, in milliseconds, is a problem.
const QUORUM_BEHIND: i64 = 10_000;
/// A file system with a smaller share of free space is a problem.
const SPACE_LEFT: f64 = 0.05;
/// How many partitions are named for one reason.
const NAMED: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Health {
    /// Wait until the cluster reaches this state
    #[arg(long, value_name = "STATE")]
    wait: Option<Wanted>,
    /// Maximum time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration, requires = "wait")]
    timeout: Duration,
    /// Print one JSON object per reason
    #[arg(short = 'J', long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wanted {
    /// No problem is found
    Healthy,
}

/// A problem.
struct Reason {
    name: &'static str,
    count: usize,
    text: String,
}

impl Health {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let deadline = self.wait.map(|Wanted::Healthy| Instant::now() + self.timeout);
        let mut admin = None;
        let reasons = loop {
            let is_last = deadline.is_none_or(|at| Instant::now() >= at);
            match look(context, &mut admin) {
                Ok(reasons) if reasons.is_empty() || is_last => break reasons,
                Err(error) if is_last || !error.is_transient() => return Err(error),
                Ok(_) => {}
                // A cluster that is not there yet is what is waited for.
                Err(error) => {
                    tracing::info!(%error, "checking again");
                    admin = None;
                }
            }
            if context.stop.wait(LOOK_EVERY) {
                return Err(Error::Stopped);
            }
        };
        if self.json {
            print_lines(reasons.iter().map(|r| json!({ "reason": r.name, "count": r.count, "text": r.text })))?;
        } else {
            for reason in &reasons {
                say(context, &reason.text);
            }
            if reasons.is_empty() {
                say(context, "healthy");
            }
        }
        Ok(if reasons.is_empty() { EXIT_OK } else { EXIT_FAILED })
    }
}

fn look(context: &Context, admin: &mut Option<NativeAdmin>) -> Result<Vec<Reason>> {
    let admin = match admin {
        Some(admin) => admin,
        None => admin.insert(context.admin("cluster health")?),
    };
    let mut reasons = Vec::new();
    let Listing { found: topics, incomplete } = admin.topics(None)?;
    if let Some(first) = incomplete.first() {
        let text = format!("{} without metadata: {first}", counted(incomplete.len() as u64, "topic"));
        reasons.push(Reason { name: "unknown-topics", count: incomplete.len(), text });
    }
    let brokers = admin.brokers()?.brokers;
    let gone = missing(&brokers, &topics);
    if !gone.is_empty() {
        let text = format!("brokers that are down: {}", listed(gone.iter().map(ToString::to_string)));
        reasons.push(Reason { name: "missing-brokers", count: gone.len(), text });
    }
    let below = below_minimum(admin, &topics)?;
    type Is<'a> = &'a dyn Fn(&str, &Partition) -> bool;
    let kinds: [(&'static str, &str, Is<'_>); 3] = [
        ("offline-partitions", "without a leader", &|_, p| p.leader.is_none()),
        ("below-min-isr", "below min.insync.replicas (acks=all is rejected)", &|topic, p| {
            p.leader.is_some() && below.get(topic).is_some_and(|min| p.in_sync_replicas.iter().flatten().count() < *min)
        }),
        ("under-replicated", "under-replicated", &|_, p| p.is_under_replicated()),
    ];
    for (name, what, is) in kinds {
        let found: Vec<String> = topics
            .iter()
            .flat_map(Topic::named_partitions)
            .filter(|(of, partition)| is(&of.topic, partition))
            .map(|(of, _)| of.to_string())
            .collect();
        if !found.is_empty() {
            let partitions = counted(found.len() as u64, "partition");
            let text = format!("{partitions} {what}: {}", listed(found.iter().cloned()));
            reasons.push(Reason { name, count: found.len(), text });
        }
    }
    quorum(admin, &mut reasons)?;
    disks(admin, &brokers, &mut reasons)?;
    Ok(reasons)
}

/// The ids of brokers that are registered, or keep replicas, and are not alive.
fn missing(brokers: &[Broker], topics: &[Topic]) -> BTreeSet<BrokerId> {
    let alive = |id: &BrokerId| brokers.iter().any(|broker| broker.id == *id && !broker.fenced);
    let named = topics.iter().flat_map(|t| &t.partitions).flat_map(|p| p.replicas.iter().flatten()).copied();
    let all: BTreeSet<BrokerId> = brokers.iter().map(|broker| broker.id).chain(named).collect();
    all.into_iter().filter(|id| !alive(id)).collect()
}

/// The `min.insync.replicas` of topics that have partitions with replicas out of sync.
fn below_minimum(admin: &NativeAdmin, topics: &[Topic]) -> Result<BTreeMap<String, usize>> {
    let hurt = topics.iter().filter(|topic| topic.partitions.iter().any(Partition::is_under_replicated));
    let hurt: Vec<Configured> = hurt.map(|topic| Configured::Topic(topic.name.clone())).collect();
    if hurt.is_empty() {
        return Ok(BTreeMap::new());
    }
    let minimum = |configs: &Vec<ConfigEntry>| {
        let found = configs.iter().find(|config| config.name == "min.insync.replicas")?;
        found.value.as_ref()?.parse().ok()
    };
    let found = admin.configs(&hurt)?;
    Ok(found
        .iter()
        .filter_map(|(of, configs)| match of {
            Configured::Topic(name) => Some((name.clone(), minimum(configs)?)),
            _ => None,
        })
        .collect())
}

fn quorum(admin: &NativeAdmin, reasons: &mut Vec<Reason>) -> Result<()> {
    let Some(quorum) = admin.quorum()? else { return Ok(()) };
    let behind = quorum.replicas.iter().filter(|replica| replica.behind_ms.is_some_and(|ms| ms > QUORUM_BEHIND));
    let named: Vec<String> = behind
        .map(|r| {
            format!(
                "{} {} ({}, {} s)",
                r.role,
                r.node,
                counted(r.lag.max(0) as u64, "record"),
                r.behind_ms.unwrap_or_default() / 1_000
            )
        })
        .collect();
    if !named.is_empty() {
        let text = format!("lagging quorum nodes: {}", listed(named.iter().cloned()));
        reasons.push(Reason { name: "quorum-lag", count: named.len(), text });
    }
    Ok(())
}

fn disks(admin: &NativeAdmin, brokers: &[Broker], reasons: &mut Vec<Reason>) -> Result<()> {
    let (mut dirs, mut silent) = (Vec::new(), Vec::new());
    for broker in brokers.iter().filter(|broker| !broker.fenced) {
        match admin.log_dirs(&[broker.id]) {
            Ok(found) => dirs.extend(found),
            // The cluster takes it for alive still.
            Err(error) if error.is_transient() => silent.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if !silent.is_empty() {
        let text = format!("unresponsive brokers: {}", listed(silent.iter().cloned()));
        reasons.push(Reason { name: "silent-brokers", count: silent.len(), text });
    }
    let offline: Vec<String> =
        dirs.iter().filter_map(|d| Some(format!("{} of broker {}", d.error.as_ref()?, d.broker))).collect();
    if !offline.is_empty() {
        let text = format!("offline log directories: {}", listed(offline.iter().cloned()));
        reasons.push(Reason { name: "offline-log-dirs", count: offline.len(), text });
    }
    let full: Vec<String> = dirs
        .iter()
        .filter_map(|d| {
            let share = d.usable? as f64 / d.total.filter(|total| *total > 0)? as f64;
            (share < SPACE_LEFT).then(|| format!("{} of broker {} has {:.1} % left", d.path, d.broker, share * 100.0))
        })
        .collect();
    if !full.is_empty() {
        let text = format!("file systems that are almost full: {}", listed(full.iter().cloned()));
        reasons.push(Reason { name: "disk-space", count: full.len(), text });
    }
    Ok(())
}

/// The first of them, and how many more.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}
