//! `kpipe local` with faults, latency and a seed, for users' own tests.

use crate::support::{kpipe, shell};
use std::time::Instant;

#[test]
fn an_injected_error_is_what_clients_get() {
    let failed = shell("kpipe local --fault produce:TOPIC_AUTHORIZATION_FAILED -- sh -c 'echo a | kpipe produce t'");
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("TOPIC_AUTHORIZATION_FAILED"), "{}", failed.stderr);
    // Names in other spellings, a code, a share, and a fault that a client outlasts.
    let line = "kpipe local --fault Produce:6:0.3 --fault list-offsets:NotLeaderOrFollower:0.1 --seed 7 --latency 1ms -- \
                sh -c 'seq 500 | kpipe produce t -q --batch-size 100 && kpipe consume t -o beginning -e --output value'";
    let done = shell(line);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 500);
}

#[test]
fn latency_delays_every_response() {
    let started = Instant::now();
    assert_eq!(shell("kpipe local --latency 300ms -- kpipe topics list").code, 0);
    assert!(started.elapsed().as_millis() >= 600, "at least two requests were made");
}

#[test]
fn faults_that_cannot_be_are_refused() {
    for (fault, why) in [
        ("produce", "expected API:ERROR"),
        ("nonsense:6", "nonsense is not a request that kpipe local answers"),
        ("produce:NO_SUCH_ERROR", "NO_SUCH_ERROR is not a Kafka error"),
        ("produce:0", "0 is not a Kafka error"),
        ("produce:6:2", "a share from 0 to 1"),
    ] {
        let done = kpipe(&["local", "--fault", fault], b"");
        assert_eq!(done.code, 2, "{fault}");
        assert!(done.stderr.contains(why), "{fault}: {}", done.stderr);
    }
}
