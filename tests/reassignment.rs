//! Partitions move between brokers, leaders are elected, and the health report names what is missing.

use crate::support::{
    Cluster, Done, Running, Tool, Version, fresh, json_lines, listed, require, send_signal, wait_until,
};
use crate::topic_changes::described_partitions;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Three brokers, and a topic of three partitions on the first two of them, with 300 records.
fn three_brokers() -> (Cluster, String) {
    let kafka = Cluster::start(Version::LATEST, 3, &["min.insync.replicas=2"]);
    let topic = fresh("moved");
    kafka.kpipe(&["topics", "create", &topic, "--assignment", "1:2,1:2,1:2"], b"");
    let lines: String = (0..300).map(|n| format!("{n}:x\n")).collect();
    kafka.kpipe(&["produce", &topic, "-K", ":"], lines.as_bytes());
    (kafka, topic)
}

fn reassign(kafka: &Cluster, args: &[&str], stdin: &str) -> Done {
    kafka.kpipe(&[&["topics", "reassign"], args].concat(), stdin.as_bytes())
}

/// The exit code of `cluster health`, and the reasons that it prints.
fn health(kafka: &Cluster) -> (i32, Vec<String>) {
    let done = kafka.try_kpipe(&["cluster", "health", "-J"], b"");
    let reasons = json_lines(&done.stdout);
    (done.code, reasons.iter().map(|r| r["reason"].as_str().unwrap().to_owned()).collect())
}

fn all_brokers_are_up(kafka: &Cluster) -> bool {
    listed(kafka, &["cluster", "brokers"]).iter().all(|broker| broker["fenced"] == false)
}

/// Moves a part of the topic to broker 3; returns the plan, and the plan that undoes it.
fn spread_over_three(kafka: &Cluster, topic: &str) -> (String, String) {
    let plan = reassign(kafka, &["plan", topic], "").stdout;
    let replicas: Vec<Value> = json_lines(&plan).iter().map(|step| step["replicas"].clone()).collect();
    assert!(replicas.iter().any(|ids| ids.as_array().unwrap().contains(&json!(3))), "{plan}");
    let dry_run = reassign(kafka, &["execute", "-", "--dry-run"], &plan);
    assert!(dry_run.stderr.contains("would move"), "{}", dry_run.stderr);
    let undo = reassign(kafka, &["execute", "-", "--yes"], &plan).stdout;
    assert_eq!(reassign(kafka, &["progress", "--wait", "30s", "-J"], "").stdout, "");
    (plan, undo)
}

#[test]
fn a_reassignment_spreads_replicas_evenly_and_can_be_undone_and_cancelled() {
    require!(Kafka);
    let (kafka, topic) = three_brokers();
    let (plan, undo) = spread_over_three(&kafka, &topic);
    let printed = kafka.tool(Tool::ReassignPartitionsCommand, &["--list"]);
    assert!(printed.contains("No partition reassignments found"), "{printed}");
    let partitions = described_partitions(&kafka, &topic);
    for step in json_lines(&plan) {
        assert_eq!(partitions[step["partition"].as_u64().unwrap() as usize]["replicas"], step["replicas"]);
    }
    let mut load: BTreeMap<i64, usize> = BTreeMap::new();
    let replicas = partitions.iter().flat_map(|p| p["replicas"].as_array().unwrap());
    replicas.for_each(|id| *load.entry(id.as_i64().unwrap()).or_default() += 1);
    assert_eq!(load.into_values().collect::<Vec<_>>(), [2, 2, 2], "evenly");
    assert!(reassign(&kafka, &["cancel", "--yes"], "").stderr.contains("no reassignments in progress"));
    let unknown = kafka.try_kpipe(&["topics", "reassign", "plan", &topic, "--to", "1,9"], b"");
    assert!(unknown.code == 1 && unknown.stderr.contains("broker 9 is not alive"), "{}", unknown.stderr);

    reassign(&kafka, &["execute", "-", "--yes"], &undo);
    assert_eq!(reassign(&kafka, &["progress", "--wait", "30s", "-J"], "").stdout, "");
    let restored = described_partitions(&kafka, &topic);
    assert_eq!(restored.len(), partitions.len());
    assert!(restored.iter().all(|p| p["replicas"] == json!([1, 2])), "{restored:?}");
    assert_eq!(kafka.values(&topic).len(), 300);

    // A move to a broker that does not answer is cancelled.
    send_signal(kafka.pid(3), libc::SIGSTOP);
    reassign(&kafka, &["execute", "-", "--yes"], &plan);
    let moving = || json_lines(&reassign(&kafka, &["progress", "-J"], "").stdout);
    assert!(moving().iter().any(|m| m["adding"].as_array().unwrap().contains(&json!(3))), "{:?}", moving());
    let late = kafka.try_kpipe(&["topics", "reassign", "progress", "--wait", "1s"], b"");
    assert_eq!(late.code, 1);
    let cancelled = reassign(&kafka, &["cancel", "--yes"], "");
    assert!(cancelled.stderr.contains("canceled"), "{}", cancelled.stderr);
    wait_until("the end of the move", || moving().is_empty());
    // Kafka's own tool waits for the broker that does not answer.
    let kept = listed(&kafka, &["topics", "describe", &topic]).remove(0)["partitions"].as_array().unwrap().clone();
    let on_first_two = |p: &Value| p["replicas"] == json!([1, 2]) || p["replicas"] == json!([2, 1]);
    assert!(kept.iter().all(on_first_two), "{kept:?}");
}

