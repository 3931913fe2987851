//! `kpipe groups lag`: once, again and again, or for Prometheus.

use crate::cli::Context;
use crate::cli::listing::{or_dash, print, print_lines, report_incomplete, right_align, say, table};
use crate::config::parse_duration;
use crate::engine::native::Outage;
use crate::engine::{GroupsProgress, NativeAdmin, Progress};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::metrics::{GroupLag, Metrics, Observe, Reporter};
use crate::record::{Offset, TopicPartition};
use crate::signal::Stop;
use crate::text::counted;
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How often lag is looked up for Prometheus, unless --watch says otherwise.
const EXPORT_EVERY: Duration = Duration::from_secs(15);
/// How many end offsets of a partition are remembered. When there are more, every second of them is forgotten, so that
/// the distant past is known less exactly.
const MOST_SAMPLES: usize = 128;

/// Progress by group.
type Groups = BTreeMap<String, BTreeMap<TopicPartition, Progress>>;

#[derive(Debug, Args)]
pub(super) struct Lag {
    /// Group IDs
    #[arg(required_unless_present = "all")]
    groups: Vec<String>,
    /// All groups
    #[arg(short, long, conflicts_with = "groups")]
    all: bool,
    /// Exit with code 1 if the lag of a partition exceeds N
    #[arg(long, value_name = "N")]
    max: Option<i64>,
    /// Repeat every INTERVAL until interrupted [default: 2s; 15s with --metrics and without --watch]
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_duration)]
    watch: Option<Duration>,
    /// Serve the lag at /metrics for Prometheus, with /healthz and /readyz, instead of printing it
    #[arg(long, value_name = "[HOST:]PORT", conflicts_with_all = ["max", "json"])]
    metrics: Option<String>,
    /// Print one JSON object per partition
    #[arg(short = 'J', long)]
    json: bool,
}

impl Lag {
    pub(super) fn run(&self, context: &Context, admin: &NativeAdmin) -> Result<u8> {
        if self.metrics.is_some() {
            return self.export(&context.metrics, admin, &context.stop);
        }
        loop {
            let found = self.look_up(admin)?;
            self.report_uncommitted(context, &found.groups);
            if self.json {
                print_lines(found.groups.iter().flat_map(|(group, progress)| {
                    progress.iter().map(move |(of, progress)| lag_json(Some(group), of, progress))
                }))?;
            } else {
                show(&found.groups)?;
            }
            let code = report_incomplete(&found.incomplete);
            let worst = found.groups.values().flat_map(BTreeMap::values).filter_map(Progress::lag).max().unwrap_or(0);
            if let Some(max) = self.max.filter(|max| worst > *max) {
                let worst = counted(worst.unsigned_abs(), "record");
                say(context, &format!("a partition lags by {worst}, more than {max}"));
                return Ok(EXIT_FAILED);
            }
            match self.watch {
                Some(every) if !context.stop.wait(every) => {}
                Some(_) => return Ok(EXIT_OK),
                None => return Ok(code),
            }
        }
    }

    fn look_up(&self, admin: &NativeAdmin) -> Result<GroupsProgress> {
        if self.all {
            return admin.progress_of_all();
        }
        let mut all = GroupsProgress::default();
        for group in &self.groups {
            let members = admin.describe_group(group)?.members;
            let assigned: Vec<TopicPartition> = members.into_iter().flat_map(|member| member.assigned).collect();
            let found = admin.progress(group, &assigned)?;
            all.groups.extend(found.groups);
            all.incomplete.extend(found.incomplete);
        }
        Ok(all)
    }

    /// Names the groups whose lag counts from the beginning.
    fn report_uncommitted(&self, context: &Context, groups: &Groups) {
        for group in &self.groups {
            let committed = groups.get(group).is_some_and(|all| all.values().any(|at| at.committed.is_some()));
            if !committed {
                say(context, &format!("group {group} has no committed offsets"));
            }
        }
    }

    /// Looks the lag up until a signal, also through outages of the cluster.
    fn export(&self, metrics: &Metrics, admin: &NativeAdmin, stop: &Stop) -> Result<u8> {
        let observe = Observe { metrics: self.metrics.clone(), ..Observe::default() };
        let _reporter = Reporter::start(&observe, metrics, false)?;
        let (mut history, mut outage) = (History::default(), Outage::default());
        loop {
            match self.look_up(admin) {
                Ok(found) => {
                    found.incomplete.iter().for_each(|error| metrics.group_lags_failed(error));
                    match found.incomplete.first() {
                        Some(error) => drop(outage.failed(error)),
                        None => drop(outage.ended()),
                    }
                    metrics.group_lags(&history.lags(&found.groups, Instant::now()));
                    metrics.ready(true);
                }
                Err(Error::Stopped) => return Ok(EXIT_OK),
                Err(error) => {
                    outage.failed(&error);
                    metrics.group_lags_failed(&error);
                    metrics.ready(false);
                }
            }
            if stop.wait(self.watch.unwrap_or(EXPORT_EVERY)) {
                return Ok(EXIT_OK);
            }
        }
    }
}

