//! A group whose coordinator refuses requests, moves or dies, whose members are fenced and whose log is truncated.

use crate::support::{Cluster, Running, Version, json_lines, require, send_signal, wait_until};
use kafka_protocol::messages::ApiKey;
use kpipe::local::Fault;

fn member(kafka: &Cluster, topic: &str, flags: &[&str]) -> Running {
    Running::kpipe(
        &[&["-b", &kafka.bootstrap, "consume", topic, "-g", topic, "--output", "value", "-v"], flags].concat(),
    )
}

fn committed(kafka: &Cluster, group: &str) -> i64 {
    let done = kafka.try_kpipe(&["groups", "export", group], b"");
    json_lines(&done.stdout).iter().map(|line| line["offset"].as_i64().unwrap()).sum()
}

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION:
/// the commit is retried until it succeeds.
#[test]
fn a_commit_that_is_refused_for_a_moment_is_retried() {
    for code in [14, 15, 16, 27, 22] {
        for commit in ["each", "batch"] {
            let kafka = Cluster::start_local(1);
            let topic = kafka.topic("refused", 1);
            kafka.local().faults().inject(ApiKey::OffsetCommit, 3, Fault::Error(code));
            let reader = member(&kafka, &topic, &["--commit", commit, "--commit-interval", "100ms"]);
            kafka.kpipe(&["produce", &topic], b"a\nb\nc\n");
            wait_until("the commit", || committed(&kafka, &topic) == 3);
            assert!(kafka.local().faults().are_done());
            reader.signal(libc::SIGTERM);
            let done = reader.ended();
            assert_eq!((done.code, done.stdout.as_str()), (0, "a\nb\nc\n"), "{code} {commit}: {}", done.stderr);
        }
    }
}

#[test]
fn a_commit_whose_response_is_lost_is_retried() {
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::Cut(5)] {
        let kafka = Cluster::start_local(1);
        let topic = kafka.topic("unanswered", 1);
        kafka.kpipe(&["produce", &topic], b"a\nb\n");
        kafka.local().faults().inject(ApiKey::OffsetCommit, 2, fault);
        let done = kafka.kpipe(&["consume", &topic, "-g", &topic, "-e", "--output", "value"], b"");
        assert_eq!(done.stdout, "a\nb\n");
        assert_eq!(committed(&kafka, &topic), 2);
    }
}

/// UNKNOWN_MEMBER_ID: the member reports what is written and not committed, joins again, and resumes behind it.
#[test]
fn a_member_that_the_coordinator_does_not_know_joins_again() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("unknown", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    // The coordinator still has the old member until its session times out.
    let reader = member(&kafka, &topic, &["--commit-interval", "100ms", "--session-timeout", "2s"]);
    wait_until("the first commit", || committed(&kafka, &topic) == 1);
    kafka.local().faults().inject(ApiKey::OffsetCommit, 1, Fault::Error(25));
    kafka.local().faults().inject(ApiKey::Heartbeat, 1, Fault::Error(25));
    kafka.kpipe(&["produce", &topic], b"b\n");
    wait_until("the faults", || kafka.local().faults().are_done());
    kafka.kpipe(&["produce", &topic], b"c\n");
    wait_until("all to be committed", || committed(&kafka, &topic) == 3);
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout, "a\nb\nc\n", "what was written is not read again");
    assert!(
        done.stderr
            .contains(&format!("lost partitions {topic}/0: sending a heartbeat to group {topic}: UNKNOWN_MEMBER_ID")),
        "{}",
        done.stderr
    );
}

#[test]
fn a_member_with_the_same_instance_id_fences_this_one() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("fenced", 2);
    let flags = ["--instance-id", "one"];
    let first = member(&kafka, &topic, &flags);
    kafka.kpipe(&["produce", &topic], b"a\n");
    wait_until("the first commit", || first.seen() == "a\n" && committed(&kafka, &topic) >= 1);
    let second = member(&kafka, &topic, &flags);
    let done = first.ended();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("FENCED_INSTANCE_ID") && done.stderr.contains("--instance-id"), "{}", done.stderr);
    kafka.kpipe(&["produce", &topic], b"b\n");
    wait_until("the second member", || second.seen() == "b\n");
    second.signal(libc::SIGTERM);
    assert_eq!(second.ended().code, 0);
}

#[test]
fn a_member_survives_a_failure_of_any_request() {
    for api in [ApiKey::FindCoordinator, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetFetch, ApiKey::Heartbeat] {
        for fault in [Fault::Error(15), Fault::DropBefore, Fault::DropAfter] {
            let kafka = Cluster::start_local(2);
            let topic = kafka.topic("fails", 2);
            kafka.kpipe(&["produce", &topic, "-K", ":"], b"a:1\nb:2\nc:3\nd:4\n");
            kafka.local().faults().inject(api, 2, fault);
            let reader = member(&kafka, &topic, &["--session-timeout", "3s", "-X", "request.timeout.ms=2000"]);
            wait_until(&format!("the records, {api:?} {fault:?}"), || {
                let mut lines: Vec<String> = reader.seen().lines().map(str::to_owned).collect();
                lines.sort();
                lines.dedup();
                lines == ["1", "2", "3", "4"] && kafka.local().faults().are_done()
            });
            reader.signal(libc::SIGTERM);
            let done = reader.ended();
            assert_eq!(done.code, 0, "{api:?} {fault:?}: {}", done.stderr);
        }
    }
}

