//! `cluster`, and what `topics` changes: held against Kafka's own tools on the same cluster.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, each, fresh, json_lines, python_running, require, shared, shell, wait_until,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn lines(kafka: &Cluster, args: &[&str]) -> Vec<Value> {
    json_lines(&kafka.kpipe(&[args, &["-J"]].concat(), b"").stdout)
}

/// The partitions of a topic as kpipe and as TopicCommand describe them.
fn agreed_partitions(kafka: &Cluster, topic: &str) -> Vec<Value> {
    let described = lines(kafka, &["topics", "describe", topic]).remove(0);
    let told = kafka.tool(Tool::TopicCommand, &["--describe", "--topic", topic]);
    let ids = |v: &Value| v.as_array().unwrap().iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!("{name}: ")).nth(1).unwrap_or_default();
        rest.split('\t').next().unwrap_or_default().trim().to_owned()
    };
    let theirs: Vec<&str> = told.lines().filter(|line| line.contains("Partition: ")).collect();
    let ours = described["partitions"].as_array().unwrap().clone();
    assert_eq!(ours.len(), theirs.len(), "{told}");
    for (ours, line) in ours.iter().zip(theirs) {
        assert_eq!(ours["partition"].to_string(), field(line, "Partition"));
        assert_eq!(ours["leader"].to_string(), field(line, "Leader"), "{line}");
        assert_eq!(ids(&ours["replicas"]), field(line, "Replicas"), "{line}");
        assert_eq!(ids(&ours["in_sync_replicas"]), field(line, "Isr"), "{line}");
    }
    ours
}

