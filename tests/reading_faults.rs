//! Readers on clusters where something is wrong: each partition fails, begins again and ends for itself, and nothing
//! stale is committed.

use crate::support::{Cluster, Running, json_lines, send_signal, shell, ticks_of, values, wait_until};
use kafka_protocol::messages::ApiKey;
use kpipe::local::{Fault, Times};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The committed offset of each partition.
fn committed(kafka: &Cluster, group: &str) -> Vec<(i64, i64)> {
    let done = kafka.try_kpipe(&["groups", "export", group], b"");
    let of = |line: &serde_json::Value| (line["partition"].as_i64().unwrap(), line["offset"].as_i64().unwrap());
    json_lines(&done.stdout).iter().map(of).collect()
}

fn committed_of(kafka: &Cluster, group: &str, partition: i64) -> Option<i64> {
    committed(kafka, group).into_iter().find(|(of, _)| *of == partition).map(|(_, offset)| offset)
}

/// The partitions of each member.
fn owned(kafka: &Cluster, group: &str) -> Vec<Vec<i64>> {
    let done = kafka.try_kpipe(&["groups", "describe", group, "-J"], b"");
    let Some(described) = json_lines(&done.stdout).into_iter().next() else { return Vec::new() };
    let partitions = |member: &serde_json::Value| {
        let assigned = member["partitions"].as_array().unwrap();
        assigned.iter().map(|of| of.as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()).collect()
    };
    described["members"].as_array().unwrap().iter().map(partitions).collect()
}

