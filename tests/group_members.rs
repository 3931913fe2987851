//! Members of a group: they share the partitions, join and leave, also with other clients, and report what they have.

use crate::support::{
    Cluster, Kafka, Running, Version, each_with_protocols, json_lines, latest_or_local, python_running, require,
    shared, shell, wait_until,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn member(kafka: &Cluster, topic: &str, flags: &[&str]) -> Running {
    let args = ["-b", &kafka.bootstrap, "consume", topic, "-g", topic, "--output", "value", "-v"];
    Running::kpipe(&[&args, flags].concat())
}

/// Produces the numbers `from..to`, keyed, to all partitions.
fn produce(kafka: &Cluster, topic: &str, from: u32, to: u32) {
    let lines: String = (from..to).map(|n| format!("{n}:{n}\n")).collect();
    kafka.kpipe(&["produce", topic, "-K", ":", "-q"], lines.as_bytes());
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The number of partitions of each member, sorted, as `groups describe` prints them.
fn assignment_sizes(kafka: &Cluster, group: &str) -> Vec<usize> {
    let done = kafka.try_kpipe(&["groups", "describe", group, "-J"], b"");
    let Some(described) = json_lines(&done.stdout).into_iter().next() else { return Vec::new() };
    let members = described["members"].as_array().unwrap();
    let mut sizes: Vec<usize> = members.iter().map(|m| m["partitions"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn members_share_the_partitions_and_replace_one_that_leaves_at_once() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("share", 6);
        let flags = ["--group-protocol", protocol];
        let (first, second) = (member(&kafka, &topic, &flags), member(&kafka, &topic, &flags));
        wait_until("both assignments", || assignment_sizes(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 0, 1_000);
        let read = || [numbers(&first.seen()), numbers(&second.seen())];
        wait_until("the records", || read().concat().len() == 1_000);
        assert!(read().iter().all(|part| part.len() > 100), "{protocol}");
        // The time from SIGTERM until the other member reads the records of every partition.
        let before = first.seen().len();
        second.signal(libc::SIGTERM);
        let left = Instant::now();
        produce(&kafka, &topic, 1_000, 1_200);
        wait_until("the rest", || numbers(&first.seen()[before..]).len() + numbers(&second.seen()).len() >= 200);
        let done = second.ended();
        wait_until("all records", || numbers(&first.seen()).len() + numbers(&done.stdout).len() == 1_200);
        let took = left.elapsed();
        // The classic members' heartbeats are 0.5 s apart; the others' interval is the coordinator's: 5 s by default.
        let limit = Duration::from_secs(if protocol == "classic" { 3 } else { 9 });
        assert!(took < limit, "{protocol}: {took:?}");
        assert_eq!(done.code, 0, "{}", done.stderr);
        first.signal(libc::SIGTERM);
        let done = [first.ended().stdout, done.stdout].concat();
        let mut all = numbers(&done);
        all.sort_unstable();
        assert_eq!(all, (0..1_200).collect::<Vec<_>>(), "{kafka} {protocol}: once each");
    }
}

/// None of the records of a partition that keeps its member waits for a rebalance.
#[test]
fn a_partition_that_keeps_its_member_is_read_during_rebalances() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("stay", 4);
        let first = member(&kafka, &topic, &["--group-protocol", protocol]);
        wait_until("the first", || assignment_sizes(&kafka, &topic) == [4]);
        let mut others = Vec::new();
        let mut input = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-p", "0", "-q"]);
        let (mut sent, mut slowest) = (0, Duration::ZERO);
        let began = Instant::now();
        // Members hear of each other by heartbeats, which the coordinator wants 5 s apart with KIP-848.
        let rounds = if protocol == "classic" { 1 } else { 5 };
        while began.elapsed() < Duration::from_secs(4 * rounds) {
            if others.len() < 2 && began.elapsed() > Duration::from_secs(rounds * (1 + 2 * others.len() as u64)) {
                others.push(member(&kafka, &topic, &["--group-protocol", protocol]));
            }
            let line = Instant::now();
            input.write(format!("{sent}\n").as_bytes());
            sent += 1;
            let seen = |running: &Running| numbers(&running.seen()).len();
            wait_until("the record", || seen(&first) + others.iter().map(seen).sum::<usize>() == sent);
            slowest = slowest.max(line.elapsed());
        }
        let stderr = |running: Running| {
            running.signal(libc::SIGTERM);
            running.ended().stderr
        };
        let logged = stderr(first);
        assert!(logged.contains("revoked"), "{logged}");
        if !logged.lines().any(|line| line.contains("revoked") && line.contains(&format!("{topic}/0"))) {
            assert!(slowest < Duration::from_millis(1_000), "{protocol}: a record waited {slowest:?}");
        }
        others.into_iter().for_each(|other| drop(stderr(other)));
    }
}

#[test]
fn kpipe_and_java_share_a_group() {
    require!(KafkaTools);
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("java", 6);
        produce(&kafka, &topic, 0, 600);
        let property = kafka.version().consumer_property_flag();
        let as_protocol = format!("group.protocol={protocol}");
        let java = kafka.console_member(&topic, &topic, &[property, &as_protocol]);
        wait_until("Java to read", || numbers(&java.seen()).len() == 600);
        let ours = member(&kafka, &topic, &["--group-protocol", protocol]);
        wait_until("the assignments", || assignment_sizes(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 600, 1_200);
        wait_until("the records", || numbers(&java.seen()).len() + numbers(&ours.seen()).len() >= 1_200);
        ours.signal(libc::SIGTERM);
        let done = ours.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(numbers(&done.stdout).len() > 100, "{kafka} {protocol}");
        produce(&kafka, &topic, 1_200, 1_300);
        let all = || [numbers(&java.seen()), numbers(&done.stdout)].concat().into_iter().collect::<BTreeSet<u32>>();
        wait_until("all records", || all().len() == 1_300);
        java.signal(libc::SIGTERM);
    }
}

#[test]
fn kpipe_and_librdkafka_share_a_group() {
    require!(Python);
    for (kafka, protocol, assignor) in [
        (Kafka::LATEST, "consumer", "uniform"),
        (Kafka::LATEST, "classic", "cooperative-sticky"),
        (Kafka::Real(Version::V3_9), "classic", "range"),
        (Kafka::Local, "classic", "roundrobin"),
    ] {
        if !kafka.is_asked_for() {
            continue;
        }
        let kafka = shared(kafka);
        let topic = kafka.topic("rdkafka", 6);
        let extra = match protocol {
            "consumer" => "'group.protocol': 'consumer'".to_owned(),
            _ => format!("'partition.assignment.strategy': '{assignor}', 'heartbeat.interval.ms': 300"),
        };
        let theirs = python_running(&format!(
            "from confluent_kafka import Consumer\n\
             c = Consumer({{'bootstrap.servers': '{}', 'group.id': '{topic}', 'auto.offset.reset': 'earliest', {extra}}})\n\
             c.subscribe(['{topic}'])\n\
             while True:\n  m = c.poll(1)\n  if m is not None and m.error() is None: print(m.value().decode())\n",
            kafka.bootstrap
        ));
        let ours = member(&kafka, &topic, &["--group-protocol", protocol, "--assignor", assignor]);
        wait_until("the assignments", || assignment_sizes(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 0, 1_000);
        wait_until("the records", || numbers(&theirs.seen()).len() + numbers(&ours.seen()).len() == 1_000);
        assert!(numbers(&ours.seen()).len() > 100 && numbers(&theirs.seen()).len() > 100, "{kafka} {protocol}");
        ours.signal(libc::SIGTERM);
        assert_eq!(ours.ended().code, 0);
        theirs.signal(libc::SIGTERM);
    }
}

#[test]
fn a_reader_that_stops_and_a_second_run_get_every_record_once() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("head", 4);
        produce(&kafka, &topic, 0, 20_000);
        let consume = format!(
            "kpipe -b {} consume {topic} -g {topic} --output value --group-protocol {protocol}",
            kafka.bootstrap
        );
        // `head` takes whole blocks; `sed -u` takes only the lines that it prints.
        let first = shell(&format!("{consume} | sed -u 100q; exit ${{PIPESTATUS[0]}}"));
        assert_eq!(first.code, 0, "{}", first.stderr);
        let second = shell(&format!("{consume} -e"));
        let mut all = numbers(&(first.stdout + &second.stdout));
        all.sort_unstable();
        assert_eq!(all, (0..20_000).collect::<Vec<_>>(), "{kafka} {protocol}: nothing lost, nothing twice");
    }
}

#[test]
fn a_static_member_keeps_its_partitions_over_a_restart() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("static", 4);
        let start = |name: &str| member(&kafka, &topic, &["--group-protocol", protocol, "--instance-id", name]);
        let (a, b) = (start("a"), start("b"));
        wait_until("the assignments", || assignment_sizes(&kafka, &topic) == [2, 2]);
        a.signal(libc::SIGTERM);
        assert_eq!(a.ended().code, 0);
        let a = start("a");
        produce(&kafka, &topic, 0, 400);
        wait_until("the records", || numbers(&a.seen()).len() + numbers(&b.seen()).len() == 400);
        assert!(!numbers(&a.seen()).is_empty());
        // The first member had all partitions until the second joined.
        for (running, moves) in [(a, 0), (b, 1)] {
            running.signal(libc::SIGTERM);
            let done = running.ended();
            assert_eq!(done.code, 0, "{}", done.stderr);
            let moved = done.stderr.matches("revoked").count();
            assert!(moved <= moves, "{protocol}: no other rebalance is needed: {}", done.stderr);
        }
    }
}

