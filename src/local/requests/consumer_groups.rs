//! The requests of the consumer group protocol (KIP-848): ConsumerGroupHeartbeat and ConsumerGroupDescribe.

use super::call::{Call, distinct, text};
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::cluster::Cluster;
use crate::local::group::{Assignor, Beat, ConsumerMember, Group, Partitions, Topics, epoch};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::consumer_group_describe_response::{self as described, DescribedGroup};
use kafka_protocol::messages::consumer_group_heartbeat_response::{self as heartbeat, Assignment};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Kafka's `group.consumer.heartbeat.interval.ms`.
const HEARTBEAT_INTERVAL_MS: i32 = 5_000;

pub(in crate::local) fn consumer_group_heartbeat(
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let mut cluster = call.cluster();
    let checked = check(&request, call.version).map_or(Ok(()), Err);
    let beaten = call.refusal.map_or(checked, Err).and_then(|()| beat(call, &mut cluster, &request));
    drop(cluster);
    call.shared.deadlines.notify_one();
    let answer = ConsumerGroupHeartbeatResponse::default();
    match beaten {
        Err(error) => answer.with_error_code(error.code()).with_error_message(Some(text(error.to_string()))),
        Ok(beaten) => answer
            .with_member_id(Some(text(beaten.member_id)))
            .with_member_epoch(beaten.member_epoch)
            .with_heartbeat_interval_ms(if beaten.member_epoch < 0 { 0 } else { HEARTBEAT_INTERVAL_MS })
            .with_assignment(beaten.assignment.as_ref().map(|partitions| {
                let topics = by_id(partitions).into_iter().map(|(id, partitions)| {
                    heartbeat::TopicPartitions::default().with_topic_id(id).with_partitions(partitions)
                });
                Assignment::default().with_topic_partitions(topics.collect())
            })),
    }
}

/// What Kafka refuses before it looks at the group.
fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Option<E> {
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let no_topics = request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty);
    let wrong = match request.member_epoch {
        epoch::JOIN => {
            request.rebalance_timeout_ms < 0
                || request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty())
                || (request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none())
        }
        epoch::LEAVE_STATIC => request.instance_id.is_none(),
        epoch => epoch < epoch::LEAVE_STATIC,
    };
    // Before v1 the broker gives out member IDs.
    let nameless = request.member_id.is_empty() && (version > 0 || request.member_epoch != epoch::JOIN);
    let regex = request.subscribed_topic_regex.as_ref().filter(|regex| !regex.is_empty());
    if request.group_id.is_empty() || nameless || wrong || is_empty(&request.instance_id) || is_empty(&request.rack_id)
    {
        Some(E::InvalidRequest)
    } else if request.server_assignor.as_ref().is_some_and(|name| Assignor::from_name(name).is_none()) {
        Some(E::UnsupportedAssignor)
    } else if regex.is_some_and(|regex| no_topics && regex_lite::Regex::new(regex).is_err()) {
        Some(E::InvalidRegularExpression)
    } else {
        None
    }
}

