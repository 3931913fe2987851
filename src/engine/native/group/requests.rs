//! A member's requests: put into the schemas, sent, and their answers brought to the machine as events.

use super::super::cluster::{Cluster, Coordinated, Lane, group_id, text, topic_name};
use super::super::net::Connection;
use super::assignors::{Assignor, Subscriber};
use super::membership::{Beat, Counts, Event, Joined};
use super::messages;
use crate::engine::{GroupConfig, Subscription};
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::TopicPartition;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Member id, and generation or epoch.
type Identity = (String, i32);

/// KIP-848's epoch of a member that leaves, and of a static one that will come back.
const LEAVES: i32 = -1;
const LEAVES_FOR_NOW: i32 = -2;

/// From version 5 on SyncGroup repeats what JoinGroup has said of the protocol (KIP-559).
const LAST_SYNC_WITHOUT_PROTOCOL: i16 = 4;

/// Sends a member's requests.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: GroupConfig,
    /// Where this member stands.
    pub(super) rack: Option<String>,
    /// Whether it is a member as KIP-848 has them.
    pub(super) kip848: bool,
    /// Names of topics by their ids.
    pub(super) names: Arc<Mutex<HashMap<Uuid, Arc<str>>>>,
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl Requests {
    fn group(&self) -> GroupId {
        group_id(&self.config.id)
    }

    fn instance(&self) -> Option<StrBytes> {
        self.config.instance_id.as_deref().map(text)
    }

    async fn coordinator(&self, lane: Lane) -> Result<Arc<Connection>> {
        self.cluster.coordinator_on(Coordinated::Group, &self.config.id, lane).await
    }

    /// How long the answer to a join or a sync may take: it waits for all other members.
    fn patience(&self) -> Duration {
        self.config.max_poll_interval + self.cluster.options.request_timeout
    }

    async fn ask<R: Request>(&self, request: &R, cap: i16, limit: Duration) -> Result<R::Response> {
        self.coordinator(Lane::Membership).await?.request_within(request, cap, limit).await
    }

    pub(super) fn join(
        &self,
        tasks: &mut JoinSet<Event>,
        identity: Identity,
        owned: BTreeSet<TopicPartition>,
        wanted: BTreeSet<Arc<str>>,
    ) {
        let me = self.clone();
        tasks.spawn(async move {
            match me.send_join(identity, &owned, &wanted).await {
                Ok(response) if response.error_code == E::MemberIdRequired.code() => {
                    Event::Named(response.member_id.to_string())
                }
                Ok(response) => Event::Joined(me.read_join(response)),
                Err(error) => Event::Joined(Err(error)),
            }
        });
    }

    async fn send_join(
        &self,
        identity: Identity,
        owned: &BTreeSet<TopicPartition>,
        wanted: &BTreeSet<Arc<str>>,
    ) -> Result<JoinGroupResponse> {
        let rack = self.rack.as_deref();
        let protocols = self.config.assignors.iter().map(|assignor| {
            let metadata =
                messages::subscription(*assignor, wanted, owned, identity.1, rack).map_err(|why| self.broken(why))?;
            Ok(JoinGroupRequestProtocol::default().with_name(text(assignor.name())).with_metadata(metadata))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(self.group())
            .with_session_timeout_ms(millis(self.config.session_timeout))
            .with_rebalance_timeout_ms(millis(self.config.max_poll_interval))
            .with_member_id(text(&identity.0))
            .with_group_instance_id(self.instance())
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect::<Result<Vec<_>>>()?);
        self.ask(&request, i16::MAX, self.patience()).await
    }

    fn read_join(&self, response: JoinGroupResponse) -> Result<Joined> {
        self.refuse(Action::JoinGroup, response.error_code, None)?;
        let name = response.protocol_name.as_ref().map_or("", |name| name.as_str());
        let assignor = Assignor::named(name)
            .ok_or_else(|| self.broken(format!("it uses assignor {name}, which kpipe does not have")))?;
        let leads = response.leader == response.member_id;
        let members = response.members.into_iter().map(|member| {
            let (id, instance) = (member.member_id.to_string(), member.group_instance_id.map(|id| id.to_string()));
            messages::read_subscription(id.clone(), instance, assignor, member.metadata).unwrap_or_else(|why| {
                tracing::warn!(
                    group = self.config.id,
                    member = id,
                    "its subscription cannot be read, so it gets nothing: {why}"
                );
                Subscriber { id, ..Subscriber::default() }
            })
        });
        let members: Vec<_> = members.collect();
        Ok(Joined {
            member_id: response.member_id.to_string(),
            generation: response.generation_id,
            assignor,
            members: (leads && !response.skip_assignment).then_some(members),
        })
    }

    fn refuse(&self, action: Action, code: i16, detail: Option<String>) -> Result<()> {
        let Some(code) = error_code(code) else { return Ok(()) };
        Err(Error::Kafka { action, subject: Subject::group_named(&self.config.id), code, detail })
    }

    fn broken(&self, why: String) -> Error {
        Error::Group { group: self.config.id.clone(), why }
    }

    pub(super) fn sync(&self, tasks: &mut JoinSet<Event>, identity: Identity, assignments: Vec<(String, Bytes)>) {
        let me = self.clone();
        tasks.spawn(async move {
            let assignments = assignments.into_iter().map(|(id, share)| {
                SyncGroupRequestAssignment::default().with_member_id(text(&id)).with_assignment(share)
            });
            let request = SyncGroupRequest::default()
                .with_group_id(me.group())
                .with_generation_id(identity.1)
                .with_member_id(text(&identity.0))
                .with_group_instance_id(me.instance())
                .with_assignments(assignments.collect());
            let share = async {
                let response = me.ask(&request, LAST_SYNC_WITHOUT_PROTOCOL, me.patience()).await?;
                me.refuse(Action::SyncGroup, response.error_code, None)?;
                let unreadable = |why| me.broken(format!("the assignment is malformed: {why}"));
                messages::read_assignment(response.assignment).map_err(unreadable)
            };
            Event::Synced(share.await)
        });
    }

    pub(super) fn beat(
        &self,
        tasks: &mut JoinSet<Event>,
        identity: Identity,
        full: bool,
        owned: BTreeSet<TopicPartition>,
        wanted: BTreeSet<Arc<str>>,
    ) {
        let me = self.clone();
        tasks.spawn(async move {
            if me.kip848 {
                return Event::Beat(me.beat_kip848(identity, full, &owned, &wanted).await);
            }
            let request = HeartbeatRequest::default()
                .with_group_id(me.group())
                .with_generation_id(identity.1)
                .with_member_id(text(&identity.0))
                .with_group_instance_id(me.instance());
            let answer = me.ask(&request, i16::MAX, me.cluster.options.request_timeout).await;
            Event::Beat(answer.and_then(|response| {
                me.refuse(Action::Heartbeat, response.error_code, None)?;
                Ok(Beat::default())
            }))
        });
    }

    async fn beat_kip848(
        &self,
        identity: Identity,
        full: bool,
        owned: &BTreeSet<TopicPartition>,
        wanted: &BTreeSet<Arc<str>>,
    ) -> Result<Beat> {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group())
            .with_member_id(text(&identity.0))
            .with_member_epoch(identity.1)
            .with_instance_id(self.instance())
            .with_rebalance_timeout_ms(-1);
        if full {
            request = request
                .with_rack_id(self.rack.as_deref().map(text))
                .with_rebalance_timeout_ms(millis(self.config.max_poll_interval))
                .with_subscribed_topic_names(Some(wanted.iter().map(|topic| topic_name(topic)).collect()))
                .with_server_assignor(self.config.server_assignor.as_deref().map(text))
                .with_topic_partitions(Some(self.with_ids(owned)));
        }
        let response = self.ask(&request, i16::MAX, self.cluster.options.request_timeout).await?;
        let words = response.error_message.map(|words| words.to_string());
        self.refuse(Action::Heartbeat, response.error_code, words)?;
        let assignment = match response.assignment {
            None => None,
            Some(assignment) => {
                let given = assignment.topic_partitions.into_iter().map(|topic| (topic.topic_id, topic.partitions));
                Some(self.named(given.collect(), wanted).await?)
            }
        };
        Ok(Beat { epoch: response.member_epoch, assignment })
    }

    fn with_ids(&self, places: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for of in places {
            if let Some((id, _)) = names.iter().find(|(_, name)| **name == of.topic) {
                topics.entry(*id).or_default().push(of.partition);
            }
        }
        let each = topics.into_iter();
        each.map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions)).collect()
    }

    /// The partitions by their topics' names.
    async fn named(
        &self,
        given: Vec<(Uuid, Vec<i32>)>,
        wanted: &BTreeSet<Arc<str>>,
    ) -> Result<BTreeSet<TopicPartition>> {
        let known = |id: &Uuid| self.names.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if given.iter().any(|(id, _)| known(id).is_none()) {
            let topics: Vec<&str> = wanted.iter().map(|topic| &**topic).collect();
            for (_, topic) in self.cluster.metadata(Some(&topics), false).await? {
                if let Ok(topic) = topic {
                    self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.id, topic.name);
                }
            }
        }
        let mut places = BTreeSet::new();
        for (id, partitions) in given {
            let name = known(&id).ok_or_else(|| {
                let subject = Subject::group_named(&self.config.id);
                Error::kafka(Action::Heartbeat, subject, ResponseError::UnknownTopicId)
            })?;
            places.extend(partitions.into_iter().map(|partition| TopicPartition::new(name.clone(), partition)));
        }
        Ok(places)
    }

    pub(super) fn count(&self, tasks: &mut JoinSet<Event>, topics: BTreeSet<Arc<str>>) {
        let me = self.clone();
        tasks.spawn(async move {
            let names: Vec<String> = topics.iter().map(|topic| topic.to_string()).collect();
            Event::Counted(partition_counts(&me.cluster, &Subscription::Topics(names)).await)
        });
    }

    /// Looks for what is wanted now.
    pub(super) fn look(&self, tasks: &mut JoinSet<Event>, subscription: Subscription) {
        let me = self.clone();
        tasks.spawn(async move {
            match partition_counts(&me.cluster, &subscription).await {
                Ok(counts) => Event::Wanted(counts),
                Err(error) => {
                    tracing::info!(error_name = error.name(), %error, "cannot look for new partitions now");
                    Event::Due
                }
            }
        });
    }

    /// Tells that the member leaves; on the main connection, for on its own a join may be waiting.
    pub(super) fn leave(&self, tasks: &mut JoinSet<Event>, member_id: String) {
        let me = self.clone();
        tasks.spawn(async move {
            let told = if me.kip848 {
                let epoch = if me.config.instance_id.is_some() { LEAVES_FOR_NOW } else { LEAVES };
                let request = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(me.group())
                    .with_member_id(text(&member_id))
                    .with_member_epoch(epoch)
                    .with_instance_id(me.instance());
                async { Ok(me.coordinator(Lane::Main).await?.request(&request).await?.error_code) }.await
            } else {
                me.leave_classic(&member_id).await
            };
            match told.map(error_code) {
                Ok(None) => {}
                Ok(Some(code)) => tracing::info!(group = me.config.id, error = code.name(), "leaving"),
                Err(error) => tracing::info!(group = me.config.id, error_name = error.name(), %error, "leaving"),
            }
            Event::Due
        });
    }

    async fn leave_classic(&self, member: &str) -> Result<i16> {
        let connection = self.coordinator(Lane::Main).await?;
        let request = LeaveGroupRequest::default().with_group_id(self.group());
        // From version 3 on several may leave at once (KIP-345).
        let request = if connection.version::<LeaveGroupRequest>(i16::MAX)? >= 3 {
            request.with_members(vec![MemberIdentity::default().with_member_id(text(member))])
        } else {
            request.with_member_id(text(member))
        };
        Ok(connection.request(&request).await?.error_code)
    }
}

