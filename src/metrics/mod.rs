//! What a run counts, once; shown as a stats line, a progress line and Prometheus text (`docs/monitoring`).
//!
//! Nothing here is touched a record: only batches, requests and flushes are counted.

mod counters;
mod expose;
mod progress;
mod reporter;
mod stats;

pub use progress::Messages;
pub use reporter::{Observe, Reporter};

use counters::{Consumed, GroupLags, Produced, Registering, Requests};

use crate::engine::Observer;
use crate::error::Error;
use crate::record::{BrokerId, Offset, TopicPartition};
use kafka_protocol::messages::ApiKey;
use prometheus::{Registry, TextEncoder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// With more partitions than this, lag is exported as one sum per topic, which limits the number of time series.
const MAX_PARTITION_SERIES: usize = 10_000;
/// How far a reader is in a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// The offset of the next record, as of the last fetch.
    end: Option<i64>,
    /// The offset of the next record to be handled.
    position: Option<i64>,
}

/// A group's lag in a partition, for an exporter.
#[derive(Debug, Clone)]
pub struct GroupLag {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// How many records it is behind.
    pub records: i64,
    /// And for how long, as far as it was watched.
    pub seconds: Option<f64>,
}

/// The counters of a run; cheap to share.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    names: BTreeSet<String>,
    requests: Requests,
    produced: Produced,
    consumed: Consumed,
    group_lags: GroupLags,
    progress: Mutex<BTreeMap<TopicPartition, Progress>>,
    /// Whether a cluster was reached and the command is at work.
    ready: std::sync::atomic::AtomicBool,
    /// All of the input, when it is known: bytes of files.
    expected: std::sync::atomic::AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registering::default();
        Self(Arc::new(Inner {
            requests: Requests::register(&registry),
            produced: Produced::register(&registry),
            consumed: Consumed::register(&registry),
            group_lags: GroupLags::register(&registry),
            progress: Mutex::default(),
            ready: false.into(),
            expected: 0.into(),
            names: registry.names.into_inner(),
            registry: registry.registry,
        }))
    }
}

/// A broker as labels name it: by its ID, once that is known.
fn label(broker: Option<BrokerId>) -> String {
    broker.map_or_else(|| "bootstrap".to_owned(), |id| id.to_string())
}

impl Observer for Metrics {
    fn connected(&self, broker: Option<BrokerId>, reached: bool) {
        let outcome = if reached { "opened" } else { "failed" };
        self.0.requests.connections.with_label_values(&[label(broker).as_str(), outcome]).inc();
    }

    fn answered(&self, broker: Option<BrokerId>, api: ApiKey, after: Duration) {
        let labels = [label(broker), format!("{api:?}")];
        self.0.requests.durations.with_label_values(&labels).observe(after.as_secs_f64());
    }

    fn retried(&self, error: &Error) {
        self.0.requests.retries.with_label_values(&[error.name()]).inc();
    }

    fn batch_filled(&self, bytes: usize) {
        self.0.produced.batch_bytes.with_label_values(&["raw"]).inc_by(bytes as u64);
    }

    fn batch_ready(&self, bytes: usize) {
        self.0.produced.batch_bytes.with_label_values(&["compressed"]).inc_by(bytes as u64);
    }

    fn fetched(&self, of: &TopicPartition, position: Offset, high_watermark: Offset) {
        let mut progress = self.progress();
        let progress = progress.entry(of.clone()).or_default();
        progress.end = Some(high_watermark);
        progress.position.get_or_insert(position);
    }

    fn commit_failed(&self, error: &Error) {
        self.0.consumed.commit_failures.with_label_values(&[error.name()]).inc();
    }
}

impl Metrics {
    /// A batch was acknowledged.
    pub fn delivered(&self, records: u64) {
        self.0.produced.records.inc_by(records);
        self.0.produced.batches.inc();
    }

    /// Records were not delivered.
    pub fn failed(&self, records: u64, error: &Error) {
        self.0.produced.failed.with_label_values(&[error.name()]).inc_by(records);
    }

    /// So much of the input was read.
    pub fn read(&self, bytes: usize) {
        self.0.produced.input_bytes.inc_by(bytes as u64);
    }

