//! Replication on `kpipe local`: in-sync replicas, the high watermark, leader epochs, and what kpipe makes of them.

use crate::support::{Cluster, Running, Wire, values, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::local::Fault;
use kpipe::record::RecordRef;
use std::time::Duration;

const REQUEST_TIMED_OUT: i16 = 7;
const NOT_LEADER: i16 = 6;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const INVALID_REQUIRED_ACKS: i16 = 21;
const OFFSET_NOT_AVAILABLE: i16 = 78;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn produce(topic: &str, acks: i16, timeout_ms: i32) -> ProduceRequest {
    let mut builder = BatchBuilder::default();
    builder.append(&RecordRef { value: Some(b"v"), ..RecordRef::default() }, 0);
    let sealed = builder.seal(BytesMut::new());
    let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(timeout_ms).with_topic_data(vec![data])
}

/// Error and first offset.
fn result(answer: &ProduceResponse) -> (i16, i64) {
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Error and end.
fn end(wire: &mut Wire, topic: &str) -> (i16, i64) {
    let asked = ListOffsetsPartition::default().with_timestamp(-1);
    let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let answer = wire.ask(&request, 7);
    (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].offset)
}

/// Bytes of records that a consumer gets, and the high watermark.
fn fetched(wire: &mut Wire, topic: &str) -> (usize, i64) {
    let asked = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let answer = wire.ask(&FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]), 11);
    let partition = &answer.responses[0].partitions[0];
    (partition.records.as_ref().map_or(0, Bytes::len), partition.high_watermark)
}

/// Three brokers and a topic of one partition, which broker 1 leads; a connection to it.
fn three(configs: &[&str]) -> (Cluster, String, Wire) {
    let kafka = Cluster::start_local(3);
    let topic = crate::support::fresh("replicated");
    let configs = configs.iter().flat_map(|config| ["--config", config]);
    kafka.kpipe(&["topics", "create", &topic].into_iter().chain(configs).collect::<Vec<_>>(), b"");
    assert!(kafka.local().move_leader(&topic, 0, 1));
    let wire = Wire::connect(&kafka.bootstrap);
    (kafka, topic, wire)
}

#[test]
fn acks_all_waits_for_every_in_sync_replica() {
    let (kafka, topic, mut wire) = three(&[]);
    let local = kafka.local();
    assert_eq!(result(&wire.ask(&produce(&topic, -1, 5_000), 9)), (0, 0));
    local.pause_replication(2);
    assert_eq!(result(&wire.ask(&produce(&topic, -1, 50), 9)), (REQUEST_TIMED_OUT, -1));
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)), (0, 2), "the leader has both");
    let (bytes, high_watermark) = fetched(&mut wire, &topic);
    assert!(bytes > 0 && bytes < 100, "{bytes} bytes: one record is visible");
    assert_eq!((high_watermark, end(&mut wire, &topic)), (1, (0, 1)));
    // A request that waits is answered once the replica is out of sync, or has caught up.
    let waiting = Wire::encode(&produce(&topic, -1, 60_000), 9);
    wire.send(&waiting);
    local.set_replica_lag(Duration::from_millis(50));
    assert_eq!(result(&wire.answer::<ProduceRequest>(9)), (0, 3));
    assert_eq!((local.in_sync_replicas(&topic, 0), end(&mut wire, &topic)), (vec![1, 3], (0, 4)));
    local.set_replica_lag(Duration::from_secs(60));
    local.resume_replication(2);
    assert_eq!(local.in_sync_replicas(&topic, 0), [1, 2, 3]);
    local.pause_replication(3);
    wire.send(&waiting);
    wait_until("the record", || fetched(&mut Wire::connect(&kafka.bootstrap), &topic).1 == 4);
    local.resume_replication(3);
    assert_eq!(result(&wire.answer::<ProduceRequest>(9)), (0, 4));
    assert_eq!(result(&wire.ask(&produce(&topic, 2, 50), 9)), (INVALID_REQUIRED_ACKS, -1));
}

