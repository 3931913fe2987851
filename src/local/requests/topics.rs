//! CreateTopics, DeleteTopics and CreatePartitions.

use super::call::{Call, text};
use super::configs::source;
use crate::engine::Operation;
use crate::local::cluster::{Cluster, NewTopic, UNKNOWN_TOPIC};
use crate::local::configs::{CONFIGS, Refused};
use crate::record::BrokerId;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

pub(in crate::local) fn create_topics(call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
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

/// Topic ID, partitions, replication factor and configs of a created topic.
type Created = (Uuid, usize, usize, Vec<CreatableTopicConfigs>);

fn create(call: &Call, cluster: &mut Cluster, topic: &CreatableTopic, validate_only: bool) -> Result<Created, Refused> {
    let may_create =
        call.check_cluster(Operation::Create).or_else(|_| call.check_topic(Operation::Create, &topic.name));
    may_create.map_err(|error| (error, "Authorization failed.".to_owned()))?;
    let mut assignments: Vec<_> = topic.assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition_index);
    let assigned = assignments.iter().map(|a| a.broker_ids.iter().map(|id| BrokerId(id.0)).collect()).collect();
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

pub(in crate::local) fn delete_topics(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut cluster = call.cluster();
    // Since version 6 topics are named in another field.
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let asked: Vec<_> = request.topics.into_iter().chain(named).collect();
    let delete = |topic: DeleteTopicState| {
        let answer = DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        let found = cluster.topic(name, topic.topic_id).map(|(name, found)| (name.to_owned(), found.id));
        let found = call.check_topic_in(&cluster, Operation::Delete, name, topic.topic_id).and(found);
        match found {
            Ok((name, id)) => {
                cluster.delete(&name);
                answer.with_name(Some(TopicName(text(name)))).with_topic_id(id).with_error_message(None)
            }
            Err(error) => {
                let why = if error == E::UnknownTopicId {
                    "This server does not host this topic ID.".to_owned()
                } else {
                    UNKNOWN_TOPIC.to_owned()
                };
                answer.with_error_code(error.code()).with_error_message(Some(text(why)))
            }
        }
    };
    let responses = asked.into_iter().map(delete).collect();
    drop(cluster);
    call.shared.appended.notify_waiters(); // its readers learn of it
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(in crate::local) fn create_partitions(call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut cluster = call.cluster();
    let results = request.topics.into_iter().map(|topic| {
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let added = match (call.check_topic(Operation::Alter, &topic.name), &topic.assignments) {
            (Err(error), _) => Err((error, String::new())),
            (Ok(()), Some(_)) => {
                Err((E::InvalidReplicaAssignment, "kpipe local assigns replicas by itself".to_owned()))
            }
            (Ok(()), None) => cluster.add_partitions(&topic.name, topic.count, request.validate_only),
        };
        match added {
            Ok(()) => answer.with_error_message(None),
            // Kafka sends no message with this one.
            Err((E::UnknownTopicOrPartition, _)) => {
                answer.with_error_code(E::UnknownTopicOrPartition.code()).with_error_message(None)
            }
            Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
