//! `kpipe local` answers as a real broker does: the same requests to both, in every version, field by field.

use crate::support::{Kafka, Wire, fresh, require, shared, wait_until};
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::local::OFFERED;
use kpipe::record::RecordRef;
use std::fmt::Debug;
use uuid::Uuid;

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
const LOADING: [i16; 3] = [14, 15, 16];

/// One of the two clusters.
struct Side {
    wire: Wire,
    /// The topic's id there.
    id: Uuid,
}

/// A real broker and ours, each with the same topic of one partition.
struct Pair {
    real: Side,
    ours: Side,
    topic: String,
    _clusters: [std::sync::Arc<crate::support::Cluster>; 2],
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn versions<R: Request>(from: i16) -> std::ops::RangeInclusive<i16> {
    R::VERSIONS.min.max(from)..=R::VERSIONS.max
}

impl Pair {
    fn new() -> Self {
        let kafka = shared(Kafka::LATEST);
        let local = shared(Kafka::Local);
        let topic = fresh("agreed");
        let side = |bootstrap: &str| {
            let mut wire = Wire::connect(bootstrap);
            let new =
                CreatableTopic::default().with_name(name(&topic)).with_num_partitions(1).with_replication_factor(1);
            let made = wire.ask(&CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(9000), 7);
            assert_eq!(made.topics[0].error_code, 0);
            let asked = ListOffsetsPartition::default().with_timestamp(-1);
            let asked = ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![asked]);
            let asked = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            wait_until("the leader", || wire.ask(&asked, 7).topics[0].partitions[0].error_code == 0);
            Side { wire, id: made.topics[0].topic_id }
        };
        let (real, ours) = (side(&kafka.bootstrap), side(&local.bootstrap));
        Self { real, ours, topic, _clusters: [kafka, local] }
    }

    /// Asks both, has `blank` take out what may differ, and compares. Returns what ours said.
    fn agree<R: Request>(
        &mut self,
        version: i16,
        make: impl Fn(&Side) -> R,
        blank: impl Fn(&mut R::Response),
    ) -> R::Response
    where
        R::Response: PartialEq + Debug + Clone,
    {
        let mut real = self.real.wire.ask(&make(&self.real), version);
        let ours = self.ours.wire.ask(&make(&self.ours), version);
        let mut shown = ours.clone();
        blank(&mut real);
        blank(&mut shown);
        let api = ApiKey::try_from(R::KEY).unwrap();
        let (kafka, local) = (format!("{real:#?}"), format!("{shown:#?}"));
        let apart: Vec<_> = kafka.lines().zip(local.lines()).filter(|(a, b)| a != b).collect();
        assert!(
            real == shown,
            "{api:?} v{version}, Kafka and ours: {apart:#?}
{local}"
        );
        ours
    }
}

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

/// An answer's leader may be named or not, and its id is the cluster's own.
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
fn what_is_offered_is_what_kafka_offers() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<ApiVersionsRequest>(0) {
        let request = |_: &Side| {
            let request = ApiVersionsRequest::default().with_client_software_name(text("kpipe"));
            if version >= 3 { request.with_client_software_version(text("1")) } else { ApiVersionsRequest::default() }
        };
        pair.agree(version, request, |response| {
            response.api_keys.retain(|api| OFFERED.iter().any(|(offered, _)| *offered as i16 == api.api_key));
            response.api_keys.sort_by_key(|api| api.api_key);
            for api in &mut response.api_keys {
                // The message schemas do not have the newest version of these yet.
                let newest = [
                    (ApiKey::ListOffsets, 11),
                    (ApiKey::OffsetCommit, 10),
                    (ApiKey::OffsetFetch, 10),
                    (ApiKey::ApiVersions, 5),
                ];
                if newest.iter().any(|(key, version)| *key as i16 == api.api_key && *version == api.max_version) {
                    api.max_version -= 1;
                }
            }
            response.supported_features.clear();
            response.finalized_features.clear();
            response.finalized_features_epoch = -1;
        });
    }
}

