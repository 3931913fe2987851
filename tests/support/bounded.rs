//! Runs of kpipe within bounds of time, memory and requests, and the commands that are run so.

use super::send_signal;
use kafka_protocol::messages::ApiKey as A;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A run that takes longer is sent SIGTERM, and ends so soon after it.
const PATIENCE: Duration = Duration::from_secs(6);
const OBEYS_WITHIN: Duration = Duration::from_secs(4);
/// Of address space, in kB; and of memory in use.
const ADDRESS_SPACE: &str = "3000000";
const MOST_MEMORY: u64 = 300_000;
/// Requests at once, and a second after that.
const MOST_REQUESTS: f64 = 150.0;
const REQUESTS_PER_SECOND: f64 = 60.0;
const MOST_LINES: usize = 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    Reads,
    ReadsInGroup,
    Produces,
    ProducesInTransaction,
    Lists,
}

pub struct Tested {
    pub args: &'static [&'static str],
    pub judge: Judge,
    /// The requests to concentrate on.
    pub apis: &'static [A],
}

const fn tested(args: &'static [&'static str], judge: Judge, apis: &'static [A]) -> Tested {
    Tested { args, judge, apis }
}

/// `T` is a topic with records, `N` a new one, `G` a new group, `H` one with offsets.
pub const COMMANDS: [Tested; 20] = [
    tested(&["consume", "T", "-o", "beginning", "-e"], Judge::Reads, &[A::Fetch, A::ListOffsets, A::Metadata]),
    tested(&["produce", "N", "--timeout", "3s"], Judge::Produces, &[A::Produce, A::InitProducerId, A::Metadata]),
    tested(
        &["consume", "T", "-g", "G", "-e", "--group-protocol", "classic"],
        Judge::ReadsInGroup,
        &[A::JoinGroup, A::SyncGroup, A::OffsetFetch, A::OffsetCommit, A::FindCoordinator, A::Heartbeat],
    ),
    tested(&["consume", "T", "-o", "beginning", "-e", "--isolation", "read_uncommitted"], Judge::Reads, &[A::Fetch]),
    tested(
        &["consume", "T", "-g", "G", "-e", "--group-protocol", "consumer"],
        Judge::ReadsInGroup,
        &[A::ConsumerGroupHeartbeat, A::OffsetCommit, A::Fetch],
    ),
    tested(
        &["produce", "N", "--timeout", "3s", "--transactional-id", "N"],
        Judge::ProducesInTransaction,
        &[A::InitProducerId, A::Produce, A::EndTxn, A::AddPartitionsToTxn, A::FindCoordinator, A::ApiVersions],
    ),
    tested(&["consume", "T", "-o", "-7", "-e"], Judge::Lists, &[A::Fetch, A::ListOffsets]),
    tested(&["produce", "N", "--timeout", "3s", "--idempotent", "false", "--acks", "1"], Judge::Lists, &[A::Produce]),
    tested(&["topics", "list"], Judge::Lists, &[A::Metadata, A::ApiVersions]),
    tested(
        &["topics", "describe", "T"],
        Judge::Lists,
        &[A::Metadata, A::ListOffsets, A::DescribeConfigs, A::DescribeLogDirs],
    ),
    tested(&["topics", "offsets", "T"], Judge::Lists, &[A::ListOffsets]),
    tested(&["topics", "create", "N", "--partitions", "2"], Judge::Lists, &[A::CreateTopics, A::Metadata]),
    tested(
        &["topics", "alter", "T", "--config", "retention.ms=77777777"],
        Judge::Lists,
        &[A::IncrementalAlterConfigs, A::DescribeConfigs],
    ),
    tested(&["groups", "list"], Judge::Lists, &[A::ListGroups]),
    tested(&["groups", "describe", "H"], Judge::Lists, &[A::DescribeGroups, A::ConsumerGroupDescribe, A::OffsetFetch]),
    tested(&["groups", "lag", "H"], Judge::Lists, &[A::OffsetFetch, A::ListOffsets, A::FindCoordinator]),
    tested(&["groups", "export", "H"], Judge::Lists, &[A::OffsetFetch]),
    tested(
        &["groups", "reset", "H", "--topic", "T", "--to", "beginning", "--execute"],
        Judge::Lists,
        &[A::OffsetCommit, A::ListOffsets],
    ),
    tested(&["cluster", "brokers"], Judge::Lists, &[A::Metadata, A::DescribeCluster]),
    tested(&["cluster", "transactions", "list"], Judge::Lists, &[A::ListTransactions]),
];