pub(super) fn lag_json(group: Option<&str>, of: &TopicPartition, progress: &Progress) -> Value {
    let mut line = json!({
        "topic": &*of.topic, "partition": of.partition, "committed": progress.committed.map(|position| position.offset),
        "end": progress.end(), "lag": progress.lag(),
    });
    if let Some(group) = group {
        line["group"] = json!(group);
    }
    line
}

fn show(groups: &Groups) -> Result<()> {
    let mut table = table(&["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
    for (group, progress) in groups {
        for (of, progress) in progress {
            table.add_row([
                group.clone(),
                of.topic.to_string(),
                of.partition.to_string(),
                or_dash(progress.committed.map(|position| position.offset)),
                or_dash(progress.end()),
                or_dash(progress.lag()),
            ]);
        }
    }
    right_align(&mut table, 2..6);
    print(&table.to_string())
}

/// The end offsets of partitions over time: they show for how long a group is behind.
#[derive(Default)]
struct History {
    ends: HashMap<TopicPartition, VecDeque<(Instant, Offset)>>,
}

impl History {
    /// Remembers where partitions end now. Returns how far behind the groups are, in records and in time.
    fn lags(&mut self, groups: &Groups, now: Instant) -> Vec<GroupLag> {
        for (of, progress) in groups.values().flatten() {
            let Some(end) = progress.end() else { continue };
            let samples = self.ends.entry(of.clone()).or_default();
            if samples.back().is_none_or(|(at, _)| *at < now) {
                samples.push_back((now, end));
            }
            if samples.len() > MOST_SAMPLES {
                let mut count = 0;
                samples.retain(|_| {
                    count += 1;
                    count % 2 == 0
                });
            }
        }
        self.ends.retain(|of, _| groups.values().any(|progress| progress.contains_key(of)));
        let of_group = |(group, progress): (&String, &BTreeMap<TopicPartition, Progress>)| {
            let lag = |(of, progress): (&TopicPartition, &Progress)| {
                Some(GroupLag {
                    group: group.clone(),
                    topic: of.topic.clone(),
                    partition: of.partition,
                    records: progress.lag()?,
                    seconds: self.behind(of, progress, now),
                })
            };
            progress.iter().filter_map(lag).collect::<Vec<_>>()
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// How long ago the partition ended where the group is: between the two looks around that, in proportion.
    fn behind(&self, of: &TopicPartition, progress: &Progress, now: Instant) -> Option<f64> {
        if progress.lag()? == 0 {
            return Some(0.0);
        }
        let at = progress.committed?.offset;
        let samples = self.ends.get(of)?;
        let after = samples.partition_point(|(_, end)| *end <= at);
        let (before, then) = samples.get(after.checked_sub(1)?)?;
        let (next, end) = samples.get(after)?;
        let part = (at - then) as f64 / (end - then).max(1) as f64;
        Some((now - *before).as_secs_f64() - (*next - *before).as_secs_f64() * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Bounds;
    use crate::record::Position;

    #[test]
    fn a_group_is_behind_since_the_partition_ended_where_it_is() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let of = TopicPartition::new("t", 0);
        let groups = |committed: Offset, end: Offset| -> Groups {
            let committed = Some(Position { offset: committed, leader_epoch: None });
            [("g".to_owned(), [(of.clone(), Progress { committed, bounds: Some(Bounds { first: 0, end }) })].into())]
                .into()
        };
        let mut history = History::default();
        let mut seconds = |committed, end, now| history.lags(&groups(committed, end), at(now))[0].seconds;
        assert_eq!(seconds(90, 100, 0), None, "nobody watched when the end was 90");
        assert_eq!(seconds(100, 100, 10), Some(0.0));
        assert_eq!(seconds(100, 200, 20), Some(10.0));
        assert_eq!(seconds(150, 200, 30), Some(15.0), "half way between 10 s and 20 s");
        for now in 31..1_000 {
            seconds(150, 200 + now as i64, now);
        }
        assert!(history.ends[&of].len() <= MOST_SAMPLES);
        let left = history.lags(&Groups::new(), at(2_000));
        assert!(left.is_empty() && history.ends.is_empty(), "what is gone is forgotten");
    }
}
