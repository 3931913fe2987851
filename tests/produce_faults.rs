//! A producer whose brokers answer wrongly or not at all: what was acknowledged is in the topic, and what may be there is
//! called possibly written.

use crate::support::{Cluster, Kafka, Running, Version, json_lines, require, shared, wait_until};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, Times};
use std::time::{Duration, Instant};

/// NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR: the record is in the log although the answer is an error. It is given up
/// while the broker is away; the next record must not pass for its repeat.
#[test]
fn a_record_given_up_after_an_uncertain_answer_does_not_hide_the_next() {
    for code in [6, 56] {
        let kafka = Cluster::start_local(1);
        let topic = kafka.topic("given-up", 1);
        kafka.local().faults().inject(ApiKey::Produce, 1, Fault::ErrorAfter(code));
        let flags = ["--receipts", "--on-error", "continue", "--timeout", "2s", "-X", "retry.backoff.ms=1000"];
        let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap, "produce", &topic], &flags[..]].concat());
        running.write(b"a\n");
        wait_until("the answer", || kafka.local().faults().requests(ApiKey::Produce) == 1);
        kafka.local().crash(1);
        wait_until("the first receipt", || running.seen().ends_with('\n'));
        kafka.local().restart(1).unwrap();
        running.write(b"b\n");
        let done = running.finish();
        assert_eq!(done.code, 1, "{}", done.stderr);
        let receipts = json_lines(&done.stdout);
        assert_eq!(
            (&receipts[0]["possibly_written"], &receipts[1]["offset"]),
            (&true.into(), &1.into()),
            "{receipts:?}"
        );
        assert_eq!(kafka.values(&topic), ["a", "b"]);
        for part in [
            "not delivered: record 1: ",
            "; possibly written\n",
            "resuming duplicates 1 delivered record and may duplicate 1 possibly written record",
        ] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
    }
}

#[test]
fn an_answer_that_says_nothing_of_the_log_leaves_records_possibly_written() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("unknown", 1);
    kafka.local().faults().inject(ApiKey::Produce, 1, Fault::ErrorAfter(-1));
    let done = kafka.try_kpipe(&["produce", &topic, "--receipts", "--on-error", "continue"], b"a\n");
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(json_lines(&done.stdout)[0]["possibly_written"], true);
    let letters = tempfile::NamedTempFile::new().unwrap();
    let file = letters.path().to_str().unwrap();
    kafka.local().faults().inject(ApiKey::Produce, 1, Fault::ErrorAfter(-1));
    kafka.try_kpipe(&["produce", &topic, "--dead-letter", file, "--on-error", "continue"], b"b\n");
    let kept = std::fs::read_to_string(letters.path()).unwrap();
    assert!(kept.contains("; possibly written"), "{kept}");
    assert_eq!(kafka.values(&topic), ["a", "b"]);
}

/// A keyless record on a compacted topic is refused; the others of its batch are not.
#[test]
fn bad_records_of_a_batch_fail_alone() {
    require!(Kafka);
    // Before 2.4 brokers name no record, and call the batch corrupt.
    let old = (Kafka::Real(Version::V1_1), "CORRUPT_MESSAGE");
    for (version, code) in Kafka::MODERN.map(|kafka| (kafka, "INVALID_RECORD")).into_iter().chain([old]) {
        let kafka = shared(version);
        let topic = crate::support::fresh("compacted");
        kafka.kpipe(&["topics", "create", &topic, "--config", "cleanup.policy=compact"], b"");
        let lines: String =
            (0..2000).map(|n| if n % 500 == 7 { format!("{n}\n") } else { format!("k{n}:{n}\n") }).collect();
        let args = ["produce", &topic, "-K", ":", "--receipts", "--on-error", "continue"];
        let done = kafka.try_kpipe(&args, lines.as_bytes());
        assert_eq!(done.code, 1, "{}", done.stderr);
        let receipts = json_lines(&done.stdout);
        let failed: Vec<_> = receipts.iter().filter(|r| r["error"] == code).map(|r| &r["record"]).collect();
        assert_eq!(failed, [8, 508, 1008, 1508]);
        assert!(receipts.iter().all(|r| r["offset"].is_number() || r["possibly_written"] == false));
        let good: Vec<String> = (0..2000).filter(|n| n % 500 != 7).map(|n| n.to_string()).collect();
        assert_eq!(kafka.values(&topic), good);
        assert!(done.stderr.contains("not delivered: record 8: "), "{}", done.stderr);
    }
}

/// Whoever resumes is told what that repeats.
#[test]
fn records_that_are_delivered_behind_a_failed_one_are_counted() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("behind", 2);
    assert!(kafka.local().set_partition_error(&topic, 0, Some(ResponseError::InvalidRecord.code())));
    let lines = "{\"partition\":0}\n".to_owned() + &"{\"partition\":1}\n".repeat(5);
    let done = kafka.try_kpipe(&["produce", &topic, "--input", "json"], lines.as_bytes());
    assert_eq!(done.code, 1, "{}", done.stderr);
    let says = "not even the first record is known to be delivered; resuming duplicates 5 delivered records\n";
    assert!(done.stderr.contains(says), "{}", done.stderr);
}

