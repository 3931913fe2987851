//! Three real brokers that stop, restart, are upgraded, cut off or full, under load of every kind: nothing that was
//! acknowledged is lost, nothing idempotent or transactional is there twice, and everything resumes by itself.
//!
//! `KPIPE_CHAOS=MINUTES` has each fault once, then repeats them at random for as long; `KPIPE_SEED` repeats a choice.
//! `scripts/soak` runs all of that, `scripts/test` each fault once.

mod load;

use crate::support::{Cluster, Proxy, Running, Stalled, Version, json_lines, report, require, send_signal, wait_until};
use load::Load;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BROKERS: u32 = 3;
/// Brokers that fall silent are fenced within 3 s, and replicas are out of sync within as much.
const QUICK: [&str; 6] = [
    "broker.session.timeout.ms=3000",
    "broker.heartbeat.interval.ms=500",
    "replica.lag.time.max.ms=3000",
    "offsets.topic.replication.factor=3",
    "transaction.state.log.min.isr=2",
    "transaction.state.log.replication.factor=3",
];

/// How long the long variants run, if they are asked for.
fn minutes() -> Option<u64> {
    std::env::var("KPIPE_CHAOS").ok()?.parse().ok()
}

/// Three brokers, each behind a proxy whose address it advertises to clients and other brokers.
struct Three {
    kafka: Cluster,
    proxies: Vec<Arc<Proxy>>,
    /// How many brokers were killed.
    kills: u32,
}

impl Three {
    fn start(version: Version) -> Self {
        Self::start_in(tempfile::Builder::new().prefix("kpipe-kafka-").tempdir().unwrap().keep(), version)
    }

    fn start_in(dir: std::path::PathBuf, version: Version) -> Self {
        let ports: Vec<u16> = (0..BROKERS)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let advertised: Vec<String> = (1..)
            .zip(&ports)
            .map(|(n, port)| format!("{n}:advertised.listeners=PLAINTEXT://127.0.0.1:{port}"))
            .collect();
        let configs: Vec<&str> = QUICK.into_iter().chain(advertised.iter().map(String::as_str)).collect();
        let kafka = Cluster::start_in(dir, version, BROKERS, &configs, &[]);
        let proxies = ports.iter().zip(kafka.bootstrap.split(',')).map(|(port, broker)| Proxy::start(*port, broker).0);
        Self { proxies: proxies.collect(), kafka, kills: 0 }
    }

    /// The leader of a topic's first partition, from 1.
    fn leader(&self, topic: &str) -> u32 {
        let mut leader = 0;
        wait_until("a leader", || {
            let described = self.kafka.try_kpipe(&["topics", "describe", topic, "-J"], b"");
            let first = json_lines(&described.stdout).first().map(|topic| topic["partitions"][0]["leader"].clone());
            leader = first.and_then(|leader| leader.as_u64()).unwrap_or(0) as u32;
            leader > 0
        });
        leader
    }

    /// The active controller, from 1.
    fn controller(&self) -> u32 {
        let mut leader = 0;
        wait_until("a controller", || {
            let quorum = self.kafka.try_kpipe(&["cluster", "quorum", "-J"], b"");
            let lines = if quorum.code == 0 { json_lines(&quorum.stdout) } else { Vec::new() };
            let found = lines.iter().find(|line| line["role"] == "leader");
            leader = found.and_then(|line| line["node"].as_u64()).unwrap_or(0) as u32;
            leader > 0
        });
        leader
    }

    fn kill(&mut self, broker: u32) {
        self.kafka.crash_and_restart(broker);
        self.kills += 1;
    }

    /// Reports what was done to it.
    fn report(&self) {
        let cuts: usize = self.proxies.iter().map(|proxy| proxy.cuts.load(Ordering::Relaxed)).sum();
        report(&format!("{} brokers killed, {cuts} connections cut", self.kills));
    }

    /// Waits until all replicas of all topics are in sync.
    fn is_whole(&self) {
        wait_until("all replicas to be in sync", || {
            let listed = self.kafka.try_kpipe(&["topics", "describe", "-J"], b"");
            let topics = if listed.code == 0 { json_lines(&listed.stdout) } else { Vec::new() };
            let mut partitions = topics.iter().flat_map(|topic| topic["partitions"].as_array().unwrap());
            let count = |list: &serde_json::Value| list.as_array().map_or(0, Vec::len);
            !topics.is_empty() && partitions.all(|p| count(&p["in_sync_replicas"]) == count(&p["replicas"]))
        });
    }
}

