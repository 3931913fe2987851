//! Consumer groups: list, describe, committed offsets, lag.

use super::partitions::PATIENCE;
use super::{NativeAdmin, refusal};
use crate::engine::native::cluster::{
    Cluster, Coordinated, TopicInfo, answer_to, answers_to, group_id, join_all, of_topic, topic_name,
};
use crate::engine::native::group::{messages, offsets};
use crate::engine::native::net::Connection;
use crate::engine::{
    Bounds, CommittedOffset, DescribedGroup, GroupMember, GroupType, GroupsProgress, Isolation, ListedGroup, Listing,
    Offsets, Progress,
};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{BrokerId, PartitionId, TopicPartition, partitions_by_topic};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::task::JoinSet;

/// How many groups are asked for at a time.
const ASKED_AT_A_TIME: usize = 64;

impl NativeAdmin {
    /// All groups, by ID.
    ///
    /// # Errors
    /// No broker answered.
    pub fn groups(&self) -> Result<Listing<ListedGroup>> {
        self.run(self.cluster().list_groups())
    }

    /// A group with its members.
    ///
    /// # Errors
    /// It does not exist, or has another protocol than consumers have.
    pub fn describe_group(&self, group: &str) -> Result<DescribedGroup> {
        self.run(self.cluster().describe_group(group))
    }

    /// The group's committed offsets.
    ///
    /// # Errors
    /// The coordinator refused, or did not answer.
    pub fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        self.run(offsets::all(self.cluster(), group))
    }

    /// How far the group is in all partitions that it has committed for or that are in `also`. Partitions that no
    /// longer exist are left out.
    ///
    /// # Errors
    /// The coordinator or the cluster did not answer.
    pub fn progress(&self, group: &str, also: &[TopicPartition]) -> Result<GroupsProgress> {
        self.run(async {
            let cluster = &self.client.cluster;
            let mut of_group: BTreeMap<TopicPartition, Option<CommittedOffset>> =
                also.iter().map(|of| (of.clone(), None)).collect();
            of_group
                .extend(offsets::all(cluster, group).await?.into_iter().map(|(of, committed)| (of, Some(committed))));
            progress(cluster, [(group.to_owned(), of_group)].into(), Vec::new()).await
        })
    }

    /// How far all groups are that have committed anything. A group that is deleted meanwhile is left out.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub fn progress_of_all(&self) -> Result<GroupsProgress> {
        self.run(async {
            let cluster = &self.client.cluster;
            let (committed, incomplete) = committed_by_all(cluster).await?;
            progress(cluster, committed, incomplete).await
        })
    }

    /// First offset and end offset of each of `partitions`; or why they cannot be had now.
    ///
    /// # Errors
    /// A signal came first.
    pub fn bounds(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Result<Bounds>>> {
        self.run(async { Ok(self.cluster().bounds_of_each(partitions, Isolation::Uncommitted, PATIENCE).await) })
    }

    /// Sets the group's offsets.
    ///
    /// # Errors
    /// It has members, or the coordinator refused.
    pub fn set_committed(&self, group: &str, to: &Offsets) -> Result<()> {
        self.run(offsets::commit(self.cluster(), group, to))
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// It does not exist, or it has members.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let read = |response: <DeleteGroupsRequest as Request>::Response, connection: &Connection| {
            let codes = response.results.into_iter().map(|result| (result.group_id.to_string(), result.error_code));
            let code = answer_to(connection, ApiKey::DeleteGroups, group.to_owned(), codes)?;
            refusal(Action::DeleteGroup, Subject::group_named(group), code, None)
        };
        let cluster = self.cluster();
        let retry = cluster.retry();
        self.run(cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, read))
    }

    /// Deletes the group's offsets of `partitions`.
    ///
    /// # Errors
    /// The group does not exist, or a member subscribes to one of the topics.
    pub fn delete_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Result<()> {
        let entry = |partition| OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(topic, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(partitions.into_iter().map(entry).collect())
        });
        let request = OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
        let read = |response: OffsetDeleteResponse, connection: &Connection| {
            refusal(Action::DeleteOffsets, Subject::group_named(group), response.error_code, None)?;
            let answers = response
                .topics
                .into_iter()
                .flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
            let asked = partitions.iter().cloned();
            for (partition, answer) in answers_to(connection, ApiKey::OffsetDelete, asked, answers)? {
                let subject = Subject::GroupPartition { group: group.to_owned(), partition };
                refusal(Action::DeleteOffsets, subject, answer.error_code, None)?;
            }
            Ok(())
        };
        let cluster = self.cluster();
        let retry = cluster.retry();
        self.run(cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, read))
    }
}

