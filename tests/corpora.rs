//! What the fuzz targets found worth keeping is read again, by all that read bytes from outside: `scripts/fuzz` searches
//! for more.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use crate::support::report;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn corpus(of: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(of);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut listed: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    listed.sort();
    listed
}

#[test]
fn every_decoder_of_bytes_from_outside_reads_its_corpus() {
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            // What is cut short is met as well.
            for bytes in [&bytes[..], &bytes[..bytes.len() / 2]] {
                let read = std::panic::catch_unwind(|| target(bytes));
                assert!(read.is_ok(), "{}", input.display());
            }
        }
    }
}

/// Changes an input in one to four places; `other` is another input of the corpus.
fn mutated(input: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        let span = at..bytes.len().min(at + random.usize(1..9));
        match random.u8(..8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes[span].iter_mut().for_each(|byte| *byte = random.u8(..)),
            3 => bytes[span].iter_mut().for_each(|byte| *byte = [0, 0xff, 0x7f, 0x80][random.usize(..4)]),
            4 => drop(bytes.drain(span)),
            5 => bytes.splice(at..at, input[..input.len().min(32)].iter().copied()).for_each(drop),
            6 => bytes.splice(at.., other[other.len().min(at)..].iter().copied()).for_each(drop),
            _ => bytes[span].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
    }
    bytes
}

/// How many inputs are made of each one in a corpus, by default; `KPIPE_MUTATIONS=1000` makes more.
const MUTATIONS: u64 = 20;
/// What a target may take for one of them, in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn every_decoder_survives_changes_of_its_corpus() {
    let asked = std::env::var("KPIPE_MUTATIONS").ok();
    let rounds = asked.map_or(MUTATIONS, |rounds| rounds.parse().unwrap());
    let mut count = 0;
    for (name, target) in targets::TARGETS {
        let inputs: Vec<Vec<u8>> = corpus(name).iter().map(|path| std::fs::read(path).unwrap()).collect();
        for (index, input) in inputs.iter().enumerate() {
            for round in 0..rounds {
                let seed = (index as u64) << 32 | round;
                let mut random = fastrand::Rng::with_seed(seed);
                let other = &inputs[random.usize(..inputs.len())];
                let bytes = mutated(input, other, &mut random);
                let began = Instant::now();
                let read = std::panic::catch_unwind(|| target(&bytes));
                assert!(read.is_ok() && began.elapsed() < LONGEST, "{name}, seed {seed}: {bytes:?}");
                count += 1;
            }
        }
    }
    report(&format!("{count} changed inputs of {} decoders", targets::TARGETS.len()));
}

#[test]
fn every_corpus_has_a_target() {
    for folder in corpus("") {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(targets::TARGETS.iter().any(|(of, _)| *of == name), "{name}");
    }
}
