//! Every command behind a proxy that changes brokers' answers by a seed: no panic, no spin, no unbounded memory, no
//! record lost with exit code 0, none invented and none doubled. `KPIPE_SEEDS=10000-20000` searches more.

use crate::support::{Cluster, Mutator, send_signal};
use kafka_protocol::messages::ApiKey as A;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SEEDS: std::ops::Range<u64> = 0..500;
/// Runs at a time: most of them wait.
const WORKERS: usize = 12;
/// A run that takes longer is sent SIGTERM, and ends so soon after it.
const PATIENCE: Duration = Duration::from_secs(6);
const OBEYS_WITHIN: Duration = Duration::from_secs(4);
/// Of address space, in kB; and of memory in use.
const ADDRESS_SPACE: &str = "3000000";
const MOST_MEMORY: i64 = 300_000;
/// Requests at once, and a second after that.
const MOST_REQUESTS: f64 = 150.0;
const REQUESTS_PER_SECOND: f64 = 60.0;
const MOST_LINES: usize = 25;
const RECORDS: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    Reads,
    ReadsInGroup,
    Produces,
    ProducesInTransaction,
    Lists,
}

struct Tested {
    args: &'static [&'static str],
    judge: Judge,
    apis: &'static [A],
}

const fn tested(args: &'static [&'static str], judge: Judge, apis: &'static [A]) -> Tested {
    Tested { args, judge, apis }
}

/// `T` is a topic with records, `N` a new one, `G` a new group, `H` one with offsets.
const COMMANDS: [Tested; 20] = [
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
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
    /// From SIGTERM to the end, where it was sent.
    obeyed: Option<Duration>,
    /// In kB.
    memory: i64,
}

fn run(args: &[String], stdin: &[u8]) -> Run {
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
    let (code, memory) = loop {
        if let Some(ended) = ended(pid) {
            break ended;
        }
        match signaled {
            None if began.elapsed() > PATIENCE => {
                send_signal(pid, libc::SIGTERM);
                signaled = Some(Instant::now());
            }
            Some(at) if at.elapsed() > OBEYS_WITHIN * 3 => send_signal(pid, libc::SIGKILL),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let obeyed = signaled.map(|at| at.elapsed());
    Run { code, stdout: out.join().unwrap(), stderr: err.join().unwrap(), took: began.elapsed(), obeyed, memory }
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// The exit code of a process that has ended, or 128 and its signal, and the most memory that it had, in kB.
#[allow(unsafe_code)]
fn ended(pid: i32) -> Option<(i32, i64)> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage, and both pointers are valid for the call.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage), usage)
    };
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    (waited == pid).then_some((code, usage.ru_maxrss))
}

/// What is wrong with a run, apart from its output.
fn misbehaves(run: &Run, requests: u64) -> Option<String> {
    let most_requests = MOST_REQUESTS + REQUESTS_PER_SECOND * run.took.as_secs_f64();
    let lines = run.stderr.lines().count();
    if !matches!(run.code, 0..=2 | 143) || run.stderr.contains("panicked") {
        Some(format!("it ended with {}", run.code))
    } else if run.obeyed.is_some_and(|after| after > OBEYS_WITHIN) {
        Some(format!("it ended {:?} after SIGTERM", run.obeyed))
    } else if run.memory > MOST_MEMORY {
        Some(format!("it took {} kB", run.memory))
    } else if requests as f64 > most_requests {
        Some(format!("it sent {requests} requests in {:?}", run.took))
    } else if lines > MOST_LINES {
        Some(format!("it wrote {lines} lines"))
    } else if run.code == 1 && run.stderr.is_empty() {
        Some("it failed without a word".to_owned())
    } else {
        None
    }
}

/// Whether an answer that was changed like this is still one that a broker could have given, with less in it.
fn may_lose(change: &str) -> bool {
    let lies = [
        "Metadata.topics.partitions removed",
        "ListOffsets.topics.partitions.offset",
        "ListOffsets.topics.partitions.partition_index",
        "Fetch.responses.partitions.partition_index",
        "base offset changed",
        "last offset delta",
        "a byte changed",
        "bytes changed",
        "byte flipped",
    ];
    lies.iter().any(|lie| change.contains(lie))
}

/// The same, with something of before in it: another topic of the name, or a log that was truncated.
fn may_double(change: &str) -> bool {
    let lies = ["diverging_epoch", "topic_id", "partition_index", "a byte changed", "bytes changed", "byte flipped"];
    lies.iter().any(|lie| change.contains(lie))
}

/// A line of the input, or of the topic with records.
fn line(prefix: &str, n: usize) -> String {
    format!("{prefix}{n:04}")
}

/// What is wrong with values that were read, where `expected` were to be read, each once.
fn compare(read: &str, expected: &BTreeSet<String>, is_complete: bool, once: bool) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    read.lines().for_each(|value| *counts.entry(value).or_default() += 1);
    if let Some(invented) = counts.keys().find(|value| !expected.contains(**value)) {
        return Some(format!("it invented {invented:?}"));
    }
    if let Some((doubled, count)) = counts.iter().find(|(_, count)| once && **count > 1) {
        return Some(format!("{doubled} is there {count} times"));
    }
    let missing = expected.len() - counts.len();
    (is_complete && missing > 0).then(|| format!("{missing} records are missing"))
}

