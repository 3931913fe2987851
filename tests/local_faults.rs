//! What `kpipe local` does wrong on demand, as a client sees it on the wire.

use crate::support::{Cluster, Wire, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::local::{Fault, Times};
use kpipe::record::RecordRef;
use std::time::{Duration, Instant};

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn produce(topic: &str) -> ProduceRequest {
    let mut builder = BatchBuilder::default();
    builder.append(&RecordRef { value: Some(b"v"), ..RecordRef::default() }, 0);
    let sealed = builder.seal(BytesMut::new());
    let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data])
}

fn produced(wire: &mut Wire, topic: &str) -> (i16, i64) {
    let answer = wire.ask(&produce(topic), 9);
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Error, first offset and end of partition 0.
fn bounds(wire: &mut Wire, topic: &str) -> (i16, i64, i64) {
    let mut ask = |timestamp| {
        let asked = ListOffsetsPartition::default().with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let answer = wire.ask(&request, 7);
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.offset)
    };
    let ((error, first), (_, end)) = (ask(-2), ask(-1));
    (error, first, end)
}

fn fetched(wire: &mut Wire, topic: &str, offset: i64) -> (i16, usize) {
    let asked = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]);
    let answer = wire.ask(&request, 11);
    let partition = &answer.responses[0].partitions[0];
    (partition.error_code, partition.records.as_ref().map_or(0, Bytes::len))
}

fn metadata(wire: &mut Wire, topic: &str) -> metadata_response::MetadataResponseTopic {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    wire.ask(&MetadataRequest::default().with_topics(Some(vec![asked])), 10).topics[0].clone()
}

#[test]
fn an_error_has_no_effect_or_comes_after_the_effect() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("errors", 1);
    let faults = kafka.local().faults();
    let mut wire = Wire::connect(&kafka.bootstrap);
    faults.inject(ApiKey::Produce, 2, Fault::Error(6));
    assert_eq!([produced(&mut wire, &topic), produced(&mut wire, &topic)], [(6, -1), (6, -1)]);
    for (end, code) in [(1, 6), (2, 56), (3, -1)] {
        faults.inject(ApiKey::Produce, 1, Fault::ErrorAfter(code));
        assert_eq!(produced(&mut wire, &topic), (code, -1));
        assert_eq!(bounds(&mut wire, &topic), (0, 0, end), "{code}");
    }
    assert_eq!(produced(&mut wire, &topic), (0, 3));
    let before = faults.requests(ApiKey::Produce);
    faults.inject(ApiKey::Produce, Times::Always, Fault::Error(999));
    assert!((0..5).all(|_| produced(&mut wire, &topic) == (999, -1)));
    assert_eq!(faults.requests(ApiKey::Produce), before + 5);
    faults.clear(ApiKey::Produce);
    assert_eq!(produced(&mut wire, &topic), (0, 4));
}

#[test]
fn an_answer_is_lost_withheld_late_or_throttled() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("answers", 1);
    let faults = kafka.local().faults();
    let mut wire = Wire::connect(&kafka.bootstrap);
    faults.inject(ApiKey::Produce, 1, Fault::DropAfter);
    wire.send(&Wire::encode(&produce(&topic), 9));
    assert!(wire.frame().is_none());
    let mut wire = Wire::connect(&kafka.bootstrap);
    assert_eq!(bounds(&mut wire, &topic), (0, 0, 1), "it took effect");

    faults.inject(ApiKey::Produce, 1, Fault::Silence);
    let mut silenced = Wire::connect(&kafka.bootstrap);
    silenced.send(&Wire::encode(&produce(&topic), 9));
    wait_until("the fault", || faults.are_done());
    assert_eq!(bounds(&mut wire, &topic), (0, 0, 1), "it took no effect");
    drop(silenced);

    faults.inject(ApiKey::Produce, 1, Fault::Delay(Duration::from_millis(200)));
    let asked = Instant::now();
    assert_eq!(produced(&mut wire, &topic), (0, 1));
    assert!(asked.elapsed() >= Duration::from_millis(200));

    faults.inject(ApiKey::Metadata, 1, Fault::Throttle(Duration::from_millis(200)));
    let asked = Instant::now();
    let topics = || Some(vec![MetadataRequestTopic::default().with_name(Some(name(&topic)))]);
    assert_eq!(wire.ask(&MetadataRequest::default().with_topics(topics()), 10).throttle_time_ms, 200);
    assert_eq!(wire.ask(&MetadataRequest::default().with_topics(topics()), 10).throttle_time_ms, 0);
    assert!(asked.elapsed() >= Duration::from_millis(200), "the connection is not read meanwhile");
}

