//! Whatever bytes clients send to `kpipe local`, its memory stays bounded and it refuses with Kafka's own codes.

use crate::support::Wire;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// `kpipe local` in a process of its own, whose memory can be read.
struct Local {
    process: Child,
    bootstrap: String,
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Local {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kpipe"));
        let mut process = command.args(["local", "--port", "0"]).args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let mut bootstrap = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut bootstrap).unwrap();
        Self { process, bootstrap: bootstrap.trim().to_owned() }
    }

    fn wire(&self) -> Wire {
        Wire::connect(&self.bootstrap)
    }

    /// Its largest resident size so far, in MB.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
    }

    fn is_alive(&self) {
        assert!(!self.wire().ask(&ApiVersionsRequest::default(), 0).api_keys.is_empty());
    }
}

fn text(text: String) -> StrBytes {
    StrBytes::from_string(text)
}

/// A frame with a header of version 1 (`flexible`: 2), and `body` after it.
fn frame(api: ApiKey, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut request = BytesMut::new();
    request.put_i16(api as i16);
    request.put_i16(version);
    request.put_i32(7);
    request.put_i16(-1);
    request.put_slice(if flexible { &[0] } else { &[] });
    request.put_slice(body);
    let mut frame = BytesMut::new();
    frame.put_i32(request.len() as i32);
    frame.put(request);
    frame.freeze()
}

#[test]
fn frames_that_are_too_long_close_the_connection() {
    let local = Local::start(&[]);
    for (api, len) in
        [(ApiKey::Metadata, 3 << 20), (ApiKey::Produce, 101 << 20), (ApiKey::Produce, 7), (ApiKey::Fetch, -1)]
    {
        let mut wire = local.wire();
        let mut head = BytesMut::new();
        head.put_i32(len);
        head.put_i16(api as i16);
        wire.send(&head);
        assert!(wire.frame().is_none(), "{api:?} of {len} bytes");
    }
    local.is_alive();
}

#[test]
fn requests_of_empty_names_take_bounded_memory() {
    let local = Local::start(&[]);
    let count = 1_000_000;
    let mut names = BytesMut::new();
    names.put_i32(count);
    names.put_bytes(0, count as usize * 2);
    let metadata = frame(ApiKey::Metadata, 1, false, &names);
    let mut wires: Vec<Wire> = (0..8).map(|_| local.wire()).collect();
    for wire in &mut wires {
        wire.send(&metadata);
    }
    for wire in &mut wires {
        // Refused as a false count, or answered once for all.
        assert!(wire.frame().is_none_or(|answer| answer.len() < 1000));
    }
    // A produce request of a hundred million partitions: null transactional ID, acks, timeout, one topic without a name.
    let mut partitions = BytesMut::from(&[0, 0, 1, 0, 0, 0, 0, 2, 1, 0x80, 0xc2, 0xd7, 0x2f][..]);
    partitions.put_bytes(0, 60 << 20);
    let mut wire = local.wire();
    wire.send(&frame(ApiKey::Produce, 9, true, &partitions));
    assert!(wire.frame().is_none());
    local.is_alive();
    assert!(local.peak() < 1200, "{} MB", local.peak());
}

#[test]
fn counts_that_a_frame_cannot_hold_are_refused() {
    let local = Local::start(&[]);
    // 103 million topics, in both encodings.
    for (version, flexible, count) in [(4, false, &[6, 0x23, 0xa7, 0xc0][..]), (7, true, &[0x81, 0xce, 0x8e, 0x31][..])]
    {
        let mut wire = local.wire();
        let mut body = BytesMut::from(count);
        body.put_bytes(0, 1 << 20);
        wire.send(&frame(ApiKey::CreateTopics, version, flexible, &body));
        assert!(wire.frame().is_none(), "v{version}");
    }
    local.is_alive();
    assert!(local.peak() < 700, "{} MB", local.peak());
}

