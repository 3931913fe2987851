//! Registries that are slow, down, or something else; and how often one is asked.

use super::{assert_copied, consume};
use crate::support::{Kafka, MadeUpRegistry, Reply, json_lines, shared};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// A framed Avro long.
fn framed(id: u32, long: u8) -> String {
    let bytes = [&[0][..], &id.to_be_bytes(), &[long * 2]].concat();
    format!("{{\"value_base64\":\"{}\"}}\n", STANDARD.encode(bytes))
}

/// A topic with these lines as `produce --input json` reads them.
fn topic_with(lines: &str) -> (std::sync::Arc<crate::support::Cluster>, String) {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("framed", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.as_bytes());
    (kafka, topic)
}

fn long() -> Reply {
    Reply::json(200, &json!({ "schema": "\"long\"" }))
}

#[test]
fn each_of_many_ids_is_asked_for_once() {
    let registry = MadeUpRegistry::start(|_| long());
    let lines: String = (0..20_000u32).map(|n| framed(n % 10_000 + 1, (n % 100) as u8 / 2)).collect();
    let (kafka, topic) = topic_with(&lines);
    let done = consume(&kafka, &registry.url, &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 20_000);
    assert!(done.stdout.lines().next().unwrap().ends_with(r#""value":0,"value_schema_id":1}"#));
    let counts = registry.counts();
    assert_eq!(counts.len(), 10_000);
    assert!(counts.values().all(|count| *count == 1), "{:?}", counts.iter().find(|(_, count)| **count > 1));
}

#[test]
fn a_record_that_does_not_decode_is_shown_raw_and_counted() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        "GET /schemas/ids/1" => long(),
        "GET /schemas/ids/2" => Reply::json(200, &json!({ "schema": "nonsense" })),
        "GET /schemas/ids/3" => Reply::json(200, &json!({ "schema": "x", "schemaType": "XML" })),
        _ => Reply::error(404, 40403, "Schema not found"),
    });
    let cut = format!("{{\"value_base64\":\"{}\"}}\n", STANDARD.encode(b"\0\0\0\0\x01"));
    let lines = [framed(1, 5), framed(2, 5), framed(3, 5), framed(4, 5), cut, framed(1, 6)].concat();
    let (kafka, topic) = topic_with(&lines);
    let done = consume(&kafka, &registry.url, &topic, &[]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    let records = json_lines(&done.stdout);
    assert_eq!((&records[0]["value"], &records[5]["value"]), (&json!(5), &json!(6)));
    for (index, says) in [(1, "schema ID 2: "), (2, "type XML"), (3, "error code 40403"), (4, "schema ID 1: ")] {
        assert!(
            records[index]["value_base64"].is_string() && records[index].get("value").is_none(),
            "{}",
            records[index]
        );
        assert!(records[index]["error"].as_str().unwrap().contains(says), "{}", records[index]);
        assert!(
            done.stderr.contains(&format!("{topic}/0 at offset {index}: the value does not decode")),
            "{}",
            done.stderr
        );
    }
    let counts = registry.counts();
    assert!(
        !counts.is_empty() && counts.values().all(|count| *count == 1),
        "what is not known is not asked again at once"
    );
    // It comes back as it was.
    assert_copied(&kafka, &registry.url, &topic, &done.stdout);
}

#[test]
fn strict_stops_at_a_record_that_does_not_decode_and_commits_nothing_of_it() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        "GET /schemas/ids/1" => long(),
        _ => Reply::error(404, 40403, "Schema not found"),
    });
    let (kafka, topic) = topic_with(&[framed(1, 5), framed(2, 5), framed(1, 6)].concat());
    let group = crate::support::fresh("strict");
    let flags = ["--strict", "-g", &group];
    let done = consume(&kafka, &registry.url, &topic, &flags);
    assert_eq!(done.code, 1);
    assert_eq!(json_lines(&done.stdout).len(), 1);
    assert!(done.stderr.contains(&format!("{topic}/0 at offset 1: the value does not decode")), "{}", done.stderr);
    let again = kafka.kpipe(&["consume", &topic, "-g", &group, "-e", "-f", "%o\\n"], b"");
    assert_eq!(again.stdout, "1\n2\n", "it begins with the record that did not decode");
}

