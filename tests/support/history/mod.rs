//! The judge: takes what was produced, read, written, committed and what is in the logs, and reports what contradicts
//! the promises. It knows nothing of brokers or of how the history came about: the simulator, the tests of real brokers
//! that fail, and the soak use it alike.
//!
//! Every record names itself: its value begins with the [`RecordId`] that its producer gave it.

mod log;
mod observed;
mod produced;
mod read;
mod tests;

pub use log::Log;

use kpipe::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A record: its producer, and its number among that one's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    pub producer: u32,
    pub number: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.producer, self.number)
    }
}

impl RecordId {
    /// The ID that a value begins with.
    pub fn of(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value.get(..value.len().min(24))?).ok()?;
        let mut parts = text.split(':');
        let producer = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        parts.next().map(|_| Self { producer, number })
    }
}

/// What a producer was told of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Acknowledged; the first one's offset, if the broker returned it.
    Written(Option<Offset>),
    NotWritten,
    PossiblyWritten,
}

/// How a transaction ended, as its producer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Committed,
    Aborted,
    /// The producer could not find out.
    Unknown,
}

/// What a producer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// acks=0: nothing.
    Nothing,
    /// acks=1: what is acknowledged is lost where its leader is.
    LeaderOnly,
    /// What is acknowledged is in the log; a retry may double it.
    AtLeastOnce,
    /// Nothing is doubled, and the order is kept.
    Idempotent,
    Transactional,
}

/// Something that happened, in the order in which it did.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A record was handed over.
    Appended(RecordId),
    /// Consecutive records of one partition have an outcome.
    Receipt { of: TopicPartition, ids: Vec<RecordId>, told: Told },
    /// A commit is pending, until its end or until the producer is told that it failed: one that is killed meanwhile
    /// leaves an outcome that nobody knows.
    Commit { producer: u32, is_pending: bool },
    /// The records since the end before belong to a transaction that ended so.
    TransactionEnded { producer: u32, end: TransactionEnd },
    /// Reading of a partition begins.
    Begins { reader: String, of: TopicPartition, at: Offset },
    /// A record was written out.
    Wrote { reader: String, of: TopicPartition, offset: Offset, id: RecordId },
    /// Everything before an offset was handled.
    Reached { reader: String, of: TopicPartition, next: Offset },
    /// The reader has an offset committed; it may be told so later, or never.
    CommitAsked { reader: String, of: TopicPartition, offset: Offset },
    /// The reader has given a partition up, or lost it.
    Released { reader: String, of: TopicPartition },
    /// A reader was told that its commit succeeded.
    Committed { reader: String, of: TopicPartition, offset: Offset },
    /// The cluster's committed offset of a group, as seen from outside.
    Stored { group: String, of: TopicPartition, offset: Offset },
}

/// A producer, as the judge has to know it.
#[derive(Debug, Clone)]
pub struct ProducerInfo {
    pub promise: Promise,
    /// Whether it ran to its end, so that every record must have an outcome.
    pub has_ended: bool,
}

/// A reader, as the judge has to know it.
#[derive(Debug, Clone)]
pub struct ReaderInfo {
    /// Its group; readers without one stand alone.
    pub group: Option<String>,
    /// Whether it reads committed records only.
    pub is_committed: bool,
    /// The topics that it must have read to their ends; none when it was ended before.
    pub reads_all_of: BTreeSet<String>,
}

/// All that happened, and what is in the logs at the end.
#[derive(Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub producers: BTreeMap<u32, ProducerInfo>,
    pub readers: BTreeMap<String, ReaderInfo>,
    pub logs: BTreeMap<TopicPartition, Log>,
    /// What took longer than it may although the cluster was well: what, and how long it took.
    pub stalls: Vec<(String, Duration)>,
    /// What was found while it happened.
    pub found: Vec<Finding>,
}

impl History {
    /// The readers whose names `are` so must have read all of `topics`: of each, its last run.
    pub fn must_read(&mut self, topics: &[(String, i32)], are: impl Fn(&str) -> bool) {
        let run = |name: &str| name.rsplit_once('.').and_then(|(_, run)| run.parse::<u32>().ok());
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for name in self.readers.keys().filter(|name| are(name)) {
            let best = last.entry(read::process_of(name).to_owned()).or_insert_with(|| name.clone());
            if run(name) > run(best) {
                best.clone_from(name);
            }
        }
        for name in last.values() {
            if let Some(info) = self.readers.get_mut(name) {
                info.reads_all_of = topics.iter().map(|(topic, _)| topic.clone()).collect();
            }
        }
    }

    /// A record that somebody must have written out and has not.
    pub fn unread(&self) -> Option<String> {
        read::unread(self).into_iter().next()
    }
}

/// A contradiction to a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub what: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged and absent.
    Absent,
    /// Acknowledged at an offset where the log has something else.
    WrongOffset,
    /// "Not written" and present.
    WrittenAfterAll,
    /// In the log twice, or written out twice, where that is not promised away.
    Doubled,
    OutOfOrder,
    /// A record without an outcome.
    NoOutcome,
    /// Written out, and not what the log has there.
    Unfaithful,
    /// An answer that was right, and was taken for malformed.
    Misread,
    /// Skipped by a reader.
    Lost,
    CommittedNotHandled,
    /// A committed offset that moved back.
    MovedBack,
    /// Reading began before what was committed.
    StaleStart,
    /// Records of a transaction that did not commit are visible, or of one that did are not.
    Transaction,
    /// No progress although the cluster is well.
    Stalled,
    Flood,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Everything that contradicts the promises.
pub fn judge(history: &History) -> Vec<Finding> {
    let mut findings = history.found.clone();
    produced::judge(history, &mut findings);
    read::judge(history, &mut findings);
    for (what, took) in &history.stalls {
        findings.push(Finding { kind: Kind::Stalled, what: format!("{what} after {} s", took.as_secs()) });
    }
    findings
}

/// Adds a finding.
fn find(findings: &mut Vec<Finding>, kind: Kind, what: String) {
    findings.push(Finding { kind, what });
}
