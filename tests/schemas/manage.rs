//! `kpipe schemas`.

use crate::support::{MadeUpRegistry, Reply, fresh, json_lines, kpipe, registry, require};
use serde_json::{Value, json};

const A1: &[u8] = br#"{"type":"record","name":"A","fields":[{"name":"x","type":"long"}]}"#;
const A2: &[u8] =
    br#"{"type":"record","name":"A","fields":[{"name":"x","type":"long"},{"name":"y","type":"string","default":""}]}"#;
const OTHER: &[u8] = br#"{"type":"record","name":"A","fields":[{"name":"x","type":"string"}]}"#;

#[test]
fn subjects_are_registered_listed_checked_and_deleted() {
    require!(Registry);
    let registry = registry();
    let subject = fresh("managed") + "/a b:c";
    let done = |args: &[&str], stdin: &[u8]| registry.schemas(args, stdin);
    let ok = |args: &[&str], stdin: &[u8]| {
        let done = done(args, stdin);
        assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
        done
    };
    let from_stdin = ["-", "--type", "avro"];
    let register = |schema: &[u8], more: &[&str]| {
        ok(&[&["register", &subject], &from_stdin[..], more].concat(), schema).stdout.trim().to_owned()
    };
    assert!(register(A1, &["--dry-run"]).is_empty());
    assert_eq!(done(&["versions", &subject], b"").code, 1, "a dry run registers nothing");
    let first = register(A1, &[]);
    assert_eq!(register(A1, &[]), first, "the same schema has the same ID");
    ok(&["config", &subject, "--set", "backward", "--yes"], b"");
    let level = json_lines(&ok(&["config", &subject, "-J"], b"").stdout);
    assert_eq!(level[0], json!({ "subject": subject, "level": "BACKWARD", "inherited": false }));
    let check = |schema: &[u8]| done(&[&["check", &subject], &from_stdin[..]].concat(), schema).code;
    assert_eq!((check(A2), check(OTHER)), (0, 1));
    let refused = done(&[&["register", &subject], &from_stdin[..]].concat(), OTHER);
    assert!(refused.code == 1 && refused.stderr.contains("409 Conflict"), "{}", refused.stderr);
    let second = register(A2, &[]);
    assert_ne!(first, second);
    let listed = json_lines(&ok(&["list", &subject, "-J"], b"").stdout);
    assert_eq!(
        listed,
        [json!({ "subject": subject, "version": 2, "id": second.parse::<u32>().unwrap(), "type": "AVRO" })]
    );
    assert_eq!(ok(&["list", &subject, "--names"], b"").stdout, format!("SUBJECT\n{subject}\n"));
    let versions = json_lines(&ok(&["versions", &subject, "-J"], b"").stdout);
    assert_eq!(versions.iter().map(|line| line["version"].clone()).collect::<Vec<_>>(), [1, 2]);
    let text = |args: &[&str]| serde_json::from_str::<Value>(&ok(args, b"").stdout).unwrap();
    let schema: Value = serde_json::from_slice(A1).unwrap();
    assert_eq!(text(&["get", &format!("{subject}:1")]), schema);
    assert_eq!(text(&["get", "--id", &first]), schema);
    let asked = done(&["delete", &format!("{subject}:2")], b"");
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    ok(&["delete", &format!("{subject}:2"), "--dry-run"], b"");
    ok(&["delete", &subject, "--yes"], b"");
    assert!(ok(&["list", &subject, "-J"], b"").stdout.is_empty());
    assert_eq!(text(&["get", "--id", &first]), schema, "records that name it can still be read");
}

#[test]
fn a_schema_is_printed_with_all_that_it_refers_to() {
    require!(Registry);
    let (registry, name) = (registry(), fresh("referred"));
    let register = |subject: &str, schema: &str, more: &[&str]| {
        let done = registry.schemas(&[&["register", subject, "-", "--type", "avro"], more].concat(), schema.as_bytes());
        assert_eq!(done.code, 0, "{}", done.stderr);
    };
    let record = |name: &str, kind: &str| {
        format!("{{\"type\":\"record\",\"name\":\"{name}\",\"fields\":[{{\"name\":\"f\",\"type\":\"{kind}\"}}]}}")
    };
    register(&format!("{name}-leaf"), &record("Leaf", "int"), &[]);
    register(&format!("{name}-mid"), &record("Mid", "Leaf"), &["--reference", &format!("Leaf={name}-leaf")]);
    register(&format!("{name}-top"), &record("Top", "Mid"), &["--reference", &format!("Mid={name}-mid:1")]);
    let done = registry.schemas(&["get", &format!("{name}-top"), "-J"], b"");
    let names: Vec<_> = json_lines(&done.stdout)[0]["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["name"].clone())
        .collect();
    assert_eq!(names, ["Leaf", "Mid"], "each behind those that it refers to");
}

#[test]
fn an_old_registry_gets_no_field_that_it_does_not_know() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        "POST /subjects/s/versions" => Reply::json(200, &json!({ "id": 5 })),
        _ => Reply::error(404, 40403, "unknown"),
    });
    for (language, expected) in [
        ("avro", json!({ "schema": "\"long\"" })),
        ("json-schema", json!({ "schema": "\"long\"", "schemaType": "JSON" })),
    ] {
        let flags = ["schemas", "--registry", &registry.url, "register", "s", "-", "--type", language];
        let done = kpipe(&flags, b"\"long\"");
        assert_eq!((done.code, &*done.stdout), (0, "5\n"), "{}", done.stderr);
        let asked = registry.asked().pop().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
        assert_eq!(asked.headers["content-type"], "application/vnd.schemaregistry.v1+json");
    }
}

#[test]
fn names_and_messages_of_a_registry_do_not_act_on_a_terminal() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        "GET /subjects" => Reply::json(200, &json!(["a\u{1b}[2J"])),
        _ => Reply::error(404, 40401, "gone\u{1b}[2J"),
    });
    for args in [&["list"][..], &["list", "-J"], &["list", "--names"], &["get", "x"], &["versions", "x\u{1b}"]] {
        let done = kpipe(&[&["schemas", "--registry", &registry.url], args].concat(), b"");
        assert!(
            !done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'),
            "{args:?}: {}{}",
            done.stdout,
            done.stderr
        );
    }
}
