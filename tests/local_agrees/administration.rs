//! What administrators ask: configs that change, records and offsets that are deleted, sizes, the cluster itself.

use super::both::{Both, One};
use super::{name, text};
use crate::support::{fresh, require, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::record::RecordRef;

fn produce(both: &mut Both, times: &[i64]) {
    let mut builder = BatchBuilder::default();
    for time in times {
        builder.append(&RecordRef { timestamp: Some(*time), value: Some(b"v"), ..RecordRef::default() }, 0);
    }
    let sealed = builder.seal(BytesMut::new());
    let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
    let topic = both.topic.clone();
    let request = |_: &One| {
        let data = PartitionProduceData::default().with_records(Some(records.clone()));
        let data = TopicProduceData::default().with_name(name(&topic)).with_partition_data(vec![data]);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data])
    };
    both.ask("produced", 9, request, |_| {});
}

#[test]
fn topic_configs_are_changed_alike() {
    require!(Kafka);
    let mut both = Both::new();
    let topic = both.topic.clone();
    let config = |name: &str, operation: i8, value: Option<&str>| {
        let config = AlterableConfig::default().with_name(text(name)).with_config_operation(operation);
        config.with_value(value.map(text))
    };
    let cases = [
        (2, topic.as_str(), vec![config("max.message.bytes", 0, Some("2000"))]),
        (2, &topic, vec![config("cleanup.policy", 2, Some("compact"))]),
        (2, &topic, vec![config("cleanup.policy", 3, Some("delete"))]),
        (2, &topic, vec![config("max.message.bytes", 2, Some("1"))]),
        (2, &topic, vec![config("max.message.bytes", 1, None)]),
        (2, &topic, vec![config("retention.ms", 0, None)]),
        (2, &topic, vec![config("retention.ms", 0, Some("soon"))]),
        (2, &topic, vec![config("no.such.config", 0, Some("1"))]),
        (2, &topic, vec![config("retention.ms", 0, Some("1")), config("retention.ms", 0, Some("2"))]),
        (2, &topic, vec![config("retention.ms", 9, Some("1"))]),
        (2, "nowhere", vec![config("retention.ms", 0, Some("1"))]),
    ];
    for version in 0..=1 {
        for (resource_type, resource, configs) in &cases {
            let request = |_: &One| {
                let resource = AlterConfigsResource::default()
                    .with_resource_type(*resource_type)
                    .with_resource_name(text(resource))
                    .with_configs(configs.clone());
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
            };
            both.ask(&format!("{configs:?}"), version, request, |response| {
                response
                    .responses
                    .iter_mut()
                    .for_each(|one| one.error_message = one.error_message.take().map(|_| text("")));
            });
        }
    }
    both.agree();
}

#[test]
fn records_are_deleted_and_sized_alike() {
    require!(Kafka);
    let mut both = Both::new();
    let topic = both.topic.clone();
    produce(&mut both, &[1_000, 3_000, 2_000]);
    produce(&mut both, &[5_000, 4_000]);
    for timestamp in [0, 1_500, 2_500, 4_500, 6_000, -1, -2, -3, -4, -5] {
        let request = |_: &One| {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
            let topic = ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
        };
        both.ask(&format!("at {timestamp}"), 9, request, |_| {});
    }
    for version in 1..=4 {
        let request = |_: &One| {
            let of = |topic: &str| DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(vec![0]);
            DescribeLogDirsRequest::default().with_topics(Some(vec![of(&topic), of("nowhere")]))
        };
        both.ask("sizes", version, request, |response| {
            for dir in &mut response.results {
                (dir.log_dir, dir.total_bytes, dir.usable_bytes) = (text(""), 0, 0);
            }
        });
    }
    for epoch in [-1, 0, 1, 9] {
        for current in [-1, 0, 7] {
            let request = |_: &One| {
                let partition = |n| {
                    let partition = OffsetForLeaderPartition::default().with_partition(n).with_leader_epoch(epoch);
                    partition.with_current_leader_epoch(current)
                };
                let topic = OffsetForLeaderTopic::default().with_topic(name(&topic));
                let topic = topic.with_partitions(vec![partition(0), partition(9)]);
                OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
            };
            both.ask(&format!("epoch {epoch} of {current}"), 4, request, |_| {});
        }
    }
    for version in 0..=2 {
        for (partition, offset) in [(0, 1), (0, 4), (0, 3), (0, 99), (0, -2), (9, 0), (0, -1)] {
            let request = |_: &One| {
                let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
                let topic = DeleteRecordsTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
                DeleteRecordsRequest::default().with_timeout_ms(5000).with_topics(vec![topic])
            };
            both.ask(&format!("deleted before {offset} of {partition}"), version, request, |_| {});
        }
    }
    both.agree();
}

#[test]
fn offsets_and_groups_are_deleted_alike() {
    require!(Kafka);
    let mut both = Both::new();
    let (topic, group) = (both.topic.clone(), fresh("g"));
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group)]);
    wait_until("the coordinator", || {
        both.real.wire.ask(&find, 4).coordinators.iter().all(|found| found.error_code == 0)
    });
    let commit = |_: &One| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(3);
        let topic = OffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default().with_group_id(text(&group).into());
        request.with_generation_id_or_member_epoch(-1).with_topics(vec![topic])
    };
    both.settle(7, commit, |answer| answer.topics[0].partitions[0].error_code);
    both.ask("committed", 7, commit, |_| {});
    for group in [group.as_str(), "no-such-group", ""] {
        let request = |_: &One| {
            let partition = |n| OffsetDeleteRequestPartition::default().with_partition_index(n);
            let of = |topic: &str| {
                let topic = OffsetDeleteRequestTopic::default().with_name(name(topic));
                topic.with_partitions(vec![partition(0), partition(9)])
            };
            let request = OffsetDeleteRequest::default().with_group_id(text(group).into());
            request.with_topics(vec![of(&topic), of("nowhere")])
        };
        both.ask(&format!("offsets of {group:?}"), 0, request, |response| {
            response.topics.sort_by(|a, b| a.name.cmp(&b.name));
            response.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|p| p.partition_index));
        });
    }
    both.ask("committed again", 7, commit, |_| {});
    for version in 0..=2 {
        for group in [group.as_str(), "no-such-group", ""] {
            let request = |_: &One| DeleteGroupsRequest::default().with_groups_names(vec![text(group).into()]);
            both.ask(&format!("group {group:?}"), version, request, |_| {});
        }
    }
    both.agree();
}

#[test]
fn the_cluster_is_described_alike() {
    require!(Kafka);
    let mut both = Both::new();
    for version in 0..=2 {
        for endpoint in if version == 0 { vec![1] } else { vec![1, 2, 3] } {
            let request = |_: &One| DescribeClusterRequest::default().with_endpoint_type(endpoint);
            both.ask(&format!("endpoint {endpoint}"), version, request, |response| {
                response.cluster_id = text("");
                response.error_message = response.error_message.take().map(|_| text(""));
                for broker in &mut response.brokers {
                    (broker.port, broker.rack) = (0, None);
                }
            });
        }
    }
    both.agree();
}
