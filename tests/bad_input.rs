//! Bad input: a clear message, the right exit code, and everything before it delivered.

use crate::support::{Kafka, kpipe, shared};

#[test]
fn a_malformed_json_line_is_named_and_the_lines_before_it_are_delivered() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("bad", 1);
    let done = kafka.try_kpipe(
        &["produce", &topic, "--input", "json"],
        b"{\"value\":\"a\"}\n{\"value\":\"b\"}\n{\"value\":}\n{\"value\":\"c\"}\n",
    );
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("stdin, line 3, byte 10: expected value"), "{}", done.stderr);
    assert!(done.stderr.contains("the first 2 records were delivered (--skip 2 resumes"), "{}", done.stderr);
    assert_eq!(kafka.values(&topic), ["a", "b"]);
}

#[test]
fn a_record_over_the_brokers_limit_fails_alone() {
    let kafka = shared(Kafka::Local);
    let topic = crate::support::fresh("limit");
    kafka.kpipe(&["topics", "create", &topic, "--config", "max.message.bytes=5000"], b"");
    // Batches over the limit are split if their records are below it.
    let lines: String = (0..2_000).map(|n| format!("{n:0100}\n")).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
    assert_eq!(read.stdout, lines);
    kafka.kpipe(&["produce", &topic, "-z", "lz4"], lines.as_bytes());
    let read = kafka.kpipe(&["consume", &topic, "-o", "2000", "-e", "--output", "value"], b"");
    assert_eq!(read.stdout, lines);
    // A single record over the limit fails.
    let input = format!("before\n{}\nafter\n", "x".repeat(6_000));
    let done = kafka.try_kpipe(&["produce", &topic], input.as_bytes());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("not delivered: record 2: "), "{}", done.stderr);
    assert!(done.stderr.contains("MESSAGE_TOO_LARGE"), "{}", done.stderr);
    assert!(done.stderr.contains("max.message.bytes"), "{}", done.stderr);
    let read = kafka.kpipe(&["consume", &topic, "-o", "4000", "-e", "--output", "value"], b"");
    assert_eq!(read.stdout, "before\nafter\n");
}

#[test]
fn a_line_of_50_mb_is_delivered_if_the_topic_accepts_it() {
    let kafka = shared(Kafka::Local);
    let topic = crate::support::fresh("huge");
    kafka.kpipe(&["topics", "create", &topic, "--config", "max.message.bytes=60000000"], b"");
    let mut line: Vec<u8> = (0..50_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    line.push(b'\n');
    kafka.kpipe(&["produce", &topic, "--request-timeout", "30s"], &[&b"small\n"[..], &line].concat());
    let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
    assert!(read.bytes == [&b"small\n"[..], &line].concat());
    let done = kafka.try_kpipe(&["produce", &topic, "--max-record-size", "1M"], &[&b"small\n"[..], &line].concat());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("line 2, byte 1048577: longer than --max-record-size"), "{}", done.stderr);
    let read = kafka.kpipe(&["consume", &topic, "-o", "-1", "-e", "--output", "value"], b"");
    assert_eq!(read.stdout, "small\n", "the line before it is delivered");
}

#[test]
fn files_that_cannot_be_read_fail_before_anything_is_sent() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("files", 1);
    let good = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(good.path(), "a\nno newline").unwrap();
    let good = good.path().to_str().unwrap().to_owned();
    let done = kafka.try_kpipe(&["produce", &topic, &good, "/no/such/file"], b"");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("/no/such/file: No such file or directory"), "{}", done.stderr);
    let done = kafka.try_kpipe(&["produce", &topic, "/tmp"], b"");
    assert!(done.stderr.contains("/tmp: is a directory"), "{}", done.stderr);
    assert_eq!(kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"").stdout, "");
}

#[test]
fn a_mistyped_name_gets_the_nearest_known_one_as_a_hint() {
    for (args, hint) in [
        (&["produce", "t", "--compresion", "gzip"][..], "--compression"),
        (&["produce", "t", "-z", "zsdt"], "did you mean zstd?"),
        (&["produce", "t", "-z", "zstd:23"], "1 to 22"),
        (&["-X", "bootstrap.server=x", "topics", "list"], "did you mean bootstrap.servers?"),
        (&["consume", "t", "-o", "begining"], "did you mean beginning?"),
        (&["topcis", "list"], "topics"),
        (&["-b", "localhost:port", "topics", "list"], "HOST:PORT"),
        (&["consume", "t", "-o", "stored"], "-g"),
        (&["consume", "t", "--commit", "each"], "requires a group (-g)"),
        (&["produce", "-"], "--input json"),
        (&["produce", "t", "--acks", "1", "--idempotent", "true"], "--acks all"),
        (&["-F", "/no/such/file", "topics", "list"], "/no/such/file"),
    ] {
        let done = kpipe(args, b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(hint), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn properties_files_and_the_environment_set_the_brokers() {
    let kafka = shared(Kafka::Local);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!("# written by a test\nbootstrap.servers={}\nclient.id : me\n", kafka.bootstrap),
    )
    .unwrap();
    let done = kpipe(&["-F", file.path().to_str().unwrap(), "topics", "list"], b"");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let done = crate::support::shell(&format!("KPIPE_BROKERS={} kpipe topics list", kafka.bootstrap));
    assert_eq!(done.code, 0, "{}", done.stderr);
}
