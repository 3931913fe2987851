//! Ranges that end: `-o A..B`, `--until`, `--idle-timeout`.

use crate::support::{Cluster, Kafka, Running, Version, each, listed, shared, values, wait_until};
use std::time::{Duration, Instant};

const START: i64 = 1_700_000_000_000;

/// Ten records, a second apart.
fn ten(kafka: &Cluster) -> String {
    let topic = kafka.topic("range", 1);
    let line = |n: i64| format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", START + n * 1000);
    kafka.kpipe(&["produce", &topic, "--input", "json"], (0..10).map(line).collect::<String>().as_bytes());
    topic
}

#[test]
fn every_form_of_range_is_understood() {
    for kafka in each([Kafka::LATEST, Kafka::Real(Version::V1_1), Kafka::Local]) {
        let topic = ten(&kafka);
        for (args, expected) in [
            (&["-o", "2..5"][..], "234"),
            (&["-o", "..3"], "012"),
            (&["-o", "7.."], "789"),
            (&["-o", "-4..-2"], "67"),
            (&["-o", "3", "--until", "-5"], "34"),
            (&["--until", "2"], "01"),
            (&["--until", "beginning"], ""),
            (&["-o", "8", "--until", "end"], "89"),
            (&["-o", "5..5"], ""),
            (&["-o", "7..3"], ""),
            (&["-o", "8..1000"], "89"),
            (&["-o", "500..1000"], ""),
            (&["-o", "end..1000"], ""),
            (&["-o", "@1700000002..@1700000005"], "234"),
            (&["-o", "@1700000002001..@1700000005001"], "345"),
            (&["-o", "@2023-11-14T22:13:22Z", "--until", "@2023-11-14T22:13:24Z"], "23"),
            (&["-o", "s@1700000002000", "-o", "e@1700000004000"], "23"),
            (&["-o", "e@1700000002000"], "01"),
            (&["-o", "beginning", "--until", "@-1h"], "0123456789"),
            (&["-o", "@-1h..@now"], ""),
            (&["-o", "2..8", "-c", "3"], "234"),
        ] {
            let done = kafka.kpipe(&[&["consume", &topic][..], args].concat(), b"");
            assert_eq!(values(&done.stdout).concat(), expected, "{args:?}");
        }
    }
}

#[test]
fn a_range_that_contradicts_itself_is_refused() {
    let kafka = shared(Kafka::Local);
    let topic = ten(&kafka);
    for args in [&["-o", "1", "-o", "2"][..], &["-o", "1..2", "--until", "3"], &["-o", "1..2", "-o", "e@5"]] {
        let done = kafka.try_kpipe(&[&["consume", &topic][..], args].concat(), b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("of the range is given twice"), "{args:?}: {}", done.stderr);
    }
    let done = kafka.try_kpipe(&["consume", &topic, "-o", "1..stored"], b"");
    assert_eq!(done.code, 2, "{}", done.stderr);
}

/// Partitions of different length, one of them empty.
#[test]
fn each_partition_ends_for_itself() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = kafka.topic("lengths", 3);
        kafka.kpipe(&["produce", &topic, "-p", "0"], b"a\nb\nc\nd\n");
        kafka.kpipe(&["produce", &topic, "-p", "1"], b"e\n");
        let read = |args: &[&str]| -> Vec<String> {
            let mut found = values(&kafka.kpipe(&[&["consume", &topic][..], args].concat(), b"").stdout);
            found.sort();
            found
        };
        assert_eq!(read(&["-o", "0..3"]), ["a", "b", "c", "e"]);
        assert_eq!(read(&["-o", "2..10"]), ["c", "d"]);
        assert_eq!(read(&["-o", "2..10", "-p", "1"]), Vec::<String>::new());
        assert_eq!(read(&["-o", "-1..end"]), ["d", "e"]);
    }
}

/// Groups commit where the range ended.
#[test]
fn a_group_commits_the_end_of_its_range() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = ten(&kafka);
        let group = format!("{topic}-group");
        kafka.kpipe(&["consume", &topic, "-g", &group, "-o", "beginning", "--until", "4"], b"");
        assert!(kafka.kpipe(&["groups", "export", &group], b"").stdout.contains("\"offset\":4"));
        let rest = kafka.kpipe(&["consume", &topic, "-g", &group, "-e"], b"");
        assert_eq!(values(&rest.stdout).concat(), "456789");
    }
}