struct Worker {
    kafka: Cluster,
    topic: String,
    group: String,
}

impl Worker {
    fn new() -> Self {
        let kafka = Cluster::start_local(1);
        kafka.local().offer_consumer_groups();
        let (topic, group) = (kafka.topic("whatever", 3), crate::support::fresh("with-offsets"));
        for (n, codec) in ["none", "zstd", "snappy", "lz4", "gzip", "none"].iter().enumerate() {
            let each = RECORDS / 6;
            let lines: String = (n * each..(n + 1) * each).map(|n| line("r", n) + "\n").collect();
            kafka.kpipe(&["produce", &topic, "-z", codec, "-p", &(n % 3).to_string()], lines.as_bytes());
        }
        kafka.kpipe(&["consume", &topic, "-g", &group, "-e", "--output", "none"], b"");
        Self { kafka, topic, group }
    }

    /// Runs the command of a seed; returns what was changed, and what is wrong.
    fn search(&self, seed: u64) -> (Vec<String>, Option<String>) {
        let tested = &COMMANDS[(seed % COMMANDS.len() as u64) as usize];
        let new = format!("new-{seed}");
        let word = |word: &&str| match *word {
            "T" => self.topic.clone(),
            "N" | "G" => new.clone(),
            "H" => self.group.clone(),
            word => word.to_owned(),
        };
        let mutator = Mutator::start(&self.kafka.bootstrap, seed, tested.apis);
        let options = ["-b", &mutator.address(), "-X", "request.timeout.ms=600", "-X", "retry.backoff.ms=20"];
        let mut args: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        args.extend(tested.args.iter().map(word));
        let input: Vec<String> = (0..RECORDS).map(|n| line("p", n)).collect();
        let mut stdin = String::new();
        match tested.args[0] {
            "produce" => input.iter().for_each(|line| stdin += &format!("{line}\n")),
            "consume" => args.extend(["--output".to_owned(), "value".to_owned()]),
            _ => {}
        }
        let run = run(&args, stdin.as_bytes());
        let requests = mutator.count();
        let changes = mutator.end();
        let wrong = misbehaves(&run, requests).or_else(|| self.misjudges(tested.judge, &run, &new, &input, &changes));
        let report = |wrong: String| {
            let Run { code, stderr, took, .. } = &run;
            let out: Vec<&str> = run.stdout.lines().take(3).collect();
            format!(
                "seed {seed}: {wrong}: kpipe {:?}: {code} after {took:?}: {out:?} {stderr} {changes:?}",
                tested.args
            )
        };
        let wrong = wrong.map(report);
        (changes, wrong)
    }

    fn misjudges(&self, judge: Judge, run: &Run, new: &str, input: &[String], changes: &[String]) -> Option<String> {
        let is_done = run.code == 0 && run.obeyed.is_none();
        let is_complete = is_done && !changes.iter().any(|change| may_lose(change));
        let all: BTreeSet<String> = match judge {
            Judge::Reads | Judge::ReadsInGroup => (0..RECORDS).map(|n| line("r", n)).collect(),
            _ => input.iter().cloned().collect(),
        };
        match judge {
            Judge::Lists => None,
            Judge::Reads => compare(&run.stdout, &all, is_complete, !changes.iter().any(|change| may_double(change))),
            Judge::ReadsInGroup => {
                let lies = ["OffsetFetch", "JoinGroup", "SyncGroup", "GroupHeartbeat"];
                let is_misled = changes.iter().any(|change| lies.iter().any(|lie| change.starts_with(lie)));
                compare(&run.stdout, &all, is_complete && !is_misled, changes.is_empty())
            }
            Judge::Produces | Judge::ProducesInTransaction => {
                let read = self.kafka.try_kpipe(&["consume", new, "-o", "beginning", "-e", "--output", "value"], b"");
                compare(&read.stdout, &all, is_done, true)
            }
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("KPIPE_SEEDS").ok();
    let parse = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or(("0", text));
        from.parse().unwrap()..to.parse().unwrap()
    };
    asked.as_deref().map_or(SEEDS, parse)
}

#[test]
fn every_command_survives_whatever_a_broker_answers() {
    let (seeds, began) = (seeds(), Instant::now());
    let next = AtomicU64::new(seeds.start);
    let (changes, wrong) = (Mutex::new(BTreeMap::<String, usize>::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let worker = Worker::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (made, found) = worker.search(seed);
                    made.into_iter().for_each(|change| *changes.lock().unwrap().entry(change).or_default() += 1);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let (changes, wrong) = (changes.into_inner().unwrap(), wrong.into_inner().unwrap());
    println!(
        "{} runs of {} commands in {:?}: {} changed answers of {} kinds",
        seeds.end - seeds.start,
        COMMANDS.len(),
        began.elapsed(),
        changes.values().sum::<usize>(),
        changes.len()
    );
    assert!(wrong.is_empty(), "{} runs:\n{}", wrong.len(), wrong.join("\n"));
}