#[test]
fn health_names_a_stopped_broker_and_what_it_leaves_under_replicated() {
    require!(Kafka);
    let (kafka, topic) = three_brokers();
    spread_over_three(&kafka, &topic);
    wait_until("health", || health(&kafka) == (0, Vec::new()));
    send_signal(kafka.pid(3), libc::SIGSTOP);
    wait_until("the reasons", || {
        let (code, reasons) = health(&kafka);
        let expected = ["missing-brokers", "below-min-isr", "under-replicated"];
        code == 1 && expected.iter().all(|reason| reasons.contains(&(*reason).to_owned()))
    });
    // At the first broker alone: Kafka's tool waits for the one that does not answer. Partitions go on leaving the
    // in-sync replicas one after the other, so the two listings agree in the end, not at every moment.
    let first = kafka.bootstrap.split(',').next().unwrap();
    wait_until("the same partitions as Kafka's tool lists", || {
        // A new leader may not know its end offset yet, and then the listing says that it is incomplete.
        let done = kafka.try_kpipe(&["topics", "describe", "--under-replicated", "-J"], b"");
        let under_replicated = json_lines(&done.stdout);
        let count: usize = under_replicated.iter().map(|topic| topic["partitions"].as_array().unwrap().len()).sum();
        let printed = kafka.try_tool_at(first, Tool::TopicCommand, &["--describe", "--under-replicated-partitions"]);
        assert_eq!(printed.code, 0, "{}", printed.stdout);
        done.code == 0 && count == printed.stdout.lines().filter(|line| line.contains("Partition: ")).count()
    });
    wait_until("the fenced broker", || {
        let fenced: Vec<Value> =
            listed(&kafka, &["cluster", "brokers"]).iter().map(|broker| broker["fenced"].clone()).collect();
        fenced == [json!(false), json!(false), json!(true)]
    });
    let timed_out = kafka.try_kpipe(&["cluster", "health", "--wait", "healthy", "--timeout", "1s"], b"");
    assert!(timed_out.code == 1 && timed_out.stderr.contains("brokers that are down: 3"), "{}", timed_out.stderr);
    // --wait ends when the broker is back.
    let waiting =
        Running::kpipe(&["-b", &kafka.bootstrap, "cluster", "health", "--wait", "healthy", "--timeout", "60s"]);
    send_signal(kafka.pid(3), libc::SIGCONT);
    let done = waiting.ended();
    assert_eq!((done.code, done.stderr.as_str()), (0, "kpipe: healthy\n"));

    // It leads the partitions that prefer it only after an election.
    let elect = |args: &[&str]| kafka.kpipe(&[&["topics", "elect-leaders"], args].concat(), b"").stderr;
    if !elect(&["--all", "--dry-run"]).contains("every partition already has its preferred leader") {
        elect(&["--all"]);
        wait_until("the leaders", || {
            elect(&["--all", "--dry-run"]).contains("every partition already has its preferred leader")
        });
    }
    for partition in described_partitions(&kafka, &topic) {
        assert_eq!(partition["leader"], partition["replicas"][0]);
    }
}

#[test]
fn health_names_a_partition_whose_only_broker_is_dead() {
    require!(Kafka);
    let (kafka, _) = three_brokers();
    wait_until("all brokers", || all_brokers_are_up(&kafka));
    let alone = fresh("alone");
    kafka.kpipe(&["topics", "create", &alone, "--assignment", "3"], b"");
    send_signal(kafka.pid(3), libc::SIGKILL);
    wait_until("the reason", || health(&kafka).1.contains(&"offline-partitions".to_owned()));
    // The listing lacks the offsets of that partition, so it fails.
    let incomplete = kafka.try_kpipe(&["topics", "describe", "--offline", "-J"], b"");
    assert_eq!(incomplete.code, 1, "{}", incomplete.stderr);
    let offline = json_lines(&incomplete.stdout);
    assert!(offline.iter().any(|topic| topic["topic"] == alone.as_str()), "{offline:?}");
}
