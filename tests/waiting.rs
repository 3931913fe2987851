//! Whatever cannot be done right now costs next to nothing while it is waited for: neither the processor nor requests.

use crate::support::{Cluster, Running, wait_until};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, OFFERED, Times};
use std::time::{Duration, Instant};

/// How long each run is watched.
const WATCHED: Duration = Duration::from_secs(3);
/// Requests of all kinds together: retries come up to once a second for each of two brokers, fetches that wait twice.
const MOST_REQUESTS: u64 = 60;
/// Hundredths of a second of the processor; the tests run kpipe without optimization.
const MOST_TICKS: u64 = 45;
const MOST_LINES: usize = 8;

/// What goes wrong on a cluster of two brokers whose topic has two partitions.
type Trouble = (&'static str, fn(&Cluster, &str));

/// NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, REPLICA_NOT_AVAILABLE, NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR,
/// FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE.
const OF_PARTITIONS: [Trouble; 9] = [
    ("6", |kafka, topic| partition_error(kafka, topic, 6)),
    ("7", |kafka, topic| partition_error(kafka, topic, 7)),
    ("9", |kafka, topic| partition_error(kafka, topic, 9)),
    ("19", |kafka, topic| partition_error(kafka, topic, 19)),
    ("56", |kafka, topic| partition_error(kafka, topic, 56)),
    ("74", |kafka, topic| partition_error(kafka, topic, 74)),
    ("75", |kafka, topic| partition_error(kafka, topic, 75)),
    ("3", |kafka, topic| partition_error(kafka, topic, 3)),
    ("5", |kafka, topic| partition_error(kafka, topic, 5)),
];

const OF_THE_CLUSTER: [Trouble; 6] = [
    ("no leader", |kafka, topic| assert!(kafka.local().remove_leader(topic, 0))),
    ("a broker is down", |kafka, _| kafka.local().crash(1)),
    ("both brokers are down", |kafka, _| [1, 2].into_iter().for_each(|broker| kafka.local().crash(broker))),
    ("a broker is silent", |kafka, _| kafka.local().faults().freeze(1)),
    ("a broker is cut off", |kafka, topic| {
        kafka.local().isolate(1, true);
        assert!(kafka.local().move_leader(topic, 0, 2));
    }),
    ("metadata is refused", |kafka, topic| {
        kafka.local().faults().inject(ApiKey::Metadata, Times::Always, Fault::Error(-1));
        assert!(kafka.local().move_leader(topic, 0, 2));
    }),
];

/// UNKNOWN_SERVER_ERROR, COORDINATOR_LOAD_IN_PROGRESS and closed connections of all that a group asks for.
const OF_GROUPS: [Trouble; 6] = [
    ("offsets are refused", |kafka, _| refuse(kafka, ApiKey::OffsetCommit, Fault::Error(14))),
    ("commits are dropped", |kafka, _| refuse(kafka, ApiKey::OffsetCommit, Fault::DropBefore)),
    ("heartbeats are refused", |kafka, _| refuse(kafka, ApiKey::Heartbeat, Fault::Error(-1))),
    ("the member is unknown", |kafka, _| refuse(kafka, ApiKey::Heartbeat, Fault::Error(25))),
    ("the coordinator is unknown", |kafka, _| {
        refuse(kafka, ApiKey::Heartbeat, Fault::Error(16));
        refuse(kafka, ApiKey::FindCoordinator, Fault::Error(15));
    }),
    ("committed offsets are refused", |kafka, _| {
        refuse(kafka, ApiKey::Heartbeat, Fault::Error(25));
        refuse(kafka, ApiKey::OffsetFetch, Fault::Error(14));
    }),
];

fn partition_error(kafka: &Cluster, topic: &str, code: i16) {
    assert!(kafka.local().set_partition_error(topic, 0, Some(code)));
}

fn refuse(kafka: &Cluster, api: ApiKey, fault: Fault) {
    kafka.local().faults().inject(api, Times::Always, fault);
}

fn requests(kafka: &Cluster) -> u64 {
    OFFERED.iter().map(|(api, _)| kafka.local().faults().requests(*api)).sum()
}

/// Watches a run in each trouble, all at the same time.
fn waits_quietly(troubles: &[Trouble], start: impl Fn(&Cluster, &str) -> Running + Sync) {
    std::thread::scope(|scope| {
        for (what, begin) in troubles {
            let start = &start;
            scope.spawn(move || {
                let kafka = Cluster::start_local(2);
                let topic = kafka.topic("waiting", 2);
                assert!(kafka.local().move_leader(&topic, 0, 1) && kafka.local().move_leader(&topic, 1, 2));
                let mut run = start(&kafka, &topic);
                begin(&kafka, &topic);
                run.write(b"a record\n");
                // What comes at once may come in a burst.
                let (mut before, began) = ((run.ticks(), requests(&kafka)), Instant::now());
                wait_until("a second", || began.elapsed() > Duration::from_secs(1));
                before = (run.ticks().max(before.0), requests(&kafka).max(before.1));
                wait_until("the run to be watched", || began.elapsed() > WATCHED + Duration::from_secs(1));
                let (ticks, asked) = (run.ticks() - before.0, requests(&kafka) - before.1);
                assert!(ticks <= MOST_TICKS && asked <= MOST_REQUESTS, "{what}: {ticks} ticks, {asked} requests");
                let lines = run.told().lines().count();
                assert!(lines <= MOST_LINES, "{what}: {}", run.told());
                run.signal(libc::SIGKILL);
                run.ended();
            });
        }
    });
}

fn flags(kafka: &Cluster) -> [&str; 6] {
    ["-b", &kafka.bootstrap, "-X", "request.timeout.ms=1000", "-X", "metadata.max.age.ms=2000"]
}

#[test]
fn a_tail_waits_quietly() {
    let troubles = [&OF_PARTITIONS[..], &OF_THE_CLUSTER].concat();
    waits_quietly(&troubles, |kafka, topic| {
        kafka.kpipe(&["produce", topic, "-p", "0"], b"first\n");
        let args = ["consume", topic, "-o", "beginning", "--output", "value"];
        let tail = Running::kpipe(&[&flags(kafka)[..], &args].concat());
        wait_until("the first record", || tail.seen() == "first\n");
        tail
    });
}

#[test]
fn a_member_waits_quietly() {
    let troubles = [&OF_GROUPS[..], &OF_THE_CLUSTER].concat();
    waits_quietly(&troubles, |kafka, topic| {
        kafka.kpipe(&["produce", topic, "-p", "0"], b"first\n");
        let args = ["consume", topic, "-g", topic, "--output", "value", "--commit-interval", "100ms"];
        let member = Running::kpipe(&[&flags(kafka)[..], &["-X", "heartbeat.interval.ms=300"], &args].concat());
        wait_until("the first record", || member.seen() == "first\n");
        member
    });
}

#[test]
fn a_producer_waits_quietly() {
    let troubles = [&OF_PARTITIONS[..], &OF_THE_CLUSTER].concat();
    waits_quietly(&troubles, |kafka, topic| {
        let mut producer = Running::kpipe(&[&flags(kafka)[..], &["produce", topic, "-p", "0", "--receipts"]].concat());
        producer.write(b"first\n");
        wait_until("the first record", || producer.seen().ends_with('\n'));
        producer
    });
}
