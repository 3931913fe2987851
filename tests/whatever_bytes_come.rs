//! Every command behind a proxy that changes brokers' answers by a seed: no panic, no spin, no unbounded memory, no
//! record lost with exit code 0, none invented and none doubled. `KPIPE_SEEDS=10000-20000` searches more.

use crate::support::{
    Answer, COMMANDS, Cluster, Ended, Judge, Mutator, Request, Tested, impatient, mutate, peer, run_bounded,
};
use bytes::BytesMut;
use kafka_protocol::messages::ApiKey;
use kpipe::local::{CONSUMER_GROUPS, OFFERED};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const SEEDS: std::ops::Range<u64> = 0..500;
/// Runs at a time: most of them wait.
const WORKERS: usize = 12;
const RECORDS: usize = 120;

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

/// The command line, and what is written to its stdin; `names` are those of the topic, the group, and all that is new.
fn command(tested: &Tested, address: &str, names: [&str; 3], input: &[String]) -> (Vec<String>, String) {
    let [topic, group, new] = names;
    let word = |word: &&str| match *word {
        "T" => topic.to_owned(),
        "H" => group.to_owned(),
        "N" | "G" => new.to_owned(),
        word => word.to_owned(),
    };
    let mut args = impatient(address, tested.args.iter().map(word));
    let mut stdin = String::new();
    match tested.args[0] {
        "produce" => input.iter().for_each(|line| stdin += &format!("{line}\n")),
        "consume" => args.extend(["--output".to_owned(), "value".to_owned()]),
        _ => {}
    }
    (args, stdin)
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
        let mutator = Mutator::start(&self.kafka.bootstrap, seed, tested.apis);
        let input: Vec<String> = (0..RECORDS).map(|n| line("p", n)).collect();
        let names = [self.topic.as_str(), &self.group, &new];
        let (args, stdin) = command(tested, &mutator.address(), names, &input);
        let run = run_bounded(&args, stdin.as_bytes());
        let requests = mutator.count();
        let changes = mutator.end();
        let wrong = run.misbehaves(requests).or_else(|| self.misjudges(tested.judge, &run, &new, &input, &changes));
        let report = |wrong: String| {
            let Ended { code, stderr, took, .. } = &run;
            let out: Vec<&str> = run.stdout.lines().take(3).collect();
            format!(
                "seed {seed}: {wrong}: kpipe {:?}: {code} after {took:?}: {out:?} {stderr} {changes:?}",
                tested.args
            )
        };
        let wrong = wrong.map(report);
        (changes, wrong)
    }

    fn misjudges(&self, judge: Judge, run: &Ended, new: &str, input: &[String], changes: &[String]) -> Option<String> {
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
                let lies = ["OffsetFetch", "JoinGroup", "SyncGroup", "ConsumerGroupHeartbeat"];
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
    // The test runner captures what println! prints.
    let _ = writeln!(
        std::io::stderr(),
        "{} runs of {} commands in {:?}: {} changed answers of {} kinds",
        seeds.end - seeds.start,
        COMMANDS.len(),
        began.elapsed(),
        changes.values().sum::<usize>(),
        changes.len()
    );
    assert!(wrong.is_empty(), "{} runs:\n{}", wrong.len(), wrong.join("\n"));
}

/// A broker that has nothing, and makes up what it answers: the same seed, much the same answers.
fn hostile(seed: u64) -> (String, std::sync::Arc<AtomicU64>) {
    let requests = std::sync::Arc::new(AtomicU64::new(0));
    let (count, random) = (requests.clone(), Mutex::new(fastrand::Rng::with_seed(seed)));
    let address = peer(move |request: &Request| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut random = random.lock().unwrap().fork();
        let api = ApiKey::try_from(request.api).ok()?;
        let mut answer = Answer::empty(api)?;
        match &mut answer {
            Answer::ApiVersions(answer) => {
                let offered = OFFERED.iter().chain(&CONSUMER_GROUPS).map(|(api, versions)| {
                    let offered = kafka_protocol::messages::api_versions_response::ApiVersion::default();
                    offered.with_api_key(*api as i16).with_min_version(versions.min).with_max_version(versions.max)
                });
                answer.api_keys = offered.collect();
            }
            answer => {
                for _ in 0..random.usize(..60) {
                    mutate(answer.fields(), &mut random);
                }
                // So that more than the first answer is asked for.
                if let Answer::Metadata(answer) = answer {
                    answer.brokers.iter_mut().for_each(|broker| broker.port = i32::from(request.port));
                }
            }
        }
        let mut out = BytesMut::new();
        // Behind the correlation ID an answer in the newer encoding has tagged fields.
        let is_flexible = api.response_header_version(request.version) > 0;
        out.extend_from_slice(&[0][usize::from(!is_flexible)..]);
        answer.encode(&mut out, request.version)?;
        Some(out.to_vec())
    });
    (address, requests)
}

#[test]
fn every_command_survives_a_broker_that_makes_everything_up() {
    let (seeds, wrong) = (seeds(), Mutex::new(Vec::new()));
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    // Few of them come far: fewer are enough.
                    let seed = next.fetch_add(3, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let tested = &COMMANDS[(seed % COMMANDS.len() as u64) as usize];
                    let (address, requests) = hostile(seed);
                    let (args, stdin) = command(tested, &address, ["t", "g", "n"], &["a line".to_owned()]);
                    let run = run_bounded(&args, stdin.as_bytes());
                    let found = run.misbehaves(requests.load(Ordering::Relaxed));
                    let report = |found: String| format!("seed {seed}: {found}: {:?}: {}", tested.args, run.stderr);
                    wrong.lock().unwrap().extend(found.map(report));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} runs:\n{}", wrong.len(), wrong.join("\n"));
}