#[test]
fn a_topic_is_changed_and_kafkas_tools_see_it() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let topic = fresh("changed");
        kafka.kpipe(&["topics", "create", &topic, "--assignment", "1,1", "--config", "retention.ms=60000"], b"");
        let again = kafka.kpipe(&["topics", "create", &topic, "--if-not-exists"], b"");
        assert_eq!(again.stderr, format!("kpipe: topic {topic} is there\n"));
        let would = fresh("would");
        kafka.kpipe(&["topics", "create", &would, "--dry-run"], b"");
        assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains(&would));

        // Configs.
        let change = ["topics", "alter", &topic, "--config", "max.message.bytes=2000000", "--unset", "retention.ms"];
        kafka.kpipe(&[&change[..], &["--dry-run"]].concat(), b"");
        let configs = || lines(&kafka, &["topics", "describe", &topic]).remove(0)["configs"].clone();
        assert_eq!(configs(), json!({ "retention.ms": "60000" }));
        kafka.kpipe(&change, b"");
        assert_eq!(configs(), json!({ "max.message.bytes": "2000000" }));
        let told = kafka.tool(Tool::ConfigCommand, &["--describe", "--entity-type", "topics", "--entity-name", &topic]);
        assert!(told.contains("max.message.bytes=2000000") && !told.contains("retention.ms=60000"), "{told}");
        let wrong = kafka.try_kpipe(&["topics", "alter", &topic, "--config", "max.mesage.bytes=1"], b"");
        assert!(wrong.stderr.contains("INVALID_CONFIG"), "{}", wrong.stderr);

        // Partitions.
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "3", "--dry-run"], b"");
        assert_eq!(agreed_partitions(&kafka, &topic).len(), 2);
        kafka.kpipe(&["topics", "add-partitions", &topic, "--to", "3"], b"");
        assert_eq!(agreed_partitions(&kafka, &topic).len(), 3);
        let fewer = kafka.try_kpipe(&["topics", "add-partitions", &topic, "--to", "2"], b"");
        assert!(fewer.stderr.contains("INVALID_PARTITIONS"), "{}", fewer.stderr);

        // Offsets, and records deleted before one.
        // No older than retention allows.
        let late = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let (early, between) = ((late - 100_000).to_string(), format!("@{}", late - 50_000));
        for partition in ["0", "1"] {
            let ten: String = (0..10).map(|n| format!("{n}\n")).collect();
            kafka.kpipe(&["produce", &topic, "-p", partition, "--timestamp", &early], ten.as_bytes());
            kafka.kpipe(&["produce", &topic, "-p", partition, "--timestamp", &late.to_string()], b"late\n");
        }
        let offsets = |at: &str| -> Vec<Value> {
            lines(&kafka, &["topics", "offsets", &topic, "--at", at]).iter().map(|l| l["offset"].clone()).collect()
        };
        assert_eq!(offsets("end"), [json!(11), json!(11), json!(0)]);
        assert_eq!(offsets(&between), [json!(10), json!(10), Value::Null]);
        let told = kafka.tool(Tool::GetOffsetShell, &["--topic", &topic, "--time", &between[1..]]);
        assert!(told.contains(&format!("{topic}:0:10")), "{told}");
        let delete = ["topics", "delete-records", &format!("{topic}:0"), "--before", "4"];
        kafka.kpipe(&[&delete[..], &["--dry-run"]].concat(), b"");
        assert_eq!(offsets("beginning"), [json!(0), json!(0), json!(0)]);
        let asked = kafka.try_kpipe(&delete, b"");
        assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{}", asked.stderr);
        let done = kafka.kpipe(&[&delete[..], &["--yes"]].concat(), b"");
        assert_eq!(done.stderr, "kpipe: deleted the records of 4 offsets\n");
        assert_eq!(offsets("beginning"), [json!(4), json!(0), json!(0)]);
        kafka.kpipe(&["topics", "delete-records", &topic, "--before", &between, "--yes"], b"");
        assert_eq!(offsets("beginning"), [json!(10), json!(10), json!(0)]);
        assert_eq!(kafka.values(&topic), ["late", "late"]);
        let told = kafka.tool(Tool::GetOffsetShell, &["--topic", &topic, "--time", "-2"]);
        assert!(told.contains(&format!("{topic}:1:10")), "{told}");
        let beyond = kafka.try_kpipe(&["topics", "delete-records", &topic, "--before", "99", "--yes"], b"");
        assert!(beyond.stderr.contains("OFFSET_OUT_OF_RANGE"), "{}", beyond.stderr);

        // Sizes, as the log directories have them.
        let size = |p: usize| agreed_partitions(&kafka, &topic)[p]["bytes"].as_i64().unwrap();
        let told = kafka.tool(Tool::LogDirsCommand, &["--describe", "--topic-list", &topic]);
        let told: Value = serde_json::from_str(told.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
        for partition in told["brokers"][0]["logDirs"][0]["partitions"].as_array().unwrap() {
            let name = partition["partition"].as_str().unwrap();
            let p: usize = name.rsplit('-').next().unwrap().parse().unwrap();
            assert_eq!(partition["size"].as_i64().unwrap(), size(p), "{name}");
        }
        let gone = kafka.kpipe(&["topics", "delete", &topic, "--dry-run"], b"");
        assert!(gone.stderr.contains(&format!("would delete topic {topic} with 2 offsets")), "{}", gone.stderr);
        kafka.kpipe(&["topics", "delete", &topic, "--yes"], b"");
    }
}

