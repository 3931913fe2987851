//! What a seed stands for: the cluster, the processes and their settings, and how much goes wrong.

use super::network::Weather;
use kpipe::engine::{Acks, Assignor, Compression, GroupProtocol};
use kpipe::record::Codec;
use std::time::Duration;

/// A topic and its number of partitions.
pub type Topic = (String, i32);

/// Partitions that a topic gets later, at most.
pub const ADDED_PARTITIONS: i32 = 2;

/// Everything about a seed but the moments of its faults.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub brokers: u16,
    pub topics: Vec<Topic>,
    pub producers: Vec<Producing>,
    pub readers: Vec<Reading>,
    /// How long things go wrong.
    pub storm: Duration,
    pub weather: Weather,
    /// The mean time between two faults of the cluster.
    pub every: Duration,
    /// Whether logs lose what was acknowledged, and topics are created again.
    pub rewrites: bool,
    /// Whether topics are looked after meanwhile: old records deleted, logs compacted, partitions added.
    pub upkeep: bool,
}

/// How a process reaches the cluster.
#[derive(Debug, Clone)]
pub struct Client {
    pub name: String,
    pub starts: Duration,
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    pub retry_backoff: Duration,
    pub end: End,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When its work is done.
    Itself,
    /// By a signal.
    Signal(Duration),
    /// By SIGKILL.
    Kill(Duration),
}

/// What a producer does.
#[derive(Debug, Clone)]
pub struct Producing {
    pub client: Client,
    pub number: u32,
    pub records: u32,
    pub topics: Vec<Topic>,
    pub acks: Acks,
    pub idempotent: bool,
    /// The number of records of a transaction.
    pub transaction: Option<u32>,
    pub transaction_timeout: Duration,
    pub compression: Compression,
    pub batch_size: usize,
    pub linger: Duration,
    pub delivery_timeout: Duration,
    pub max_in_flight: usize,
    pub buffer_memory: usize,
    pub stop_on_failure: bool,
    pub padding: usize,
    /// The longest pause between two records, and how often there is one, in a hundred.
    pub pause: Duration,
    pub pauses: u8,
    pub seed: u64,
}

/// When a reader commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    Each,
    Every(Duration),
    Never,
}

/// A reader's group.
#[derive(Debug, Clone)]
pub struct Group {
    pub id: String,
    pub is_standalone: bool,
    pub protocol: GroupProtocol,
    pub assignor: Assignor,
    pub instance_id: Option<String>,
    pub commit: Commit,
    pub session_timeout: Duration,
    pub max_poll_interval: Duration,
}

/// What a reader does.
#[derive(Debug, Clone)]
pub struct Reading {
    pub client: Client,
    pub topics: Vec<Topic>,
    pub is_committed: bool,
    pub group: Option<Group>,
    pub fetch_ahead: usize,
    pub fetch_wait: Duration,
    /// The longest time that writing a batch takes, and how often it takes any, in a hundred.
    pub slow: Duration,
    pub slows: u8,
    /// When the output stalls for longer than the poll interval, and for how long.
    pub stall: Option<(Duration, Duration)>,
    pub seed: u64,
}

fn pick<T: Clone>(random: &mut fastrand::Rng, of: &[T]) -> T {
    of[random.usize(..of.len())].clone()
}

fn millis(random: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..=to))
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(random: &mut fastrand::Rng) -> Self {
        let storm = millis(random, 3_000, 20_000);
        let topics: Vec<Topic> = (0..random.i32(1..=2)).map(|n| (format!("t{n}"), random.i32(1..=3))).collect();
        let rough = pick(random, &[0.0, 0.03, 0.1, 0.25]);
        let weather = Weather {
            delay: Duration::from_millis(pick(random, &[1, 5, 30, 150])),
            cut: rough,
            silent: if random.u8(..3) == 0 { rough / 3.0 } else { 0.0 },
            refused: rough,
            unanswered: rough / 4.0,
            slow: if random.u8(..4) == 0 { 0.2 } else { 0.0 },
            within: pick(random, &[600, 5_000, 50_000]),
        };
        let producers = (0..random.u32(1..=3)).map(|n| Producing::of(random, n, &topics, storm)).collect();
        let mut readers = Vec::new();
        if random.u8(..3) > 0 {
            readers.push(Reading::of(random, "reader-0", &topics, storm, None));
        }
        if random.u8(..4) > 0 {
            let group = Group::of(random, 0);
            let members = if group.is_standalone { 1 } else { random.u32(1..=3) };
            let is_committed = random.bool();
            for n in 0..members {
                let mut group = group.clone();
                if random.u8(..5) == 0 && !group.is_standalone {
                    group.instance_id = Some(format!("static-{n}"));
                }
                let mut reading = Reading::of(random, &format!("member-{n}"), &topics, storm, Some(group));
                reading.is_committed = is_committed;
                if n > 0 {
                    reading.client.end = match random.u8(..4) {
                        0 => End::Kill(millis(random, 500, storm.as_millis() as u64)),
                        1 => End::Signal(millis(random, 500, storm.as_millis() as u64)),
                        _ => End::Itself,
                    };
                }
                readers.push(reading);
            }
        }
        Self {
            brokers: random.u16(1..=3),
            topics,
            producers,
            readers,
            storm,
            weather,
            every: Duration::from_millis(pick(random, &[150, 400, 1_000, 3_000])),
            rewrites: random.u8(..10) == 0,
            // Drawn apart: seeds without it are what they were before there was upkeep.
            upkeep: random.clone().u8(..4) == 0,
        }
    }

    /// Whether a reader takes part in the consumer protocol (KIP-848).
    pub fn has_consumer_protocol(&self) -> bool {
        let groups = self.readers.iter().filter_map(|reader| reader.group.as_ref());
        groups.into_iter().any(|group| group.protocol != GroupProtocol::Classic)
    }
}

