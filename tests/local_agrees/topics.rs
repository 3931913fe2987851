//! Topics: Metadata, CreateTopics, CreatePartitions, DescribeConfigs and DeleteTopics.

use super::both::{Both, One};
use super::{Pair, Side, name, text, versions};
use crate::support::{Kafka, fresh, require, shared, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::record::RecordRef;
use uuid::Uuid;

fn blank_metadata(response: &mut MetadataResponse) {
    for broker in &mut response.brokers {
        broker.port = 0;
        broker.rack = None; // kpipe local has none
    }
    response.cluster_id = None;
    response.topics.sort_by(|a, b| a.name.cmp(&b.name));
    for topic in &mut response.topics {
        topic.topic_id = Uuid::nil();
        topic.partitions.sort_by_key(|partition| partition.partition_index);
    }
}

#[test]
fn metadata_agrees_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = pair.topic.clone();
    for version in versions::<MetadataRequest>(0) {
        let by_name = |names: &[&str]| {
            names.iter().map(|t| MetadataRequestTopic::default().with_name(Some(name(t)))).collect::<Vec<_>>()
        };
        let request = |_: &Side| {
            let names = if version < 4 { vec![topic.as_str()] } else { vec![topic.as_str(), "nowhere", "no spaces"] };
            MetadataRequest::default().with_topics(Some(by_name(&names))).with_allow_auto_topic_creation(version < 4)
        };
        pair.agree(version, request, blank_metadata);
        if version >= 12 {
            let request = |side: &Side| {
                let by_id = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
                let topics = vec![by_id(side.id), by_id(Uuid::from_u128(99))];
                MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false)
            };
            pair.agree(version, request, blank_metadata);
        }
    }
}

fn new_topic(topic: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(2).with_replication_factor(1)
}

fn config(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
}

/// Keeps only whether there is a message: its wording is Kafka's own.
fn blank_message(message: Option<StrBytes>) -> Option<StrBytes> {
    message.map(|message| text(if message.is_empty() { "" } else { "message" }))
}

fn blank_created(response: &mut CreateTopicsResponse) {
    for topic in &mut response.topics {
        topic.topic_id = Uuid::nil();
        topic.error_message = blank_message(topic.error_message.take());
        for config in topic.configs.iter_mut().flatten() {
            config.config_source = 0; // the brokers' own settings are a source too
        }
    }
}

#[test]
fn topics_are_created_alike() {
    require!(Kafka);
    let mut pair = Pair::new();
    let existing = pair.topic.clone();
    for version in versions::<CreateTopicsRequest>(2) {
        let topic = fresh("created");
        let configs = vec![config("max.message.bytes", "5000"), config("retention.ms", "1000")];
        let cases = vec![
            new_topic(&topic).with_configs(configs),
            new_topic(&existing),
            new_topic("no spaces"),
            new_topic("x".repeat(250).as_str()),
            new_topic("wrong-config").with_configs(vec![config("no.such.config", "1")]),
            new_topic("wrong-value").with_configs(vec![config("retention.ms", "soon")]),
            new_topic("wrong-bool").with_configs(vec![config("preallocate", "maybe")]),
            new_topic("wrong-factor").with_replication_factor(9),
            new_topic("wrong-count").with_num_partitions(0),
        ];
        for case in cases {
            let request =
                |_: &Side| CreateTopicsRequest::default().with_timeout_ms(9000).with_topics(vec![case.clone()]);
            pair.agree(version, request, blank_created);
        }
        let only_validated = |_: &Side| {
            let request = CreateTopicsRequest::default().with_timeout_ms(9000).with_validate_only(true);
            request.with_topics(vec![new_topic("only-validated")])
        };
        pair.agree(version, only_validated, blank_created);
        let metadata = |_: &Side| {
            let topics = [topic.as_str(), "nowhere", "only-validated"]
                .map(|t| MetadataRequestTopic::default().with_name(Some(name(t))));
            MetadataRequest::default().with_topics(Some(topics.to_vec())).with_allow_auto_topic_creation(false)
        };
        pair.agree(4, metadata, blank_metadata);
    }
}

/// Creates the same topic in both.
fn create(pair: &mut Pair, configs: Vec<CreatableTopicConfig>) -> String {
    let topic = fresh("created");
    let request = |_: &Side| {
        let new = new_topic(&topic).with_configs(configs.clone());
        CreateTopicsRequest::default().with_timeout_ms(9000).with_topics(vec![new])
    };
    let created = pair.agree(7, request, blank_created);
    assert_eq!(created.topics[0].error_code, 0);
    topic
}

#[test]
fn configs_are_described_alike() {
    require!(Kafka);
    let mut pair = Pair::new();
    let topic = create(&mut pair, vec![config("max.message.bytes", "5000"), config("retention.ms", "1000")]);
    let resource = |names: Option<Vec<&str>>, topic: &str| {
        let keys = names.map(|names| names.into_iter().map(text).collect());
        let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
        resource.with_configuration_keys(keys)
    };
    for version in versions::<DescribeConfigsRequest>(1) {
        for resource in
            [resource(None, &topic), resource(Some(vec!["retention.ms"]), &topic), resource(None, "nowhere")]
        {
            let request = |_: &Side| DescribeConfigsRequest::default().with_resources(vec![resource.clone()]);
            pair.agree(version, request, |response| {
                for config in response.results.iter_mut().flat_map(|result| &mut result.configs) {
                    // All sources but the topic itself count as the default.
                    if config.config_source != 1 {
                        config.config_source = 5;
                    }
                }
                for result in &mut response.results {
                    result.error_message = None;
                    result.configs.sort_by(|a, b| a.name.cmp(&b.name));
                }
            });
        }
    }
}

