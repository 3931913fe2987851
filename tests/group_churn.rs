//! Members join, leave, crash and stall while records flow: every record is written, in order, and no more records are
//! repeated than were written and not committed.

use crate::support::{Cluster, Done, Running, Version, json_lines, require, wait_until};
use std::collections::HashMap;
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
        // A line that SIGKILL cut short was not written.
        let whole = done.stdout.rfind('\n').map_or("", |end| &done.stdout[..=end]).to_owned();
        self.ended.push((whole, member.lossy));
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
        wait_until("all records to be read", || lag(self.kafka, &self.topic) == 0);
        while !self.members.is_empty() {
            self.end(0, libc::SIGTERM);
        }
    }

    /// Asserts that every record was written, by several members and in order; returns how many were repeated.
    fn check(&self, java: Option<&str>) -> u32 {
        let (mut seen, mut total, mut writers) = (vec![false; RECORDS as usize], 0, 0);
        for (output, lossy) in &self.ended {
            let mut last: HashMap<i64, i64> = HashMap::new();
            for record in json_lines(output) {
                seen[record["value"].as_str().unwrap().parse::<usize>().unwrap()] = true;
                total += 1;
                let (partition, offset) = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
                let before = last.insert(partition, offset);
                assert!(
                    *lossy || before.is_none_or(|before| before < offset),
                    "{partition}: {offset} after {before:?}"
                );
            }
            writers += u32::from(!last.is_empty());
        }
        if let Some(java) = java {
            let numbers: Vec<usize> = java.lines().map(|line| line.parse().unwrap()).collect();
            assert!(numbers.len() > 10_000, "Java read {}", numbers.len());
            total += numbers.len() as u32;
            numbers.into_iter().for_each(|n| seen[n] = true);
        }
        assert_eq!(seen.iter().position(|seen| !seen), None, "the first lost record");
        assert!(writers > 2, "only {writers} members wrote records");
        total - RECORDS
    }
}

const RECORDS: u32 = 600_000;
/// Records per second, for a minute.
const RATE: u32 = 10_000;

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
        let lines: String = (0..RECORDS).map(|n| format!("key-{}:{n}\n", n % 997)).collect();
        let args = ["-b", &b, "produce", &topic, "-K", ":", "--rate", &RATE.to_string()];
        crate::support::kpipe(&args, lines.as_bytes())
    })
}

fn churn(kafka: &Cluster, scenario: &Scenario) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let topic = kafka.topic(&format!("churn-{}", NEXT.fetch_add(1, Ordering::Relaxed)), 12);
    let flags = [&["--group-protocol", scenario.protocol], scenario.flags].concat();
    let mut churn = Churn { kafka, topic: topic.clone(), flags, members: Vec::new(), ended: Vec::new() };
    let java = scenario.has_java_member.then(|| kafka.console_member(&topic, &topic, &[]));
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
        next_step += Duration::from_secs(2);
        wait_until("the next step", || Instant::now() >= next_step);
    }
    assert_eq!(producer.join().unwrap().code, 0);
    churn.read_to_the_end();
    let java = java.map(|java| {
        java.signal(libc::SIGTERM);
        java.ended().stdout
    });
    let repeats = churn.check(java.as_deref());
    // A loss repeats the records since the last commit, of a second, and those until the next heartbeat.
    assert!(repeats <= losses * RATE * 2, "{repeats} repeated after {losses} losses");
}

/// The lag of the group over all partitions; that of a partition without a committed offset counts as huge.
fn lag(kafka: &Cluster, topic: &str) -> i64 {
    let done = kafka.try_kpipe(&["groups", "lag", topic, "-J"], b"");
    let lag = |partition: &serde_json::Value| partition["lag"].as_i64().unwrap_or(i64::MAX / 100);
    if done.code == 0 { json_lines(&done.stdout).iter().map(lag).sum() } else { i64::MAX }
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
