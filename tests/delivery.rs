//! `produce` reports the outcome of every record and drops none.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, each, json_lines, latest_or_local, require, shared, shell, wait_until,
};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, Times};
use std::time::{Duration, Instant};

#[test]
fn receipts_come_in_input_order_with_the_offset_of_each_record() {
    for kafka in each([Kafka::LATEST, Kafka::Real(Version::V1_1), Kafka::Real(Version::V0_10_2), Kafka::Local]) {
        let topic = kafka.topic("receipts", 3);
        let lines: String = (0..20_000).map(|n| format!("k{}:{n}\n", n % 31)).collect();
        let done = kafka.kpipe(&["produce", &topic, "-K", ":", "--receipts", "--batch-size", "5000"], lines.as_bytes());
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"");
        let mut at = std::collections::HashMap::new();
        for record in json_lines(&read.stdout) {
            let place = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
            at.insert(place, (record["value"].as_str().unwrap().to_owned(), record["timestamp"].clone()));
        }
        let receipts = json_lines(&done.stdout);
        assert_eq!(receipts.len(), 20_000, "{kafka}");
        for (n, receipt) in receipts.iter().enumerate() {
            assert_eq!(receipt["record"], n + 1);
            assert_eq!(receipt["topic"], topic.as_str());
            let place = (receipt["partition"].as_i64().unwrap(), receipt["offset"].as_i64().unwrap());
            let (value, timestamp) = &at[&place];
            assert_eq!(value, &n.to_string(), "{kafka}");
            if kafka.version().engine() == "native" {
                assert_eq!(&receipt["timestamp"], timestamp, "{kafka}");
            }
        }
    }
}

/// A topic that accepts records of up to 5,000 bytes.
fn small_records_topic(kafka: &Cluster) -> String {
    let topic = crate::support::fresh("small");
    kafka.kpipe(&["topics", "create", &topic, "--config", "max.message.bytes=5000"], b"");
    topic
}

#[test]
fn with_on_error_continue_a_bad_record_fails_alone_and_becomes_a_dead_letter() {
    let kafka = latest_or_local();
    let topic = small_records_topic(&kafka);
    let letters = tempfile::NamedTempFile::new().unwrap();
    let file = letters.path().to_str().unwrap();
    let large = "x".repeat(6_000);
    let input = format!(
        "{{\"value\":\"1\"}}\n{{\"key\":\"k\",\"value\":\"{large}\",\"headers\":[{{\"key\":\"h\",\"value\":null}}]}}\n\
         nonsense\n{{\"value\":\"4\"}}\n{{\"value\":\"5\",\"partition\":7}}\n{{\"value\":\"6\"}}\n"
    );
    let args = ["produce", &topic, "--input", "json", "--on-error", "continue", "--dead-letter", file, "--receipts"];
    let done = kafka.try_kpipe(&args, input.as_bytes());
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(kafka.values(&topic), ["1", "4", "6"]);
    let receipts = json_lines(&done.stdout);
    let errors: Vec<_> = receipts.iter().map(|r| r["error"].as_str().unwrap_or("ok")).collect();
    assert_eq!(errors, ["ok", "MESSAGE_TOO_LARGE", "input", "ok", "input", "ok"]);
    assert_eq!(receipts[1]["possibly_written"], false);
    assert!(receipts[2]["message"].as_str().unwrap().contains("stdin, line 3"), "{}", receipts[2]);
    for part in ["3 records delivered", "MESSAGE_TOO_LARGE 1", "input 2", "--skip 1 resumes"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }

    // Dead letters can be produced to a topic that accepts them.
    let kept = std::fs::read_to_string(letters.path()).unwrap();
    assert_eq!(kept.lines().count(), 3, "{kept}");
    let roomy = kafka.topic("roomy", 8);
    kafka.kpipe(&["produce", &roomy, "--input", "json"], kept.as_bytes());
    let read = json_lines(&kafka.kpipe(&["consume", &roomy, "-o", "beginning", "-e"], b"").stdout);
    let one = read.iter().find(|r| r["key"] == "k").unwrap();
    assert_eq!(one["value"], large.as_str());
    assert_eq!(one["headers"][0], serde_json::json!({"key": "h", "value": null}));
    assert_eq!(one["headers"][1]["key"], "kpipe-error");
    assert!(one["headers"][1]["value"].as_str().unwrap().contains("MESSAGE_TOO_LARGE"));
    assert!(read.iter().any(|r| r["value"] == "nonsense"));
}

