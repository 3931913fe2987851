//! Metadata, CreateTopics, DeleteTopics, CreatePartitions and DescribeConfigs.

use super::call::{CLUSTER_ID, Call, HOST, text};
use super::cluster::{Cluster, NewTopic, Topic, check_name, unknown};
use super::configs::{CONFIGS, Kind, Refused};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// "Not asked for", of authorized operations (KIP-430).
const NOT_ASKED: i32 = i32::MIN;

pub(super) fn metadata(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let mut cluster = call.cluster();
    let mut topics = Vec::new();
    // Version 0 means all topics by none; later ones by null.
    let asked = request.topics.filter(|asked| call.version > 0 || !asked.is_empty());
    match asked {
        None => topics.extend(cluster.topics().map(|(name, topic)| show(&cluster, name, topic))),
        Some(asked) => {
            for topic in asked {
                let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
                let create = request.allow_auto_topic_creation || call.version < 4;
                topics.push(find(call, &mut cluster, &name, topic.topic_id, create));
            }
        }
    }
    let brokers = cluster.brokers.iter().filter(|broker| broker.up).map(|broker| {
        let shown = MetadataResponseBroker::default().with_node_id(BrokerId(broker.id));
        shown.with_host(StrBytes::from_static_str(HOST)).with_port(i32::from(broker.port))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
        .with_controller_id(BrokerId(cluster.controller()))
        .with_cluster_authorized_operations(NOT_ASKED)
        .with_topics(topics)
}

fn find(call: &Call, cluster: &mut Cluster, name: &str, id: Uuid, create: bool) -> MetadataResponseTopic {
    let fail = |error: E| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name((!name.is_empty()).then(|| TopicName(text(name))))
            .with_topic_id(id)
            .with_topic_authorized_operations(NOT_ASKED)
    };
    if let Some(error) = call.refusal {
        return fail(error);
    }
    if name.is_empty() && !id.is_nil() {
        return match cluster.topic(name, id) {
            Ok((name, topic)) => show(cluster, name, topic),
            Err(error) => fail(error),
        };
    }
    if let Err((error, _)) = check_name(name) {
        return fail(error);
    }
    if create && cluster.topic(name, id).is_err() {
        // Err: it cannot be made; it is then unknown, as the answer says.
        let _ = cluster.create(name, &NewTopic::default(), false);
    }
    match cluster.topic(name, Uuid::nil()) {
        Ok((name, topic)) => show(cluster, name, topic),
        Err(error) => fail(error),
    }
}

fn show(cluster: &Cluster, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
        let (up, down): (Vec<i32>, Vec<i32>) = partition.replicas.iter().partition(|id| cluster.is_up(**id));
        let ids = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
        let error = partition.leader.map_or(E::LeaderNotAvailable.code(), |_| 0);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index as i32)
            .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&up))
            .with_offline_replicas(ids(&down))
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NOT_ASKED)
}

pub(super) fn create_topics(call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut cluster = call.cluster();
    let create = |topic: CreatableTopic| {
        let answer = CreatableTopicResult::default().with_name(topic.name.clone());
        match create(call, &mut cluster, &topic, request.validate_only) {
            Ok((id, partitions, replicas, configs)) => answer
                .with_topic_id(id)
                .with_error_message(None)
                .with_num_partitions(partitions as i32)
                .with_replication_factor(replicas as i16)
                .with_configs(Some(configs)),
            Err((error, why)) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(why)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new())),
        }
    };
    CreateTopicsResponse::default().with_topics(request.topics.into_iter().map(create).collect())
}

type Made = (Uuid, usize, usize, Vec<CreatableTopicConfigs>);

