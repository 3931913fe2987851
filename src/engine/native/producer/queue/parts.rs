//! A refused batch in parts: without its bad records, or in halves.

use super::{BadRecord, Batch, Done, Numbers, Queue, State, add};
use crate::engine::native::wire::{Codec, cut};
use crate::error::Error;
use std::collections::BTreeMap;

impl Queue {
    /// Cuts a batch: gives up the bad records, and keeps the others. Where the broker named none, both halves are
    /// tried; a single record is given up. The parts take the numbers of the whole: those after it stay as they are.
    pub(super) fn part(&mut self, whole: Batch, error: &Error, bad: &[BadRecord]) -> Vec<Done> {
        let count = whole.sealed.count as usize;
        let runs = match runs(count, bad) {
            runs if runs.iter().any(|run| run.bad.is_some()) => runs,
            _ if count > 1 => vec![Run { start: 0, bad: None }, Run { start: count / 2, bad: None }],
            _ => vec![Run { start: 0, bad: Some(None) }],
        };
        let starts: Vec<usize> = runs.iter().skip(1).map(|run| run.start).collect();
        let Some(parts) = cut(&whole.sealed, &starts) else { return vec![self.give_up(whole, error.clone())] };
        let state = if whole.sealed.codec == Codec::None { State::Ready } else { State::Raw };
        self.settling = true;
        let mut done = Vec::new();
        for (run, sealed) in runs.into_iter().zip(parts) {
            let shifted = |n: Numbers| Numbers { sequence: add(n.sequence, run.start as i32), ..n };
            let mut part = Batch {
                first_record: whole.first_record + run.start as u64,
                sealed,
                state,
                numbers: whole.numbers.map(shifted),
                ..whole.clone()
            };
            match run.bad {
                Some(why) => done.push(self.give_up(part, explained(error, why))),
                None => {
                    if !done.is_empty() {
                        // As if never sent: behind a failure, a run that ends with it leaves them out.
                        (part.numbers, part.last_error) = (None, None);
                    } else {
                        part.last_error = Some(error.clone());
                    }
                    self.insert(part);
                }
            }
        }
        done
    }
}

/// Neighbors in a batch that are bad for the same reason, or not bad.
struct Run {
    start: usize,
    /// The broker's reason, if it gave one.
    bad: Option<Option<String>>,
}

fn runs(count: usize, bad: &[BadRecord]) -> Vec<Run> {
    let bad: BTreeMap<usize, &Option<String>> = bad.iter().map(|record| (record.index, &record.why)).collect();
    let mut runs: Vec<Run> = Vec::new();
    for index in 0..count {
        let why = bad.get(&index).copied();
        if runs.last().is_none_or(|run| run.bad.as_ref() != why) {
            runs.push(Run { start: index, bad: why.cloned() });
        }
    }
    runs
}

/// `error` with what the broker says of a record.
fn explained(error: &Error, why: Option<String>) -> Error {
    match (error.clone(), why) {
        (Error::Kafka { action, subject, code, .. }, Some(why)) => {
            Error::Kafka { action, subject, code, detail: Some(why) }
        }
        (error, _) => error,
    }
}