#[test]
fn a_broker_that_returns_does_not_follow_a_leader_that_is_cut_off() {
    let (kafka, topic, mut wire) = three(&[]);
    let local = kafka.local();
    local.crash(2);
    local.crash(3);
    local.isolate(1, true);
    local.restart(2).unwrap();
    assert_eq!(local.in_sync_replicas(&topic, 0), [1]);
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)), (0, 0));
    local.isolate(1, false);
    assert_eq!(local.in_sync_replicas(&topic, 0), [1, 2]);
    assert!(local.move_leader(&topic, 0, 2));
    assert_eq!(kafka.values(&topic), ["v"], "it has what the leader accepted meanwhile");
}

#[test]
fn too_few_in_sync_replicas_refuse_records_or_leave_them_invisible() {
    let (kafka, topic, mut wire) = three(&["min.insync.replicas=2"]);
    let local = kafka.local();
    local.crash(3);
    assert_eq!(result(&wire.ask(&produce(&topic, -1, 5_000), 9)), (0, 0), "two are enough");
    local.crash(2);
    assert_eq!(result(&wire.ask(&produce(&topic, -1, 5_000), 9)), (NOT_ENOUGH_REPLICAS, -1));
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 5_000), 9)), (0, 1));
    assert_eq!((end(&mut wire, &topic), local.in_sync_replicas(&topic, 0)), ((0, 1), vec![1]));
    let failed = kafka.try_kpipe(&["produce", &topic, "--timeout", "1s"], b"refused\n");
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("NOT_ENOUGH_REPLICAS"), "{}", failed.stderr);
    local.restart(2).unwrap();
    assert_eq!((end(&mut wire, &topic), local.in_sync_replicas(&topic, 0)), ((0, 2), vec![1, 2]));
    // Records that came before the replicas were too few.
    local.pause_replication(2);
    wire.send(&Wire::encode(&produce(&topic, -1, 400), 9));
    assert_eq!(result(&wire.answer::<ProduceRequest>(9)), (REQUEST_TIMED_OUT, -1));
    kafka.local().set_replica_lag(Duration::from_millis(20));
    wait_until("the ISR", || local.in_sync_replicas(&topic, 0) == [1]);
    kafka.kpipe(&["topics", "alter", &topic, "--config", "min.insync.replicas=1"], b"");
    assert_eq!(end(&mut wire, &topic), (0, 3));
}

#[test]
fn a_leader_that_crashes_takes_along_what_only_it_had() {
    let (kafka, topic, mut wire) = three(&[]);
    let local = kafka.local();
    kafka.kpipe(&["produce", &topic], b"replicated\n");
    local.pause_replication(2);
    local.pause_replication(3);
    kafka.kpipe(&["produce", &topic, "--acks", "1"], b"lost\n");
    wire.send(&Wire::encode(&produce(&topic, -1, 60_000), 9));
    assert_eq!(kafka.values(&topic), ["replicated"]);
    local.crash(1);
    assert!(wire.frame().is_none(), "the leader has crashed");
    assert_eq!(kafka.values(&topic), ["replicated"]);
    local.resume_replication(2);
    local.resume_replication(3);
    kafka.kpipe(&["produce", &topic], b"another\n");
    local.restart(1).unwrap();
    assert_eq!(local.in_sync_replicas(&topic, 0), [1, 2, 3]);
    assert!(local.move_leader(&topic, 0, 1));
    assert_eq!(kafka.values(&topic), ["replicated", "another"], "its tail is cut off");
}

#[test]
fn a_new_leader_does_not_tell_an_end_that_it_does_not_know_yet() {
    let (kafka, topic, mut wire) = three(&[]);
    let local = kafka.local();
    let second = kafka.bootstrap.split(',').nth(1).unwrap();
    local.pause_replication(3);
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)), (0, 0));
    assert!(local.move_leader(&topic, 0, 2), "it has the record, and 3 does not");
    let mut wire = Wire::connect(second);
    assert_eq!(end(&mut wire, &topic).0, OFFSET_NOT_AVAILABLE);
    let tail = Running::kpipe(&["-b", second, "consume", &topic, "--output", "value", "-o", "-1"]);
    wait_until("a refusal", || local.faults().requests(ApiKey::ListOffsets) > 1);
    local.resume_replication(3);
    assert_eq!(end(&mut wire, &topic), (0, 1));
    wait_until("the record", || tail.seen() == "v\n");
    tail.signal(libc::SIGTERM);
    assert_eq!(tail.ended().code, 0);
}

