//! Replication: acks, in-sync replicas and the high watermark with a broker that is down, on clusters of three.

use super::{name, text};
use crate::support::{Cluster, Kafka, Version, Wire, fresh, require, send_signal, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::record::RecordRef;

/// What happened, in words: the same on both.
fn story(kafka: &Cluster, topic: &str) -> Vec<String> {
    let mut story = Vec::new();
    let first = kafka.bootstrap.split(',').next().unwrap().to_owned();
    let mut wire = Wire::connect(&first);
    let assigned = |partition| {
        let assignment = CreatableReplicaAssignment::default().with_partition_index(partition);
        assignment.with_broker_ids(vec![BrokerId(1), BrokerId(2)])
    };
    let config = CreatableTopicConfig::default().with_name(text("min.insync.replicas")).with_value(Some(text("2")));
    let new = CreatableTopic::default().with_name(name(topic)).with_num_partitions(-1).with_replication_factor(-1);
    let new = new.with_assignments(vec![assigned(0)]).with_configs(vec![config]);
    let created = wire.ask(&CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(9000), 7);
    story.push(format!("created: {}", created.topics[0].error_code));
    wait_until("the leader", || end(&mut wire, topic).starts_with("0 "));
    step(&mut story, &mut wire, topic);
    match kafka.kafka {
        Kafka::Local => kafka.local().crash(2),
        Kafka::Real(_) => send_signal(kafka.pid(2), libc::SIGSTOP),
    }
    wait_until("the ISR", || in_sync(&mut wire, topic).contains("[1] of"));
    step(&mut story, &mut wire, topic);
    match kafka.kafka {
        Kafka::Local => kafka.local().restart(2).unwrap(),
        Kafka::Real(_) => send_signal(kafka.pid(2), libc::SIGCONT),
    }
    wait_until("the ISR", || in_sync(&mut wire, topic).contains("[1, 2] of"));
    wait_until("the high watermark", || end(&mut wire, topic).ends_with(" 6"));
    step(&mut story, &mut wire, topic);
    story
}

fn step(story: &mut Vec<String>, wire: &mut Wire, topic: &str) {
    story.push(in_sync(wire, topic));
    for acks in [-1, 1, 2] {
        let mut builder = BatchBuilder::default();
        for _ in 0..2 {
            builder.append(&RecordRef { timestamp: Some(1), value: Some(b"v"), ..RecordRef::default() }, 0);
        }
        let sealed = builder.seal(BytesMut::new());
        let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
        let data = PartitionProduceData::default().with_records(Some(records));
        let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(5000).with_topic_data(vec![data]);
        let answer = wire.ask(&request, 9).responses[0].partition_responses[0].clone();
        let (code, base, start) = (answer.error_code, answer.base_offset, answer.log_start_offset);
        story.push(format!("acks={acks}: error {code}, offset {base}, start {start}"));
    }
    // Followers have not fetched them yet.
    if in_sync(wire, topic).contains("[1, 2] of") {
        let all = format!(" {}", epoch_end(wire, topic).end_offset);
        wait_until("the high watermark", || end(wire, topic).ends_with(&all));
    }
    story.push(end(wire, topic));
    let asked = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let answer = wire.ask(&FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]), 11);
    let partition = &answer.responses[0].partitions[0];
    let bytes = partition.records.as_ref().map_or(0, Bytes::len);
    let (code, high, stable) = (partition.error_code, partition.high_watermark, partition.last_stable_offset);
    story.push(format!("fetched: error {code}, {bytes} bytes, high watermark {high}, last stable offset {stable}"));
    let epoch = epoch_end(wire, topic);
    story.push(format!("epoch 0: error {}, epoch {}, end {}", epoch.error_code, epoch.leader_epoch, epoch.end_offset));
}

fn epoch_end(wire: &mut Wire, topic: &str) -> EpochEndOffset {
    let asked = OffsetForLeaderPartition::default().with_leader_epoch(0).with_current_leader_epoch(-1);
    let asked = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    wire.ask(&request, 4).topics[0].partitions[0].clone()
}

fn end(wire: &mut Wire, topic: &str) -> String {
    let asked = ListOffsetsPartition::default().with_timestamp(-1);
    let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let answer = wire.ask(&request, 7);
    format!(
        "{} is the error, the end is {}",
        answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].offset
    )
}

fn in_sync(wire: &mut Wire, topic: &str) -> String {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let answer = wire.ask(&MetadataRequest::default().with_topics(Some(vec![asked])), 10);
    let Some(partition) = answer.topics[0].partitions.first() else { return String::new() };
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let mut isr = ids(&partition.isr_nodes);
    isr.sort_unstable();
    format!(
        "error {}, leader {}, in sync {isr:?} of {:?}, offline {:?}",
        partition.error_code,
        partition.leader_id.0,
        ids(&partition.replica_nodes),
        ids(&partition.offline_replicas)
    )
}

#[test]
fn a_broker_that_is_down_has_the_same_effect() {
    require!(Kafka);
    let topic = fresh("replicated");
    let real = Cluster::start(Version::LATEST, 3, &[]);
    let ours = Cluster::start_local(3);
    let (theirs, shown) = (story(&real, &topic), story(&ours, &topic));
    assert_eq!(theirs, shown, "Kafka on the left, kpipe local on the right");
}
