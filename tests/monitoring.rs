//! Metrics: the Prometheus endpoint and file, stats lines, and progress on a terminal.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, each, fresh, json_lines, kpipe, latest_or_local, python, require, shared,
    shell, wait_until,
};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The status line and the body of a GET request on loopback.
fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// The sum of all series of `name` whose labels contain `labels`.
fn value(text: &str, name: &str, labels: &str) -> f64 {
    let of = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
    };
    text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The names of the metrics that Prometheus' own parser finds at `url`, all with help and type.
fn parsed_by_prometheus(url: &str) -> BTreeSet<String> {
    let done = python(&format!(
        r#"
import urllib.request
from prometheus_client.parser import text_string_to_metric_families as parse
answer = urllib.request.urlopen("{url}")
for family in parse(answer.read().decode()):
    assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
    assert family.type != "counter" or all(s.name.endswith("_total") for s in family.samples), family
    print(family.name + ("_total" if family.type == "counter" else ""))
"#
    ));
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_run_can_be_scraped_while_it_works() {
    let kafka = latest_or_local();
    let (topic, port, reader_port) = (kafka.topic("scraped", 2), free_port(), free_port());
    let at = port.to_string();
    let mut producer =
        Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "-K", ":", "-z", "lz4", "--metrics", &at]);
    wait_until("the endpoint", || get(port, "/readyz").is_some_and(|(status, _)| status.contains("200")));
    let line = |n: usize| format!("{}:{n:0100}\n", n % 7);
    let lines: String = (0..20_000).map(line).collect();
    producer.write(lines.as_bytes());
    let produced = || get(port, "/metrics").unwrap().1;
    wait_until("the records", || value(&produced(), "kpipe_produced_records_total", "") == 20_000.0);
    let text = produced();
    assert_eq!(value(&text, "kpipe_input_bytes_total", ""), lines.len() as f64);
    let bytes = |state| value(&text, "kpipe_produce_batch_bytes_total", state);
    assert!(bytes("compressed") > 0.0 && bytes("raw") > 2.0 * bytes("compressed"), "{text}");
    assert!(value(&text, "kpipe_request_duration_seconds_count", "api=\"Produce\",broker=\"1\"") >= 1.0);
    assert_eq!(get(port, "/healthz").unwrap().1, "ok\n");
    assert!(get(port, "/").unwrap().0.contains("404"));

    let (group, at) = (fresh("scraped"), reader_port.to_string());
    let reader = Running::kpipe(&[
        "-b",
        &kafka.bootstrap,
        "consume",
        &topic,
        "-g",
        &group,
        "-o",
        "beginning",
        "--output",
        "value",
        "--metrics",
        &at,
    ]);
    let consumed = || get(reader_port, "/metrics").map(|(_, text)| text).unwrap_or_default();
    wait_until("the reader", || value(&consumed(), "kpipe_consumed_records_total", "") == 20_000.0);
    let of_topic = format!("topic=\"{topic}\"");
    wait_until("no lag", || value(&consumed(), "kpipe_consumer_lag_records", &of_topic) == 0.0);
    wait_until("a commit", || value(&consumed(), "kpipe_commits_total", "") >= 1.0);
    assert_eq!(value(&consumed(), "kpipe_assigned_partitions", ""), 2.0);
    assert_eq!(value(&consumed(), "kpipe_output_bytes_total", ""), 20_000.0 * 101.0);
    // A reader that stalls falls behind, which shows as lag.
    reader.set_paused(true);
    producer.write(lines.repeat(8).as_bytes());
    wait_until("a lag", || value(&consumed(), "kpipe_consumer_lag_records", &of_topic) > 1_000.0);
    reader.set_paused(false);
    wait_until("the lag worked off", || value(&consumed(), "kpipe_consumed_records_total", "") == 180_000.0);
    assert_eq!(producer.finish().code, 0);
    reader.signal(libc::SIGTERM);
    assert_eq!(reader.ended().code, 0);
    assert!(get(port, "/metrics").is_none(), "the endpoint ends with the run");
}

