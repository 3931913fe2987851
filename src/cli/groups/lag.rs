//! `kpipe groups lag`: once, again and again, or for Prometheus.

use crate::cli::Context;
use crate::cli::listing::{or_dash, print, print_lines, right_align, say, table};
use crate::config::parse_duration;
use crate::engine::{GroupAdmin, Progress};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::metrics::{GroupLag, Metrics, Observe, Reporter};
use crate::record::{Offset, TopicPartition};
use crate::signal::Stop;
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How often an exporter looks when nobody says.
const EXPORT_EVERY: Duration = Duration::from_secs(15);
/// How many ends of a partition are remembered; when there are more, every second of them is forgotten, so that
/// what is long ago is known less exactly.
const MOST_SAMPLES: usize = 128;

/// Progress by group.
type Groups = BTreeMap<String, BTreeMap<TopicPartition, Progress>>;

/// How many records each partition is behind; where nothing was committed, all that there are
#[derive(Debug, Args)]
pub(super) struct Lag {
    /// The groups
    #[arg(required_unless_present = "all")]
    groups: Vec<String>,
    /// All groups
    #[arg(short, long, conflicts_with = "groups")]
    all: bool,
    /// Ends with exit code 1 when a partition is behind by more
    #[arg(long, value_name = "N")]
    max: Option<i64>,
    /// Shows it again and again, until a signal [with --metrics: 15s]
    #[arg(short, long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_duration)]
    watch: Option<Duration>,
    /// Serves the lags at /metrics for Prometheus, and /healthz and /readyz, instead of showing them
    #[arg(long, value_name = "[HOST:]PORT", conflicts_with_all = ["max", "json"])]
    metrics: Option<String>,
    /// A JSON object a partition
    #[arg(short = 'J', long)]
    json: bool,
}

impl Lag {
    pub(super) fn run(&self, context: &Context, admin: &GroupAdmin) -> Result<u8> {
        if self.metrics.is_some() {
            return self.export(&context.metrics, admin, &context.stop);
        }
        loop {
            let groups = self.look(admin)?;
            if self.json {
                print_lines(groups.iter().flat_map(|(group, progress)| {
                    progress.iter().map(move |(of, progress)| lag_json(Some(group), of, progress))
                }))?;
            } else {
                show(&groups)?;
            }
            let worst = groups.values().flat_map(BTreeMap::values).map(Progress::lag).max().unwrap_or(0);
            if let Some(max) = self.max.filter(|max| worst > *max) {
                say(context, &format!("a partition is {worst} records behind, more than {max}"));
                return Ok(EXIT_FAILED);
            }
            match self.watch {
                Some(every) if !context.stop.wait(every) => {}
                _ => return Ok(EXIT_OK),
            }
        }
    }

    fn look(&self, admin: &GroupAdmin) -> Result<Groups> {
        if self.all {
            return admin.progress_of_all();
        }
        let of = |group: &String| {
            let described = admin.describe(group)?;
            let assigned: Vec<TopicPartition> =
                described.members.into_iter().flat_map(|member| member.assigned).collect();
            Ok((group.clone(), admin.progress(group, &assigned)?))
        };
        self.groups.iter().map(of).collect()
    }

    /// Looks again and again until a signal; a cluster that is out of reach for a while is no end.
    fn export(&self, metrics: &Metrics, admin: &GroupAdmin, stop: &Stop) -> Result<u8> {
        let observe = Observe { metrics: self.metrics.clone(), ..Observe::default() };
        let _reporter = Reporter::start(&observe, metrics, false)?;
        let mut history = History::default();
        loop {
            match self.look(admin) {
                Ok(groups) => {
                    let now = Instant::now();
                    metrics.group_lags(&history.lags(&groups, now));
                    metrics.ready(true);
                }
                Err(Error::Stopped) => return Ok(EXIT_OK),
                Err(error) => {
                    tracing::warn!(%error, "retrying");
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
        "end": progress.end, "lag": progress.lag(),
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
                progress.end.to_string(),
                progress.lag().to_string(),
            ]);
        }
    }
    right_align(&mut table, 2..6);
    print(&table.to_string())
}

/// Where partitions ended, and when: what tells for how long a group is behind.
#[derive(Default)]
struct History {
    ends: HashMap<TopicPartition, VecDeque<(Instant, Offset)>>,
}

impl History {
    /// Notes where partitions end now; how far behind the groups are, in records and in time.
    fn lags(&mut self, groups: &Groups, now: Instant) -> Vec<GroupLag> {
        for (place, progress) in groups.values().flatten() {
            let samples = self.ends.entry(place.clone()).or_default();
            if samples.back().is_none_or(|(at, _)| *at < now) {
                samples.push_back((now, progress.end));
            }
            if samples.len() > MOST_SAMPLES {
                let mut count = 0;
                samples.retain(|_| {
                    count += 1;
                    count % 2 == 0
                });
            }
        }
        self.ends.retain(|place, _| groups.values().any(|progress| progress.contains_key(place)));
        let of_group = |(group, progress): (&String, &BTreeMap<TopicPartition, Progress>)| {
            let lag = |(of, progress): (&TopicPartition, &Progress)| GroupLag {
                group: group.clone(),
                topic: of.topic.clone(),
                partition: of.partition,
                records: progress.lag(),
                seconds: self.behind(of, progress, now),
            };
            progress.iter().map(lag).collect::<Vec<_>>()
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// How long ago the partition ended where the group is: between the two looks around that, in proportion.
    fn behind(&self, place: &TopicPartition, progress: &Progress, now: Instant) -> Option<f64> {
        if progress.lag() == 0 {
            return Some(0.0);
        }
        let at = progress.committed?.offset;
        let samples = self.ends.get(place)?;
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
    use crate::record::Position;

    #[test]
    fn a_group_is_behind_since_the_partition_ended_where_it_is() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let place = TopicPartition::new("t", 0);
        let groups = |committed: Offset, end: Offset| -> Groups {
            let committed = Some(Position { offset: committed, leader_epoch: None });
            [("g".to_owned(), [(place.clone(), Progress { committed, first: 0, end })].into())].into()
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
        assert!(history.ends[&place].len() <= MOST_SAMPLES);
        let left = history.lags(&Groups::new(), at(2_000));
        assert!(left.is_empty() && history.ends.is_empty(), "what is gone is forgotten");
    }
}
