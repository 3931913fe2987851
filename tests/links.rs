//! Links that are slow or go silent: what moves is waited for, what does not is given up and followed elsewhere.

use crate::support::{Cluster, Proxy, Running, Version, require, wait_until};
use std::time::{Duration, Instant};

/// 4 Mbit/s: a fetch of 4 MiB takes 8 s, and so does a produce request of as much.
#[test]
fn a_slow_link_is_slow_and_nothing_else() {
    require!(Kafka);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let mut kafka = Cluster::start(Version::LATEST, 1, &[&advertised]);
    let (proxy, _) = Proxy::start(port, &kafka.bootstrap);
    kafka.bootstrap = format!("127.0.0.1:{port}");
    kafka.kpipe(&["topics", "create", "slow", "--partitions", "6"], b"");
    let lines: String = (0..6_000).map(|n| format!("{n:0>999}\n")).collect();
    proxy.limit_rate(500_000);
    // The limit is for silence: one below the time of a request shows it, whatever the default is.
    let limit = ["-X", "request.timeout.ms=4000"];
    let produced = kafka.kpipe(&[&["produce", "slow"], &limit[..]].concat(), lines.as_bytes());
    assert!(!produced.stderr.contains("retrying"), "{}", produced.stderr);
    let read =
        kafka.kpipe(&[&["consume", "slow", "-o", "beginning", "-e", "--output", "value"], &limit[..]].concat(), b"");
    assert!(!read.stderr.contains("retrying"), "{}", read.stderr);
    let mut read: Vec<&str> = read.stdout.lines().collect();
    read.sort_unstable();
    assert!(read.into_iter().eq(lines.lines()));
}

/// The broker keeps its connections open and answers nothing, while another one takes over.
#[test]
fn a_leader_that_moves_away_from_a_silent_broker_is_followed_at_once() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("silent", 1);
    let local = kafka.local();
    assert!(local.move_leader(&topic, 0, 1));
    let reader = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
    let mut writer = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic]);
    writer.write(b"before\n");
    wait_until("the first record", || reader.seen() == "before\n");
    local.faults().freeze(1);
    writer.write(b"after\n");
    let since = Instant::now();
    assert!(local.move_leader(&topic, 0, 2));
    wait_until("the second record", || reader.seen() == "before\nafter\n");
    // Suspected after 5 s, not given up after 30.
    assert!(since.elapsed() < Duration::from_secs(15), "took {:?}", since.elapsed());
    assert_eq!(writer.finish().code, 0);
    reader.signal(libc::SIGTERM);
    assert_eq!(reader.ended().code, 0);
}
