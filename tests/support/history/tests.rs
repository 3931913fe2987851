//! The judge finds what a history was made wrong on purpose in, and nothing else.

use super::log::Logged;
use super::*;

fn of() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn id(number: u32) -> RecordId {
    RecordId { producer: 0, number }
}

/// A log with these records from offset 0 on, all visible.
fn log(numbers: &[u32]) -> Log {
    let record = |(offset, number): (usize, &u32)| {
        (offset as Offset, Logged { id: id(*number), is_visible: true, is_transactional: false })
    };
    Log { records: numbers.iter().enumerate().map(record).collect(), ..Log::default() }
}

/// Three records that were acknowledged, and a member of a group that has read and committed them.
fn faultless() -> History {
    let reader = || "a.0".to_owned();
    let wrote = |number: u32| Entry::Wrote { reader: reader(), of: of(), offset: number.into(), id: id(number) };
    let entries = vec![
        Entry::Appended(id(0)),
        Entry::Appended(id(1)),
        Entry::Appended(id(2)),
        Entry::Receipt { of: of(), ids: vec![id(0), id(1), id(2)], told: Told::Written(Some(0)) },
        Entry::Begins { reader: reader(), of: of(), at: 0 },
        wrote(0),
        wrote(1),
        wrote(2),
        Entry::Reached { reader: reader(), of: of(), next: 3 },
        Entry::Committed { reader: reader(), of: of(), offset: 3 },
        Entry::Stored { group: "g".to_owned(), of: of(), offset: 3 },
    ];
    let producer = ProducerInfo { promise: Promise::Idempotent, has_ended: true };
    let info = ReaderInfo { group: Some("g".to_owned()), is_committed: true, reads_all_of: ["t".to_owned()].into() };
    History {
        entries,
        producers: [(0, producer)].into(),
        readers: [(reader(), info)].into(),
        logs: [(of(), log(&[0, 1, 2]))].into(),
        ..History::default()
    }
}

/// The kinds of what is found once `change` has made the history wrong.
fn found(change: impl FnOnce(&mut History)) -> BTreeSet<Kind> {
    let mut history = faultless();
    change(&mut history);
    judge(&history).into_iter().map(|finding| finding.kind).collect()
}

fn told(history: &mut History, told: Told) {
    history.entries[3] = Entry::Receipt { of: of(), ids: vec![id(0), id(1), id(2)], told };
}

fn put_log(history: &mut History, numbers: &[u32]) {
    history.logs = [(of(), log(numbers))].into();
    // Whoever reads is not the matter here.
    history.entries.truncate(4);
    history.readers.clear();
}

#[test]
fn nothing_is_found_in_a_faultless_history() {
    assert_eq!(found(|_| {}), BTreeSet::new());
}

#[test]
fn what_producers_were_told_is_held_against_the_log() {
    assert_eq!(found(|history| put_log(history, &[0, 1])), [Kind::Absent].into());
    assert_eq!(found(|history| put_log(history, &[0, 2, 1])), [Kind::WrongOffset, Kind::OutOfOrder].into());
    assert_eq!(found(|history| put_log(history, &[0, 1, 2, 1])), [Kind::Doubled].into());
    assert_eq!(found(|history| told(history, Told::NotWritten)), [Kind::WrittenAfterAll].into());
    assert_eq!(found(|history| told(history, Told::PossiblyWritten)), BTreeSet::new());
    assert_eq!(found(|history| drop(history.entries.remove(3))), [Kind::NoOutcome].into());
}

#[test]
fn a_retry_may_double_records_without_idempotence_but_not_lose_them() {
    let plain = |history: &mut History, numbers: &[u32]| {
        put_log(history, numbers);
        history.producers = [(0, ProducerInfo { promise: Promise::AtLeastOnce, has_ended: true })].into();
    };
    assert_eq!(found(|history| plain(history, &[0, 1, 2, 1])), BTreeSet::new());
    assert_eq!(found(|history| plain(history, &[0, 1])), [Kind::Absent].into());
}

#[test]
fn what_readers_wrote_is_held_against_the_log() {
    let skip = |history: &mut History| drop(history.entries.remove(6));
    assert_eq!(found(skip), [Kind::Lost, Kind::CommittedNotHandled].into());
    let repeat = |history: &mut History| {
        let again = history.entries[6].clone();
        history.entries.insert(8, again);
    };
    assert_eq!(found(repeat), [Kind::Doubled].into());
    let other = |history: &mut History| {
        history.entries[6] = Entry::Wrote { reader: "a.0".to_owned(), of: of(), offset: 1, id: id(7) };
    };
    assert_eq!(found(other), [Kind::Unfaithful, Kind::Lost].into());
    let none = |history: &mut History| history.entries.truncate(4);
    assert_eq!(found(none), [Kind::Lost].into());
}

#[test]
fn commits_are_held_against_what_was_written() {
    let committed = |offset| Entry::Committed { reader: "a.0".to_owned(), of: of(), offset };
    let stored = |offset| Entry::Stored { group: "g".to_owned(), of: of(), offset };
    let early = |history: &mut History| history.entries.insert(6, committed(2));
    assert_eq!(found(early), [Kind::CommittedNotHandled].into());
    assert_eq!(found(|history| history.entries.insert(6, stored(2))), [Kind::CommittedNotHandled].into());
    assert_eq!(found(|history| history.entries.push(stored(1))), [Kind::MovedBack].into());
    let stale = |history: &mut History| {
        history.entries.push(Entry::Begins { reader: "a.0".to_owned(), of: of(), at: 1 });
    };
    assert_eq!(found(stale), [].into(), "nothing comes of it");
    let read_again = |history: &mut History| {
        stale(history);
        history.entries.push(Entry::Wrote { reader: "a.0".to_owned(), of: of(), offset: 1, id: id(1) });
    };
    assert_eq!(found(read_again), [Kind::StaleStart].into());
    let late = |history: &mut History| {
        history.entries.push(Entry::CommitAsked { reader: "a.0".to_owned(), of: of(), offset: 1 });
        history.entries.push(stored(1));
    };
    assert_eq!(found(late), [].into(), "the member's own, overtaken");
}