#[test]
fn what_a_cluster_is_made_of_is_what_kafkas_tools_tell() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let found = &lines(&kafka, &["cluster", "brokers"])[0];
        assert_eq!(
            (&found["broker"], &found["rack"], &found["controller"]),
            (&json!(1), &json!("rack-1"), &json!(true))
        );
        assert_eq!(found["cluster"], "kpipe-cluster-0000000w", "as scripts/kafka formats it");

        let quorum = lines(&kafka, &["cluster", "quorum"]);
        let told = kafka.tool(Tool::MetadataQuorumCommand, &["describe", "--status"]);
        let epoch = told.lines().find_map(|line| line.strip_prefix("LeaderEpoch:")).unwrap().trim().to_owned();
        assert_eq!((&quorum[0]["role"], quorum[0]["epoch"].to_string()), (&json!("leader"), epoch), "{told}");

        let features = lines(&kafka, &["cluster", "features"]);
        let told = kafka.tool(Tool::FeatureCommand, &["describe"]);
        for feature in &features {
            assert!(told.contains(feature["feature"].as_str().unwrap()), "{feature}: {told}");
        }
        let apis = lines(&kafka, &["cluster", "apis"]);
        let told = kafka.tool(Tool::BrokerApiVersionsCommand, &[]);
        let produce = apis.iter().find(|api| api["api"] == "Produce").unwrap();
        let (min, max) = (&produce["broker"][0], &produce["broker"][1]);
        assert!(told.contains(&format!("Produce(0): {min} to {max} ")), "{told}");

        let dirs = lines(&kafka, &["cluster", "log-dirs"]);
        assert_eq!((&dirs[0]["broker"], &dirs[0]["error"]), (&json!(1), &Value::Null));
        assert!(dirs[0]["usable_bytes"].as_i64().unwrap() > 0);
        let wrong = kafka.try_kpipe(&["cluster", "log-dirs", "7"], b"");
        assert!(wrong.stderr.contains("there is no broker 7 that is up"), "{}", wrong.stderr);

        // Configs of a broker, changed while it runs.
        let threads = || {
            let found = lines(&kafka, &["cluster", "configs", "get", "log.cleaner.threads", "--broker", "1"]).remove(0);
            (found["value"].clone(), found["source"].clone())
        };
        assert_eq!(threads(), (json!("1"), json!("default")));
        let set = ["cluster", "configs", "set", "--broker", "1", "--config", "log.cleaner.threads=2"];
        kafka.kpipe(&[&set[..], &["--dry-run"]].concat(), b"");
        assert_eq!(threads().1, json!("default"));
        kafka.kpipe(&set, b"");
        wait_until("the config", || threads() == (json!("2"), json!("broker")));
        let told = kafka.tool(Tool::ConfigCommand, &["--describe", "--entity-type", "brokers", "--entity-name", "1"]);
        assert!(told.contains("log.cleaner.threads=2"), "{told}");
        kafka.kpipe(&["cluster", "configs", "set", "--broker", "1", "--unset", "log.cleaner.threads"], b"");
        wait_until("the default", || threads().1 == json!("default"));
        let unknown = kafka.try_kpipe(&["cluster", "configs", "get", "log.cleaner.thread", "--broker", "1"], b"");
        assert!(unknown.stderr.contains("did you mean log.cleaner.threads?"), "{}", unknown.stderr);
        assert_eq!(kafka.kpipe(&["cluster", "health"], b"").stderr, "kpipe: healthy\n");
    }
    let old = shared(Kafka::Real(Version::V2_8));
    let quorum = old.try_kpipe(&["cluster", "quorum"], b"");
    assert!(quorum.code == 2 && quorum.stderr.contains("ZooKeeper"), "{}", quorum.stderr);
    assert_eq!(lines(&old, &["cluster", "brokers"])[0]["controller"], true);
    assert_eq!(old.kpipe(&["cluster", "health"], b"").stderr, "kpipe: healthy\n");
    let ancient = shared(Kafka::Real(Version::V0_10_2)).try_kpipe(&["cluster", "brokers"], b"");
    assert!(ancient.code == 2 && ancient.stderr.contains("--engine native can"), "{}", ancient.stderr);
}

