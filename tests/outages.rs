//! Brokers that crash and restart, leaders that move, connections that break: each record exactly once, in order.

use crate::support::{Cluster, Proxy, Running, Version, latest_or_local, require, send_signal, values, wait_until};
use std::time::{Duration, Instant};

/// Whether Kafka's own consumer reads the numbers below `total` from a topic of one partition, each once and in order,
/// and no record follows them.
fn holds(kafka: &Cluster, topic: &str, total: u64) -> bool {
    let read = kafka.console_consume(topic, total as usize, &["--timeout-ms", "20000"]);
    let described = kafka.kpipe(&["topics", "describe", topic, "-J"], b"");
    let next = crate::support::json_lines(&described.stdout)[0]["partitions"][0]["next_offset"].clone();
    read.lines().map(|line| line.parse::<u64>().unwrap()).eq(0..total) && next == total
}

#[test]
fn every_record_arrives_with_seven_leaders_and_any_acks() {
    require!(Kafka);
    let kafka = Cluster::start(Version::V3_9, 3, &[]);
    kafka.kpipe(&["topics", "create", "many", "--partitions", "7", "--replication-factor", "2"], b"");
    let lines: String = (0..100_000).map(|n| format!("k{}:{n}\n", n % 211)).collect();
    for acks in ["all", "1", "0"] {
        kafka.kpipe(&["produce", "many", "-K", ":", "--acks", acks], lines.as_bytes());
    }
    let complete = || {
        let read = kafka.kpipe(&["consume", "many", "-o", "beginning", "-e", "--output", "value"], b"");
        let mut seen = vec![0; 100_000];
        read.stdout.lines().for_each(|line| seen[line.parse::<usize>().unwrap()] += 1);
        seen.into_iter().all(|count| count == 3)
    };
    // With acks=0 no response tells when a record has arrived.
    wait_until("all three copies", complete);
}

#[test]
fn a_leader_killed_during_produce_loses_and_repeats_nothing() {
    require!(Kafka);
    let kafka = Cluster::start(Version::LATEST, 3, &["min.insync.replicas=1"]);
    kafka.kpipe(&["topics", "create", "moved", "--partitions", "1", "--replication-factor", "3"], b"");
    let mut running =
        Running::kpipe(&["-v", "-b", &kafka.bootstrap, "produce", "moved", "--batch-size", "20k", "--timeout", "60s"]);
    let total = 200_000u64;
    let leader = || {
        let described = kafka.kpipe(&["topics", "describe", "moved", "-J"], b"");
        crate::support::json_lines(&described.stdout)[0]["partitions"][0]["leader"].as_u64().unwrap_or(0) as u32
    };
    for part in 0..4 {
        let lines: String = (part * total / 4..(part + 1) * total / 4).map(|n| format!("{n}\n")).collect();
        running.write(lines.as_bytes());
        if part == 1 {
            send_signal(kafka.pid(leader()), libc::SIGKILL);
        }
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("200000 records delivered"), "{}", done.stderr);
    wait_until("a new leader", || leader() > 0);
    assert!(holds(&kafka, "moved", total), "lost, repeated or out of order");
    // The bootstrap list still holds the dead broker.
    let read = kafka.kpipe(&["consume", "moved", "-o", "-3", "-e"], b"");
    assert_eq!(values(&read.stdout), ["199997", "199998", "199999"]);
}

#[test]
fn a_broker_killed_five_times_during_produce_loses_and_repeats_nothing() {
    require!(Kafka);
    let mut kafka = Cluster::start(Version::LATEST, 1, &[]);
    kafka.kpipe(&["topics", "create", "crash", "--partitions", "1"], b"");
    let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", "crash", "--batch-size", "20k"]);
    let total = 500_000u64;
    for part in 0..10 {
        let lines: String = (part * total / 10..(part + 1) * total / 10).map(|n| format!("{n}\n")).collect();
        running.write(lines.as_bytes());
        if part % 2 == 0 {
            kafka.crash_and_restart(1);
        }
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("500000 records delivered"), "{}", done.stderr);
    assert!(holds(&kafka, "crash", total), "lost, repeated or out of order");
}

/// A broker behind a proxy, whose address it advertises.
fn behind_a_proxy() -> (Cluster, std::sync::Arc<Proxy>) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let mut kafka = Cluster::start(Version::LATEST, 1, &[&advertised]);
    let (proxy, _) = Proxy::start(port, &kafka.bootstrap);
    kafka.bootstrap = format!("127.0.0.1:{port}");
    (kafka, proxy)
}

