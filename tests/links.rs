//! Links that are slow or go silent: what moves is waited for, what does not is given up and followed elsewhere.

use crate::support::{Cluster, Proxy, Running, wait_until};
use std::time::{Duration, Instant};

/// 4 Mbit/s: a fetch of 4 MiB takes 8 s, and so does a produce request of as much.
#[test]
fn a_slow_link_is_slow_and_nothing_else() {
    let mut kafka = Cluster::start_local(1);
    let (proxy, port) = Proxy::start(0, &kafka.bootstrap);
    kafka.local().advertise(1, "127.0.0.1", port);
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

/// A leader that is cut off from the other brokers still names itself, and serves what it has: it is left when metadata
/// is due, and at once where it accepts no records.
#[test]
fn a_leader_that_is_cut_off_from_the_others_is_left() {
    let kafka = Cluster::start_local(3);
    let (topic, local) = (kafka.topic("isolated", 1), kafka.local());
    assert!(local.move_leader(&topic, 0, 1));
    // The cut-off broker is the one that was asked first, too.
    let first = kafka.bootstrap.split(',').next().unwrap();
    let flags = ["-b", first, "-X", "metadata.max.age.ms=300"];
    let consume = ["consume", &topic, "-o", "beginning", "--output", "value"];
    let plain = Running::kpipe(&[&flags[..], &consume].concat());
    let member = Running::kpipe(&[&flags[..], &consume, &["-g", "isolated-group"]].concat());
    let mut writer = Running::kpipe(&[&flags[..], &["produce", &topic]].concat());
    writer.write(b"before\n");
    wait_until("the first record", || plain.seen() == "before\n" && member.seen() == "before\n");
    local.isolate(1, true);
    assert!(local.move_leader(&topic, 0, 2));
    local.move_coordinator("isolated-group", 3);
    writer.write(b"after\n");
    wait_until("the second record", || plain.seen() == "before\nafter\n" && member.seen() == "before\nafter\n");
    assert_eq!(writer.finish().code, 0);
    for reader in [plain, member] {
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
}

/// Of a name that does not resolve, the first command says all that is needed, and does not wait for it to pass.
#[test]
fn a_wrong_advertised_listener_is_named_at_once() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("advertised", 1);
    kafka.kpipe(&["consume", &topic, "-g", "g", "-e"], b"");
    let port = kafka.bootstrap.rsplit(':').next().unwrap();
    kafka.local().advertise(1, "kafka-internal.invalid", port.parse().unwrap());
    let says = format!(
        "broker 1 advertises kafka-internal.invalid:{port}, which does not resolve; bootstrap broker: {} (check \
         advertised.listeners)",
        kafka.bootstrap
    );
    for args in [
        &["consume", &topic, "-o", "beginning", "-e"][..],
        &["consume", &topic],
        &["consume", &topic, "-g", "g"],
        &["produce", &topic],
        &["topics", "offsets", &topic],
        &["groups", "list"],
        &["groups", "lag", "g"],
    ] {
        let began = Instant::now();
        let done = kafka.try_kpipe(args, b"record\n");
        assert_eq!(done.code, 1, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(&says), "{args:?}: {}", done.stderr);
        assert!(done.stderr.lines().count() <= 3, "{args:?}: {}", done.stderr);
        assert!(began.elapsed() < Duration::from_secs(5), "{args:?} took {:?}", began.elapsed());
    }
}
