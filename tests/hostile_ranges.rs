//! Ranges, `--last` and counts against what reading everything gives, on a topic whose offsets and timestamps mislead:
//! compacted, with aborted and open transactions, gaps, equal and decreasing timestamps and an empty partition.

use crate::support::{Cluster, Kafka, Running, each, fresh, json_lines, listed, wait_until};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const START: i64 = 1_700_000_000_000;

/// Partition, offset and timestamp.
type Place = (i64, i64, i64);

struct Hostile {
    topic: String,
    /// Its last transaction is open for as long as this runs.
    open: Running,
}

fn lines(partition: u32, numbers: std::ops::Range<i64>) -> String {
    // Timestamps rise, stand still and fall back.
    let time =
        |n: i64| START + [0, 7, 7, 3][(n % 4) as usize] * 100 + (n / 4) * 250 - if n % 11 == 0 { 5_000 } else { 0 };
    let line = |n: i64| {
        format!("{{\"partition\":{partition},\"key\":\"k{}\",\"value\":\"{n}\",\"timestamp\":{}}}\n", n % 31, time(n))
    };
    numbers.map(line).collect()
}

fn hostile(kafka: &Cluster, is_compacted: bool) -> Hostile {
    let topic = fresh("hostile");
    let mut create = vec!["topics", "create", &topic, "--partitions", "3"];
    if is_compacted {
        for config in
            ["cleanup.policy=compact", "segment.ms=100", "min.cleanable.dirty.ratio=0.001", "max.compaction.lag.ms=100"]
        {
            create.extend(["--config", config]);
        }
    }
    kafka.kpipe(&create, b"");
    let produce = ["produce", &topic, "--input", "json", "-q"];
    let transaction = [&produce[..], &["--transactional-id", &topic]].concat();
    let with_broker = |args: &[&str]| Running::kpipe(&[&["-b", &kafka.bootstrap][..], args].concat());
    let end = |partition: usize| {
        listed(kafka, &["topics", "offsets", &topic])[partition]["offset"].as_i64().unwrap_or_default()
    };
    kafka.kpipe(&produce, lines(0, 0..60).as_bytes());
    kafka.kpipe(&transaction, lines(0, 60..80).as_bytes());
    for round in 0..2 {
        let before = end(0);
        let mut aborted = with_broker(&transaction);
        aborted.write(lines(0, 500 + round * 20..510 + round * 20).as_bytes());
        wait_until("the records of the transaction", || end(0) >= before + 10);
        aborted.signal(libc::SIGTERM);
        assert_eq!(aborted.ended().code, 143);
        kafka.kpipe(&transaction, lines(0, 100 + round * 10..110 + round * 10).as_bytes());
    }
    kafka.kpipe(&produce, lines(1, 40..95).as_bytes());
    if is_compacted {
        let count = || listed(kafka, &["topics", "count", &topic])[0]["records"].as_u64().unwrap();
        // What is visible of the records that were written.
        let before = 155;
        assert!(count() <= before);
        // Only segments that are closed are compacted: a record much later than the segment's first one closes it.
        for partition in ["0", "1"] {
            kafka.kpipe(&["produce", &topic, "-p", partition, "-K", ":", "-q"], b"last:record\n");
        }
        wait_until("compaction", || count() < before * 2 / 3);
        let mut last = 0;
        wait_until("the end of compaction", || std::mem::replace(&mut last, count()) == last);
    }
    let before = end(1);
    let mut open = with_broker(&[&transaction[..], &["--transaction-timeout", "10m"]].concat());
    open.write(lines(1, 300..310).as_bytes());
    wait_until("the open transaction", || end(1) >= before + 10);
    kafka.kpipe(&produce, lines(1, 310..315).as_bytes());
    Hostile { topic, open }
}

fn places(stdout: &str) -> Vec<Place> {
    let number = |record: &serde_json::Value, field: &str| record[field].as_i64().unwrap();
    let place = |r: &serde_json::Value| (number(r, "partition"), number(r, "offset"), number(r, "timestamp"));
    json_lines(stdout).iter().map(place).collect()
}

/// What lies from `start` on and before `end`, each an offset of a partition by what it holds.
fn between(all: &[Place], start: impl Fn(&[Place]) -> i64, end: impl Fn(&[Place]) -> i64) -> Vec<Place> {
    let of = |partition| all.iter().copied().filter(|(p, ..)| *p == partition).collect::<Vec<_>>();
    let mut found = Vec::new();
    for records in [of(0), of(1), of(2)] {
        let (start, end) = (start(&records), end(&records));
        found.extend(records.iter().filter(|(_, offset, _)| (start..end).contains(offset)));
    }
    found
}

fn at_time(time: i64) -> impl Fn(&[Place]) -> i64 {
    move |records| records.iter().find(|(.., timestamp)| *timestamp >= time).map_or(i64::MAX, |(_, offset, _)| *offset)
}

fn last(count: usize) -> impl Fn(&[Place]) -> i64 {
    move |records| match records.len().checked_sub(count) {
        _ if count == 0 => i64::MAX,
        Some(index) => records[index].1,
        None => 0,
    }
}

