//! `kpipe local`: other clients work with it, it injects the faults that tests ask for, and no request stops it.

use crate::support::{
    Cluster, Kafka, Running, Tool, Wire, each, json_lines, python, require, shared, shell, wait_until,
};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;
use kpipe::local::{Fault, OFFERED};
use std::time::Duration;

#[test]
fn a_command_runs_with_a_cluster_and_its_exit_code_is_kpipes() {
    let line = "kpipe local -- sh -c 'seq 5 | kpipe produce t -q && kpipe consume t -o beginning -e --output value'";
    let done = shell(line);
    assert_eq!((done.code, done.stdout.as_str()), (0, "1\n2\n3\n4\n5\n"), "{}", done.stderr);
    assert_eq!(shell("kpipe local -- sh -c 'exit 42'").code, 42);
    assert_eq!(shell("kpipe local -- sh -c 'kill -9 $$'").code, 137);
    let missing = shell("kpipe local -- no-such-command");
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("no-such-command"), "{}", missing.stderr);
    // The command finds kpipe although it is not in PATH.
    let bare = shell(&format!("env PATH=/usr/bin:/bin {} local -- kpipe topics list", env!("CARGO_BIN_EXE_kpipe")));
    assert_eq!(bare.code, 0, "{}", bare.stderr);
    let passed = shell(
        "kpipe local -- sh -c 'trap \"echo heard; exit 3\" TERM; kill -TERM $PPID; while :; do sleep 0.05; done'",
    );
    assert_eq!((passed.code, passed.stdout.as_str()), (3, "heard\n"), "{}", passed.stderr);
}

#[test]
fn it_prints_its_address_and_ends_on_a_signal() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let local = Running::kpipe(&["local", "--brokers", "2", "--port", "0", "--topic", "begun:4", "-v"]);
        wait_until("the address", || local.seen().ends_with('\n'));
        let bootstrap = local.seen().trim().to_owned();
        assert_eq!(bootstrap.split(',').count(), 2);
        let described = crate::support::kpipe(&["-b", &bootstrap, "topics", "describe", "begun", "-J"], b"").stdout;
        let described = json_lines(&described);
        let leaders: Vec<_> =
            described[0]["partitions"].as_array().unwrap().iter().map(|p| p["leader"].as_i64()).collect();
        assert_eq!(leaders, [Some(1), Some(2), Some(1), Some(2)]);
        local.signal(signal);
        let done = local.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("request=Metadata"), "{}", done.stderr);
    }
}

#[test]
fn a_port_in_use_and_invalid_flags_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = crate::support::kpipe(&["local", "--port", &port], b"");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains(&format!("127.0.0.1:{port}: Address already in use")), "{}", done.stderr);
    for (args, message) in [
        (&["local", "--brokers", "0"][..], "1 to 100"),
        (&["local", "--topic", "t:none"], "such as demo:3"),
        (&["local", "--topic", "no good:1", "--port", "0"], "contains one or more characters"),
    ] {
        let done = crate::support::kpipe(args, b"");
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains(message), "{}", done.stderr);
    }
}

#[test]
fn kcat_works_with_it() {
    require!(Kcat);
    let kafka = Cluster::start_local(2);
    let b = &kafka.bootstrap;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let copied = shell(&format!(
            "seq 1000 | kcat -b {b} -P -t k-{codec} -z {codec} -X enable.idempotence=true && kcat -b {b} -C -t k-{codec} -o beginning -e -q | sort -n | md5sum; seq 1000 | md5sum"
        ));
        let sums: Vec<_> = copied.stdout.lines().collect();
        assert_eq!(sums[0], sums[1], "{codec}: {}", copied.stderr);
    }
    let listed = shell(&format!("kcat -b {b} -L"));
    assert!(listed.stdout.contains("topic \"k-gzip\" with 1 partitions"), "{}", listed.stdout);
}

