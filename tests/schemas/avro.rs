//! Avro, in both directions.

use super::{assert_copied, consume, serializers};
use crate::support::{json_lines, latest_or_local, registry, require};
use serde_json::json;

/// A record of every type of Avro.
const EVERY_TYPE: &str = r#"{"type":"record","name":"Every","namespace":"t","fields":[
  {"name":"null","type":"null"},{"name":"boolean","type":"boolean"},{"name":"int","type":"int"},
  {"name":"long","type":"long"},{"name":"float","type":"float"},{"name":"double","type":"double"},
  {"name":"string","type":"string"},{"name":"bytes","type":"bytes"},
  {"name":"enum","type":{"type":"enum","name":"Suit","symbols":["SPADES","HEARTS"]}},
  {"name":"array","type":{"type":"array","items":"int"}},{"name":"map","type":{"type":"map","values":"long"}},
  {"name":"fixed","type":{"type":"fixed","name":"Four","size":4}},
  {"name":"optional","type":["null","string"]},{"name":"either","type":["string","long"]},
  {"name":"nested","type":{"type":"record","name":"Inner","fields":[{"name":"x","type":"int"}]}},
  {"name":"tree","type":{"type":"record","name":"Node","fields":[
    {"name":"v","type":"int"},{"name":"next","type":["null","Node"]}]}},
  {"name":"decimal","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
  {"name":"date","type":{"type":"int","logicalType":"date"}},
  {"name":"time","type":{"type":"int","logicalType":"time-millis"}},
  {"name":"micros","type":{"type":"long","logicalType":"time-micros"}},
  {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
  {"name":"timestampMicros","type":{"type":"long","logicalType":"timestamp-micros"}},
  {"name":"uuid","type":{"type":"string","logicalType":"uuid"}}]}"#;

