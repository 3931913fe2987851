//! Groups of the consumer protocol (KIP-848) on `kpipe local`: kpipe's members share, commit, leave and die.

use crate::support::{Cluster, Running, json_lines, wait_until};

fn cluster() -> Cluster {
    let kafka = Cluster::start_local(2);
    kafka.local().offer_consumer_groups();
    kafka
}

fn member(kafka: &Cluster, topic: &str, flags: &[&str]) -> Running {
    let args =
        ["-b", &kafka.bootstrap, "consume", topic, "-g", topic, "--group-protocol", "consumer", "--output", "value"];
    Running::kpipe(&[&args[..], flags].concat())
}

fn committed(kafka: &Cluster, group: &str) -> i64 {
    let done = kafka.try_kpipe(&["groups", "export", group], b"");
    json_lines(&done.stdout).iter().map(|line| line["offset"].as_i64().unwrap()).sum()
}

/// How many records each member has written.
fn counts(members: &[&Running]) -> Vec<usize> {
    members.iter().map(|member| member.seen().lines().count()).collect()
}

#[test]
fn members_share_the_partitions_and_what_one_leaves_the_other_takes() {
    let kafka = cluster();
    let topic = kafka.topic("shared", 4);
    let (first, second) = (member(&kafka, &topic, &[]), member(&kafka, &topic, &["--assignor", "range"]));
    let produce = || {
        let lines: String = (0..400).map(|n| format!("{n}:{n}\n")).collect();
        kafka.kpipe(&["produce", &topic, "-K", ":"], lines.as_bytes());
    };
    // Both get records once the partitions are shared.
    let mut produced = 0;
    wait_until("both to read", || {
        produce();
        produced += 400;
        wait_until("all", || counts(&[&first, &second]).iter().sum::<usize>() >= produced);
        counts(&[&first, &second]).iter().all(|count| *count > 0)
    });
    first.signal(libc::SIGTERM);
    let first = first.ended();
    assert_eq!(first.code, 0, "{}", first.stderr);
    produce();
    produced += 400;
    wait_until("the rest", || first.stdout.lines().count() + counts(&[&second])[0] == produced);
    second.signal(libc::SIGTERM);
    assert_eq!(second.ended().code, 0);
    assert_eq!(committed(&kafka, &topic), produced as i64);
}