#[test]
fn kafkas_own_tools_work_with_it() {
    require!(KafkaTools);
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("java", 3);
    kafka.console_produce(&topic, &[], b"a\nb\nc\n");
    let mut read: Vec<_> = kafka.console_consume(&topic, 3, &["--group", "jg"]).lines().map(str::to_owned).collect();
    read.sort();
    assert_eq!(read, ["a", "b", "c"]);
    let described = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", "jg"]);
    let committed: i64 = described
        .lines()
        .filter(|l| l.starts_with("jg"))
        .map(|l| l.split_whitespace().nth(3).unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(committed, 3, "{described}");
    assert!(kafka.tool(Tool::ConsumerGroupCommand, &["--list"]).lines().any(|line| line == "jg"));
    let topics = kafka.tool(Tool::TopicCommand, &["--describe", "--topic", &topic]);
    assert!(topics.contains("PartitionCount: 3"), "{topics}");
    let perf = kafka.tool(
        Tool::ProducerPerformance,
        &["--topic", &topic, "--num-records", "50000", "--record-size", "100", "--throughput", "-1"],
    );
    assert!(perf.contains("50000 records sent"), "{perf}");
}

/// Members of librdkafka join and leave; each time the others share the partitions.
#[test]
fn a_group_of_librdkafka_rebalances_on_it_like_on_kafka() {
    require!(Python);
    for kafka in each([Kafka::Local, Kafka::LATEST]) {
        let topic = kafka.topic("shared", 6);
        let script = format!(
            r#"
import time
from confluent_kafka import Consumer, Producer
def member(strategy, session='6000'):
    c = Consumer({{'bootstrap.servers': '{b}', 'group.id': '{topic}-' + strategy, 'auto.offset.reset': 'earliest',
        'partition.assignment.strategy': strategy, 'session.timeout.ms': session, 'heartbeat.interval.ms': 200}})
    c.subscribe(['{topic}'])
    return c
def wait(members, sizes):
    end = time.time() + 40
    while sorted(len(m.assignment()) for m in members) != sizes:
        for m in members:
            m.poll(0.05)
        assert time.time() < end, [len(m.assignment()) for m in members]
for strategy in ['range', 'roundrobin', 'cooperative-sticky']:
    a = member(strategy); wait([a], [6])
    b = member(strategy); wait([a, b], [3, 3])
    c = member(strategy); wait([a, b, c], [2, 2, 2])
    b.close(); wait([a, c], [3, 3])
    a.close(); wait([c], [6])
    c.close()
print('shared')
"#,
            b = kafka.bootstrap
        );
        let done = python(&script);
        assert_eq!((done.code, done.stdout.as_str()), (0, "shared\n"), "{kafka}: {}", done.stderr);
    }
}

#[test]
fn the_oldest_batches_are_deleted_beyond_retain_bytes() {
    let local = Running::kpipe(&["local", "--port", "0", "--retain-bytes", "1M"]);
    wait_until("the address", || local.seen().ends_with('\n'));
    let bootstrap = local.seen().trim().to_owned();
    let lines: String = (0..60_000).map(|n| format!("{n:099}\n")).collect();
    let kpipe = |args: &[&str], stdin: &[u8]| crate::support::kpipe(&[&["-b", &bootstrap], args].concat(), stdin);
    assert_eq!(kpipe(&["produce", "t", "--batch-size", "100k"], lines.as_bytes()).code, 0);
    let described = json_lines(&kpipe(&["topics", "describe", "t", "-J"], b"").stdout);
    let partition = &described[0]["partitions"][0];
    let (first, next) = (partition["first_offset"].as_i64().unwrap(), partition["next_offset"].as_i64().unwrap());
    assert_eq!(next, 60_000);
    assert!((1..15_000).contains(&(next - first)), "{first} to {next}");
    let read = kpipe(&["consume", "t", "-o", "beginning", "-e", "--output", "value"], b"");
    assert_eq!(read.stdout.lines().next(), Some(&*format!("{first:099}")));
}

#[test]
fn an_unknown_request_gets_unsupported_version() {
    let kafka = shared(Kafka::Local);
    for (key, version) in [(50i16, 0i16), (76, 0), (1, 99), (1, 0), (9999, 0), (-1, -1)] {
        let mut wire = Wire::connect(&kafka.bootstrap);
        let mut frame = vec![0, 0, 0, 10];
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 7, 0, 0]);
        wire.send(&frame);
        let answer = wire.frame().unwrap();
        assert_eq!(&answer[..], [0, 0, 0, 7, 0, 35], "request {key} v{kafka}");
        assert!(wire.frame().is_none(), "closed");
    }
    // A client asks again for ApiVersions, in a version that is offered.
    let mut wire = Wire::connect(&kafka.bootstrap);
    wire.send(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 7, 0, 0]);
    assert_eq!(wire.frame().unwrap()[4..6], [0, 35]);
    let offered = wire.ask(&kafka_protocol::messages::ApiVersionsRequest::default(), 0);
    assert_eq!(offered.api_keys.len(), OFFERED.len());
}