impl Cluster {
    async fn list_groups(&self) -> Result<Listing<ListedGroup>> {
        let asked = self.brokers().await?.into_iter().map(|broker| self.list_groups_of(broker));
        let mut groups = Listing::of_all(join_all(asked.collect()).await)?;
        groups.found.sort_by(|a, b| a.group.cmp(&b.group));
        groups.found.dedup();
        Ok(groups)
    }

    /// The groups that `broker` coordinates.
    async fn list_groups_of(&self, broker: BrokerId) -> Result<Vec<ListedGroup>> {
        let read = |response: ListGroupsResponse, _: &Connection| {
            refusal(Action::ListGroups, Subject::Broker(self.node(broker)), response.error_code, None)?;
            Ok(response)
        };
        let response = self.ask_broker_for(PATIENCE, broker, &ListGroupsRequest::default(), i16::MAX, read).await?;
        let known = |text: &StrBytes| (!text.is_empty()).then(|| text.to_string());
        let listed = response.groups.iter().map(|group| ListedGroup {
            group: group.group_id.to_string(),
            state: known(&group.group_state),
            group_type: known(&group.group_type).map(|name| name.to_lowercase()),
            protocol: group.protocol_type.to_string(),
        });
        Ok(listed.collect())
    }

    async fn describe_group(&self, group: &str) -> Result<DescribedGroup> {
        match self.describe_kip848(group).await? {
            Some(described) => Ok(described),
            None => self.describe_classic(group).await,
        }
    }

    /// `None` for a group of another protocol, and from brokers without KIP-848.
    async fn describe_kip848(&self, group: &str) -> Result<Option<DescribedGroup>> {
        let coordinator = self.coordinator(Coordinated::Group, group).await?;
        if self.broker(coordinator).await?.version::<ConsumerGroupDescribeRequest>(i16::MAX).is_err() {
            return Ok(None);
        }
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
        let read = |response: <ConsumerGroupDescribeRequest as Request>::Response, connection: &Connection| {
            let groups = response.groups.into_iter().map(|group| (group.group_id.to_string(), group));
            let found = answer_to(connection, ApiKey::ConsumerGroupDescribe, group.to_owned(), groups)?;
            match error_code(found.error_code) {
                None => Ok(Some(found)),
                Some(E::GroupIdNotFound | E::UnsupportedVersion) => Ok(None),
                Some(code) => Err(Error::kafka(Action::LookUp, Subject::group_named(group), code)),
            }
        };
        let retry = self.retry();
        let found = self.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, read).await?;
        let Some(found) = found else { return Ok(None) };
        let members = found.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id.to_string(),
            instance_id: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: member
                .assignment
                .topic_partitions
                .iter()
                .flat_map(|topic| {
                    let name: Arc<str> = topic.topic_name.as_str().into();
                    topic.partitions.iter().map(move |partition| TopicPartition::new(name.clone(), *partition))
                })
                .collect(),
        });
        Ok(Some(DescribedGroup {
            group: group.to_owned(),
            state: found.group_state.to_string(),
            group_type: GroupType::Consumer,
            assignor: found.assignor_name.to_string(),
            coordinator,
            members: members.collect(),
        }))
    }

    /// Describes a group of the classic protocol.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, or the coordinator refuses.
    pub(in crate::engine::native) async fn describe_classic(&self, group: &str) -> Result<DescribedGroup> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let read = |response: <DescribeGroupsRequest as Request>::Response, connection: &Connection| {
            let groups = response.groups.into_iter().map(|group| (group.group_id.to_string(), group));
            let found = answer_to(connection, ApiKey::DescribeGroups, group.to_owned(), groups)?;
            refusal(Action::LookUp, Subject::group_named(group), found.error_code, None)?;
            Ok(found)
        };
        // Up to version 5 a group that does not exist is a dead one.
        let found = self.ask_coordinator(Coordinated::Group, group, &request, 5, self.retry(), read).await?;
        if found.group_state.as_str() == "Dead" {
            return Err(Error::kafka(Action::LookUp, Subject::group_named(group), E::GroupIdNotFound));
        }
        let members = found.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            // Other kinds of members, like Connect's workers, have no partitions.
            assigned: messages::read_assignment(member.member_assignment).unwrap_or_default().into_iter().collect(),
        });
        Ok(DescribedGroup {
            group: group.to_owned(),
            state: found.group_state.to_string(),
            group_type: GroupType::Classic,
            assignor: found.protocol_data.to_string(),
            coordinator: self.coordinator(Coordinated::Group, group).await?,
            members: members.collect(),
        })
    }
}

