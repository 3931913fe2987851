//! What readers wrote out and committed, held against the logs.

use super::log::Logged;
use super::{Entry, Finding, History, Kind, Log, ReaderInfo, RecordId, find};
use kpipe::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Readers that share their progress: a group, or a reader that stands alone.
#[derive(Debug, Default)]
struct Shared {
    /// Where the first of them began in each partition.
    began: BTreeMap<TopicPartition, Offset>,
    handled: BTreeMap<TopicPartition, BTreeSet<Offset>>,
    /// What members were told is committed, and what the cluster has.
    committed: BTreeMap<TopicPartition, Offset>,
    /// Who was told the furthest of it.
    committed_by: BTreeMap<TopicPartition, String>,
    stored: BTreeMap<TopicPartition, Offset>,
}

struct Judge<'a> {
    history: &'a History,
    /// Where the next record of each partition that a reader reads must be at least.
    readings: BTreeMap<(&'a str, TopicPartition), Offset>,
    /// Those that began before what is committed: a reader that hears of its assignment when it has lost it does no harm.
    stale: BTreeMap<(&'a str, TopicPartition), String>,
    asked: BTreeSet<(&'a str, TopicPartition, Offset)>,
    shared: BTreeMap<&'a str, Shared>,
    findings: &'a mut Vec<Finding>,
}

pub(super) fn judge(history: &History, findings: &mut Vec<Finding>) {
    let mut judge = Judge {
        history,
        readings: BTreeMap::new(),
        stale: BTreeMap::new(),
        asked: BTreeSet::new(),
        shared: BTreeMap::new(),
        findings,
    };
    for entry in &history.entries {
        match entry {
            Entry::Begins { reader, of, at } => judge.begins(reader, of, *at),
            Entry::Wrote { reader, of, offset, id } => judge.wrote(reader, of, *offset, *id),
            Entry::Reached { reader, of, next } => judge.reached(reader, of, *next),
            Entry::CommitAsked { reader, of, offset } => drop(judge.asked.insert((reader, of.clone(), *offset))),
            Entry::Released { reader, of } => {
                judge.readings.remove(&(reader.as_str(), of.clone()));
                judge.stale.remove(&(reader.as_str(), of.clone()));
            }
            Entry::Committed { reader, of, offset } => judge.committed(reader, of, *offset),
            Entry::Stored { group, of, offset } => judge.stored(group, of, *offset),
            Entry::Appended(_) | Entry::Receipt { .. } | Entry::Commit { .. } | Entry::TransactionEnded { .. } => {}
        }
    }
    unread(history).into_iter().for_each(|what| judge.find(Kind::Lost, what));
}

impl<'a> Judge<'a> {
    fn info(&self, reader: &str) -> Option<&'a ReaderInfo> {
        self.history.readers.get(reader)
    }

    fn shared(&mut self, reader: &'a str) -> &mut Shared {
        let group = self.info(reader).and_then(|info| info.group.as_deref());
        self.shared.entry(group.unwrap_or(reader)).or_default()
    }

    fn log(&self, of: &TopicPartition) -> Option<&'a Log> {
        self.history.logs.get(of)
    }

    fn find(&mut self, kind: Kind, what: String) {
        find(self.findings, kind, what);
    }

    /// Whether the reader has had this offset committed: an attempt that nobody waits for any more may arrive behind a later
    /// one of the same member.
    fn is_asked(&self, reader: &str, of: &TopicPartition, offset: Offset) -> bool {
        self.asked.contains(&(reader, of.clone(), offset))
    }

    /// The offsets in a range that a reader must write out.
    fn visible(&self, reader: &str, of: &TopicPartition, from: Offset, to: Offset) -> Vec<Offset> {
        let Some(log) = self.log(of).filter(|_| from < to) else { return Vec::new() };
        let is_committed = self.info(reader).is_some_and(|info| info.is_committed);
        let seen = log.records.range(from..to).filter(|(_, record)| record.is_visible || !is_committed);
        seen.filter(|(_, record)| !log.removed.contains(&record.id)).map(|(offset, _)| *offset).collect()
    }

    fn begins(&mut self, reader: &'a str, of: &TopicPartition, at: Offset) {
        let is_rewritten = self.log(of).is_some_and(|log| log.is_rewritten);
        let shared = self.shared(reader);
        shared.began.entry(of.clone()).or_insert(at);
        let committed = shared.committed.get(of).copied();
        let by = shared.committed_by.get(of).cloned();
        let is_late = by.is_some_and(|by| self.is_asked(&by, of, at));
        if let Some(committed) = committed.filter(|committed| at < *committed && !is_rewritten && !is_late) {
            let what = format!("{reader} begins {of} at {at}, and {committed} is committed");
            self.stale.insert((reader, of.clone()), what);
        }
        self.readings.insert((reader, of.clone()), at);
    }

    fn wrote(&mut self, reader: &'a str, of: &TopicPartition, offset: Offset, id: RecordId) {
        if let Some(what) = self.stale.remove(&(reader, of.clone())) {
            self.find(Kind::StaleStart, what);
        }
        let log = self.log(of);
        let shared = self.shared(reader);
        shared.handled.entry(of.clone()).or_default().insert(offset);
        let Some(log) = log else { return };
        if log.is_rewritten {
            return;
        }
        match log.records.get(&offset) {
            Some(logged) if logged.id == id => {
                if !logged.is_visible && self.info(reader).is_some_and(|info| info.is_committed) {
                    self.find(
                        Kind::Transaction,
                        format!("{reader} wrote {id} of {of} {offset}, which is not committed"),
                    );
                }
            }
            _ if log.removed.contains(&id) => {}
            found => {
                self.find(Kind::Unfaithful, format!("{reader} wrote {id} as {of} {offset}; the log has {found:?}"));
            }
        }
        let Some(next) = self.readings.get(&(reader, of.clone())).copied() else {
            return self.find(Kind::Unfaithful, format!("{reader} wrote {of} {offset} without being assigned it"));
        };
        if offset < next {
            self.find(Kind::Doubled, format!("{reader} wrote {of} {offset} again; it was at {next}"));
        }
        self.skipped(reader, of, next, offset);
        if let Some(next) = self.readings.get_mut(&(reader, of.clone())) {
            *next = (offset + 1).max(*next);
        }
    }

    fn skipped(&mut self, reader: &str, of: &TopicPartition, from: Offset, to: Offset) {
        if let Some(first) = self.visible(reader, of, from, to).first() {
            self.find(Kind::Lost, format!("{reader} skipped {of} {first}: it went from {from} to {to}"));
        }
    }

    fn reached(&mut self, reader: &'a str, of: &TopicPartition, next: Offset) {
        if self.log(of).is_some_and(|log| log.is_rewritten) {
            return;
        }
        let Some(at) = self.readings.get(&(reader, of.clone())).copied() else { return };
        self.skipped(reader, of, at, next);
        if let Some(position) = self.readings.get_mut(&(reader, of.clone())) {
            *position = next.max(*position);
        }
    }

    fn committed(&mut self, reader: &'a str, of: &TopicPartition, offset: Offset) {
        self.handled_before(reader, of, offset);
        let shared = self.shared(reader);
        let committed = shared.committed.entry(of.clone()).or_insert(offset);
        if offset >= *committed {
            *committed = offset;
            shared.committed_by.insert(of.clone(), reader.to_owned());
        }
    }

    /// Everything before a committed offset was written out by somebody.
    fn handled_before(&mut self, reader: &'a str, of: &TopicPartition, offset: Offset) {
        if self.log(of).is_some_and(|log| log.is_rewritten) {
            return;
        }
        let group = self.info(reader).and_then(|info| info.group.as_deref());
        let Some(shared) = self.shared.get(group.unwrap_or(reader)) else { return };
        let (Some(began), handled) = (shared.began.get(of), shared.handled.get(of)) else { return };
        let is_missing = |at: &Offset| handled.is_none_or(|handled| !handled.contains(at));
        let missing = self.visible(reader, of, *began, offset).into_iter().find(is_missing);
        if let Some(missing) = missing {
            self.find(
                Kind::CommittedNotHandled,
                format!("{reader}: {of} {offset} is committed, {missing} not handled"),
            );
        }
    }

    fn stored(&mut self, group: &'a str, of: &TopicPartition, offset: Offset) {
        let is_rewritten = self.log(of).is_some_and(|log| log.is_rewritten);
        let shared = self.shared.entry(group).or_default();
        let before = shared.stored.insert(of.clone(), offset);
        let by = shared.committed_by.get(of).cloned();
        let is_late = by.is_some_and(|by| self.is_asked(&by, of, offset));
        if before.is_some_and(|before| before > offset && !is_rewritten && !is_late) {
            self.find(Kind::MovedBack, format!("group {group}: {of} was committed at {before:?}, now at {offset}"));
        }
        // A member of the group stands for all of it: they read alike.
        let member = self.history.readers.iter().find(|(_, info)| info.group.as_deref() == Some(group));
        if let Some((reader, _)) = member {
            self.handled_before(reader, of, offset);
        }
    }
}

