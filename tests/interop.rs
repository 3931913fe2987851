//! Kafka's own tools read what kpipe writes, and the reverse, with every version and engine.

use crate::support::{Cluster, Kafka, Version, each, json_lines, latest_or_local, require, shared, values};
use std::sync::Arc;

/// All versions, and `kpipe local`.
fn all_clusters() -> impl Iterator<Item = Arc<Cluster>> {
    each(Version::ALL.map(Kafka::Real)).chain(each([Kafka::Local]))
}

#[test]
fn produce_and_consume_work_with_every_version() {
    for kafka in all_clusters() {
        let topic = kafka.topic("first", 1);
        let produced = kafka.kpipe(&["-v", "produce", &topic], b"1\n2\n3\n4\n5\n");
        let engine = format!("engine=\"{}\"", kafka.version().engine());
        assert!(produced.stderr.contains(&engine), "{}", produced.stderr);
        assert!(produced.stderr.contains("5 records delivered"), "{}", produced.stderr);
        assert_eq!(kafka.values(&topic), ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn the_kafka_engine_can_be_forced_up_to_3_9() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V3_9));
    let topic = kafka.topic("forced", 1);
    kafka.kpipe(&["--engine", "kafka", "produce", &topic, "-z", "gzip"], b"a\nb\n");
    let read = kafka.kpipe(&["--engine", "kafka", "consume", &topic, "-o", "beginning", "-e"], b"");
    let records = json_lines(&read.stdout);
    assert_eq!(values(&read.stdout), ["a", "b"]);
    assert!(records[0].get("timestamp").is_none() && records[0].get("key").is_none(), "unknown fields are left out");
    let failed = shared(Kafka::LATEST).try_kpipe(&["--engine", "kafka", "produce", "any"], b"x\n");
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(failed.stderr.contains("0.8.2 to 3.9"), "{}", failed.stderr);
    let failed = shared(Kafka::Real(Version::V0_10_2)).try_kpipe(&["--engine", "native", "topics", "list"], b"");
    assert_eq!(failed.code, 2);
    assert!(failed.stderr.contains("use --engine kafka"), "{}", failed.stderr);
}

#[test]
fn what_the_kafka_engine_cannot_do_is_refused_before_the_first_record() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V0_10_2));
    let refused: [&[&str]; 8] = [
        &["produce", "refused", "-H", "a=b"],
        &["produce", "refused", "--timestamp", "1"],
        &["produce", "refused", "-z", "zstd"],
        &["produce", "refused", "-z", "gzip:9"],
        &["produce", "refused", "--idempotent", "true"],
        &["consume", "refused", "-o", "@-1h"],
        &["consume", "refused", "--isolation", "read_uncommitted"],
        &["topics", "create", "refused"],
    ];
    for args in refused {
        let done = kafka.try_kpipe(args, b"x\n");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("use --engine native"), "{args:?}: {}", done.stderr);
    }
    assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains("refused"), "no topic was created");
}

/// Values, keys, headers, timestamps and nulls, as Kafka's own consumer prints them.
fn kafkas_consumer_reads(kafka: &Cluster) {
    let topic = kafka.topic("read", 1);
    let args = ["produce", &topic, "-K", "=", "-Z", "-H", "trace=abc", "-H", "n", "--timestamp", "1700000000123"];
    kafka.kpipe(&args, "k1=v1\nk2=\n=only value\nk4=été ☃\n".as_bytes());
    let mut properties = vec!["print.timestamp=true", "print.key=true"];
    if kafka.version().prints_headers() {
        properties.extend(["print.headers=true", "null.literal=NIL"]);
    }
    let flag = kafka.version().formatter_property_flag();
    let shown: Vec<_> = properties.into_iter().flat_map(|property| [flag, property]).collect();
    let read = kafka.console_consume(&topic, 4, &shown);
    let expected = if kafka.version().prints_headers() {
        "CreateTime:1700000000123\ttrace:abc,n:NIL\tk1\tv1\nCreateTime:1700000000123\ttrace:abc,n:NIL\tk2\tNIL\n\
         CreateTime:1700000000123\ttrace:abc,n:NIL\tNIL\tonly value\nCreateTime:1700000000123\ttrace:abc,n:NIL\tk4\tété ☃\n"
    } else {
        "CreateTime:1700000000123\tk1\tv1\nCreateTime:1700000000123\tk2\tnull\n\
         CreateTime:1700000000123\tnull\tonly value\nCreateTime:1700000000123\tk4\tété ☃\n"
    };
    assert_eq!(read, expected, "{kafka}");
}

#[test]
fn kafkas_consumer_reads_keys_headers_timestamps_and_nulls() {
    require!(Kafka);
    for version in Version::ALL.into_iter().filter(|version| version.engine() == "native") {
        kafkas_consumer_reads(&shared(Kafka::Real(version)));
    }
}