/// A producer that repeats may write a record twice; compaction removes the first copy.
#[test]
fn what_is_left_of_a_repeated_record_is_not_out_of_order() {
    let repeated = |is_removed: bool| {
        found(|history| {
            put_log(history, &[1, 2, 0]);
            history.entries[3] = Entry::Receipt { of: of(), ids: vec![id(0), id(1), id(2)], told: Told::Written(None) };
            history.producers = [(0, ProducerInfo { promise: Promise::AtLeastOnce, has_ended: true })].into();
            history.logs.values_mut().for_each(|log| log.removed.extend(is_removed.then_some(id(0))));
        })
    };
    assert_eq!(repeated(false), [Kind::OutOfOrder].into());
    assert_eq!(repeated(true), BTreeSet::new());
}

/// What other programs see: receipts, JSON lines, and logs.
#[test]
fn a_history_is_put_together_from_what_processes_wrote() {
    let judged = |receipts: &str, output: &str| {
        let mut history = History { logs: [(of(), log(&[0, 1, 2]))].into(), ..History::default() };
        history.add_receipts(0, Promise::Idempotent, 3, receipts);
        let info = ReaderInfo { group: None, is_committed: true, reads_all_of: ["t".to_owned()].into() };
        history.add_reader("alone.0", info, &[of()], output);
        judge(&history).into_iter().map(|finding| finding.kind).collect::<BTreeSet<Kind>>()
    };
    let receipt = |n: u32, offset: u32| {
        let record = n + 1;
        format!("{{\"record\":{record},\"topic\":\"t\",\"partition\":0,\"offset\":{offset}}}\n")
    };
    let refused = |flag: bool| {
        let failed = format!("\"error\":\"X\",\"possibly_written\":{flag}");
        format!("{{\"record\":3,\"topic\":\"t\",\"partition\":0,{failed}}}\n")
    };
    let line = |n: u32| format!("{{\"topic\":\"t\",\"partition\":0,\"offset\":{n},\"value\":\"0:{n}:\"}}\n");
    let (two, read) = (receipt(0, 0) + &receipt(1, 1), line(0) + &line(1) + &line(2));
    assert_eq!(judged(&(two.clone() + &receipt(2, 2)), &read), BTreeSet::new());
    assert_eq!(judged(&(two.clone() + &receipt(2, 7)), &read), [Kind::WrongOffset].into());
    assert_eq!(judged(&(two.clone() + &refused(true)), &read), BTreeSet::new());
    assert_eq!(judged(&(two.clone() + &refused(false)), &read), [Kind::WrittenAfterAll].into());
    assert_eq!(judged(&two, &read), [Kind::NoOutcome].into());
    let whole = two + &receipt(2, 2);
    assert_eq!(judged(&whole, &(line(0) + &line(2))), [Kind::Lost].into(), "skipped, and never written");
    assert_eq!(judged(&whole, &(read.clone() + &line(1))), [Kind::Doubled].into());
    assert_eq!(judged(&whole, &(line(0) + &line(1) + line(2).trim_end())), [Kind::Lost].into(), "cut short");
}

#[test]
fn transactions_are_visible_as_a_whole_or_not_at_all() {
    let judged = |entries: &[Entry], visible: [bool; 3]| {
        found(|history| {
            put_log(history, &[0, 1, 2]);
            history.producers = [(0, ProducerInfo { promise: Promise::Transactional, has_ended: true })].into();
            history.entries.extend_from_slice(entries);
            for log in history.logs.values_mut() {
                log.records.values_mut().zip(visible).for_each(|(record, is_visible)| record.is_visible = is_visible);
            }
        })
    };
    for (end, visible, is_right) in [
        (TransactionEnd::Committed, [true; 3], true),
        (TransactionEnd::Committed, [true, true, false], false),
        (TransactionEnd::Committed, [false; 3], false),
        (TransactionEnd::Aborted, [false; 3], true),
        (TransactionEnd::Aborted, [false, true, false], false),
        (TransactionEnd::Unknown, [false; 3], true),
        (TransactionEnd::Unknown, [true; 3], true),
        (TransactionEnd::Unknown, [true, false, false], false),
    ] {
        let found = judged(&[Entry::TransactionEnded { producer: 0, end }], visible);
        assert_eq!(found.is_empty(), is_right, "{end:?} {visible:?}");
    }
    // It never ended, as far as its producer knows.
    let commit = |is_pending| Entry::Commit { producer: 0, is_pending };
    assert!(!judged(&[], [true; 3]).is_empty());
    assert!(judged(&[commit(true)], [true; 3]).is_empty(), "killed during a commit");
    assert!(!judged(&[commit(true), commit(false)], [true; 3]).is_empty(), "told that the commit failed");
}

#[test]
fn what_takes_too_long_is_found() {
    let stall =
        |history: &mut History| history.stalls.push(("records are not read".to_owned(), Duration::from_secs(1)));
    assert_eq!(found(stall), [Kind::Stalled].into());
}