#[test]
fn large_requests_are_read_only_as_there_is_room_for_them() {
    let local = Local::start(&[]);
    let chunk = vec![0; 1 << 20];
    let mut accepted = 0;
    let mut open = Vec::new();
    for _ in 0..12 {
        let mut socket = std::net::TcpStream::connect(&local.bootstrap).unwrap();
        socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.write_all(&(100i32 << 20).to_be_bytes()).unwrap();
        // Up to a megabyte before its end, so that the request stays in work.
        accepted += (0..99).take_while(|_| socket.write_all(&chunk).is_ok()).count();
        open.push(socket);
    }
    assert!((300..600).contains(&accepted), "{accepted} MB of 1188 were read");
    assert!(local.peak() < 700, "{} MB", local.peak());
    drop(open);
    local.is_alive();
}

#[test]
fn groups_stay_within_their_share_and_refuse_with_kafkas_codes() {
    let local = Local::start(&["--retain-bytes", "1M", "--topic", "t:8"]);
    let mut wire = local.wire();
    let join = |group: &str| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range".to_owned()));
        let protocol = protocol.with_metadata(Bytes::from(vec![7; 300 << 10]));
        JoinGroupRequest::default()
            .with_group_id(text(group.to_owned()).into())
            .with_session_timeout_ms(30_000)
            .with_protocol_type(text("consumer".to_owned()))
            .with_protocols(vec![protocol])
    };
    let joined: Vec<i16> = (0..5).map(|n| wire.ask(&join(&format!("g{n}")), 3).error_code).collect();
    assert_eq!(joined, [0, 0, 0, 81, 81], "GROUP_MAX_SIZE_REACHED");

    let mut commit = |group: &str, metadata: usize| {
        let partition = |n| {
            let partition = OffsetCommitRequestPartition::default().with_partition_index(n);
            partition.with_committed_metadata(Some(text("m".repeat(metadata))))
        };
        let topic = OffsetCommitRequestTopic::default().with_name(text("t".to_owned()).into());
        let topic = topic.with_partitions((0..8).map(partition).collect());
        let request = OffsetCommitRequest::default().with_group_id(text(group.to_owned()).into());
        let request = request.with_generation_id_or_member_epoch(-1).with_topics(vec![topic]);
        wire.ask(&request, 7).topics[0].partitions[0].error_code
    };
    assert_eq!(commit("offsets", 4097), 12, "OFFSET_METADATA_TOO_LARGE");
    let codes: Vec<i16> = (0..5).map(|n| commit(&format!("offsets-{n}"), 4096)).collect();
    assert_eq!((codes[0], codes[4]), (0, 81), "{codes:?}");
    local.is_alive();
}

#[test]
fn a_group_takes_so_many_members_and_sessions_so_long() {
    let local = Local::start(&[]);
    let mut wire = local.wire();
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range".to_owned()));
    let join = JoinGroupRequest::default()
        .with_group_id(text("g".to_owned()).into())
        .with_session_timeout_ms(30_000)
        .with_protocol_type(text("consumer".to_owned()))
        .with_protocols(vec![protocol]);
    let codes: Vec<i16> = (0..1001).map(|_| wire.ask(&join, 5).error_code).collect();
    assert!(codes[..1000].iter().all(|code| *code == 79), "MEMBER_ID_REQUIRED");
    assert_eq!(codes[1000], 81, "GROUP_MAX_SIZE_REACHED");
    assert_eq!(wire.ask(&join.with_session_timeout_ms(i32::MAX), 5).error_code, 26, "INVALID_SESSION_TIMEOUT");
}

#[test]
fn topics_are_created_on_first_use_in_linear_time_up_to_a_limit() {
    let local = Local::start(&[]);
    let mut wire = local.wire();
    let names = |from: usize| {
        let topic = |n| MetadataRequestTopic::default().with_name(Some(text(format!("t{n}")).into()));
        MetadataRequest::default().with_topics(Some((from..from + 50_000).map(topic).collect()))
    };
    let failed = |answer: &MetadataResponse| answer.topics.iter().filter(|topic| topic.error_code != 0).count();
    assert_eq!(failed(&wire.ask(&names(0), 1)), 0);
    assert_eq!(failed(&wire.ask(&names(60_000), 1)), 0);
    assert_eq!(failed(&wire.ask(&names(120_000), 1)), 50_000);
    let topic = CreatableTopic::default().with_name(text("more".to_owned()).into()).with_num_partitions(i32::MAX);
    let request = CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]);
    assert_eq!(wire.ask(&request, 4).topics[0].error_code, 44, "POLICY_VIOLATION");
}
