//! Protobuf and JSON Schema, with Confluent's serializers and from files.

use super::{assert_copied, consume, serializers};
use crate::support::{Kafka, json_lines, latest_or_local, registry, require, shared};
use serde_json::json;

#[test]
fn protobuf_of_confluents_serializer_is_read_and_written_again_to_the_byte() {
    require!(Registry, Serializers);
    let (kafka, registry) = (latest_or_local(), &registry().url);
    let topic = kafka.topic("proto", 1);
    serializers(
        &kafka,
        registry,
        &format!(
            r#"
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from google.protobuf import struct_pb2, timestamp_pb2, type_pb2, wrappers_pb2, descriptor_pb2, descriptor_pool, message_factory
topic = "{topic}"
file = descriptor_pb2.FileDescriptorProto(name=topic + ".proto", package="p", syntax="proto3")
F = descriptor_pb2.FieldDescriptorProto
outer = file.message_type.add(name="Outer")
types = [("d", F.TYPE_DOUBLE), ("f", F.TYPE_FLOAT), ("i64", F.TYPE_INT64), ("u64", F.TYPE_UINT64), ("i32", F.TYPE_INT32),
  ("f64", F.TYPE_FIXED64), ("f32", F.TYPE_FIXED32), ("b", F.TYPE_BOOL), ("s", F.TYPE_STRING), ("by", F.TYPE_BYTES),
  ("u32", F.TYPE_UINT32), ("sf32", F.TYPE_SFIXED32), ("sf64", F.TYPE_SFIXED64), ("s32", F.TYPE_SINT32), ("s64", F.TYPE_SINT64)]
for number, (name, kind) in enumerate(types, 1):
    outer.field.add(name=name, number=number, type=kind, label=F.LABEL_OPTIONAL)
outer.field.add(name="some_numbers", number=20, type=F.TYPE_INT32, label=F.LABEL_REPEATED)
inner = outer.nested_type.add(name="Inner")
inner.field.add(name="x", number=1, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
outer.field.add(name="inner", number=21, type=F.TYPE_MESSAGE, type_name=".p.Outer.Inner", label=F.LABEL_OPTIONAL)
second = file.message_type.add(name="Second")
second.field.add(name="y", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
cls = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
conf = {{"use.deprecated.format": False}}
Outer, Inner, Second = cls("p.Outer"), cls("p.Outer.Inner"), cls("p.Second")
value = Outer(d=0.5, f=0.25, i64=-9007199254740993, u64=2**64 - 1, i32=-1, f64=7, f32=8, b=True, s="é", by=b"\xff", u32=9,
  sf32=-3, sf64=-4, s32=-5, s64=-6, some_numbers=[1, 2], inner=Inner(x=1))
for cls, message in [(Outer, value), (Second, Second(y="z")), (Inner, Inner(x=2))]:
    send(topic, ProtobufSerializer(cls, client, conf)(message, value_of(topic)))
"#
        ),
    );
    let done = consume(&kafka, registry, &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let records = json_lines(&done.stdout);
    let value = &records[0]["value"];
    for (field, expected) in [
        ("d", json!(0.5)),
        ("i64", json!("-9007199254740993")),
        ("u64", json!("18446744073709551615")),
        ("i32", json!(-1)),
        ("b", json!(true)),
        ("s", json!("é")),
        ("by", json!("/w==")),
        ("someNumbers", json!([1, 2])),
        ("inner", json!({ "x": 1 })),
    ] {
        assert_eq!(value[field], expected, "{field}: {value}");
    }
    let messages: Vec<_> = records.iter().map(|record| record["value_schema_message"].clone()).collect();
    assert_eq!(messages, ["p.Outer", "p.Second", "p.Outer.Inner"]);
    assert_eq!((&records[1]["value"], &records[2]["value"]), (&json!({ "y": "z" }), &json!({ "x": 2 })));
    assert_copied(&kafka, registry, &topic, &done.stdout);
    let named = consume(&kafka, registry, &topic, &["--proto-names", "-c", "1", "-f", "%s{.some_numbers}\\n"]);
    assert_eq!(named.stdout, "[1,2]\n", "{}", named.stderr);
}

#[test]
fn json_schema_of_confluents_serializer_is_read_validated_and_written_again() {
    require!(Registry, Serializers);
    let (kafka, registry) = (latest_or_local(), &registry().url);
    let (topic, copy) = (kafka.topic("json-schema", 1), kafka.topic("json-schema-copy", 1));
    serializers(
        &kafka,
        registry,
        &format!(
            r#"
from confluent_kafka.schema_registry.json_schema import JSONSerializer
topic = "{topic}"
schema = json.dumps(dict(title="T", type="object", properties=dict(a=dict(type="integer", maximum=5)), required=["a"]))
serializer = JSONSerializer(schema, client)
good = serializer(dict(a=1), value_of(topic))
send(topic, good)
send(topic, good[:5] + b'{{"a": 7}}')
"#
        ),
    );
    let done = consume(&kafka, registry, &topic, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let values: Vec<_> = json_lines(&done.stdout).iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, [json!({ "a": 1 }), json!({ "a": 7 })]);
    let validated = consume(&kafka, registry, &topic, &["--validate"]);
    assert_eq!(validated.code, 1);
    assert!(json_lines(&validated.stdout)[1]["error"].as_str().unwrap().contains(".a: "), "{}", validated.stdout);
    let written =
        kafka.try_kpipe(&["produce", &copy, "--input", "json", "--registry", registry], done.stdout.as_bytes());
    assert_eq!(written.code, 1, "values are validated on the way in");
    assert!(written.stderr.contains("line 2: the value does not fit its schema: .a: "), "{}", written.stderr);
}

#[test]
fn a_protobuf_file_is_read_with_its_imports() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("common")).unwrap();
    std::fs::write(
        dir.path().join("common/money.proto"),
        "syntax = \"proto3\"; package common; message Money { int64 units = 1; }",
    )
    .unwrap();
    let file = dir.path().join("order.proto");
    std::fs::write(
        &file,
        "syntax = \"proto3\"; package shop; import \"common/money.proto\";\n\
         message First {} message Order { string id = 1; common.Money total = 2; }",
    )
    .unwrap();
    let form = format!("protobuf:{}#shop.Order", file.display());
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("imports", 1);
    kafka.kpipe(&["produce", &topic, "--value-as", &form], b"{\"id\":\"a\",\"total\":{\"units\":\"5\"}}\n");
    let read =
        kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--value-as", &form, "--output", "value"], b"");
    assert_eq!(read.stdout, "{\"id\":\"a\",\"total\":{\"units\":\"5\"}}\n");
    let missing = kafka.try_kpipe(&["consume", &topic, "-e", "--value-as", &form, "--proto-path", "/nowhere"], b"");
    assert!(missing.code == 2 && missing.stderr.contains("common/money.proto"), "{}", missing.stderr);
}