#[test]
fn a_reader_ends_after_silence() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = kafka.topic("silence", 1);
        let b = &kafka.bootstrap;
        let tail = Running::kpipe(&[
            "-b",
            b,
            "consume",
            &topic,
            "-o",
            "beginning",
            "--idle-timeout",
            "3s",
            "--output",
            "value",
        ]);
        for n in 0..4 {
            kafka.kpipe(&["produce", &topic], format!("{n}\n").as_bytes());
        }
        wait_until("the records", || tail.seen() == "0\n1\n2\n3\n");
        let since = Instant::now();
        let done = tail.ended();
        assert_eq!((done.code, done.stdout.as_str()), (0, "0\n1\n2\n3\n"), "{}", done.stderr);
        let waited = since.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&waited), "{waited:?}");
    }
}

/// Records of three partitions, whose timestamps interleave.
fn interleaved(kafka: &Cluster) -> String {
    let topic = kafka.topic("interleaved", 3);
    let line = |n: i64| format!("{{\"partition\":{},\"value\":\"{n}\",\"timestamp\":{}}}\n", n % 3, START + n);
    let lines: String = (0..3).flat_map(|p| (0..100).map(move |n| line(n * 3 + p))).collect();
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.as_bytes());
    topic
}

#[test]
fn partitions_are_merged_by_time() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = interleaved(&kafka);
        let read = |args: &[&str]| values(&kafka.kpipe(&[&["consume", &topic][..], args].concat(), b"").stdout);
        let all: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        assert_eq!(read(&["-o", "beginning", "-e", "--sort", "time"]), all);
        assert_eq!(read(&["-o", "10..20", "--sort", "time"]), all[30..60]);
        assert_eq!(read(&["-o", "beginning", "-e", "--sort", "time", "-c", "7"]), all[..7]);
        assert_eq!(read(&["--last", "5"]), all[295..]);
        assert_eq!(read(&["--last", "100", "--grep", "7$"]).first().map(String::as_str), Some("207"));
        // A buffer that holds nothing merges nothing, and loses nothing.
        let mut small = read(&["-o", "beginning", "-e", "--sort", "time", "--sort-buffer", "0"]);
        small.sort_by_key(|value| value.parse::<i64>().unwrap());
        assert_eq!(small, all);
        let tail = Running::kpipe(&[
            "-b",
            &kafka.bootstrap,
            "consume",
            &topic,
            "-o",
            "beginning",
            "--sort",
            "time",
            "--output",
            "value",
        ]);
        wait_until("all without an end", || tail.seen().lines().count() == 300);
        tail.signal(libc::SIGTERM);
        let done = tail.ended();
        assert_eq!((done.code, done.stdout.lines().collect::<Vec<_>>()), (0, all.iter().map(String::as_str).collect()));
    }
}

/// Of a group, what was merged and not written is not committed.
#[test]
fn merged_records_are_committed_when_they_are_written() {
    let kafka = shared(Kafka::Local);
    let topic = interleaved(&kafka);
    let group = format!("{topic}-group");
    let read = |args: &[&str]| {
        let args = [&["consume", &topic, "-g", &group, "-o", "beginning", "--sort", "time"][..], args].concat();
        values(&kafka.kpipe(&args, b"").stdout)
    };
    assert_eq!(read(&["-c", "10"]).len(), 10);
    let rest = read(&["-e"]);
    assert_eq!((rest.len(), rest.first().map(String::as_str)), (290, Some("10")));
}

#[test]
fn records_are_counted() {
    let kafka = shared(Kafka::Local);
    let topic = interleaved(&kafka);
    let rows = |args: &[&str]| listed(&kafka, &[&["topics", "count", &topic][..], args].concat());
    assert_eq!(rows(&[]), [serde_json::json!({ "topic": topic, "records": 300 })]);
    let by = |n: i64| serde_json::json!({ "topic": topic, "partition": n, "records": 100 });
    assert_eq!(rows(&["--by", "partition"]), [by(0), by(1), by(2)]);
    assert_eq!(rows(&["--by", "key"]), [serde_json::json!({ "topic": topic, "key": null, "records": 300 })]);
    assert_eq!(rows(&["--grep", "^1.$", "--by", "partition"])[0]["records"], 3);
    let table = kafka.kpipe(&["topics", "count", &format!("{topic}:1"), "--by", "partition"], b"").stdout;
    assert!(table.starts_with("TOPIC") && table.contains("PARTITION") && table.trim_end().ends_with("100"), "{table}");
    assert_eq!(table.lines().count(), 2);
}
