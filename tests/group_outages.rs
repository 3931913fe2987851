//! A group lives through the absence of its coordinator, of a partition's leader and of a topic; and nothing that a
//! coordinator answers makes a member repeat requests without a wait.

use crate::support::{Cluster, Running, json_lines, kpipe, wait_until};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, Times};
use std::time::{Duration, Instant};

fn member(kafka: &Cluster, args: &[&str]) -> Running {
    // A coordinator is given up after four request timeouts where it is given up at all.
    let flags = ["-b", &kafka.bootstrap, "-X", "request.timeout.ms=500", "consume", "--output", "value"];
    Running::kpipe(&[&flags, args].concat())
}

fn committed(kafka: &Cluster, group: &str) -> i64 {
    let done = kafka.try_kpipe(&["groups", "export", group], b"");
    json_lines(&done.stdout).iter().map(|line| line["offset"].as_i64().unwrap()).sum()
}

fn wait_for(time: Duration) {
    let end = Instant::now() + time;
    wait_until("the time to pass", || Instant::now() >= end);
}

const COORDINATOR: [ApiKey; 5] =
    [ApiKey::FindCoordinator, ApiKey::OffsetCommit, ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup];

#[test]
fn a_member_outlives_an_outage_of_its_coordinator() {
    for fault in [Fault::Error(15), Fault::DropBefore] {
        let kafka = Cluster::start_local(1);
        let topic = kafka.topic("away", 1);
        kafka.kpipe(&["produce", &topic], b"a\n");
        let reader = member(&kafka, &[&topic, "-g", &topic, "--commit-interval", "100ms"]);
        wait_until("the first commit", || committed(&kafka, &topic) == 1);
        for api in COORDINATOR {
            kafka.local().faults().inject(api, Times::Always, fault);
        }
        let began = Instant::now();
        kafka.kpipe(&["produce", &topic], b"b\n");
        wait_until("a record during the outage", || reader.seen() == "a\nb\n");
        wait_for(Duration::from_secs(5).saturating_sub(began.elapsed()));
        kafka.kpipe(&["produce", &topic], b"c\n");
        wait_until("a record late in the outage", || reader.seen() == "a\nb\nc\n");
        for api in COORDINATOR {
            kafka.local().faults().clear(api);
        }
        wait_until("the commits", || committed(&kafka, &topic) == 3);
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!((done.code, done.stdout.as_str()), (0, "a\nb\nc\n"), "{fault:?}: {}", done.stderr);
        assert!(!done.stderr.contains("lost"), "{}", done.stderr);
        let lines = done.stderr.lines().count();
        assert!((2..=8).contains(&lines), "{fault:?}: it is reported, and is no flood: {}", done.stderr);
    }
}

/// UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH: the coordinator comes back and has forgotten the member, whose commits have
/// waited. What was written is committed by the new member, and not read again.
#[test]
fn what_was_written_in_an_outage_is_not_read_again_by_a_member_that_was_forgotten() {
    for (protocol, heartbeat, code) in [
        ("classic", ApiKey::Heartbeat, 25),
        ("consumer", ApiKey::ConsumerGroupHeartbeat, 25),
        ("consumer", ApiKey::ConsumerGroupHeartbeat, 110),
    ] {
        for first_commit in [true, false] {
            let kafka = Cluster::start_local(1);
            kafka.local().offer_consumer_groups();
            let (topic, faults) = (kafka.topic("forgotten", 1), kafka.local().faults());
            if !first_commit {
                faults.inject(ApiKey::OffsetCommit, Times::Always, Fault::Error(15));
            }
            let flags = [&topic, "-g", &topic, "--commit-interval", "100ms", "--group-protocol", protocol];
            let session: &[&str] = if protocol == "classic" { &["--session-timeout", "2s"] } else { &[] };
            let reader = member(&kafka, &[&flags[..], session].concat());
            kafka.kpipe(&["produce", &topic], b"a\n");
            wait_until("the first record", || reader.seen() == "a\n");
            if first_commit {
                wait_until("the first commit", || committed(&kafka, &topic) == 1);
                faults.inject(ApiKey::OffsetCommit, Times::Always, Fault::Error(15));
            }
            kafka.kpipe(&["produce", &topic], b"b\nc\n");
            wait_until("records during the outage", || reader.seen() == "a\nb\nc\n");
            let before = faults.requests(ApiKey::OffsetCommit);
            wait_until("a commit to fail", || faults.requests(ApiKey::OffsetCommit) > before + 1);
            faults.inject(heartbeat, 1, Fault::Error(code));
            wait_until("the member to be forgotten", || faults.happened(heartbeat));
            faults.clear(ApiKey::OffsetCommit);
            kafka.kpipe(&["produce", &topic], b"d\n");
            wait_until("all to be committed", || committed(&kafka, &topic) == 4);
            reader.signal(libc::SIGTERM);
            let done = reader.ended();
            assert_eq!((done.code, done.stdout.as_str()), (0, "a\nb\nc\nd\n"), "{protocol} {code}: {}", done.stderr);
            assert!(done.stderr.contains("written and not committed: "), "{protocol} {code}: {}", done.stderr);
        }
    }
}

