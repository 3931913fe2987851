//! Members join, leave, crash and stall while records flow: every record is written, in order, no more records are
//! repeated than were written and not committed, and no committed offset moves back.

use crate::support::history::{Entry, History, Promise, ReaderInfo, judge};
use crate::support::{Cluster, Done, Running, Version, json_lines, require, wait_until};
use kpipe::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What happens to a member of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Join,
    Term,
    Kill,
    /// The process is stopped for longer than its session timeout.
    Freeze,
    /// Its stdout is not read for longer than --max-poll-interval.
    Stall,
}

struct Member {
    running: Running,
    /// Whether it lost its partitions without a rebalance: then it may read some records again.
    lossy: bool,
    back_at: Option<Instant>,
}

struct Churn<'a> {
    kafka: &'a Cluster,
    topic: String,
    flags: Vec<&'a str>,
    members: Vec<Member>,
    /// The output of members that ended, and whether they were lossy.
    ended: Vec<(String, bool)>,
    /// What the group had committed, as seen from time to time.
    stored: Vec<Entry>,
}

impl Churn<'_> {
    fn join(&mut self) {
        let mut args =
            vec!["-b", &self.kafka.bootstrap, "consume", &self.topic, "-g", &self.topic, "--max-poll-interval", "2s"];
        args.extend(&self.flags);
        self.members.push(Member { running: Running::kpipe(&args), lossy: false, back_at: None });
    }

    fn step(&mut self, step: Step, random: usize) {
        let now = Instant::now();
        for member in &mut self.members {
            if member.back_at.take_if(|at| *at <= now).is_some() {
                member.running.signal(libc::SIGCONT);
                member.running.set_paused(false);
            }
        }
        let count = self.members.len();
        if count < 2 || (step == Step::Join && count < 5) {
            return self.join();
        }
        let chosen = random % count;
        if self.members[chosen].back_at.is_some() {
            return;
        }
        match step {
            Step::Join => {}
            Step::Term => self.end(chosen, libc::SIGTERM),
            Step::Kill => self.end(chosen, libc::SIGKILL),
            Step::Freeze | Step::Stall => {
                let member = &mut self.members[chosen];
                member.lossy = true;
                member.back_at = Some(now + Duration::from_secs(5));
                if step == Step::Freeze {
                    member.running.signal(libc::SIGSTOP);
                } else {
                    member.running.set_paused(true);
                }
            }
        }
    }

    fn end(&mut self, index: usize, signal: i32) {
        let member = self.members.swap_remove(index);
        member.running.signal(signal);
        let done = member.running.ended();
        if signal == libc::SIGTERM {
            // On a loaded machine the signal may come before kpipe has begun.
            let has_not_begun = done.code == 128 + libc::SIGTERM && done.stdout.is_empty() && done.stderr.is_empty();
            assert!(done.code == 0 || has_not_begun, "{}: {}", done.code, done.stderr);
        }
        self.ended.push((done.stdout, member.lossy));
    }

    /// Has the members read what is left, and ends them.
    fn read_to_the_end(&mut self) {
        for member in &mut self.members {
            member.running.signal(libc::SIGCONT);
            member.running.set_paused(false);
        }
        if self.members.is_empty() {
            self.join();
        }
        wait_until("all records to be read", || lag(&self.note_stored()) == 0);
        while !self.members.is_empty() {
            self.end(0, libc::SIGTERM);
        }
        self.note_stored();
    }

    /// Notes what the group has committed, and returns what `groups lag` says.
    fn note_stored(&mut self) -> Vec<serde_json::Value> {
        let done = self.kafka.try_kpipe(&["groups", "lag", &self.topic, "-J"], b"");
        let partitions = if done.code == 0 { json_lines(&done.stdout) } else { Vec::new() };
        let stored = partitions.iter().filter_map(|partition| {
            let of = TopicPartition::new(&*self.topic, partition["partition"].as_i64()? as i32);
            Some(Entry::Stored { group: self.topic.clone(), of, offset: partition["committed"].as_i64()? })
        });
        self.stored.extend(stored);
        partitions
    }

    /// Has everything judged; returns how many records were written again. `java`: what a member of Java printed.
    fn check(self, produced: &Done, java: Option<&str>) -> u32 {
        let partitions: Vec<_> = (0..PARTITIONS).map(|n| TopicPartition::new(&*self.topic, n as i32)).collect();
        let mut history = History::default();
        history.add_receipts(0, Promise::Idempotent, RECORDS, &produced.stdout);
        history.add_logs(&self.kafka.bootstrap, &partitions, false);
        let mut add = |name: &str, output: &str| {
            let reads_all_of = BTreeSet::from([self.topic.clone()]);
            let info = ReaderInfo { group: Some(self.topic.clone()), is_committed: true, reads_all_of };
            history.add_reader(name, info, &partitions, output);
        };
        let mut lossy = BTreeSet::new();
        for (number, (output, is_lossy)) in self.ended.iter().enumerate() {
            let name = format!("member {number}");
            add(&name, output);
            if *is_lossy {
                lossy.insert(name);
            }
        }
        if let Some(java) = java {
            add(JAVA, &as_kpipe_prints(&self.topic, java));
        }
        history.entries.extend(self.stored);
        let findings = judge(&history);
        assert!(findings.is_empty(), "{} findings: {:#?}", findings.len(), &findings[..findings.len().min(20)]);

        let (mut wrote, mut last) = (BTreeMap::<&str, u32>::new(), BTreeMap::new());
        for entry in &history.entries {
            let Entry::Wrote { reader, of, offset, .. } = entry else { continue };
            *wrote.entry(reader).or_default() += 1;
            let before = last.insert((reader, of), *offset);
            assert!(
                lossy.contains(reader) || before.is_none_or(|before| before < *offset),
                "{reader} wrote {of} {offset} after {before:?}"
            );
        }
        assert!(wrote.len() > 2, "members wrote so many records: {wrote:?}");
        assert!(java.is_none() || wrote[JAVA] > RECORDS / 60, "members wrote so many records: {wrote:?}");
        wrote.values().sum::<u32>() - RECORDS
    }
}