#[test]
fn ranges_hold_what_reading_everything_finds_in_them() {
    for (kafka, is_compacted) in
        each([Kafka::LATEST]).map(|kafka| (kafka, true)).chain(each([Kafka::Local]).map(|kafka| (kafka, false)))
    {
        let Hostile { topic, open } = hostile(&kafka, is_compacted);
        for isolation in ["read_committed", "read_uncommitted"] {
            loop {
                let everything = || read(&kafka, &topic, isolation, &["-o", "beginning", "-e"]);
                let before = everything();
                let checked = catch_unwind(AssertUnwindSafe(|| ranges_agree(&kafka, &topic, isolation)));
                match checked {
                    Ok(()) => break,
                    Err(why) if everything() == before => resume_unwind(why),
                    Err(_) => {} // the log was compacted meanwhile
                }
            }
        }
        assert_eq!(open.finish().code, 0);
    }
}

fn read(kafka: &Cluster, topic: &str, isolation: &str, args: &[&str]) -> Vec<Place> {
    let args = [&["consume", topic, "--isolation", isolation][..], args].concat();
    let mut found = places(&kafka.kpipe(&args, b"").stdout);
    found.sort_unstable();
    found
}

fn ranges_agree(kafka: &Cluster, topic: &str, isolation: &str) {
    let read = |args: &[&str]| read(kafka, topic, isolation, args);
    let all = read(&["-o", "beginning", "-e"]);
    assert!(all.len() > 20 && all.iter().any(|(p, ..)| *p == 1), "{}", all.len());
    let offsets = [0, 1, 7, 61, 82, 101, 1_000];
    for (start, end) in offsets.iter().flat_map(|start| offsets.iter().map(move |end| (*start, *end))).step_by(2) {
        let expected = between(&all, |_| start, |_| end);
        assert_eq!(read(&["-o", &format!("{start}..{end}")]), expected, "{isolation} {start}..{end}");
    }
    let mut times: Vec<i64> = all.iter().map(|(.., timestamp)| *timestamp).step_by(9).collect();
    times.extend([START - 10_000, START + 701, START + 1_000_000]);
    for (index, from) in times.iter().enumerate() {
        let until = times[(index * 5 + 3) % times.len()];
        let range = format!("@{from}..@{until}");
        assert_eq!(read(&["-o", &range]), between(&all, at_time(*from), at_time(until)), "{isolation} {range}");
    }
    for (start, end) in [(5, 2), (1, 0), (1_000, 3), (3, 3), (2, 9)] {
        let range = format!("-{start}..-{end}");
        assert_eq!(read(&["-o", &range]), between(&all, last(start), last(end)), "{isolation} {range}");
    }
    counts_agree(kafka, topic, isolation, &all);
    the_latest_agree(kafka, topic, isolation, &all);
}

/// `topics count`, by headers and by records.
fn counts_agree(kafka: &Cluster, topic: &str, isolation: &str, all: &[Place]) {
    let count =
        |args: &[&str]| listed(kafka, &[&["topics", "count", topic, "--isolation", isolation][..], args].concat());
    let records =
        |rows: &[serde_json::Value]| rows.iter().map(|row| row["records"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(records(&count(&[])), [all.len() as u64], "{isolation}");
    let of = |partition| all.iter().filter(|(p, ..)| *p == partition).count() as u64;
    assert_eq!(records(&count(&["--by", "partition"])), [of(0), of(1), of(2)], "{isolation}");
    let inside = all.iter().filter(|(_, offset, _)| (3..70).contains(offset)).count() as u64;
    assert_eq!(records(&count(&["-o", "3..70"])), [inside], "{isolation}");
    let mut minutes = BTreeMap::<i64, u64>::new();
    all.iter().for_each(|(.., timestamp)| *minutes.entry(timestamp / 60_000 * 60_000).or_default() += 1);
    let found: BTreeMap<i64, u64> = count(&["--by", "minute"])
        .iter()
        .map(|row| (row["timestamp"].as_i64().unwrap(), row["records"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, minutes, "{isolation}");
    assert_eq!(records(&count(&["--by", "key"])).iter().sum::<u64>(), all.len() as u64);
    assert_eq!(records(&count(&["--grep", "."])), [all.len() as u64]);
}

/// `--last`: among the last records of each partition, the latest.
fn the_latest_agree(kafka: &Cluster, topic: &str, isolation: &str, all: &[Place]) {
    for count in [0, 1, 6, 30, 10_000] {
        let count_text = count.to_string();
        let args = ["consume", topic, "--isolation", isolation, "--last", &count_text];
        let found = places(&kafka.kpipe(&args, b"").stdout);
        let mut expected: Vec<_> =
            between(all, last(count), |_| i64::MAX).into_iter().map(|(p, offset, t)| (t, p, offset)).collect();
        expected.sort_unstable();
        let expected: Vec<Place> =
            expected[expected.len().saturating_sub(count)..].iter().map(|(t, p, offset)| (*p, *offset, *t)).collect();
        assert_eq!(found, expected, "{isolation} --last {count}");
    }
}