impl Client {
    fn of(random: &mut fastrand::Rng, name: &str, storm: Duration) -> Self {
        let starts = if random.bool() { Duration::ZERO } else { millis(random, 0, storm.as_millis() as u64 / 2) };
        Self {
            name: name.to_owned(),
            starts,
            request_timeout: Duration::from_millis(pick(random, &[1_000, 3_000, 10_000])),
            connect_timeout: Duration::from_millis(pick(random, &[500, 2_000, 5_000])),
            retry_backoff: Duration::from_millis(pick(random, &[10, 50, 200])),
            end: End::Itself,
        }
    }
}

impl Producing {
    fn of(random: &mut fastrand::Rng, number: u32, topics: &[Topic], storm: Duration) -> Self {
        let mut client = Client::of(random, &format!("producer-{number}"), storm);
        client.end = match random.u8(..20) {
            0 => End::Kill(millis(random, 100, storm.as_millis() as u64)),
            1 => End::Signal(millis(random, 100, storm.as_millis() as u64)),
            _ => End::Itself,
        };
        let kind = random.u8(..8);
        let acks = match kind {
            0 => Acks::None,
            1 => Acks::Leader,
            _ => Acks::All,
        };
        let transaction = (kind >= 6).then(|| random.u32(1..=40));
        // The smallest takes one record.
        let batch_size = pick(random, &[1, 1, 400, 2_000, 16_000]);
        // Most of the storm, so that its faults meet batches on their way.
        let (records, pauses) = (random.u32(10..=120), pick(random, &[10_u8, 50, 100]));
        let span = storm.mul_f64(random.f64());
        let pause = span.mul_f64(200.0 / (f64::from(pauses) * f64::from(records)));
        let padding = if random.u8(..6) == 0 { random.usize(..2_000) } else { random.usize(..60) };
        Self {
            client,
            number,
            records,
            topics: topics.to_vec(),
            acks,
            idempotent: kind >= 3,
            transaction,
            transaction_timeout: millis(random, 4_000, 15_000),
            compression: match random.u8(..6) {
                0 => Compression { codec: Codec::Lz4, level: None },
                1 => Compression { codec: Codec::Gzip, level: None },
                _ => Compression { codec: Codec::None, level: None },
            },
            batch_size,
            linger: if random.bool() { Duration::ZERO } else { millis(random, 0, 100) },
            delivery_timeout: Duration::from_millis(pick(random, &[300, 1_000, 4_000, 20_000])),
            max_in_flight: random.usize(1..=5),
            buffer_memory: if random.u8(..5) == 0 { 20_000 } else { 64 << 20 },
            stop_on_failure: transaction.is_some() || random.bool(),
            padding,
            pause,
            pauses,
            seed: random.u64(..),
        }
    }
}

impl Group {
    fn of(random: &mut fastrand::Rng, number: u32) -> Self {
        let session_timeout = Duration::from_millis(pick(random, &[3_000, 6_000, 10_000]));
        Self {
            id: format!("group-{number}"),
            is_standalone: random.u8(..8) == 0,
            protocol: pick(random, &[GroupProtocol::Classic, GroupProtocol::Classic, GroupProtocol::Consumer]),
            assignor: pick(
                random,
                &[Assignor::CooperativeSticky, Assignor::Range, Assignor::RoundRobin, Assignor::Sticky],
            ),
            instance_id: None,
            commit: match random.u8(..5) {
                0 => Commit::Each,
                1 => Commit::Never,
                _ => Commit::Every(millis(random, 100, 3_000)),
            },
            session_timeout,
            max_poll_interval: session_timeout + millis(random, 0, 5_000),
        }
    }
}

impl Reading {
    fn of(random: &mut fastrand::Rng, name: &str, topics: &[Topic], storm: Duration, group: Option<Group>) -> Self {
        let stall = group.as_ref().filter(|_| random.u8(..8) == 0).map(|group| {
            (millis(random, 0, storm.as_millis() as u64), group.max_poll_interval + millis(random, 100, 3_000))
        });
        Self {
            client: Client::of(random, name, storm),
            topics: topics.to_vec(),
            is_committed: random.bool(),
            group,
            fetch_ahead: pick(random, &[2_000, 50_000, 16 << 20]),
            fetch_wait: millis(random, 500, 3_000),
            slow: Duration::from_millis(pick(random, &[5, 50, 500])),
            slows: pick(random, &[0, 20, 60]),
            stall,
            seed: random.u64(..),
        }
    }
}