/// The name of Java's member.
const JAVA: &str = "java";

/// What Kafka's console consumer printed with partitions and offsets, as `kpipe consume` prints it.
fn as_kpipe_prints(topic: &str, printed: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let partition = parts.next()?.strip_prefix("Partition:")?;
        let (offset, value) = (parts.next()?.strip_prefix("Offset:")?, parts.next()?);
        Some(format!("{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":{offset},\"value\":\"{value}\"}}\n"))
    };
    printed.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
}

const PARTITIONS: u32 = 12;
const RECORDS: u32 = 120_000;
/// Records per second, for a minute.
const RATE: u32 = 2_000;

/// A group under test.
struct Scenario<'a> {
    protocol: &'a str,
    flags: &'a [&'a str],
    steps: &'a [Step],
    /// Whether a member of Java takes part from beginning to end.
    has_java_member: bool,
}

/// Members join and leave.
const POLITE: &[Step] = &[Step::Join, Step::Join, Step::Term];
/// Members also crash and stall.
const ROUGH: &[Step] = &[Step::Join, Step::Kill, Step::Freeze, Step::Join, Step::Term, Step::Stall, Step::Join];

fn start_producer(kafka: &Cluster, topic: &str) -> JoinHandle<Done> {
    let (b, topic) = (kafka.bootstrap.clone(), topic.to_owned());
    std::thread::spawn(move || {
        let lines: String = (0..RECORDS).map(|n| format!("key-{}=0:{n}:\n", n % 997)).collect();
        let args = ["-b", &b, "produce", &topic, "-K", "=", "--rate", &RATE.to_string(), "--receipts"];
        crate::support::kpipe(&args, lines.as_bytes())
    })
}