#[test]
fn a_registry_that_cannot_be_asked_ends_the_run_and_loses_nothing() {
    for (name, reply, says) in [
        ("401", Reply::error(401, 401, "Unauthorized"), "check basic.auth.user.info or bearer.auth.token"),
        ("403", Reply::error(403, 40301, "User is denied"), "error code 40301: User is denied"),
        ("404", Reply::Body(404, "<html>".to_owned()), "with a web page (is that a schema registry?"),
        ("500", Reply::error(500, 50001, "Error in the backend"), "error code 50001: Error in the backend"),
        ("HTML", Reply::Body(200, "<!doctype html>".to_owned()), "200 OK with a web page"),
        ("nonsense", Reply::Body(200, "{\"x\":".to_owned()), "malformed response"),
        ("closed", Reply::Closed, "schema ID 2: "),
        ("silent", Reply::Silence, "no response within 200ms"),
    ] {
        let broken = reply.clone();
        let registry = MadeUpRegistry::start(move |asked| match &*asked.line {
            "GET /schemas/ids/1" => long(),
            _ => broken.clone(),
        });
        let (kafka, topic) = topic_with(&[framed(1, 5), framed(2, 5)].concat());
        let group = crate::support::fresh("broken");
        let settings = ["-X", "request.timeout.ms=1000", "-X", "http.read.timeout.ms=200", "-g", &group];
        let done = consume(&kafka, &registry.url, &topic, &settings);
        assert_eq!(done.code, 1, "{name}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{name}: {}", done.stderr);
        assert!(done.stderr.contains(&registry.url), "{name}: {}", done.stderr);
        assert_eq!(json_lines(&done.stdout).len(), 1, "{name}: {}", done.stdout);
        let again = kafka.kpipe(&["consume", &topic, "-g", &group, "-e", "-f", "%o\\n"], b"");
        assert_eq!(again.stdout, "1\n", "{name}: nothing is committed of what could not be decoded");
    }
}

#[test]
fn a_registry_that_recovers_costs_time_and_nothing_else() {
    let failures = std::sync::atomic::AtomicU32::new(3);
    let registry = MadeUpRegistry::start(move |_| {
        let left =
            failures.fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() { Reply::Body(503, "busy".to_owned()) } else { long() }
    });
    let (kafka, topic) = topic_with(&framed(1, 5));
    // An address that nobody listens at is passed by.
    let done = consume(&kafka, &format!("http://127.0.0.1:1,{}", registry.url), &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(json_lines(&done.stdout)[0]["value"], 5);
    assert_eq!(registry.asked().len(), 4);
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let registry = MadeUpRegistry::start(|asked| match asked.headers.get("authorization").map(|text| &**text) {
        Some("Basic bWU6aHVudGVyMg==" | "Bearer hunter2") => long(),
        _ => Reply::error(401, 401, "Unauthorized"),
    });
    let (kafka, topic) = topic_with(&framed(1, 5));
    let in_url = registry.url.replace("http://", "http://me:hunter2@");
    for (url, setting) in [
        (&registry.url, "basic.auth.user.info=me:hunter2"),
        (&registry.url, "bearer.auth.token=hunter2"),
        (&in_url, "client.id=x"),
    ] {
        let done = consume(&kafka, url, &topic, &["-X", setting, "-vvvv"]);
        assert_eq!(done.code, 0, "{setting}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
    let done = consume(&kafka, &registry.url, &topic, &[]);
    assert!(done.code == 1 && done.stderr.contains("401 Unauthorized"), "{}", done.stderr);
}

#[test]
fn schemas_are_kept_between_runs_where_a_directory_is_named() {
    let registry = MadeUpRegistry::start(|_| long());
    let (kafka, topic) = topic_with(&framed(1, 5));
    let dir = tempfile::tempdir().unwrap();
    let setting = format!("kpipe.schema.cache.dir={}/cache", dir.path().display());
    for _ in 0..2 {
        let done = consume(&kafka, &registry.url, &topic, &["-X", &setting]);
        assert_eq!(json_lines(&done.stdout)[0]["value"], 5, "{}", done.stderr);
    }
    assert_eq!(registry.asked().len(), 1);
}

#[test]
fn a_schema_that_refers_to_itself_ends_nothing_but_its_records() {
    let registry = MadeUpRegistry::start(|asked| {
        let refers = json!([{ "name": "A", "subject": "a", "version": 1 }]);
        match &*asked.line {
            "GET /schemas/ids/1" => Reply::json(200, &json!({ "schema": "\"A\"", "references": refers })),
            "GET /subjects/a/versions/1?deleted=true" => Reply::json(
                200,
                &json!({ "subject": "a", "version": 1, "id": 2, "schema": "\"A\"", "references": refers }),
            ),
            _ => long(),
        }
    });
    let (kafka, topic) = topic_with(&[framed(1, 5), framed(3, 5)].concat());
    let done = consume(&kafka, &registry.url, &topic, &[]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("subject a version 1 refers to itself, through A"), "{}", done.stderr);
    assert_eq!(json_lines(&done.stdout)[1]["value"], 5);
}