#[test]
fn topics_are_made_described_grown_and_deleted_alike() {
    require!(Kafka);
    let mut pair = Pair::new();
    let existing = pair.topic.clone();
    let blank = |response: &mut CreateTopicsResponse| {
        for topic in &mut response.topics {
            topic.topic_id = Uuid::nil();
            // Which words Kafka finds for an error is its own matter; that there are some is not.
            topic.error_message =
                topic.error_message.take().map(|words| text(if words.is_empty() { "" } else { "words" }));
            for config in topic.configs.iter_mut().flatten() {
                config.config_source = 0; // the brokers' own settings count there too
            }
        }
    };
    for version in versions::<CreateTopicsRequest>(2) {
        let topic = fresh("made");
        let config = |name: &str, value: &str| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let new = |topic: &str| {
            CreatableTopic::default().with_name(name(topic)).with_num_partitions(2).with_replication_factor(1)
        };
        let cases = vec![
            new(&topic).with_configs(vec![config("max.message.bytes", "5000"), config("retention.ms", "1000")]),
            new(&existing),
            new("no spaces"),
            new("x".repeat(250).as_str()),
            new("wrong-config").with_configs(vec![config("no.such.config", "1")]),
            new("wrong-value").with_configs(vec![config("retention.ms", "soon")]),
            new("wrong-bool").with_configs(vec![config("preallocate", "maybe")]),
            new("wrong-factor").with_replication_factor(9),
            new("wrong-count").with_num_partitions(0),
        ];
        for case in cases {
            let request =
                |_: &Side| CreateTopicsRequest::default().with_timeout_ms(9000).with_topics(vec![case.clone()]);
            pair.agree(version, request, blank);
        }
        let only = |_: &Side| {
            let request = CreateTopicsRequest::default().with_timeout_ms(9000).with_validate_only(true);
            request.with_topics(vec![new("only-checked")])
        };
        pair.agree(version, only, blank);

        let metadata = version.min(4);
        let asked = |_: &Side| {
            let topics = [topic.as_str(), "nowhere", "only-checked"]
                .map(|t| MetadataRequestTopic::default().with_name(Some(name(t))));
            MetadataRequest::default().with_topics(Some(topics.to_vec())).with_allow_auto_topic_creation(metadata < 4)
        };
        if metadata == 4 {
            pair.agree(metadata, asked, blank_metadata);
        }
        let resource = |names: Option<Vec<&str>>, topic: &str| {
            let keys = names.map(|names| names.into_iter().map(text).collect());
            DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(topic))
                .with_configuration_keys(keys)
        };
        let configs = versions::<DescribeConfigsRequest>(1).nth(version as usize % 4).unwrap();
        for resource in
            [resource(None, &topic), resource(Some(vec!["retention.ms"]), &topic), resource(None, "nowhere")]
        {
            let request = |_: &Side| DescribeConfigsRequest::default().with_resources(vec![resource.clone()]);
            pair.agree(configs, request, |response| {
                for config in response.results.iter_mut().flat_map(|result| &mut result.configs) {
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
        let grow = versions::<CreatePartitionsRequest>(0).nth(version as usize % 4).unwrap();
        for (topic, count) in [(topic.as_str(), 4), (&topic, 4), (&topic, 1), ("nowhere", 3)] {
            let more = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
            let request =
                |_: &Side| CreatePartitionsRequest::default().with_timeout_ms(9000).with_topics(vec![more.clone()]);
            pair.agree(grow, request, |response| {
                response
                    .results
                    .iter_mut()
                    .for_each(|result| result.error_message = result.error_message.take().map(|_| text("words")));
            });
        }
        let delete = versions::<DeleteTopicsRequest>(1).nth(version as usize % 6).unwrap();
        for topic in [topic.as_str(), "nowhere"] {
            let request = |_: &Side| {
                let request = DeleteTopicsRequest::default().with_timeout_ms(9000);
                if delete >= 6 {
                    request.with_topics(vec![DeleteTopicState::default().with_name(Some(name(topic)))])
                } else {
                    request.with_topic_names(vec![name(topic)])
                }
            };
            pair.agree(delete, request, |response| {
                for topic in &mut response.responses {
                    topic.topic_id = Uuid::nil();
                    topic.error_message = topic.error_message.take().map(|_| text("words"));
                }
            });
        }
    }
}

fn blank_metadata(response: &mut MetadataResponse) {
    for broker in &mut response.brokers {
        broker.port = 0;
        broker.rack = None; // ours stand in none
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
            let wanted = if version < 4 { vec![topic.as_str()] } else { vec![topic.as_str(), "nowhere", "no spaces"] };
            MetadataRequest::default().with_topics(Some(by_name(&wanted))).with_allow_auto_topic_creation(version < 4)
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
    assert_eq!(ids.len(), 6, "each id is given once");
    // Sequences: first, next, repeated, older repeated, a gap, an overlap.
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
        // Partition, offset, the most bytes, the leader's epoch.
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

#[test]
fn groups_agree_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<FindCoordinatorRequest>(0) {
        let request = |_: &Side| {
            let request = FindCoordinatorRequest::default();
            if version >= 4 { request.with_coordinator_keys(vec![text("g")]) } else { request.with_key(text("g")) }
        };
        // Its first answer makes __consumer_offsets; until that is there, there is no coordinator.
        wait_until("the coordinator", || {
            let found = pair.real.wire.ask(&request(&pair.ours), version);
            found.error_code == 0 && found.coordinators.iter().all(|c| c.error_code == 0)
        });
        pair.agree(version, request, |response| {
            response.port = 0;
            response.error_message = None;
            for one in &mut response.coordinators {
                one.port = 0;
                one.error_message = None;
            }
        });
    }
    for version in versions::<JoinGroupRequest>(0) {
        members_agree(&mut pair, version);
    }
    offsets_agree(&mut pair);
}

/// A member joins, syncs, beats, is described and listed, and leaves; wrong ids and generations are refused.
fn members_agree(pair: &mut Pair, version: i16) {
    let group = fresh("members");
    let gid = || GroupId(text(&group));
    let newest = |max: i16| version.min(max);
    let join = |member: &str, protocols: &[&str]| {
        let protocol = |p: &&str| {
            JoinGroupRequestProtocol::default().with_name(text(p)).with_metadata(Bytes::from_static(b"meta"))
        };
        let request = JoinGroupRequest::default()
            .with_group_id(gid())
            .with_member_id(text(member))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.iter().map(protocol).collect());
        if version >= 1 { request.with_rebalance_timeout_ms(10_000) } else { request }
    };
    let blank = |response: &mut JoinGroupResponse| {
        response.member_id = text("member");
        response.leader = text(if response.leader.is_empty() { "" } else { "member" });
        response.members.iter_mut().for_each(|member| member.member_id = text("member"));
    };
    // The coordinator of a group may still be loading.
    wait_until("the group's coordinator", || {
        !LOADING.contains(&pair.real.wire.ask(&join("no-such-member", &["range"]), version).error_code)
    });
    pair.agree(version, |_| join("no-such-member", &["range"]), blank);
    pair.agree(version, |_| join("", &[]), blank);
    // From v4 on the first answer gives the id to join with.
    let first =
        [pair.real.wire.ask(&join("", &["range"]), version), pair.ours.wire.ask(&join("", &["range"]), version)];
    let ids = [first[0].member_id.to_string(), first[1].member_id.to_string()];
    assert_eq!(first[0].error_code, first[1].error_code);
    let joined = if version >= 4 {
        assert_eq!(first[0].error_code, 79, "MEMBER_ID_REQUIRED");
        [
            pair.real.wire.ask(&join(&ids[0], &["range", "other"]), version),
            pair.ours.wire.ask(&join(&ids[1], &["range", "other"]), version),
        ]
    } else {
        first
    };
    let [mut real, mut ours] = joined;
    let (real_id, our_id) = (pair.real.id, pair.ours.id);
    let generation = ours.generation_id;
    blank(&mut real);
    blank(&mut ours);
    assert_eq!(real, ours, "JoinGroup v{version}");
    let member = |side: &Side| {
        if side.id == real_id {
            ids[0].clone()
        } else {
            assert_eq!(side.id, our_id);
            ids[1].clone()
        }
    };

    let heartbeat = |side: &Side, generation: i32| {
        HeartbeatRequest::default()
            .with_group_id(gid())
            .with_generation_id(generation)
            .with_member_id(text(&member(side)))
    };
    let sync = |side: &Side, generation: i32| {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text(&member(side)))
            .with_assignment(Bytes::from_static(b"mine"));
        let request = SyncGroupRequest::default()
            .with_group_id(gid())
            .with_generation_id(generation)
            .with_member_id(text(&member(side)))
            .with_assignments(vec![assignment]);
        if version >= 5 {
            request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
        } else {
            request
        }
    };
    let topic = pair.topic.clone();
    let commit = |side: &Side, generation: i32| {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(5)
            .with_committed_metadata(Some(text("note")));
        let topic = OffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(gid())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&member(side)))
            .with_topics(vec![topic])
    };
    pair.agree(newest(5), |side| sync(side, generation + 5), |_| {});
    pair.agree(newest(4), |side| heartbeat(side, generation), |_| {});
    pair.agree(7, |side| commit(side, generation), |_| {});
    pair.agree(newest(5), |side| sync(side, generation), |_| {});
    pair.agree(newest(5), |side| sync(side, generation), |_| {});
    pair.agree(newest(4), |side| heartbeat(side, generation), |_| {});
    pair.agree(newest(4), |side| heartbeat(side, generation + 1), |_| {});
    pair.agree(newest(4), |side| heartbeat(side, generation).with_member_id(text("nobody")), |_| {});
    pair.agree(7, |side| commit(side, generation + 1), |_| {});
    pair.agree(7, |side| commit(side, generation).with_member_id(text("nobody")), |_| {});
    pair.agree(7, |side| commit(side, -1).with_member_id(text("")), |_| {});
    pair.agree(
        newest(6),
        |_| DescribeGroupsRequest::default().with_groups(vec![gid(), GroupId(text("no-such-group"))]),
        |response| {
            response.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            for group in &mut response.groups {
                group.error_message = None;
                group.members.iter_mut().for_each(|member| member.member_id = text("member"));
            }
        },
    );
    let list = |_: &Side| {
        let request = ListGroupsRequest::default();
        let request = if newest(5) >= 4 { request.with_states_filter(vec![text("Stable")]) } else { request };
        if newest(5) >= 5 { request.with_types_filter(vec![text("classic")]) } else { request }
    };
    pair.agree(newest(5), list, |response| response.groups.retain(|listed| listed.group_id == gid()));
    let leave = |member: String| {
        let request = LeaveGroupRequest::default().with_group_id(gid());
        if newest(5) >= 3 {
            request.with_members(vec![MemberIdentity::default().with_member_id(text(&member))])
        } else {
            request.with_member_id(text(&member))
        }
    };
    let blank = |response: &mut LeaveGroupResponse| {
        response.members.iter_mut().for_each(|member| member.member_id = text("member"))
    };
    pair.agree(newest(5), |_| leave("nobody".to_owned()), blank);
    pair.agree(newest(5), |side| leave(member(side)), blank);
    pair.agree(newest(4), |side| heartbeat(side, generation), |_| {});
}