    /// The input has so many bytes, all in all.
    pub fn expect(&self, bytes: u64) {
        self.0.expected.store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    /// Records of a batch were handed to the output, which goes on at `position`.
    pub fn consumed(&self, of: &TopicPartition, records: u64, position: i64) {
        self.0.consumed.records.inc_by(records);
        self.0.consumed.batches.inc();
        self.progress().entry(of.clone()).or_default().position = Some(position);
    }

    /// Reading of these begins, or goes on, for a member of a group.
    pub fn assigned(&self, count: usize) {
        self.0.consumed.rebalances.inc();
        self.0.consumed.assigned.add(count as i64);
    }

    /// Others read these from now on.
    pub fn revoked(&self, partitions: &[TopicPartition]) {
        self.0.consumed.rebalances.inc();
        self.0.consumed.assigned.sub(partitions.len() as i64);
        self.progress().retain(|place, _| !partitions.contains(place));
    }

    /// stdout took so many bytes.
    pub fn written(&self, bytes: u64) {
        self.0.consumed.bytes.inc_by(bytes);
    }

    /// The coordinator took a commit.
    pub fn committed(&self) {
        self.0.consumed.commits.inc();
    }

    /// The cluster is reached and the command at work, or not any more.
    pub fn ready(&self, ready: bool) {
        self.0.ready.store(ready, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The lags of all groups, as they are now; those of before are forgotten.
    pub fn group_lags(&self, lags: &[GroupLag]) {
        self.0.group_lags.records.reset();
        self.0.group_lags.seconds.reset();
        let sum = lags.len() > MAX_PARTITION_SERIES;
        for lag in lags {
            let partition = if sum { "all".to_owned() } else { lag.partition.to_string() };
            let labels = [lag.group.as_str(), &lag.topic, &partition];
            self.0.group_lags.records.with_label_values(&labels).add(lag.records);
            if let Some(seconds) = lag.seconds {
                let longest = self.0.group_lags.seconds.with_label_values(&labels);
                longest.set(longest.get().max(seconds));
            }
        }
        self.0.group_lags.scraped.set(crate::record::now() as f64 / 1_000.0);
    }

    /// The groups' lags could not be looked up.
    pub fn group_lags_failed(&self, error: &Error) {
        self.0.group_lags.errors.with_label_values(&[error.name()]).inc();
    }

    fn progress(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Progress>> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lag of each partition that is read, as far as it is known.
    fn lags(&self) -> Vec<(TopicPartition, i64)> {
        let progress = self.progress();
        let known = progress.iter().filter_map(|(place, p)| Some((place.clone(), (p.end? - p.position?).max(0))));
        known.collect()
    }

    /// All of it as Prometheus' text format has it.
    pub fn text(&self) -> String {
        let lags = self.lags();
        self.0.consumed.lag.reset();
        let sum = lags.len() > MAX_PARTITION_SERIES;
        for (TopicPartition { topic, partition }, lag) in lags {
            let partition = if sum { "all".to_owned() } else { partition.to_string() };
            self.0.consumed.lag.with_label_values(&[&*topic, &partition]).add(lag);
        }
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_default()
    }

    /// The names of all metrics, whether they have values yet or not.
    pub fn names() -> BTreeSet<String> {
        Self::default().0.names.clone()
    }
}

/// How long a duration is, for people.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 3600 {
        format!("{}:{:02}", seconds / 60, seconds % 60)
    } else {
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cluster_drowns_prometheus() {
        let metrics = Metrics::default();
        let lag = |partition| GroupLag {
            group: "g".to_owned(),
            topic: "t".into(),
            partition,
            records: 2,
            seconds: Some(f64::from(partition)),
        };
        let some: Vec<GroupLag> = (0..3).map(lag).collect();
        metrics.group_lags(&some);
        assert_eq!(metrics.text().matches("kpipe_group_lag_records{").count(), 3);
        let many: Vec<GroupLag> = (0..=MAX_PARTITION_SERIES as i32).map(lag).collect();
        metrics.group_lags(&many);
        let text = metrics.text();
        assert!(text.contains("kpipe_group_lag_records{group=\"g\",partition=\"all\",topic=\"t\"} 20002"), "{text}");
        assert!(text.contains("kpipe_group_lag_seconds{group=\"g\",partition=\"all\",topic=\"t\"} 10000"), "{text}");
    }

    #[test]
    fn what_goes_to_others_is_no_lag_of_ours() {
        let metrics = Metrics::default();
        let of = |partition| TopicPartition::new("t", partition);
        metrics.assigned(2);
        for partition in 0..2 {
            metrics.fetched(&of(partition), 0, 10);
        }
        metrics.consumed(&of(0), 4, 4);
        assert_eq!(metrics.lags().iter().map(|(_, lag)| *lag).collect::<Vec<_>>(), [6, 10]);
        metrics.revoked(&[of(0)]);
        assert_eq!(metrics.lags(), [(of(1), 10)]);
        assert!(metrics.text().contains("kpipe_assigned_partitions 1"));
    }
}
