//! Positions on logs where offsets do not count records: with transactions, markers and compaction.

use crate::support::{Cluster, Kafka, Running, Version, each, fresh, json_lines, require, shared, wait_until};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn lines(values: std::ops::Range<u32>) -> Vec<u8> {
    values.flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// Ten committed records, five aborted ones, three committed ones: each transaction ends with a marker.
fn with_transactions(kafka: &Cluster) -> String {
    let topic = kafka.topic("transactional", 1);
    let args = ["produce", &topic, "--transactional-id", &topic, "-q"];
    kafka.kpipe(&args, &lines(0..10));
    let mut aborted = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &args].concat());
    aborted.write(&lines(100..105));
    wait_until("the records in the transaction", || {
        kafka.kpipe(&["topics", "offsets", &topic, "-J"], b"").stdout.contains("16")
    });
    aborted.signal(libc::SIGTERM);
    assert_eq!(aborted.ended().code, 143);
    kafka.kpipe(&args, &lines(10..13));
    topic
}

fn last(kafka: &Cluster, topic: &str, count: u32, flags: &[&str]) -> Vec<String> {
    let start = format!("-{count}");
    let args = ["consume", topic, "-o", &start, "-e", "--output", "value"];
    kafka.kpipe(&[&args[..], flags].concat(), b"").stdout.lines().map(str::to_owned).collect()
}

#[test]
fn the_last_n_are_visible_records_on_a_transactional_topic() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = with_transactions(&kafka);
        let all: Vec<String> = (0..13).map(|n| n.to_string()).collect();
        for count in [0, 1, 3, 4, 9, 13, 1_000] {
            let expected = &all[all.len().saturating_sub(count as usize)..];
            assert_eq!(last(&kafka, &topic, count, &[]), expected, "the last {count}");
        }
        let uncommitted = last(&kafka, &topic, 4, &["--isolation", "read_uncommitted"]);
        assert_eq!(uncommitted, ["104", "10", "11", "12"]);
    }
}

#[test]
fn the_last_n_are_visible_records_on_a_compacted_topic() {
    require!(Kafka);
    let kafka = shared(Kafka::LATEST);
    let topic = fresh("compacted");
    let configs =
        ["cleanup.policy=compact", "segment.ms=100", "min.cleanable.dirty.ratio=0.001", "max.compaction.lag.ms=100"];
    let configs: Vec<&str> = configs.iter().flat_map(|config| ["--config", config]).collect();
    kafka.kpipe(&[&["topics", "create", &topic][..], &configs].concat(), b"");
    let lines: String = (0..500).map(|n| format!("{}:{n}\n", n % 3)).collect();
    // Timestamps that are further apart than segment.ms begin another segment each.
    for (second, lines) in [&lines[..], "a:500\n", "b:501\n"].into_iter().enumerate() {
        let time = (now() + 1_000 * second as i64).to_string();
        kafka.kpipe(&["produce", &topic, "-K", ":", "--timestamp", &time], lines.as_bytes());
    }
    wait_until("compaction", || kafka.values(&topic).len() == 5);
    assert_eq!(last(&kafka, &topic, 4, &[]), ["498", "499", "500", "501"]);
    assert_eq!(last(&kafka, &topic, 5, &[]), ["497", "498", "499", "500", "501"]);
}

/// Markers and aborted records move the position: nothing is left to be read.
#[test]
fn lag_reaches_zero_on_a_transactional_topic() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = with_transactions(&kafka);
        for (group, flags) in [("to-the-end", &["-e"][..]), ("by-count", &["-c", "13"])] {
            let group = format!("{topic}-{group}");
            let args = ["consume", &topic, "-g", &group, "-o", "beginning", "--output", "none"];
            kafka.kpipe(&[&args[..], flags].concat(), b"");
            let lag = kafka.try_kpipe(&["groups", "lag", &group, "--max", "0"], b"");
            assert_eq!(lag.code, 0, "{}{}", lag.stdout, lag.stderr);
        }
    }
}

