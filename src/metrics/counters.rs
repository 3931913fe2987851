//! The metrics by name, as Prometheus shows them.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Upper bounds of the buckets of request latencies, in seconds: each is half as long again as the one before.
const FIRST_BUCKET: f64 = 0.000_5;
const BUCKET_FACTOR: f64 = 1.5;
const BUCKETS: usize = 28;

/// A name that is no metric's, or is one twice, would be a mistake here: the same one in every run.
fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.unwrap_or_else(|e| unreachable!("{e}"))
}

/// A registry that is being filled, and the names in it, whether they have values yet or not.
#[derive(Default)]
pub(super) struct Registering {
    pub(super) registry: Registry,
    pub(super) names: RefCell<BTreeSet<String>>,
}

impl Registering {
    fn add<M: Collector + Clone + 'static>(&self, metric: M) -> M {
        self.names.borrow_mut().extend(metric.desc().iter().map(|desc| desc.fq_name.clone()));
        made(self.registry.register(Box::new(metric.clone())));
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(made(IntCounter::new(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(made(IntCounterVec::new(Opts::new(name, help), labels)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(made(IntGaugeVec::new(Opts::new(name, help), labels)))
    }
}

/// What all requests have in common.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) connections: IntCounterVec,
    pub(super) durations: HistogramVec,
    pub(super) retries: IntCounterVec,
}

impl Requests {
    pub(super) fn register(r: &Registering) -> Self {
        let buckets = made(prometheus::exponential_buckets(FIRST_BUCKET, BUCKET_FACTOR, BUCKETS));
        let latency = HistogramOpts::new(
            "kpipe_request_duration_seconds",
            "From sending a request to its answer; a fetch waits for records as long as fetch.max.wait.ms",
        );
        Self {
            connections: r.counters("kpipe_connections_total", "Connections tried, by outcome", &["broker", "outcome"]),
            durations: r.add(made(HistogramVec::new(latency.buckets(buckets), &["broker", "api"]))),
            retries: r.counters("kpipe_retries_total", "Requests and batches tried again, by error", &["error"]),
        }
    }
}

/// What a producer counts.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) records: IntCounter,
    pub(super) batches: IntCounter,
    pub(super) failed: IntCounterVec,
    pub(super) batch_bytes: IntCounterVec,
    pub(super) input_bytes: IntCounter,
}

impl Produced {
    pub(super) fn register(r: &Registering) -> Self {
        Self {
            records: r.counter("kpipe_produced_records_total", "Records that brokers acknowledged"),
            batches: r.counter("kpipe_produced_batches_total", "Record batches that brokers acknowledged"),
            failed: r.counters("kpipe_produce_failed_records_total", "Records not delivered, by error", &["error"]),
            batch_bytes: r.counters(
                "kpipe_produce_batch_bytes_total",
                "Bytes of record batches before and after compression",
                &["state"],
            ),
            input_bytes: r.counter("kpipe_input_bytes_total", "Bytes of input that were read"),
        }
    }
}

/// What a consumer counts.
#[derive(Debug)]
pub(super) struct Consumed {
    pub(super) records: IntCounter,
    pub(super) batches: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) lag: IntGaugeVec,
    pub(super) assigned: IntGauge,
    pub(super) rebalances: IntCounter,
    pub(super) commits: IntCounter,
    pub(super) commit_failures: IntCounterVec,
}

impl Consumed {
    pub(super) fn register(r: &Registering) -> Self {
        Self {
            records: r.counter("kpipe_consumed_records_total", "Records handed to the output"),
            batches: r.counter("kpipe_consumed_batches_total", "Record batches handed to the output"),
            bytes: r.counter("kpipe_output_bytes_total", "Bytes that stdout took"),
            lag: r.gauges(
                "kpipe_consumer_lag_records",
                "Records between what was handed to the output and the partition's end",
                &["topic", "partition"],
            ),
            assigned: r.add(made(IntGauge::new("kpipe_assigned_partitions", "Partitions assigned to this member"))),
            rebalances: r.counter("kpipe_rebalances_total", "Rebalances that changed the assignment"),
            commits: r.counter("kpipe_commits_total", "Offset commits accepted by the coordinator"),
            commit_failures: r.counters("kpipe_commit_failures_total", "Commits that failed, by error", &["error"]),
        }
    }
}

/// What an exporter of lags counts.
#[derive(Debug)]
pub(super) struct GroupLags {
    pub(super) records: IntGaugeVec,
    pub(super) seconds: GaugeVec,
    pub(super) scraped: Gauge,
    pub(super) errors: IntCounterVec,
}

impl GroupLags {
    pub(super) fn register(r: &Registering) -> Self {
        Self {
            records: r.gauges(
                "kpipe_group_lag_records",
                "Records that a group is behind (groups lag --all --metrics)",
                &["group", "topic", "partition"],
            ),
            seconds: r.add(made(GaugeVec::new(
                Opts::new(
                    "kpipe_group_lag_seconds",
                    "How long ago the partition ended where the group is now, as far as it was watched",
                ),
                &["group", "topic", "partition"],
            ))),
            scraped: r.add(made(Gauge::new(
                "kpipe_group_lag_updated_timestamp_seconds",
                "When the groups' lags were last looked up",
            ))),
            errors: r.counters("kpipe_group_lag_errors_total", "Look-ups of lags that failed, by error", &["error"]),
        }
    }
}