/// A generator with a seed, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn connections_cut_a_hundred_times_at_any_byte_lose_and_repeat_nothing() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "cut"], b"");
    let mut running =
        Running::kpipe(&["-b", &kafka.bootstrap, "produce", "cut", "--batch-size", "3k", "--timeout", "90s"]);
    let (mut next, mut random) = (0u64, Random(12345));
    for round in 0..100 {
        if round % 2 == 0 {
            proxy.cut_requests_after(random.below(9_000) as i64);
        } else {
            proxy.cut_answers_after(random.below(300) as i64);
        }
        wait_until("a cut", || {
            let lines: String = (next..next + 200).map(|n| format!("{n}\n")).collect();
            running.write(lines.as_bytes());
            next += 200;
            !proxy.is_armed()
        });
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(proxy.cuts.load(std::sync::atomic::Ordering::Relaxed), 100);
    assert!(holds(&kafka, "cut", next), "lost, repeated or out of order");
}

#[test]
fn compressed_keyed_batches_arrive_once_and_in_order_over_cut_connections() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "keyed", "--partitions", "5"], b"");
    let args = ["produce", "keyed", "-K", ":", "-z", "zstd", "--batch-size", "4k", "--receipts", "--timeout", "90s"];
    let mut running = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    let (mut next, mut random) = (0u64, Random(7));
    for round in 0..40 {
        let at = random.below(if round % 2 == 0 { 20_000 } else { 900 }) as i64;
        if round % 2 == 0 {
            proxy.cut_requests_after(at)
        } else {
            proxy.cut_answers_after(at)
        }
        wait_until("a cut", || {
            let lines: String = (next..next + 500).map(|n| format!("k{}:{n}\n", n % 83)).collect();
            running.write(lines.as_bytes());
            next += 500;
            !proxy.is_armed()
        });
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout.lines().count() as u64, next, "a receipt for each record");
    let read = kafka.kpipe(&["consume", "keyed", "-o", "beginning", "-e"], b"");
    let mut at = std::collections::HashMap::new();
    let mut last = std::collections::HashMap::new();
    let mut seen = 0;
    for record in crate::support::json_lines(&read.stdout) {
        let n: u64 = record["value"].as_str().unwrap().parse().unwrap();
        if let Some(before) = last.insert(record["partition"].as_i64(), n) {
            assert!(before < n, "{n} after {before}: repeated or out of order");
        }
        at.insert(n, (record["partition"].clone(), record["offset"].clone()));
        seen += 1;
    }
    assert_eq!(seen, next, "lost");
    for (n, receipt) in crate::support::json_lines(&done.stdout).into_iter().enumerate() {
        let (partition, offset) = &at[&(n as u64)];
        assert_eq!(&receipt["partition"], partition);
        // The response to a recognized repeat may lack the offset.
        assert!(receipt.get("offset").is_none_or(|received| received == offset), "{receipt}");
    }
}

#[test]
fn a_consumer_with_cut_connections_writes_each_record_once() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "read", "--partitions", "3"], b"");
    let lines: String = (0..200_000).map(|n| format!("{}:{n}\n", n % 29)).collect();
    kafka.kpipe(&["produce", "read", "-K", ":", "-z", "lz4", "--batch-size", "20k"], lines.as_bytes());
    let mut random = Random(11);
    proxy.cut_answers_after(random.below(100_000) as i64);
    let reader = Running::kpipe(&[
        "-b",
        &kafka.bootstrap,
        "consume",
        "read",
        "-g",
        "cut",
        "--output",
        "value",
        "-X",
        "max.partition.fetch.bytes=60000",
    ]);
    for _ in 0..15 {
        wait_until("a cut", || !proxy.is_armed() || reader.seen().lines().count() == 200_000);
        proxy.cut_answers_after(random.below(100_000) as i64);
    }
    wait_until("all records", || reader.seen().lines().count() >= 200_000);
    proxy.cut_answers_after(-1);
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let mut seen: Vec<u32> = done.stdout.lines().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200_000), "lost or repeated");
    assert!(proxy.cuts.load(std::sync::atomic::Ordering::Relaxed) > 5);
    let rest = kafka.kpipe(&["consume", "read", "-g", "cut", "-e"], b"");
    assert_eq!(rest.stdout, "", "all of it is committed");
}

