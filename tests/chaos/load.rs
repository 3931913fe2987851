//! Producers and consumers of every kind on one cluster, and what must hold of them when all is over.

use crate::support::history::{History, Promise, ReaderInfo, judge};
use crate::support::{Cluster, Done, Running, wait_until};
use kpipe::record::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys of the records: those of one key stay in order.
const KEYS: usize = 7;
/// Lines that a writer gets at once, and the pause before the next.
const LINES: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// How long readers may stand still with something left when all is well again.
const PATIENCE: Duration = Duration::from_secs(120);

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

    fn promise(self) -> Promise {
        match self {
            Self::Idempotent => Promise::Idempotent,
            Self::Plain => Promise::AtLeastOnce,
            Self::Transactional => Promise::Transactional,
        }
    }

    fn partitions(self) -> [TopicPartition; 3] {
        [0, 1, 2].map(|partition| TopicPartition::new(self.topic(), partition))
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
    group: Option<&'static str>,
    flags: &'static [&'static str],
    members: Vec<Running>,
    /// What those have written that are no more.
    ended: Vec<String>,
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
        let number = self.writers.len();
        let common = ["-b", &self.bootstrap, "produce", writing.topic(), "-K", "=", "--receipts"];
        let common = [&common[..], &["--timeout", "5m", "--batch-size", "8k"]].concat();
        let mut running = Running::kpipe(&[&common[..], writing.flags()].concat());
        let (stop, fed) = (self.stop.clone(), Arc::new(AtomicUsize::new(0)));
        let counter = fed.clone();
        let feeding = std::thread::spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let lines: String = (sent..sent + LINES).map(|n| format!("k{}={number}:{n}:\n", n % KEYS)).collect();
                running.write(lines.as_bytes());
                sent += LINES;
                counter.store(sent, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            running.finish()
        });
        self.writers.push(Writer { writing, feeding, fed });
    }

    fn read(&mut self, of: Writing, group: Option<&'static str>, flags: &'static [&'static str], members: usize) {
        let mut reader = Reader { of, group, flags, members: Vec::new(), ended: Vec::new() };
        reader.members = (0..members).map(|_| reader.start(&self.bootstrap)).collect();
        self.readers.push(reader);
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

    /// Kills a member of a group, and starts another in its place.
    pub fn replace_a_member(&mut self, random: usize) {
        let mut groups: Vec<&mut Reader> = self.readers.iter_mut().filter(|reader| reader.group.is_some()).collect();
        let count = groups.len();
        let reader = &mut groups[random % count];
        let member = reader.members.remove(0);
        member.signal(libc::SIGKILL);
        reader.ended.push(member.ended().stdout);
        reader.members.push(reader.start(&self.bootstrap));
    }

    /// Ends all of it and has it judged; returns what there was.
    pub fn judge(self, kafka: &Cluster) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut produced = Vec::new();
        for (number, writer) in (0..).zip(self.writers) {
            let topic = writer.writing.topic();
            let done = writer.feeding.join().unwrap();
            assert_eq!(done.code, 0, "{topic}: {}", done.stderr);
            produced.push((number, writer.writing, writer.fed.load(Ordering::Relaxed) as u32, done.stdout));
        }
        let mut logs = History::default();
        for (_, writing, ..) in &produced {
            logs.add_logs(&kafka.bootstrap, &writing.partitions(), *writing == Writing::Transactional);
        }
        let history = |readers: &[Reader]| {
            let mut history = History { logs: logs.logs.clone(), ..History::default() };
            for (number, writing, fed, receipts) in &produced {
                history.add_receipts(*number, writing.promise(), *fed, receipts);
            }
            for reader in readers {
                for (n, output) in reader.outputs().enumerate() {
                    let info = ReaderInfo {
                        group: reader.group.map(str::to_owned),
                        is_committed: true,
                        reads_all_of: BTreeSet::from([reader.of.topic().to_owned()]),
                    };
                    let name = format!("{}.{n}", reader.group.unwrap_or(reader.of.topic()));
                    history.add_reader(&name, info, &reader.of.partitions(), &output);
                }
            }
            history
        };
        let (mut last, mut since) = (String::new(), Instant::now());
        while let Some(unread) = history(&self.readers).unread() {
            // One that commits each record may be far behind, and is only slow while it goes on.
            if unread != last {
                (last, since) = (unread, Instant::now());
            }
            let members = || self.readers.iter().flat_map(|reader| &reader.members).map(Running::told);
            assert!(since.elapsed() < PATIENCE, "{last}: {:#?}", members().collect::<Vec<_>>());
            std::thread::sleep(Duration::from_secs(1)); // it reads all that was written again
        }
        let mut readers = self.readers;
        for reader in &mut readers {
            for member in std::mem::take(&mut reader.members) {
                member.signal(libc::SIGTERM);
                let done = member.ended();
                assert_eq!(done.code, 0, "{:?} of {:?}: {}", reader.group, reader.of, done.stderr);
                reader.ended.push(done.stdout);
            }
            if let Some(group) = reader.group {
                let rest = kafka.kpipe(&["consume", reader.of.topic(), "-g", group, "-e"], b"");
                assert_eq!(rest.stdout, "", "{group} did not commit all that it wrote");
            }
        }
        let history = history(&readers);
        let findings = judge(&history);
        assert!(findings.is_empty(), "{} findings: {:#?}", findings.len(), &findings[..findings.len().min(20)]);
        let mut told = Vec::new();
        for (_, writing, fed, _) in &produced {
            let in_log: usize = writing.partitions().iter().map(|of| history.logs[of].records.len()).sum();
            told.push(format!("{}: {fed} records acknowledged, {in_log} in its logs", writing.topic()));
        }
        for reader in &readers {
            let lines: usize = reader.ended.iter().map(|output| output.lines().count()).sum();
            let who = reader.group.unwrap_or("a consumer alone");
            told.push(format!(
                "{who} of {}: {lines} records written in {} runs",
                reader.of.topic(),
                reader.ended.len()
            ));
        }
        told.push("no findings".to_owned());
        told.join("\n")
    }
}

impl Reader {
    fn start(&self, bootstrap: &str) -> Running {
        let args = ["-b", bootstrap, "consume", self.of.topic(), "-o", "beginning"];
        let group = self.group.iter().flat_map(|group| ["-g", group]);
        Running::kpipe(&args.into_iter().chain(group).chain(self.flags.iter().copied()).collect::<Vec<_>>())
    }

    /// What each of its runs has written so far.
    fn outputs(&self) -> impl Iterator<Item = String> {
        self.ended.iter().cloned().chain(self.members.iter().map(Running::seen))
    }
}