#[test]
fn a_stopped_run_prints_where_to_resume_and_skip_resumes_there() {
    let kafka = latest_or_local();
    let topic = small_records_topic(&kafka);
    let mut lines: Vec<String> = (0..30_000).map(|n| n.to_string()).collect();
    lines[17_000] = "y".repeat(6_000);
    let input = |lines: &[String]| (lines.join("\n") + "\n").into_bytes();
    let done = kafka.try_kpipe(&["produce", &topic, "--batch-size", "2000"], &input(&lines));
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("not delivered: record 17001: "), "{}", done.stderr);
    assert!(done.stderr.contains("the first 17000 records were delivered (--skip 17000 resumes"), "{}", done.stderr);
    let read = kafka.values(&topic);
    assert!(read.len() < 29_999, "the records behind it are not sent");
    assert!(read.iter().take(17_000).eq(lines.iter().take(17_000)));
    lines[17_000] = "mended".to_owned();
    let other = kafka.topic("rest", 1);
    kafka.kpipe(&["produce", &other, "--skip", "17000"], &input(&lines));
    let rest = kafka.values(&other);
    assert!(rest.iter().eq(lines.iter().skip(17_000)));
}

#[test]
fn rate_limits_the_records_per_second_until_a_signal() {
    let kafka = latest_or_local();
    let topic = kafka.topic("pace", 1);
    let started = std::time::Instant::now();
    kafka.kpipe(&["produce", &topic, "--rate", "20"], "x\n".repeat(21).as_bytes());
    let took = started.elapsed().as_secs_f64();
    assert!((1.0..5.0).contains(&took), "{took} s for 21 records at 20 a second");
    let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--rate", "2", "--receipts"]);
    running.write(&b"y\n".repeat(100));
    wait_until("a receipt", || !running.seen().is_empty());
    running.signal(libc::SIGTERM);
    assert_eq!(running.ended().code, 143);
}

#[test]
fn a_missing_topic_is_created_on_request_and_refused_otherwise() {
    require!(Kafka);
    let own = Cluster::start(Version::LATEST, 1, &["auto.create.topics.enable=false"]);
    let refused = own.try_kpipe(&["produce", "missing"], b"x\n");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("topic missing: UNKNOWN_TOPIC_OR_PARTITION"), "{}", refused.stderr);
    own.kpipe(&["produce", "missing", "--create-topic", "4:1"], b"x\n");
    own.kpipe(&["produce", "missing", "--create-topic", "4:1"], b"y\n");
    let described = json_lines(&own.kpipe(&["topics", "describe", "missing", "-J"], b"").stdout);
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 4);
    // One that does not exist is not looked up for each record while those of others wait.
    let lines: String = (0..30)
        .map(|n| format!("{{\"topic\":\"not-there\"}}\n{{\"topic\":\"missing\",\"value\":\"{n}\"}}\n"))
        .collect();
    let began = Instant::now();
    let flags = ["produce", "-", "--input", "json", "--on-error", "continue", "--receipts"];
    let done = own.try_kpipe(&flags, lines.as_bytes());
    let receipts = json_lines(&done.stdout);
    let failed = receipts.iter().filter_map(|receipt| receipt["message"].as_str());
    let failed = failed.filter(|message| message.ends_with("topic not-there: UNKNOWN_TOPIC_OR_PARTITION"));
    assert_eq!((done.code, failed.count(), own.values("missing").len()), (1, 30, 32), "{}", done.stderr);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[test]
fn the_crc32_partitioner_agrees_with_librdkafka() {
    require!(Kcat);
    let kafka = latest_or_local();
    let (ours, theirs) = (kafka.topic("ours", 12), kafka.topic("theirs", 12));
    let lines: String = (0..500).map(|n| format!("key {n} é:v\n")).collect();
    kafka.kpipe(&["produce", &ours, "-K", ":", "--partitioner", "crc32"], lines.as_bytes());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &lines).unwrap();
    let kcat = format!("kcat -b {} -P -t {theirs} -K : -X partitioner=consistent", kafka.bootstrap);
    let done = shell(&format!("{kcat} -l {}", file.path().display()));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(kafka.partition_by_key(&ours), kafka.partition_by_key(&theirs));
}

#[test]
fn a_closed_receipts_pipe_fails_the_run_but_loses_nothing() {
    let kafka = latest_or_local();
    let topic = kafka.topic("unread", 1);
    let done = shell(&format!(
        "seq 300000 | kpipe -b {} produce {topic} --receipts | head -1; exit ${{PIPESTATUS[1]}}",
        kafka.bootstrap
    ));
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("the reader of the receipts closed the pipe"), "{}", done.stderr);
    let read = kafka.values(&topic);
    assert!(read.iter().enumerate().all(|(n, value)| *value == (n + 1).to_string()));
}