/// While a transaction is open, readers of committed records wait before it; positions beyond are in range all the same.
#[test]
fn an_open_transaction_is_reported_and_moves_no_position_back() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = kafka.topic("open", 1);
        kafka.kpipe(&["produce", &topic], b"before 1\nbefore 2\n");
        let b = &kafka.bootstrap;
        let mut open = Running::kpipe(&["-b", b, "produce", &topic, "--transactional-id", &topic, "-q"]);
        open.write(b"in it\n");
        let end = || {
            let done = kafka.kpipe(&["topics", "offsets", &topic, "-J"], b"");
            done.stdout.contains("3")
        };
        wait_until("the record in the transaction", end);
        kafka.kpipe(&["produce", &topic], b"after\n");
        let group = format!("{topic}-group");
        let commit = format!("{{\"group\":\"{group}\",\"topic\":\"{topic}\",\"partition\":0,\"offset\":3}}\n");
        kafka.kpipe(&["groups", "import", "--execute"], commit.as_bytes());
        let done = kafka.kpipe(&["consume", &topic, "-g", &group, "-e", "--output", "value"], b"");
        assert_eq!((done.stdout.as_str(), done.stderr.contains("OFFSET_OUT_OF_RANGE")), ("", false), "{}", done.stderr);
        assert!(kafka.kpipe(&["groups", "export", &group], b"").stdout.contains("\"offset\":3"));
        let inside = kafka.kpipe(&["consume", &topic, "-o", "3", "-e", "--output", "value"], b"");
        assert_eq!(inside.stdout, "");
        let tail = Running::kpipe(&["-b", b, "consume", &topic, "-o", "beginning", "--output", "value"]);
        wait_until("what comes before the transaction", || tail.seen() == "before 1\nbefore 2\n");
        wait_until("the report", || tail.told().contains("records are held back by an open transaction"));
        assert_eq!(open.finish().code, 0);
        wait_until("all", || tail.seen().ends_with("in it\nafter\n"));
        tail.signal(libc::SIGTERM);
        let done = tail.ended();
        let says = format!(
            "records are held back by an open transaction: up to 2 of {topic}/0 (see `kpipe cluster transactions find-hanging"
        );
        assert_eq!(done.stderr.matches(&says).count(), 1, "{}", done.stderr);
    }
}

/// What comes while the place to begin is looked up is neither an error nor skipped.
#[test]
fn a_start_at_this_moment_on_a_live_topic_never_fails_and_skips_nothing() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("live", 1);
    let mut writer = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--rate", "300", "-q"]);
    writer.write("r\n".repeat(30_000).as_bytes());
    // Many records come between two questions.
    kafka.local().faults().set_latency(Duration::from_millis(10));
    let starts: Vec<(i64, i64)> = (0..20)
        .map(|_| {
            // Nothing is as late when it is asked for, and something is a moment later.
            let time = now() + 150;
            let first = kafka.kpipe(&["consume", &topic, "-o", &format!("@{time}"), "-c", "1"], b"");
            let live = kafka.kpipe(&["consume", &topic, "-o", "@-0s", "-c", "1"], b"");
            assert_eq!(live.stdout.lines().count(), 1, "{}", live.stderr);
            (time, json_lines(&first.stdout)[0]["offset"].as_i64().unwrap())
        })
        .collect();
    writer.signal(libc::SIGTERM);
    kafka.local().faults().set_latency(Duration::ZERO);
    writer.ended();
    let all = json_lines(&kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"").stdout);
    for (time, begun_at) in starts {
        let first = all.iter().find(|record| record["timestamp"].as_i64().unwrap() >= time).unwrap();
        assert!(begun_at <= first["offset"].as_i64().unwrap(), "from {time}: {first} was skipped");
    }
}

/// The topic's ID tells the new topic from the old one.
#[test]
fn a_topic_created_again_is_read_from_its_beginning() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = kafka.topic("recreated", 1);
        kafka.kpipe(&["produce", &topic], b"old 1\nold 2\n");
        let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
        wait_until("the old records", || tail.seen().lines().count() == 2);
        kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
        wait_until("the new topic", || kafka.try_kpipe(&["topics", "create", &topic], b"").code == 0);
        kafka.kpipe(&["produce", &topic], b"new 1\nnew 2\nnew 3\n");
        wait_until("the new records", || tail.seen().ends_with("new 1\nnew 2\nnew 3\n"));
        tail.signal(libc::SIGTERM);
        let done = tail.ended();
        assert_eq!((done.code, done.stdout.lines().count()), (0, 5), "{}", done.stderr);
        assert_eq!(done.stderr.matches("was deleted and created again").count(), 1, "{}", done.stderr);
    }
}

/// Before Kafka 2.8 nothing but its end tells a topic that was created again.
#[test]
fn without_topic_ids_a_log_that_ends_before_the_position_is_read_from_its_beginning() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V1_1));
    let topic = kafka.topic("without-id", 1);
    kafka.kpipe(&["produce", &topic], &lines(0..5));
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
    wait_until("the old records", || tail.seen().lines().count() == 5);
    kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
    wait_until("the new topic", || kafka.try_kpipe(&["topics", "create", &topic], b"").code == 0);
    kafka.kpipe(&["produce", &topic], &lines(10..12));
    wait_until("the new records", || tail.seen().ends_with("4\n10\n11\n"));
    tail.signal(libc::SIGTERM);
    let done = tail.ended();
    assert_eq!((done.code, done.stdout.lines().count()), (0, 7), "{}", done.stderr);
    assert_eq!(done.stderr.matches("was created again or its log was truncated").count(), 1, "{}", done.stderr);
}