/// The process that a run's name begins with.
pub(super) fn process_of(reader: &str) -> &str {
    reader.rsplit_once('.').map_or(reader, |(process, _)| process)
}

/// What readers that must read everything have not written out; of each reader and partition the first record.
pub(super) fn unread(history: &History) -> Vec<String> {
    // The members of a group, or the runs of a process, of which each goes over everything.
    let by = |reader: &str| -> String {
        let group = history.readers.get(reader).and_then(|info| info.group.as_deref());
        group.unwrap_or_else(|| process_of(reader)).to_owned()
    };
    let mut wrote: BTreeMap<String, BTreeSet<RecordId>> = BTreeMap::new();
    for entry in &history.entries {
        if let Entry::Wrote { reader, id, .. } = entry {
            wrote.entry(by(reader)).or_default().insert(*id);
        }
    }
    let (mut missing, none) = (Vec::new(), BTreeSet::new());
    for (reader, info) in &history.readers {
        let wrote = wrote.get(&by(reader)).unwrap_or(&none);
        for (of, log) in history.logs.iter().filter(|(of, _)| info.reads_all_of.contains(&*of.topic)) {
            // Commits name topics, not their IDs: one of the topic before may be stored for its successor.
            if log.is_recreated && info.group.is_some() {
                continue;
            }
            // A truncation may take away the marker that a reader went by.
            let is_undecided = |record: &Logged| log.is_rewritten && info.is_committed && record.is_transactional;
            let is_read = |record: &Logged| {
                wrote.contains(&record.id) || log.removed.contains(&record.id) || is_undecided(record)
            };
            let until = log.open_from.filter(|_| info.is_committed).unwrap_or(Offset::MAX);
            let mut visible = log.records.range(..until).filter(|(_, record)| record.is_visible || !info.is_committed);
            if let Some((offset, record)) = visible.find(|(_, record)| !is_read(record)) {
                missing.push(format!("{reader} never wrote {} of {of} {offset}", record.id));
            }
        }
    }
    missing
}
