//! Looking after groups from outside: listing, describing, their offsets.

use super::super::Client;
use super::super::cluster::{Coordinated, group_id, topic_name};
use super::{messages, offsets};
use crate::engine::{OffsetAt, Offsets, Start};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{Offset, Position, TopicPartition, partitions_by_topic};
use crate::signal::Until;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetDeleteRequest,
    OffsetDeleteResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::task::JoinSet;

/// How many groups are asked for at a time.
const ASKED_AT_A_TIME: usize = 64;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// Kafka's word for it; `None` where brokers before 2.6 do not tell.
    pub state: Option<String>,
    /// `classic`, `consumer`, …; `None` where brokers before 3.8 do not tell.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What its members are: `consumer`, `connect`, …
    pub protocol: String,
}

/// A group with its members.
#[derive(Debug, Clone)]
pub struct DescribedGroup {
    /// Its name.
    pub group: String,
    /// Kafka's word for it.
    pub state: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// How it shares out; empty while it has no members.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its name, when it is a static one.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub host: String,
    /// What it has.
    pub assigned: Vec<TopicPartition>,
}

/// How far a group is in a partition.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What was committed last.
    pub committed: Option<Position>,
    /// Offset of the first record there is.
    pub first: Offset,
    /// Offset the next record will get.
    pub end: Offset,
}

impl Progress {
    /// Records that the group has still to read; all there are, where nothing was committed.
    pub fn lag(&self) -> i64 {
        let from = self.committed.map_or(self.first, |position| position.offset.max(self.first));
        (self.end - from).max(0)
    }
}

/// Looks after groups; the native engine's alone.
#[derive(Debug)]
pub struct GroupAdmin {
    client: Client,
}

impl GroupAdmin {
    /// Looks after the groups of the cluster that `client` is connected to.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// A broker did not answer: its groups would be missing.
    pub fn list(&self) -> Result<Vec<ListedGroup>> {
        self.client.network.run(Until::FirstSignal, async {
            let cluster = &self.client.cluster;
            let mut groups = Vec::new();
            for broker in cluster.brokers().await? {
                let mut retry = cluster.retry();
                let response = loop {
                    let answer = async { cluster.broker(broker).await?.request(&ListGroupsRequest::default()).await };
                    let error = match answer.await {
                        Ok(response) if response.error_code == 0 => break response,
                        Ok(response) => {
                            let code = error_code(response.error_code).unwrap_or(E::UnknownServerError);
                            Error::kafka(Action::ListGroups, Subject::Broker(cluster.node(broker)), code)
                        }
                        Err(error) => error,
                    };
                    retry.after(error).await?;
                };
                let told = |text: &StrBytes| (!text.is_empty()).then(|| text.to_string());
                groups.extend(response.groups.iter().map(|group| ListedGroup {
                    group: group.group_id.to_string(),
                    state: told(&group.group_state),
                    kind: told(&group.group_type).map(|kind| kind.to_lowercase()),
                    protocol: group.protocol_type.to_string(),
                }));
            }
            groups.sort_by(|a, b| a.group.cmp(&b.group));
            groups.dedup();
            Ok(groups)
        })
    }

    /// A group with its members.
    ///
    /// # Errors
    /// There is none of this name, or it is of neither protocol.
    pub fn describe(&self, group: &str) -> Result<DescribedGroup> {
        self.client.network.run(Until::FirstSignal, self.described(group))
    }

    async fn described(&self, group: &str) -> Result<DescribedGroup> {
        match self.describe_kip848(group).await? {
            Some(described) => Ok(described),
            None => self.describe_classic(group).await,
        }
    }