fn beat(
    call: &Call,
    cluster: &mut Cluster,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<crate::local::group::Beaten, E> {
    call.check_group(Operation::Read, &request.group_id)?;
    call.coordinates_in(cluster, &request.group_id)?;
    let named = request.subscribed_topic_names.as_ref();
    let regex = request.subscribed_topic_regex.as_ref().filter(|regex| !regex.is_empty());
    let matched = regex.and_then(|regex| regex_lite::Regex::new(&format!("^(?:{})$", regex.as_str())).ok());
    let matched = matched.iter().flat_map(|regex| cluster.topics().filter(|(name, _)| regex.is_match(name)));
    let matched = matched.map(|(name, _)| name.clone());
    let topics = named.iter().flat_map(|names| names.iter().map(|name| name.to_string())).chain(matched).collect();
    let owned = request.topic_partitions.as_ref().map(|owned| {
        owned.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect()
    });
    let member_id = match request.member_id.as_str() {
        "" => Uuid::from_u128(fastrand::u128(..)).to_string(),
        id => id.to_owned(),
    };
    let beat = Beat {
        member_id,
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(|id| id.to_string()),
        rack_id: request.rack_id.as_ref().map(|id| id.to_string()),
        client_id: call.client_id.clone(),
        host: call.host.clone(),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        topics: (named.is_some() || regex.is_some()).then_some(topics),
        assignor: request.server_assignor.as_ref().and_then(|name| Assignor::from_name(name)),
        owned,
    };
    if request.member_epoch != epoch::JOIN && !cluster.groups.contains_key(request.group_id.as_str()) {
        return Err(E::GroupIdNotFound);
    }
    let group = cluster.group_with_room(&request.group_id, beat.bytes())?;
    if group.has_classic_members() {
        return Err(E::GroupIdNotFound);
    }
    let subscribed = group.consumers.subscriptions(beat.topics.iter().flatten());
    let topics: Topics = subscribed
        .into_iter()
        .filter_map(|name| {
            let (_, topic) = cluster.topic(&name, Uuid::nil()).ok()?;
            let shape = (topic.id, topic.partitions.len() as i32);
            Some((name, shape))
        })
        .collect();
    let group = cluster.groups.get_mut(request.group_id.as_str()).ok_or(E::GroupIdNotFound)?;
    group.consumers.beat(beat, topics, clock::now())
}

fn by_id(partitions: &Partitions) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in partitions {
        topics.entry(*id).or_default().push(*partition);
    }
    topics
}

pub(in crate::local) fn consumer_group_describe(
    call: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let cluster = call.cluster();
    let describe = |id: GroupId| {
        let answer = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(i32::MIN);
        if let Err(error) = call.coordinates_in(&cluster, &id) {
            return answer.with_error_code(error.code());
        }
        let Some(group) = cluster.groups.get(id.as_str()).filter(|group| group.is_consumer()) else {
            let why = text(format!("Group {} not found.", id.as_str()));
            return answer.with_error_code(E::GroupIdNotFound.code()).with_error_message(Some(why));
        };
        let members = group.consumers.iter().map(|(id, member)| show(&cluster, id, member));
        answer
            .with_error_message(None)
            .with_group_state(text(group.state()))
            .with_group_epoch(group.consumers.epoch)
            .with_assignment_epoch(group.consumers.assignment_epoch)
            .with_assignor_name(text(group.consumers.assignor().name()))
            .with_members(members.collect())
    };
    let groups = distinct(request.group_ids, GroupId::clone).map(describe);
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

fn show(cluster: &Cluster, id: &str, member: &ConsumerMember) -> described::Member {
    /// A member of the consumer protocol; a classic one in the same group is 0.
    const CONSUMER: i8 = 1;
    let assignment = |partitions: &Partitions| {
        let topics = by_id(partitions).into_iter().filter_map(|(id, partitions)| {
            let (name, _) = cluster.topic("", id).ok()?;
            let topic = described::TopicPartitions::default().with_topic_id(id).with_topic_name(text(name).into());
            Some(topic.with_partitions(partitions))
        });
        described::Assignment::default().with_topic_partitions(topics.collect())
    };
    described::Member::default()
        .with_member_id(text(id))
        .with_instance_id(member.instance_id.clone().map(text))
        .with_rack_id(member.rack_id.clone().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&*member.client_id))
        .with_client_host(text(&*member.host))
        .with_subscribed_topic_names(member.topics.iter().map(|topic| text(topic.as_str()).into()).collect())
        .with_subscribed_topic_regex(None)
        .with_assignment(assignment(&member.assigned))
        .with_target_assignment(assignment(&member.target))
        .with_member_type(CONSUMER)
}

impl Group {
    /// `consumer` for a group of KIP-848, else `classic`, as ListGroups has it.
    pub(super) fn type_name(&self) -> &'static str {
        if self.is_consumer() { "consumer" } else { "classic" }
    }
}
