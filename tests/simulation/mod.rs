//! A deterministic simulation: the engine's producers and consumers and the brokers of `kpipe local` in one thread, on a
//! simulated network and clock, every choice from one seed. The same seed gives the same run, byte for byte.
//!
//! `scripts/simulate` runs more seeds, or one again.

mod faults;
mod network;
mod producing;
mod reading;
mod scenario;
mod threads;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use world::Outcome;

/// The seeds that the suite runs.
const SEEDS: std::ops::Range<u64> = 0..2_000;
/// Seeds that found something once, and are run with them.
const FOUND: [u64; 3] = [11_942, 38_445, 63_031];

/// A seed that takes longer, in real time, spins.
const LONGEST: Duration = Duration::from_secs(120);

/// What all seeds of a run came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    simulated: Duration,
    records: usize,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.records += outcome.records;
        for (fault, count) in outcome.trace.faults() {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

/// What a seed found, with its last events.
fn describe(outcome: &Outcome) -> String {
    let findings: Vec<String> = outcome.findings.iter().take(10).map(ToString::to_string).collect();
    format!(
        "seed {}: {} findings\n  {}\nlast events:\n{}\nrepeat it with scripts/simulate --seed {}",
        outcome.seed,
        outcome.findings.len(),
        findings.join("\n  "),
        outcome.trace.last().join("\n"),
        outcome.seed
    )
}

/// Hands `work` to threads on all processors, until it ends or `each` has enough.
fn in_parallel<T>(work: impl Iterator<Item = T> + Send, each: impl Fn(T, &Watchdog) -> ControlFlow<()> + Sync) {
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let watchdog = Watchdog::start();
                loop {
                    let Some(next) = work.lock().unwrap().next() else { break };
                    if each(next, &watchdog).is_break() {
                        break;
                    }
                }
            });
        }
    });
}

/// Runs seeds on all processors, until they end or the time is over.
fn simulate(seeds: impl Iterator<Item = u64> + Send, until: Option<Instant>) -> Total {
    let total = Mutex::new(Total::default());
    in_parallel(seeds, |seed, watchdog| {
        if until.is_some_and(|until| Instant::now() >= until) || total.lock().unwrap().failed.len() >= 5 {
            return ControlFlow::Break(());
        }
        watchdog.begin(seed);
        let outcome = std::panic::catch_unwind(|| world::run(seed, false));
        let mut total = total.lock().unwrap();
        match outcome {
            Ok(outcome) => {
                total.add(&outcome);
                if !outcome.findings.is_empty() {
                    eprintln!("{}", describe(&outcome));
                    total.failed.push(seed);
                }
            }
            Err(_) => {
                eprintln!("seed {seed} panicked; repeat it with scripts/simulate --seed {seed}");
                total.failed.push(seed);
            }
        }
        ControlFlow::Continue(())
    });
    total.into_inner().unwrap()
}

/// Ends the process when a seed spins: no time passes in its world then, and nothing else would end it.
struct Watchdog(mpsc::Sender<u64>);

impl Watchdog {
    fn start() -> Self {
        let (begun, seeds) = mpsc::channel();
        std::thread::spawn(move || {
            let Ok(mut seed) = seeds.recv() else { return };
            loop {
                match seeds.recv_timeout(LONGEST) {
                    Ok(next) => seed = next,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        eprintln!("seed {seed} spins: it takes more than {LONGEST:?}");
                        std::process::abort();
                    }
                }
            }
        });
        Self(begun)
    }

    fn begin(&self, seed: u64) {
        // Err: never, its thread lives as long as this.
        let _ = self.0.send(seed);
    }
}

fn summary(total: &Total, took: Duration) -> String {
    let faults: Vec<String> = total.faults.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
    format!(
        "{} seeds in {} s: {:.1} simulated hours, {} records judged; faults: {}",
        total.seeds,
        took.as_secs(),
        total.simulated.as_secs_f64() / 3600.0,
        total.records,
        faults.join(", ")
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn no_seed_contradicts_a_promise() {
    let began = Instant::now();
    if let Some(seed) = number("KPIPE_SIMULATE_SEED") {
        let outcome = world::run(seed, true);
        println!("{}", outcome.trace.whole().unwrap_or_default());
        assert!(outcome.findings.is_empty(), "{}", describe(&outcome));
        return;
    }
    let from = number("KPIPE_SIMULATE_FROM").unwrap_or(SEEDS.start);
    let total = match (number("KPIPE_SIMULATE_SEEDS"), number("KPIPE_SIMULATE_MINUTES")) {
        (_, Some(minutes)) => simulate(from.., Some(began + Duration::from_secs(60 * minutes))),
        (Some(seeds), None) => simulate(from..from + seeds, None),
        (None, None) => simulate(SEEDS.chain(FOUND), None),
    };
    crate::support::report(&summary(&total, began.elapsed()));
    assert!(total.failed.is_empty(), "seeds with findings: {:?}", total.failed);
    // A cluster that refused everything would contradict nothing.
    assert!(total.records as u64 >= 30 * total.seeds, "only {} records in {} seeds", total.records, total.seeds);
}

#[test]
fn a_seed_repeats_its_run_byte_for_byte() {
    for seed in 0..6 {
        let [first, second] = [(); 2].map(|()| world::run(seed, true).trace.whole().unwrap_or_default());
        if let Some(at) = first.lines().zip(second.lines()).position(|(one, other)| one != other) {
            let from = |trace: &str| trace.lines().skip(at).take(8).collect::<Vec<_>>().join("\n");
            panic!("seed {seed}: first\n{}\nthen\n{}", from(&first), from(&second));
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

/// Breaks the engine in one way after the other: the judge finds each.
#[cfg(feature = "mutations")]
#[test]
fn every_mutation_is_found() {
    use kpipe::engine::native::mutation::{Mutation, activate};
    /// So many seeds are tried at most.
    const WITHIN: u64 = 200;
    let missed = Mutex::new(Vec::new());
    in_parallel(Mutation::ALL.into_iter(), |mutation, watchdog| {
        activate(Some(mutation));
        let found = (0..WITHIN).find_map(|seed| {
            watchdog.begin(seed);
            let finding = world::run(seed, false).findings.into_iter().next()?;
            // What is found anyway proves nothing.
            activate(None);
            let is_clean = world::run(seed, false).findings.is_empty();
            activate(Some(mutation));
            is_clean.then_some((seed, finding))
        });
        match found {
            Some((seed, finding)) => crate::support::report(&format!("{mutation:?}: seed {seed}: {finding}")),
            None => missed.lock().unwrap().push(mutation),
        }
        ControlFlow::Continue(())
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found within {WITHIN} seeds: {missed:?}");
}
