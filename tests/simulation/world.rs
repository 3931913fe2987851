//! One seed: a cluster and its clients in a simulated world, faults for a while, then calm, then judgment.

use super::faults::Storm;
use super::network::Network;
use super::producing::produce;
use super::reading::read;
use super::scenario::{Client, Commit, End, Producing, Reading, Scenario, Topic};
use super::threads::{Thread, wait};
use super::trace::{Trace, note};
use crate::support::history::{Entry, Finding, History, Kind, Log, judge};
use kafka_protocol::messages::ApiKey;
use kpipe::engine::platform::Platform;
use kpipe::engine::security::Security;
use kpipe::engine::{EngineChoice, Observer, Options};
use kpipe::error::Error;
use kpipe::local::{self, Local};
use kpipe::record::{BrokerId, TopicPartition};
use kpipe::signal::Stop;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

/// Broker N listens on this port + N - 1.
pub const FIRST_PORT: u16 = 9001;
/// How long readers may take to read what there is once the cluster is well and nothing more is produced: a member of
/// KIP-848 that was killed counts as alive for 45 s. One that commits each record waits for an answer after each.
const READ_WITHIN: Duration = Duration::from_secs(180);
const COMMIT_WITHIN: Duration = Duration::from_secs(4);
/// How long processes may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long the idle world is watched, and the requests that a client may send in a second of it.
const WATCHED: Duration = Duration::from_secs(4);
const REQUESTS_PER_SECOND: u64 = 40;
/// Bytes of records that the cluster holds.
const RETAIN: usize = 1 << 30;

/// The world as its threads see it; clones are the same.
#[derive(Clone)]
pub struct World {
    pub trace: Trace,
    pub network: Network,
    pub local: Arc<Local>,
    pub began: Instant,
    history: Arc<Mutex<History>>,
}

impl World {
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the calling thread sleep.
    pub fn sleep(&self, time: Duration) {
        wait(sleep(time));
    }

    /// How `client` reaches the cluster; `group` is the one that it commits for.
    pub fn options(&self, client: &Client, group: Option<String>) -> Options {
        Options {
            brokers: self.local.bootstrap().split(',').map(str::to_owned).collect(),
            client_id: client.name.clone(),
            engine: EngineChoice::Native,
            connect_timeout: client.connect_timeout,
            request_timeout: client.request_timeout,
            retry_backoff: client.retry_backoff,
            security: Security::default(),
            observer: Arc::new(Seen { world: self.clone(), name: client.name.clone(), group }),
            platform: Platform::Simulated(self.network.host(&client.name)),
        }
    }

    /// The log of a partition as it is now.
    pub fn log(&self, of: &TopicPartition) -> Log {
        let bytes = self.local.log(&of.topic, of.partition).unwrap_or_default();
        Log::read(of, bytes, self.local.log_start(&of.topic, of.partition).unwrap_or(0))
    }

    /// Notes what a group has committed, as the cluster has it.
    fn note_stored(&self, group: &str) {
        for (of, offset) in self.local.committed(group) {
            self.history().entries.push(Entry::Stored { group: group.to_owned(), of, offset });
        }
    }
}

/// Notes in the trace what a client's engine reports.
struct Seen {
    world: World,
    name: String,
    group: Option<String>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Observer for Seen {
    fn answered(&self, broker: Option<BrokerId>, api: ApiKey, after: Duration) {
        note!(self.world.trace, "{} {api:?} answered by {broker:?} after {after:?}", self.name);
        if let (ApiKey::OffsetCommit, Some(group)) = (api, &self.group) {
            self.world.note_stored(group);
        }
    }

    fn retried(&self, error: &Error) {
        note!(self.world.trace, "{} retries: {error}", self.name);
        // Faults cut answers, and change none.
        if matches!(error, Error::Malformed { .. }) {
            let what = format!("{}: {error}", self.name);
            self.world.history().found.push(Finding { kind: Kind::Misread, what });
        }
    }

    fn commit_failed(&self, error: &Error) {
        note!(self.world.trace, "{} commit failed: {}", self.name, error.name());
    }
}

/// A process of the world.
struct Process {
    name: String,
    stop: Stop,
    end: End,
    ends: Ends,
    task: JoinHandle<()>,
    has_ended: Rc<Cell<bool>>,
}

/// When a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// When it has produced everything.
    Itself,
    /// When it is told to.
    Told,
}

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub findings: Vec<Finding>,
    pub trace: Trace,
    pub simulated: Duration,
    pub records: usize,
}

