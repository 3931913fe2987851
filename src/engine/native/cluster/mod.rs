//! Who leads what: brokers, topics, leaders and coordinators, and a connection to each broker in use.
//!
//! This file holds the connections; [`metadata`] asks for topics and brokers, [`coordinators`] for coordinators,
//! [`offsets`] for a partition's offsets, and [`asked`] holds answers against what was asked.

mod asked;
mod coordinators;
mod metadata;
mod offsets;
mod suspects;

pub(super) use asked::{Asked, answer_to, answers_in_order, answers_to, of_topic};
pub(super) use coordinators::Coordinated;
pub(super) use metadata::{Described, PartitionInfo, TopicAnswer, TopicInfo};
pub(super) use offsets::{Listed, join_all};

use super::net::{Connection, Dialer, OldBroker, Opened, Retry, clock};
use crate::engine::Options;
use crate::error::{Error, Result};
use crate::record::{BrokerId, Node};
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as AsyncMutex;

/// So many brokers are asked in turn for what any of them can answer, before the answer is given up for now.
const ASK_ANY: usize = 3;

/// For so long a broker that was silent is asked after all others.
const AVOID_SILENT: Duration = Duration::from_secs(30);

/// What a connection is used for: a broker answers the requests of one in turn, so that whatever waits there, like a
/// fetch for records or a member for the others, holds up all that comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    dialer: Dialer,
    state: Mutex<State>,
    /// To the one of the bootstrap list that answered.
    bootstrap: Slot,
    /// Whether a broker was reached where metadata says it is.
    advertised_reached: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// `host:port` by broker id.
    brokers: BTreeMap<BrokerId, String>,
    slots: BTreeMap<(BrokerId, Lane), Slot>,
    /// Of groups and transactional ids, as far as they were asked for.
    coordinators: BTreeMap<(Coordinated, String), BrokerId>,
    /// The leaders of each topic's partitions, as last heard.
    leaders: BTreeMap<Arc<str>, Vec<Option<BrokerId>>>,
    /// Addresses whose brokers went silent, and when: they are asked last.
    silent: BTreeMap<Arc<str>, Instant>,
    /// When a partition was last heard to have moved away from a broker.
    left_at: BTreeMap<BrokerId, Instant>,
    /// Brokers whose names do not resolve, as far as that was reported.
    unresolved: Vec<BrokerId>,
    /// The broker to ask for what any of them can answer; `None` for the one that answered first.
    asked: Option<BrokerId>,
}

impl State {
    /// Adds addresses whose brokers are silent; returns all of them, and since when they are known to be.
    fn note_silent(&mut self, addresses: impl IntoIterator<Item = Arc<str>>) -> BTreeMap<Arc<str>, Instant> {
        let now = clock::now();
        self.silent.retain(|_, since| now.duration_since(*since) < AVOID_SILENT);
        for address in addresses {
            self.silent.entry(address).or_insert(now);
        }
        self.silent.clone()
    }
}

/// What was found at the bootstrap addresses.
pub(super) enum Found {
    Modern(Arc<Cluster>),
    Old(OldBroker),
}