#[test]
fn partitions_that_are_added_around_the_restart_of_a_static_leader_are_read() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("returns", 2);
        let flags = ["-X", "metadata.max.age.ms=300", "--group-protocol", protocol, "--instance-id"];
        let start = |name: &str| member(&kafka, &topic, &[&flags[..], &[name]].concat());
        let leader = start("a");
        wait_until("the leader's assignment", || assignment_sizes(&kafka, &topic) == [2]);
        let other = start("b");
        wait_until("the assignments", || assignment_sizes(&kafka, &topic) == [1, 1]);
        leader.signal(libc::SIGTERM);
        assert_eq!(leader.ended().code, 0);
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "4"], b"");
        let leader = start("a");
        let count = || numbers(&leader.seen()).len() + numbers(&other.seen()).len();
        produce(&kafka, &topic, 0, 100);
        wait_until("the partitions that were added meanwhile", || count() == 100);
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "6"], b"");
        produce(&kafka, &topic, 100, 300);
        wait_until("the partitions that were added later", || count() == 300);
    }
}

#[test]
fn new_topics_and_partitions_are_read() {
    for flags in [&["-g", "picked"][..], &["-g", "picked-classic", "--group-protocol", "classic"], &["-o", "beginning"]]
    {
        let kafka = latest_or_local();
        let first = kafka.topic("pick", 1);
        let pattern = format!("{first}|{first}-later");
        let args = [
            "-b",
            &kafka.bootstrap,
            "-X",
            "metadata.max.age.ms=300",
            "consume",
            "--regex",
            &pattern,
            "--output",
            "value",
        ];
        let reader = Running::kpipe(&[&args[..], flags].concat());
        produce(&kafka, &first, 0, 10);
        wait_until("the first topic", || numbers(&reader.seen()).len() == 10);
        let later = format!("{first}-later");
        kafka.kpipe(&["topics", "create", &later, "--partitions", "2"], b"");
        produce(&kafka, &later, 10, 30);
        wait_until("the new topic", || numbers(&reader.seen()).len() == 30);
        kafka.kpipe(&["topics", "add-partitions", &later, "--to", "4"], b"");
        produce(&kafka, &later, 30, 90);
        wait_until("the new partitions", || numbers(&reader.seen()).len() == 90);
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
}

#[test]
fn a_member_whose_reader_stalls_leaves_and_joins_again_when_it_resumes() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("stall", 2);
        let flags = ["--group-protocol", protocol, "--max-poll-interval", "1s", "--commit-interval", "200ms"];
        let reader = member(&kafka, &topic, &flags);
        wait_until("the member", || assignment_sizes(&kafka, &topic) == [2]);
        reader.set_paused(true);
        produce(&kafka, &topic, 0, 60_000);
        wait_until("the member to leave", || assignment_sizes(&kafka, &topic).is_empty());
        reader.set_paused(false);
        wait_until("all to be read", || {
            let seen: BTreeSet<u32> = numbers(&reader.seen()).into_iter().collect();
            seen.len() == 60_000
        });
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("the output accepted no records for 1 s"), "{}", done.stderr);
        assert!(done.stderr.contains("written and not committed: "), "{}", done.stderr);
        assert_eq!(numbers(&done.stdout).len(), 60_000, "nobody else has read what was written: {}", done.stderr);
    }
}