/// The page of another site could have its name lead to 127.0.0.1.
#[test]
fn metrics_on_loopback_are_for_this_machine() {
    let kafka = shared(Kafka::Local);
    let (topic, port) = (kafka.topic("host", 1), free_port());
    let running = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "--metrics", &port.to_string()]);
    wait_until("the server", || get(port, "/healthz").is_some());
    let status = |host: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\n{host}\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for own in ["Host: 127.0.0.1:1\r\n", "Host: localhost\r\n", "Host: [::1]:9\r\n"] {
        assert_eq!(status(own), "200", "{own}");
    }
    for foreign in ["Host: evil.example\r\n", "Host: 127.0.0.1.evil.example\r\n", "Host: \r\n"] {
        assert_eq!(status(foreign), "421", "{foreign}");
    }
    running.signal(libc::SIGTERM);
    assert_eq!(running.ended().code, 0);
}

#[test]
fn a_thousand_slow_clients_keep_nobody_from_the_health_check() {
    let kafka = shared(Kafka::Local);
    let (topic, port) = (kafka.topic("slow-clients", 1), free_port());
    let running = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "--metrics", &port.to_string()]);
    wait_until("the server", || get(port, "/healthz").is_some());
    let mut slow = Vec::new();
    for n in 0..1_000 {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Half of them never end their request, the others never read the answer.
        let request: &[u8] =
            if n % 2 == 0 { b"GET /metrics HTTP/1.1\r\nHost: " } else { b"GET /metrics HTTP/1.0\r\n\r\n" };
        socket.write_all(request).unwrap();
        slow.push(socket);
        if n % 100 == 99 {
            let asked = Instant::now();
            assert_eq!(get(port, "/healthz").unwrap().1, "ok\n", "{n} slow clients");
            assert!(asked.elapsed() < Duration::from_secs(2), "{n} slow clients: {:?}", asked.elapsed());
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap().count();
    assert!(open < 200, "{open} open files");
    running.signal(libc::SIGTERM);
    assert_eq!(running.ended().code, 0);
}

#[test]
fn every_group_is_exported_with_its_lag_in_records_and_in_seconds() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let (topic, port) = (kafka.topic("exported", 3), free_port());
        let groups: Vec<String> = (0..5).map(|n| fresh(&format!("exported-{n}"))).collect();
        kafka.kpipe(
            &["produce", &topic, "-K", ":"],
            (0..300).map(|n| format!("{n}:x\n")).collect::<String>().as_bytes(),
        );
        for group in &groups {
            kafka.kpipe(&["consume", &topic, "-g", group, "-o", "beginning", "-e", "--output", "none"], b"");
        }
        let exporter = Running::kpipe(&[
            "-b",
            &kafka.bootstrap,
            "groups",
            "lag",
            "--all",
            "--metrics",
            &port.to_string(),
            "--watch",
            "200ms",
        ]);
        let text = || get(port, "/metrics").map(|(_, text)| text).unwrap_or_default();
        let lag = |name: &str, group: &str| value(&text(), name, &format!("group=\"{group}\""));
        wait_until("all groups", || groups.iter().all(|g| text().contains(&format!("group=\"{g}\""))));
        assert_eq!(lag("kpipe_group_lag_records", &groups[0]), 0.0);
        kafka.kpipe(&["produce", &topic, "-p", "1"], "x\n".repeat(70).as_bytes());
        wait_until("the lag", || lag("kpipe_group_lag_records", &groups[0]) == 70.0);
        wait_until("its time", || lag("kpipe_group_lag_seconds", &groups[0]) >= 1.0);
        // Kafka's own tool prints the same lag.
        let tool = kafka.tool(Tool::ConsumerGroupCommand, &["--describe", "--group", &groups[0]]);
        let line = tool.lines().find(|line| line.split_whitespace().nth(2) == Some("1")).unwrap();
        assert_eq!(line.split_whitespace().nth(5), Some("70"), "{tool}");
        let listed = json_lines(&kafka.kpipe(&["groups", "lag", "--all", "-J"], b"").stdout);
        let of = |group: &str| -> i64 {
            listed.iter().filter(|l| l["group"] == group).map(|l| l["lag"].as_i64().unwrap()).sum()
        };
        assert!(groups.iter().all(|group| of(group) == 70));
        kafka.kpipe(&["consume", &topic, "-g", &groups[0], "-e", "--output", "none"], b"");
        wait_until("worked off", || lag("kpipe_group_lag_records", &groups[0]) == 0.0);
        assert_eq!(lag("kpipe_group_lag_seconds", &groups[0]), 0.0);
        kafka.kpipe(&["groups", "delete", &groups[4], "--yes"], b"");
        wait_until("gone", || !text().contains(&groups[4]));
        exporter.signal(libc::SIGTERM);
        let done = exporter.ended();
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
    }
}

