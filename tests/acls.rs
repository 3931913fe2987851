//! ACLs and users: a denial names the missing ACL and the command that creates it.

use crate::support::{
    Cluster, Done, Kafka, Secured, Tool, fresh, json_lines, kpipe, listed, python, require, secured, shared, shell,
    wait_until,
};

/// Runs `kpipe` as carol, who may do only what ACLs allow.
fn carol(secured: &Secured, args: &[&str], stdin: &[u8]) -> Done {
    let file = secured.file("carol.properties");
    kpipe(&[&["-b", secured.address("sasl_ssl"), "-F", &file], args].concat(), stdin)
}

/// Runs `args` as carol until they succeed, and each command that a denial names as an administrator. Returns these
/// commands.
fn follow_advice(secured: &Secured, args: &[&str], stdin: &[u8]) -> Vec<String> {
    let mut commands = Vec::new();
    loop {
        let done = carol(secured, args, stdin);
        if done.code == 0 {
            return commands;
        }
        let advice: Vec<&str> = done.stderr.lines().filter_map(|line| line.strip_prefix("  kpipe ")).collect();
        assert!(!advice.is_empty() && commands.len() < 6, "kpipe {args:?}: {}", done.stderr);
        assert!(done.stderr.contains("User:carol lacks "), "{}", done.stderr);
        for line in advice {
            assert!(!commands.contains(&line.to_owned()), "{line} did not help: {}", done.stderr);
            let created = shell(&format!("KPIPE_BROKERS={} kpipe {line}", secured.kafka.bootstrap));
            assert_eq!(created.code, 0, "{line}: {}", created.stderr);
            commands.push(line.to_owned());
        }
    }
}

#[test]
fn a_denial_names_the_command_that_allows_the_operation() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        let topic = secured.kafka.topic("denied", 1);
        let (new, group, id) = (fresh("denied-new"), fresh("denied group"), fresh("denied-id"));
        let create = |operation: &str, resource: &str| {
            format!("acls create --principal User:carol --operation {operation} {resource}")
        };
        let cases: [(&[&str], &[String]); 12] = [
            (
                &["produce", &topic],
                // Since 3.0 write permission on the topic includes idempotence (KIP-679).
                &[create("write", &format!("--topic {topic}"))],
            ),
            (&["topics", "create", &new], &[create("create", &format!("--topic {new}"))]),
            (&["topics", "describe", &new], &[create("describe", &format!("--topic {new}"))]),
            (&["topics", "delete", &new, "--yes"], &[create("delete", &format!("--topic {new}"))]),
            (&["produce", &topic, "--transactional-id", &id], &[create("write", &format!("--transactional-id {id}"))]),
            (
                &["consume", &topic, "-g", &group, "-e"],
                &[create("read", &format!("--topic {topic}")), create("read", &format!("--group '{group}'"))],
            ),
            (&["groups", "lag", &group], &[]),
            (&["groups", "delete", &group, "--yes"], &[create("delete", &format!("--group '{group}'"))]),
            (&["acls", "list"], &[create("describe", "--cluster")]),
            (&["cluster", "users", "list"], &[]),
            (
                &["acls", "create", "--principal", "User:x", "--operation", "read", "--topic", "x"],
                &[create("alter", "--cluster")],
            ),
            (&["acls", "delete", "--principal", "User:x", "--yes"], &[]),
        ];
        for (args, expected) in cases {
            let mut commands = follow_advice(secured, args, b"one\n");
            let mut expected = expected.to_vec();
            commands.sort();
            expected.sort();
            assert_eq!(commands, expected, "{args:?}");
        }
        let gone = secured.kafka.kpipe(&["acls", "delete", "--principal", "User:carol", "--yes"], b"");
        assert!(gone.stderr.contains("deleted 10 ACLs"), "{}", gone.stderr);
        assert_eq!(carol(secured, &["produce", &topic], b"x\n").code, 1);
    }
}

