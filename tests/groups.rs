//! Groups: what is committed was written, and a second run resumes where the first ended.

use crate::support::{Kafka, Running, Version, each, latest_or_local, require, shared, shell, values, wait_until};

#[test]
fn a_second_run_resumes_where_the_first_ended() {
    for kafka in each([
        Kafka::LATEST,
        Kafka::Real(Version::V3_9),
        Kafka::Real(Version::V1_1),
        Kafka::Real(Version::V0_10_2),
        Kafka::Real(Version::V0_8_2),
        Kafka::Local,
    ]) {
        let topic = kafka.topic("stored", 1);
        kafka.kpipe(&["produce", &topic, "-p", "0"], b"0\n1\n2\n3\n");
        let group = topic.clone();
        let read = |args: &[&str]| {
            let done = kafka.kpipe(&[&["consume", &topic, "-g", &group], args].concat(), b"");
            values(&done.stdout).concat()
        };
        assert_eq!(read(&["-c", "2"]), "01", "{kafka}: from the beginning without a committed offset");
        assert_eq!(read(&["-e", "--commit", "none"]), "23", "{kafka}");
        assert_eq!(read(&["-e", "--commit", "each"]), "23", "{kafka}: --commit none committed nothing");
        assert_eq!(read(&["-e"]), "", "{kafka}");
        kafka.kpipe(&["produce", &topic, "-p", "0"], b"4\n");
        assert_eq!(read(&["-e", "-p", "0"]), "4", "{kafka}");
    }
}

#[test]
fn a_new_group_begins_at_the_given_offset() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("given", 1);
    kafka.kpipe(&["produce", &topic], b"0\n1\n2\n");
    let read = kafka.kpipe(&["consume", &topic, "-g", &topic, "-o", "-1", "-e"], b"");
    assert_eq!(values(&read.stdout), ["2"]);
}

#[test]
fn records_that_head_did_not_read_are_not_committed() {
    let kafka = latest_or_local();
    let topic = kafka.topic("head", 1);
    let lines: String = (0..50_000).map(|n| format!("{n:050}\n")).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    // `head` reads whole blocks; `dd` reads exactly ten lines.
    let consume = format!("kpipe -b {} consume {topic} -g {topic} --output value", kafka.bootstrap);
    let first = shell(&format!("{consume} | dd bs=51 count=10 iflag=fullblock status=none; exit ${{PIPESTATUS[0]}}"));
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stderr, "");
    let second = shell(&format!("{consume} -e"));
    assert_eq!(first.stdout + &second.stdout, lines, "every record once");
}

/// A reader that closes the pipe is noticed within a second, even if no more records arrive.
#[test]
fn records_left_in_the_pipe_are_not_committed() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("left", 1);
    kafka.kpipe(&["produce", &topic], b"1\n2\n3\n");
    let consume = format!("kpipe -b {} consume {topic} -g {topic} --output value", kafka.bootstrap);
    let first = shell(&format!("{consume} | sed -u 2q; exit ${{PIPESTATUS[0]}}"));
    assert_eq!((first.code, first.stdout.as_str(), first.stderr.as_str()), (0, "1\n2\n", ""));
    assert_eq!(shell(&format!("{consume} -e")).stdout, "3\n");
}

#[test]
fn sigterm_commits_what_was_written() {
    let kafka = latest_or_local();
    let topic = kafka.topic("term", 1);
    kafka.kpipe(&["produce", &topic], b"a\nb\n");
    for expected in ["a\nb\n", "c\n"] {
        let running = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-g", &topic, "--output", "value"]);
        wait_until("the records", || running.seen() == expected);
        running.signal(libc::SIGTERM);
        let done = running.ended();
        assert_eq!((done.code, done.stdout.as_str()), (0, expected), "{}", done.stderr);
        kafka.kpipe(&["produce", &topic], b"c\n");
    }
}

#[test]
fn with_commit_each_sigkill_repeats_one_record_at_most() {
    let kafka = latest_or_local();
    let topic = kafka.topic("kill", 1);
    let lines: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    // The killed member keeps its partitions until its session times out.
    let session = ["--session-timeout", "6s", "--commit", "each"];
    let args =
        [&["-b", &kafka.bootstrap, "consume", &topic, "-g", &topic, "--output", "value", "-e"][..], &session].concat();
    let running = Running::kpipe(&args);
    wait_until("some records", || running.seen().lines().count() > 50);
    running.signal(libc::SIGKILL);
    let first = running.ended().stdout;
    let second = crate::support::kpipe(&args, b"").stdout;
    let all: Vec<u32> = first.lines().chain(second.lines()).map(|line| line.parse().unwrap()).collect();
    let repeats = all.len() - 2_000;
    assert!(repeats <= 1, "{repeats} repeated");
    assert!((0..2_000).all(|n| all.contains(&n)), "lost");
}

#[test]
fn kafkas_own_tool_sees_the_committed_offsets() {
    require!(Kafka);
    let kafka = shared(Kafka::LATEST);
    let topic = kafka.topic("seen", 1);
    kafka.kpipe(&["produce", &topic], b"a\nb\nc\n");
    kafka.kpipe(&["consume", &topic, "-g", &topic, "-c", "2"], b"");
    // Kafka's consumer resumes after it in the same group.
    let rest = kafka.console_consume(&topic, 1, &["--group", &topic]);
    assert_eq!(rest, "c\n");
}