/// In those of a producer and of the exporter of lag.
#[test]
fn a_broker_that_stops_answering_and_its_return_show_in_the_metrics() {
    require!(Kafka);
    let mut kafka = Cluster::start(Version::LATEST, 1, &[]);
    let (topic, port, lag_port) = (kafka.topic("gone", 1), free_port(), free_port());
    kafka.kpipe(&["consume", &topic, "-g", "g", "-o", "beginning", "-e"], b"");
    let settings = ["-X", "request.timeout.ms=500", "-X", "socket.connection.setup.timeout.ms=500"];
    let run = |args: &[&str]| Running::kpipe(&[&["-q", "-b", &kafka.bootstrap], &settings[..], args].concat());
    let mut producer = run(&["produce", &topic, "--metrics", &port.to_string()]);
    let exporter = run(&["groups", "lag", "--all", "--metrics", &lag_port.to_string(), "-w", "200ms"]);
    let text = |port| get(port, "/metrics").map(|(_, text)| text).unwrap_or_default();
    producer.write(b"1\n");
    wait_until("a record", || value(&text(port), "kpipe_produced_records_total", "") == 1.0);
    wait_until("a lag", || value(&text(lag_port), "kpipe_group_lag_records", "group=\"g\"") == 1.0);
    assert_eq!(shell(&format!("kill -STOP {}", kafka.pid(1))).code, 0);
    producer.write(b"2\n");
    wait_until("failed connections", || value(&text(port), "kpipe_connections_total", "failed") >= 1.0);
    wait_until("retries", || value(&text(port), "kpipe_retries_total", "network") >= 1.0);
    wait_until("errors of the exporter", || value(&text(lag_port), "kpipe_group_lag_errors_total", "network") >= 1.0);
    wait_until("not ready", || get(lag_port, "/readyz").is_some_and(|(status, _)| status.contains("503")));
    assert_eq!(shell(&format!("kill -CONT {}", kafka.pid(1))).code, 0);
    kafka.crash_and_restart(1);
    wait_until("the record", || value(&text(port), "kpipe_produced_records_total", "") == 2.0);
    wait_until("ready again", || get(lag_port, "/readyz").is_some_and(|(status, _)| status.contains("200")));
    assert_eq!(producer.finish().code, 0);
    exporter.signal(libc::SIGTERM);
    assert_eq!(exporter.ended().code, 0);
}

#[test]
fn stats_are_json_lines_on_stderr() {
    let kafka = latest_or_local();
    let topic = kafka.topic("stats", 1);
    let lines: String = (0..50_000).map(|n| format!("{n:0100}\n")).collect();
    let done = kafka.kpipe(&["-q", "produce", &topic, "-z", "zstd", "--stats", "50ms"], lines.as_bytes());
    let stats = json_lines(&done.stderr);
    let last = stats.last().unwrap();
    assert_eq!(last["produced"]["records"], 50_000);
    assert!(last["produced"]["compression_ratio"].as_f64().unwrap() > 3.0, "{last}");
    assert!(last["latency_ms"]["1"]["Produce"]["p99"].as_f64().unwrap() > 0.0, "{last}");
    let group = fresh("stats");
    let read = kafka.kpipe(
        &["-q", "consume", &topic, "-g", &group, "-o", "beginning", "-e", "--output", "none", "--stats", "50ms"],
        b"",
    );
    let last = json_lines(&read.stderr).pop().unwrap();
    assert_eq!((&last["consumed"]["records"], &last["consumed"]["lag_total"]), (&50_000.into(), &0.into()));
    assert_eq!(last["consumed"]["lag"][format!("{topic}/0")], 0);
    assert!(last["consumed"]["commits"].as_u64().unwrap() >= 1 && last["consumed"]["rebalances"] == 1, "{last}");
    // Errors are counted by name.
    let small = fresh("stats-small");
    kafka.kpipe(&["topics", "create", &small, "--config", "max.message.bytes=1000"], b"");
    let large = format!("small\n{}\n", "x".repeat(5_000));
    let failed = kafka.try_kpipe(
        &["-q", "produce", &small, "--batch-size", "100", "--on-error", "continue", "--stats", "10s"],
        large.as_bytes(),
    );
    let last = failed.stderr.lines().rfind(|line| line.starts_with('{')).unwrap();
    assert_eq!(json_lines(last)[0]["produced"]["errors"]["MESSAGE_TOO_LARGE"], 1, "{last}");
}