#[test]
fn a_denied_idempotent_write_names_the_acl_and_the_flag() {
    require!(Kafka);
    let own = Cluster::start(
        Version::LATEST,
        1,
        &[
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found=true",
            "early.start.listeners=CONTROLLER",
        ],
    );
    own.kpipe(&["topics", "create", "denied"], b"");
    // Since Kafka 3.0 write permission on any topic is enough (KIP-679).
    for rule in [
        &["--allow-principal", "User:ANONYMOUS", "--topic", "*", "--operation", "All"],
        &["--deny-principal", "User:ANONYMOUS", "--topic", "*", "--operation", "Write"],
        &["--allow-principal", "User:ANONYMOUS", "--cluster", "kafka-cluster", "--operation", "All"],
        &["--deny-principal", "User:ANONYMOUS", "--cluster", "kafka-cluster", "--operation", "IdempotentWrite"],
    ] {
        own.tool(Tool::AclCommand, &[&["--add", "--force"], &rule[..]].concat());
    }
    let mut stderr = String::new();
    wait_until("the ACL to take effect", || {
        let done = own.try_kpipe(&["produce", "denied", "--timeout", "3s"], b"x\n");
        stderr = done.stderr;
        done.code == 1 && stderr.contains("AUTHORIZATION_FAILED")
    });
    assert!(stderr.contains("CLUSTER_AUTHORIZATION_FAILED"), "{stderr}");
    assert!(stderr.contains("IDEMPOTENT_WRITE on the cluster; use --idempotent false"), "{stderr}");
}

/// Before Kafka 3.0 write permission on the topic is not enough for an idempotent producer (KIP-679).
#[test]
fn a_denied_producer_names_what_it_lacks() {
    const CLUSTER: i16 = 31;
    const TRANSACTIONAL_ID: i16 = 53;
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("denied-producer", 1);
    let (cluster, id) = ("lacks idempotent-write on the cluster", "lacks write on transactional-id tx");
    for (api, code, flags, lacks) in [
        (ApiKey::InitProducerId, CLUSTER, &[][..], cluster),
        (ApiKey::Produce, CLUSTER, &[], cluster),
        (ApiKey::FindCoordinator, TRANSACTIONAL_ID, &["--transactional-id", "tx"], id),
        (ApiKey::InitProducerId, TRANSACTIONAL_ID, &["--transactional-id", "tx"], id),
        (ApiKey::Produce, TRANSACTIONAL_ID, &["-X", "transactional.id=tx"], id),
        (ApiKey::EndTxn, TRANSACTIONAL_ID, &["--transactional-id", "tx"], id),
    ] {
        kafka.local().faults().inject(api, Times::Always, Fault::Error(code));
        let done = kafka.try_kpipe(&[&["produce", &topic], flags].concat(), b"x\n");
        kafka.local().faults().clear(api);
        let what = format!("{api:?} {code}: {}", done.stderr);
        assert_eq!(done.code, 1, "{what}");
        assert!(done.stderr.contains(lacks), "{what}");
        assert_eq!(done.stderr.contains("deny IDEMPOTENT_WRITE on the cluster"), code == CLUSTER, "{what}");
    }
}

#[test]
fn a_quota_throttles_a_producer_and_loses_nothing() {
    require!(Kafka);
    let own = Cluster::start(Version::LATEST, 1, &[]);
    own.kpipe(&["topics", "create", "quota"], b"");
    own.tool(
        Tool::ConfigCommand,
        &["--alter", "--add-config", "producer_byte_rate=50000", "--entity-type", "clients", "--entity-default"],
    );
    let lines: String = (0..12_000).map(|n| format!("{n:0100}\n")).collect();
    let done = own.kpipe(&["-v", "produce", "quota", "--batch-size", "50k"], lines.as_bytes());
    assert!(done.stderr.contains("throttled by a quota"), "{}", done.stderr);
    let read = own.kpipe(&["consume", "quota", "-o", "beginning", "-e", "--output", "value"], b"");
    assert!(read.stdout == lines);
}

/// Opening a named pipe a second time would take bytes from it, or leave its writer without a reader.
#[test]
fn a_named_pipe_is_opened_once() {
    let kafka = shared(Kafka::Local);
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let (topic, pipe) = (kafka.topic("named-pipe", 1), dir.path().join(format!("pipe-{run}")));
        let (pipe, b) = (pipe.display(), &kafka.bootstrap);
        let done = shell(&format!(
            "mkfifo {pipe}; seq 20000 >{pipe} & timeout 30 kpipe -q -b {b} produce {topic} {pipe} && wait $!"
        ));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        assert_eq!(kafka.values(&topic).len(), 20_000);
    }
}