#[test]
fn an_unclean_election_loses_acknowledged_records_only_where_the_topic_allows_it() {
    for allowed in [false, true] {
        let setting = format!("unclean.leader.election.enable={allowed}");
        let (kafka, topic, _) = three(&[&setting]);
        let local = kafka.local();
        kafka.kpipe(&["produce", &topic], b"first\n");
        local.crash(2);
        local.crash(3);
        kafka.kpipe(&["produce", &topic], b"second\n");
        local.crash(1);
        local.restart(2).unwrap();
        if !allowed {
            assert_eq!(local.in_sync_replicas(&topic, 0), [1]);
            let read = ["consume", &topic, "-o", "beginning", "-e", "-X", "request.timeout.ms=500"];
            assert_eq!(kafka.try_kpipe(&read, b"").code, 1, "nobody may lead");
            local.restart(1).unwrap();
            assert_eq!(kafka.values(&topic), ["first", "second"]);
            continue;
        }
        assert_eq!(kafka.values(&topic), ["first"]);
        kafka.kpipe(&["produce", &topic], b"third\n");
        local.restart(1).unwrap();
        assert_eq!(kafka.values(&topic), ["first", "third"]);
    }
}

#[test]
fn a_leader_that_is_cut_off_takes_records_that_are_lost() {
    let (kafka, topic, mut wire) = three(&[]);
    let local = kafka.local();
    local.isolate(1, true);
    assert_eq!(result(&wire.ask(&produce(&topic, -1, 50), 9)), (NOT_ENOUGH_REPLICAS, -1));
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)), (0, 0));
    local.isolate(1, false);
    assert_eq!(end(&mut wire, &topic), (0, 1), "nobody else was elected");
    local.isolate(1, true);
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)), (0, 1));
    assert!(local.move_leader(&topic, 0, 2));
    assert_eq!(local.in_sync_replicas(&topic, 0), [2, 3]);
    local.isolate(1, false);
    assert_eq!(local.in_sync_replicas(&topic, 0), [1, 2, 3]);
    assert_eq!(result(&wire.ask(&produce(&topic, 1, 50), 9)).0, NOT_LEADER);
    assert_eq!(kafka.values(&topic), ["v"]);
}

#[test]
fn what_is_not_flushed_may_be_gone_when_a_broker_is_back() {
    let (kafka, topic, _) = three(&[]);
    let local = kafka.local();
    kafka.kpipe(&["topics", "create", "alone", "--replication-factor", "1"], b"");
    let leader = local.in_sync_replicas("alone", 0)[0];
    for n in 0..3 {
        kafka.kpipe(&["produce", "alone"], format!("{n}\n").as_bytes());
    }
    local.crash(leader);
    assert!(local.truncate_replica("alone", 0, leader, 1));
    assert!(!local.truncate_replica(&topic, 0, 9, 1), "there is no such replica");
    local.restart(leader).unwrap();
    assert_eq!(kafka.values("alone"), ["0"]);
}

/// An idempotent producer whose records are acknowledged by all: through lagging replicas, crashed leaders and lost
/// tails each record is there once, in order.
#[test]
fn acknowledged_records_survive_whatever_happens_to_single_brokers() {
    let (kafka, topic, _) = three(&["min.insync.replicas=2"]);
    let local = kafka.local();
    local.set_replica_lag(Duration::from_millis(100));
    let mut writer = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--batch-size", "2k", "-q"]);
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
    let mut sent = 0;
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        let lines: String = (sent..sent + 2_000).map(|n| format!("{n}\n")).collect();
        let (first, second) = (1 + round % 3, 1 + (round + 1 + random.i32(0..2)) % 3);
        local.pause_replication(second);
        writer.write(lines.as_bytes());
        sent += 2_000;
        if random.bool() {
            local.crash(first);
            local.resume_replication(second);
            local.restart(first).unwrap();
        }
        local.resume_replication(second);
    }
    let done = writer.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    wait_until("all records", || tail.seen().lines().count() >= sent);
    tail.signal(libc::SIGTERM);
    let seen = tail.ended().stdout;
    assert!(seen.lines().map(|n| n.parse::<usize>().unwrap()).eq(0..sent), "lost, repeated or out of order");
    assert_eq!(kafka.values(&topic).len(), sent);
}