/// What goes wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The leader of a partition is stopped, as by SIGSTOP, and continues as if nothing had been.
    Stopped(Duration),
    /// The leader of a partition is killed and starts again.
    Killed,
    /// Each broker is killed in turn.
    EachKilled,
    /// The active controller is killed and starts again.
    ControllerKilled,
    /// Every broker is stopped in good order and starts again.
    RollingRestart,
    /// Clients cannot reach the leader of a partition; the other brokers can.
    CutFromClients(Duration),
    /// The other brokers cannot fetch from the leader of a partition; clients reach it.
    CutFromBrokers(Duration),
    /// So many connections of clients and other brokers to the leader of a partition are cut at any byte.
    ConnectionsCut(u32),
    /// A member of a group is killed, and another starts.
    MemberKilled(usize),
}

fn bring_about(trouble: Trouble, three: &mut Three, load: &mut Load) {
    let leader = three.leader("idempotent");
    let proxy = three.proxies[leader as usize - 1].clone();
    match trouble {
        Trouble::Stopped(time) => {
            send_signal(three.kafka.pid(leader), libc::SIGSTOP);
            std::thread::sleep(time);
            send_signal(three.kafka.pid(leader), libc::SIGCONT);
        }
        Trouble::Killed => three.kill(leader),
        Trouble::EachKilled => {
            for broker in 1..=BROKERS {
                three.kill(broker);
                three.is_whole();
            }
        }
        Trouble::ControllerKilled => {
            let controller = three.controller();
            three.kill(controller);
        }
        Trouble::RollingRestart => roll(three, None),
        Trouble::CutFromClients(time) | Trouble::CutFromBrokers(time) => {
            let of_clients = matches!(trouble, Trouble::CutFromClients(_));
            proxy.stall(Stalled { brokers: !of_clients, clients: of_clients });
            std::thread::sleep(time);
            proxy.stall(Stalled::default());
        }
        Trouble::ConnectionsCut(times) => {
            for n in 0..times {
                let bytes = fastrand::i64(0..3_000);
                if n % 2 == 0 {
                    proxy.cut_requests_after(bytes)
                } else {
                    proxy.cut_answers_after(bytes)
                }
                wait_until("a connection to be cut", || !proxy.is_armed());
            }
        }
        Trouble::MemberKilled(n) => load.replace_a_member(n),
    }
}

/// Stops every broker in good order and starts it again, as another version if one is given.
fn roll(three: &mut Three, version: Option<Version>) {
    for n in 1..=BROKERS {
        let stopped = three.kafka.stop(n, libc::SIGTERM);
        three.kafka.start_again(n, &stopped, version);
        three.is_whole();
    }
}

#[test]
fn each_trouble_of_real_brokers_loses_and_repeats_nothing() {
    require!(Kafka);
    if minutes().is_none() {
        return report("run by KPIPE_CHAOS=MINUTES");
    }
    let mut three = Three::start(Version::LATEST);
    let mut load = Load::start(&three.kafka, "3");
    load.flows();
    for trouble in [
        Trouble::Stopped(Duration::from_secs(5)),
        Trouble::CutFromBrokers(Duration::from_secs(4)),
        Trouble::CutFromClients(Duration::from_secs(2)),
        Trouble::ConnectionsCut(20),
        Trouble::MemberKilled(0),
        Trouble::Killed,
        Trouble::MemberKilled(1),
        Trouble::ControllerKilled,
    ] {
        bring_about(trouble, &mut three, &mut load);
        load.flows();
    }
    three.report();
    report(&load.judge(&three.kafka));
}

#[test]
fn an_hour_of_troubles_loses_and_repeats_nothing() {
    require!(Kafka);
    let Some(minutes) = minutes() else { return };
    let seed = std::env::var("KPIPE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    report(&format!("KPIPE_SEED={seed}"));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut three = Three::start(Version::LATEST);
    let mut load = Load::start(&three.kafka, "3");
    load.flows();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60 * minutes) {
        let time = Duration::from_secs(random.u64(1..=20));
        let trouble = match random.u8(0..9) {
            0 => Trouble::Stopped(Duration::from_secs(20)),
            1 => Trouble::Killed,
            7 => Trouble::EachKilled,
            8 => Trouble::ConnectionsCut(100),
            2 => Trouble::ControllerKilled,
            3 => Trouble::RollingRestart,
            4 => Trouble::CutFromClients(time),
            5 => Trouble::MemberKilled(random.usize(..)),
            _ => Trouble::CutFromBrokers(time),
        };
        report(&format!("{:>5} s: {trouble:?}", began.elapsed().as_secs()));
        bring_about(trouble, &mut three, &mut load);
        three.is_whole();
        load.flows();
    }
    three.report();
    report(&load.judge(&three.kafka));
}