/// The poll interval counts from record to record.
#[test]
fn a_member_whose_reader_is_slow_stays() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("slow", 1);
    produce(&kafka, &topic, 0, 12);
    let line = format!(
        "kpipe -b {} consume {topic} -g {topic} --commit each --max-poll-interval 1s -e --output value | while read n; do sleep 0.3; echo $n; done",
        kafka.bootstrap
    );
    let done = shell(&line);
    assert_eq!(numbers(&done.stdout), (0..12).collect::<Vec<_>>(), "{}", done.stderr);
    assert_eq!(done.stderr, "");
}

#[test]
fn rebalances_are_logged_as_json() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("told", 2);
    let start =
        || Running::kpipe(&["-b", &kafka.bootstrap, "-v", "--log-format", "json", "consume", &topic, "-g", &topic]);
    // The coordinator describes an assignment before the member acts on it.
    let reads_both = |first: &Running, value: &str| {
        kafka.kpipe(&["produce", &topic, "-p", "1", "-q"], format!("{value}\n").as_bytes());
        wait_until("the record", || first.seen().contains(&format!("\"{value}\"")));
    };
    let first = start();
    wait_until("the first", || assignment_sizes(&kafka, &topic) == [2]);
    reads_both(&first, "begun");
    let second = start();
    wait_until("the second", || assignment_sizes(&kafka, &topic) == [1, 1]);
    second.signal(libc::SIGTERM);
    second.ended();
    wait_until("the first alone", || assignment_sizes(&kafka, &topic) == [2]);
    reads_both(&first, "alone");
    first.signal(libc::SIGTERM);
    let logged = json_lines(&first.ended().stderr);
    let events: Vec<(&str, &str)> = logged
        .iter()
        .filter_map(|event| Some((event["message"].as_str()?, event["partitions"].as_str()?)))
        .filter(|(_, partitions)| *partitions != "none")
        .collect();
    let (all, one) = (format!("{topic}/0, {topic}/1"), format!("{topic}/1"));
    assert_eq!(events, [("assigned", &*all), ("revoked", &*one), ("assigned", &*one)]);
}