/// The one partition of the member with this client ID.
fn partition_of(kafka: &Cluster, group: &str, client: &str) -> i64 {
    let described = json_lines(&kafka.kpipe(&["groups", "describe", group, "-J"], b"").stdout).remove(0);
    let members = described["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["client_id"] == client).unwrap();
    member["partitions"][0].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// A kpipe whose stdout is read only as far as a test reads it.
struct Stalled(Child);

impl Stalled {
    fn kpipe(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kpipe"));
        Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn read(&mut self, bytes: usize) {
        self.0.stdout.as_mut().unwrap().read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// Bytes that wait in its stdout.
    fn waiting(&self) -> u64 {
        rustix::io::ioctl_fionread(self.0.stdout.as_ref().unwrap()).unwrap()
    }

    fn ticks(&self) -> u64 {
        ticks_of(self.0.id())
    }

    /// The most memory that it has had, in kB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(count: usize, len: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{n:0len$}\n").into_bytes()).collect()
}

/// What a member was assigned while its reader stalled, and what was revoked before the reader moved again, is not
/// committed: another member has read on meanwhile.
#[test]
fn an_assignment_that_waited_behind_records_until_it_was_revoked_is_not_committed() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("stale", 2);
    let flags = ["-b", &kafka.bootstrap, "consume", &topic, "-g", &topic, "--output", "value", "-o", "beginning"];
    let flags = [&flags[..], &["--commit-interval", "50ms"]].concat();
    let mut stalling = Stalled::kpipe(&flags);
    wait_until("the first member", || owned(&kafka, &topic) == [[0, 1]]);
    let second = Running::kpipe(&[&["-X", "client.id=second"], &flags[..]].concat());
    wait_until("both members", || owned(&kafka, &topic).iter().all(|of| of.len() == 1));
    kafka.kpipe(&["produce", &topic, "-p", "0"], &lines(50, 10));
    kafka.kpipe(&["produce", &topic, "-p", "1"], &lines(50, 10));
    wait_until("the commits", || committed(&kafka, &topic).iter().map(|(_, offset)| offset).sum::<i64>() == 100);
    // Whichever partition the second member has is the one that changes hands.
    let others = partition_of(&kafka, &topic, "second");
    let mine = if others == 1 { "0" } else { "1" };
    let start = committed_of(&kafka, &topic, others).unwrap();
    kafka.kpipe(&["produce", &topic, "-p", mine], &lines(10_000, 1_000));
    wait_until("the stall", || stalling.waiting() > 60_000);
    second.signal(libc::SIGTERM);
    assert_eq!(second.ended().code, 0);
    wait_until("the stalled one to have all", || owned(&kafka, &topic) == [[0, 1]]);
    let start = start.max(committed_of(&kafka, &topic, others).unwrap());
    let third = Running::kpipe(&flags);
    wait_until("the third member", || owned(&kafka, &topic).len() == 2 || !third.seen().is_empty());
    // It moves far enough to release what is revoked, and stalls again before it comes to the stale assignment.
    wait_until("the third to have its partition", || {
        // A pipe that counts as full may hold less than its size.
        let waiting = stalling.waiting() as usize;
        stalling.read(waiting);
        owned(&kafka, &topic).iter().all(|of| of.len() == 1)
    });
    kafka.kpipe(&["produce", &topic, "-p", &others.to_string()], &lines(300, 10));
    wait_until("the third's commit", || committed_of(&kafka, &topic, others) == Some(start + 300));
    wait_until("the rest", || {
        if stalling.waiting() > 0 {
            let waiting = stalling.waiting() as usize;
            stalling.read(waiting);
        }
        committed_of(&kafka, &topic, mine.parse().unwrap()).is_some_and(|offset| offset >= 10_050)
    });
    send_signal(stalling.0.id() as i32, libc::SIGTERM);
    stalling.0.wait().unwrap();
    assert_eq!(committed_of(&kafka, &topic, others), Some(start + 300), "moved back by a stale assignment");
}

/// One broker of two, with a partition that nobody else has, is down.
fn half_down() -> (Cluster, String) {
    let kafka = Cluster::start_local(2);
    let topic = crate::support::fresh("half");
    kafka.kpipe(&["topics", "create", &topic, "--partitions", "2", "--replication-factor", "1"], b"");
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"a\nb\n");
    kafka.kpipe(&["produce", &topic, "-p", "1"], b"x\ny\n");
    let described = json_lines(&kafka.kpipe(&["topics", "describe", &topic, "-J"], b"").stdout);
    let leader = described[0]["partitions"][1]["leader"].as_i64().unwrap();
    kafka.local().crash(leader as i32);
    (kafka, topic)
}

#[test]
fn a_partition_without_a_leader_costs_only_itself_and_is_named() {
    let (kafka, topic) = half_down();
    let args = ["consume", &topic, "-o", "beginning", "-e", "--output", "value", "-X", "request.timeout.ms=500"];
    let done = kafka.try_kpipe(&args, b"");
    assert_eq!((done.code, done.stdout.as_str()), (1, "a\nb\n"), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("not read to the end: {topic}/1")), "{}", done.stderr);
    let reports = done.stderr.lines().filter(|line| line.contains("cannot read")).count();
    assert_eq!(reports, 1, "{}", done.stderr);
}

#[test]
fn a_member_with_a_bad_partition_reads_and_commits_the_others_until_it_is_back() {
    let (kafka, topic) = half_down();
    let flags = ["-o", "beginning", "--output", "value", "--commit-interval", "50ms", "-X", "request.timeout.ms=500"];
    let args = [&["-b", &kafka.bootstrap, "consume", &topic, "-g", &topic][..], &flags].concat();
    let reader = Running::kpipe(&args);
    wait_until("the good partition", || committed_of(&kafka, &topic, 0) == Some(2));
    for broker in [1, 2] {
        if kafka.local().restart(broker).is_ok() {
            break;
        }
    }
    wait_until("the bad one", || committed_of(&kafka, &topic, 1) == Some(2));
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!((done.code, done.stdout.as_str()), (0, "a\nb\nx\ny\n"), "{}", done.stderr);
}

#[test]
fn a_topic_created_again_is_read_from_its_beginning_with_one_warning() {
    for grouped in [false, true] {
        let kafka = Cluster::start_local(2);
        let topic = kafka.topic("again", 1);
        kafka.kpipe(&["produce", &topic], b"old 1\nold 2\nold 3\n");
        // Leader epochs of the old topic are above those of the new one.
        assert!(kafka.local().move_leader(&topic, 0, 1) && kafka.local().move_leader(&topic, 0, 2));
        let group = ["-g", &topic, "--commit-interval", "50ms"];
        let args = ["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"];
        let reader = Running::kpipe(&[&args[..], if grouped { &group } else { &[] }].concat());
        wait_until("the old records", || reader.seen().lines().count() == 3);
        kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
        kafka.kpipe(&["topics", "create", &topic], b"");
        kafka.kpipe(&["produce", &topic], b"new 1\nnew 2\n");
        wait_until("the new records", || reader.seen().ends_with("new 1\nnew 2\n"));
        let before = kafka.local().faults().requests(ApiKey::Metadata);
        if grouped {
            wait_until("the commit", || committed_of(&kafka, &topic, 0) == Some(2));
        }
        reader.signal(libc::SIGTERM);
        let done = reader.ended();
        assert_eq!((done.code, done.stdout.lines().count()), (0, 5), "{}", done.stderr);
        // A member may find the topic gone before it is there again.
        let warnings = done.stderr.lines().filter(|line| line.contains(&format!("topic {topic} was deleted"))).count();
        assert_eq!(warnings, 1, "{}", done.stderr);
        assert!(before < 200, "{before} metadata requests");
    }
}

#[test]
fn a_deleted_topic_leaves_a_pattern_with_one_message() {
    let kafka = Cluster::start_local(1);
    let (a, b) = (kafka.topic("gone-a", 1), kafka.topic("gone-b", 2));
    let flags = ["-o", "beginning", "--output", "value", "-X", "metadata.max.age.ms=300"];
    let tail = Running::kpipe(&[&["-b", &kafka.bootstrap, "consume", "--regex", "gone-.*"][..], &flags].concat());
    kafka.kpipe(&["produce", &a], b"1\n");
    kafka.kpipe(&["produce", &b, "-p", "0"], b"2\n");
    wait_until("both", || tail.seen().lines().count() == 2);
    kafka.kpipe(&["topics", "delete", &b, "--yes"], b"");
    wait_until("the message", || tail.told().contains(&format!("topic {b} was deleted")));
    kafka.kpipe(&["produce", &a], b"3\n");
    wait_until("the rest goes on", || tail.seen().ends_with("3\n"));
    tail.signal(libc::SIGTERM);
    let done = tail.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let about: Vec<&str> = done.stderr.lines().filter(|line| line.contains(&*b)).collect();
    assert_eq!(about.len(), 1, "{}", done.stderr);
    assert!(about[0].contains(&format!("topic {b} was deleted: no longer consuming it")), "{}", about[0]);
}

#[test]
fn a_partition_that_does_not_reach_the_offset_begins_at_its_end() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("short", 2);
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"0\n1\n2\n3\n");
    kafka.kpipe(&["produce", &topic, "-p", "1"], b"x\n");
    let done = kafka.kpipe(&["consume", &topic, "-o", "2", "-e"], b"");
    assert_eq!(values(&done.stdout), ["2", "3"]);
    assert!(done.stderr.contains(&format!("{topic}/1")) && done.stderr.contains("beginning at 1"), "{}", done.stderr);
    let named = kafka.try_kpipe(&["consume", &topic, "-o", "2", "-e", "-p", "0,1"], b"");
    assert_eq!((named.code, named.stdout.as_str()), (1, ""), "{}", named.stderr);
    assert!(named.stderr.contains("OFFSET_OUT_OF_RANGE"), "{}", named.stderr);
}