fn churn(kafka: &Cluster, scenario: &Scenario) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let topic = kafka.topic(&format!("churn-{}", NEXT.fetch_add(1, Ordering::Relaxed)), PARTITIONS);
    let flags = [&["--group-protocol", scenario.protocol], scenario.flags].concat();
    let (members, ended, stored) = (Vec::new(), Vec::new(), Vec::new());
    let mut churn = Churn { kafka, topic: topic.clone(), flags, members, ended, stored };
    let places = ["--property", "print.partition=true", "--property", "print.offset=true"];
    let java = scenario.has_java_member.then(|| kafka.console_member(&topic, &topic, &places));
    let producer = start_producer(kafka, &topic);
    let (mut losses, mut random) = (0, 7_919usize);
    let mut next_step = Instant::now();
    for round in 0.. {
        if producer.is_finished() {
            break;
        }
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
        let step = scenario.steps[round % scenario.steps.len()];
        losses += u32::from(!matches!(step, Step::Join | Step::Term));
        churn.step(step, random);
        churn.note_stored();
        next_step += Duration::from_secs(2);
        wait_until("the next step", || Instant::now() >= next_step);
    }
    let produced = producer.join().unwrap();
    assert_eq!(produced.code, 0, "{}", produced.stderr);
    churn.read_to_the_end();
    let java = java.map(|java| {
        java.signal(libc::SIGTERM);
        java.ended().stdout
    });
    let repeats = churn.check(&produced, java.as_deref());
    // A loss repeats the records since the last commit, of a second, and those until the next heartbeat.
    assert!(repeats <= losses * RATE * 2, "{repeats} repeated after {losses} losses");
}

/// The lag over all partitions; that of a partition without a committed offset counts as huge, as does that of none.
fn lag(partitions: &[serde_json::Value]) -> i64 {
    let lag = |partition: &serde_json::Value| partition["lag"].as_i64().unwrap_or(i64::MAX / 100);
    if partitions.is_empty() { i64::MAX } else { partitions.iter().map(lag).sum() }
}

fn quick_sessions(version: Version) -> Cluster {
    let classic = ["group.min.session.timeout.ms=1000"];
    let modern = [
        "group.consumer.min.session.timeout.ms=1000",
        "group.consumer.session.timeout.ms=3000",
        "group.consumer.min.heartbeat.interval.ms=100",
        "group.consumer.heartbeat.interval.ms=500",
    ];
    let configs = if version.has_consumer_protocol() { [&classic[..], &modern].concat() } else { classic.to_vec() };
    Cluster::start(version, 1, &configs)
}

#[test]
fn members_of_the_consumer_protocol_that_join_and_leave_lose_and_repeat_nothing() {
    require!(Kafka);
    let scenario = Scenario { protocol: "consumer", flags: &[], steps: POLITE, has_java_member: false };
    churn(&quick_sessions(Version::LATEST), &scenario);
}

#[test]
fn members_of_the_classic_protocol_that_join_and_leave_lose_and_repeat_nothing() {
    require!(Kafka);
    let scenario = Scenario { protocol: "classic", flags: &[], steps: POLITE, has_java_member: false };
    churn(&quick_sessions(Version::LATEST), &scenario);
}

#[test]
fn members_that_join_and_leave_beside_a_member_of_java_lose_and_repeat_nothing() {
    require!(Kafka);
    let flags = &["--assignor", "range"];
    let scenario = Scenario { protocol: "classic", flags, steps: POLITE, has_java_member: true };
    churn(&quick_sessions(Version::V3_9), &scenario);
}

#[test]
fn members_of_the_consumer_protocol_that_crash_and_stall_lose_nothing() {
    require!(Kafka);
    let scenario = Scenario { protocol: "consumer", flags: &[], steps: ROUGH, has_java_member: false };
    churn(&quick_sessions(Version::LATEST), &scenario);
}

#[test]
fn members_of_the_classic_protocol_that_crash_and_stall_lose_nothing() {
    require!(Kafka);
    let flags = &["--session-timeout", "3s"];
    let scenario = Scenario { protocol: "classic", flags, steps: ROUGH, has_java_member: false };
    churn(&quick_sessions(Version::V3_9), &scenario);
}