/// Runs a seed on this thread; keeps its whole trace if `is_traced`.
pub fn run(seed: u64, is_traced: bool) -> Outcome {
    // The engine and the cluster draw from this thread's generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let tasks = LocalSet::new();
    let outcome: Rc<RefCell<Option<Outcome>>> = Rc::default();
    let result = outcome.clone();
    runtime.block_on(tasks.run_until(async move {
        let main = Thread::new(move || *result.borrow_mut() = Some(live(seed, is_traced)));
        spawn_local(main).await.expect("the simulation panicked");
    }));
    drop(tasks);
    let outcome = outcome.borrow_mut().take();
    outcome.expect("an outcome")
}

fn live(seed: u64, is_traced: bool) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let scenario = Scenario::of(&mut random);
    let trace = Trace::begin(is_traced);
    let _logged = is_traced.then(|| trace.log());
    note!(trace, "seed {seed}: {scenario:?}");
    let network = Network::new(random.u64(..), scenario.weather, trace.clone());
    let options = local::Options {
        brokers: scenario.brokers,
        port: FIRST_PORT,
        topics: scenario.topics.clone(),
        retain_bytes: RETAIN,
    };
    let platform = Platform::Simulated(network.host("cluster"));
    let local = Arc::new(Local::start_on(platform, &options, &Stop::default()).expect("a cluster"));
    local.faults().set_seed(random.u64(..));
    local.set_replica_lag(Duration::from_millis(random.u64(500..5_000)));
    if scenario.has_consumer_protocol() {
        local.offer_consumer_groups();
    }
    let world = World { trace, network, local, began: Instant::now(), history: Arc::default() };
    let mut processes = start(&world, &scenario);
    let mut storm = Storm::new(&world, &scenario, random.fork());
    let calm_at = world.began + scenario.storm;
    while Instant::now() < calm_at {
        end_some(&world, &mut processes);
        let next = storm.act().min(next_end(&world, &processes)).min(calm_at);
        wait(tokio::time::sleep_until(next));
    }
    storm.end();
    end_some(&world, &mut processes);
    note!(world.trace, "calm");
    let (topics, removed) = (storm.topics, storm.removed);
    settle(&world, &scenario, &topics, &mut processes, &removed);
    let history = std::mem::take(&mut *world.history());
    let mut findings = judge(&history);
    findings.sort_by_key(|finding| finding.kind);
    for finding in &findings {
        note!(world.trace, "{finding}");
    }
    let records = history.logs.values().map(|log| log.records.len()).sum();
    Outcome { seed, findings, trace: world.trace.clone(), simulated: world.began.elapsed(), records }
}

fn start(world: &World, scenario: &Scenario) -> Vec<Process> {
    let producers = scenario.producers.iter().cloned().map(|plan: Producing| {
        let client = plan.client.clone();
        process(world, &client, Ends::Itself, move |world, stop| produce(world, &plan, stop))
    });
    let mut processes: Vec<Process> = producers.collect();
    processes.extend(scenario.readers.iter().cloned().map(|plan: Reading| {
        let client = plan.client.clone();
        process(world, &client, Ends::Told, move |world, stop| read(world, &plan, stop))
    }));
    processes
}

fn process(world: &World, client: &Client, ends: Ends, body: impl FnOnce(&World, &Stop) + 'static) -> Process {
    let (own, stop, has_ended) = (world.clone(), Stop::default(), Rc::new(Cell::new(false)));
    let (starts, raised, ended) = (client.starts, stop.clone(), has_ended.clone());
    let thread = Thread::new(move || {
        own.sleep(starts);
        body(&own, &raised);
        ended.set(true);
    });
    let task = spawn_local(thread);
    Process { name: client.name.clone(), stop, end: client.end, ends, task, has_ended }
}

/// Ends the processes whose time has come.
fn end_some(world: &World, processes: &mut Vec<Process>) {
    let now = world.began.elapsed();
    for process in processes.iter_mut() {
        match process.end {
            End::Signal(at) if at <= now => {
                note!(world.trace, "{} gets a signal", process.name);
                world.trace.count("process signaled");
                process.stop.raise();
                process.end = End::Itself;
            }
            End::Kill(at) if at <= now => {
                note!(world.trace, "{} is killed", process.name);
                world.trace.count("process killed");
                world.network.kill(&process.name);
                process.task.abort();
                process.has_ended.set(true);
                process.end = End::Itself;
            }
            _ => {}
        }
    }
    processes.retain(|process| !process.has_ended.get());
}

