//! stdin, stdout and stderr that are closed, full or gone: no abort, no success that is not one.

use crate::support::{Cluster, Done, shell};

/// A cluster with a topic `stdio` of ten records and a group `g` that has read them.
fn prepared() -> Cluster {
    let kafka = Cluster::start_local(1);
    kafka.kpipe(&["topics", "create", "stdio", "--partitions", "2"], b"");
    kafka.kpipe(&["produce", "stdio"], b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    kafka.kpipe(&["consume", "stdio", "-g", "g", "-o", "beginning", "-e", "--output", "none"], b"");
    kafka
}

/// Commands that print, each with what must be on its stdout.
const PRINT: [(&str, &str); 14] = [
    ("consume stdio -o beginning -e", "\"value\""),
    ("consume stdio -g fresh -o beginning -e --commit each", "\"value\""),
    ("produce stdio --receipts </etc/hostname", "\"offset\""),
    ("topics list", "stdio"),
    ("topics describe stdio", "stdio"),
    ("topics describe stdio -J", "stdio"),
    ("topics offsets stdio", "stdio"),
    ("groups list", "g"),
    ("groups describe g", "stdio"),
    ("groups lag g", "stdio"),
    ("groups export g", "stdio"),
    ("cluster brokers", "127.0.0.1"),
    ("config show", "bootstrap"),
    ("completions bash", "complete"),
];

/// Runs each of [`PRINT`] with `redirection`.
fn printed(kafka: &Cluster, redirection: &str) -> Vec<(&'static str, &'static str, Done)> {
    let run = |(command, expected)| {
        let line = format!("KPIPE_BROKERS={} timeout 60 kpipe {command} {redirection}", kafka.bootstrap);
        (command, expected, shell(&line))
    };
    PRINT.into_iter().map(run).collect()
}

#[test]
fn a_stdout_that_is_closed_at_the_start_is_an_error_before_anything_is_done() {
    let kafka = prepared();
    for (command, _, done) in printed(&kafka, ">&-") {
        assert_eq!((done.code, &*done.stderr), (1, "kpipe: stdout is closed\n"), "{command}");
    }
    assert_eq!(shell("kpipe --help >&-").code, 1);
    let groups = kafka.kpipe(&["groups", "list"], b"").stdout;
    assert!(!groups.contains("fresh"), "nothing was committed: {groups}");
    let sent = shell(&format!("echo x | kpipe -b {} produce closed-stdout >&-", kafka.bootstrap));
    assert_eq!(sent.code, 1);
    assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains("closed-stdout"), "nothing was sent");
}

#[test]
fn a_stdout_that_somebody_sent_to_dev_null_is_not_closed() {
    let kafka = prepared();
    for redirection in [">/dev/null", "1<>/dev/null"] {
        for (command, _, done) in printed(&kafka, redirection) {
            assert_eq!(done.code, 0, "{command} {redirection}: {}", done.stderr);
        }
    }
}

#[test]
fn a_full_stdout_is_an_error() {
    let kafka = prepared();
    for (command, _, done) in printed(&kafka, ">/dev/full") {
        assert_eq!(done.code, 1, "{command}: {}", done.stderr);
        assert!(done.stderr.contains("No space left on device"), "{command}: {}", done.stderr);
    }
    assert_eq!(shell("kpipe --help >/dev/full").code, 1);
}

#[test]
fn an_unwritable_stderr_changes_nothing() {
    let kafka = prepared();
    for redirection in ["2>&-", "2>/dev/full", "-v 2>/dev/full"] {
        for (command, expected, done) in printed(&kafka, redirection) {
            assert_eq!(done.code, 0, "{command} {redirection}");
            assert!(done.stdout.contains(expected), "{command} {redirection}: {}", done.stdout);
        }
        for (number, (command, code)) in [
            ("topics create made-N", 0),
            ("topics delete made-N --yes", 0),
            ("topics describe missing", 1),
            ("topics delete stdio", 2),
            ("produce stdio --progress </etc/hostname", 0),
            ("nonsense", 2),
        ]
        .into_iter()
        .enumerate()
        {
            let command = command.replace('N', &redirection.len().to_string());
            let done = shell(&format!("KPIPE_BROKERS={} timeout 60 kpipe {command} {redirection}", kafka.bootstrap));
            assert_eq!(done.code, code, "{number}: {command} {redirection}: {}", done.stdout);
        }
    }
}

#[test]
fn a_stdin_that_is_closed_is_an_error_where_it_is_read() {
    let kafka = prepared();
    for (command, _, done) in printed(&kafka, "").into_iter().filter(|(command, ..)| !command.contains('<')) {
        assert_eq!(done.code, 0, "{command}: {}", done.stderr);
    }
    for command in
        ["produce stdio", "topics reassign execute - --yes", "acls create --input -", "acls delete --input -"]
    {
        let done = shell(&format!("KPIPE_BROKERS={} kpipe {command} <&-", kafka.bootstrap));
        assert_eq!(done.code, 1, "{command}: {}", done.stderr);
        assert!(
            done.stderr.contains("stdin is closed") || done.stderr.contains("stdin: closed"),
            "{command}: {}",
            done.stderr
        );
    }
}
