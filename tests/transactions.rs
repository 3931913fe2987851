//! Transactions: all of the input becomes visible, or nothing.

use crate::support::{Cluster, Kafka, Running, Version, each, require, shared, shell, values, wait_until};
use std::sync::Arc;

/// A broker with the newest transaction version, an older one, and one before KIP-360.
const VERSIONS: [Kafka; 3] = [Kafka::LATEST, Kafka::Real(Version::V3_9), Kafka::Real(Version::V1_1)];

/// The committed records, as kpipe and librdkafka read them.
fn visible(kafka: &Arc<Cluster>, topic: &str) -> Vec<String> {
    let ours = kafka.values(topic);
    let kcat = format!("kcat -b {} -C -t {topic} -o beginning -e -q", kafka.bootstrap);
    let theirs = shell(&format!("{kcat} -X isolation.level=read_committed"));
    assert_eq!(theirs.stdout.lines().collect::<Vec<_>>(), ours, "librdkafka sees the same");
    ours
}

/// Waits until records are written, committed or not.
fn await_written(kafka: &Cluster, topic: &str, expected: &[&str]) {
    let all = ["consume", topic, "-o", "beginning", "-e", "--isolation", "read_uncommitted"];
    wait_until("the records", || values(&kafka.kpipe(&all, b"").stdout) == expected);
}

/// Waits until these are the committed records: the commit marker is written after the commit is answered.
fn await_visible(kafka: &Arc<Cluster>, topic: &str, expected: &[&str]) {
    wait_until("the marker", || kafka.values(topic) == expected);
    assert_eq!(visible(kafka, topic), expected);
}

#[test]
fn an_input_becomes_visible_as_a_whole() {
    require!(Kafka, Kcat);
    for kafka in each(VERSIONS) {
        let topic = kafka.topic("whole", 1);
        let mut running =
            Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic, "--receipts"]);
        running.write(b"a\nb\n");
        await_written(&kafka, &topic, &["a", "b"]);
        assert_eq!(visible(&kafka, &topic), [""; 0], "{kafka}: nothing before the commit");
        assert_eq!(running.seen(), "", "{kafka}: no receipt before the commit");
        running.write(b"c\n");
        let done = running.finish();
        assert_eq!(done.code, 0, "{kafka}: {}", done.stderr);
        assert_eq!(done.stdout.lines().count(), 3);
        await_visible(&kafka, &topic, &["a", "b", "c"]);
        // A second run with the same transactional ID.
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"d\n");
        await_visible(&kafka, &topic, &["a", "b", "c", "d"]);
    }
}

#[test]
fn an_error_aborts_all_of_it() {
    require!(Kafka, Kcat);
    for kafka in each(VERSIONS) {
        let topic = kafka.topic("aborted", 1);
        let args = ["produce", &topic, "--transactional-id", &topic, "--input", "json", "--receipts"];
        let done = kafka.try_kpipe(&args, b"{\"value\":\"a\"}\nnonsense\n");
        assert_eq!(done.code, 1, "{kafka}");
        assert!(done.stderr.contains("line 2"), "{}", done.stderr);
        assert!(done.stderr.contains("the transaction is aborted"), "{}", done.stderr);
        assert!(done.stdout.starts_with("{\"record\":1,") && done.stdout.contains("\"error\":"), "{}", done.stdout);
        assert!(done.stderr.contains("0 records delivered"), "{}", done.stderr);
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"after\n");
        await_visible(&kafka, &topic, &["after"]);
    }
}

#[test]
fn a_signal_aborts_and_sigkill_leaves_nothing_visible() {
    require!(Kafka, Kcat);
    for (kafka, signal, code) in [
        (Kafka::LATEST, libc::SIGINT, 130),
        (Kafka::Real(Version::V3_9), libc::SIGTERM, 143),
        (Kafka::LATEST, libc::SIGKILL, 137),
        (Kafka::Real(Version::V3_9), libc::SIGKILL, 137),
    ] {
        let kafka = shared(kafka);
        let topic = kafka.topic("signal", 1);
        let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic]);
        running.write(b"a\nb\n");
        await_written(&kafka, &topic, &["a", "b"]);
        running.signal(signal);
        let done = running.ended();
        assert_eq!(done.code, code, "{}", done.stderr);
        // A new producer with the same ID aborts the transaction that the killed one left open.
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"after\n");
        await_visible(&kafka, &topic, &["after"]);
    }
}