#[test]
fn a_rolling_upgrade_loses_and_repeats_nothing() {
    require!(Kafka);
    if minutes().is_none() {
        return;
    }
    let mut three = Three::start(Version::V4_3);
    let load = Load::start(&three.kafka, "3");
    load.flows();
    roll(&mut three, Some(Version::V4_4));
    load.flows();
    let features = three.kafka.kpipe(&["cluster", "features"], b"");
    assert!(features.stdout.contains("metadata.version"), "{}", features.stdout);
    report(&load.judge(&three.kafka));
}

/// A file system of its own, which is unmounted with it.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(at: &std::path::Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} tmpfs {}", at.display());
        (crate::support::shell(&mount).code == 0).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        crate::support::shell(&format!("umount -l {}", self.0.display()));
    }
}

#[test]
fn a_full_disk_ends_a_broker_and_nothing_else() {
    require!(Kafka);
    if minutes().is_none() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("kpipe-kafka-").tempdir().unwrap().keep();
    let Some(_mount) = Mount::new(&dir.join("data-2"), "64m") else {
        report("skipped: a small file system needs root");
        return;
    };
    let mut three = Three::start_in(dir, Version::LATEST);
    let load = Load::start(&three.kafka, "3");
    load.flows();
    let create = ["topics", "create", "filler", "--partitions", "3", "--replication-factor", "3"];
    three.kafka.kpipe(&[&create[..], &["--config", "segment.bytes=4194304"]].concat(), b"");
    let line = "x".repeat(1_000) + "\n";
    let filled = three.kafka.kpipe(&["produce", "filler", "--timeout", "2m"], line.repeat(100_000).as_bytes());
    assert!(filled.stderr.contains("100000 records delivered"), "{}", filled.stderr);
    three.kafka.wait_for_exit(2);
    load.flows();
    let count = three.kafka.kpipe(&["topics", "count", "filler", "-J"], b"");
    assert_eq!(json_lines(&count.stdout)[0]["records"], 100_000, "{}", count.stdout);
    report(&load.judge(&three.kafka));
}

/// An unclean election loses what only the dead leader had: kpipe reads on with what there is, and its producers do not
/// believe that all is as before.
#[test]
fn an_unclean_election_is_read_over() {
    require!(Kafka);
    if minutes().is_none() {
        return;
    }
    let mut three = Three::start(Version::LATEST);
    let assigned = ["topics", "create", "unclean", "--assignment", "1:2"];
    let configs = ["--config", "unclean.leader.election.enable=true", "--config", "min.insync.replicas=1"];
    three.kafka.kpipe(&[&assigned[..], &configs].concat(), b"");
    let kafka = &three.kafka;
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", "unclean", "-o", "beginning", "--output", "value"]);
    kafka.kpipe(&["produce", "unclean"], b"1\n2\n3\n");
    let second = three.kafka.stop(2, libc::SIGKILL);
    three.kafka.kpipe(&["produce", "unclean", "--timeout", "60s"], b"4\n5\n6\n7\n");
    wait_until("the records", || tail.seen().lines().count() == 7);
    // Of the three controllers two are left, once the second is back.
    let first = three.kafka.stop(1, libc::SIGKILL);
    three.kafka.start_again(2, &second, None);
    wait_until("an unclean election", || three.leader("unclean") == 2);
    assert_eq!(three.kafka.values("unclean"), ["1", "2", "3"]);
    three.kafka.kpipe(&["produce", "unclean", "--timeout", "60s"], b"a\nb\n");
    wait_until("the records after it", || tail.seen().ends_with("a\nb\n") || tail.told().contains("unclean/0"));
    three.kafka.start_again(1, &first, None);
    three.is_whole();
    three.kafka.kpipe(&["produce", "unclean"], b"c\n");
    wait_until("the last record", || tail.seen().ends_with("c\n"));
    assert_eq!(three.kafka.values("unclean"), ["1", "2", "3", "a", "b", "c"]);
    tail.signal(libc::SIGTERM);
    let done = tail.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    report(&format!("a tail over an unclean election: {}", done.stderr.lines().next().unwrap_or("no message")));
}