/// A transaction whose partition has no leader when it is committed becomes visible later, as a whole.
#[test]
fn the_marker_of_a_transaction_waits_for_a_leader() {
    let (kafka, topic, _) = three(&[]);
    let local = kafka.local();
    let args = ["produce", &topic, "--transactional-id", "t", "--receipts"];
    let mut writer = Running::kpipe(&[&["-b", &kafka.bootstrap], &args[..]].concat());
    writer.write(b"in a transaction\n");
    let all = ["consume", &topic, "-o", "beginning", "-e", "--isolation", "read_uncommitted"];
    wait_until("the record", || !values(&kafka.kpipe(&all, b"").stdout).is_empty());
    assert!(local.remove_leader(&topic, 0));
    let done = writer.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(local.move_leader(&topic, 0, 2));
    assert_eq!(kafka.values(&topic), ["in a transaction"]);
}

/// Compaction, timestamps and keys: what a topic's configs do on their own.
#[test]
fn topic_configs_have_their_effect() {
    let kafka = Cluster::start_local(1);
    let create = |topic: &str, configs: &[&str]| {
        let configs = configs.iter().flat_map(|config| ["--config", config]);
        kafka.kpipe(&["topics", "create", topic].into_iter().chain(configs).collect::<Vec<_>>(), b"");
    };
    create("compacted", &["cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01", "retention.ms=1"]);
    kafka.kpipe(&["produce", "compacted", "-K", ":"], b"a:1\nb:1\na:2\nc:1\nb:2\n");
    wait_until("compaction", || kafka.values("compacted") == ["2", "1", "2"]);
    let read = kafka.kpipe(&["consume", "compacted", "-o", "beginning", "-e", "-f", "%o:%k "], b"");
    assert_eq!(read.stdout, "2:a 3:c 4:b ", "offsets stay");
    let refused = kafka.try_kpipe(&["produce", "compacted"], b"no key\n");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("INVALID_RECORD"), "{}", refused.stderr);

    create("dated", &["message.timestamp.before.max.ms=60000", "message.timestamp.after.max.ms=60000"]);
    for (time, is_accepted) in [("now", true), ("-1h", false), ("+1h", false)] {
        let hours = match time {
            "-1h" => -3_600_000,
            "+1h" => 3_600_000,
            _ => 0,
        };
        let line = format!("{{\"value\":\"{time}\",\"timestamp\":{}}}\n", kpipe::record::now() + hours);
        let done = kafka.try_kpipe(&["produce", "dated", "--input", "json"], line.as_bytes());
        assert_eq!(done.code == 0, is_accepted, "{time}: {}", done.stderr);
        assert!(is_accepted || done.stderr.contains("INVALID_TIMESTAMP"), "{}", done.stderr);
    }
    assert_eq!(kafka.values("dated"), ["now"]);

    create("short", &["retention.ms=1"]);
    kafka.kpipe(&["produce", "short"], b"soon gone\n");
    // One that reads while the record is deleted reports that.
    let read = ["consume", "short", "-o", "beginning", "-e"];
    wait_until("retention", || kafka.try_kpipe(&read, b"").stdout.is_empty());
}

#[test]
fn not_enough_replicas_after_append_is_what_a_producer_repeats() {
    let (kafka, topic, _) = three(&["min.insync.replicas=3"]);
    let after = Fault::ErrorAfter(NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    kafka.local().faults().inject(ApiKey::Produce, 1, after);
    let done = kafka.kpipe(&["produce", &topic], b"once\n");
    assert!(done.stderr.contains("1 record delivered"), "{}", done.stderr);
    assert_eq!(kafka.values(&topic), ["once"]);
}
