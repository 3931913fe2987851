//! `groups`: members, lag and offsets, checked with Kafka's own tool.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, each_with_protocols, json_lines, listed, require, shared, wait_until,
};

/// A topic of three partitions with 300 records, of which a group of the same name has committed 120.
fn partly_read(kafka: &Cluster, protocol: &str) -> String {
    let topic = kafka.topic("managed", 3);
    let lines: String = (0..300).map(|n| format!("{n}:{n}\n")).collect();
    kafka.kpipe(&["produce", &topic, "-K", ":", "-q"], lines.as_bytes());
    kafka.kpipe(&["consume", &topic, "-g", &topic, "-c", "120", "--group-protocol", protocol], b"");
    topic
}

/// A member that commits nothing.
fn member(kafka: &Cluster, topic: &str, protocol: &str) -> Running {
    let args = ["-b", &kafka.bootstrap, "consume", topic, "-g", topic, "--commit", "none"];
    let running = Running::kpipe(&[&args[..], &["--group-protocol", protocol]].concat());
    wait_until("the assignment", || {
        let described = json_lines(&kafka.try_kpipe(&["groups", "describe", topic, "-J"], b"").stdout);
        described.iter().any(|group| group["members"][0]["partitions"].as_array().is_some_and(|p| p.len() == 3))
    });
    running
}

fn lag(kafka: &Cluster, args: &[&str]) -> i64 {
    listed(kafka, &[&["groups", "lag"], args].concat()).iter().map(|line| line["lag"].as_i64().unwrap()).sum()
}

#[test]
fn groups_are_described_as_kafkas_own_tool_describes_them() {
    require!(KafkaTools);
    for (kafka, protocol) in each_with_protocols() {
        let topic = partly_read(&kafka, protocol);
        let group = topic.as_str();
        let reader = member(&kafka, &topic, protocol);
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
        // Both print topic, partition, committed offset, end, lag, member, host; theirs prints the client last.
        let same: Vec<Vec<String>> = rows.iter().map(|r| [&r[..6], &[r[7].clone(), r[6].clone()]].concat()).collect();
        assert_eq!(same, expected, "{kafka} {protocol}\n{ours}\n{theirs}");
        let state = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", group, "--state"]);
        assert!(
            state.contains("Stable") && ours.starts_with(&format!("{group}: Stable, 1 member, {protocol}")),
            "{ours}{state}"
        );
        reader.signal(libc::SIGTERM);
        reader.ended();
    }
}

#[test]
fn offsets_are_not_reset_while_a_group_has_members() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = partly_read(&kafka, protocol);
        let reader = member(&kafka, &topic, protocol);
        let args = ["groups", "reset", &topic, "--topic", &topic, "--to", "beginning"];
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
        assert_eq!(kafka.try_kpipe(&["groups", "lag", &topic, "--max", "10"], b"").code, 1);
        assert_eq!(lag(&kafka, &[&topic]), 300);
    }
}

fn reset(kafka: &Cluster, group: &str, args: &[&str]) {
    kafka.kpipe(&[&["groups", "reset", group], args, &["--execute"]].concat(), b"");
}

#[test]
fn offsets_are_reset_exported_and_imported() {
    for (kafka, protocol) in each_with_protocols() {
        let topic = partly_read(&kafka, protocol);
        let group = topic.as_str();
        reset(&kafka, group, &["--topic", &topic, "--to", "beginning"]);
        assert_eq!(lag(&kafka, &[group]), 300);
        let exported = kafka.kpipe(&["groups", "export", group], b"").stdout;
        reset(&kafka, group, &["--to", "end"]);
        assert_eq!((lag(&kafka, &[group]), lag(&kafka, &[group, "--max", "0"])), (0, 0));
        reset(&kafka, group, &["--to", "shift:-2"]);
        assert_eq!(lag(&kafka, &[group]), 6);
        kafka.kpipe(&["groups", "import", "--execute"], exported.as_bytes());
        assert_eq!(lag(&kafka, &[group]), 300);
    }
}

#[test]
fn kafkas_own_tool_sees_reset_offsets_and_deleted_groups() {
    require!(Kafka);
    for (kafka, protocol) in each_with_protocols().filter(|(kafka, _)| kafka.kafka != Kafka::Local) {
        let topic = partly_read(&kafka, protocol);
        let group = topic.as_str();
        reset(&kafka, group, &["--to", "shift:-2"]);
        reset(&kafka, group, &["--topic", &format!("{topic}:1"), "--to", "@1000"]);
        let described = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", group]);
        let mut rows = described.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.len() > 3 && row[0] == group && row[2] == "1").unwrap();
        assert_eq!(row[3], "0", "{described}");
        kafka.kpipe(&["groups", "delete-offsets", group, "--topic", &topic, "--yes"], b"");
        assert_eq!(kafka.kpipe(&["groups", "export", group], b"").stdout, "");
        kafka.try_kpipe(&["groups", "delete", group, "--yes"], b"");
        assert!(!kafka.tool(Tool::ConsumerGroupCommand, &["--list"]).lines().any(|line| line == group));
        let gone = kafka.try_kpipe(&["groups", "describe", group], b"");
        assert!(gone.code == 1 && gone.stderr.contains("GROUP_ID_NOT_FOUND"), "{}", gone.stderr);
    }
}

#[test]
fn lag_is_watched_until_a_signal() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("watched", 1);
    kafka.kpipe(&["produce", &topic], "x\n".repeat(10).as_bytes());
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
fn what_a_group_cannot_do_is_refused() {
    let kafka = shared(Kafka::Local);
    for (args, message) in [
        (&["consume", "t", "--instance-id", "x"][..], "require a group (-g)"),
        (&["consume", "t", "-g", "g", "--assignor", "rang"], "did you mean range?"),
        (
            &["consume", "t", "-g", "g", "--group-protocol", "consumer", "--session-timeout", "9s"],
            "consumer.session.timeout.ms",
        ),
        (&["consume", "t", "-g", "g", "--group-protocol", "consumer"], "not supported by the brokers"),
        (&["consume", "t", "-g", "g", "--group-protocol", "classic", "--assignor", "uniform"], "cooperative-sticky"),
        (&["consume", "--regex", "("], "without closing"),
        (&["groups", "reset", "g", "--to", "beginning"], "name topics with --topic"),
    ] {
        let done = kafka.try_kpipe(args, b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(message), "{args:?}: {}", done.stderr);
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
    assert!(old.code == 2 && old.stderr.contains("use --engine native"), "{}", old.stderr);
    let old = kafka.try_kpipe(&["consume", "t", "-g", "g", "--instance-id", "x"], b"");
    assert!(old.code == 2 && old.stderr.contains("does not support group membership"), "{}", old.stderr);
}