/// `--commit each` writes no record before the one before it is committed, however long that takes.
#[test]
fn an_outage_stops_the_output_at_the_bound_of_what_is_not_committed() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("bounded", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    let reader = member(&kafka, &[&topic, "-g", &topic, "--commit", "each"]);
    wait_until("the first commit", || committed(&kafka, &topic) == 1);
    kafka.local().faults().inject(ApiKey::OffsetCommit, Times::Always, Fault::Error(15));
    kafka.kpipe(&["produce", &topic], b"b\nc\nd\n");
    wait_until("one record", || reader.seen() == "a\nb\n");
    let before = kafka.local().faults().requests(ApiKey::OffsetCommit);
    wait_until("more attempts", || kafka.local().faults().requests(ApiKey::OffsetCommit) > before + 4);
    assert_eq!(reader.seen(), "a\nb\n");
    kafka.local().faults().clear(ApiKey::OffsetCommit);
    wait_until("the rest", || reader.seen() == "a\nb\nc\nd\n" && committed(&kafka, &topic) == 4);
    reader.signal(libc::SIGTERM);
    assert_eq!(reader.ended().code, 0);
}

#[test]
fn a_signal_ends_a_member_whose_coordinator_is_away() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("signaled", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    let reader = member(&kafka, &[&topic, "-g", &topic, "--commit", "each"]);
    wait_until("the first commit", || committed(&kafka, &topic) == 1);
    kafka.local().faults().inject(ApiKey::OffsetCommit, Times::Always, Fault::Error(15));
    kafka.kpipe(&["produce", &topic], b"b\nc\n");
    wait_until("one record", || reader.seen() == "a\nb\n");
    let began = Instant::now();
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("COORDINATOR_NOT_AVAILABLE") && done.stderr.contains("@2"), "{}", done.stderr);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_deleted_topic_leaves_the_subscription_of_a_pattern() {
    for commit in ["batch", "each"] {
        let kafka = Cluster::start_local(1);
        let (kept, gone) = (kafka.topic("ev-kept", 1), kafka.topic("ev-gone", 1));
        let reader = member(&kafka, &["--regex", "ev-.*", "-g", "g", "--commit", commit, "--commit-interval", "100ms"]);
        kafka.kpipe(&["produce", &kept], b"a\n");
        kafka.kpipe(&["produce", &gone], b"b\n");
        wait_until("both to be committed", || committed(&kafka, "g") == 2);
        kafka.kpipe(&["topics", "delete", &gone, "--yes"], b"");
        // What was written for the topic cannot be committed any more.
        kafka.kpipe(&["produce", &kept], b"c\n");
        wait_until("the other topic", || reader.seen().contains("c\n"));
        wait_for(Duration::from_secs(12));
        kafka.kpipe(&["produce", &kept], b"d\n");
        wait_until("the other topic, later", || reader.seen().contains("d\n"));
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!(done.code, 0, "{}", done.stderr);
        let told = done.stderr.matches(&*gone).count();
        assert_eq!(told, 1, "{commit}: {}", done.stderr);
    }
}

#[test]
fn a_pattern_that_matches_nothing_says_so_and_waits() {
    let kafka = Cluster::start_local(1);
    let flags = ["-b", &kafka.bootstrap, "-X", "metadata.max.age.ms=200", "consume", "--output", "value"];
    let reader = Running::kpipe(&[&flags[..], &["--regex", "later-.*", "-g", "g"]].concat());
    wait_until("it to look", || kafka.local().faults().requests(ApiKey::Metadata) > 2);
    kafka.kpipe(&["topics", "create", "later-1"], b"");
    kafka.kpipe(&["produce", "later-1"], b"a\n");
    wait_until("the record", || reader.seen() == "a\n");
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("no topic matches later-.*; waiting for one"), "{}", done.stderr);
}

#[test]
fn a_reader_with_an_end_ends_where_no_topic_matches() {
    let kafka = Cluster::start_local(1);
    for group in [&[][..], &["-g", "g"]] {
        let done = kafka.kpipe(&[&["consume", "--regex", "none-.*", "-e"], group].concat(), b"");
        assert!(done.stdout.is_empty() && done.stderr.contains("no topic matches none-.*\n"), "{}", done.stderr);
    }
}

