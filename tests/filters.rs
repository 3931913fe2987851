//! Filters of `consume`: what is written, counted and committed.

use crate::support::{Cluster, Kafka, each, json_lines, latest_or_local, shared, values};

/// A thousand records in batches; the values of every hundredth hold a needle.
fn haystack(kafka: &Cluster) -> String {
    let topic = kafka.topic("haystack", 1);
    let line = |n: u32| {
        let value = if n % 100 == 7 { format!("a Needle {n}") } else { format!("hay {n}") };
        let header = if n.is_multiple_of(10) {
            format!(r#","headers":[{{"key":"trace","value":"t{}"}}]"#, n / 10)
        } else {
            String::new()
        };
        format!("{{\"key\":\"k{}\",\"value\":\"{value}\"{header}}}\n", n % 4)
    };
    let lines: String = (0..1_000).map(line).collect();
    kafka.kpipe(&["produce", &topic, "--input", "json", "-z", "lz4"], lines.as_bytes());
    topic
}

#[test]
fn records_are_chosen_by_value_key_and_headers() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = haystack(&kafka);
        let read = |args: &[&str]| {
            let done = kafka.kpipe(&[&["consume", &topic, "-o", "beginning", "-e"][..], args].concat(), b"");
            let offsets: Vec<i64> = json_lines(&done.stdout).iter().map(|r| r["offset"].as_i64().unwrap()).collect();
            let summary = format!("read 1000 records, {} matched", offsets.len());
            assert!(done.stderr.contains(&summary), "{args:?}: {}", done.stderr);
            offsets
        };
        let needles: Vec<i64> = (0..10).map(|n| n * 100 + 7).collect();
        assert_eq!(read(&["--grep", "Needle"]), needles);
        assert_eq!(read(&["--grep", "needle", "-i"]), needles);
        assert_eq!(read(&["--grep", "^a [[:alpha:]]+ 7$"]), [7]);
        assert_eq!(read(&["--grep", "needle"]), Vec::<i64>::new());
        assert_eq!(read(&["--grep", "Needle", "--invert"]).len(), 990);
        assert_eq!(read(&["--grep-key", "k[01]"]).len(), 500);
        assert_eq!(
            read(&["--where", "key=k3", "--grep", "Needle"]),
            needles.iter().copied().filter(|n| n % 4 == 3).collect::<Vec<_>>()
        );
        assert_eq!(read(&["--where", "value=hay 42"]), [42]);
        assert_eq!(read(&["--grep-header", "trace"]).len(), 100);
        assert_eq!(read(&["--grep-header", "trace=^t9[89]$"]), [980, 990]);
        assert_eq!(read(&["--where", "header:trace=t5"]), [50]);
    }
}

#[test]
fn a_filter_counts_what_it_writes_and_commits_what_it_passes_over() {
    for kafka in each([Kafka::LATEST, Kafka::Local]) {
        let topic = haystack(&kafka);
        let group = format!("{topic}-group");
        let offset = || {
            let exported = kafka.kpipe(&["groups", "export", &group], b"").stdout;
            json_lines(&exported)[0]["offset"].as_i64().unwrap()
        };
        let read = |args: &[&str]| {
            let args = [&["consume", &topic, "-g", &group, "-o", "beginning", "--grep", "Needle"][..], args].concat();
            values(&kafka.kpipe(&args, b"").stdout)
        };
        assert_eq!(read(&["-c", "3"]), ["a Needle 7", "a Needle 107", "a Needle 207"]);
        assert_eq!(offset(), 208);
        assert_eq!(read(&["-e"]).len(), 7);
        assert_eq!(offset(), 1_000, "all that the filter passed over is committed");
    }
}

#[test]
fn samples_are_taken_of_what_matches() {
    let kafka = shared(Kafka::Local);
    let topic = haystack(&kafka);
    let read = |args: &[&str]| {
        let done = kafka.kpipe(&[&["consume", &topic, "-o", "beginning", "-e"][..], args].concat(), b"");
        (values(&done.stdout), done.stderr)
    };
    let (every, stderr) = read(&["--grep", "Needle", "--every", "4"]);
    assert_eq!(every, ["a Needle 7", "a Needle 407", "a Needle 807"]);
    assert!(stderr.contains("read 1000 records, 10 matched"), "{stderr}");
    let share = read(&["--sample", "0.1"]).0;
    assert!((60..=140).contains(&share.len()), "{}", share.len());
    assert_eq!(read(&["--sample", "0.1"]).0, share);
}

#[test]
fn a_filter_that_cannot_be_is_refused() {
    let kafka = latest_or_local();
    for (args, why) in [
        (&["--grep", "a("][..], "--grep a(: unclosed group at column 2"),
        (&["--grep-header", "n=["], "--grep-header [: unclosed character class at column 1"),
        (&["--invert"], "--invert requires"),
        (&["-i"], "--ignore-case requires"),
        (&["--where", "offset=1"], "expected key=X, value=X or header:NAME=X"),
        (&["--sample", "1.5"], "between 0 and 1"),
        (&["--every", "0"], "at least 1"),
    ] {
        let done = kafka.try_kpipe(&[&["consume", "none", "-e"][..], args].concat(), b"");
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
    }
}
