//! Producers and consumers of every kind on one cluster, and what must hold of them when all is over.

use crate::support::{Cluster, Done, Running, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Keys of the records: those of one key stay in order.
const KEYS: usize = 7;
/// Lines that a writer gets at once, and the pause before the next.
const LINES: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What a topic is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    Idempotent,
    /// Without idempotence a retry may repeat a batch.
    Plain,
    Transactional,
}

impl Writing {
    pub const ALL: [Self; 3] = [Self::Idempotent, Self::Plain, Self::Transactional];

    fn topic(self) -> &'static str {
        match self {
            Self::Idempotent => "idempotent",
            Self::Plain => "plain",
            Self::Transactional => "transactional",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Idempotent => &[],
            Self::Plain => &["--idempotent", "false"],
            Self::Transactional => &["--transactional-id", "load", "--transaction-interval", "500ms"],
        }
    }
}

/// A producer, and how many records it got.
struct Writer {
    writing: Writing,
    feeding: JoinHandle<Done>,
    fed: Arc<AtomicUsize>,
}

/// A consumer: alone, or members of a group.
struct Reader {
    of: Writing,
    group: Option<String>,
    members: Vec<Running>,
}

pub struct Load {
    bootstrap: String,
    stop: Arc<AtomicBool>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl Load {
    /// Creates the topics and starts all of it.
    pub fn start(kafka: &Cluster, replicas: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { bootstrap: kafka.bootstrap.clone(), stop, writers: Vec::new(), readers: Vec::new() };
        for writing in Writing::ALL {
            let create = ["topics", "create", writing.topic(), "--partitions", "3", "--replication-factor", replicas];
            kafka.kpipe(&[&create[..], &["--config", "min.insync.replicas=2"]].concat(), b"");
            load.write(writing);
            load.read(writing, None, &[], 1);
        }
        load.read(Writing::Idempotent, Some("classic-batch"), &["--group-protocol", "classic"], 2);
        load.read(Writing::Idempotent, Some("consumer-each"), &["--group-protocol", "consumer", "--commit", "each"], 2);
        load.read(
            Writing::Transactional,
            Some("classic-each"),
            &["--group-protocol", "classic", "--commit", "each"],
            1,
        );
        load.read(Writing::Plain, Some("consumer-batch"), &["--group-protocol", "consumer"], 2);
        load
    }

    fn write(&mut self, writing: Writing) {
        let common =
            ["-b", &self.bootstrap, "produce", writing.topic(), "-K", ":", "--timeout", "5m", "--batch-size", "8k"];
        let mut running = Running::kpipe(&[&common[..], writing.flags()].concat());
        let (stop, fed) = (self.stop.clone(), Arc::new(AtomicUsize::new(0)));
        let counter = fed.clone();
        let feeding = std::thread::spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let lines: String = (sent..sent + LINES).map(|n| format!("k{}:{n}\n", n % KEYS)).collect();
                running.write(lines.as_bytes());
                sent += LINES;
                counter.store(sent, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            running.finish()
        });
        self.writers.push(Writer { writing, feeding, fed });
    }

    fn read(&mut self, of: Writing, group: Option<&str>, flags: &[&str], members: usize) {
        let mut args = vec!["-b", &self.bootstrap, "consume", of.topic(), "-o", "beginning", "--output", "value"];
        args.extend(group.iter().flat_map(|group| ["-g", group]).chain(flags.iter().copied()));
        let members = (0..members).map(|_| Running::kpipe(&args)).collect();
        self.readers.push(Reader { of, group: group.map(str::to_owned), members });
    }

    /// Waits until each consumer that stands alone has written records that are fed from now on: the cluster is well.
    pub fn flows(&self) {
        let fed: Vec<usize> = self.writers.iter().map(|writer| writer.fed.load(Ordering::Relaxed)).collect();
        for reader in self.readers.iter().filter(|reader| reader.group.is_none()) {
            let writer = self.writers.iter().position(|writer| writer.writing == reader.of).unwrap();
            wait_until(&format!("records of {:?} to flow: {}", reader.of, reader.members[0].told()), || {
                reader.members[0].seen().lines().count() > fed[writer]
            });
        }
    }

    /// Ends all of it and checks it: each acknowledged record is there and was read, those of an idempotent or
    /// transactional producer once and in order, and all groups have committed all of it. Returns what there was.
    pub fn judge(self, kafka: &Cluster) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = BTreeMap::new();
        for writer in self.writers {
            let topic = writer.writing.topic();
            let done = writer.feeding.join().unwrap();
            let fed = writer.fed.load(Ordering::Relaxed);
            assert_eq!(done.code, 0, "{topic}: {}", done.stderr);
            assert!(done.stderr.contains(&format!("{fed} records delivered")), "{topic}: {}", done.stderr);
            sent.insert(topic, fed);
        }
        let mut told = Vec::new();
        for reader in self.readers {
            let (topic, fed) = (reader.of.topic(), sent[reader.of.topic()]);
            let who = format!("{} of {topic}", reader.group.as_deref().unwrap_or("a consumer alone"));
            let seen = |reader: &Reader| -> Vec<usize> {
                let lines = |member: &Running| member.seen().lines().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
                reader.members.iter().flat_map(lines).collect()
            };
            wait_until(&format!("all {fed} records for {who}"), || {
                seen(&reader).iter().collect::<BTreeSet<_>>().len() == fed
            });
            let mut all = Vec::new();
            for member in reader.members {
                member.signal(libc::SIGTERM);
                let done = member.ended();
                assert_eq!(done.code, 0, "{who}: {}", done.stderr);
                all.extend(done.stdout.lines().map(|n| n.parse::<usize>().unwrap()));
            }
            assert!(all.iter().all(|n| *n < fed), "{who} has read what was never written");
            match &reader.group {
                None if reader.of != Writing::Plain => {
                    assert_eq!(all.len(), fed, "{who} has read records twice");
                    for key in 0..KEYS {
                        let of_key: Vec<usize> = all.iter().copied().filter(|n| n % KEYS == key).collect();
                        assert!(of_key.is_sorted_by(|a, b| a < b), "{who}: order of key {key}");
                    }
                }
                None => {}
                Some(group) => {
                    let rest = kafka.kpipe(&["consume", topic, "-g", group, "-e", "--output", "value"], b"");
                    assert_eq!(rest.stdout, "", "{who} has not committed what it has written");
                }
            }
            told.push(format!("{who}: {fed} records, {} read again", all.len() - fed));
        }
        told.join("\n")
    }
}
