//! A transaction: all of the input becomes visible, or nothing.

use crate::support::{Cluster, Running, brokers, shell, values, wait_until};
use std::sync::Arc;

/// The broker's newest transaction version, an older broker, and one before KIP-360.
const VERSIONS: [&str; 3] = ["4.3.1", "3.9.2", "1.1.1"];

/// What a reader of committed records sees: kpipe, and librdkafka.
fn visible(kafka: &Arc<Cluster>, topic: &str) -> Vec<String> {
    let ours = kafka.values(topic);
    let kcat = format!("kcat -b {} -C -t {topic} -o beginning -e -q", kafka.bootstrap);
    let theirs = shell(&format!("{kcat} -X isolation.level=read_committed"));
    assert_eq!(theirs.stdout.lines().collect::<Vec<_>>(), ours, "librdkafka sees the same");
    ours
}

/// Waits until records are there, though no reader of committed ones may see them.
fn is_written(kafka: &Cluster, topic: &str, expected: &[&str]) {
    let all = ["consume", topic, "-o", "beginning", "-e", "--isolation", "read_uncommitted"];
    wait_until("the records", || values(&kafka.kpipe(&all, b"").stdout) == expected);
}

/// The marker is written a moment after the commit is answered.
fn becomes_visible(kafka: &Arc<Cluster>, topic: &str, expected: &[&str]) {
    wait_until("the marker", || kafka.values(topic) == expected);
    assert_eq!(visible(kafka, topic), expected);
}

#[test]
fn a_committed_input_becomes_visible_as_a_whole() {
    for version in VERSIONS {
        let kafka = brokers(version);
        let topic = kafka.topic("whole", 1);
        let mut running =
            Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic, "--receipts"]);
        running.write(b"a\nb\n");
        is_written(&kafka, &topic, &["a", "b"]);
        assert_eq!(visible(&kafka, &topic), [""; 0], "{version}: nothing before the commit");
        assert_eq!(running.seen(), "", "{version}: no receipt before the commit");
        running.write(b"c\n");
        let done = running.finish();
        assert_eq!(done.code, 0, "{version}: {}", done.stderr);
        assert_eq!(done.stdout.lines().count(), 3);
        becomes_visible(&kafka, &topic, &["a", "b", "c"]);
        // Another run with the same id.
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"d\n");
        becomes_visible(&kafka, &topic, &["a", "b", "c", "d"]);
    }
}

#[test]
fn what_goes_wrong_aborts_all_of_it() {
    for version in VERSIONS {
        let kafka = brokers(version);
        let topic = kafka.topic("aborted", 1);
        let args = ["produce", &topic, "--transactional-id", &topic, "--input", "json", "--receipts"];
        let done = kafka.try_kpipe(&args, b"{\"value\":\"a\"}\nnonsense\n");
        assert_eq!(done.code, 1, "{version}");
        assert!(done.stderr.contains("line 2"), "{}", done.stderr);
        assert!(done.stderr.contains("the transaction is aborted"), "{}", done.stderr);
        assert!(done.stdout.starts_with("{\"record\":1,") && done.stdout.contains("\"error\":"), "{}", done.stdout);
        assert!(done.stderr.contains("0 records delivered"), "{}", done.stderr);
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"after\n");
        becomes_visible(&kafka, &topic, &["after"]);
    }
}

#[test]
fn a_signal_aborts_and_a_sigkill_shows_nothing() {
    for (version, signal, code) in [
        ("4.3.1", libc::SIGINT, 130),
        ("3.9.2", libc::SIGTERM, 143),
        ("4.3.1", libc::SIGKILL, 137),
        ("3.9.2", libc::SIGKILL, 137),
    ] {
        let kafka = brokers(version);
        let topic = kafka.topic("signal", 1);
        let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic]);
        running.write(b"a\nb\n");
        is_written(&kafka, &topic, &["a", "b"]);
        running.signal(signal);
        let done = running.ended();
        assert_eq!(done.code, code, "{}", done.stderr);
        // A new producer of the id ends what the killed one left open.
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"after\n");
        becomes_visible(&kafka, &topic, &["after"]);
    }
}

#[test]
fn endless_input_is_committed_in_steps() {
    let kafka = brokers("4.3.1");
    let topic = kafka.topic("steps", 1);
    let args = ["produce", &topic, "--transactional-id", &topic, "--transaction-records", "2"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    running.write(b"1\n2\n3\n");
    wait_until("the first step", || kafka.values(&topic) == ["1", "2"]);
    running.signal(libc::SIGINT);
    let done = running.ended();
    assert_eq!(done.code, 130);
    assert!(done.stderr.contains("the first 2 records are delivered (--skip 2 resumes"), "{}", done.stderr);
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..], &["--skip", "2"]].concat());
    running.write(b"1\n2\n3\n4\n5\n");
    assert_eq!(running.finish().code, 0);
    becomes_visible(&kafka, &topic, &["1", "2", "3", "4", "5"]);

    let topic = kafka.topic("interval", 1);
    let args = ["produce", &topic, "--transactional-id", &topic, "--transaction-interval", "200ms"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    running.write(b"1\n");
    becomes_visible(&kafka, &topic, &["1"]);
    running.signal(libc::SIGINT);
    assert_eq!(running.ended().code, 130);
    becomes_visible(&kafka, &topic, &["1"]);
}

#[test]
fn a_second_run_with_the_same_id_fences_the_first() {
    for version in VERSIONS {
        let kafka = brokers(version);
        let topic = kafka.topic("fenced", 1);
        let mut first = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic]);
        first.write(b"first\n");
        is_written(&kafka, &topic, &["first"]);
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"second\n");
        first.write(b"more\n");
        let done = first.finish();
        assert_eq!(done.code, 1, "{version}: {}", done.stderr);
        assert!(done.stderr.contains("another producer with the same transactional id"), "{version}: {}", done.stderr);
        becomes_visible(&kafka, &topic, &["second"]);
    }
}

#[test]
fn a_transaction_over_several_partitions_and_topics_is_one() {
    let kafka = brokers("4.3.1");
    let (a, b) = (kafka.topic("a", 3), kafka.topic("b", 1));
    let line = |topic: &str, n: u32| format!("{{\"topic\":\"{topic}\",\"key\":\"{n}\",\"value\":\"{n}\"}}\n");
    let lines: String = (0..100).map(|n| line(if n % 4 == 0 { &b } else { &a }, n)).collect();
    kafka.kpipe(&["produce", "-", "--input", "json", "--transactional-id", &a], lines.as_bytes());
    wait_until("the markers", || {
        values(&kafka.kpipe(&["consume", &a, &b, "-o", "beginning", "-e"], b"").stdout).len() == 100
    });
}

#[test]
fn what_does_not_go_with_a_transaction_is_refused() {
    for extra in
        [&["--on-error", "continue"][..], &["--acks", "1"], &["--idempotent", "false"], &["--dead-letter", "x"]]
    {
        let done = crate::support::kpipe(&[&["produce", "t", "--transactional-id", "x"], extra].concat(), b"");
        assert_eq!(done.code, 2, "{extra:?}");
        assert!(done.stderr.contains("--transactional-id needs"), "{}", done.stderr);
    }
    let done = brokers("4.3.1")
        .try_kpipe(&["produce", "t", "--transactional-id", "x", "--transaction-timeout", "10h"], b"x\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("transaction.max.timeout.ms"), "{}", done.stderr);
}