#[test]
fn a_partition_without_a_leader_is_unknown_and_hides_no_other() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("leaderless", 2);
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"a\nb\n");
    kafka.kpipe(&["produce", &topic, "-p", "1"], b"c\n");
    kafka.kpipe(&["consume", &topic, "-g", "g", "-e"], b"");
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"d\n");
    assert!(kafka.local().remove_leader(&topic, 1));
    let lag = kafka.try_kpipe(&["groups", "lag", "g", "-J"], b"");
    assert_eq!(lag.code, 1, "{}", lag.stderr);
    let lines = json_lines(&lag.stdout);
    assert_eq!((&lines[0]["lag"], &lines[0]["end"]), (&1.into(), &3.into()), "{}", lag.stdout);
    assert!(lines[1]["lag"].is_null() && lines[1]["end"].is_null() && lines[1]["committed"] == 1, "{}", lag.stdout);
    assert!(lag.stderr.contains(&format!("{topic}/1: LEADER_NOT_AVAILABLE")), "{}", lag.stderr);
    let all = kafka.try_kpipe(&["groups", "lag", "--all"], b"");
    assert_eq!(all.code, 1);
    assert!(all.stdout.lines().nth(2).unwrap().ends_with("1    -    -"), "{}", all.stdout);
    let described = kafka.try_kpipe(&["groups", "describe", "g"], b"");
    assert_eq!(described.code, 1);
    assert!(
        described.stdout.contains("g: Empty, 0 members") && described.stdout.contains(" 3    1 "),
        "{}",
        described.stdout
    );
}

#[test]
fn lag_of_a_group_without_offsets_says_so() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("uncommitted", 1);
    let missing = kafka.try_kpipe(&["groups", "lag", "nobody"], b"");
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("group nobody: GROUP_ID_NOT_FOUND"), "{}", missing.stderr);
    assert!(missing.stderr.contains("kpipe groups list"), "{}", missing.stderr);
    let reader = member(&kafka, &[&topic, "-g", "quiet", "--commit", "none"]);
    wait_until("the member", || kafka.kpipe(&["groups", "list"], b"").stdout.contains("quiet"));
    let quiet = kafka.try_kpipe(&["groups", "lag", "quiet"], b"");
    assert_eq!(quiet.code, 0, "{}", quiet.stderr);
    assert!(quiet.stderr.contains("group quiet has no committed offsets"), "{}", quiet.stderr);
    reader.signal(libc::SIGTERM);
    assert_eq!(reader.ended().code, 0);
}

/// MEMBER_ID_REQUIRED, UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, FENCED_MEMBER_EPOCH,
/// COORDINATOR_NOT_AVAILABLE, for ever.
#[test]
fn no_error_makes_a_member_spin() {
    for api in [ApiKey::FindCoordinator, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat] {
        for code in [79, 25, 22, 27, 110, 15] {
            let kafka = Cluster::start_local(1);
            let topic = kafka.topic("refused", 1);
            kafka.local().faults().inject(api, Times::Always, Fault::Error(code));
            let reader = member(&kafka, &[&topic, "-g", &topic]);
            wait_for(Duration::from_secs(2));
            let requests = kafka.local().faults().requests(api);
            assert!(requests < 40, "{api:?} {code}: {requests} requests in 2 s");
            reader.signal(libc::SIGTERM);
            reader.signal(libc::SIGTERM);
            let done = reader.ended();
            assert!(done.stderr.lines().count() < 10, "{}", done.stderr);
        }
    }
}

#[test]
fn a_session_without_length_is_bad_usage() {
    for args in [
        &["--session-timeout", "0"][..],
        &["-X", "session.timeout.ms=0"],
        &["-X", "heartbeat.interval.ms=0"],
        &["--max-poll-interval", "0"],
    ] {
        let done = kpipe(&[&["-b", "localhost:1", "consume", "t", "-g", "g"], args].concat(), b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
    }
}

#[test]
fn what_destroys_offsets_has_a_dry_run() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("guarded", 2);
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"a\n");
    kafka.kpipe(&["consume", &topic, "-g", "g", "-e"], b"");
    let delete = kafka.kpipe(&["groups", "delete", "g", "--dry-run"], b"");
    assert!(delete.stderr.contains("would delete group g and all of its offsets"), "{}", delete.stderr);
    let offsets = kafka.kpipe(&["groups", "delete-offsets", "g", "-t", &format!("{topic}:0"), "--dry-run"], b"");
    assert!(offsets.stderr.contains("would delete 1 offset of group g"), "{}", offsets.stderr);
    let exported = kafka.kpipe(&["groups", "export", "g"], b"").stdout;
    assert!(exported.contains("\"offset\":1"), "nothing was deleted: {exported}");
    kafka.kpipe(&["groups", "import", "-", "-g", "other", "--execute"], exported.as_bytes());
    assert_eq!(kafka.kpipe(&["groups", "export", "other"], b"").stdout, exported.replace("\"g\"", "\"other\""));
    let asked = kafka.try_kpipe(&["groups", "delete", "g"], b"");
    assert_eq!(asked.code, 2, "{}", asked.stderr);
}