#[test]
fn a_partition_whose_log_begins_after_the_offset_begins_at_its_first() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("late", 2);
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"0\n1\n2\n3\n");
    kafka.kpipe(&["produce", &topic, "-p", "1"], b"x\ny\nz\n");
    assert!(kafka.local().set_log_start(&topic, 0, 3));
    let done = kafka.kpipe(&["consume", &topic, "-o", "1", "-e"], b"");
    let mut read = values(&done.stdout);
    read.sort();
    assert_eq!(read, ["3", "y", "z"]);
    assert!(done.stderr.contains(&format!("{topic}/0")) && done.stderr.contains("beginning at 3"), "{}", done.stderr);
    let named = kafka.try_kpipe(&["consume", &topic, "-o", "1", "-e", "-p", "0,1"], b"");
    assert_eq!((named.code, named.stdout.as_str()), (1, ""), "{}", named.stderr);
    assert!(named.stderr.contains("OFFSET_OUT_OF_RANGE"), "{}", named.stderr);
}

/// Over a quota, a broker answers without the partitions: they are neither missing nor impaired.
#[test]
fn a_throttled_fetch_is_no_fault_of_the_partitions() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("quota", 2);
    kafka.kpipe(&["produce", &topic, "-p", "0"], &lines(20, 5));
    let faults = kafka.local().faults();
    for args in [&["-o", "beginning"][..], &["-o", "-3"], &["--until", "end", "-g", "g"]] {
        faults.inject(ApiKey::Fetch, 3, Fault::Throttle(Duration::from_millis(700)));
        let began = Instant::now();
        let done = kafka.kpipe(&[&["consume", &topic, "-e", "--output", "value"], args].concat(), b"");
        let count = if args[1] == "-3" { 3 } else { 20 };
        assert_eq!((done.stdout.lines().count(), done.stderr.as_str()), (count, ""), "{args:?}");
        assert!(faults.are_done() && began.elapsed() > Duration::from_secs(2), "{args:?}: {:?}", began.elapsed());
    }
}

