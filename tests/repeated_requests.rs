//! Requests that fail for ever are repeated with growing waits, reported in a few lines, and given up at a deadline.

use crate::support::{Cluster, Running, wait_until};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, Times};
use std::time::{Duration, Instant};

/// LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT, COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR, UNKNOWN_SERVER_ERROR.
const CODES: [i16; 5] = [5, 7, 14, 16, -1];
/// A second: the first waits are short, later ones a second long.
const MOST_REQUESTS: f64 = 12.0;
const MOST_LINES: usize = 6;

fn fails_quietly(apis: &[ApiKey], args: &[&str], limit: Duration) {
    std::thread::scope(|scope| {
        for fault in CODES.map(Fault::Error).into_iter().chain([Fault::DropBefore]) {
            for api in apis {
                scope.spawn(move || fails_quietly_by(*api, fault, args, limit));
            }
        }
    });
}

fn fails_quietly_by(api: ApiKey, fault: Fault, args: &[&str], limit: Duration) {
    let kafka = Cluster::start_local(1);
    kafka.kpipe(&["topics", "create", "t"], b"");
    kafka.kpipe(&["produce", "t"], b"a record\n");
    let what = format!("{api:?} {fault:?} {args:?}");
    let before = kafka.local().faults().requests(api);
    kafka.local().faults().inject(api, Times::Always, fault);
    let began = Instant::now();
    let mut run = Running::kpipe(&[&["-b", &kafka.bootstrap, "-X", "request.timeout.ms=1000"], args].concat());
    if args[0] == "produce" {
        run.write(b"a record\n");
    }
    let done = run.finish();
    let took = began.elapsed();
    assert!(took < limit, "{what} took {took:?}: {}", done.stderr);
    assert!(done.code <= 1, "{what} ended with {}: {}", done.code, done.stderr);
    let requests = kafka.local().faults().requests(api) - before;
    let rate = requests as f64 / took.as_secs_f64().max(1.0);
    assert!(rate <= MOST_REQUESTS, "{what}: {requests} requests in {took:?}");
    let lines = done.stderr.lines().count();
    assert!(lines <= MOST_LINES, "{what}: {lines} lines in {took:?}: {}", done.stderr);
}

#[test]
fn of_a_listing_of_topics() {
    fails_quietly(&[ApiKey::Metadata, ApiKey::ListOffsets], &["topics", "offsets", "t"], Duration::from_secs(15));
    fails_quietly(&[ApiKey::Metadata], &["topics", "list"], Duration::from_secs(15));
}

#[test]
fn of_a_listing_of_groups() {
    fails_quietly(&[ApiKey::Metadata, ApiKey::ListGroups], &["groups", "list"], Duration::from_secs(15));
}

#[test]
fn of_a_producer() {
    let apis = [ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce];
    fails_quietly(&apis, &["produce", "t", "--timeout", "8s"], Duration::from_secs(20));
}

#[test]
fn of_a_consumer_with_an_end() {
    let apis = [ApiKey::Metadata, ApiKey::ListOffsets];
    fails_quietly(&apis, &["consume", "t", "-o", "beginning", "-e"], Duration::from_secs(30));
    let apis = [ApiKey::FindCoordinator, ApiKey::OffsetFetch];
    fails_quietly(&apis, &["consume", "t", "-g", "g", "-e"], Duration::from_secs(30));
}

/// A tail never gives up: what it asks for meanwhile is counted.
#[test]
fn of_a_tail() {
    for fault in CODES.map(Fault::Error).into_iter().chain([Fault::DropBefore]) {
        let kafka = Cluster::start_local(1);
        let topic = kafka.topic("tail", 1);
        kafka.kpipe(&["produce", &topic], b"a\n");
        let faults = kafka.local().faults();
        let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
        wait_until("the first record", || tail.seen() == "a\n");
        let before = faults.requests(ApiKey::Fetch) + faults.requests(ApiKey::Metadata);
        faults.inject(ApiKey::Fetch, Times::Always, fault);
        let began = Instant::now();
        wait_until("some seconds to pass", || began.elapsed() > Duration::from_secs(4));
        let requests = faults.requests(ApiKey::Fetch) + faults.requests(ApiKey::Metadata) - before;
        assert!(requests as f64 / began.elapsed().as_secs_f64() <= 2.0 * MOST_REQUESTS, "{fault:?}: {requests}");
        tail.signal(libc::SIGTERM);
        let done = tail.ended();
        assert!(done.stderr.lines().count() <= MOST_LINES, "{fault:?}: {}", done.stderr);
    }
}