#[test]
fn a_coordinator_that_moves_loses_nothing() {
    let kafka = Cluster::start_local(3);
    let topic = kafka.topic("moves", 3);
    let reader = member(&kafka, &topic, &["--commit-interval", "50ms"]);
    for round in 0..6 {
        kafka.kpipe(&["produce", &topic], format!("{round}\n").as_bytes());
        wait_until("the record", || reader.seen().lines().count() == round + 1);
        kafka.local().move_coordinator(&topic, 1 + (round as i32 % 3));
    }
    wait_until("the commits", || committed(&kafka, &topic) == 6);
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!((done.code, done.stdout.lines().count()), (0, 6), "{}", done.stderr);
}

/// On three real brokers, of which the group's coordinator is killed.
#[test]
fn a_killed_coordinator_loses_nothing() {
    require!(Kafka);
    for protocol in ["consumer", "classic"] {
        let kafka = Cluster::start(Version::LATEST, 3, &["offsets.topic.replication.factor=3"]);
        let topic = crate::support::fresh("killed");
        kafka.kpipe(&["topics", "create", &topic, "--partitions", "6", "--replication-factor", "3"], b"");
        let mut input = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-K", ":", "--rate", "2000"]);
        let lines: String = (0..20_000).map(|n| format!("{}:{n}\n", n % 50)).collect();
        let feed = std::thread::spawn(move || {
            input.write(lines.as_bytes());
            input.finish()
        });
        let members: Vec<Running> = (0..2).map(|_| member(&kafka, &topic, &["--group-protocol", protocol])).collect();
        let read = || -> Vec<u32> {
            members.iter().flat_map(|m| m.seen().lines().filter_map(|l| l.parse().ok()).collect::<Vec<u32>>()).collect()
        };
        wait_until("both to read", || members.iter().all(|m| m.seen().lines().count() > 500));
        let described = kafka.kpipe(&["groups", "describe", &topic, "-J"], b"");
        let coordinator = json_lines(&described.stdout)[0]["coordinator"].as_i64().unwrap();
        send_signal(kafka.pid(coordinator as u32), libc::SIGKILL);
        assert_eq!(feed.join().unwrap().code, 0);
        wait_until("all records", || {
            let mut all = read();
            all.sort_unstable();
            all.dedup();
            all.len() == 20_000
        });
        let total = read().len();
        for member in members {
            member.signal(libc::SIGTERM);
            let done = member.ended();
            assert_eq!(done.code, 0, "{protocol}: {}", done.stderr);
        }
        // At most the records that members wrote in the second before they lost their coordinator.
        assert!(total - 20_000 <= 6_000, "{protocol}: {} repeated", total - 20_000);
    }
}

#[test]
fn a_truncated_log_is_reported() {
    let kafka = Cluster::start_local(2);
    let topic = kafka.topic("cut", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    kafka.kpipe(&["produce", &topic], b"b\nc\n");
    let reader = member(&kafka, &topic, &[]);
    wait_until("the records", || reader.seen() == "a\nb\nc\n");
    assert!(kafka.local().truncate(&topic, 0, 1));
    kafka.kpipe(&["produce", &topic], b"x\ny\nz\n");
    wait_until("the records after the cut", || reader.seen() == "a\nb\nc\nx\ny\nz\n");
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let message =
        format!("{topic}/0: the log was truncated: records 1 to 2, already read, no longer exist; resuming at 1");
    assert!(done.stderr.contains(&message), "{}", done.stderr);
}

#[test]
fn a_group_that_retention_overtook_resumes_and_reports_the_lost_range() {
    let local = Running::kpipe(&["local", "--port", "0", "--retain-bytes", "100k"]);
    wait_until("the address", || local.seen().ends_with('\n'));
    let bootstrap = local.seen().trim().to_owned();
    let kpipe = |args: &[&str], stdin: &[u8]| crate::support::kpipe(&[&["-b", &bootstrap], args].concat(), stdin);
    kpipe(&["produce", "t"], b"first\n");
    assert_eq!(kpipe(&["consume", "t", "-g", "g", "-e", "--output", "value"], b"").stdout, "first\n");
    let lines: String = (0..5_000).map(|n| format!("{n:099}\n")).collect();
    kpipe(&["produce", "t", "--batch-size", "10k"], lines.as_bytes());
    let rest = kpipe(&["consume", "t", "-g", "g", "-e", "--output", "value"], b"");
    assert_eq!(rest.code, 0, "{}", rest.stderr);
    assert_eq!(rest.stdout.lines().last(), Some(&*format!("{:099}", 4_999)));
    assert!(rest.stderr.contains("OFFSET_OUT_OF_RANGE") && rest.stderr.contains("resuming at"), "{}", rest.stderr);
}
