//! Records: Produce, idempotent sequences, Fetch and ListOffsets.

use super::{LOADING, Pair, Side, name, versions};
use crate::support::{require, wait_until};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::record::RecordRef;
use uuid::Uuid;

fn batch(values: u32, producer: Option<(i64, i32)>) -> Bytes {
    let mut builder = BatchBuilder::default();
    for n in 0..values {
        let record = RecordRef { timestamp: Some(1_000 + i64::from(n)), value: Some(b"v"), ..RecordRef::default() };
        builder.append(&record, 0);
    }
    let sealed = builder.seal(bytes::BytesMut::new());
    let stamp = producer.map_or(ProducerStamp::NONE, |(producer_id, base_sequence)| ProducerStamp {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        transactional: false,
    });
    [&sealed.header(stamp)[..], &sealed.records].concat().into()
}

fn produce(topic: &str, side: &Side, version: i16, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let data = TopicProduceData::default().with_partition_data(vec![data]);
    let data = if version >= 13 { data.with_topic_id(side.id) } else { data.with_name(name(topic)) };
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
    request.with_transactional_id(None)
}

/// Removes what may differ: error messages, record errors, and the topic's ID.
fn blank_produce(response: &mut ProduceResponse) {
    for topic in &mut response.responses {
        topic.topic_id = Uuid::nil();
        for partition in &mut topic.partition_responses {
            partition.error_message = None;
            partition.record_errors.clear();
        }
    }
}

#[test]
fn produce_agrees_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = pair.topic.clone();
    for version in versions::<ProduceRequest>(3) {
        let good = batch(3, None);
        let mut torn = good.to_vec();
        torn[65] ^= 1;
        let mut miscounted = good.to_vec();
        miscounted[60] = 9;
        let checksum = crc32c::crc32c(&miscounted[21..]);
        miscounted[17..21].copy_from_slice(&checksum.to_be_bytes());
        for records in [good, torn.into(), Bytes::new(), batch(20_000, None), miscounted.into()] {
            let request = |side: &Side| produce(&topic, side, version, 0, records.clone());
            pair.agree(version, request, blank_produce);
        }
        let request = |side: &Side| produce(&topic, side, version, 5, batch(1, None));
        pair.agree(version, request, blank_produce);
        if version < 13 {
            let request = |side: &Side| produce("nowhere", side, version, 0, batch(1, None));
            pair.agree(version, request, blank_produce);
        }
    }
}

#[test]
fn idempotent_sequences_agree() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = pair.topic.clone();
    let mut ids = Vec::new();
    for version in versions::<InitProducerIdRequest>(0) {
        let request = |_: &Side| {
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX)
        };
        wait_until("producer ids", || !LOADING.contains(&pair.real.wire.ask(&request(&pair.ours), version).error_code));
        ids.push(pair.agree(version, request, |response| response.producer_id = ProducerId(0)).producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), 6, "each ID is given once");
    // Sequences: the first, the next, a repeated one, an older repeated one, a gap, an overlap.
    let producer = 900_000;
    for (count, sequence) in
        [(2, 0), (3, 2), (3, 2), (2, 0), (1, 9), (2, 4), (4, 5), (1, 9), (1, 10), (1, 11), (1, 12), (2, 0)]
    {
        let request = |side: &Side| produce(&topic, side, 11, 0, batch(count, Some((producer, sequence))));
        pair.agree(11, request, blank_produce);
    }
}

#[test]
fn fetch_agrees_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = pair.topic.clone();
    for records in [3, 1, 4] {
        let request = |side: &Side| produce(&topic, side, 9, 0, batch(records, None));
        pair.agree(9, request, blank_produce);
    }
    for version in versions::<FetchRequest>(4) {
        // Partition, offset, maximum bytes, leader epoch.
        for (partition, offset, most, epoch) in [
            (0, 0, 1 << 20, -1),
            (0, 4, 1 << 20, 0),
            (0, 1, 80, -1),
            (0, 8, 1 << 20, -1),
            (0, 99, 1 << 20, -1),
            (7, 0, 1 << 20, -1),
            (0, 0, 1 << 20, 9),
        ] {
            if epoch >= 0 && version < 9 {
                continue;
            }
            let request = |side: &Side| {
                let partition = FetchPartition::default()
                    .with_partition(partition)
                    .with_fetch_offset(offset)
                    .with_partition_max_bytes(most)
                    .with_current_leader_epoch(epoch)
                    .with_last_fetched_epoch(-1)
                    .with_log_start_offset(-1);
                let wanted = FetchTopic::default().with_partitions(vec![partition]);
                let wanted =
                    if version >= 13 { wanted.with_topic_id(side.id) } else { wanted.with_topic(name(&topic)) };
                FetchRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_max_wait_ms(10)
                    .with_min_bytes(1)
                    .with_max_bytes(1 << 20)
                    .with_session_epoch(if version >= 7 { -1 } else { FetchRequest::default().session_epoch })
                    .with_topics(vec![wanted])
            };
            pair.agree(version, request, |response| {
                for topic in &mut response.responses {
                    topic.topic_id = Uuid::nil();
                    for partition in &mut topic.partitions {
                        partition.records.get_or_insert_default();
                        partition.aborted_transactions.get_or_insert_default();
                    }
                }
            });
        }
    }
}

#[test]
fn list_offsets_agrees_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = pair.topic.clone();
    let ask = |pair: &mut Pair, version: i16, partition: i32, timestamp: i64| {
        let request = |_: &Side| {
            let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
            let asked = ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![asked]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked])
        };
        pair.agree(version, request, |_| {});
    };
    ask(&mut pair, 7, 0, -3);
    ask(&mut pair, 7, 0, 5);
    let request = |side: &Side| produce(&topic, side, 9, 0, batch(5, None));
    pair.agree(9, request, blank_produce);
    for version in versions::<ListOffsetsRequest>(1) {
        let special: &[i64] = match version {
            ..7 => &[-1, -2],
            7 => &[-1, -2, -3],
            8 => &[-1, -2, -3, -4],
            _ => &[-1, -2, -3, -4, -5],
        };
        for timestamp in special.iter().chain(&[0, 1_000, 1_003, 1_004, 1_005]) {
            ask(&mut pair, version, 0, *timestamp);
        }
        ask(&mut pair, version, 8, -1);
    }
}
