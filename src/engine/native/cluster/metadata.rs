//! Topics, leaders and brokers, as Metadata answers.

use super::{Asked, Cluster, topic_name};
use crate::engine::native::net::{Connection, clock};
use crate::engine::no_such_partition;
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{BrokerId, LeaderEpoch, Node, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{ApiKey, BrokerId as WireBrokerId, MetadataRequest, MetadataResponse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// A topic that stays unknown for so many times `retry.backoff.ms` does not exist.
const UNKNOWN_BACKOFFS: u32 = 5;

/// A topic as metadata describes it.
#[derive(Debug, Clone)]
pub(in crate::engine::native) struct TopicInfo {
    pub(in crate::engine::native) name: Arc<str>,
    /// Nil before Kafka 2.8 (KIP-516).
    pub(in crate::engine::native) id: Uuid,
    pub(in crate::engine::native) internal: bool,
    /// By partition number.
    pub(in crate::engine::native) partitions: Vec<PartitionInfo>,
}

/// An answer to Metadata.
#[derive(Debug)]
pub(in crate::engine::native) struct Described {
    pub(in crate::engine::native) topics: Vec<TopicAnswer>,
    /// The broker that answered; `None` of an address of the bootstrap list.
    pub(in crate::engine::native) by: Option<BrokerId>,
    /// How many brokers it lists.
    pub(in crate::engine::native) brokers: usize,
}

/// A topic's name, and what metadata answers for it.
pub(in crate::engine::native) type TopicAnswer = (String, std::result::Result<TopicInfo, ResponseError>);

/// A partition as metadata describes it.
#[derive(Debug, Clone)]
pub(in crate::engine::native) struct PartitionInfo {
    /// Broker id; `None` while there is none.
    pub(in crate::engine::native) leader: Option<BrokerId>,
    /// `None` before Kafka 2.1.
    pub(in crate::engine::native) leader_epoch: Option<LeaderEpoch>,
    /// The preferred leader comes first.
    pub(in crate::engine::native) replicas: Vec<BrokerId>,
    /// Those in sync.
    pub(in crate::engine::native) in_sync: Vec<BrokerId>,
}

impl Cluster {
    /// The brokers that are up, and the controller: metadata without topics.
    pub(in crate::engine::native) async fn nodes(&self) -> Result<MetadataResponse> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let ask = || async {
            let (response, connection) = self.ask_any(&request, i16::MAX).await?;
            check_brokers(&response, &connection)?;
            self.learn_brokers(&response);
            // Without any it has just started, and its controller has not told it anything yet.
            let none = response.brokers.is_empty();
            if none { Err(Error::NoBrokers(connection.node().clone())) } else { Ok(response) }
        };
        self.retry().run(ask).await
    }

    /// The ids of all brokers that are up, in order.
    pub(in crate::engine::native) async fn brokers(&self) -> Result<Vec<BrokerId>> {
        let mut ids: Vec<BrokerId> =
            self.nodes().await?.brokers.iter().map(|broker| BrokerId(broker.node_id.0)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Topics as the cluster describes them now, each with an answer of its own; asks once. `None` is all topics.
    ///
    /// # Errors
    /// No broker answers, or not what was asked.
    pub(in crate::engine::native) async fn metadata(
        &self,
        names: Option<&[&str]>,
        create: bool,
    ) -> Result<Vec<TopicAnswer>> {
        Ok(self.described(names, create).await?.topics)
    }

    /// Topics as another broker describes them than the one that was asked last.
    ///
    /// # Errors
    /// No broker answers, or not what was asked.
    pub(in crate::engine::native) async fn refreshed(&self, names: Option<&[&str]>) -> Result<Described> {
        self.ask_next();
        self.described(names, false).await
    }

    /// [`Cluster::metadata`] with where it comes from.
    ///
    /// # Errors
    /// As there.
    pub(in crate::engine::native) async fn described(&self, names: Option<&[&str]>, create: bool) -> Result<Described> {
        let names: Option<BTreeSet<&str>> = names.map(|names| names.iter().copied().collect());
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(names.as_ref().map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(create);
        let (response, connection) = self.ask_any(&request, i16::MAX).await?;
        check_brokers(&response, &connection)?;
        let topics = read_topics(names, &response, &connection)?;
        self.learn_brokers(&response);
        self.learn_leaders(&topics);
        Ok(Described { topics, by: connection.node().id, brokers: response.brokers.len() })
    }

    fn learn_leaders(&self, topics: &[TopicAnswer]) {
        let mut state = self.state();
        for info in topics.iter().filter_map(|(_, topic)| topic.as_ref().ok()) {
            let leaders: Vec<Option<BrokerId>> = info.partitions.iter().map(|partition| partition.leader).collect();
            let before = state.leaders.insert(info.name.clone(), leaders.clone()).unwrap_or_default();
            let moved = before.into_iter().zip(leaders).filter(|(before, leader)| before != leader);
            for (left, _) in moved {
                state.left_at.extend(left.map(|broker| (broker, clock::now())));
            }
        }
    }

    pub(super) fn learn_brokers(&self, response: &MetadataResponse) {
        let mut state = self.state();
        for broker in &response.brokers {
            let address = format!("{}:{}", broker.host, broker.port);
            let id = BrokerId(broker.node_id.0);
            if state.brokers.insert(id, address.clone()).is_some_and(|old| old != address) {
                state.slots.retain(|(of, _), _| *of != id); // it moved: the connections lead to the old address
            }
        }
    }

    /// The topics of `names`. Waits for those that the brokers are only creating and for leaders, but not for long: a
    /// topic that stays without leaders is returned as it is.
    ///
    /// # Errors
    /// A topic does not exist, or is denied.
    pub(in crate::engine::native) async fn topics(&self, names: &[&str], create: bool) -> Result<Vec<TopicInfo>> {
        let began = clock::now();
        let deadline = began + self.options.settle_limit();
        let settled_at = began + self.options.retry_backoff.saturating_mul(UNKNOWN_BACKOFFS);
        let ask = || async {
            let answer = self.metadata(Some(names), create).await?;
            let failed = answer.iter().find_map(|(name, topic)| Some((name, *topic.as_ref().err()?)));
            let now = clock::now();
            let is_last = now >= deadline;
            if let Some((name, code)) = failed {
                let error = Error::kafka(Action::LookUp, Subject::topic_named(name), code);
                // A topic just created, by us or on first use, is unknown for a moment.
                let settled = !create && code == ResponseError::UnknownTopicOrPartition && now >= settled_at;
                return if is_last || settled { Ok(Err(error)) } else { Err(error) };
            }
            let leaderless = |info: &TopicInfo| info.partitions.iter().all(|p| p.leader.is_none());
            let found: Vec<TopicInfo> = answer.into_iter().filter_map(|(_, topic)| topic.ok()).collect();
            match found.iter().find(|info| leaderless(info)) {
                Some(info) if !is_last => {
                    let subject = Subject::topic_named(&info.name);
                    Err(Error::kafka(Action::LookUp, subject, ResponseError::LeaderNotAvailable))
                }
                _ => Ok(Ok(found)),
            }
        };
        self.retry().run(ask).await?
    }

    /// Partitions by their leaders.
    ///
    /// # Errors
    /// One does not exist, or has no leader.
    pub(in crate::engine::native) async fn by_leader(
        &self,
        wanted: &[TopicPartition],
    ) -> Result<BTreeMap<BrokerId, Vec<TopicPartition>>> {
        let (led, leaderless) = self.by_leader_each(wanted).await?;
        leaderless.into_iter().next().map_or(Ok(led), Err)
    }

    /// Partitions by their leaders, and why some have none.
    ///
    /// # Errors
    /// A topic does not exist.
    pub(in crate::engine::native) async fn by_leader_each(
        &self,
        wanted: &[TopicPartition],
    ) -> Result<(BTreeMap<BrokerId, Vec<TopicPartition>>, Vec<Error>)> {
        let topics = self.topics(&names(wanted), false).await?;
        let topics: BTreeMap<&str, &TopicInfo> = topics.iter().map(|info| (&*info.name, info)).collect();
        let (mut led, mut leaderless) = (BTreeMap::<BrokerId, Vec<TopicPartition>>::new(), Vec::new());
        for of in wanted {
            match leader(of, topics.get(&*of.topic).copied()) {
                Ok(leader) => led.entry(leader).or_default().push(of.clone()),
                Err(error) => leaderless.push(error),
            }
        }
        Ok((led, leaderless))
    }
}

/// The topics of `partitions`, each once.
pub(super) fn names(partitions: &[TopicPartition]) -> Vec<&str> {
    let mut names: Vec<&str> = partitions.iter().map(|of| &*of.topic).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The leader of a partition of `topic`.
///
/// # Errors
/// There is no such partition, or it has no leader.
pub(super) fn leader(of: &TopicPartition, topic: Option<&TopicInfo>) -> Result<BrokerId> {
    let partitions = topic.map_or(&[][..], |info| &info.partitions);
    let info = usize::try_from(of.partition).ok().and_then(|index| partitions.get(index));
    let info = info.ok_or_else(|| no_such_partition(of, partitions.len()))?;
    info.leader.ok_or_else(|| Error::kafka(Action::LookUp, of, ResponseError::LeaderNotAvailable))
}

/// Checks that brokers have ids of their own, and addresses.
fn check_brokers(response: &MetadataResponse, connection: &Connection) -> Result<()> {
    let mut ids = BTreeSet::new();
    for broker in &response.brokers {
        let (id, host, port) = (broker.node_id.0, broker.host.as_str(), broker.port);
        if !Node::can_be(id, host, port) || !ids.insert(id) {
            let why = format!("broker {id} at {host:?}, port {port}, is invalid or listed twice");
            return Err(connection.malformed::<MetadataRequest>(&why));
        }
    }
    Ok(())
}

/// The topics of an answer, held against the `names` that were asked for.
fn read_topics(
    names: Option<BTreeSet<&str>>,
    response: &MetadataResponse,
    connection: &Connection,
) -> Result<Vec<TopicAnswer>> {
    let topics = &response.topics;
    let topic_names = topics.iter().map(|topic| topic.name.as_ref().map_or("", |name| name.as_str()));
    let asked = names.unwrap_or_else(|| topic_names.clone().collect());
    let mut asked = Asked::new(connection, ApiKey::Metadata, asked);
    for (name, topic) in topic_names.zip(topics) {
        asked.answered(&name)?;
        let mut indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        indexes.sort_unstable();
        if topic.error_code == 0 && indexes.is_empty() {
            return Err(asked.malformed(format_args!("topic {name} has no partitions")));
        }
        if !indexes.into_iter().eq(0..topic.partitions.len() as i32) {
            return Err(asked.malformed(format_args!("the partitions of topic {name} are not numbered from 0 on")));
        }
    }
    asked.complete()?;
    Ok(topics.iter().map(topic_info).collect())
}

fn topic_info(topic: &MetadataResponseTopic) -> TopicAnswer {
    let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    if let Some(code) = error_code(topic.error_code) {
        return (name, Err(code));
    }
    let ids = |brokers: &[WireBrokerId]| brokers.iter().map(|id| BrokerId(id.0)).collect();
    let mut partitions: Vec<_> = topic.partitions.iter().collect();
    partitions.sort_by_key(|p| p.partition_index);
    let partitions = partitions.into_iter().map(|p| PartitionInfo {
        leader: BrokerId::from_wire(p.leader_id.0),
        leader_epoch: LeaderEpoch::from_wire(p.leader_epoch),
        replicas: ids(&p.replica_nodes),
        in_sync: ids(&p.isr_nodes),
    });
    let info = TopicInfo {
        name: name.as_str().into(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions: partitions.collect(),
    };
    (name, Ok(info))
}
