//! Framings besides Confluent's, and schemas from files.

use super::consume;
use crate::support::{Kafka, MadeUpRegistry, Reply, json_lines, shared};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io::Write;

const UUID: &str = "0f0e0d0c-0b0a-0908-0706-050403020100";
const UUID_BYTES: [u8; 16] = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

fn line(value: &[u8], headers: &[(&str, &[u8])]) -> String {
    let headers: Vec<_> =
        headers.iter().map(|(key, value)| json!({ "key": key, "value_base64": STANDARD.encode(value) })).collect();
    format!("{}\n", json!({ "value_base64": STANDARD.encode(value), "headers": headers }))
}

#[test]
fn every_framing_is_recognized_record_by_record_and_copied_exactly() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        line if *line == format!("GET /apis/ccompat/v7/schemas/guids/{UUID}") => {
            Reply::json(200, &json!({ "schema": "\"long\"" }))
        }
        "GET /apis/ccompat/v7/schemas/ids/9" => Reply::json(200, &json!({ "schema": "\"string\"" })),
        "GET /apis/registry/v2/ids/globalIds/7" => Reply::Body(200, "\"long\"".to_owned()),
        "GET /apis/registry/v2/search/artifacts?globalId=7" => {
            Reply::json(200, &json!({ "artifacts": [{ "type": "AVRO" }], "count": 1 }))
        }
        "GET /apis/registry/v2/ids/globalIds/7/references" => Reply::json(200, &json!([])),
        _ => Reply::error(404, 40403, "unknown"),
    });
    let url = format!("{}/apis/ccompat/v7", registry.url);
    let in_header = [&[1][..], &UUID_BYTES].concat();
    let global = 7u64.to_be_bytes();
    let lines = [
        line(b"\x0a", &[("__value_schema_id", &in_header), ("other", b"x")]),
        line(&[&in_header[..], b"\x0c"].concat(), &[]),
        line(&[&[0][..], &global, b"\x0e"].concat(), &[]),
        line(b"\x10", &[("apicurio.value.globalId", &global)]),
        line(b"\x02x", &[("apicurio.value.contentId", &9u64.to_be_bytes())]),
        line(b"\0\0\0\0\x09\x02y", &[]),
        line(b"text", &[("other", b"x")]),
    ];
    let kafka = shared(Kafka::Local);
    let (topic, copy) = (kafka.topic("framings", 1), kafka.topic("framings-copy", 1));
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.concat().as_bytes());
    let done = consume(&kafka, &url, &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let found: Vec<_> = json_lines(&done.stdout)
        .into_iter()
        .map(|mut record| {
            let kept = record.as_object_mut().unwrap();
            kept.retain(|name, _| name.starts_with("value"));
            record
        })
        .collect();
    assert_eq!(
        found,
        [
            json!({ "value": 5, "value_schema_guid": UUID }),
            json!({ "value": 6, "value_schema_guid": UUID }),
            json!({ "value": 7, "value_schema_global_id": 7 }),
            json!({ "value": 8, "value_schema_global_id": 7 }),
            json!({ "value": "x", "value_schema_content_id": 9 }),
            json!({ "value": "y", "value_schema_id": 9 }),
            json!({ "value": "text" }),
        ]
    );
    kafka.kpipe(&["produce", &copy, "--input", "json", "--registry", &url], done.stdout.as_bytes());
    let raw = |topic: &str| {
        let read = kafka.kpipe(&["consume", topic, "-o", "beginning", "-e", "--value-as", "base64"], b"");
        json_lines(&read.stdout).iter().map(|r| (r["value_base64"].clone(), r["headers"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(raw(&topic), raw(&copy));
    assert_eq!(raw(&topic).len(), 7);
}

/// Not all registries know all kinds of IDs, and say so with a plain 404, as do servers that are no registry.
#[test]
fn a_kind_of_id_that_a_registry_does_not_know_costs_its_records_alone() {
    let registry = MadeUpRegistry::start(|asked| match &*asked.line {
        "GET /apis/ccompat/v7/schemas/types" => Reply::json(200, &json!(["AVRO"])),
        line if line.contains("globalIds") => Reply::error(404, 404, "No artifact has it"),
        _ => Reply::Body(404, "Could not find resource".to_owned()),
    });
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("unknown-kinds", 1);
    let lines = [
        line(&[0, 0, 0, 0, 0, 0, 0, 0, 99, 2], &[]),
        line(b"\x01 text that begins like a GUID", &[]),
        line(b"after", &[]),
    ];
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.concat().as_bytes());
    let done = consume(&kafka, &format!("{}/apis/ccompat/v7", registry.url), &topic, &[]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    let records = json_lines(&done.stdout);
    let is_raw = |index: usize| records[index]["error"].is_string() && records[index]["value_base64"].is_string();
    assert!(records.len() == 3 && is_raw(0) && is_raw(1) && records[2]["value"] == "after", "{}", done.stdout);

    let done = consume(&kafka, &format!("{}/elsewhere/apis/ccompat/v7", registry.url), &topic, &[]);
    assert!(done.code == 1 && done.stdout.is_empty(), "{}", done.stdout);
    assert!(done.stderr.contains("is that a schema registry?"), "{}", done.stderr);
}

#[test]
fn values_of_aws_glue_are_read_with_schemas_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("long.avsc");
    std::fs::write(&file, "\"long\"").unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(b"\x0a").unwrap();
    let packed = [&[3, 5][..], &UUID_BYTES, &zlib.finish().unwrap()].concat();
    let damaged = [&[3, 5][..], &UUID_BYTES, b"nonsense"].concat();
    let stored = [&[3, 0][..], &UUID_BYTES, b"\x0c"].concat();
    let other = [&[3, 0][..], &[7; 16], b"\x0c"].concat();
    let lines = [line(&packed, &[]), line(&stored, &[]), line(&damaged, &[]), line(&other, &[])].concat();
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("glue", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.as_bytes());
    let given = format!("{UUID}=avro:{}", file.display());
    let flags = ["consume", &topic, "-o", "beginning", "-e", "--value-as", "auto", "--schema", &given];
    let done = kafka.try_kpipe(&flags, b"");
    assert_eq!(done.code, 1, "{}", done.stderr);
    let records = json_lines(&done.stdout);
    assert_eq!((&records[0]["value"], &records[1]["value"]), (&json!(5), &json!(6)));
    assert_eq!(records[0]["value_schema_version_id"], UUID);
    assert!(records[2]["error"].as_str().unwrap().contains("zlib data is damaged"), "{}", records[2]);
    assert!(records[3]["error"].as_str().unwrap().contains("use --schema ID=FILE"), "{}", records[3]);
    // It is written back with the schema that is given, and no registry.
    let copy = kafka.topic("glue-copy", 1);
    let line = done.stdout.lines().nth(1).unwrap();
    kafka.kpipe(&["produce", &copy, "--input", "json", "--schema", &given], format!("{line}\n").as_bytes());
    let read = kafka.kpipe(&["consume", &copy, "-o", "beginning", "-e", "-f", "%s{base64}"], b"");
    assert_eq!(read.stdout, STANDARD.encode(&stored));
}

/// The messages of a schema are counted in the order of their full names, with nested ones and the entries of maps: here
/// `p.B`, `p.B.A`, `p.B.A.D`, `p.B.C`, `p.B.TagsEntry`, `p.Z`.
#[test]
fn messages_of_aws_glue_are_read_and_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("messages.proto");
    let schema = r#"syntax = "proto3"; package p;
message Z { int32 z = 1; }
message B {
  message C { string c = 1; }
  message A { message D { bool d = 1; } D d = 1; }
  map<string, int32> tags = 1;
}"#;
    std::fs::write(&file, schema).unwrap();
    let framed = |index: u8, body: &[u8]| [&[3, 0][..], &UUID_BYTES, &[index], body].concat();
    let values =
        [framed(5, b"\x08\x07"), framed(3, b"\x0a\x01x"), framed(2, b"\x08\x01"), framed(4, b""), framed(6, b"")];
    let lines: String = values.iter().map(|value| line(value, &[])).collect();
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("glue-messages", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], lines.as_bytes());
    let given = format!("{UUID}=protobuf:{}", file.display());
    let flags = ["consume", &topic, "-o", "beginning", "-e", "--value-as", "auto", "--schema", &given];
    let done = kafka.try_kpipe(&flags, b"");
    let records = json_lines(&done.stdout);
    let found = |n: usize| (records[n]["value_schema_message"].as_str().unwrap_or_default(), &records[n]["value"]);
    assert_eq!(found(0), ("p.Z", &json!({"z": 7})));
    assert_eq!(found(1), ("p.B.C", &json!({"c": "x"})));
    assert_eq!(found(2), ("p.B.A.D", &json!({"d": true})));
    for n in [3, 4] {
        let why = records[n]["error"].as_str().unwrap();
        assert!(why.contains(&format!("the schema has no message with the index {}", [4, 6][n - 3])), "{why}");
    }
    let copy = kafka.topic("glue-messages-copy", 1);
    let whole: String = done.stdout.lines().take(3).map(|line| format!("{line}\n")).collect();
    kafka.kpipe(&["produce", &copy, "--input", "json", "--schema", &given], whole.as_bytes());
    let read = kafka.kpipe(&["consume", &copy, "-o", "beginning", "-e", "-f", "%s{base64}\\n"], b"");
    let expected: String = values[..3].iter().map(|value| STANDARD.encode(value) + "\n").collect();
    assert_eq!(read.stdout, expected);
}

#[test]
fn a_file_has_the_schema_of_values_without_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.avsc");
    std::fs::write(
        &file,
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#,
    )
    .unwrap();
    let form = format!("avro:{}", file.display());
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("bare", 1);
    // A body that begins with zeros is not taken for a frame.
    let lines = "{\"a\":0,\"b\":\"\"}\n{\"b\":\"x\",\"a\":-1}\n";
    kafka.kpipe(&["produce", &topic, "--value-as", &form], lines.as_bytes());
    let read =
        kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--value-as", &form, "--output", "value"], b"");
    assert_eq!(read.stdout, "{\"a\":0,\"b\":\"\"}\n{\"a\":-1,\"b\":\"x\"}\n");
    let raw = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "-f", "%s{hex}\\n"], b"");
    assert_eq!(raw.stdout, "0000\n010278\n");
}

