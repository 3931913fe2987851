//! One bad partition costs only itself: listings show the rest, name the bad one, and end with exit code 1.

use crate::support::{Cluster, Done, Running, json_lines, wait_until};
use serde_json::{Value, json};

/// A cluster with a topic of three partitions with two records each.
fn topic_of_three() -> (Cluster, String) {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("incomplete", 3);
    for partition in ["0", "1", "2"] {
        kafka.kpipe(&["produce", &topic, "-p", partition], b"a\nb\n");
    }
    (kafka, topic)
}

fn column(done: &Done, name: &str) -> Vec<Value> {
    json_lines(&done.stdout).iter().map(|line| line[name].clone()).collect()
}

#[test]
fn a_partition_without_a_leader_is_shown_as_unknown_and_the_rest_is_listed() {
    let (kafka, topic) = topic_of_three();
    assert!(kafka.local().remove_leader(&topic, 1));
    let offsets = kafka.try_kpipe(&["topics", "offsets", &topic, "-J"], b"");
    assert_eq!((offsets.code, column(&offsets, "offset")), (1, vec![json!(2), Value::Null, json!(2)]));
    let named = format!("kpipe: {topic}/1: LEADER_NOT_AVAILABLE");
    assert_eq!(offsets.stderr.matches(&named).count(), 1, "{}", offsets.stderr);

    let described = kafka.try_kpipe(&["topics", "describe", &topic, "-J"], b"");
    let partitions = &json_lines(&described.stdout)[0]["partitions"];
    let next: Vec<&Value> = (0..3).map(|p| &partitions[p]["next_offset"]).collect();
    assert_eq!((described.code, next), (1, vec![&json!(2), &Value::Null, &json!(2)]));
    assert_eq!(described.stderr.matches(&named).count(), 1, "{}", described.stderr);

    let deleted = kafka.try_kpipe(&["topics", "delete-records", &topic, "--before", "end", "--yes"], b"");
    assert_eq!(deleted.code, 1, "{}", deleted.stderr);
    assert!(
        deleted.stderr.contains("deleted up to 4 records") && deleted.stderr.contains(&named),
        "{}",
        deleted.stderr
    );
    assert!(kafka.local().move_leader(&topic, 1, 1));
    let first = kafka.kpipe(&["topics", "offsets", &topic, "--at", "beginning", "-J"], b"");
    assert_eq!(column(&first, "offset"), [json!(2), json!(0), json!(2)]);
}

#[test]
fn a_partition_that_its_leader_does_not_serve_does_not_hide_the_others_of_that_leader() {
    let (kafka, topic) = topic_of_three();
    assert!(kafka.local().set_partition_error(&topic, 2, Some(6)));
    let offsets = kafka.try_kpipe(&["topics", "offsets", &topic, "-J"], b"");
    assert_eq!((offsets.code, column(&offsets, "offset")), (1, vec![json!(2), json!(2), Value::Null]));
    assert!(offsets.stderr.contains(&format!("{topic}/2: NOT_LEADER_OR_FOLLOWER")), "{}", offsets.stderr);
}

/// One broker of two keeps its connections open and answers nothing.
#[test]
fn a_silent_broker_is_named_once_and_what_the_others_have_is_listed() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("silent", 2);
    let groups: Vec<String> = (0..8).map(|n| format!("silent-group-{n}")).collect();
    for group in &groups {
        kafka.kpipe(&["consume", &topic, "-g", group, "-e"], b"");
        kafka.kpipe(&["produce", &topic, "--transactional-id", group], b"a\n");
    }
    let list = |args: &[&str]| {
        let limits = ["-X", "request.timeout.ms=500", "-X", "socket.connection.setup.timeout.ms=500"];
        kafka.try_kpipe(&[&limits[..], args, &["-J"]].concat(), b"")
    };
    let listings = [
        (&["groups", "list"][..], "group"),
        (&["cluster", "transactions", "list"], "transactional_id"),
        (&["groups", "lag", "--all"], "group"),
        (&["cluster", "log-dirs"], "broker"),
    ];
    let all = |args: &[&str], name: &str| {
        let done = list(args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
        column(&done, name).len()
    };
    let complete: Vec<usize> = listings.iter().map(|(args, name)| all(args, name)).collect();
    kafka.local().faults().freeze(2);
    for ((args, name), complete) in listings.into_iter().zip(complete) {
        let done = list(args);
        assert_eq!(done.code, 1, "{args:?}: {}", done.stderr);
        let listed = column(&done, name).len();
        assert!((1..complete).contains(&listed), "{args:?}: {listed} of {complete}: {}", done.stderr);
        assert!(done.stderr.contains("broker 2"), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn a_leader_that_refuses_hides_no_open_transaction_of_the_others() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("hanging", 3);
    let begin = |partition| {
        let id = format!("{topic}-{partition}");
        let args = ["-b", &kafka.bootstrap, "produce", &topic, "-p", partition, "--transactional-id", &id];
        let mut open = Running::kpipe(&args);
        open.write(b"a\n");
        wait_until("the record", || {
            let offsets = kafka.try_kpipe(&["topics", "offsets", &topic, "-J"], b"");
            column(&offsets, "offset")[partition.parse::<usize>().unwrap()] == json!(1)
        });
        open
    };
    let open = ["0", "1"].map(begin);
    assert!(kafka.local().set_partition_error(&topic, 1, Some(3)) && kafka.local().remove_leader(&topic, 2));
    let found = kafka.try_kpipe(&["cluster", "transactions", "find-hanging", "--older-than", "0", "-J"], b"");
    assert_eq!((found.code, column(&found, "partition")), (1, vec![json!(0)]), "{}", found.stderr);
    for partition in [1, 2] {
        assert_eq!(found.stderr.matches(&format!("{topic}/{partition}: ")).count(), 1, "{}", found.stderr);
    }
    drop(open);
}
