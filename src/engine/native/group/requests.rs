//! A member's requests: put into the schemas and sent; their answers become the machine's events.

use super::super::cluster::{Cluster, Coordinated, Lane, TopicAnswer, answer_to, group_id, text, topic_name};
use super::super::net::Connection;
use super::assignors::Subscriber;
use super::membership::{Content, Event, HeartbeatAnswer, Joined, PartitionCounts, Role};
use super::messages;
use crate::engine::native::wire::millis;
use crate::engine::{Assignor, GroupConfig, Named, Subscription};
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
    ApiKey, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DescribeGroupsRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Member ID, and generation or epoch.
type Identity = (String, i32);

/// KIP-848's epoch of a member that leaves, and of a static one that will come back.
const LEAVES: i32 = -1;
const LEAVES_FOR_NOW: i32 = -2;

/// Heartbeats are sent no more often, whatever a coordinator expects.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// From version 5 on SyncGroup repeats what JoinGroup has said of the protocol (KIP-559).
const LAST_SYNC_WITHOUT_PROTOCOL: i16 = 4;

/// The protocols between members and their coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A leader among the members assigns (since Kafka 0.9).
    Classic,
    /// The coordinator assigns (KIP-848, since Kafka 4.0).
    Kip848,
}

/// Sends a member's requests.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: GroupConfig,
    rack: Option<String>,
    protocol: Protocol,
    /// By topic ID.
    names: Arc<Mutex<BTreeMap<Uuid, Arc<str>>>>,
}

impl Requests {
    pub(super) fn new(cluster: Arc<Cluster>, config: GroupConfig, rack: Option<String>, protocol: Protocol) -> Self {
        Self { cluster, config, rack, protocol, names: Arc::new(Mutex::new(BTreeMap::new())) }
    }

    fn group(&self) -> GroupId {
        group_id(&self.config.id)
    }

    fn instance(&self) -> Option<StrBytes> {
        self.config.instance_id.as_deref().map(text)
    }

    async fn coordinator(&self, lane: Lane) -> Result<Arc<Connection>> {
        self.cluster.coordinator_on(Coordinated::Group, &self.config.id, lane).await
    }

    /// How long the answer to a join or a sync may take: the coordinator waits for all other members.
    fn rebalance_limit(&self) -> Duration {
        self.config.max_poll_interval + self.cluster.options.request_timeout
    }

    /// The coordinator's answer, and the connection that it came from.
    async fn ask<R: Request>(&self, request: &R, cap: i16, limit: Duration) -> Result<(R::Response, Arc<Connection>)> {
        let coordinator = self.coordinator(Lane::Membership).await?;
        Ok((coordinator.request_within(request, cap, limit).await?, coordinator))
    }

    pub(super) fn join(
        &self,
        tasks: &mut JoinSet<Option<Event>>,
        identity: Identity,
        owned: BTreeSet<TopicPartition>,
        topics: BTreeSet<Arc<str>>,
    ) {
        let me = self.clone();
        tasks.spawn(async move {
            Some(match me.send_join(identity, &owned, &topics).await {
                Ok((response, _)) if response.error_code == E::MemberIdRequired.code() => {
                    Event::MemberIdGiven(response.member_id.to_string())
                }
                Ok((response, coordinator)) => Event::Joined(me.read_join(response, &coordinator).await),
                Err(error) => Event::Joined(Err(error)),
            })
        });
    }

