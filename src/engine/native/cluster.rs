//! Who leads what: brokers, topics, leaders and coordinators, and a connection to each broker in use.

use super::net::{Connection, OldBroker, Opened, Retry, Secured};
use crate::engine::{OffsetAt, Options, no_such_partition};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{BrokerId as Broker, LeaderEpoch, Node, Offset, TopicPartition, by_topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, BrokerId, GroupId, ListOffsetsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

/// A topic that stays unknown for so many times `retry.backoff.ms` does not exist.
const UNKNOWN_BACKOFFS: u32 = 5;

/// What has a coordinator; the numbers are FindCoordinator's key types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Coordinated {
    Group = 0,
    Transaction = 1,
}

impl Coordinated {
    fn subject(self, key: &str) -> Subject {
        match self {
            Self::Group => Subject::Group(key.to_owned()),
            Self::Transaction => Subject::TransactionalId(key.to_owned()),
        }
    }
}

/// A topic as metadata tells it.
#[derive(Debug, Clone)]
pub(super) struct TopicInfo {
    pub(super) name: Arc<str>,
    /// Nil before Kafka 2.8 (KIP-516).
    pub(super) id: Uuid,
    pub(super) internal: bool,
    /// By partition number.
    pub(super) partitions: Vec<PartitionInfo>,
}

/// A topic's name, and what metadata tells of it.
pub(super) type TopicAnswer = (String, std::result::Result<TopicInfo, ResponseError>);

/// An offset of each partition.
pub(super) type OffsetsBy = HashMap<TopicPartition, Offset>;

/// A partition as metadata tells it.
#[derive(Debug, Clone)]
pub(super) struct PartitionInfo {
    /// Broker id; `None` while there is none.
    pub(super) leader: Option<i32>,
    /// Brokers before Kafka 2.1 do not tell it.
    pub(super) leader_epoch: Option<LeaderEpoch>,
    /// The preferred leader comes first.
    pub(super) replicas: Vec<i32>,
    /// Those in sync.
    pub(super) in_sync: Vec<i32>,
}

/// What a connection is used for: a broker answers the requests of one in turn, so that whatever waits there, like a
/// fetch for records or a member for the others, holds up all that comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Main,
    Fetch,
    Membership,
}

/// A connection in use or not yet made. The lock is held while connecting, so that it is made once.
type Slot = Arc<AsyncMutex<Option<Arc<Connection>>>>;

/// The cluster as it is known.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) options: Options,
    secured: Secured,
    state: Mutex<State>,
    /// To whoever of the bootstrap list answered.
    bootstrap: Slot,
}

#[derive(Debug, Default)]
struct State {
    /// `host:port` by broker id.
    brokers: HashMap<i32, String>,
    slots: HashMap<(i32, Lane), Slot>,
    /// Of groups and transactional ids, as far as they were asked for.
    coordinators: HashMap<(Coordinated, String), i32>,
}

/// What was found at the bootstrap addresses.
pub(super) enum Found {
    Modern(Box<Cluster>),
    Old(OldBroker),
}