#[test]
fn records_are_fetched_from_the_nearest_replica() {
    require!(Kafka);
    let selector = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let kafka = Cluster::start(Version::LATEST, 2, &[selector]);
    let topic = crate::support::fresh("near");
    kafka.kpipe(&["topics", "create", &topic, "--replication-factor", "2"], b"");
    produce(&kafka, &topic, 0, 100);
    let described = json_lines(&kafka.kpipe(&["topics", "describe", &topic, "-J"], b"").stdout);
    let leader = described[0]["partitions"][0]["leader"].as_i64().unwrap();
    for broker in [1, 2] {
        let rack = format!("rack-{broker}");
        let done =
            kafka.kpipe(&["-v", "consume", &topic, "--rack", &rack, "-o", "beginning", "-e", "--output", "value"], b"");
        assert_eq!(numbers(&done.stdout).len(), 100);
        let is_logged =
            done.stderr.contains(&format!("reading from the nearest replica partition={topic}/0 broker={broker}"));
        assert_eq!(is_logged, broker != leader, "{}", done.stderr);
    }
}

#[test]
fn committed_offsets_carry_the_leader_epoch_and_the_client() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = kafka.topic("epoch", 1);
        produce(&kafka, &topic, 0, 10);
        kafka.kpipe(&["consume", &topic, "-g", &topic, "-c", "4", "--group-protocol", protocol], b"");
        let exported = json_lines(&kafka.kpipe(&["groups", "export", &topic], b"").stdout);
        let metadata = concat!("kpipe ", env!("CARGO_PKG_VERSION"));
        let expected = serde_json::json!({
            "group": topic, "topic": topic, "partition": 0, "offset": 4, "leader_epoch": 0, "metadata": metadata,
        });
        assert_eq!(exported, [expected], "{kafka} {protocol}");
    }
}