fn create(call: &Call, cluster: &mut Cluster, topic: &CreatableTopic, validate_only: bool) -> Result<Made, Refused> {
    if let Some(error) = call.refusal {
        return Err((error, String::new()));
    }
    let mut assignments: Vec<_> = topic.assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition_index);
    let assigned = assignments.iter().map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect();
    let configs = topic.configs.iter().map(|config| {
        (config.name.to_string(), config.value.as_ref().map(|value| value.to_string()).unwrap_or_default())
    });
    let new = NewTopic {
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor.max(0) as u16),
        assignments: (!assignments.is_empty()).then_some(assigned),
        configs: configs.collect(),
    };
    cluster.create(&topic.name, &new, validate_only)?;
    let shown = CONFIGS.iter().map(|(name, default, _)| {
        let set = new.configs.get(*name);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(set.map_or(*default, String::as_str))))
            .with_config_source(source(set.is_some()))
    });
    let shown = shown.collect();
    Ok(match cluster.topic(&topic.name, Uuid::nil()) {
        Ok((_, made)) => {
            (made.id, made.partitions.len(), made.partitions.first().map_or(0, |p| p.replicas.len()), shown)
        }
        Err(_) => {
            (Uuid::nil(), new.partitions.unwrap_or(1) as usize, new.replication_factor.map_or(1, usize::from), shown)
        }
    })
}

pub(super) fn delete_topics(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut cluster = call.cluster();
    // Version 6 names topics one way, those before another.
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let asked: Vec<_> = request.topics.into_iter().chain(named).collect();
    let delete = |topic: DeleteTopicState| {
        let answer = DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        let found = match (call.refusal, cluster.topic(name, topic.topic_id)) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok((name, found))) => Ok((name.to_owned(), found.id)),
        };
        match found {
            Ok((name, id)) => {
                cluster.delete(&name);
                answer.with_name(Some(TopicName(text(name)))).with_topic_id(id).with_error_message(None)
            }
            Err(error) => {
                let why = if error == E::UnknownTopicId {
                    "This server does not host this topic ID.".to_owned()
                } else {
                    unknown()
                };
                answer.with_error_code(error.code()).with_error_message(Some(text(why)))
            }
        }
    };
    let responses = asked.into_iter().map(delete).collect();
    drop(cluster);
    call.shared.appended.notify_waiters(); // who reads it shall know
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(super) fn create_partitions(call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut cluster = call.cluster();
    let results = request.topics.into_iter().map(|topic| {
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown = match (call.refusal, &topic.assignments) {
            (Some(error), _) => Err((error, String::new())),
            (None, Some(_)) => Err((E::InvalidReplicaAssignment, "kpipe local assigns replicas by itself".to_owned())),
            (None, None) => cluster.grow(&topic.name, topic.count, request.validate_only),
        };
        match grown {
            Ok(()) => answer.with_error_message(None),
            // Kafka has no words for this one here.
            Err((E::UnknownTopicOrPartition, _)) => {
                answer.with_error_code(E::UnknownTopicOrPartition.code()).with_error_message(None)
            }
            Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

/// DescribeConfigs' sources: set for the topic, or the default.
fn source(set: bool) -> i8 {
    if set { 1 } else { 5 }
}

pub(super) fn describe_configs(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    let cluster = call.cluster();
    let describe = |resource: DescribeConfigsResource| {
        let answer = DescribeConfigsResult::default()
            .with_error_message(None)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let wanted = |name: &str| {
            resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
        };
        let fail =
            |error: E, why: &str| answer.clone().with_error_code(error.code()).with_error_message(Some(text(why)));
        let shown = |(name, default, kind): &(&'static str, &'static str, Kind), set: Option<&String>| {
            let value = text(set.map_or(*default, String::as_str));
            let synonym = DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(value.clone()))
                .with_source(source(set.is_some()));
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(value))
                .with_config_source(source(set.is_some()))
                .with_synonyms(if request.include_synonyms { vec![synonym] } else { Vec::new() })
                .with_config_type(*kind as i8)
                .with_documentation(None)
        };
        if let Some(error) = call.refusal {
            return fail(error, "");
        }
        match resource.resource_type {
            TOPIC => match cluster.topic(&resource.resource_name, Uuid::nil()) {
                Ok((_, topic)) => {
                    let known = CONFIGS.iter().filter(|(name, ..)| wanted(name));
                    let configs = known.map(|config| shown(config, topic.configs.get(config.0)));
                    answer.clone().with_configs(configs.collect())
                }
                Err(error) => fail(error, &unknown()),
            },
            // A broker has nothing to be set.
            BROKER => answer,
            _ => fail(E::InvalidRequest, "kpipe local describes topics and brokers only"),
        }
    };
    DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(describe).collect())
}