#[test]
fn kafkas_oldest_consumers_read_keys_and_values() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V0_10_2));
    let topic = kafka.topic("read", 1);
    kafka.kpipe(&["produce", &topic, "-K", "=", "-p", "0"], b"k1=v1\nk2=v2\n");
    assert_eq!(kafka.console_consume(&topic, 2, &["--property", "print.key=true"]), "k1\tv1\nk2\tv2\n");
    let kafka = shared(Kafka::Real(Version::V0_8_2));
    let topic = kafka.topic("read", 1);
    kafka.kpipe(&["produce", &topic, "-K", "=", "-p", "1", "-z", "snappy"], b"k1=v1\nk2=v2\n");
    assert_eq!(kafka.simple_consume(&topic, 1, &["--property", "print.key=true"]), "k1\tv1\nk2\tv2\n");
}

#[test]
fn kpipe_reads_what_kafkas_producer_writes() {
    require!(Kafka);
    for kafka in all_clusters() {
        let topic = kafka.topic("written", 1);
        kafka.console_produce_keyed(&topic, ":", "k1:v1\nk2:\nk3:été ☃\n".as_bytes());
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"");
        let mut records = json_lines(&read.stdout);
        records.sort_by_key(|r| r["key"].to_string());
        let key: Vec<_> = records.iter().map(|r| r["key"].as_str().unwrap()).collect();
        assert_eq!(key, ["k1", "k2", "k3"], "{kafka}");
        let value: Vec<_> = records.iter().map(|r| r["value"].as_str().unwrap_or_default()).collect();
        assert_eq!(value, ["v1", "", "été ☃"], "{kafka}");
        assert_eq!(records[0].get("timestamp").is_some(), kafka.version().engine() == "native", "{kafka}");
    }
}

/// 100,000 lines through three partitions.
#[test]
fn a_large_file_arrives_complete_and_in_order() {
    let lines: String = (0..100_000).map(|n| format!("key-{}:{n}\n", n % 97)).collect();
    for kafka in all_clusters() {
        let engines: &[&str] =
            if kafka.kafka == Kafka::Real(Version::V3_9) { &["native", "kafka"] } else { &[kafka.version().engine()] };
        for forced in engines {
            let topic = kafka.topic("large", 3);
            let produced = kafka.kpipe(&["--engine", forced, "produce", &topic, "-K", ":"], lines.as_bytes());
            assert!(produced.stderr.contains("100000 records delivered"), "{}", produced.stderr);
            let read = kafka.kpipe(&["--engine", forced, "consume", &topic, "-o", "beginning", "-e"], b"");
            let mut seen = vec![false; 100_000];
            let mut last = std::collections::HashMap::new();
            let mut partition_of = std::collections::HashMap::new();
            for record in json_lines(&read.stdout) {
                let n: usize = record["value"].as_str().unwrap().parse().unwrap();
                assert!(!std::mem::replace(&mut seen[n], true), "{n} twice on {kafka} {forced}");
                let key = record["key"].as_str().unwrap().to_owned();
                let partition = record["partition"].as_i64().unwrap();
                assert_eq!(*partition_of.entry(key.clone()).or_insert(partition), partition, "a key moved");
                if let Some(before) = last.insert(key, n) {
                    assert!(before < n, "out of order on {kafka} {forced}");
                }
            }
            assert!(seen.iter().all(|seen| *seen), "lost on {kafka} {forced}");
            let used: std::collections::HashSet<_> = partition_of.values().collect();
            assert_eq!(used.len(), 3, "{kafka}: keys are spread over the partitions");
        }
    }
}

#[test]
fn keyed_records_go_to_the_partitions_that_kafkas_producer_chooses() {
    require!(Kafka);
    let kafka = shared(Kafka::LATEST);
    let (ours, theirs) = (kafka.topic("ours", 12), kafka.topic("theirs", 12));
    let lines: String = (0..500).map(|n| format!("key {n} é=v\n")).collect();
    kafka.kpipe(&["produce", &ours, "-K", "="], lines.as_bytes());
    kafka.console_produce_keyed(&theirs, "=", lines.as_bytes());
    assert_eq!(kafka.partition_by_key(&ours), kafka.partition_by_key(&theirs));
}

#[test]
fn keyless_records_are_spread_over_all_partitions() {
    let kafka = latest_or_local();
    let topic = kafka.topic("keyless", 3);
    let lines: String = (0..60_000).map(|n| format!("{n:0100}\n")).collect();
    kafka.kpipe(&["produce", &topic, "--batch-size", "100k"], lines.as_bytes());
    let described = kafka.kpipe(&["topics", "describe", &topic, "-J"], b"");
    let next: Vec<_> = json_lines(&described.stdout)[0]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["next_offset"].as_i64().unwrap())
        .collect();
    assert!(next.iter().all(|next| *next > 5_000), "{next:?}");
}