/// Three brokers: partitions move, leaders are elected, a broker goes and comes back.
#[test]
fn a_broker_that_goes_shows_in_health_and_partitions_move() {
    require!(Kafka);
    let kafka = Cluster::start(Version::LATEST, 3, &["min.insync.replicas=2"]);
    let topic = fresh("moved");
    kafka.kpipe(&["topics", "create", &topic, "--assignment", "1:2,1:2,1:2"], b"");
    kafka.kpipe(&["produce", &topic, "-K", ":"], (0..300).map(|n| format!("{n}:x\n")).collect::<String>().as_bytes());
    let reassign = |args: &[&str], stdin: &[u8]| kafka.kpipe(&[&["topics", "reassign"], args].concat(), stdin);
    let plan = reassign(&["plan", &topic], b"").stdout;
    let replicas: Vec<Value> = json_lines(&plan).iter().map(|step| step["replicas"].clone()).collect();
    assert!(replicas.iter().any(|ids| ids.as_array().unwrap().contains(&json!(3))), "{plan}");
    let would = reassign(&["execute", "-", "--dry-run"], plan.as_bytes());
    assert!(would.stdout.is_empty() && would.stderr.contains("would move"), "{}", would.stderr);
    let undo = reassign(&["execute", "-", "--yes"], plan.as_bytes()).stdout;
    assert_eq!(reassign(&["progress", "--wait", "30s", "-J"], b"").stdout, "");
    let told = kafka.tool(Tool::ReassignPartitionsCommand, &["--list"]);
    assert!(told.contains("No partition reassignments found"), "{told}");
    let now = agreed_partitions(&kafka, &topic);
    for step in json_lines(&plan) {
        assert_eq!(now[step["partition"].as_u64().unwrap() as usize]["replicas"], step["replicas"]);
    }
    let mut load: BTreeMap<i64, usize> = BTreeMap::new();
    now.iter()
        .flat_map(|p| p["replicas"].as_array().unwrap())
        .for_each(|id| *load.entry(id.as_i64().unwrap()).or_default() += 1);
    assert_eq!(load.into_values().collect::<Vec<_>>(), [2, 2, 2], "evenly");
    assert!(reassign(&["cancel", "--yes"], b"").stderr.contains("nothing moves"));
    let again = kafka.try_kpipe(&["topics", "reassign", "plan", &topic, "--to", "1,9"], b"");
    assert!(again.code == 2 && again.stderr.contains("no broker 9"), "{}", again.stderr);

    // A broker goes.
    let health = |kafka: &Cluster| {
        let done = kafka.try_kpipe(&["cluster", "health", "-J"], b"");
        let reasons = json_lines(&done.stdout);
        (done.code, reasons.iter().map(|r| r["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(health(&kafka), (0, Vec::new()));
    assert_eq!(shell(&format!("kill -STOP {}", kafka.pid(3))).code, 0);
    wait_until("the reasons", || {
        let (code, reasons) = health(&kafka);
        let expected = ["missing-brokers", "below-min-isr", "under-replicated"];
        code == 1 && expected.iter().all(|reason| reasons.contains(&(*reason).to_owned()))
    });
    let under = lines(&kafka, &["topics", "describe", "--under-replicated"]);
    // From a broker that answers: Kafka's tool does not go on from one that stands still.
    let first = kafka.bootstrap.split(',').next().unwrap();
    let under_replicated = ["--describe", "--under-replicated-partitions"];
    let told = kafka.try_tool_at(first, Tool::TopicCommand, &under_replicated);
    assert_eq!(told.code, 0, "{}", told.stdout);
    let told = told.stdout;
    let count: usize = under.iter().map(|topic| topic["partitions"].as_array().unwrap().len()).sum();
    assert_eq!(count, told.lines().filter(|line| line.contains("Partition: ")).count(), "{told}");
    let fenced = lines(&kafka, &["cluster", "brokers"]);
    assert_eq!(
        fenced.iter().map(|b| b["fenced"].clone()).collect::<Vec<_>>(),
        [json!(false), json!(false), json!(true)]
    );
    let waited = kafka.try_kpipe(&["cluster", "health", "--wait", "healthy", "--timeout", "1s"], b"");
    assert!(waited.code == 1 && waited.stderr.contains("brokers that are not up: 3"), "{}", waited.stderr);
    // It comes back, and who waits hears of it.
    let waiting =
        Running::kpipe(&["-b", &kafka.bootstrap, "cluster", "health", "--wait", "healthy", "--timeout", "60s"]);
    assert_eq!(shell(&format!("kill -CONT {}", kafka.pid(3))).code, 0);
    let done = waiting.ended();
    assert_eq!((done.code, done.stderr.as_str()), (0, "kpipe: healthy\n"));

    // It leads again what it is first of, once that is asked for.
    let needs = |args: &[&str]| kafka.kpipe(&[&["topics", "elect-leaders"], args].concat(), b"").stderr;
    if !needs(&["--all", "--dry-run"]).contains("no partition needs another leader") {
        needs(&["--all"]);
        wait_until("the leaders", || needs(&["--all", "--dry-run"]).contains("no partition needs another leader"));
    }
    for partition in agreed_partitions(&kafka, &topic) {
        assert_eq!(partition["leader"], partition["replicas"][0]);
    }

    // Back to where it was, and a move that is cancelled while a broker stands still.
    reassign(&["execute", "-", "--yes"], undo.as_bytes());
    assert_eq!(reassign(&["progress", "--wait", "30s", "-J"], b"").stdout, "");
    assert!(agreed_partitions(&kafka, &topic).iter().all(|p| p["replicas"] == json!([1, 2])));
    assert_eq!(kafka.values(&topic).len(), 300);
    assert_eq!(shell(&format!("kill -STOP {}", kafka.pid(3))).code, 0);
    reassign(&["execute", "-", "--yes"], plan.as_bytes());
    let moving = || json_lines(&reassign(&["progress", "-J"], b"").stdout);
    assert!(moving().iter().any(|m| m["adding"].as_array().unwrap().contains(&json!(3))), "{:?}", moving());
    let late = kafka.try_kpipe(&["topics", "reassign", "progress", "--wait", "1s"], b"");
    assert_eq!(late.code, 1);
    let cancelled = reassign(&["cancel", "--yes"], b"");
    assert!(cancelled.stderr.contains("cancelled"), "{}", cancelled.stderr);
    wait_until("nothing moves", || moving().is_empty());
    // (Kafka's own tool does not answer while a broker stands still.)
    let kept = lines(&kafka, &["topics", "describe", &topic]).remove(0)["partitions"].as_array().unwrap().clone();
    let on_both = |p: &Value| p["replicas"] == json!([1, 2]) || p["replicas"] == json!([2, 1]);
    assert!(kept.iter().all(on_both), "{kept:?}");
    // A partition that only the lost broker has: no leader, until it is back.
    assert_eq!(shell(&format!("kill -CONT {}", kafka.pid(3))).code, 0);
    wait_until("the broker", || lines(&kafka, &["cluster", "brokers"]).iter().all(|b| b["fenced"] == false));
    let alone = fresh("alone");
    kafka.kpipe(&["topics", "create", &alone, "--assignment", "3"], b"");
    let pid = kafka.pid(3);
    assert_eq!(shell(&format!("kill -9 {pid}")).code, 0);
    wait_until("no leader", || health(&kafka).1.contains(&"offline-partitions".to_owned()));
    let offline = lines(&kafka, &["topics", "describe", "--offline"]);
    assert!(offline.iter().any(|topic| topic["topic"] == alone.as_str()), "{offline:?}");
}

/// A producer of librdkafka that has written to `topic` in a transaction, and does not end it.
fn open_transaction(kafka: &Cluster, topic: &str, id: &str) -> Running {
    let script = format!(
        r#"
import confluent_kafka as k, sys
p = k.Producer({{"bootstrap.servers": "{}", "transactional.id": "{id}"}})
p.init_transactions(); p.begin_transaction(); p.produce("{topic}", "open"); p.flush()
print("open", flush=True)
sys.stdin.read()
"#,
        kafka.bootstrap
    );
    let open = python_running(&script);
    wait_until("a transaction", || open.seen().contains("open"));
    open
}

/// An open transaction is seen, and one that nobody ends is ended in its partition.
#[test]
fn a_transaction_that_hangs_is_found_and_aborted() {
    require!(Kafka, Python);
    for kafka in each(Kafka::MODERN) {
        let (topic, id) = (kafka.topic("hanging", 1), fresh("hanging"));
        let open = open_transaction(&kafka, &topic, &id);
        let described = lines(&kafka, &["cluster", "transactions", "describe", &id]).remove(0);
        assert_eq!(
            (&described["state"], &described["partitions"][0]),
            (&json!("Ongoing"), &json!(format!("{topic}/0")))
        );
        let listed = lines(&kafka, &["cluster", "transactions", "list"]);
        assert!(listed.iter().any(|t| t["transactional_id"] == id.as_str() && t["state"] == "Ongoing"), "{listed:?}");
        let told = kafka.tool(Tool::TransactionsCommand, &["describe", "--transactional-id", &id]);
        assert!(told.contains("Ongoing") && told.contains(&described["producer_id"].to_string()), "{told}");
        let none = kafka.kpipe(&["cluster", "transactions", "find-hanging", &topic, "-J"], b"");
        assert_eq!((none.code, none.stdout.as_str()), (0, ""), "it is young");
        let find = ["cluster", "transactions", "find-hanging", &topic, "--older-than", "1ms", "-J"];
        let found = kafka.try_kpipe(&find, b"");
        assert_eq!(found.code, 1);
        let found = json_lines(&found.stdout).remove(0);
        assert_eq!((&found["start_offset"], &found["producer_id"]), (&json!(0), &described["producer_id"]));
        // Readers of committed records wait at it.
        kafka.kpipe(&["produce", &topic], b"behind\n");
        let waits = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
        assert_eq!(waits.stdout, "");
        let abort = ["cluster", "transactions", "abort-hanging", &format!("{topic}:0"), "--start-offset"];
        let wrong = kafka.try_kpipe(&[&abort[..], &["5", "--yes"]].concat(), b"");
        assert!(wrong.code == 2 && wrong.stderr.contains("begins at 5"), "{}", wrong.stderr);
        kafka.kpipe(&[&abort[..], &["0", "--dry-run"]].concat(), b"");
        assert_eq!(kafka.try_kpipe(&abort.iter().copied().chain(["0"]).collect::<Vec<_>>(), b"").code, 2, "it asks");
        kafka.kpipe(&[&abort[..], &["0", "--yes"]].concat(), b"");
        wait_until("the reader goes on", || kafka.values(&topic) == ["behind"]);
        assert_eq!(kafka.try_kpipe(&find, b"").code, 0);
        drop(open);
    }
}

/// Each row of docs/listings.md is what the command writes: no field more, none less.
#[test]
fn the_fields_in_the_docs_are_the_commands() {
    require!(Kafka, OpenSsl, Python);
    let secured = crate::support::secured();
    let kafka = &secured[0].kafka;
    let (topic, group, id) = (kafka.topic("fields", 1), fresh("fields"), fresh("fields-id"));
    kafka.kpipe(&["produce", &topic, "--transactional-id", &id], b"x\n");
    kafka.kpipe(&["consume", &topic, "-g", &group, "-o", "beginning", "-e"], b"");
    kafka.kpipe(&["acls", "create", "--principal", "User:fields", "--operation", "read", "--topic", &topic], b"");
    let _open = open_transaction(kafka, &topic, &format!("{id}-open"));
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/listings.md")).unwrap();
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut checked = 0;
    for row in docs.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let command = quoted(cells[1]).remove(0);
        let of_topic = [topic.as_str()];
        let more: &[&str] = match command.as_str() {
            "topics describe" | "topics offsets" => &of_topic,
            "groups describe" | "groups lag" | "groups export" => &[&group],
            "cluster transactions describe" => &[&id],
            "cluster transactions find-hanging" => &[&topic, "--older-than", "1ms"],
            // Nothing moves here, and all is well: others look at these.
            "topics reassign plan" | "topics reassign progress" | "cluster health" => continue,
            _ => &[],
        };
        let mut args: Vec<&str> = command.split(' ').chain(more.iter().copied()).collect();
        if command != "groups export" {
            args.push("-J");
        }
        let done = kafka.try_kpipe(&args, b"");
        let lines = json_lines(&done.stdout);
        let found: std::collections::BTreeSet<String> =
            lines.iter().flat_map(|line| line.as_object().unwrap().keys().cloned()).collect();
        let named: std::collections::BTreeSet<String> = quoted(cells[2]).into_iter().collect();
        assert_eq!(found, named, "{command}: {}", done.stderr);
        checked += 1;
    }
    assert_eq!(checked, 19);
}