/// Frames of every request with bytes changed, removed and added: each is answered or closes the connection.
#[test]
fn mutated_requests_do_not_stop_it() {
    let kafka = Cluster::start_local(1);
    let mut random = 88_172_645_463_325_252u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut wire = Wire::connect(&kafka.bootstrap);
    for round in 0..4_000 {
        let (api, range) = OFFERED[next(OFFERED.len())];
        let version = range.min + next((range.max - range.min + 1) as usize) as i16;
        let mut frame = request_bytes(api, version);
        for _ in 0..1 + next(6) {
            let at = 8 + next(frame.len() + 4 - 8);
            match (next(4), at < frame.len()) {
                (0, true) => frame[at] = 0xff,
                (1, true) => frame[at] ^= 1 << next(8),
                (2, true) if at > 14 => frame.truncate(at),
                _ => frame.extend([0xff, 0xff, 0xff, 0x7f]),
            }
        }
        let len = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        wire.send(&frame);
        // A response that may take long is not waited for.
        if matches!(api, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::Produce)
            || wire.frame().is_none()
        {
            wire = Wire::connect(&kafka.bootstrap);
        }
        if round % 500 == 0 {
            assert_eq!(kafka.kpipe(&["topics", "list"], b"").code, 0);
        }
    }
    kafka.kpipe(&["produce", "after"], b"it lives\n");
}

/// The frame of a default request.
fn request_bytes(api: ApiKey, version: i16) -> Vec<u8> {
    use kafka_protocol::messages::*;
    fn frame<R: Request + Default>(version: i16) -> Vec<u8> {
        Wire::encode(&R::default(), version).to_vec()
    }
    match api {
        ApiKey::Produce => frame::<ProduceRequest>(version),
        ApiKey::Fetch => frame::<FetchRequest>(version),
        ApiKey::ListOffsets => frame::<ListOffsetsRequest>(version),
        ApiKey::Metadata => frame::<MetadataRequest>(version),
        ApiKey::OffsetCommit => frame::<OffsetCommitRequest>(version),
        ApiKey::OffsetFetch => frame::<OffsetFetchRequest>(version),
        ApiKey::FindCoordinator => frame::<FindCoordinatorRequest>(version),
        ApiKey::JoinGroup => frame::<JoinGroupRequest>(version),
        ApiKey::Heartbeat => frame::<HeartbeatRequest>(version),
        ApiKey::LeaveGroup => frame::<LeaveGroupRequest>(version),
        ApiKey::SyncGroup => frame::<SyncGroupRequest>(version),
        ApiKey::DescribeGroups => frame::<DescribeGroupsRequest>(version),
        ApiKey::ListGroups => frame::<ListGroupsRequest>(version),
        ApiKey::ApiVersions => frame::<ApiVersionsRequest>(version),
        ApiKey::CreateTopics => frame::<CreateTopicsRequest>(version),
        ApiKey::DeleteTopics => frame::<DeleteTopicsRequest>(version),
        ApiKey::InitProducerId => frame::<InitProducerIdRequest>(version),
        ApiKey::DescribeConfigs => frame::<DescribeConfigsRequest>(version),
        ApiKey::CreatePartitions => frame::<CreatePartitionsRequest>(version),
        ApiKey::OffsetForLeaderEpoch => frame::<OffsetForLeaderEpochRequest>(version),
        ApiKey::DeleteRecords => frame::<DeleteRecordsRequest>(version),
        ApiKey::DescribeLogDirs => frame::<DescribeLogDirsRequest>(version),
        ApiKey::AddPartitionsToTxn => frame::<AddPartitionsToTxnRequest>(version),
        ApiKey::AddOffsetsToTxn => frame::<AddOffsetsToTxnRequest>(version),
        ApiKey::EndTxn => frame::<EndTxnRequest>(version),
        ApiKey::TxnOffsetCommit => frame::<TxnOffsetCommitRequest>(version),
        ApiKey::WriteTxnMarkers => frame::<WriteTxnMarkersRequest>(version),
        ApiKey::ListTransactions => frame::<ListTransactionsRequest>(version),
        ApiKey::DescribeTransactions => frame::<DescribeTransactionsRequest>(version),
        ApiKey::DescribeProducers => frame::<DescribeProducersRequest>(version),
        ApiKey::IncrementalAlterConfigs => frame::<IncrementalAlterConfigsRequest>(version),
        ApiKey::DeleteGroups => frame::<DeleteGroupsRequest>(version),
        ApiKey::OffsetDelete => frame::<OffsetDeleteRequest>(version),
        ApiKey::DescribeCluster => frame::<DescribeClusterRequest>(version),
        ApiKey::SaslHandshake => frame::<SaslHandshakeRequest>(version),
        ApiKey::SaslAuthenticate => frame::<SaslAuthenticateRequest>(version),
        ApiKey::DescribeAcls => frame::<DescribeAclsRequest>(version),
        ApiKey::CreateAcls => frame::<CreateAclsRequest>(version),
        ApiKey::DeleteAcls => frame::<DeleteAclsRequest>(version),
        other => panic!("{other:?} is offered, and not here"),
    }
}

