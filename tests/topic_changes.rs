//! What `topics` changes, checked with Kafka's own tools on the same cluster.

use crate::support::{Cluster, Kafka, Tool, each, fresh, json_lines, listed, require};
use serde_json::{Value, json};

/// The partitions of a topic, which kpipe and TopicCommand describe alike.
pub fn described_partitions(kafka: &Cluster, topic: &str) -> Vec<Value> {
    let described = listed(kafka, &["topics", "describe", topic]).remove(0);
    let printed = kafka.tool(Tool::TopicCommand, &["--describe", "--topic", topic]);
    let ids = |v: &Value| v.as_array().unwrap().iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!("{name}: ")).nth(1).unwrap_or_default();
        rest.split('\t').next().unwrap_or_default().trim().to_owned()
    };
    let theirs: Vec<&str> = printed.lines().filter(|line| line.contains("Partition: ")).collect();
    let ours = described["partitions"].as_array().unwrap().clone();
    assert_eq!(ours.len(), theirs.len(), "{printed}");
    for (ours, line) in ours.iter().zip(theirs) {
        assert_eq!(ours["partition"].to_string(), field(line, "Partition"));
        assert_eq!(ours["leader"].to_string(), field(line, "Leader"), "{line}");
        assert_eq!(ids(&ours["replicas"]), field(line, "Replicas"), "{line}");
        assert_eq!(ids(&ours["in_sync_replicas"]), field(line, "Isr"), "{line}");
    }
    ours
}

/// The offset of each partition that `topics offsets --at` prints.
fn offsets(kafka: &Cluster, topic: &str, at: &str) -> Vec<Value> {
    listed(kafka, &["topics", "offsets", topic, "--at", at]).iter().map(|line| line["offset"].clone()).collect()
}

#[test]
fn if_not_exists_accepts_a_topic_and_dry_run_creates_none() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let (topic, dry) = (kafka.topic("created", 1), fresh("dry"));
        let again = kafka.kpipe(&["topics", "create", &topic, "--if-not-exists"], b"");
        assert_eq!(again.stderr, format!("kpipe: topic {topic} already exists\n"));
        kafka.kpipe(&["topics", "create", &dry, "--dry-run"], b"");
        assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains(&dry));
    }
}

#[test]
fn topic_configs_are_altered() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let topic = fresh("altered");
        kafka.kpipe(&["topics", "create", &topic, "--config", "retention.ms=60000"], b"");
        let alter = ["topics", "alter", &topic, "--config", "max.message.bytes=2000000", "--unset", "retention.ms"];
        kafka.kpipe(&[&alter[..], &["--dry-run"]].concat(), b"");
        let configs = || listed(&kafka, &["topics", "describe", &topic]).remove(0)["configs"].clone();
        assert_eq!(configs(), json!({ "retention.ms": "60000" }));
        kafka.kpipe(&alter, b"");
        assert_eq!(configs(), json!({ "max.message.bytes": "2000000" }));
        let of_topic = ["--describe", "--entity-type", "topics", "--entity-name", &topic];
        let printed = kafka.tool(Tool::ConfigCommand, &of_topic);
        assert!(printed.contains("max.message.bytes=2000000") && !printed.contains("retention.ms=60000"), "{printed}");
        let wrong = kafka.try_kpipe(&["topics", "alter", &topic, "--config", "max.mesage.bytes=1"], b"");
        assert!(wrong.stderr.contains("INVALID_CONFIG"), "{}", wrong.stderr);
    }
}

#[test]
fn partitions_are_added() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let topic = fresh("grown");
        kafka.kpipe(&["topics", "create", &topic, "--assignment", "1,1"], b"");
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "3", "--dry-run"], b"");
        assert_eq!(described_partitions(&kafka, &topic).len(), 2);
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "3"], b"");
        assert_eq!(described_partitions(&kafka, &topic).len(), 3);
        let fewer = kafka.try_kpipe(&["topics", "add-partitions", &topic, "--to", "2"], b"");
        assert!(fewer.stderr.contains("INVALID_PARTITIONS"), "{}", fewer.stderr);
    }
}

