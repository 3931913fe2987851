//! Members of a group: they share, come and go, also with other clients, and what they tell of it is true.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, json_lines, latest_or_local, python_running, require, shared, shell,
    wait_until,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clusters, and the group protocols that they serve.
const PROTOCOLS: [(Kafka, &str); 4] = [
    (Kafka::LATEST, "consumer"),
    (Kafka::LATEST, "classic"),
    (Kafka::Real(Version::V3_9), "classic"),
    (Kafka::Local, "classic"),
];

fn protocols() -> impl Iterator<Item = (Arc<Cluster>, &'static str)> {
    PROTOCOLS.into_iter().filter(|(kafka, _)| kafka.is_asked_for()).map(|(kafka, protocol)| (shared(kafka), protocol))
}

fn member(kafka: &Cluster, topic: &str, flags: &[&str]) -> Running {
    let args = ["-b", &kafka.bootstrap, "consume", topic, "-g", topic, "--output", "value", "-v"];
    Running::kpipe(&[&args, flags].concat())
}

/// Keyed lines, the numbers `from..to`, to all partitions.
fn produce(kafka: &Cluster, topic: &str, from: u32, to: u32) {
    let lines: String = (from..to).map(|n| format!("{n}:{n}\n")).collect();
    kafka.kpipe(&["produce", topic, "-K", ":", "-q"], lines.as_bytes());
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The partitions of each member, as `groups describe` tells.
fn shares(kafka: &Cluster, group: &str) -> Vec<usize> {
    let done = kafka.try_kpipe(&["groups", "describe", group, "-J"], b"");
    let Some(described) = json_lines(&done.stdout).into_iter().next() else { return Vec::new() };
    let members = described["members"].as_array().unwrap();
    let mut sizes: Vec<usize> = members.iter().map(|m| m["partitions"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn members_share_and_whoever_leaves_is_replaced_at_once() {
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("share", 6);
        let flags = ["--group-protocol", protocol];
        let (first, second) = (member(&kafka, &topic, &flags), member(&kafka, &topic, &flags));
        wait_until("both to have a share", || shares(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 0, 1_000);
        let read = || [numbers(&first.seen()), numbers(&second.seen())];
        wait_until("the records", || read().concat().len() == 1_000);
        assert!(read().iter().all(|part| part.len() > 100), "{protocol}");
        // From the SIGTERM until a record of each partition is read by who is left.
        let before = first.seen().len();
        second.signal(libc::SIGTERM);
        let left = Instant::now();
        produce(&kafka, &topic, 1_000, 1_200);
        wait_until("the rest", || numbers(&first.seen()[before..]).len() + numbers(&second.seen()).len() >= 200);
        let done = second.ended();
        wait_until("all", || numbers(&first.seen()).len() + numbers(&done.stdout).len() == 1_200);
        let took = left.elapsed();
        // 0.5 s with the classic protocol and 1 s with the other, where no other test wants the machine.
        assert!(took < Duration::from_secs(3), "{protocol}: {took:?}");
        assert_eq!(done.code, 0, "{}", done.stderr);
        first.signal(libc::SIGTERM);
        let done = [first.ended().stdout, done.stdout].concat();
        let mut all = numbers(&done);
        all.sort_unstable();
        assert_eq!(all, (0..1_200).collect::<Vec<_>>(), "{kafka} {protocol}: once each");
    }
}

/// Whoever keeps a partition goes on reading it while others join: none of its records waits for a rebalance.
#[test]
fn partitions_that_stay_never_stop() {
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("stay", 4);
        let first = member(&kafka, &topic, &["--group-protocol", protocol]);
        wait_until("the first", || shares(&kafka, &topic) == [4]);
        let mut others = Vec::new();
        let mut input = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-p", "0", "-q"]);
        let (mut sent, mut slowest) = (0, Duration::ZERO);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            if others.len() < 2 && began.elapsed() > Duration::from_secs(1 + 2 * others.len() as u64) {
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
        let told = stderr(first);
        assert!(told.contains("revoked"), "{told}");
        if !told.lines().any(|line| line.contains("revoked") && line.contains(&format!("{topic}/0"))) {
            assert!(slowest < Duration::from_millis(1_000), "{protocol}: a record waited {slowest:?}");
        }
        others.into_iter().for_each(|other| drop(stderr(other)));
    }
}

#[test]
fn one_group_with_a_member_of_java() {
    require!(KafkaTools);
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("java", 6);
        produce(&kafka, &topic, 0, 600);
        let property = kafka.version().consumer_property_flag();
        let as_protocol = format!("group.protocol={protocol}");
        let java = kafka.console_member(&topic, &topic, &[property, &as_protocol]);
        wait_until("Java to read", || numbers(&java.seen()).len() == 600);
        let ours = member(&kafka, &topic, &["--group-protocol", protocol]);
        wait_until("the shares", || shares(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 600, 1_200);
        wait_until("the records", || numbers(&java.seen()).len() + numbers(&ours.seen()).len() >= 1_200);
        ours.signal(libc::SIGTERM);
        let done = ours.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(numbers(&done.stdout).len() > 100, "{kafka} {protocol}");
        produce(&kafka, &topic, 1_200, 1_300);
        let all = || [numbers(&java.seen()), numbers(&done.stdout)].concat().into_iter().collect::<BTreeSet<u32>>();
        wait_until("Java to have all again", || all().len() == 1_300);
        java.signal(libc::SIGTERM);
    }
}

#[test]
fn one_group_with_a_member_of_librdkafka() {
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
        wait_until("the shares", || shares(&kafka, &topic) == [3, 3]);
        produce(&kafka, &topic, 0, 1_000);
        wait_until("the records", || numbers(&theirs.seen()).len() + numbers(&ours.seen()).len() == 1_000);
        assert!(numbers(&ours.seen()).len() > 100 && numbers(&theirs.seen()).len() > 100, "{kafka} {protocol}");
        ours.signal(libc::SIGTERM);
        assert_eq!(ours.ended().code, 0);
        theirs.signal(libc::SIGTERM);
    }
}

#[test]
fn head_and_a_second_run_lose_nothing() {
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("head", 4);
        produce(&kafka, &topic, 0, 20_000);
        let consume = format!(
            "kpipe -b {} consume {topic} -g {topic} --output value --group-protocol {protocol}",
            kafka.bootstrap
        );
        // `head` would take a block of which it shows a part; this one takes lines, and what it took is known.
        let first = shell(&format!("{consume} | sed -u 100q; exit ${{PIPESTATUS[0]}}"));
        assert_eq!(first.code, 0, "{}", first.stderr);
        let second = shell(&format!("{consume} -e"));
        let mut all = numbers(&(first.stdout + &second.stdout));
        all.sort_unstable();
        assert_eq!(all, (0..20_000).collect::<Vec<_>>(), "{kafka} {protocol}: nothing lost, nothing twice");
    }
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("static", 4);
        let start = |name: &str| member(&kafka, &topic, &["--group-protocol", protocol, "--instance-id", name]);
        let (a, b) = (start("a"), start("b"));
        wait_until("the shares", || shares(&kafka, &topic) == [2, 2]);
        a.signal(libc::SIGTERM);
        assert_eq!(a.ended().code, 0);
        let a = start("a");
        produce(&kafka, &topic, 0, 400);
        wait_until("the records", || numbers(&a.seen()).len() + numbers(&b.seen()).len() == 400);
        assert!(!numbers(&a.seen()).is_empty());
        // Who came first had all, until the second came.
        for (running, moves) in [(a, 0), (b, 1)] {
            running.signal(libc::SIGTERM);
            let done = running.ended();
            assert_eq!(done.code, 0, "{}", done.stderr);
            let moved = done.stderr.matches("revoked").count();
            assert!(moved <= moves, "{protocol}: nobody had to move: {}", done.stderr);
        }
    }
}

#[test]
fn new_topics_and_partitions_are_picked_up() {
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
fn a_reader_that_stalls_leaves_and_joins_again_when_it_moves() {
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("stall", 2);
        let flags = ["--group-protocol", protocol, "--max-poll-interval", "1s", "--commit-interval", "200ms"];
        let reader = member(&kafka, &topic, &flags);
        wait_until("the member", || shares(&kafka, &topic) == [2]);
        reader.set_paused(true);
        produce(&kafka, &topic, 0, 60_000);
        wait_until("the member to leave", || shares(&kafka, &topic).is_empty());
        reader.set_paused(false);
        wait_until("all to be read", || {
            let seen: BTreeSet<u32> = numbers(&reader.seen()).into_iter().collect();
            seen.len() == 60_000
        });
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("no record was taken for 1s: --max-poll-interval"), "{}", done.stderr);
        assert!(done.stderr.contains("will be read again"), "{}", done.stderr);
    }
}