/// Keyless records leave a partition that has no leader.
#[test]
fn keyless_records_go_where_there_is_a_leader() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("elsewhere", 2);
    let flags = ["produce", &topic, "--receipts", "-X", "metadata.max.age.ms=100"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &flags].concat());
    running.write(b"a\n");
    wait_until("the receipt", || running.seen().ends_with('\n'));
    let partition = json_lines(&running.seen())[0]["partition"].as_i64().unwrap();
    assert!(kafka.local().remove_leader(&topic, partition as i32));
    let asked = || kafka.local().faults().requests(ApiKey::Metadata);
    let before = asked();
    wait_until("the producer to see it", || asked() > before + 2);
    running.write(b"b\n");
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(json_lines(&done.stdout)[1]["partition"], 1 - partition, "{}", done.stdout);
}

#[test]
fn partitions_that_are_added_take_part() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("grown", 1);
    let args = ["-b", &kafka.bootstrap, "produce", &topic, "--input", "json"];
    // With batches of one record, keyless ones go to another partition each time.
    let flags = ["--batch-size", "1", "-X", "metadata.max.age.ms=200"];
    let mut running = Running::kpipe(&[&args[..], &flags].concat());
    let partition_of = |value: &str| {
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"");
        json_lines(&read.stdout).iter().find(|r| r["value"] == value).map(|r| r["partition"].as_i64().unwrap())
    };
    running.write(b"{\"value\":\"first\"}\n");
    wait_until("the first record", || partition_of("first") == Some(0));
    kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "4"], b"");
    running.write(b"{\"value\":\"named\",\"partition\":3}\n");
    wait_until("the record for the new partition", || partition_of("named") == Some(3));
    let mut n = 0;
    wait_until("keyless records in new partitions", || {
        n += 1;
        let value = format!("keyless-{n}");
        running.write(format!("{{\"value\":\"{value}\"}}\n").as_bytes());
        partition_of(&value).is_some_and(|partition| partition > 0)
    });
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
}

/// Neither requests nor lines without end while a partition has no leader; one line tells when it is over.
#[test]
fn a_partition_without_a_leader_costs_few_requests_and_few_lines() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("leaderless", 2);
    let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-p", "0"]);
    running.write(b"a\n");
    wait_until("the first record", || kafka.values(&topic) == ["a"]);
    assert!(kafka.local().remove_leader(&topic, 0));
    let (before, began) = (kafka.local().faults().requests(ApiKey::Metadata), Instant::now());
    running.write(b"b\n");
    wait_until("four seconds", || began.elapsed() > Duration::from_secs(4));
    let requests = kafka.local().faults().requests(ApiKey::Metadata) - before;
    assert!(requests < 20, "{requests} requests in {:?}", began.elapsed());
    assert!(kafka.local().move_leader(&topic, 0, 1));
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(kafka.values(&topic), ["a", "b"]);
    assert!(done.stderr.contains("recovered from "), "{}", done.stderr);
    assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
}

/// A producer ID that is refused is not asked for without end.
#[test]
fn a_refused_producer_id_is_asked_for_with_growing_waits() {
    // COORDINATOR_LOAD_IN_PROGRESS, as long as brokers cannot hand out IDs; COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR,
    // CONCURRENT_TRANSACTIONS.
    for (code, flags) in [
        (14, &[][..]),
        (15, &["--transactional-id", "t"]),
        (16, &["--transactional-id", "t"]),
        (51, &["--transactional-id", "t"]),
    ] {
        let kafka = Cluster::start_local(1);
        let topic = kafka.topic("no-producer-id", 1);
        kafka.local().faults().inject(ApiKey::InitProducerId, Times::Always, Fault::Error(code));
        let began = Instant::now();
        let done = kafka.try_kpipe(&[&["produce", &topic, "--timeout", "3s"], flags].concat(), b"a\n");
        assert_eq!(done.code, 1, "{code}: {}", done.stderr);
        assert!((2..10).contains(&began.elapsed().as_secs()), "{code}: the deadline is 3 s: {:?}", began.elapsed());
        let requests = kafka.local().faults().requests(ApiKey::InitProducerId);
        assert!((2..30).contains(&requests), "{code}: {requests}");
        assert!(done.stderr.lines().count() <= 4, "{code}: {}", done.stderr);
    }
}

/// The most memory that a process has had, in kB; `None` once it has ended.
fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Records behind one that waits are acknowledged by other partitions, and still cost memory: reading waits.
#[test]
fn an_unavailable_partition_does_not_let_memory_grow() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("one-down", 8);
    assert!(kafka.local().remove_leader(&topic, 3));
    let flags = ["-K", ":", "--buffer-memory", "1M", "--batch-size", "16k", "--timeout", "6s"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap, "produce", &topic], &flags[..]].concat());
    let lines: String = (0..10_000).map(|n| format!("{n}:\n")).collect();
    let (mut peak, mut written) = (0, 0);
    // A write waits as long as kpipe reads nothing, and fails once it has ended.
    while let Some(now) = peak_of(running.pid()) {
        peak = now;
        running.write(lines.as_bytes());
        written += 10_000;
    }
    let done = running.ended();
    assert_eq!(done.code, 1, "{}", done.stderr);
    // The order of 65,000 records fits into 1 MB; what is read ahead comes on top.
    assert!(written < 1_500_000 && peak < 60_000, "{written} records, {peak} kB");
}