/// A signal is seen within a batch of which each record is committed.
#[test]
fn a_signal_ends_a_long_batch_at_the_next_record() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("long", 1);
    kafka.kpipe(&["produce", &topic], &lines(60_000, 5));
    kafka.local().faults().set_latency(Duration::from_millis(5));
    let flags = ["consume", &topic, "-g", &topic, "--commit", "each", "--output", "value", "-o", "beginning"];
    let running = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &flags].concat());
    wait_until("some records", || running.seen().lines().count() > 20);
    let seen = running.seen().lines().count();
    running.signal(libc::SIGTERM);
    let done = running.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let count = done.stdout.lines().count();
    assert!(count < seen + 2_000, "{count} records");
    kafka.local().faults().set_latency(Duration::ZERO);
    assert_eq!(committed(&kafka, &topic), [(0, count as i64)]);
}

/// Waiting for commits costs no processor time, and does not count as silence.
#[test]
fn nothing_spins_or_ends_while_commits_hold_writing_up() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("ahead", 2);
    kafka.kpipe(&["produce", &topic], &lines(100, 5));
    let faults = kafka.local().faults();
    faults.inject(ApiKey::OffsetCommit, Times::Always, Fault::Error(15));
    let flags = ["consume", &topic, "-g", &topic, "--commit", "each", "--output", "value", "-o", "beginning"];
    let flags = [&flags[..], &["--sort", "time", "--idle-timeout", "1s"]].concat();
    let running = Running::kpipe(&[&["-b", &kafka.bootstrap], &flags[..]].concat());
    wait_until("the first record", || running.seen().lines().count() == 1);
    let (began, ticks) = (Instant::now(), running.ticks());
    wait_until("four seconds", || began.elapsed() > Duration::from_secs(4));
    let ticks = running.ticks() - ticks;
    assert!(ticks < 100, "{ticks} ticks in {:?}", began.elapsed());
    assert_eq!(running.seen().lines().count(), 1, "no record follows one that is not committed");
    faults.clear(ApiKey::OffsetCommit);
    let done = running.ended();
    assert_eq!((done.code, done.stdout.lines().count()), (0, 100), "{}", done.stderr);
}

/// What is left in the pipe of a reader that went is not committed, also where partitions are revoked at that moment.
#[test]
fn a_reader_that_goes_away_amid_a_rebalance_loses_nothing() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("gone", 2);
    let flags = ["-b", &kafka.bootstrap, "consume", &topic, "-g", &topic, "--output", "value", "-o", "beginning"];
    let flags = [&flags[..], &["--commit-interval", "50ms"]].concat();
    let mut first = Stalled::kpipe(&flags);
    wait_until("the member", || owned(&kafka, &topic) == [[0, 1]]);
    for partition in ["0", "1"] {
        kafka.kpipe(&["produce", &topic, "-p", partition], &lines(50, 9));
    }
    wait_until("the commits", || committed(&kafka, &topic).iter().map(|(_, offset)| offset).sum::<i64>() == 100);
    first.read(50); // five records of ten bytes
    for partition in ["0", "1"] {
        kafka.kpipe(&["produce", &topic, "-p", partition], &lines(300, 999));
    }
    wait_until("a full pipe", || first.waiting() > 60_000);
    let second = Running::kpipe(&[&["-X", "client.id=second"], &flags[..]].concat());
    wait_until("the second member to join", || {
        let described = kafka.try_kpipe(&["groups", "describe", &topic], b"").stdout;
        described.contains("second") || described.contains("Preparing")
    });
    drop(first.0.stdout.take());
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
    wait_until("all that the first reader did not take", || second.seen().lines().count() >= 695);
    second.signal(libc::SIGTERM);
    let done = second.ended();
    assert_eq!((done.code, done.stdout.lines().count()), (0, 695), "{}", done.stderr);
}