impl Cluster {
    /// Connects to the first of the bootstrap list that answers.
    pub(super) async fn connect(options: Options) -> Result<Found> {
        let dialer = Dialer::prepare(&options)?;
        Ok(match bootstrap(&options, &dialer, &BTreeMap::new()).await? {
            Opened::Modern(connection) => {
                let cluster = Arc::new(Self {
                    options,
                    dialer,
                    state: Mutex::default(),
                    bootstrap: Arc::new(AsyncMutex::new(Some(connection))),
                    advertised_reached: AtomicBool::new(false),
                });
                tokio::spawn(suspects::watch(Arc::downgrade(&cluster), cluster.dialer.suspected().clone()));
                Found::Modern(cluster)
            }
            Opened::Old(reason) => Found::Old(reason),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker as messages name it.
    pub(super) fn node(&self, broker: BrokerId) -> Node {
        let address = self.state().brokers.get(&broker).map(|address| address.as_str().into());
        Node { id: Some(broker), address: address.unwrap_or_else(|| "".into()) }
    }

    /// Whether metadata lists a broker.
    pub(super) fn knows(&self, id: BrokerId) -> bool {
        self.state().brokers.contains_key(&id)
    }

    /// The main connection to a broker, made if need be.
    pub(super) async fn broker(&self, id: BrokerId) -> Result<Arc<Connection>> {
        self.broker_on(id, Lane::Main).await
    }

    /// The connection to a broker that is used for `lane`, made if need be.
    pub(super) async fn broker_on(&self, id: BrokerId, lane: Lane) -> Result<Arc<Connection>> {
        let (slot, node) = {
            let mut state = self.state();
            let Some(address) = state.brokers.get(&id) else { return Err(Error::UnknownBroker(id)) };
            let node = Node { id: Some(id), address: address.as_str().into() };
            (state.slots.entry((id, lane)).or_default().clone(), node)
        };
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|c| c.is_open()) {
            return Ok(open.clone());
        }
        match self.dialer.open(&node, &self.options).await {
            Ok(Opened::Modern(connection)) => {
                self.advertised_reached.store(true, Ordering::Relaxed);
                let mut state = self.state();
                state.unresolved.retain(|broker| *broker != id);
                state.silent.remove(&node.address);
                drop(state);
                Ok(slot.insert(connection).clone())
            }
            Ok(Opened::Old(old)) => Err(old.into()),
            Err(Error::Unresolved { .. }) => Err(self.unresolved(id, &node)),
            Err(error) => {
                if error.is_connection() {
                    self.state().note_silent([node.address]);
                }
                Err(error)
            }
        }
    }

    /// A broker advertises a name that does not resolve: reported at once, each time this begins.
    fn unresolved(&self, id: BrokerId, node: &Node) -> Error {
        let error = Error::AdvertisedListener {
            broker: id,
            address: node.address.to_string(),
            bootstrap: self.options.brokers.join(","),
            others_reached: self.advertised_reached.load(Ordering::Relaxed),
        };
        let mut state = self.state();
        if error.is_transient() && !state.unresolved.contains(&id) {
            state.unresolved.push(id);
            tracing::warn!("{error}");
        }
        error
    }

    /// Has another broker asked from now on for what any of them can answer: one that is cut off from the others does
    /// not learn of what changes.
    pub(super) fn ask_next(&self) {
        let bootstrap = self.bootstrap.try_lock().ok().and_then(|slot| Some(slot.as_ref()?.node().address.clone()));
        let mut state = self.state();
        let silent = state.note_silent([]);
        let by_address =
            || state.brokers.iter().find(|(_, address)| bootstrap.as_deref() == Some(address)).map(|(id, _)| *id);
        let last = state.asked.or_else(by_address);
        let mut well: Vec<BrokerId> =
            state.brokers.iter().filter(|(_, at)| !silent.contains_key(&***at)).map(|(id, _)| *id).collect();
        well.sort_unstable();
        let next = well.iter().find(|id| last.is_none_or(|last| **id > last)).or(well.first());
        state.asked = next.copied();
    }

    /// A connection to any broker that is not suspect: the one whose turn it is, else one that is open, else a known
    /// broker, else the bootstrap list.
    pub(super) async fn any(&self) -> Result<Arc<Connection>> {
        let asked = self.state().asked;
        if let Some(id) = asked
            && let Ok(connection) = self.broker(id).await
            && !connection.is_suspect()
        {
            return Ok(connection);
        }
        let (slots, known) = {
            let state = self.state();
            let slots: Vec<(Lane, Slot)> = state.slots.iter().map(|((_, lane), slot)| (*lane, slot.clone())).collect();
            let known: Vec<(BrokerId, String)> =
                state.brokers.iter().map(|(id, address)| (*id, address.clone())).collect();
            (slots, known)
        };
        // A slot that is locked is being connected: not open now.
        let open = |slot: &Slot| slot.try_lock().ok().and_then(|slot| slot.clone()).filter(|c| c.is_open());
        let connections: Vec<_> = slots.iter().filter_map(|(lane, slot)| Some((*lane, open(slot)?))).collect();
        let mut first = self.bootstrap.lock().await;
        // A broker that is silent on one connection is not asked on another.
        let all = connections.iter().map(|(_, connection)| connection).chain(first.as_ref());
        let silent = all.filter(|c| c.is_open() && c.is_suspect()).map(|c| c.node().address.clone());
        let silent = self.state().note_silent(silent);
        let is_well = |connection: &&Arc<Connection>| {
            let since = silent.get(&connection.node().address);
            !connection.is_suspect() && since.is_none_or(|since| connection.last_progress() > *since)
        };
        let mut main = connections.iter().filter(|(lane, _)| *lane == Lane::Main).map(|(_, connection)| connection);
        if let Some(open) = main.find(is_well).or(first.as_ref().filter(|c| c.is_open()).filter(is_well)) {
            return Ok(open.clone());
        }
        for (id, _) in known.iter().filter(|(_, address)| !silent.contains_key(&**address)) {
            if let Ok(connection) = self.broker(*id).await {
                return Ok(connection);
            }
        }
        match bootstrap(&self.options, &self.dialer, &silent).await? {
            Opened::Modern(connection) => Ok(first.insert(connection).clone()),
            Opened::Old(old) => Err(old.into()),
        }
    }

    /// Asks a broker for what any of them can answer, in no newer version than `cap`; another one when it is silent.
    /// Returns the answer and the connection that it came from.
    pub(super) async fn ask_any<R: Request>(&self, request: &R, cap: i16) -> Result<(R::Response, Arc<Connection>)> {
        let mut asked = 0;
        loop {
            let connection = self.any().await?;
            asked += 1;
            match connection.request_or_ask_elsewhere(request, cap).await {
                Err(error @ Error::TimedOut { .. }) if asked < ASK_ANY => {
                    tracing::info!(error_name = error.name(), %error, "asking another broker");
                }
                answer => return Ok((answer?, connection)),
            }
        }
    }

    /// Asks a broker for what no other can answer, again while that may help; `read` takes the answer apart.
    pub(super) async fn ask_broker<R: Request, T>(
        &self,
        id: BrokerId,
        request: &R,
        cap: i16,
        read: impl Fn(R::Response, &Connection) -> Result<T>,
    ) -> Result<T> {
        self.ask_broker_until(self.retry(), self.options.request_timeout, id, request, cap, read).await
    }

    /// [`Cluster::ask_broker`] for one answer of many to a listing, which does not wait for this broker any longer than
    /// `patience`, or than it takes to suspect it.
    pub(super) async fn ask_broker_for<R: Request, T>(
        &self,
        patience: Duration,
        id: BrokerId,
        request: &R,
        cap: i16,
        read: impl Fn(R::Response, &Connection) -> Result<T>,
    ) -> Result<T> {
        let retry = self.retry().until_deadline(clock::now() + patience);
        self.ask_broker_until(retry, self.options.suspect_after(), id, request, cap, read).await
    }

    async fn ask_broker_until<R: Request, T>(
        &self,
        retry: Retry,
        limit: Duration,
        id: BrokerId,
        request: &R,
        cap: i16,
        read: impl Fn(R::Response, &Connection) -> Result<T>,
    ) -> Result<T> {
        let ask = || async {
            let connection = self.broker(id).await?;
            read(connection.request_within(request, cap, limit).await?, &connection)
        };
        retry.run(ask).await
    }

    /// How long to wait for an answer that is of no use after `deadline`; a broker has at least the time after which it
    /// is suspected.
    pub(super) fn time_left(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(clock::now()).max(self.options.suspect_after())
    }

    /// [`Cluster::time_left`], up to the request timeout.
    pub(super) fn request_limit(&self, deadline: Instant) -> Duration {
        self.options.request_timeout.min(self.time_left(deadline))
    }

    /// Repeats a request for as long as a leader or coordinator may take to move.
    pub(super) fn retry(&self) -> Retry {
        Retry::until(clock::now() + self.options.retry_limit(), &self.options)
    }
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

/// Connects to the first of the bootstrap list that answers; those of `silent` are tried last.
async fn bootstrap(options: &Options, dialer: &Dialer, silent: &BTreeMap<Arc<str>, Instant>) -> Result<Opened> {
    let mut failures = Vec::new();
    let mut old = None;
    let (last, first): (Vec<&String>, Vec<&String>) =
        options.brokers.iter().partition(|address| silent.contains_key(address.as_str()));
    for address in first.into_iter().chain(last) {
        match dialer.open(&Node::bootstrap(address), options).await {
            Ok(modern @ Opened::Modern(_)) => return Ok(modern),
            Ok(Opened::Old(found)) => old = Some(found),
            // The next would fail in the same way.
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