/// Every kind of fault while records are produced.
#[test]
fn faults_lose_and_repeat_no_record() {
    let kafka = Cluster::start_local(3);
    let topic = kafka.topic("faults", 3);
    let local = kafka.local();
    let mut input =
        Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-K", ":", "-X", "request.timeout.ms=2000"]);
    let mut sent = 0;
    let mut send = |input: &mut Running, count: u32| {
        let lines: String = (sent..sent + count).map(|n| format!("{}:{n}\n", n % 9)).collect();
        input.write(lines.as_bytes());
        sent += count;
    };
    for fault in [
        Fault::Error(6),
        Fault::Error(7),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Delay(Duration::from_millis(300)),
        Fault::Cut(3),
        Fault::Cut(30),
    ] {
        local.faults().inject(ApiKey::Produce, 2, fault);
        while !local.faults().are_done() {
            send(&mut input, 100);
            wait_until("the input to be read", || input.unread() == 0);
        }
    }
    for broker in 1..=3 {
        send(&mut input, 1_000);
        local.crash(broker);
        send(&mut input, 1_000);
        local.restart(broker).unwrap();
        assert!(local.move_leader(&topic, 0, broker));
    }
    let done = input.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let read = json_lines(&kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"").stdout);
    let mut all: Vec<u32> = read.iter().map(|r| r["value"].as_str().unwrap().parse().unwrap()).collect();
    for key in 0..9 {
        let of_key: Vec<u32> = all.iter().copied().filter(|n| n % 9 == key).collect();
        assert!(of_key.is_sorted_by(|a, b| a < b), "order of key {key}");
    }
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_consumer_survives_faults() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("reader", 2);
    let local = kafka.local();
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
    let mut expected = 0;
    for fault in [
        Fault::Error(6),
        Fault::Error(74),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Cut(70),
        Fault::Delay(Duration::from_millis(50)),
    ] {
        local.faults().inject(ApiKey::Fetch, 2, fault);
        kafka.kpipe(&["produce", &topic, "-q"], format!("{expected}\n").as_bytes());
        expected += 1;
        wait_until("the record", || tail.seen().lines().count() == expected);
        wait_until("the fault", || local.faults().are_done());
    }
    tail.signal(libc::SIGTERM);
    let done = tail.ended();
    let lines: Vec<_> = done.stdout.lines().map(|line| line.parse::<usize>().unwrap()).collect();
    assert_eq!(lines, (0..expected).collect::<Vec<_>>(), "{}", done.stderr);
}