/// A topic that was created again with fewer partitions is read on where it has them.
#[test]
fn partitions_that_are_gone_cost_only_themselves() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("shrinks", 3);
    let named = ["consume", &topic, "--output", "value", "-X", "topic.metadata.refresh.interval.ms=500"];
    let named = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &named, &["-o", "beginning"]].concat());
    let pattern = format!("{topic}.*");
    let matched = ["consume", "--regex", &pattern, "--output", "value", "-X", "topic.metadata.refresh.interval.ms=500"];
    let matched = Running::kpipe(&[&["-b", &kafka.bootstrap][..], &matched, &["-o", "beginning"]].concat());
    kafka.kpipe(&["produce", &topic], b"old\n");
    wait_until("the old record", || named.seen() == "old\n" && matched.seen() == "old\n");
    kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
    kafka.kpipe(&["topics", "create", &topic, "--partitions", "1"], b"");
    kafka.kpipe(&["produce", &topic], b"new 1\n");
    for running in [&named, &matched] {
        wait_until("the loss", || running.told().contains("no longer exist; no longer consuming them"));
    }
    kafka.kpipe(&["produce", &topic], b"new 2\n");
    for running in [named, matched] {
        wait_until("the new records", || running.seen().ends_with("new 2\n"));
        running.signal(libc::SIGTERM);
        let done = running.ended();
        assert_eq!((done.code, done.stdout.as_str()), (0, "old\nnew 1\nnew 2\n"), "{}", done.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_while_nothing_is_written_ends_the_tail() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("left", 1);
    kafka.kpipe(&["produce", &topic], &lines(10, 5));
    let line = format!("timeout 20 kpipe -b {} consume {topic} -o beginning --output value | head -3", kafka.bootstrap);
    let done = shell(&format!("set -o pipefail; {line}"));
    assert_eq!((done.code, done.stdout.lines().count()), (0, 3), "{}", done.stderr);
}

#[test]
fn what_a_batch_unpacks_to_is_bounded_and_what_is_read_ahead_counts_unpacked() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("bomb", 1);
    let records = "a".repeat(1_000_000) + "\n";
    kafka.kpipe(&["produce", &topic, "-z", "zstd"], records.repeat(300).as_bytes());
    let refused = kafka.try_kpipe(
        &["consume", &topic, "-o", "7", "-e", "--output", "none", "-X", "fetch.max.unpacked.bytes=100000"],
        b"",
    );
    assert_eq!(refused.code, 1);
    let says = format!("{topic}/0 at offset 7: the batch cannot be decompressed (zstd)");
    assert!(refused.stderr.contains(&says), "{}", refused.stderr);
    let flags = ["consume", &topic, "-g", &topic, "--output", "none", "--commit-interval", "100ms"];
    let reader = Stalled::kpipe(&[&["-b", &kafka.bootstrap][..], &flags].concat());
    wait_until("all to be read", || committed_of(&kafka, &topic, 0) == Some(300));
    assert!(reader.peak() < 120_000, "{} kB", reader.peak());
}

#[test]
fn nothing_spins_while_stdout_stalls_across_a_restart() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("stalls", 4);
    for partition in ["0", "1", "2", "3"] {
        kafka.kpipe(&["produce", &topic, "-p", partition], &lines(8_000, 1_000));
    }
    let flags = ["consume", &topic, "-o", "beginning", "--output", "value", "-X", "fetch.max.bytes=1M"];
    let stalled = Stalled::kpipe(&[&["-b", &kafka.bootstrap][..], &flags].concat());
    wait_until("the stall", || stalled.waiting() > 60_000);
    let before = kafka.local().faults().connections();
    kafka.local().crash(1);
    kafka.local().restart(1).unwrap();
    wait_until("it to come back", || kafka.local().faults().connections() > before);
    let (ticks, asked) = (stalled.ticks(), kafka.local().faults().requests(ApiKey::Metadata));
    let began = Instant::now();
    wait_until("two seconds", || began.elapsed() > Duration::from_secs(2));
    let (ticks, asked) = (stalled.ticks() - ticks, kafka.local().faults().requests(ApiKey::Metadata) - asked);
    assert!(ticks < 20 && asked < 10, "{ticks} ticks, {asked} metadata requests in two seconds");
}

/// Of a long outage there is a line when it begins and one when it ends.
#[test]
fn an_outage_is_reported_when_it_begins_and_when_it_ends() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("outage", 8);
    let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning", "--output", "value"]);
    kafka.kpipe(&["produce", &topic], b"a\n");
    wait_until("the record", || !tail.seen().is_empty());
    kafka.local().crash(1);
    wait_until("the report", || tail.told().contains("cannot read"));
    kafka.local().restart(1).unwrap();
    kafka.kpipe(&["produce", &topic], b"b\n");
    wait_until("the record after it", || tail.seen() == "a\nb\n");
    wait_until("the end of it", || tail.told().contains("again after"));
    tail.signal(libc::SIGTERM);
    let done = tail.ended();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!((1..=4).contains(&done.stderr.lines().count()), "{}", done.stderr);
    assert!(done.stderr.contains("cannot read") && done.stderr.contains("again after"), "{}", done.stderr);
}