/// A topic of three partitions, two of which hold ten records of 100 s ago and a late one; and a time between them.
fn topic_of_two_times(kafka: &Cluster) -> (String, String) {
    let topic = kafka.topic("offsets", 3);
    // Not older than the retention time.
    let late = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let early = (late - 100_000).to_string();
    for partition in ["0", "1"] {
        let ten: String = (0..10).map(|n| format!("{n}\n")).collect();
        kafka.kpipe(&["produce", &topic, "-p", partition, "--timestamp", &early], ten.as_bytes());
        kafka.kpipe(&["produce", &topic, "-p", partition, "--timestamp", &late.to_string()], b"late\n");
    }
    (topic, format!("@{}", late - 50_000))
}

#[test]
fn records_before_an_offset_or_a_time_are_deleted() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let (topic, between) = topic_of_two_times(&kafka);
        assert_eq!(offsets(&kafka, &topic, "end"), [json!(11), json!(11), json!(0)]);
        assert_eq!(offsets(&kafka, &topic, &between), [json!(10), json!(10), Value::Null]);
        let printed = kafka.tool(Tool::GetOffsetShell, &["--topic", &topic, "--time", &between[1..]]);
        assert!(printed.contains(&format!("{topic}:0:10")), "{printed}");
        let delete = ["topics", "delete-records", &format!("{topic}:0"), "--before", "4"];
        kafka.kpipe(&[&delete[..], &["--dry-run"]].concat(), b"");
        assert_eq!(offsets(&kafka, &topic, "beginning"), [json!(0), json!(0), json!(0)]);
        let unconfirmed = kafka.try_kpipe(&delete, b"");
        assert!(unconfirmed.code == 2 && unconfirmed.stderr.contains("--yes"), "{}", unconfirmed.stderr);
        let done = kafka.kpipe(&[&delete[..], &["--yes"]].concat(), b"");
        assert_eq!(done.stderr, "kpipe: deleted up to 4 records\n");
        assert_eq!(offsets(&kafka, &topic, "beginning"), [json!(4), json!(0), json!(0)]);
        kafka.kpipe(&["topics", "delete-records", &topic, "--before", &between, "--yes"], b"");
        assert_eq!(offsets(&kafka, &topic, "beginning"), [json!(10), json!(10), json!(0)]);
        assert_eq!(kafka.values(&topic), ["late", "late"]);
        let printed = kafka.tool(Tool::GetOffsetShell, &["--topic", &topic, "--time", "-2"]);
        assert!(printed.contains(&format!("{topic}:1:10")), "{printed}");
        let beyond = kafka.try_kpipe(&["topics", "delete-records", &topic, "--before", "99", "--yes"], b"");
        assert!(beyond.stderr.contains("OFFSET_OUT_OF_RANGE"), "{}", beyond.stderr);
        let delete = kafka.kpipe(&["topics", "delete", &topic, "--dry-run"], b"");
        assert!(delete.stderr.contains(&format!("would delete {topic} and all of its records")), "{}", delete.stderr);
        kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
    }
}

#[test]
fn partition_sizes_are_those_of_the_log_directories() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let topic = kafka.topic("sizes", 3);
        for partition in ["0", "1"] {
            kafka.kpipe(&["produce", &topic, "-p", partition], b"a\nb\n");
        }
        let size = |p: usize| described_partitions(&kafka, &topic)[p]["bytes"].as_i64().unwrap();
        let printed = kafka.tool(Tool::LogDirsCommand, &["--describe", "--topic-list", &topic]);
        let dirs = json_lines(printed.lines().find(|line| line.starts_with('{')).unwrap()).remove(0);
        let partitions = dirs["brokers"][0]["logDirs"][0]["partitions"].as_array().unwrap();
        assert_eq!(partitions.len(), 3, "{printed}");
        for partition in partitions {
            let name = partition["partition"].as_str().unwrap();
            let p: usize = name.rsplit('-').next().unwrap().parse().unwrap();
            assert_eq!(partition["size"].as_i64().unwrap(), size(p), "{name}");
        }
        assert!(size(0) > 0 && size(2) == 0, "{printed}");
    }
}