#[test]
fn what_confluents_serializer_writes_is_read_and_written_again_to_the_byte() {
    require!(Registry, Serializers);
    let (kafka, registry) = (latest_or_local(), &registry().url);
    let topic = kafka.topic("every", 1);
    serializers(
        &kafka,
        registry,
        &format!(
            r#"
from confluent_kafka.schema_registry.avro import AvroSerializer
topic, schema = "{topic}", r'''{EVERY_TYPE}'''
utc = datetime.timezone.utc
value = dict(null=None, boolean=True, int=-7, long=9007199254740993, float=0.5, double=0.1, string="é\"\u009b",
  bytes=b"\xff\x00", enum="HEARTS", array=[1, 2], map={{"a": 1}}, fixed=b"1234", optional="x", either=5,
  nested=dict(x=1), tree=dict(v=1, next=dict(v=2, next=None)), decimal=decimal.Decimal("-12.34"),
  date=datetime.date(2026, 11, 25), time=datetime.time(1, 2, 3, 4000), micros=datetime.time(1, 2, 3, 4),
  timestamp=datetime.datetime(2026, 11, 25, 1, 2, 3, 4000, utc),
  timestampMicros=datetime.datetime(2026, 11, 25, 1, 2, 3, 4, utc),
  uuid=uuid.UUID("01234567-89ab-cdef-0123-456789abcdef"))
serializer = AvroSerializer(client, schema)
for optional, either in [("x", 5), (None, "y")]:
    value.update(optional=optional, either=either)
    send(topic, serializer(value, value_of(topic)))
send(topic, None)
send(topic, b"text")
"#
        ),
    );
    let done = consume(&kafka, registry, &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let records = json_lines(&done.stdout);
    let id = records[0]["value_schema_id"].as_u64().unwrap();
    assert!(done.stdout.contains(r#""long":9007199254740993,"#), "exact: {}", done.stdout);
    let value = &records[0]["value"];
    for (field, expected) in [
        ("null", json!(null)),
        ("boolean", json!(true)),
        ("int", json!(-7)),
        ("float", json!(0.5)),
        ("double", json!(0.1)),
        ("string", json!("é\"\u{9b}")),
        ("enum", json!("HEARTS")),
        ("array", json!([1, 2])),
        ("map", json!({ "a": 1 })),
        ("optional", json!("x")),
        ("either", json!(5)),
        ("nested", json!({ "x": 1 })),
        ("tree", json!({ "v": 1, "next": { "v": 2, "next": null } })),
        ("decimal", json!("-12.34")),
        ("date", json!("2026-11-25")),
        ("uuid", json!("01234567-89ab-cdef-0123-456789abcdef")),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
    assert!(value["timestamp"].as_str().unwrap().starts_with("2026-11-25T01:02:03.004"), "{value}");
    assert!(!done.stdout.contains('\u{9b}'), "nothing acts on a terminal");
    assert_eq!((&records[1]["value"]["optional"], &records[1]["value"]["either"]), (&json!(null), &json!("y")));
    assert_eq!((&records[2]["value"], &records[3]["value"]), (&json!(null), &json!("text")));
    assert!(records[3].get("value_schema_id").is_none());
    // Written again, with the same ID.
    assert_copied(&kafka, registry, &topic, &done.stdout);
    assert!(id > 0);
}

#[test]
fn what_kpipe_writes_is_read_by_confluents_deserializer() {
    require!(Registry, Serializers);
    let (kafka, registry) = (latest_or_local(), registry());
    let topic = kafka.topic("written", 1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("every.avsc");
    std::fs::write(&file, EVERY_TYPE).unwrap();
    let value = json!({
        "null": null, "boolean": true, "int": -7, "long": 9_007_199_254_740_993i64, "float": 0.5, "double": 0.1,
        "string": "é", "bytes": "/wA=", "enum": "HEARTS", "array": [1, 2], "map": { "a": 1 }, "fixed": "MTIzNA==",
        "optional": "x", "either": 5, "nested": { "x": 1 }, "tree": { "v": 1, "next": { "v": 2, "next": null } },
        "decimal": "-12.34", "date": "2026-11-25", "time": "01:02:03.004", "micros": "01:02:03.000004",
        "timestamp": "2026-11-25T01:02:03.004Z", "timestampMicros": "2026-11-25T01:02:03.000004Z",
        "uuid": "01234567-89ab-cdef-0123-456789abcdef",
    });
    let form = format!("avro:{}", file.display());
    let flags = ["produce", &topic, "--registry", &registry.url, "--value-as", &form];
    let unknown = kafka.try_kpipe(&[&flags[..], &["--value-subject", &format!("{topic}-value")]].concat(), b"");
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("use --register to register it"), "{}", unknown.stderr);
    assert_eq!(registry.schemas(&["get", &format!("{topic}-value")], b"").code, 1, "nothing is registered unasked");
    let done = kafka.try_kpipe(&[&flags[..], &["--register"]].concat(), format!("{value}\n").as_bytes());
    assert_eq!(done.code, 0, "{}", done.stderr);
    // With the schema that the subject has now.
    let flags = ["produce", &topic, "--registry", &registry.url, "--value-as", "avro"];
    let done = kafka.try_kpipe(&flags, format!("{value}\n").as_bytes());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let read = serializers(
        &kafka,
        &registry.url,
        &format!(
            r#"
from confluent_kafka.schema_registry.avro import AvroDeserializer
deserializer = AvroDeserializer(client)
first, second = [deserializer(message.value(), value_of("{topic}")) for message in read("{topic}", 2)]
assert first == second, (first, second)
utc = datetime.timezone.utc
assert first == dict(null=None, boolean=True, int=-7, long=9007199254740993, float=0.5, double=0.1, string="é",
  bytes=b"\xff\x00", enum="HEARTS", array=[1, 2], map={{"a": 1}}, fixed=b"1234", optional="x", either=5,
  nested=dict(x=1), tree=dict(v=1, next=dict(v=2, next=None)), decimal=decimal.Decimal("-12.34"),
  date=datetime.date(2026, 11, 25), time=datetime.time(1, 2, 3, 4000), micros=datetime.time(1, 2, 3, 4),
  timestamp=datetime.datetime(2026, 11, 25, 1, 2, 3, 4000, utc),
  timestampMicros=datetime.datetime(2026, 11, 25, 1, 2, 3, 4, utc),
  uuid=uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")), first
print("the same")
"#
        ),
    );
    assert_eq!(read, "the same\n");
}

#[test]
fn evolved_schemas_and_references_in_one_topic_are_each_read_with_their_own() {
    require!(Registry, Serializers);
    let (kafka, registry) = (latest_or_local(), &registry().url);
    let topic = kafka.topic("evolved", 1);
    serializers(
        &kafka,
        registry,
        &format!(
            r#"
from confluent_kafka.schema_registry.avro import AvroSerializer
topic = "{topic}"
def record(*fields): return json.dumps(dict(type="record", name="R", fields=[dict(name=n, type=t, default=d) for n, t, d in fields]))
one = AvroSerializer(client, record(("a", "long", 0)))
two = AvroSerializer(client, record(("a", "long", 0), ("b", "string", "")))
leaf = json.dumps(dict(type="record", name="Leaf", namespace="x", fields=[dict(name="n", type="int")]))
branch = json.dumps(dict(type="record", name="Branch", namespace="x", fields=[dict(name="leaf", type="x.Leaf")]))
client.register_schema(topic + "-leaf", Schema(leaf, "AVRO"))
client.register_schema(topic + "-branch", Schema(branch, "AVRO", [SchemaReference("x.Leaf", topic + "-leaf", 1)]))
root = json.dumps(dict(type="record", name="Root", namespace="x", fields=[dict(name="branch", type="x.Branch")]))
three = AvroSerializer(client, Schema(root, "AVRO", [SchemaReference("x.Branch", topic + "-branch", 1)]),
  conf={{"subject.name.strategy": lambda ctx, name: topic + "-root"}})
for n in range(5):
    send(topic, one(dict(a=n), value_of(topic)))
    send(topic, two(dict(a=n, b="x"), value_of(topic)))
    send(topic, three(dict(branch=dict(leaf=dict(n=n))), value_of(topic)))
"#
        ),
    );
    let done = consume(&kafka, registry, &topic, &["--jq", ".value"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let expected: Vec<_> = (0..5)
        .flat_map(|n| [json!({ "a": n }), json!({ "a": n, "b": "x" }), json!({ "branch": { "leaf": { "n": n } } })])
        .collect();
    assert_eq!(json_lines(&done.stdout), expected);
    // What is decoded is what filters, templates and CSV see.
    let shown = |flags: &[&str]| consume(&kafka, registry, &topic, flags).stdout;
    assert_eq!(shown(&["--grep", "\"a\":3,", "-f", "%o %s{.b}\\n"]), "10 x\n");
    assert_eq!(shown(&["-c", "1", "--output", "csv", "--columns", ".a,value", "--no-header"]), "0,\"{\"\"a\"\":0}\"\n");
    assert_eq!(shown(&["-c", "2", "--output", "value"]), "{\"a\":0}\n{\"a\":0,\"b\":\"x\"}\n");
    assert_eq!(shown(&["--where", "value={\"a\":4}", "-f", "%S\\n"]), "6\n", "a length is that of the record's bytes");
}