#[test]
fn partitions_are_added_alike() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<CreatePartitionsRequest>(0) {
        let topic = create(&mut pair, Vec::new());
        for (topic, count) in [(topic.as_str(), 4), (&topic, 4), (&topic, 1), ("nowhere", 3)] {
            let more = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
            let request =
                |_: &Side| CreatePartitionsRequest::default().with_timeout_ms(9000).with_topics(vec![more.clone()]);
            pair.agree(version, request, |response| {
                for result in &mut response.results {
                    result.error_message = blank_message(result.error_message.take());
                }
            });
        }
    }
}

#[test]
fn topics_are_deleted_alike() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<DeleteTopicsRequest>(1) {
        let topic = create(&mut pair, Vec::new());
        for topic in [topic.as_str(), "nowhere"] {
            let request = |_: &Side| {
                let request = DeleteTopicsRequest::default().with_timeout_ms(9000);
                if version >= 6 {
                    request.with_topics(vec![DeleteTopicState::default().with_name(Some(name(topic)))])
                } else {
                    request.with_topic_names(vec![name(topic)])
                }
            };
            pair.agree(version, request, |response| {
                for topic in &mut response.responses {
                    topic.topic_id = Uuid::nil();
                    topic.error_message = blank_message(topic.error_message.take());
                }
            });
        }
    }
}

#[test]
fn records_are_refused_alike_where_configs_say_so() {
    require!(Kafka);
    let mut both = Both::new();
    let week = 7 * 24 * 3_600_000;
    let now = kpipe::record::now();
    for (configs, key, times) in [
        (vec![config("cleanup.policy", "compact")], None, vec![now]),
        (vec![config("cleanup.policy", "compact,delete")], None, vec![now]),
        (vec![config("cleanup.policy", "compact")], Some(&b"k"[..]), vec![now]),
        (vec![config("message.timestamp.before.max.ms", "60000")], None, vec![now - week, now]),
        (vec![config("message.timestamp.before.max.ms", "60000")], None, vec![now]),
        (vec![config("message.timestamp.after.max.ms", "60000")], None, vec![now, now + week]),
        (vec![], None, vec![now + week]),
        (vec![], None, vec![now - 1000 * week]),
        (vec![config("message.timestamp.type", "LogAppendTime")], None, vec![now + week]),
        (vec![config("max.message.bytes", "10")], None, vec![now]),
        (vec![config("min.insync.replicas", "2")], None, vec![now]),
    ] {
        let topic = fresh("refused");
        let new = new_topic(&topic).with_configs(configs.clone());
        let request = |_: &One| CreateTopicsRequest::default().with_timeout_ms(9000).with_topics(vec![new.clone()]);
        both.ask("created", 7, request, blank_created);
        let mut builder = BatchBuilder::default();
        for time in &times {
            builder.append(&RecordRef { timestamp: Some(*time), key, value: Some(b"v"), ..RecordRef::default() }, 0);
        }
        let sealed = builder.seal(BytesMut::new());
        let records: Bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into();
        let request = |_: &One| {
            let data = PartitionProduceData::default().with_records(Some(records.clone()));
            let data = TopicProduceData::default().with_name(name(&topic)).with_partition_data(vec![data]);
            ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data])
        };
        both.settle(9, request, |response| match response.responses[0].partition_responses[0].error_code {
            3 | 6 => 51, // its leader does not know it yet
            code => code,
        });
        both.ask(&format!("{configs:?} {key:?}"), 9, request, |response| {
            let partition = &mut response.responses[0].partition_responses[0];
            partition.error_message = blank_message(partition.error_message.take());
            partition.log_append_time_ms = partition.log_append_time_ms.min(0);
            partition.base_offset = partition.base_offset.min(0);
            for error in &mut partition.record_errors {
                error.batch_index_error_message = blank_message(error.batch_index_error_message.take());
            }
        });
    }
    Both::agree([both]);
}

/// What is left of a compacted topic, with the offsets.
#[test]
fn a_topic_is_compacted_alike() {
    require!(Kafka);
    let configs =
        ["cleanup.policy=compact", "segment.ms=100", "min.cleanable.dirty.ratio=0.01", "delete.retention.ms=100"];
    let left = |kafka: &crate::support::Cluster| {
        let topic = fresh("compacted");
        let configs = configs.iter().flat_map(|config| ["--config", config]);
        kafka.kpipe(&["topics", "create", &topic].into_iter().chain(configs).collect::<Vec<_>>(), b"");
        for codec in ["none", "gzip", "zstd"] {
            let lines = b"a:1\nb:1\na:2\nc:1\nb:2\nd:\na:3\n";
            kafka.kpipe(&["produce", &topic, "-K", ":", "-z", codec, "--empty-is-null"], lines);
        }
        let all = ["consume", &topic, "-o", "beginning", "-e", "-f", "%o %k=%s\n"];
        let mut seen = String::new();
        // Real segments are closed when a record comes after their time.
        wait_until("compaction", || {
            kafka.kpipe(&["produce", &topic, "-K", ":"], b"roll:1\n");
            std::thread::sleep(std::time::Duration::from_millis(500));
            let read = kafka.kpipe(&all, b"").stdout;
            seen = read.lines().filter(|line| !line.contains("roll")).map(|line| format!("{line}\n")).collect();
            seen.lines().count() == 3
        });
        seen
    };
    let [real, ours] = [Kafka::LATEST, Kafka::Local].map(|kafka| left(&shared(kafka)));
    assert_eq!(real, ours);
}
