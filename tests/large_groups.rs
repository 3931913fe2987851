//! What the leader of a large group computes ends with a signal.

use crate::support::{Running, peer, wait_until};
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, ConsumerProtocolSubscription, FindCoordinatorResponse, JoinGroupResponse, LeaveGroupResponse,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];
/// Of each topic.
const PARTITIONS: i32 = 50_000;

/// The subscription of a member that has all partitions.
fn subscription() -> bytes::Bytes {
    let owned = |name: &&'static str| {
        let topic = TopicPartition::default().with_topic(TopicName(StrBytes::from_static_str(name)));
        topic.with_partitions((0..PARTITIONS).collect())
    };
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(TOPICS.map(StrBytes::from_static_str).to_vec())
        .with_owned_partitions(TOPICS.iter().map(owned).collect())
        .with_generation_id(1);
    let mut bytes = BytesMut::new();
    bytes.put_i16(3);
    subscription.encode(&mut bytes, 3).unwrap();
    bytes.freeze()
}

fn metadata(port: u16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default().with_host(StrBytes::from_static_str("127.0.0.1"));
    let partition = |index| {
        let partition = MetadataResponsePartition::default().with_partition_index(index).with_leader_epoch(0);
        partition.with_leader_id(BrokerId(0)).with_replica_nodes(vec![BrokerId(0)])
    };
    let topic = |name: &&'static str| {
        let topic = MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))));
        topic.with_partitions((0..PARTITIONS).map(partition).collect())
    };
    let answer = MetadataResponse::default().with_brokers(vec![broker.with_port(i32::from(port))]);
    answer.with_topics(TOPICS.iter().map(topic).collect())
}

/// A coordinator that makes its only member the leader of two, of which the other claims all partitions. Returns its
/// address, and how many requests for metadata have come since the member joined.
fn coordinator() -> (String, Arc<AtomicUsize>) {
    let (joined, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (joins, counts) = (joined.clone(), counted.clone());
    let address = peer(move |request| match ApiKey::try_from(request.api).unwrap() {
        ApiKey::ApiVersions => Some(request.offer(&[
            (ApiKey::Produce, 9),
            (ApiKey::Fetch, 12),
            (ApiKey::ListOffsets, 5),
            (ApiKey::Metadata, 12),
            (ApiKey::ApiVersions, 3),
            (ApiKey::FindCoordinator, 3),
            (ApiKey::JoinGroup, 5),
            (ApiKey::SyncGroup, 3),
            (ApiKey::Heartbeat, 3),
            (ApiKey::LeaveGroup, 3),
            (ApiKey::OffsetFetch, 5),
            (ApiKey::OffsetCommit, 7),
        ])),
        ApiKey::Metadata => {
            if joins.load(Ordering::SeqCst) > 0 {
                counts.fetch_add(1, Ordering::SeqCst);
            }
            Some(request.encode(&metadata(request.port)))
        }
        ApiKey::FindCoordinator => {
            let host = StrBytes::from_static_str("127.0.0.1");
            let answer = FindCoordinatorResponse::default().with_host(host).with_port(i32::from(request.port));
            Some(request.encode(&answer))
        }
        ApiKey::JoinGroup => {
            joins.fetch_add(1, Ordering::SeqCst);
            let text = StrBytes::from_static_str;
            let member = |id| JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(subscription());
            let answer = JoinGroupResponse::default().with_generation_id(2).with_protocol_name(Some(text("sticky")));
            let answer = answer.with_leader(text("m")).with_member_id(text("m"));
            Some(request.encode(&answer.with_members(vec![member("m"), member("n")])))
        }
        ApiKey::LeaveGroup => Some(request.encode(&LeaveGroupResponse::default())),
        _ => None,
    });
    (address, counted)
}

#[test]
fn a_signal_ends_a_leader_that_assigns_200000_partitions() {
    let (address, counted) = coordinator();
    let args = ["-b", &address, "consume", "t0", "t1", "t2", "t3", "-g", "g", "--group-protocol", "classic"];
    let running = Running::kpipe(&[&args[..], &["--assignor", "sticky"]].concat());
    wait_until("the leader counts partitions", || counted.load(Ordering::SeqCst) > 0);
    // It has read the answer by then, or soon has, and computes.
    let answered = Instant::now();
    wait_until("the answer is read", || answered.elapsed() > Duration::from_secs(1));
    running.signal(libc::SIGTERM);
    let signaled = Instant::now();
    let done = running.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(signaled.elapsed() < Duration::from_secs(3), "{:?}", signaled.elapsed());
}