/// A slow reader is not a stalled one: it takes a record now and then, and stays.
#[test]
fn a_slow_reader_stays_a_member() {
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
fn rebalances_are_told_as_json() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("told", 2);
    let start =
        || Running::kpipe(&["-b", &kafka.bootstrap, "-v", "--log-format", "json", "consume", &topic, "-g", &topic]);
    // What the coordinator has given, a member has only once it reads it.
    let reads_both = |first: &Running, value: &str| {
        kafka.kpipe(&["produce", &topic, "-p", "1", "-q"], format!("{value}\n").as_bytes());
        wait_until("the record", || first.seen().contains(&format!("\"{value}\"")));
    };
    let first = start();
    wait_until("the first", || shares(&kafka, &topic) == [2]);
    reads_both(&first, "begun");
    let second = start();
    wait_until("the second", || shares(&kafka, &topic) == [1, 1]);
    second.signal(libc::SIGTERM);
    second.ended();
    wait_until("the first alone", || shares(&kafka, &topic) == [2]);
    reads_both(&first, "alone");
    first.signal(libc::SIGTERM);
    let told = json_lines(&first.ended().stderr);
    let events: Vec<(&str, &str)> = told
        .iter()
        .filter_map(|event| Some((event["message"].as_str()?, event["partitions"].as_str()?)))
        .filter(|(_, partitions)| *partitions != "none")
        .collect();
    let (all, one) = (format!("{topic}/0, {topic}/1"), format!("{topic}/1"));
    assert_eq!(events, [("assigned", &*all), ("revoked", &*one), ("assigned", &*one)]);
}

