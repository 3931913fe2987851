//! `cluster`, checked with Kafka's own tools on the same cluster.

use crate::support::{
    Cluster, Kafka, Running, Tool, Version, each, fresh, json_lines, listed, python_running, require, shared,
    wait_until,
};
use serde_json::{Value, json};

#[test]
fn brokers_and_their_quorum_are_listed_as_kafkas_tools_list_them() {
    require!(Kafka);
    for kafka in each(Kafka::MODERN) {
        let broker = &listed(&kafka, &["cluster", "brokers"])[0];
        assert_eq!(
            (&broker["broker"], &broker["rack"], &broker["controller"]),
            (&json!(1), &json!("rack-1"), &json!(true))
        );
        assert_eq!(broker["cluster"], "kpipe-cluster-0000000w", "the ID that scripts/kafka sets");

        let quorum = listed(&kafka, &["cluster", "quorum"]);
        let printed = kafka.tool(Tool::MetadataQuorumCommand, &["describe", "--status"]);
        let epoch = printed.lines().find_map(|line| line.strip_prefix("LeaderEpoch:")).unwrap().trim().to_owned();
        assert_eq!((&quorum[0]["role"], quorum[0]["epoch"].to_string()), (&json!("leader"), epoch), "{printed}");

        let features = listed(&kafka, &["cluster", "features"]);
        let printed = kafka.tool(Tool::FeatureCommand, &["describe"]);
        for feature in &features {
            assert!(printed.contains(feature["feature"].as_str().unwrap()), "{feature}: {printed}");
        }
        let apis = listed(&kafka, &["cluster", "apis"]);
        let printed = kafka.tool(Tool::BrokerApiVersionsCommand, &[]);
        let produce = apis.iter().find(|api| api["api"] == "Produce").unwrap();
        let (min, max) = (&produce["broker"][0], &produce["broker"][1]);
        assert!(printed.contains(&format!("Produce(0): {min} to {max} ")), "{printed}");

        let dirs = listed(&kafka, &["cluster", "log-dirs"]);
        assert_eq!((&dirs[0]["broker"], &dirs[0]["error"]), (&json!(1), &Value::Null));
        assert!(dirs[0]["usable_bytes"].as_i64().unwrap() > 0);
        let wrong = kafka.try_kpipe(&["cluster", "log-dirs", "7"], b"");
        assert!(wrong.stderr.contains("broker 7 is not in the cluster's metadata"), "{}", wrong.stderr);
        assert_eq!(kafka.kpipe(&["cluster", "health"], b"").stderr, "kpipe: healthy\n");
    }
}

#[test]
fn a_brokers_configs_are_changed_while_it_runs() {
    require!(Kafka);
    // Not those of the log cleaner, which other tests wait for.
    for kafka in each(Kafka::MODERN) {
        let threads = || {
            let get = ["cluster", "configs", "get", "background.threads", "--broker", "1"];
            let found = listed(&kafka, &get).remove(0);
            (found["value"].clone(), found["source"].clone())
        };
        assert_eq!(threads(), (json!("10"), json!("default")));
        let set = ["cluster", "configs", "set", "--broker", "1", "--config", "background.threads=12"];
        kafka.kpipe(&[&set[..], &["--dry-run"]].concat(), b"");
        assert_eq!(threads().1, json!("default"));
        kafka.kpipe(&set, b"");
        wait_until("the new value", || threads() == (json!("12"), json!("broker")));
        let of_broker = ["--describe", "--entity-type", "brokers", "--entity-name", "1"];
        let printed = kafka.tool(Tool::ConfigCommand, &of_broker);
        assert!(printed.contains("background.threads=12"), "{printed}");
        kafka.kpipe(&["cluster", "configs", "set", "--broker", "1", "--unset", "background.threads"], b"");
        wait_until("the default", || threads().1 == json!("default"));
        let unknown = kafka.try_kpipe(&["cluster", "configs", "get", "background.thread", "--broker", "1"], b"");
        assert!(unknown.stderr.contains("did you mean background.threads?"), "{}", unknown.stderr);
    }
}