#[test]
fn a_value_that_does_not_fit_is_named_by_line_and_field_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (file, letters) = (dir.path().join("r.avsc"), dir.path().join("dead.jsonl"));
    std::fs::write(
        &file,
        r#"{"type":"record","name":"R","fields":[{"name":"user","type":{"type":"record","name":"U","fields":[{"name":"id","type":"long"}]}}]}"#,
    )
    .unwrap();
    let form = format!("avro:{}", file.display());
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("unfit", 1);
    let lines = "{\"user\":{\"id\":1}}\n{\"user\":{\"id\":\"x\"}}\nno JSON\n{\"user\":{\"id\":2}}\n";
    let flags = ["produce", &topic, "--value-as", &form];
    let done = kafka.try_kpipe(&flags, lines.as_bytes());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("stdin, line 2: ") && done.stderr.contains(".user.id: "), "{}", done.stderr);
    let topic = kafka.topic("unfit", 1);
    let flags = ["produce", &topic, "--value-as", &form, "--on-error", "continue"];
    let dead = ["--dead-letter", letters.to_str().unwrap()];
    let done = kafka.try_kpipe(&[&flags[..], &dead].concat(), lines.as_bytes());
    assert_eq!(done.code, 1, "{}", done.stderr);
    let read =
        kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--value-as", &form, "--output", "value"], b"");
    assert_eq!(read.stdout, "{\"user\":{\"id\":1}}\n{\"user\":{\"id\":2}}\n");
    let dead = json_lines(&std::fs::read_to_string(&letters).unwrap());
    assert_eq!(dead[0]["value"], json!({ "user": { "id": "x" } }), "it can be mended and read again");
    assert_eq!(dead[1]["value"], "no JSON");
}

#[test]
fn a_schema_that_is_named_without_a_registry_is_an_error() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("named", 1);
    let done = kafka.try_kpipe(&["produce", &topic, "--input", "json"], b"{\"value\":5,\"value_schema_id\":1}\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("line 1: ") && done.stderr.contains("use --registry URL"), "{}", done.stderr);
    for flags in [&["--value-as", "auto"][..], &["--strict"], &["--schema", "1=avro:f"], &["--framing", "glue"]] {
        let done = kafka.try_kpipe(&[&["consume", &topic, "-e"], flags].concat(), b"");
        assert_eq!(done.code, 2, "{flags:?}: {}", done.stderr);
    }
    for flags in [&["--register"][..], &["--value-subject", "s"], &["--value-schema-id", "5"], &["--value-as", "avro"]]
    {
        let done = kafka.try_kpipe(&[&["produce", &topic], flags].concat(), b"x\n");
        assert_eq!(done.code, 2, "{flags:?}: {}", done.stderr);
    }
}