    async fn send_join(
        &self,
        identity: Identity,
        owned: &BTreeSet<TopicPartition>,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<(JoinGroupResponse, Arc<Connection>)> {
        let rack = self.rack.as_deref();
        let protocols = self.config.assignors.iter().map(|assignor| {
            let metadata =
                messages::subscription(*assignor, topics, owned, identity.1, rack).map_err(|why| self.broken(why))?;
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
        self.ask(&request, i16::MAX, self.rebalance_limit()).await
    }

    async fn read_join(&self, response: JoinGroupResponse, coordinator: &Connection) -> Result<Joined> {
        self.refuse(Action::JoinGroup, response.error_code, None)?;
        let malformed = |why: String| Err(coordinator.malformed::<JoinGroupRequest>(&why));
        let name = response.protocol_name.as_ref().map_or("", |name| name.as_str());
        let Some(assignor) = Assignor::named(name).filter(|assignor| self.config.assignors.contains(assignor)) else {
            return malformed(format!("assignor {name:?} is not one of this member's"));
        };
        if response.member_id.is_empty() || response.generation_id < 0 {
            return malformed(format!("member {:?} of generation {}", response.member_id, response.generation_id));
        }
        let leads = response.leader == response.member_id;
        let ids: BTreeSet<&str> = response.members.iter().map(|member| member.member_id.as_str()).collect();
        if leads && (ids.len() != response.members.len() || !ids.contains(response.member_id.as_str())) {
            return malformed("its members are not each there once".to_owned());
        }
        let members = response.members.into_iter().map(|member| {
            let (id, instance) = (member.member_id.to_string(), member.group_instance_id.map(|id| id.to_string()));
            messages::read_subscription(id.clone(), instance, assignor, member.metadata).unwrap_or_else(|why| {
                tracing::warn!(
                    group = self.config.id,
                    "member {id}: unreadable subscription, no partitions assigned: {why}"
                );
                Subscriber { id, ..Subscriber::default() }
            })
        });
        let members: Vec<_> = members.collect();
        Ok(Joined {
            member_id: response.member_id.to_string(),
            generation: response.generation_id,
            assignor,
            role: match (leads, response.skip_assignment) {
                (false, _) => Role::Follower,
                (true, false) => Role::Leader(members),
                (true, true) => Role::ReturnedLeader { is_complete: self.is_complete(&members).await },
            },
        })
    }

    /// Whether every partition that members subscribe to is assigned; if that cannot be found out soon enough for the
    /// session, all are to join again.
    async fn is_complete(&self, members: &[Subscriber]) -> bool {
        let topics: BTreeSet<&str> =
            members.iter().flat_map(|member| member.topics.iter().map(|topic| &**topic)).collect();
        let topics = Subscription::Topics(topics.into_iter().map(str::to_owned).collect());
        let looked_up = async {
            let counts = partition_counts(&self.cluster, &topics).await?;
            let group = self.cluster.describe_classic(&self.config.id).await?;
            let assigned: BTreeSet<TopicPartition> =
                group.members.into_iter().flat_map(|member| member.assigned).collect();
            let mut all =
                counts.iter().flat_map(|(topic, count)| (0..*count).map(|n| TopicPartition::new(topic.clone(), n)));
            Ok::<_, Error>(all.all(|of| assigned.contains(&of)))
        };
        match tokio::time::timeout(self.config.session_timeout / 3, looked_up).await {
            Ok(Ok(is_complete)) => is_complete,
            Ok(Err(error)) => {
                tracing::info!(error_name = error.name(), %error, "cannot find out whether partitions were added");
                false
            }
            Err(_) => false,
        }
    }

    fn refuse(&self, action: Action, code: i16, detail: Option<String>) -> Result<()> {
        let Some(code) = error_code(code) else { return Ok(()) };
        Err(Error::Kafka { action, subject: Subject::group_named(&self.config.id), code, detail })
    }

    fn broken(&self, why: String) -> Error {
        Error::Group { group: self.config.id.clone(), why }
    }

    pub(super) fn sync(
        &self,
        tasks: &mut JoinSet<Option<Event>>,
        identity: Identity,
        assignments: Vec<(String, Bytes)>,
        topics: BTreeSet<Arc<str>>,
    ) {
        let me = self.clone();
        tasks.spawn(async move {
            let assignments = assignments.into_iter().map(|(id, partitions)| {
                SyncGroupRequestAssignment::default().with_member_id(text(&id)).with_assignment(partitions)
            });
            let request = SyncGroupRequest::default()
                .with_group_id(me.group())
                .with_generation_id(identity.1)
                .with_member_id(text(&identity.0))
                .with_group_instance_id(me.instance())
                .with_assignments(assignments.collect());
            let assigned = async {
                let (response, coordinator) =
                    me.ask(&request, LAST_SYNC_WITHOUT_PROTOCOL, me.rebalance_limit()).await?;
                me.refuse(Action::SyncGroup, response.error_code, None)?;
                let malformed = |why: String| coordinator.malformed::<SyncGroupRequest>(&why);
                let assigned = messages::read_assignment(response.assignment).map_err(malformed)?;
                match assigned.iter().find(|of| of.partition < 0 || !topics.contains(&of.topic)) {
                    Some(of) => Err(malformed(format!("{of} is not of the subscription"))),
                    None => Ok(assigned),
                }
            };
            Some(Event::Synced(assigned.await))
        });
    }

    pub(super) fn heartbeat(
        &self,
        tasks: &mut JoinSet<Option<Event>>,
        identity: Identity,
        content: Content,
        owned: BTreeSet<TopicPartition>,
        topics: BTreeSet<Arc<str>>,
    ) {
        let me = self.clone();
        tasks.spawn(async move {
            if me.protocol == Protocol::Kip848 {
                return Some(Event::Heartbeat(me.send_kip848(identity, content, &owned, &topics).await));
            }
            let request = HeartbeatRequest::default()
                .with_group_id(me.group())
                .with_generation_id(identity.1)
                .with_member_id(text(&identity.0))
                .with_group_instance_id(me.instance());
            let answer = me.ask(&request, i16::MAX, me.cluster.options.suspect_after()).await;
            Some(Event::Heartbeat(answer.and_then(|(response, _)| {
                me.refuse(Action::Heartbeat, response.error_code, None)?;
                Ok(HeartbeatAnswer::default())
            })))
        });
    }

    async fn send_kip848(
        &self,
        identity: Identity,
        content: Content,
        owned: &BTreeSet<TopicPartition>,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<HeartbeatAnswer> {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group())
            .with_member_id(text(&identity.0))
            .with_member_epoch(identity.1)
            .with_instance_id(self.instance())
            .with_rebalance_timeout_ms(-1);
        if content == Content::Full {
            request = request
                .with_rack_id(self.rack.as_deref().map(text))
                .with_rebalance_timeout_ms(millis(self.config.max_poll_interval))
                .with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
                .with_server_assignor(self.config.server_assignor.as_deref().map(text))
                .with_topic_partitions(Some(self.with_ids(owned)));
        }
        let (response, coordinator) = self.ask(&request, i16::MAX, self.cluster.options.suspect_after()).await?;
        if content == Content::Full && response.error_code == 0 && response.assignment.is_none() {
            // All that the member has said is answered with all that it is assigned.
            return Err(coordinator.malformed::<ConsumerGroupHeartbeatRequest>(&"it lacks the assignment"));
        }
        self.read_kip848(response, &coordinator, topics).await
    }

    async fn read_kip848(
        &self,
        response: ConsumerGroupHeartbeatResponse,
        coordinator: &Connection,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<HeartbeatAnswer> {
        let detail = response.error_message.map(|detail| detail.to_string());
        self.refuse(Action::Heartbeat, response.error_code, detail)?;
        let malformed = |why: String| Err(coordinator.malformed::<ConsumerGroupHeartbeatRequest>(&why));
        if response.member_epoch < 0 {
            return malformed(format!("a member of epoch {}", response.member_epoch));
        }
        let assignment = match response.assignment {
            None => None,
            Some(assignment) => {
                let given = assignment.topic_partitions.into_iter().map(|topic| (topic.topic_id, topic.partitions));
                let assigned = self.named(given.collect(), topics).await?;
                if let Some(of) = assigned.iter().find(|of| of.partition < 0) {
                    return malformed(format!("it assigns {of}"));
                }
                Some(assigned)
            }
        };
        let interval = u64::try_from(response.heartbeat_interval_ms).ok().filter(|millis| *millis > 0);
        let interval = interval.map(|millis| Duration::from_millis(millis).max(SHORTEST_INTERVAL));
        Ok(HeartbeatAnswer { epoch: response.member_epoch, interval, assignment })
    }

    fn with_ids(&self, partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for of in partitions {
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
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<BTreeSet<TopicPartition>> {
        let known = |id: &Uuid| self.names.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if given.iter().any(|(id, _)| known(id).is_none()) {
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            for (_, topic) in self.cluster.metadata(Some(&names), false).await? {
                if let Ok(topic) = topic {
                    let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                    // Of a topic that was created again, only the last is there.
                    names.retain(|_, name| *name != topic.name);
                    names.insert(topic.id, topic.name);
                }
            }
        }
        let mut all = BTreeSet::new();
        for (id, partitions) in given {
            let name = known(&id).ok_or_else(|| {
                let subject = Subject::group_named(&self.config.id);
                Error::kafka(Action::Heartbeat, subject, ResponseError::UnknownTopicId)
            })?;
            all.extend(partitions.into_iter().map(|partition| TopicPartition::new(name.clone(), partition)));
        }
        Ok(all)
    }

    pub(super) fn count_partitions(&self, tasks: &mut JoinSet<Option<Event>>, topics: BTreeSet<Arc<str>>) {
        let me = self.clone();
        tasks.spawn(async move {
            let names: Vec<String> = topics.iter().map(|topic| topic.to_string()).collect();
            Some(Event::Counted(partition_counts(&me.cluster, &Subscription::Topics(names)).await))
        });
    }

    /// Looks up the topics of `subscription` as they are now.
    pub(super) fn look_for_topics(&self, tasks: &mut JoinSet<Option<Event>>, subscription: Subscription) {
        let me = self.clone();
        tasks.spawn(async move {
            match partition_counts(&me.cluster, &subscription).await {
                Ok(counts) => Some(Event::Topics(counts)),
                Err(error) => {
                    tracing::info!(error_name = error.name(), %error, "looking up new partitions failed; retrying");
                    None
                }
            }
        });
    }

    /// Tells the coordinator that the member leaves; on the main connection, for on its own a join may be waiting.
    pub(super) fn leave(&self, tasks: &mut JoinSet<Option<Event>>, member_id: String) {
        let me = self.clone();
        tasks.spawn(async move {
            let answer = if me.protocol == Protocol::Kip848 {
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
            match answer.map(error_code) {
                Ok(None) => {}
                Ok(Some(code)) => tracing::info!(group = me.config.id, error = code.name(), "leaving"),
                Err(error) => tracing::info!(group = me.config.id, error_name = error.name(), %error, "leaving"),
            }
            None
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

/// The existing topics of `subscription`, and how many partitions each has.
pub(super) async fn partition_counts(cluster: &Cluster, subscription: &Subscription) -> Result<PartitionCounts> {
    let names: Option<Vec<&str>> = match subscription {
        Subscription::Topics(names) => Some(names.iter().map(String::as_str).collect()),
        Subscription::Pattern(_) => None,
    };
    let mut retry = cluster.retry();
    let topics = loop {
        match cluster.metadata(names.as_deref(), false).await {
            // One that is not settled would be taken for one that does not exist, and nobody would read it.
            Ok(topics) => {
                let Some(error) = unsettled(&topics, subscription) else { break topics };
                if retry.after(error).await.is_err() {
                    break topics;
                }
            }
            Err(error) => retry.after(error).await?,
        }
    };
    let mut counts = PartitionCounts::new();
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

/// A topic of `subscription` that exists, but that the brokers do not describe at the moment.
fn unsettled(topics: &[TopicAnswer], subscription: &Subscription) -> Option<Error> {
    topics.iter().filter(|(name, _)| subscription.wants(name, false)).find_map(|(name, topic)| {
        let code = *topic.as_ref().err()?;
        let is_missing = matches!(code, ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId);
        let is_unsettled = code.is_transient() && !is_missing;
        is_unsettled.then(|| Error::kafka(Action::LookUp, Subject::topic_named(name), code))
    })
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
    let read = |response: <DescribeGroupsRequest as Request>::Response, connection: &Connection| {
        let groups = response.groups.into_iter().map(|group| (group.group_id.to_string(), group));
        let found = answer_to(connection, ApiKey::DescribeGroups, group.to_owned(), groups)?;
        match error_code(found.error_code) {
            None => Ok(matches!(found.group_state.as_str(), "PreparingRebalance" | "CompletingRebalance" | "Stable")),
            Some(code) => Err(Error::kafka(Action::DescribeGroup, Subject::group_named(group), code)),
        }
    };
    // From version 6 on a group of the other kind is an error.
    cluster.ask_coordinator(Coordinated::Group, group, &request, 5, cluster.retry(), read).await
}
