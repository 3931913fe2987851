//! Metadata and DescribeCluster.

use super::call::{CLUSTER_ID, Call, distinct, text};
use crate::engine::Operation;
use crate::local::cluster::{Cluster, NewTopic, Topic, check_name};
use crate::record;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// "Not asked for", of authorized operations (KIP-430).
const NOT_ASKED: i32 = i32::MIN;

pub(in crate::local) fn metadata(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let mut cluster = call.cluster();
    let mut topics = Vec::new();
    // Version 0 means all topics by none; later ones by null.
    let asked = request.topics.filter(|asked| call.version > 0 || !asked.is_empty());
    match asked {
        None => {
            let seen = cluster.topics_seen_by(call.broker).iter();
            let may_see = |name: &str| call.check_topic(Operation::Describe, name) != Err(E::TopicAuthorizationFailed);
            topics.extend(seen.filter(|(name, _)| may_see(name)).map(|(name, topic)| show(&cluster, name, topic)))
        }
        Some(asked) => {
            for topic in distinct(asked, |topic| (topic.name.clone(), topic.topic_id)) {
                let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
                let create = request.allow_auto_topic_creation || call.version < 4;
                topics.push(find(call, &mut cluster, &name, topic.topic_id, create));
            }
        }
    }
    let brokers = cluster.brokers.iter().filter(|broker| broker.up).map(|broker| {
        let shown = MetadataResponseBroker::default().with_node_id(BrokerId(broker.id.0));
        shown.with_host(broker.advertised.host.clone()).with_port(i32::from(broker.advertised.port))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
        .with_controller_id(BrokerId(cluster.controller().map_or(-1, |id| id.0)))
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
        return match cluster.topic_seen_by(call.broker, name, id) {
            Ok((name, _)) if call.check_topic(Operation::Describe, name).is_err() => fail(E::TopicAuthorizationFailed),
            Ok((name, topic)) => show(cluster, name, topic),
            Err(error) => fail(error),
        };
    }
    if let Err((error, _)) = check_name(name) {
        return fail(error);
    }
    if let Err(error) = call.check_topic(Operation::Describe, name) {
        return fail(error);
    }
    if create && cluster.topic(name, id).is_err() {
        let may_create = call.check_cluster(Operation::Create).or_else(|_| call.check_topic(Operation::Create, name));
        if let Err(error) = may_create {
            return fail(error);
        }
        // Err: it cannot be created; the answer then says that it is unknown.
        let _ = cluster.create(name, &NewTopic::default(), false);
    }
    match cluster.topic_seen_by(call.broker, name, Uuid::nil()) {
        Ok((name, topic)) => show(cluster, name, topic),
        Err(error) => fail(error),
    }
}

fn show(cluster: &Cluster, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
        let down: Vec<_> = partition.replicas.iter().copied().filter(|id| !cluster.is_up(*id)).collect();
        let ids = |ids: &[record::BrokerId]| ids.iter().map(|id| BrokerId(id.0)).collect();
        let error = partition.leader.map_or(E::LeaderNotAvailable.code(), |_| 0);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index as i32)
            .with_leader_id(BrokerId(partition.leader.map_or(-1, |id| id.0)))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(partition.in_sync()))
            .with_offline_replicas(ids(&down))
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NOT_ASKED)
}

pub(in crate::local) fn describe_cluster(call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    const BROKERS: i8 = 1;
    const CONTROLLERS: i8 = 2;
    let answer = DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_authorized_operations(NOT_ASKED)
        .with_controller_id(BrokerId(-1));
    let unlike = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(E::MismatchedEndpointType),
        _ => Some(E::UnsupportedEndpointType),
    };
    if let Some(error) = call.refusal.or(unlike) {
        return answer.with_error_code(error.code()).with_error_message(Some(StrBytes::default()));
    }
    let cluster = call.cluster();
    let brokers = cluster.brokers.iter().filter(|broker| broker.up).map(|broker| {
        let shown = DescribeClusterBroker::default().with_broker_id(BrokerId(broker.id.0));
        shown.with_host(broker.advertised.host.clone()).with_port(i32::from(broker.advertised.port))
    });
    answer
        .with_error_message(None)
        .with_cluster_id(StrBytes::from_static_str(CLUSTER_ID))
        .with_controller_id(BrokerId(cluster.controller().map_or(-1, |id| id.0)))
        .with_brokers(brokers.collect())
}