#[test]
fn kafkas_own_tool_and_kpipe_see_the_same_acls() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        let kafka = &secured.kafka;
        let tool = |args: &[&str]| kafka.tool(Tool::AclCommand, args);
        let (one, many) = (fresh("acl-one"), fresh("acl-many"));
        let principal = format!("User:{}", fresh("frank"));
        let make = ["acls", "create", "--principal", &principal, "--operation", "read,describe", "--topic"];
        let planned = kafka.kpipe(&[&make[..], &[&one, "--dry-run", "-J"]].concat(), b"").stdout;
        assert_eq!(json_lines(&planned).len(), 2);
        assert_eq!(
            kafka.kpipe(&["acls", "list", "--principal", &principal, "-J"], b"").stdout,
            "",
            "--dry-run creates none"
        );
        kafka.kpipe(&[&make[..], &[&one]].concat(), b"");
        kafka.kpipe(&[&make[..], &[&many, "--prefixed", "--host", "127.0.0.1", "--deny"]].concat(), b"");
        let listed = tool(&["--list", "--principal", &principal]);
        for part in [
            format!("resourceType=TOPIC, name={one}, patternType=LITERAL"),
            format!("resourceType=TOPIC, name={many}, patternType=PREFIXED"),
            format!("(principal={principal}, host=*, operation=READ, permissionType=ALLOW)"),
            format!("(principal={principal}, host=127.0.0.1, operation=DESCRIBE, permissionType=DENY)"),
        ] {
            assert!(listed.contains(&part), "{part}: {listed}");
        }
        // The ACLs that apply to a topic: its own, those of its prefixes, and those of every topic.
        let applied = kafka.kpipe(&["acls", "list", "--topic", &format!("{many}-x"), "-J"], b"").stdout;
        assert_eq!(json_lines(&applied).iter().filter(|acl| acl["principal"] == principal.as_str()).count(), 2);
        let exported = kafka.kpipe(&["acls", "list", "--principal", &principal, "-J"], b"").stdout;
        assert_eq!(json_lines(&exported).len(), 4);
        let gone = kafka.kpipe(&["acls", "delete", "--input", "-", "--yes"], exported.as_bytes());
        assert!(gone.stderr.contains("deleted 4 ACLs"), "{}", gone.stderr);
        assert!(!tool(&["--list", "--principal", &principal]).contains("resourceType"));
        let applied = kafka.kpipe(&["acls", "create", "--input", "-"], exported.as_bytes());
        assert!(applied.stderr.contains("created 4 ACLs, 0 already existed"), "{}", applied.stderr);
        let again = kafka.kpipe(&["acls", "create", "--input", "-"], exported.as_bytes());
        assert!(again.stderr.contains("created 0 ACLs, 4 already existed"), "{}", again.stderr);
        let which = ["--operation", "Read", "--operation", "Describe", "--topic", &one];
        tool(&[&["--remove", "--force", "--allow-principal", &principal], &which[..]].concat());
        wait_until("the removal", || {
            let left = kafka.kpipe(&["acls", "list", "--principal", &principal, "-J"], b"").stdout;
            json_lines(&left).iter().all(|acl| acl["pattern_type"] == "prefixed")
        });
    }
}

#[test]
fn mistakes_in_an_acl_are_named() {
    require!(Kafka, OpenSsl);
    let kafka = &secured()[0].kafka;
    for (args, stdin, message) in [
        (&["create", "--principal", "alice", "--topic", "t", "--operation", "read"][..], "", "expected User:alice"),
        (&["create", "--principal", "User:a", "--topic", "t"], "", "requires --operation"),
        (&["create", "--principal", "User:a", "--operation", "read"], "", "requires a resource"),
        (&["create", "--input", "-"], "{\"resource_type\":\"topic\"}\n", "stdin, line 1, byte 25: missing field"),
        (&["delete", "--yes"], "", "no ACLs selected"),
    ] {
        let done = kafka.try_kpipe(&[&["acls"], args].concat(), stdin.as_bytes());
        assert!(done.code > 0 && done.stderr.contains(message), "{args:?}: {}", done.stderr);
    }
    let plain = shared(Kafka::LATEST).try_kpipe(&["acls", "list"], b"");
    assert!(plain.stderr.contains("SECURITY_DISABLED"), "{}", plain.stderr);
}

