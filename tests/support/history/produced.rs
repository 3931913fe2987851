//! What producers were told, held against the logs.

use super::{Entry, Finding, History, Kind, Promise, RecordId, Told, TransactionEnd, find};
use kpipe::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Where each record stands in each log.
type Places = BTreeMap<RecordId, Vec<(TopicPartition, Offset)>>;

pub(super) fn judge(history: &History, findings: &mut Vec<Finding>) {
    let mut places = Places::new();
    for (of, log) in &history.logs {
        for (id, offsets) in log.places() {
            places.entry(id).or_default().extend(offsets.into_iter().map(|offset| (of.clone(), offset)));
        }
    }
    let mut told: BTreeMap<RecordId, (TopicPartition, Told)> = BTreeMap::new();
    let mut appended: Vec<RecordId> = Vec::new();
    for entry in &history.entries {
        match entry {
            Entry::Appended(id) => appended.push(*id),
            Entry::Receipt { of, ids, told: outcome } => {
                for (index, id) in ids.iter().enumerate() {
                    let outcome = match outcome {
                        Told::Written(first) => Told::Written(first.map(|first| first + index as Offset)),
                        other => *other,
                    };
                    if told.insert(*id, (of.clone(), outcome)).is_some() {
                        find(findings, Kind::Doubled, format!("{id} has two outcomes"));
                    }
                }
            }
            _ => {}
        }
    }
    for id in &appended {
        let Some(info) = history.producers.get(&id.producer) else { continue };
        match told.get(id) {
            None if info.has_ended => find(findings, Kind::NoOutcome, format!("{id} has no outcome")),
            None => {}
            Some((of, told)) => outcome(history, &places, *id, of, *told, info.promise, findings),
        }
    }
    order(history, &places, &told, findings);
    transactions(history, &places, findings);
}

/// Holds what was told of one record against the logs.
fn outcome(
    history: &History,
    places: &Places,
    id: RecordId,
    of: &TopicPartition,
    told: Told,
    promise: Promise,
    findings: &mut Vec<Finding>,
) {
    let none = Vec::new();
    let at = places.get(&id).unwrap_or(&none);
    let log = history.logs.get(of);
    let is_removed = log.is_some_and(|log| log.removed.contains(&id));
    match told {
        Told::Written(offset) if !matches!(promise, Promise::Nothing | Promise::LeaderOnly) => {
            if at.is_empty() && !is_removed {
                find(findings, Kind::Absent, format!("{id} was acknowledged in {of} and is in no log"));
            } else if let Some(offset) = offset
                && !is_removed
                && !at.iter().any(|(in_log, at)| in_log == of && *at == offset)
            {
                find(findings, Kind::WrongOffset, format!("{id} was acknowledged at {of} {offset}; it is at {at:?}"));
            }
        }
        Told::NotWritten if !at.is_empty() || is_removed => {
            find(findings, Kind::WrittenAfterAll, format!("{id} was called not written; it is at {at:?}"));
        }
        _ => {}
    }
    if matches!(promise, Promise::Idempotent | Promise::Transactional) && at.len() > 1 {
        find(findings, Kind::Doubled, format!("{id} is in the log {} times: {at:?}", at.len()));
    }
}

/// In each partition, a producer's records stand in the order in which they were handed over.
fn order(
    history: &History,
    places: &Places,
    told: &BTreeMap<RecordId, (TopicPartition, Told)>,
    findings: &mut Vec<Finding>,
) {
    let mut last: BTreeMap<(u32, &TopicPartition), (Offset, RecordId)> = BTreeMap::new();
    for (id, at) in places {
        let Some(info) = history.producers.get(&id.producer) else { continue };
        let is_strict = matches!(info.promise, Promise::Idempotent | Promise::Transactional);
        let is_acknowledged = matches!(told.get(id), Some((_, Told::Written(_))));
        if info.promise == Promise::Nothing || !(is_strict || is_acknowledged) {
            continue;
        }
        let Some((of, offset)) = at.first() else { continue };
        // A leader that lost what it had acknowledged, or whose topic was created again, has forgotten the sequences too.
        // What was removed and is still there is the repetition of a retry.
        if history.logs.get(of).is_some_and(|log| log.is_rewritten || log.removed.contains(id)) {
            continue;
        }
        if let Some((before, earlier)) = last.insert((id.producer, of), (*offset, *id))
            && before > *offset
        {
            let what = format!("{id} is at {of} {offset}, before {earlier} at {before}");
            find(findings, Kind::OutOfOrder, what);
        }
    }
}

/// Transactions are visible as a whole or not at all, as their producers were told.
fn transactions(history: &History, places: &Places, findings: &mut Vec<Finding>) {
    let mut open: BTreeMap<u32, Vec<RecordId>> = BTreeMap::new();
    let mut committing = BTreeSet::new();
    for entry in &history.entries {
        match entry {
            Entry::Commit { producer, is_pending: true } => _ = committing.insert(*producer),
            Entry::Commit { producer, is_pending: false } => _ = committing.remove(producer),
            Entry::Appended(id)
                if history.producers.get(&id.producer).is_some_and(|info| info.promise == Promise::Transactional) =>
            {
                open.entry(id.producer).or_default().push(*id);
            }
            Entry::TransactionEnded { producer, end } => {
                let ids = open.remove(producer).unwrap_or_default();
                committing.remove(producer);
                transaction(history, places, *producer, &ids, Some(*end), findings);
            }
            _ => {}
        }
    }
    for (producer, ids) in open {
        let end = committing.contains(&producer).then_some(TransactionEnd::Unknown);
        transaction(history, places, producer, &ids, end, findings);
    }
}

fn transaction(
    history: &History,
    places: &Places,
    producer: u32,
    ids: &[RecordId],
    end: Option<TransactionEnd>,
    findings: &mut Vec<Finding>,
) {
    let is_visible = |id: &RecordId| {
        let visible = |(of, offset): &(TopicPartition, Offset)| {
            history.logs.get(of).and_then(|log| log.records.get(offset)).is_some_and(|record| record.is_visible)
        };
        places.get(id).is_some_and(|at| at.iter().any(visible))
    };
    // With its records or its marker, a truncation takes away how a transaction ended.
    let is_removed = |id: &RecordId| {
        let is_rewritten = |of: &TopicPartition| history.logs.get(of).is_some_and(|log| log.is_rewritten);
        history.logs.values().any(|log| log.removed.contains(id))
            || places.get(id).is_some_and(|at| at.iter().any(|(of, _)| is_rewritten(of)))
    };
    let known: Vec<RecordId> = ids.iter().copied().filter(|id| !is_removed(id)).collect();
    let visible: BTreeSet<RecordId> = known.iter().copied().filter(is_visible).collect();
    let (all, some) = (visible.len() == known.len(), !visible.is_empty());
    let wrong = match end {
        Some(TransactionEnd::Committed) => (!all).then_some("was committed, and is not visible as a whole"),
        Some(TransactionEnd::Aborted) => some.then_some("was aborted, and is visible"),
        Some(TransactionEnd::Unknown) => (some && !all).then_some("is visible in part"),
        None => some.then_some("was never committed, and is visible"),
    };
    if let Some(wrong) = wrong {
        let (first, last) = (known.first(), known.last());
        let what = format!(
            "producer {producer}'s transaction from {first:?} to {last:?} {wrong}: {} of {}",
            visible.len(),
            known.len()
        );
        find(findings, Kind::Transaction, what);
    }
}