#[test]
fn a_transaction_with_cut_connections_is_visible_completely_or_not_at_all() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "tx", "--partitions", "3"], b"");
    let mut random = Random(13);
    let mut expected = 0;
    for round in 0..12 {
        let lines: String = (0..2_000).map(|n| format!("k{n}:{round}\n")).collect();
        let at = random.below(if round % 2 == 0 { 60_000 } else { 2_500 }) as i64;
        if round % 2 == 0 {
            proxy.cut_requests_after(at)
        } else {
            proxy.cut_answers_after(at)
        }
        let args = ["produce", "tx", "-K", ":", "--transactional-id", "tx", "--batch-size", "3k", "--timeout", "60s"];
        let done = kafka.try_kpipe(&args, lines.as_bytes());
        proxy.cut_requests_after(-1);
        proxy.cut_answers_after(-1);
        if done.code == 0 {
            expected += 2_000;
        }
        wait_until("the marker", || {
            let read = kafka.try_kpipe(&["consume", "tx", "-o", "beginning", "-e", "--output", "value"], b"");
            read.code == 0 && read.stdout.lines().count() == expected
        });
    }
    assert!(expected >= 2_000 * 6, "a cut connection alone is no reason to abort");
}

#[test]
fn the_kafka_engine_survives_a_restart_and_loses_nothing() {
    require!(Kafka);
    let mut kafka = Cluster::start(Version::V0_10_2, 1, &["num.partitions=1"]);
    kafka.kpipe(&["produce", "old"], b"first\n");
    let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", "old", "--batch-size", "5k"]);
    for part in 0..6 {
        let lines: String = (part * 5_000..(part + 1) * 5_000).map(|n| format!("{n}\n")).collect();
        running.write(lines.as_bytes());
        if part == 2 {
            kafka.crash_and_restart(1);
        }
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let read = kafka.kpipe(&["consume", "old", "-o", "beginning", "-e", "--output", "value"], b"");
    let mut last = 0;
    let mut seen = std::collections::HashSet::new();
    for n in read.stdout.lines().skip(1).map(|line| line.parse::<u32>().unwrap()) {
        // Without idempotence a batch may be repeated, but the order stays.
        assert!(n <= last + 1, "{n} after {last}");
        last = n;
        seen.insert(n);
    }
    assert_eq!(seen.len(), 30_000, "lost");
}

#[test]
fn records_fail_at_their_timeout_when_the_broker_stays_silent() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "silent"], b"");
    let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", "silent", "--timeout", "3s"]);
    running.write(b"first\n");
    wait_until("the first record", || kafka.values("silent") == ["first"]);
    proxy.set_stalled(true);
    let began = Instant::now();
    running.write(b"second\n");
    let done = running.finish();
    proxy.set_stalled(false);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("silent/0: not delivered within 3 s"), "{}", done.stderr);
    assert!(began.elapsed() < Duration::from_secs(20), "a request may take longer: {:?}", began.elapsed());
    assert!(done.stderr.contains("possibly written"), "{}", done.stderr);
}

#[test]
fn a_tailing_consumer_survives_broken_connections() {
    require!(Kafka);
    let (kafka, proxy) = behind_a_proxy();
    kafka.kpipe(&["topics", "create", "tail"], b"");
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", "tail", "-o", "beginning", "--output", "value"]);
    for n in 0..5 {
        kafka.kpipe(&["produce", "tail"], format!("{n}\n").as_bytes());
        wait_until("the record", || tail.seen().lines().count() == n + 1);
        proxy.cut_answers_after(n as i64 * 7);
        wait_until("a cut", || !proxy.is_armed());
    }
    tail.signal(libc::SIGINT);
    let done = tail.ended();
    assert_eq!((done.code, done.stdout.as_str()), (0, "0\n1\n2\n3\n4\n"), "{}", done.stderr);
}

#[test]
fn a_tailing_consumer_ends_with_the_name_of_a_deleted_topic() {
    let kafka = latest_or_local();
    let topic = kafka.topic("deleted", 1);
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning"]);
    kafka.kpipe(&["produce", &topic], b"a\n");
    wait_until("the record", || !tail.seen().is_empty());
    kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
    let done = tail.ended();
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains(&format!("{topic}/0: UNKNOWN_TOPIC_OR_PARTITION")), "{}", done.stderr);
}
