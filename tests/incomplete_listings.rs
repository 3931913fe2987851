//! One bad partition costs only itself: listings show the rest, name the bad one, and end with exit code 1.

use crate::support::{Cluster, Done, json_lines};
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
