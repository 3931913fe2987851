//! Members come and go, crash and stall while records flow: all are written by somebody, in order, and no more of them
//! twice than was written and not committed.

use crate::support::{Cluster, Running, Version, json_lines, require, wait_until};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What happens to a group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Join,
    Term,
    Kill,
    /// The process stands still beyond its session.
    Freeze,
    /// Nobody reads its stdout beyond --max-poll-interval.
    Stall,
}

struct Member {
    running: Running,
    /// Whether it lost what it had without being asked: then it may read some again.
    lossy: bool,
    back_at: Option<Instant>,
}

struct Churn<'a> {
    kafka: &'a Cluster,
    topic: String,
    flags: Vec<&'a str>,
    members: Vec<Member>,
    /// What those that ended have written, and whether they were lossy.
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
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        // A record cut in the middle by SIGKILL was not written.
        let whole = done.stdout.rfind('\n').map_or("", |end| &done.stdout[..=end]).to_owned();
        self.ended.push((whole, member.lossy));
    }
}

fn churn(kafka: &Cluster, protocol: &str, rough: bool, flags: &[&str], with_java: bool) {
    const RECORDS: u32 = 600_000;
    const RATE: u32 = 10_000; // for a minute
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let topic = kafka.topic(&format!("churn-{}", NEXT.fetch_add(1, Ordering::Relaxed)), 12);
    let mut churn = Churn {
        kafka,
        topic: topic.clone(),
        flags: [&["--group-protocol", protocol], flags].concat(),
        members: Vec::new(),
        ended: Vec::new(),
    };
    // It stays through all of it.
    let java = with_java.then(|| kafka.console_member(&topic, &topic, &[]));
    let (b, out) = (kafka.bootstrap.clone(), topic.clone());
    let producer = std::thread::spawn(move || {
        let lines: String = (0..RECORDS).map(|n| format!("key-{}:{n}\n", n % 997)).collect();
        crate::support::kpipe(&["-b", &b, "produce", &out, "-K", ":", "--rate", &RATE.to_string()], lines.as_bytes())
    });
    let steps: &[Step] = if rough {
        &[Step::Join, Step::Kill, Step::Freeze, Step::Join, Step::Term, Step::Stall, Step::Join]
    } else {
        &[Step::Join, Step::Join, Step::Term]
    };
    let (mut losses, mut random) = (0, 7_919usize);
    let mut next_step = Instant::now();
    for round in 0.. {
        if producer.is_finished() {
            break;
        }
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
        let step = steps[round % steps.len()];
        losses += u32::from(!matches!(step, Step::Join | Step::Term));
        churn.step(step, random);
        next_step += Duration::from_secs(2);
        wait_until("the next step", || Instant::now() >= next_step);
    }
    assert_eq!(producer.join().unwrap().code, 0);
    for member in &mut churn.members {
        member.running.signal(libc::SIGCONT);
        member.running.set_paused(false);
    }
    if churn.members.is_empty() {
        churn.join();
    }
    wait_until("all to be read", || lag(kafka, &topic) == 0);
    while !churn.members.is_empty() {
        churn.end(0, libc::SIGTERM);
    }

    let (mut seen, mut total) = (vec![false; RECORDS as usize], 0u32);
    let mut shared = BTreeSet::new();
    for (index, (output, lossy)) in churn.ended.iter().enumerate() {
        let mut last: HashMap<i64, i64> = HashMap::new();
        for record in json_lines(output) {
            let n: usize = record["value"].as_str().unwrap().parse().unwrap();
            seen[n] = true;
            total += 1;
            shared.insert(index);
            let (partition, offset) = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
            let before = last.insert(partition, offset);
            assert!(*lossy || before.is_none_or(|before| before < offset), "{partition}: {offset} after {before:?}");
        }
    }
    if let Some(java) = java {
        java.signal(libc::SIGTERM);
        let numbers: Vec<usize> = java.ended().stdout.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() > 10_000, "Java read {}", numbers.len());
        total += numbers.len() as u32;
        numbers.into_iter().for_each(|n| seen[n] = true);
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "{protocol}: lost, e.g. {:?}", seen.iter().position(|seen| !seen));
    assert!(shared.len() > 2, "the work was shared: {} members", shared.len());
    let repeats = total - RECORDS;
    if rough {
        // A second, and what came while the next heartbeat was awaited, each time.
        assert!(repeats <= losses * RATE * 2, "{repeats} repeated in {losses} losses");
    } else {
        assert_eq!(repeats, 0, "members that come and go politely repeat nothing");
    }
}

/// How much the group has not committed, as Kafka's own tool would add it up.
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
fn polite_members_of_the_consumer_protocol_lose_and_repeat_nothing() {
    require!(Kafka);
    churn(&quick_sessions(Version::LATEST), "consumer", false, &[], false);
}

#[test]
fn polite_members_of_the_classic_protocol_lose_and_repeat_nothing() {
    require!(Kafka);
    churn(&quick_sessions(Version::LATEST), "classic", false, &[], false);
}

#[test]
fn polite_members_among_whom_is_one_of_java_lose_and_repeat_nothing() {
    require!(Kafka);
    churn(&quick_sessions(Version::V3_9), "classic", false, &["--assignor", "range"], true);
}

#[test]
fn members_of_the_consumer_protocol_that_crash_and_stall_lose_nothing() {
    require!(Kafka);
    churn(&quick_sessions(Version::LATEST), "consumer", true, &[], false);
}

#[test]
fn members_of_the_classic_protocol_that_crash_and_stall_lose_nothing() {
    require!(Kafka);
    churn(&quick_sessions(Version::V3_9), "classic", true, &["--session-timeout", "3s"], false);
}