#[test]
fn endless_input_is_committed_in_several_transactions() {
    require!(Kafka, Kcat);
    let kafka = shared(Kafka::LATEST);
    let topic = kafka.topic("steps", 1);
    let args = ["produce", &topic, "--transactional-id", &topic, "--transaction-records", "2"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    running.write(b"1\n2\n3\n");
    wait_until("the first transaction", || kafka.values(&topic) == ["1", "2"]);
    running.signal(libc::SIGINT);
    let done = running.ended();
    assert_eq!(done.code, 130);
    assert!(done.stderr.contains("the first 2 records were delivered (--skip 2 resumes"), "{}", done.stderr);
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..], &["--skip", "2"]].concat());
    running.write(b"1\n2\n3\n4\n5\n");
    assert_eq!(running.finish().code, 0);
    await_visible(&kafka, &topic, &["1", "2", "3", "4", "5"]);

    let topic = kafka.topic("interval", 1);
    let args = ["produce", &topic, "--transactional-id", &topic, "--transaction-interval", "200ms"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    running.write(b"1\n");
    await_visible(&kafka, &topic, &["1"]);
    running.signal(libc::SIGINT);
    assert_eq!(running.ended().code, 130);
    await_visible(&kafka, &topic, &["1"]);
}

#[test]
fn a_second_run_with_the_same_transactional_id_fences_the_first() {
    require!(Kafka, Kcat);
    for kafka in each(VERSIONS) {
        let topic = kafka.topic("fenced", 1);
        let mut first = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--transactional-id", &topic]);
        first.write(b"first\n");
        await_written(&kafka, &topic, &["first"]);
        kafka.kpipe(&["produce", &topic, "--transactional-id", &topic], b"second\n");
        first.write(b"more\n");
        let done = first.finish();
        assert_eq!(done.code, 1, "{kafka}: {}", done.stderr);
        assert!(done.stderr.contains("another producer with the same transactional ID"), "{kafka}: {}", done.stderr);
        await_visible(&kafka, &topic, &["second"]);
    }
}

#[test]
fn a_transaction_spans_partitions_and_topics() {
    require!(Kafka);
    let kafka = shared(Kafka::LATEST);
    let (a, b) = (kafka.topic("a", 3), kafka.topic("b", 1));
    let line = |topic: &str, n: u32| format!("{{\"topic\":\"{topic}\",\"key\":\"{n}\",\"value\":\"{n}\"}}\n");
    let lines: String = (0..100).map(|n| line(if n % 4 == 0 { &b } else { &a }, n)).collect();
    kafka.kpipe(&["produce", "-", "--input", "json", "--transactional-id", &a], lines.as_bytes());
    wait_until("the markers", || {
        values(&kafka.kpipe(&["consume", &a, &b, "-o", "beginning", "-e"], b"").stdout).len() == 100
    });
}

#[test]
fn flags_that_exclude_a_transaction_are_refused() {
    for extra in
        [&["--on-error", "continue"][..], &["--acks", "1"], &["--idempotent", "false"], &["--dead-letter", "x"]]
    {
        let done = crate::support::kpipe(&[&["produce", "t", "--transactional-id", "x"], extra].concat(), b"");
        assert_eq!(done.code, 2, "{extra:?}");
        assert!(done.stderr.contains("--transactional-id requires"), "{}", done.stderr);
    }
}

#[test]
fn a_timeout_over_the_brokers_limit_is_named() {
    require!(Kafka);
    let done = shared(Kafka::LATEST)
        .try_kpipe(&["produce", "t", "--transactional-id", "x", "--transaction-timeout", "10h"], b"x\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("transaction.max.timeout.ms"), "{}", done.stderr);
}