fn next_end(world: &World, processes: &[Process]) -> Instant {
    let ends = processes.iter().filter_map(|process| match process.end {
        End::Signal(at) | End::Kill(at) => Some(world.began + at),
        End::Itself => None,
    });
    ends.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
}

/// The cluster is well: everything must be delivered and read, and everybody must end.
fn settle(world: &World, scenario: &Scenario, topics: &[Topic], processes: &mut Vec<Process>, removed: &Removed) {
    let slowest = |of: &dyn Fn(&Producing) -> Duration| scenario.producers.iter().map(of).max().unwrap_or_default();
    // The pauses of those that are not done, two requests for each record where the network is slow, and what each of
    // their runs may take.
    let pauses = slowest(&|plan| (plan.pause + plan.client.request_timeout * 2) * plan.records);
    let within = pauses + slowest(&|plan| (plan.delivery_timeout + plan.client.request_timeout * 5) * 3);
    let is_producing = |processes: &[Process]| processes.iter().any(|process| process.ends == Ends::Itself);
    until(world, processes, within + Duration::from_secs(60), "producers have not ended", |_, processes| {
        !is_producing(processes)
    });
    // Brokers abort the transactions of those that were killed.
    world.sleep(slowest(&|plan| plan.transaction_timeout) + Duration::from_secs(1));
    let logs = read_logs(world, topics, removed);
    world.history().logs = logs;
    world.history().must_read(topics, |name| {
        // The last run of each reader that is still there.
        processes.iter().any(|process| process.ends == Ends::Told && name.starts_with(&format!("{}.", process.name)))
    });
    let records: usize = world.history().logs.values().map(|log| log.records.len()).sum();
    let commits_each = |plan: &Reading| plan.group.as_ref().is_some_and(|group| group.commit == Commit::Each);
    let commits = if scenario.readers.iter().any(commits_each) { records as u32 } else { 0 };
    let within = READ_WITHIN + COMMIT_WITHIN * commits;
    until(world, processes, within, "records are not read", |world, _| world.history().unread().is_none());
    watch(world, processes);
    for process in processes.iter() {
        process.stop.raise();
    }
    until(world, processes, END_WITHIN, "processes have not ended", |_, processes| processes.is_empty());
    let groups: Vec<String> = world.history().readers.values().filter_map(|info| info.group.clone()).collect();
    for group in groups {
        world.note_stored(&group);
    }
    // What was committed last is in the logs that everything was judged by.
    let logs = read_logs(world, topics, removed);
    world.history().logs = logs;
}

/// Waits until `is_done`, and notes it when that takes too long.
fn until(
    world: &World,
    processes: &mut Vec<Process>,
    within: Duration,
    what: &str,
    is_done: impl Fn(&World, &[Process]) -> bool,
) {
    let began = Instant::now();
    loop {
        processes.retain(|process| !process.has_ended.get());
        if is_done(world, processes) {
            return;
        }
        if began.elapsed() > within {
            let waiting: Vec<&str> = processes.iter().map(|process| &*process.name).collect();
            let what = format!("{what} ({}; {:?})", waiting.join(", "), world.history().unread());
            world.history().stalls.push((what, within));
            return;
        }
        world.sleep(Duration::from_millis(250));
    }
}

/// Clients with nothing to do send few requests.
fn watch(world: &World, processes: &[Process]) {
    let before = requests(world);
    world.sleep(WATCHED);
    let sent = requests(world) - before;
    let limit = REQUESTS_PER_SECOND * WATCHED.as_secs() * processes.len() as u64;
    if sent > limit {
        let what = format!("{sent} requests in {} s of {} idle clients", WATCHED.as_secs(), processes.len());
        world.history().found.push(Finding { kind: Kind::Flood, what });
    }
}

fn requests(world: &World) -> u64 {
    ApiKey::iter().map(|api| world.local.faults().requests(api)).sum()
}

/// What faults have taken from the logs, by partition.
pub type Removed = BTreeMap<TopicPartition, Log>;

/// The logs as they are now.
fn read_logs(world: &World, topics: &[Topic], removed: &Removed) -> BTreeMap<TopicPartition, Log> {
    let mut logs = BTreeMap::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            let of = TopicPartition::new(topic.as_str(), partition);
            let mut log = world.log(&of);
            if let Some(removed) = removed.get(&of) {
                log.removed.clone_from(&removed.removed);
                (log.is_rewritten, log.is_recreated) = (removed.is_rewritten, removed.is_recreated);
            }
            logs.insert(of, log);
        }
    }
    logs
}