impl Cluster {
    /// Connects to the first of the bootstrap list that answers.
    pub(super) async fn connect(options: Options) -> Result<Found> {
        let secured = Secured::prepare(&options)?;
        Ok(match bootstrap(&options, &secured).await? {
            Opened::Modern(connection) => Found::Modern(Box::new(Self {
                options,
                secured,
                state: Mutex::default(),
                bootstrap: Arc::new(AsyncMutex::new(Some(connection))),
            })),
            Opened::Old(reason) => Found::Old(reason),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker as messages name it.
    pub(super) fn node(&self, broker: i32) -> Node {
        let address = self.state().brokers.get(&broker).map(|address| address.as_str().into());
        Node { id: Some(Broker(broker)), address: address.unwrap_or_else(|| "".into()) }
    }

    /// The brokers that are up, and the controller: metadata without topics.
    pub(super) async fn nodes(&self) -> Result<MetadataResponse> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let ask = || async {
            let connection = self.any().await?;
            let response = connection.request(&request).await?;
            self.learn_brokers(&response);
            // Without any it has just started, and its controller has not told it anything yet.
            let none = response.brokers.is_empty();
            if none { Err(Error::NoBrokers(connection.node().clone())) } else { Ok(response) }
        };
        self.retry().run(ask).await
    }

    /// The ids of all brokers that are up, in order.
    pub(super) async fn brokers(&self) -> Result<Vec<i32>> {
        let mut ids: Vec<i32> = self.nodes().await?.brokers.iter().map(|broker| broker.node_id.0).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether metadata has told of a broker.
    pub(super) fn knows(&self, id: i32) -> bool {
        self.state().brokers.contains_key(&id)
    }

    /// The main connection to a broker, made if need be.
    pub(super) async fn broker(&self, id: i32) -> Result<Arc<Connection>> {
        self.broker_on(id, Lane::Main).await
    }

    /// The connection to a broker that is used for `lane`, made if need be.
    pub(super) async fn broker_on(&self, id: i32, lane: Lane) -> Result<Arc<Connection>> {
        let (slot, node) = {
            let mut state = self.state();
            let Some(address) = state.brokers.get(&id) else { return Err(Error::UnknownBroker(Broker(id))) };
            let node = Node { id: Some(Broker(id)), address: address.as_str().into() };
            (state.slots.entry((id, lane)).or_default().clone(), node)
        };
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|c| c.is_open()) {
            return Ok(open.clone());
        }
        match Connection::open(&node, &self.options, &self.secured).await? {
            Opened::Modern(connection) => Ok(slot.insert(connection).clone()),
            Opened::Old(old) => Err(old.into()),
        }
    }

    /// A connection to any broker: one that is open, else a known broker, else the bootstrap list.
    pub(super) async fn any(&self) -> Result<Arc<Connection>> {
        let (slots, known): (Vec<Slot>, Vec<i32>) = {
            let state = self.state();
            let main = state.slots.iter().filter(|((_, lane), _)| *lane == Lane::Main);
            (main.map(|(_, slot)| slot.clone()).collect(), state.brokers.keys().copied().collect())
        };
        for slot in slots {
            // A slot that is locked is being connected: not open now.
            if let Ok(Some(open)) = slot.try_lock().map(|slot| slot.clone().filter(|c| c.is_open())) {
                return Ok(open);
            }
        }
        let mut first = self.bootstrap.lock().await;
        if let Some(open) = first.as_ref().filter(|c| c.is_open()) {
            return Ok(open.clone());
        }
        for id in known {
            if let Ok(connection) = self.broker(id).await {
                return Ok(connection);
            }
        }
        match bootstrap(&self.options, &self.secured).await? {
            Opened::Modern(connection) => Ok(first.insert(connection).clone()),
            Opened::Old(old) => Err(old.into()),
        }
    }

    /// Topics as the cluster tells them now; errors a topic as Kafka's code. `None` is all topics.
    pub(super) async fn metadata(&self, names: Option<&[&str]>, create: bool) -> Result<Vec<TopicAnswer>> {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(names.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(create);
        let response = self.any().await?.request(&request).await?;
        self.learn_brokers(&response);
        Ok(response.topics.iter().map(topic_info).collect())
    }

    pub(super) fn learn_brokers(&self, response: &MetadataResponse) {
        let mut state = self.state();
        for broker in &response.brokers {
            let address = format!("{}:{}", broker.host, broker.port);
            let id = broker.node_id.0;
            if state.brokers.insert(id, address.clone()).is_some_and(|old| old != address) {
                state.slots.retain(|(of, _), _| *of != id); // it moved: the connections lead to the old place
            }
        }
    }

    /// The topics of `names`. Waits for those that the brokers are only creating and for leaders, but not for long: a
    /// topic that stays without leaders is returned as it is.
    ///
    /// # Errors
    /// A topic does not exist, or is denied.
    pub(super) async fn topics(&self, names: &[&str], create: bool) -> Result<Vec<TopicInfo>> {
        let began = Instant::now();
        let deadline = began + self.options.request_timeout;
        let settled_at = began + self.options.retry_backoff.saturating_mul(UNKNOWN_BACKOFFS);
        let ask = || async {
            let answer = self.metadata(Some(names), create).await?;
            let failed = answer.iter().find_map(|(name, topic)| Some((name, *topic.as_ref().err()?)));
            let now = Instant::now();
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

    /// The broker that coordinates a group or a transactional id; asked for once, until it is forgotten.
    pub(super) async fn coordinator(&self, of: Coordinated, key: &str) -> Result<i32> {
        if let Some(known) = self.state().coordinators.get(&(of, key.to_owned())) {
            return Ok(*known);
        }
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(of as i8);
        let ask = || async {
            // From v4 on it asks for several at once (KIP-699); one is all we need.
            let response = self.any().await?.request_capped(&request, 3).await?;
            let Some(code) = error_code(response.error_code) else { return Ok(response) };
            let detail = response.error_message.map(|text| text.to_string()).filter(|text| !text.is_empty());
            Err(Error::Kafka { action: Action::FindCoordinator, subject: of.subject(key), code, detail })
        };
        let response = self.retry().run(ask).await?;
        let id = response.node_id.0;
        let mut state = self.state();
        state.brokers.entry(id).or_insert_with(|| format!("{}:{}", response.host, response.port));
        state.coordinators.insert((of, key.to_owned()), id);
        Ok(id)
    }

    /// The connection to that broker that is used for `lane`.
    pub(super) async fn coordinator_on(&self, of: Coordinated, key: &str, lane: Lane) -> Result<Arc<Connection>> {
        self.broker_on(self.coordinator(of, key).await?, lane).await
    }

    /// Has the coordinator looked up anew, for it moved or does not answer.
    pub(super) fn forget_coordinator(&self, of: Coordinated, key: &str) {
        self.state().coordinators.remove(&(of, key.to_owned()));
    }

    /// Asks the coordinator of `key`, in no newer version than `cap`, again while it moves or loads; `refusal` finds
    /// the error in an answer.
    ///
    /// # Errors
    /// One that no retry mends, or the last when `retry` ends.
    pub(super) async fn ask_coordinator<R: Request>(
        &self,
        of: Coordinated,
        key: &str,
        request: &R,
        cap: i16,
        retry: Retry,
        refusal: impl Fn(&R::Response) -> Option<Error>,
    ) -> Result<R::Response> {
        let ask = || async {
            let answer = async {
                let response = self.coordinator_on(of, key, Lane::Main).await?.request_capped(request, cap).await?;
                refusal(&response).map_or(Ok(response), Err)
            };
            answer.await.inspect_err(|error| {
                if error.is_transient() {
                    self.forget_coordinator(of, key);
                }
            })
        };
        retry.run(ask).await
    }

    /// Trying again for as long as a leader or coordinator may take to move: four request timeouts.
    pub(super) fn retry(&self) -> Retry {
        Retry::until(Instant::now() + self.options.request_timeout.saturating_mul(4), &self.options)
    }

    /// The offset of each partition at `at`; -1 where no record is so late. Retries while leaders move, up to four request timeouts.
    ///
    /// # Errors
    /// A partition does not exist, is denied, or has no leader for too long.
    pub(super) async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        committed: bool,
    ) -> Result<OffsetsBy> {
        let mut found = HashMap::new();
        let mut retry = self.retry();
        loop {
            let missing: Vec<_> = partitions.iter().filter(|p| !found.contains_key(*p)).cloned().collect();
            if missing.is_empty() {
                retry.ended();
                return Ok(found);
            }
            let before = found.len();
            let asked = self.list_offsets_once(&missing, at, committed, &mut found).await;
            if found.len() > before {
                retry.progressed();
            }
            match asked {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => retry.after(error).await?,
            }
        }
    }

    /// First offset and next offset of each partition; with `committed`, the next that readers of committed records
    /// can come to.
    ///
    /// # Errors
    /// As [`Cluster::list_offsets`].
    pub(super) async fn bounds(
        &self,
        partitions: &[TopicPartition],
        committed: bool,
    ) -> Result<(OffsetsBy, OffsetsBy)> {
        let first = self.list_offsets(partitions, OffsetAt::Earliest, committed).await?;
        Ok((first, self.list_offsets(partitions, OffsetAt::Latest, committed).await?))
    }

    /// Partitions by their leaders; and one of those without a leader.
    async fn leaders(
        &self,
        wanted: &[TopicPartition],
    ) -> Result<(BTreeMap<i32, Vec<TopicPartition>>, Option<TopicPartition>)> {
        let mut names: Vec<&str> = wanted.iter().map(|of| &*of.topic).collect();
        names.sort_unstable();
        names.dedup();
        let topics = self.topics(&names, false).await?;
        let topics: HashMap<&str, &TopicInfo> = topics.iter().map(|info| (&*info.name, info)).collect();
        let (mut led, mut leaderless) = (BTreeMap::<i32, Vec<TopicPartition>>::new(), None);
        for of in wanted {
            let partitions = topics.get(&*of.topic).map_or(&[][..], |info| &info.partitions);
            let Some(info) = partitions.get(of.partition as usize) else {
                return Err(no_such_partition(of, partitions.len()));
            };
            match info.leader {
                None => leaderless = Some(of.clone()),
                Some(leader) => led.entry(leader).or_default().push(of.clone()),
            }
        }
        Ok((led, leaderless))
    }

    /// Partitions by their leaders.
    ///
    /// # Errors
    /// One does not exist, or has no leader.
    pub(super) async fn by_leader(&self, wanted: &[TopicPartition]) -> Result<BTreeMap<i32, Vec<TopicPartition>>> {
        match self.leaders(wanted).await? {
            (led, None) => Ok(led),
            (_, Some(of)) => Err(leaderless(of)),
        }
    }

    /// As [`Cluster::list_offsets`], without a retry: adds what is known to `found`, and returns an error of a partition
    /// that is not.
    pub(super) async fn list_offsets_once(
        &self,
        wanted: &[TopicPartition],
        at: OffsetAt,
        committed: bool,
        found: &mut OffsetsBy,
    ) -> Result<Option<Error>> {
        let (led, without) = self.leaders(wanted).await?;
        let mut failed = without.map(leaderless);
        for (leader, partitions) in led {
            let mut unanswered: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
            let topics = by_topic(partitions.into_iter().map(|of| (of, ()))).into_iter().map(|(name, partitions)| {
                let entry = |(partition, ())| {
                    ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(at.to_wire())
                };
                ListOffsetsTopic::default()
                    .with_name(topic_name(&name))
                    .with_partitions(partitions.into_iter().map(entry).collect())
            });
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(committed))
                .with_timeout_ms(self.options.request_timeout.as_millis() as i32)
                .with_topics(topics.collect());
            let connection = self.broker(leader).await?;
            let response = connection.request(&request).await?;
            for topic in response.topics {
                let name: Arc<str> = topic.name.as_str().into();
                for partition in topic.partitions {
                    let of = TopicPartition::new(name.clone(), partition.partition_index);
                    unanswered.remove(&of);
                    match error_code(partition.error_code) {
                        None => drop(found.insert(of, partition.offset)),
                        Some(code) => failed = Some(Error::kafka(Action::LookUp, of, code)),
                    }
                }
            }
            if let Some(of) = unanswered.first() {
                let (node, api) = (connection.node().clone(), ApiKey::ListOffsets);
                failed = Some(Error::Malformed { node, api, why: format!("it lacks {of}") });
            }
        }
        Ok(failed)
    }
}

fn leaderless(of: TopicPartition) -> Error {
    Error::kafka(Action::LookUp, of, ResponseError::LeaderNotAvailable)
}

/// Text as the schemas want it.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as the schemas want it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A group's id as the schemas want it.
pub(super) fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

fn topic_info(topic: &MetadataResponseTopic) -> TopicAnswer {
    let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    if let Some(code) = error_code(topic.error_code) {
        return (name, Err(code));
    }
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
    let mut partitions: Vec<_> = topic.partitions.iter().collect();
    partitions.sort_by_key(|p| p.partition_index);
    let partitions = partitions.into_iter().map(|p| PartitionInfo {
        leader: (p.leader_id.0 >= 0).then_some(p.leader_id.0),
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

async fn bootstrap(options: &Options, secured: &Secured) -> Result<Opened> {
    let mut failures = Vec::new();
    let mut old = None;
    for address in &options.brokers {
        match Connection::open(&Node::bootstrap(address), options, secured).await {
            Ok(modern @ Opened::Modern(_)) => return Ok(modern),
            Ok(Opened::Old(found)) => old = Some(found),
            // The next would say the same.
            Err(error @ (Error::Security(_) | Error::Usage(_))) => return Err(error),
            Err(error) => {
                tracing::info!(error_name = error.name(), %error, "trying the next of the bootstrap brokers");
                failures.push(error);
            }
        }
    }
    match old {
        Some(found) => Ok(Opened::Old(found)),
        None => Err(Error::NoBootstrap(failures)),
    }
}