#[test]
fn the_nearest_replica_is_read() {
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
        let told =
            done.stderr.contains(&format!("reading from the nearest replica partition=\"{topic}/0\" broker={broker}"));
        assert_eq!(told, broker != leader, "{}", done.stderr);
    }
}

#[test]
fn what_is_committed_bears_the_leaders_epoch_and_who_wrote_it() {
    for (kafka, protocol) in protocols() {
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

#[test]
fn lag_is_watched_until_a_signal() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("watched", 1);
    produce(&kafka, &topic, 0, 10);
    kafka.kpipe(&["consume", &topic, "-g", &topic, "-c", "4"], b"");
    let watch = Running::kpipe(&["-b", &kafka.bootstrap, "groups", "lag", &topic, "--watch", "0.1", "-J"]);
    let last = || json_lines(&watch.seen()).last().and_then(|line| line["lag"].as_i64());
    wait_until("the lag", || last() == Some(6));
    kafka.kpipe(&["consume", &topic, "-g", &topic, "-e"], b"");
    wait_until("no lag", || last() == Some(0));
    watch.signal(libc::SIGINT);
    assert_eq!(watch.ended().code, 0);
}

#[test]
fn groups_are_shown_as_kafkas_own_tool_shows_them() {
    require!(KafkaTools);
    for (kafka, protocol) in protocols() {
        let topic = kafka.topic("shown", 3);
        produce(&kafka, &topic, 0, 300);
        let group = topic.as_str();
        kafka.kpipe(&["consume", group, "-g", group, "-c", "120", "--group-protocol", protocol], b"");
        let reader = member(&kafka, &topic, &["--group-protocol", protocol, "--commit", "none"]);
        wait_until("the member", || shares(&kafka, group) == [3]);
        let theirs = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", group]);
        let mut expected: Vec<Vec<String>> = theirs
            .lines()
            .filter(|line| line.starts_with(group))
            .map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect())
            .collect();
        expected.sort();
        let ours = kafka.kpipe(&["groups", "describe", group], b"").stdout;
        let rows: Vec<Vec<String>> = ours
            .lines()
            .filter(|line| line.starts_with(&format!("{topic} ")))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        // Theirs has the client last; both else: topic, partition, committed, end, lag, member, host.
        let same: Vec<Vec<String>> = rows.iter().map(|r| [&r[..6], &[r[7].clone(), r[6].clone()]].concat()).collect();
        assert_eq!(same, expected, "{kafka} {protocol}\n{ours}\n{theirs}");
        let state = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", group, "--state"]);
        assert!(
            state.contains("Stable") && ours.starts_with(&format!("{group}: Stable, 1 members, {protocol}")),
            "{ours}{state}"
        );

        // Refused while it has members; the message says who they are.
        let args = ["groups", "reset", group, "--topic", &topic, "--to", "beginning"];
        let plan = kafka.kpipe(&args, b"");
        assert!(plan.stderr.contains("--execute"), "{}", plan.stderr);
        let refused = kafka.try_kpipe(&[&args[..], &["--execute"]].concat(), b"");
        assert_eq!(refused.code, 1);
        assert!(
            refused.stderr.contains("NON_EMPTY_GROUP") && refused.stderr.contains("kpipe at 127.0.0.1"),
            "{}",
            refused.stderr
        );
        reader.signal(libc::SIGTERM);
        reader.ended();

        kafka.kpipe(&[&args[..], &["--execute"]].concat(), b"");
        assert_eq!(kafka.try_kpipe(&["groups", "lag", group, "--max", "10"], b"").code, 1);
        let lag = |args: &[&str]| -> i64 {
            json_lines(&kafka.kpipe(&[&["groups", "lag", group, "-J"], args].concat(), b"").stdout)
                .iter()
                .map(|l| l["lag"].as_i64().unwrap())
                .sum()
        };
        assert_eq!(lag(&[]), 300);
        let exported = kafka.kpipe(&["groups", "export", group], b"").stdout;
        kafka.kpipe(&["groups", "reset", group, "--to", "end", "--execute"], b"");
        assert_eq!((lag(&[]), lag(&["--max", "0"])), (0, 0));
        kafka.kpipe(&["groups", "reset", group, "--to", "shift:-2", "--execute"], b"");
        assert_eq!(lag(&[]), 6);
        kafka.kpipe(&["groups", "reset", group, "--topic", &format!("{topic}:1"), "--to", "@1000", "--execute"], b"");
        let described = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", group]);
        let row: Vec<&str> = described
            .lines()
            .filter_map(|l| {
                Some(l.split_whitespace().collect::<Vec<_>>()).filter(|r| r.len() > 3 && r[0] == group && r[2] == "1")
            })
            .next()
            .unwrap();
        assert_eq!(row[3], "0", "{described}");
        kafka.kpipe(&["groups", "import", "--execute"], exported.as_bytes());
        assert_eq!(lag(&[]), 300);
        kafka.kpipe(&["groups", "delete-offsets", group, "--topic", &topic, "--yes"], b"");
        assert_eq!(kafka.kpipe(&["groups", "export", group], b"").stdout, "");
        kafka.try_kpipe(&["groups", "delete", group, "--yes"], b"");
        assert!(!kafka.tool(Tool::ConsumerGroupCommand, &["--list"]).lines().any(|line| line == group));
        let gone = kafka.try_kpipe(&["groups", "describe", group], b"");
        assert!(gone.code == 1 && gone.stderr.contains("GROUP_ID_NOT_FOUND"), "{}", gone.stderr);
    }
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let kafka = shared(Kafka::Local);
    for (args, says) in [
        (&["consume", "t", "--instance-id", "x"][..], "need a group: -g"),
        (&["consume", "t", "-g", "g", "--assignor", "rang"], "did you mean range?"),
        (
            &["consume", "t", "-g", "g", "--group-protocol", "consumer", "--session-timeout", "9s"],
            "consumer.session.timeout.ms",
        ),
        (&["consume", "t", "-g", "g", "--group-protocol", "consumer"], "the brokers do not have it"),
        (&["consume", "t", "-g", "g", "--group-protocol", "classic", "--assignor", "uniform"], "cooperative-sticky"),
        (&["consume", "--regex", "("], "without closing"),
        (&["groups", "reset", "g", "--to", "beginning"], "--topic says what to set"),
    ] {
        let done = kafka.try_kpipe(args, b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
    let malformed = kafka.try_kpipe(
        &["groups", "import"],
        b"{\"group\":\"g\",\"topic\":\"t\",\"partition\":0,\"offset\":1}\n{\"grup\":1}\n",
    );
    assert_eq!(malformed.code, 1);
    assert!(malformed.stderr.contains("stdin, line 2, byte"), "{}", malformed.stderr);
}

#[test]
fn brokers_without_group_requests_are_named() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V0_10_2));
    let old = kafka.try_kpipe(&["groups", "list"], b"");
    assert!(old.code == 2 && old.stderr.contains("--engine native can"), "{}", old.stderr);
    let old = kafka.try_kpipe(&["consume", "t", "-g", "g", "--instance-id", "x"], b"");
    assert!(old.code == 2 && old.stderr.contains("cannot share a group"), "{}", old.stderr);
}