    /// `None`: it is none of KIP-848's, or the brokers know none.
    async fn describe_kip848(&self, group: &str) -> Result<Option<DescribedGroup>> {
        let cluster = &self.client.cluster;
        let coordinator = cluster.coordinator(Coordinated::Group, group).await?;
        if cluster.broker(coordinator).await?.version::<ConsumerGroupDescribeRequest>(i16::MAX).is_err() {
            return Ok(None);
        }
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
        let foreign = [E::GroupIdNotFound, E::UnsupportedVersion];
        let refusal = |response: &<ConsumerGroupDescribeRequest as Request>::Response| {
            let code = error_code(response.groups.first()?.error_code).filter(|code| !foreign.contains(code))?;
            Some(Error::kafka(Action::LookUp, Subject::group_named(group), code))
        };
        let retry = cluster.retry();
        let response = cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, retry, refusal).await?;
        let Some(found) = response.groups.into_iter().find(|group| group.error_code == 0) else { return Ok(None) };
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
            kind: "consumer",
            assignor: found.assignor_name.to_string(),
            coordinator,
            members: members.collect(),
        }))
    }

    async fn describe_classic(&self, group: &str) -> Result<DescribedGroup> {
        let cluster = &self.client.cluster;
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let refusal = |response: &<DescribeGroupsRequest as Request>::Response| {
            let code = error_code(response.groups.first()?.error_code)?;
            Some(Error::kafka(Action::LookUp, Subject::group_named(group), code))
        };
        // Up to version 5 a group that there is not is a dead one.
        let response =
            cluster.ask_coordinator(Coordinated::Group, group, &request, 5, cluster.retry(), refusal).await?;
        let found = response.groups.into_iter().find(|group| group.group_state.as_str() != "Dead");
        let Some(found) = found else {
            return Err(Error::kafka(Action::LookUp, Subject::group_named(group), E::GroupIdNotFound));
        };
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
            kind: "classic",
            assignor: found.protocol_data.to_string(),
            coordinator: cluster.coordinator(Coordinated::Group, group).await?,
            members: members.collect(),
        })
    }

    /// What the group has committed.
    ///
    /// # Errors
    /// The coordinator refused, or did not answer.
    pub fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, offsets::CommittedOffset>> {
        self.client.network.run(Until::FirstSignal, offsets::all(&self.client.cluster, group))
    }

    /// How far the group is, in all partitions that it has committed for or that are in `also`.
    ///
    /// # Errors
    /// As [`GroupAdmin::committed`]; or a partition has no leader. Partitions that are gone are left out.
    pub fn progress(&self, group: &str, also: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Progress>> {
        let committed = self.committed(group)?;
        self.client.network.run(Until::FirstSignal, async {
            let cluster = &self.client.cluster;
            let wanted = committed.keys().cloned().chain(also.iter().cloned()).collect();
            let places = self.existing(wanted).await?;
            let (first, end) = cluster.bounds(&places, false).await?;
            let progress = |place: TopicPartition| {
                let committed = committed.get(&place).map(|kept| kept.position);
                let (first, end) = (*first.get(&place)?, *end.get(&place)?);
                Some((place, Progress { committed, first, end }))
            };
            Ok(places.into_iter().filter_map(progress).collect())
        })
    }

    /// How far all groups are that have committed anything, by name.
    ///
    /// # Errors
    /// As [`GroupAdmin::progress`]. A group that goes meanwhile is left out.
    pub fn progress_of_all(&self) -> Result<BTreeMap<String, BTreeMap<TopicPartition, Progress>>> {
        let groups = self.list()?;
        self.client.network.run(Until::FirstSignal, async {
            let cluster = &self.client.cluster;
            let mut committed = BTreeMap::new();
            let mut asking = JoinSet::new();
            let mut left = groups.into_iter();
            loop {
                // So many requests on their way at a time.
                while asking.len() < ASKED_AT_A_TIME
                    && let Some(group) = left.next()
                {
                    let (cluster, name) = (cluster.clone(), group.group);
                    asking.spawn(async move { (offsets::all(&cluster, &name).await, name) });
                }
                match asking.join_next().await {
                    None => break,
                    Some(Ok((Ok(kept), group))) => {
                        committed.insert(group, kept);
                    }
                    Some(Ok((Err(error), _))) => {
                        if error.code() != Some(E::GroupIdNotFound) {
                            return Err(error);
                        }
                    }
                    Some(Err(_)) => return Err(Error::TaskEnded("asking for offsets")),
                }
            }
            let wanted = committed.values().flat_map(BTreeMap::keys).cloned().collect();
            let places = self.existing(wanted).await?;
            let (first, end) = cluster.bounds(&places, false).await?;
            let of_group = |kept: BTreeMap<TopicPartition, offsets::CommittedOffset>| {
                let progress = |(place, kept): (TopicPartition, offsets::CommittedOffset)| {
                    let (first, end) = (*first.get(&place)?, *end.get(&place)?);
                    Some((place, Progress { committed: Some(kept.position), first, end }))
                };
                kept.into_iter().filter_map(progress).collect()
            };
            Ok(committed.into_iter().map(|(group, kept)| (group, of_group(kept))).collect())
        })
    }

    /// Those that there are, in order.
    async fn existing(&self, mut wanted: Vec<TopicPartition>) -> Result<Vec<TopicPartition>> {
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let mut names: Vec<&str> = wanted.iter().map(|of| &*of.topic).collect();
        names.dedup();
        let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
        for (_, topic) in self.client.cluster.metadata(Some(&names), false).await? {
            if let Ok(topic) = topic {
                counts.insert(topic.name, topic.partitions.len());
            }
        }
        let there =
            |place: &TopicPartition| counts.get(&place.topic).is_some_and(|count| (place.partition as usize) < *count);
        let is_there: Vec<bool> = wanted.iter().map(there).collect();
        let mut is_there = is_there.into_iter();
        wanted.retain(|_| is_there.next().unwrap_or(false));
        Ok(wanted)
    }

    /// All partitions of a topic.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        let topics = self.client.network.run(Until::FirstSignal, self.client.cluster.topics(&[topic], false))?;
        let all = topics
            .into_iter()
            .flat_map(|t| (0..t.partitions.len()).map(move |p| TopicPartition::new(t.name.clone(), p as i32)));
        Ok(all.collect())
    }

    /// The offset of `to` in each of `places`; `None` for what `to` cannot say.
    ///
    /// # Errors
    /// A partition does not exist, or has no leader.
    pub fn offsets(&self, places: &[TopicPartition], to: Start) -> Result<HashMap<TopicPartition, Offset>> {
        let cluster = &self.client.cluster;
        self.client.network.run(Until::FirstSignal, async {
            Ok(match to {
                Start::Beginning => cluster.list_offsets(places, OffsetAt::Earliest, false).await?,
                Start::Time(time) => {
                    let mut found = cluster.list_offsets(places, OffsetAt::Time(time), false).await?;
                    // -1: nothing is so late, so the end is meant.
                    let end = cluster.list_offsets(places, OffsetAt::Latest, false).await?;
                    for (place, offset) in found.iter_mut().filter(|(_, offset)| **offset < 0) {
                        *offset = end.get(place).copied().unwrap_or(0);
                    }
                    found
                }
                _ => cluster.list_offsets(places, OffsetAt::Latest, false).await?,
            })
        })
    }

    /// Sets the group's offsets.
    ///
    /// # Errors
    /// It has members, or the coordinator refused.
    pub fn set(&self, group: &str, to: &Offsets) -> Result<()> {
        self.client.network.run(Until::FirstSignal, offsets::commit(&self.client.cluster, group, to))
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// There is none of this name, or it has members.
    pub fn delete(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let refusal = |response: &<DeleteGroupsRequest as Request>::Response| {
            let code = error_code(response.results.first()?.error_code)?;
            Some(Error::kafka(Action::DeleteGroup, Subject::group_named(group), code))
        };
        let cluster = &self.client.cluster;
        let deleted = cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, cluster.retry(), refusal);
        self.client.network.run(Until::FirstSignal, deleted).map(drop)
    }

    /// Deletes the group's offsets of `places`.
    ///
    /// # Errors
    /// The group is not there, or a member reads one of the topics.
    pub fn delete_offsets(&self, group: &str, places: &[TopicPartition]) -> Result<()> {
        let entry = |partition| OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let topics = partitions_by_topic(places.iter().cloned()).into_iter().map(|(topic, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(partitions.into_iter().map(entry).collect())
        });
        let request = OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
        let refusal = |response: &OffsetDeleteResponse| {
            let failed = |subject, code| Some(Error::kafka(Action::DeleteOffsets, subject, error_code(code)?));
            failed(Subject::group_named(group), response.error_code).or_else(|| {
                response.topics.iter().find_map(|topic| {
                    topic.partitions.iter().find_map(|partition| {
                        let of = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        let subject = Subject::GroupPartition { group: group.to_owned(), partition: of };
                        failed(subject, partition.error_code)
                    })
                })
            })
        };
        let cluster = &self.client.cluster;
        let deleted = cluster.ask_coordinator(Coordinated::Group, group, &request, i16::MAX, cluster.retry(), refusal);
        self.client.network.run(Until::FirstSignal, deleted).map(drop)
    }
}