fn offsets_agree(pair: &mut Pair) {
    let topic = pair.topic.clone();
    for version in versions::<OffsetCommitRequest>(2) {
        let group = fresh("offsets");
        let describe = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group))]);
        wait_until("the group's coordinator", || {
            !LOADING.contains(&pair.real.wire.ask(&describe, 5).groups[0].error_code)
        });
        let request = |_: &Side| {
            let partition = |index: i32| {
                let partition = OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(40 + i64::from(version));
                let partition = partition.with_committed_metadata(Some(text("note")));
                if version >= 6 { partition.with_committed_leader_epoch(0) } else { partition }
            };
            let topic = OffsetCommitRequestTopic::default()
                .with_name(name(&topic))
                .with_partitions(vec![partition(0), partition(9)]);
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(text(&group)))
                .with_generation_id_or_member_epoch(-1);
            let request = if version < 5 { request.with_retention_time_ms(-1) } else { request };
            request.with_topics(vec![topic])
        };
        pair.agree(version, request, |response| {
            response.topics[0].partitions.sort_by_key(|partition| partition.partition_index);
        });
        for version in versions::<OffsetFetchRequest>(1) {
            for all in [false, true] {
                if all && version < 2 {
                    continue;
                }
                let request = |_: &Side| {
                    let group = GroupId(text(&group));
                    if version >= 8 {
                        let wanted = OffsetFetchRequestTopics::default()
                            .with_name(name(&topic))
                            .with_partition_indexes(vec![0, 1]);
                        let wanted = OffsetFetchRequestGroup::default()
                            .with_group_id(group)
                            .with_topics((!all).then(|| vec![wanted]));
                        let wanted =
                            if version >= 9 { wanted.with_member_id(None).with_member_epoch(-1) } else { wanted };
                        return OffsetFetchRequest::default().with_groups(vec![wanted]);
                    }
                    let wanted =
                        OffsetFetchRequestTopic::default().with_name(name(&topic)).with_partition_indexes(vec![0, 1]);
                    OffsetFetchRequest::default().with_group_id(group).with_topics((!all).then(|| vec![wanted]))
                };
                pair.agree(version, request, |_| {});
            }
        }
    }
}