#[test]
fn prometheus_can_parse_the_metrics() {
    require!(Python);
    let kafka = latest_or_local();
    let (topic, port, dir) = (kafka.topic("parsed", 1), free_port(), tempfile::tempdir().unwrap());
    let (at, file) = (port.to_string(), dir.path().join("kpipe.prom").display().to_string());
    let mut producer = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--metrics", &at]);
    producer.write(b"1\n");
    wait_until("the record", || {
        get(port, "/metrics").is_some_and(|(_, text)| value(&text, "kpipe_produced_records_total", "") == 1.0)
    });
    assert!(
        parsed_by_prometheus(&format!("http://127.0.0.1:{port}/metrics")).contains("kpipe_request_duration_seconds")
    );
    assert_eq!(producer.finish().code, 0);
    kafka.kpipe(&["produce", &topic, "--metrics-file", &file], b"1\n2\n");
    assert!(parsed_by_prometheus(&format!("file://{file}")).contains("kpipe_produced_records_total"));
}

#[test]
fn a_metrics_file_is_complete_at_the_end() {
    let kafka = shared(Kafka::Local);
    let (topic, dir) = (kafka.topic("file", 1), tempfile::tempdir().unwrap());
    let path = dir.path().join("kpipe.prom");
    let path = path.display().to_string();
    kafka.kpipe(&["produce", &topic, "--metrics-file", &path], b"1\n2\n");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(value(&text, "kpipe_produced_records_total", ""), 2.0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    let wrong = kafka.try_kpipe(&["produce", &topic, "--metrics-file", "/none/kpipe.prom"], b"1\n");
    assert!(
        wrong.code == 1 && wrong.stderr.contains("--metrics-file /none/kpipe.prom: No such file"),
        "{}",
        wrong.stderr
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let wrong = kafka.try_kpipe(&["produce", &topic, "--metrics", &taken], b"1\n");
    assert!(wrong.code == 2 && wrong.stderr.contains("Address already in use"), "{}", wrong.stderr);
}

/// The documentation and the dashboard name all metrics; the alerts name only existing ones.
#[test]
fn the_docs_name_the_metrics_that_exist() {
    let read =
        |name: &str| std::fs::read_to_string(format!("{}/docs/monitoring/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let words = text.split(word).filter(|word| word.starts_with("kpipe_"));
        words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
    };
    let known = kpipe::metrics::Metrics::names();
    assert_eq!(names(&read("README.md")), known);
    assert_eq!(names(&read("kpipe-dashboard.json")), known);
    let dashboard: serde_json::Value = serde_json::from_str(&read("kpipe-dashboard.json")).unwrap();
    assert_eq!(dashboard["panels"].as_array().unwrap().len(), 10);
    let unknown: Vec<String> = names(&read("kpipe-alerts.yaml")).difference(&known).cloned().collect();
    assert_eq!(unknown, Vec::<String>::new());
}

/// What a line of shell prints on a terminal with this many columns.
fn on_terminal(columns: u32, line: &str) -> String {
    shell(&format!("script -qec 'stty cols {columns} rows 24; {line}' /dev/null </dev/null")).stdout
}

/// Replaces what changes from run to run: numbers, and the length of the bar.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            ',' | '.' | ':' if out.ends_with('N') => {}
            '=' | ' ' if out.ends_with(c) => {}
            c => out.push(c),
        }
    }
    out.replace("[= ]", "[=]").replace("KiB", "B").replace("MiB", "B")
}