/// The topics of `subscription` that there are, and how many partitions each has.
pub(super) async fn partition_counts(cluster: &Cluster, subscription: &Subscription) -> Result<Counts> {
    let names: Option<Vec<&str>> = match subscription {
        Subscription::Topics(names) => Some(names.iter().map(String::as_str).collect()),
        Subscription::Pattern(_) => None,
    };
    let mut retry = cluster.retry();
    let topics = loop {
        match cluster.metadata(names.as_deref(), false).await {
            Ok(topics) => break topics,
            Err(error) => retry.after(error).await?,
        }
    };
    let mut counts = Counts::new();
    for (name, topic) in topics {
        match (topic, subscription) {
            (Ok(topic), _) if subscription.wants(&topic.name, topic.internal) => {
                counts.insert(topic.name, topic.partitions.len() as i32);
            }
            (Err(code), Subscription::Topics(_)) if !code.is_transient() => {
                return Err(Error::kafka(Action::LookUp, Subject::topic_named(&name), code));
            }
            _ => {}
        }
    }
    Ok(counts)
}

/// Whether the coordinator offers KIP-848, as members that name themselves need it (Kafka 4.0).
pub(super) async fn has_kip848(cluster: &Cluster, group: &str) -> Result<bool> {
    let mut retry = cluster.retry();
    loop {
        match cluster.coordinator_on(Coordinated::Group, group, Lane::Main).await {
            Ok(connection) => {
                return Ok(connection
                    .version::<ConsumerGroupHeartbeatRequest>(i16::MAX)
                    .is_ok_and(|version| version >= 1));
            }
            Err(error) => {
                cluster.forget_coordinator(Coordinated::Group, group);
                retry.after(error).await?;
            }
        }
    }
}

/// Whether the group has members that speak the classic protocol.
pub(super) async fn is_live_classic(cluster: &Cluster, group: &str) -> Result<bool> {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let refusal = |response: &<DescribeGroupsRequest as Request>::Response| {
        let code = response.groups.first().map_or(0, |group| group.error_code);
        error_code(code).map(|code| Error::kafka(Action::DescribeGroup, Subject::group_named(group), code))
    };
    // From version 6 on a group of the other kind is an error.
    let answer = cluster.ask_coordinator(Coordinated::Group, group, &request, 5, cluster.retry(), refusal).await?;
    Ok(answer
        .groups
        .iter()
        .any(|group| matches!(group.group_state.as_str(), "PreparingRebalance" | "CompletingRebalance" | "Stable")))
}
