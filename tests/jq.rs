//! `consume --jq`: as jq does it, within limits.

use crate::support::{Cluster, Kafka, Running, latest_or_local, require, shared, shell, wait_until};
use std::time::Duration;

/// Programs that mean the same to jq and jaq.
const PROGRAMS: [&str; 26] = [
    ".",
    ".value",
    ".value.id",
    ".value.tags[]",
    ".value | keys",
    ".value.tags | length",
    "select(.value.id > 2)",
    "select(.key == \"k1\") | .offset",
    "{id: .value.id, key}",
    "[.value.tags[] | ascii_upcase]",
    ".value.tags | map(length) | add",
    ".value.user.name // \"nobody\"",
    ".value | to_entries | map(.key)",
    ".value | has(\"user\")",
    "[.value.tags[] | select(startswith(\"a\"))]",
    "\"\\(.key): \\(.value.id)\"",
    ".value.tags | sort | join(\",\")",
    ".value.tags | index(\"b\")",
    "if .value.id % 2 == 0 then \"even\" else \"odd\" end",
    ".value.tags as [$first] | $first",
    "[.value.tags[] | test(\"^[ab]\")]",
    ".value.tags | group_by(length) | map(length)",
    "reduce .value.tags[] as $t (\"\"; . + $t)",
    "[limit(2; .value.tags[])]",
    ".value.price * 2 | floor",
    "def twice: . * 2; .value.id | twice | tostring",
];

fn orders(kafka: &Cluster) -> String {
    let topic = kafka.topic("orders", 1);
    let line = |n: u32| {
        let user = if n.is_multiple_of(3) { r#","user":{"name":"Zoë \"Z\""}"# } else { "" };
        format!(r#"k{}:{{"id":{n},"price":{n}.25,"tags":["a{n}","b","cäc"]{user}}}"#, n % 4) + "\n"
    };
    kafka.kpipe(&["produce", &topic, "-K", ":"], (0..12).map(line).collect::<String>().as_bytes());
    topic
}

#[test]
fn programs_result_in_what_debians_jq_results_in() {
    require!(Jq);
    let kafka = latest_or_local();
    let topic = orders(&kafka);
    let consume = format!("kpipe -b {} -q consume {topic} -o beginning -e --value-as json", kafka.bootstrap);
    for program in PROGRAMS {
        let quoted = format!("'{program}'");
        let ours = shell(&format!("{consume} --jq {quoted}"));
        let theirs = shell(&format!("{consume} | jq -c {quoted}"));
        assert_eq!((ours.code, theirs.code), (0, 0), "{program}: {}{}", ours.stderr, theirs.stderr);
        assert_eq!(ours.stdout, theirs.stdout, "{program}");
        assert!(!ours.stdout.is_empty(), "{program}");
    }
    let raw = [format!("{consume} --raw-output --jq .value.tags[]"), format!("{consume} | jq -r .value.tags[]")];
    let [ours, theirs] = raw.map(|line| shell(&line).stdout);
    assert_eq!(ours, theirs);
}

#[test]
fn results_are_lines_and_records_without_one_are_passed_over() {
    let kafka = latest_or_local();
    let topic = orders(&kafka);
    let group = format!("{topic}-group");
    let read = |args: &[&str]| kafka.kpipe(&[&["consume", &topic, "--value-as", "json"][..], args].concat(), b"");
    let done = read(&["-o", "beginning", "-e", "--jq", "select(.value.id >= 10) | .value.tags[0,1]", "-D", ";"]);
    assert_eq!(done.stdout, "\"a10\";\"b\";\"a11\";\"b\";");
    assert!(done.stderr.contains("read 12 records, 2 matched"), "{}", done.stderr);
    let counted = ["-g", &group, "-o", "beginning", "-c", "2", "--jq", "select(.value.id % 5 == 4).value.id"];
    assert_eq!(read(&counted).stdout, "4\n9\n");
    assert_eq!(read(&["-g", &group, "-e", "--jq", ".offset"]).stdout, "10\n11\n");
    let both = read(&["-o", "beginning", "-e", "--grep", "Zoë", "--jq", "select(.key == \"k1\").value.id"]);
    assert_eq!(both.stdout, "9\n");
    assert!(both.stderr.contains("read 12 records, 1 matched"), "{}", both.stderr);
}

#[test]
fn a_program_that_fails_for_a_record_names_it_and_continues() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("failing", 1);
    let lines: String =
        (0..20).map(|n| if n % 2 == 0 { format!("{{\"a\":{n}}}\n") } else { "text\n".to_owned() }).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    let args = ["consume", &topic, "-o", "beginning", "-e", "--value-as", "json", "--jq", ".value.a"];
    let done = kafka.try_kpipe(&args, b"");
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 10);
    assert!(done.stderr.contains(&format!("--jq failed at {topic}/0 offset 1: cannot index")), "{}", done.stderr);
    assert_eq!(done.stderr.matches("--jq failed at").count(), 10);
    let many = ["consume", &topic, "-o", "beginning", "-e", "-q", "--jq", "error"];
    let done = kafka.try_kpipe(&many, b"");
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert_eq!(done.stderr.matches("--jq failed at").count(), 10, "{}", done.stderr);
    assert!(done.stderr.contains("--jq failed for 20 records in all"), "{}", done.stderr);
    let done = kafka.try_kpipe(&["consume", &topic, "--jq", ".a ("], b"");
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("--jq .a (: expected"), "{}", done.stderr);
}

/// Memory stays bounded whatever a program results in, and a signal ends it.
#[test]
fn programs_without_an_end_are_bounded_and_end_on_a_signal() {
    let kafka = shared(Kafka::Local);
    let topic = orders(&kafka);
    let group = format!("{topic}-group");
    for (program, writes) in
        [("repeat(.value)", true), ("last(range(1e12))", false), ("[limit(0; 1)] | until(false; .)", false)]
    {
        let args = ["-b", &kafka.bootstrap, "consume", &topic, "-g", &group, "-o", "beginning", "--jq", program];
        let running = Running::kpipe(&args);
        if writes {
            wait_until("ten megabytes of results", || running.seen().len() > 10 << 20);
        } else {
            // Not a result, but the group's first position tells that it has begun.
            wait_until("a member", || kafka.kpipe(&["groups", "describe", &group], b"").stdout.contains("kpipe"));
        }
        let rss = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
            let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB").to_owned();
            kb.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        assert!(rss() < 300_000, "{program}: {} kB", rss());
        let since = std::time::Instant::now();
        running.signal(libc::SIGTERM);
        let done = running.ended();
        assert_eq!(done.code, 0, "{program}: {}", done.stderr);
        assert!(since.elapsed() < Duration::from_secs(10), "{program}");
        let exported = kafka.kpipe(&["groups", "export", &group], b"").stdout;
        assert!(!exported.contains("\"offset\":1"), "nothing was handled: {exported}");
    }
}