#[test]
fn what_old_clusters_do_not_have_is_named() {
    require!(Kafka);
    let old = shared(Kafka::Real(Version::V2_8));
    let quorum = old.try_kpipe(&["cluster", "quorum"], b"");
    assert!(quorum.code == 1 && quorum.stderr.contains("ZooKeeper"), "{}", quorum.stderr);
    assert_eq!(listed(&old, &["cluster", "brokers"])[0]["controller"], true);
    assert_eq!(old.kpipe(&["cluster", "health"], b"").stderr, "kpipe: healthy\n");
    let ancient = shared(Kafka::Real(Version::V0_10_2)).try_kpipe(&["cluster", "brokers"], b"");
    assert!(ancient.code == 2 && ancient.stderr.contains("use --engine native"), "{}", ancient.stderr);
}

/// A producer of librdkafka that has written to `topic` in a transaction and leaves it open.
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

#[test]
fn a_hanging_transaction_is_found_and_aborted() {
    require!(Kafka, Python);
    for kafka in each(Kafka::MODERN) {
        let (topic, id) = (kafka.topic("hanging", 1), fresh("hanging"));
        let open = open_transaction(&kafka, &topic, &id);
        let described = listed(&kafka, &["cluster", "transactions", "describe", &id]).remove(0);
        assert_eq!(
            (&described["state"], &described["partitions"][0]),
            (&json!("Ongoing"), &json!(format!("{topic}/0")))
        );
        let listed = listed(&kafka, &["cluster", "transactions", "list"]);
        assert!(listed.iter().any(|t| t["transactional_id"] == id.as_str() && t["state"] == "Ongoing"), "{listed:?}");
        let printed = kafka.tool(Tool::TransactionsCommand, &["describe", "--transactional-id", &id]);
        assert!(printed.contains("Ongoing") && printed.contains(&described["producer_id"].to_string()), "{printed}");
        let none = kafka.kpipe(&["cluster", "transactions", "find-hanging", &topic, "-J"], b"");
        assert_eq!((none.code, none.stdout.as_str()), (0, ""), "it is not old enough");
        let find = ["cluster", "transactions", "find-hanging", &topic, "--older-than", "1ms", "-J"];
        let found = kafka.try_kpipe(&find, b"");
        assert_eq!(found.code, 1);
        let found = json_lines(&found.stdout).remove(0);
        assert_eq!((&found["start_offset"], &found["producer_id"]), (&json!(0), &described["producer_id"]));
        // Consumers of committed records wait for its end.
        kafka.kpipe(&["produce", &topic], b"behind\n");
        let waits = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
        assert_eq!(waits.stdout, "");
        let abort = ["cluster", "transactions", "abort-hanging", &format!("{topic}:0"), "--start-offset"];
        let wrong = kafka.try_kpipe(&[&abort[..], &["5", "--yes"]].concat(), b"");
        assert!(wrong.code == 1 && wrong.stderr.contains("begins at offset 5"), "{}", wrong.stderr);
        kafka.kpipe(&[&abort[..], &["0", "--dry-run"]].concat(), b"");
        assert_eq!(
            kafka.try_kpipe(&abort.iter().copied().chain(["0"]).collect::<Vec<_>>(), b"").code,
            2,
            "not without --yes"
        );
        kafka.kpipe(&[&abort[..], &["0", "--yes"]].concat(), b"");
        wait_until("the record behind it", || kafka.values(&topic) == ["behind"]);
        assert_eq!(kafka.try_kpipe(&find, b"").code, 0);
        drop(open);
    }
}

/// Each row of docs/listings.md names exactly the fields that its command prints.
#[test]
fn the_docs_name_the_fields_of_every_listing() {
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
            "topics describe" | "topics offsets" | "topics count" => &of_topic,
            "groups describe" | "groups lag" | "groups export" => &[&group],
            "cluster transactions describe" => &[&id],
            "cluster transactions find-hanging" => &[&topic, "--older-than", "1ms"],
            // These print nothing on a healthy cluster at rest; tests/reassignment.rs covers them.
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
    assert_eq!(checked, 20);
}