#[test]
fn a_frozen_broker_answers_once_it_is_thawed() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("frozen", 1);
    let faults = kafka.local().faults();
    faults.freeze(1);
    let connections = faults.connections();
    let (mut first, mut second) = (Wire::connect(&kafka.bootstrap), {
        let second = kafka.bootstrap.split(',').nth(1).unwrap();
        Wire::connect(second)
    });
    first.send(&Wire::encode(&produce(&topic), 9));
    assert_eq!(metadata(&mut second, &topic).partitions[0].leader_id, BrokerId(1), "it seems to be up");
    let produces = faults.requests(ApiKey::Produce);
    assert_eq!(produces, 0, "the request waits");
    faults.thaw(1);
    assert_eq!(first.answer::<ProduceRequest>(9).responses[0].partition_responses[0].error_code, 0);
    assert_eq!((faults.requests(ApiKey::Produce), faults.connections()), (1, connections + 2));
}

#[test]
fn a_partition_fails_alone_loses_its_leader_and_moves_its_start() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("partition", 2);
    let local = kafka.local();
    let mut wire = Wire::connect(&kafka.bootstrap);
    (0..4).for_each(|offset| assert_eq!(produced(&mut wire, &topic), (0, offset)));

    assert!(local.set_partition_error(&topic, 0, Some(56)));
    assert_eq!((produced(&mut wire, &topic).0, fetched(&mut wire, &topic, 0).0), (56, 56));
    assert_eq!(bounds(&mut wire, &topic).0, 56);
    assert!(local.set_partition_error(&topic, 0, None));
    assert!(!local.set_partition_error(&topic, 2, None), "there is no such partition");

    let epoch = metadata(&mut wire, &topic).partitions[0].leader_epoch;
    assert!(local.remove_leader(&topic, 0));
    let partition = metadata(&mut wire, &topic).partitions[0].clone();
    assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (5, BrokerId(-1), epoch + 1));
    assert_eq!(produced(&mut wire, &topic).0, 6);
    assert!(local.move_leader(&topic, 0, 1));
    assert_eq!(produced(&mut wire, &topic), (0, 4));

    assert!(local.set_log_start(&topic, 0, 3));
    assert_eq!(bounds(&mut wire, &topic), (0, 3, 5));
    assert_eq!(fetched(&mut wire, &topic, 2).0, 1);
    assert!(local.set_log_start(&topic, 0, 1));
    assert_eq!(bounds(&mut wire, &topic), (0, 1, 5));
    assert!(matches!(fetched(&mut wire, &topic, 2), (0, 1..)));
}

#[test]
fn a_recreated_topic_has_another_id_and_no_records() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("recreated", 3);
    let local = kafka.local();
    let mut wire = Wire::connect(&kafka.bootstrap);
    assert_eq!(produced(&mut wire, &topic), (0, 0));
    assert!(local.move_leader(&topic, 0, 1));
    let before = metadata(&mut wire, &topic);
    assert!(local.recreate_topic(&topic));
    assert!(!local.recreate_topic("nowhere"));
    let after = metadata(&mut wire, &topic);
    assert_eq!((before.partitions[0].leader_epoch, after.partitions[0].leader_epoch), (1, 0));
    assert_eq!((before.partitions.len(), after.partitions.len()), (3, 3));
    assert_ne!(before.topic_id, after.topic_id);
    assert_eq!(bounds(&mut wire, &topic), (0, 0, 0));
}