/// The SCRAM credentials of a user, as `cluster users list` prints them.
fn credentials(kafka: &Cluster, user: &str) -> Vec<serde_json::Value> {
    let all = listed(kafka, &["cluster", "users", "list"]);
    all.into_iter().filter(|line| line["user"] == user).collect()
}

/// Logs in with kpipe, which writes and reads a record, and with librdkafka.
fn assert_can_log_in(secured: &Secured, user: &str, mechanism: &str, topic: &str) {
    let (at, ca) = (secured.address("sasl_ssl"), secured.file("ca.pem"));
    let settings = format!(
        "-X security.protocol=SASL_SSL -X sasl.mechanisms={mechanism} -X sasl.username={user} \
         -X sasl.password=erin-secret -X ssl.ca.location={ca}"
    );
    let done = shell(&format!(
        "set -e; echo {mechanism} | kpipe -q -b {at} {settings} produce {topic}; \
         kpipe -b {at} {settings} consume {topic} -o -1 -e --output value;"
    ));
    assert_eq!(done.stdout, format!("{mechanism}\n"), "{}", done.stderr);
    let other = python(&format!(
        r#"
import confluent_kafka as k
c = k.Consumer({{"bootstrap.servers": "{at}", "group.id": "{user}", "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "{mechanism}", "sasl.username": "{user}", "sasl.password": "erin-secret",
    "ssl.ca.location": "{ca}", "ssl.endpoint.identification.algorithm": "none"}})
print(c.get_watermark_offsets(k.TopicPartition("{topic}", 0), timeout=20)[0])
"#
    ));
    assert_eq!(other.stdout, "0\n", "{}", other.stderr);
}

#[test]
fn a_created_user_can_log_in_and_a_deleted_one_is_gone() {
    require!(Kafka, OpenSsl, Python);
    for secured in secured() {
        let kafka = &secured.kafka;
        let user = fresh("erin");
        let (topic, principal) = (kafka.topic("of-erin", 1), format!("User:{user}"));
        let users = |args: &[&str], stdin: &[u8]| kafka.kpipe(&[&["cluster", "users"], args].concat(), stdin);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            users(&["create", &user, "--mechanism", mechanism, "--iterations", "5000"], b"erin-secret\n");
            let is_created = |c: &serde_json::Value| c["mechanism"] == mechanism && c["iterations"] == 5000;
            wait_until("the credentials", || credentials(kafka, &user).iter().any(is_created));
            let allow = ["--principal", &principal, "--operation", "read,write", "--topic", &topic];
            kafka.kpipe(&[&["acls", "create"], &allow[..]].concat(), b"");
            wait_until("the ACLs", || !listed(kafka, &["acls", "list", "--principal", &principal]).is_empty());
            assert_can_log_in(secured, &user, mechanism, &topic);
        }
        let described =
            kafka.tool(Tool::ConfigCommand, &["--describe", "--entity-type", "users", "--entity-name", &user]);
        assert!(described.contains("SCRAM-SHA-256=iterations=5000"), "{described}");
        users(&["delete", &user, "--mechanism", "SCRAM-SHA-256", "--yes"], b"");
        wait_until("one credential less", || credentials(kafka, &user).len() == 1);
        users(&["delete", &user, "--yes"], b"");
        wait_until("the last credential's end", || credentials(kafka, &user).is_empty());
        let gone = kafka.try_kpipe(&["cluster", "users", "delete", &user, "--yes"], b"");
        assert!(gone.stderr.contains("has no such credentials"), "{}", gone.stderr);
        let empty = kafka.try_kpipe(&["cluster", "users", "create", &user], b"\n");
        assert_eq!((empty.code, empty.stderr.trim()), (2, "kpipe: the password is empty"));
    }
}