/// A run that has ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// From SIGTERM to the end, where it was sent.
    pub obeyed: Option<Duration>,
    /// In kB.
    pub memory: u64,
}

/// Runs kpipe within bounds of memory and time.
pub fn run_bounded(args: &[String], stdin: &[u8]) -> Ended {
    run_until(args, stdin, |_| false)
}

/// The same, but SIGTERM is sent as soon as `is_time`, given the memory in use in kB, says so.
pub fn run_until(args: &[String], stdin: &[u8], is_time: impl Fn(u64) -> bool) -> Ended {
    let line = format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_kpipe")]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin); // it may have ended
    let (out, err) = (read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap()));
    let pid = child.id() as i32;
    let mut signaled: Option<Instant> = None;
    let mut memory = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        memory = memory.max(peak(pid));
        match signaled {
            None if began.elapsed() > PATIENCE || is_time(memory) => {
                send_signal(pid, libc::SIGTERM);
                signaled = Some(Instant::now());
            }
            Some(at) if at.elapsed() > OBEYS_WITHIN * 3 => send_signal(pid, libc::SIGKILL),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let obeyed = signaled.map(|at| at.elapsed());
    Ended { code, stdout: out.join().unwrap(), stderr: err.join().unwrap(), took: began.elapsed(), obeyed, memory }
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// The most memory that kpipe has had in use, in kB. Before it is run, the process has the memory of this one.
fn peak(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if !status.starts_with("Name:\tkpipe\n") {
        return 0;
    }
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

impl Ended {
    /// What is wrong with a run, apart from its output.
    pub fn misbehaves(&self, requests: u64) -> Option<String> {
        let most_requests = MOST_REQUESTS + REQUESTS_PER_SECOND * self.took.as_secs_f64();
        let lines = self.stderr.lines().count();
        if !matches!(self.code, 0..=2 | 143) || self.stderr.contains("panicked") {
            Some(format!("it ended with {}", self.code))
        } else if self.obeyed.is_some_and(|after| after > OBEYS_WITHIN) {
            Some(format!("it ended {:?} after SIGTERM", self.obeyed))
        } else if self.memory > MOST_MEMORY {
            Some(format!("it took {} kB", self.memory))
        } else if requests as f64 > most_requests {
            Some(format!("it sent {requests} requests in {:?}", self.took))
        } else if lines > MOST_LINES {
            Some(format!("it wrote {lines} lines"))
        } else if (self.code == 1 || self.obeyed.is_some()) && self.stderr.is_empty() {
            Some(format!("it ended with {} after {:?}, without a word", self.code, self.took))
        } else {
            None
        }
    }
}

/// Arguments of a run at `address` whose requests are repeated and given up soon.
pub fn impatient(address: &str, words: impl IntoIterator<Item = String>) -> Vec<String> {
    let options = ["-b", address, "-X", "request.timeout.ms=600", "-X", "retry.backoff.ms=20"];
    options.iter().map(|word| (*word).to_owned()).chain(words).collect()
}

/// Calls `each` with every item on `workers` threads, each with what `start` returns.
pub fn in_parallel<T: Sync, W>(
    workers: usize,
    items: &[T],
    start: impl Fn() -> W + Sync,
    each: impl Fn(&W, &T) + Sync,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                let worker = start();
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(&worker, item);
                }
            });
        }
    });
}
