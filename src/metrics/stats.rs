//! `--stats`: all there is to know of a run, as a JSON line.

use super::Metrics;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What was counted up to the last line, for rates.
#[derive(Debug, Default)]
pub(super) struct Before {
    delivered: u64,
    consumed: u64,
    bytes: u64,
}

impl Metrics {
    /// A line of stats: rates since `before`, which was `elapsed` ago, and totals.
    pub(super) fn stats(&self, before: &mut Before, elapsed: Duration, running: Duration) -> Value {
        let inner = &*self.0;
        let now = Before {
            delivered: inner.produced.records.get(),
            consumed: inner.consumed.records.get(),
            bytes: inner.produced.input_bytes.get() + inner.consumed.bytes.get(),
        };
        let rate = |now: u64, before: u64| (((now - before) as f64) / elapsed.as_secs_f64().max(0.001)).round();
        let (raw, packed) = (self.batch_bytes("raw"), self.batch_bytes("compressed"));
        let failures: u64 = counts(&inner.produced.failed).values().filter_map(Value::as_u64).sum();
        let produced = json!({
            "records": now.delivered,
            "records_per_s": rate(now.delivered, before.delivered),
            "batches": inner.produced.batches.get(),
            "failed": failures,
            "errors": counts(&inner.produced.failed),
            "batch_bytes": raw,
            "sent_bytes": packed,
            "compression_ratio": (packed > 0).then(|| round(raw as f64 / packed as f64)),
        });
        let lags = self.lags();
        let lag: Map<String, Value> = lags.iter().map(|(of, lag)| (of.to_string(), json!(lag))).collect();
        let consumed = json!({
            "records": now.consumed,
            "records_per_s": rate(now.consumed, before.consumed),
            "batches": inner.consumed.batches.get(),
            "lag_total": lags.iter().map(|(_, lag)| lag).sum::<i64>(),
            "lag": lag,
            "assigned": inner.consumed.assigned.get(),
            "rebalances": inner.consumed.rebalances.get(),
            "commits": inner.consumed.commits.get(),
            "commit_failures": counts(&inner.consumed.commit_failures),
        });
        let line = json!({
            "stats": "kpipe",
            "seconds": round(running.as_secs_f64()),
            "bytes": now.bytes,
            "bytes_per_s": rate(now.bytes, before.bytes),
            "produced": produced,
            "consumed": consumed,
            "retries": counts(&inner.requests.retries),
            "latency_ms": self.latencies(),
        });
        *before = now;
        line
    }

    fn batch_bytes(&self, state: &str) -> u64 {
        self.0.produced.batch_bytes.with_label_values(&[state]).get()
    }

    /// p50 and p99 of each broker's requests, by API, in milliseconds: within a bucket's width.
    fn latencies(&self) -> Value {
        let mut brokers: Map<String, Value> = Map::new();
        for family in self.0.requests.durations.collect() {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    let found = metric.get_label().iter().find(|label| label.name() == name);
                    found.map(|label| label.value().to_owned()).unwrap_or_default()
                };
                let histogram = metric.get_histogram();
                let buckets: Vec<(f64, u64)> =
                    histogram.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
                let of = |share: f64| quantile(&buckets, histogram.get_sample_count(), share).map(|s| round(s * 1e3));
                let entry = brokers.entry(label("broker")).or_insert_with(|| json!({}));
                entry[label("api")] = json!({ "count": histogram.get_sample_count(), "p50": of(0.5), "p99": of(0.99) });
            }
        }
        Value::Object(brokers)
    }
}

/// The value below which `share` of all observations lie, between the bounds of its bucket.
fn quantile(buckets: &[(f64, u64)], count: u64, share: f64) -> Option<f64> {
    if count == 0 {
        return None;
    }
    let rank = share * count as f64;
    let mut below = (0.0, 0);
    for &(bound, cumulative) in buckets {
        if cumulative as f64 >= rank && cumulative > below.1 {
            let part = (rank - below.1 as f64) / (cumulative - below.1) as f64;
            return Some(below.0 + (bound - below.0) * part.clamp(0.0, 1.0));
        }
        below = (bound, cumulative);
    }
    Some(below.0)
}

/// Counts by their only label.
fn counts(counters: &prometheus::IntCounterVec) -> Map<String, Value> {
    let families: Vec<MetricFamily> = counters.collect();
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    let named = metrics.filter_map(|metric| {
        let label = metric.get_label().first()?;
        Some((label.value().to_owned(), json!(metric.get_counter().get_value() as u64)))
    });
    named.collect()
}

/// Three digits after the point are enough.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Observer;
    use crate::error::Action;
    use crate::record::{BrokerId, TopicPartition};
    use kafka_protocol::error::ResponseError;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let buckets = [(1.0, 0), (2.0, 50), (4.0, 100)];
        assert_eq!(quantile(&buckets, 100, 0.5), Some(2.0));
        assert_eq!(quantile(&buckets, 100, 0.75), Some(3.0));
        assert_eq!(quantile(&buckets, 120, 1.0), Some(4.0), "beyond the last bound");
        assert_eq!(quantile(&buckets, 0, 0.5), None);
    }

    #[test]
    fn a_line_tells_rates_and_totals() {
        let metrics = Metrics::default();
        let of = TopicPartition::new("t", 0);
        metrics.delivered(10);
        metrics.batch_filled(3_000);
        metrics.batch_ready(1_000);
        metrics.failed(2, &crate::error::Error::kafka(Action::Produce, &of, ResponseError::MessageTooLarge));
        metrics.fetched(&of, 0, 100);
        metrics.consumed(&of, 40, 40);
        metrics.answered(Some(BrokerId(1)), ApiKey::Produce, Duration::from_millis(1));
        let mut before = Before::default();
        let second = Duration::from_secs(1);
        let line = metrics.stats(&mut before, second, second);
        assert_eq!(line["produced"]["records_per_s"], 10.0);
        assert_eq!(line["produced"]["compression_ratio"], 3.0);
        assert_eq!(line["produced"]["errors"]["MESSAGE_TOO_LARGE"], 2);
        assert_eq!(line["consumed"]["lag"]["t/0"], 60);
        assert_eq!(line["latency_ms"]["1"]["Produce"]["count"], 1);
        metrics.delivered(5);
        assert_eq!(metrics.stats(&mut before, second, second)["produced"]["records_per_s"], 5.0);
    }
}