#[test]
fn progress_is_shown_only_on_a_terminal() {
    require!(Script);
    let kafka = shared(Kafka::Local);
    let (topic, b) = (kafka.topic("progress", 1), &kafka.bootstrap);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), (0..60_000).map(|n| format!("{n:030}\n")).collect::<String>()).unwrap();
    let file = file.path().display();
    for columns in [80, 200] {
        let shown = on_terminal(columns, &format!("kpipe -b {b} produce {topic} {file} --rate 50000"));
        let lines: Vec<&str> = shown.split(['\r', '\n']).map(|l| l.trim_start_matches("\u{1b}[2K")).collect();
        let bar = lines.iter().rfind(|line| line.starts_with('[')).unwrap_or_else(|| panic!("{shown:?}"));
        assert!(bar.chars().count() <= columns as usize, "{bar:?}");
        let snapshot = without_numbers(bar.trim_end());
        let whole = "[=] N% N left N records N/s N B N B/s";
        let expected = if columns == 200 { whole } else { &whole[..snapshot.len()] };
        assert_eq!(snapshot, expected, "{bar:?}");
        assert!(snapshot.len() >= "[=] N% N left N records".len(), "{bar:?}");
        assert!(shown.contains("60000 records delivered"), "{shown:?}");
        let reads = on_terminal(
            columns,
            &format!("timeout -s INT 1 kpipe -b {b} consume {topic} -o beginning --output none >/dev/null"),
        );
        let line =
            reads.split(['\r', '\n']).rfind(|line| line.contains("records")).unwrap_or_else(|| panic!("{reads:?}"));
        let snapshot = without_numbers(line.trim_start_matches("\u{1b}[2K").trim_end());
        assert_eq!(snapshot, "N N records N/s N B N B/s lag N N partitions", "{line:?}");
    }
    // In a pipe only with --progress, line by line; with -q never.
    for (line, shows) in [
        (format!("kpipe -b {b} produce {topic} {file} 2>&1"), false),
        (format!("kpipe -b {b} produce {topic} {file} --rate 40000 --progress 2>&1"), true),
    ] {
        let done = shell(&line);
        assert_eq!(done.stdout.contains('['), shows, "{line}: {:?}", done.stdout);
        assert!(!done.stdout.contains('\u{1b}'), "escape sequences in a pipe: {:?}", done.stdout);
    }
    let quiet = on_terminal(80, &format!("kpipe -q -b {b} produce {topic} {file} --rate 100000"));
    assert_eq!(quiet.trim(), "", "{quiet:?}");
}

#[test]
fn tables_have_no_colors() {
    require!(Script);
    let kafka = latest_or_local();
    let topic = kafka.topic("plain-table", 2);
    for columns in [80, 200] {
        let shown = on_terminal(columns, &format!("kpipe -b {} topics describe {topic}", kafka.bootstrap));
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        let header: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(header, ["TOPIC", "PARTITION", "LEADER", "REPLICAS", "IN-SYNC", "LOG-START", "END", "SIZE"]);
        assert_eq!(shown.lines().count(), 3);
    }
    let piped = kpipe(&["-b", &kafka.bootstrap, "topics", "describe", &topic], b"").stdout;
    assert!(!piped.contains('\u{1b}'));
}

/// A partition without a leader costs the exporter that partition alone, and few lines.
#[test]
fn a_lost_partition_hides_no_group_from_the_exporter() {
    let kafka = Cluster::start_local(1);
    let (topic, port) = (kafka.topic("lost", 2), free_port());
    let groups = ["lost-a", "lost-b"];
    for group in groups {
        kafka.kpipe(&["consume", &topic, "-g", group, "-e"], b"");
    }
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"1\n2\n3\n");
    assert!(kafka.local().remove_leader(&topic, 1));
    let port_text = port.to_string();
    let args = ["-b", &kafka.bootstrap, "groups", "lag", "--all", "--metrics", &port_text, "--watch", "100ms"];
    let exporter = Running::kpipe(&args);
    let text = || get(port, "/metrics").map(|(_, text)| text).unwrap_or_default();
    let lag = |group: &str| value(&text(), "kpipe_group_lag_records", &format!("group=\"{group}\""));
    wait_until("both groups", || groups.iter().all(|group| lag(group) == 3.0));
    let errors = || value(&text(), "kpipe_group_lag_errors_total", "LEADER_NOT_AVAILABLE");
    wait_until("many rounds", || errors() >= 2.0);
    assert!(get(port, "/readyz").unwrap().0.contains("200"));
    assert!(kafka.local().move_leader(&topic, 1, 1));
    let before = errors();
    kafka.kpipe(&["produce", &topic, "-p", "1"], b"4\n");
    wait_until("the partition", || lag("lost-a") == 4.0);
    assert!(errors() <= before + 1.0);
    exporter.signal(libc::SIGTERM);
    let done = exporter.ended();
    assert_eq!(done.code, 0);
    assert!((1..=4).contains(&done.stderr.lines().count()), "{}", done.stderr);
}
