//! Every request of every command, at a broker that answers it with an error each time, or does not offer it: no command
//! spins, floods stderr, waits in silence or ignores a signal. `KPIPE_CODES=all` tries more errors of each.

use crate::support::{COMMANDS, Cluster, Mutator, Tested, all_codes, impatient, in_parallel, run_bounded};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{CONSUMER_GROUPS, Fault, OFFERED, Times};
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

/// UNKNOWN_SERVER_ERROR, those of partitions, coordinators, members and producers, and one that does not exist.
const CODES: [i16; 20] = [-1, 25, 16, 79, 5, 22, 45, 27, 7, 110, 14, 6, 15, 3, 82, 47, 41, 1, 58, 999];
/// Runs at a time: most of them wait.
const WORKERS: usize = 24;

fn args(tested: &Tested, address: &str, new: &str) -> (Vec<String>, &'static [u8]) {
    let word = |word: &&str| match *word {
        "T" | "H" => "always".to_owned(),
        "N" | "G" => new.to_owned(),
        word => word.to_owned(),
    };
    let args = impatient(address, tested.args.iter().map(word));
    (args, if tested.args[0] == "produce" { b"1\n2\n3\n" } else { b"" })
}

fn cluster() -> Cluster {
    let kafka = Cluster::start_local(1);
    kafka.local().offer_consumer_groups();
    kafka.kpipe(&["produce", "always"], b"a\nb\nc\n");
    kafka.kpipe(&["consume", "always", "-g", "always", "-e"], b"");
    kafka
}

/// The requests that a command sends to a broker that serves it.
fn sent_by(tested: &Tested) -> Vec<ApiKey> {
    let kafka = cluster();
    let faults = kafka.local().faults();
    let apis: Vec<ApiKey> = OFFERED.iter().chain(&CONSUMER_GROUPS).map(|(api, _)| *api).collect();
    let before: Vec<u64> = apis.iter().map(|api| faults.requests(*api)).collect();
    let (args, stdin) = args(tested, &kafka.bootstrap, "new");
    let run = run_bounded(&args, stdin);
    assert_eq!(run.code, 0, "{:?}: {}", tested.args, run.stderr);
    apis.into_iter().zip(before).filter(|(api, before)| faults.requests(*api) > *before).map(|(api, _)| api).collect()
}

/// What is wrong with a command whose requests of `api` are answered with `code`, or not offered without one.
fn refused(kafka: &Cluster, tested: &Tested, api: ApiKey, code: Option<i16>, new: &str) -> Option<String> {
    let faults = kafka.local().faults();
    let proxy = match code {
        Some(code) => {
            faults.inject(api, Times::Always, Fault::Error(code));
            None
        }
        None => Some(Mutator::without(&kafka.bootstrap, api)),
    };
    let before = faults.requests(api);
    let address = proxy.as_ref().map_or_else(|| kafka.bootstrap.clone(), |proxy| proxy.address());
    let (args, stdin) = args(tested, &address, new);
    let run = run_bounded(&args, stdin);
    let requests = proxy.as_ref().map_or_else(|| faults.requests(api) - before, |proxy| proxy.count());
    proxy.map(|proxy| proxy.end());
    faults.clear(api);
    let wrong = run.misbehaves(requests)?;
    let (args, took, stderr) = (tested.args, run.took, run.stderr);
    Some(format!("{api:?} {code:?}: {wrong}: kpipe {args:?}: {} after {took:?}: {stderr}", run.code))
}

#[test]
fn no_command_spins_or_waits_in_silence_at_a_broker_that_always_refuses() {
    let began = Instant::now();
    let each = if all_codes() { CODES.len() } else { 1 };
    let mut cases: Vec<(&Tested, ApiKey, Option<i16>)> = Vec::new();
    let sent: Vec<Vec<ApiKey>> = std::thread::scope(|scope| {
        let asked: Vec<_> = COMMANDS.iter().map(|tested| scope.spawn(move || sent_by(tested))).collect();
        asked.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    for (tested, apis) in COMMANDS.iter().zip(sent) {
        for api in apis {
            // Each pair begins elsewhere among the codes.
            let first = cases.len();
            cases.extend((0..each).map(|n| (tested, api, Some(CODES[(first + n) % CODES.len()]))));
            cases.push((tested, api, None));
        }
    }
    let wrong = Mutex::new(Vec::new());
    in_parallel(WORKERS, &cases, cluster, |kafka, (tested, api, code)| {
        let new = crate::support::fresh("refused");
        wrong.lock().unwrap().extend(refused(kafka, tested, *api, *code, &new));
    });
    let wrong = wrong.into_inner().unwrap();
    // The test runner captures what println! prints.
    let _ = writeln!(
        std::io::stderr(),
        "{} requests of {} commands always refused in {:?}",
        cases.len(),
        COMMANDS.len(),
        began.elapsed()
    );
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