/// Partitions of each group, with what it has committed.
type Committed = BTreeMap<String, BTreeMap<TopicPartition, Option<CommittedOffset>>>;

/// What all groups have committed, and why some could not be asked.
async fn committed_by_all(cluster: &Arc<Cluster>) -> Result<(Committed, Vec<Error>)> {
    let mut committed = Committed::new();
    let mut asking = JoinSet::new();
    let Listing { found, mut incomplete } = cluster.list_groups().await?;
    let mut left = found.into_iter();
    loop {
        while asking.len() < ASKED_AT_A_TIME
            && let Some(group) = left.next()
        {
            let (cluster, name) = (cluster.clone(), group.group);
            asking.spawn(async move { (offsets::all(&cluster, &name).await, name) });
        }
        match asking.join_next().await {
            None => return Ok((committed, incomplete)),
            Some(Ok((Ok(offsets), group))) => {
                let offsets = offsets.into_iter().map(|(of, committed)| (of, Some(committed)));
                committed.insert(group, offsets.collect());
            }
            Some(Ok((Err(error), _))) if error.code() == Some(E::GroupIdNotFound) => {}
            Some(Ok((Err(error), _))) => incomplete.push(error),
            Some(Err(_)) => return Err(Error::TaskEnded("asking for offsets")),
        }
    }
}

/// Adds the bounds of partitions to what groups have committed.
async fn progress(cluster: &Arc<Cluster>, committed: Committed, mut incomplete: Vec<Error>) -> Result<GroupsProgress> {
    let all: BTreeSet<TopicPartition> = committed.values().flat_map(BTreeMap::keys).cloned().collect();
    let (bounds, missing) = available_bounds(cluster, all).await?;
    incomplete.extend(missing);
    let of_group = |offsets: BTreeMap<TopicPartition, Option<CommittedOffset>>| {
        let progress = |(of, committed): (TopicPartition, Option<CommittedOffset>)| {
            let bounds = *bounds.get(&of)?;
            Some((of, Progress { committed: committed.map(|committed| committed.position), bounds }))
        };
        offsets.into_iter().filter_map(progress).collect()
    };
    let groups = committed.into_iter().map(|(group, offsets)| (group, of_group(offsets))).collect();
    Ok(GroupsProgress { groups, incomplete })
}

/// The bounds of those of `partitions` that exist, `None` where they cannot be had now; and why, each reason once.
async fn available_bounds(
    cluster: &Arc<Cluster>,
    partitions: BTreeSet<TopicPartition>,
) -> Result<(HashMap<TopicPartition, Option<Bounds>>, Vec<Error>)> {
    let (mut found, mut errors) = (HashMap::new(), Vec::new());
    if partitions.is_empty() {
        return Ok((found, errors));
    }
    let names: BTreeSet<&str> = partitions.iter().map(|of| &*of.topic).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut retry = cluster.retry();
    let topics = loop {
        match cluster.metadata(Some(&names), false).await {
            Ok(topics) => break topics,
            Err(error) => retry.after(error).await?,
        }
    };
    let topics: HashMap<String, _> = topics.into_iter().filter_map(|(name, topic)| Some((name, topic.ok()?))).collect();
    let exists = |of: &TopicPartition| {
        let topic: Option<&TopicInfo> = topics.get(&*of.topic);
        topic.is_some_and(|topic| (0..topic.partitions.len() as PartitionId).contains(&of.partition))
    };
    let partitions: Vec<TopicPartition> = partitions.into_iter().filter(exists).collect();
    for (of, bounds) in cluster.bounds_of_each(&partitions, Isolation::Uncommitted, PATIENCE).await {
        let bounds = bounds.map_err(|error| {
            let is_same = |other: &Error| match error.code() {
                Some(code) => other.code() == Some(code),
                None => other.to_string() == error.to_string(),
            };
            if !errors.iter().any(is_same) {
                errors.push(error);
            }
        });
        found.insert(of, bounds.ok());
    }
    Ok((found, errors))
}
