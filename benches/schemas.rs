//! Values with a schema to JSON and back: an order of 89 bytes in Avro, and the same in Protobuf. apache-avro, which goes
//! through a tree of values, runs beside.

#![allow(missing_docs)] // criterion's macros generate functions without documentation

use apache_avro::reader::datum::GenericDatumReader;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kpipe::codec::schema::{Options, Schema, SchemaType};
use std::hint::black_box;

const AVRO: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"id","type":"long"},
    {"name":"customer","type":"string"},
    {"name":"product","type":"string"},
    {"name":"quantity","type":"int"},
    {"name":"price","type":"double"},
    {"name":"currency","type":{"type":"enum","name":"Currency","symbols":["EUR","USD"]}},
    {"name":"created","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null},
    {"name":"isPaid","type":"boolean"}]}"#;

const PROTOBUF: &str = r#"syntax = "proto3";
    import "google/protobuf/timestamp.proto";
    enum Currency { EUR = 0; USD = 1; }
    message Order {
        int64 id = 1;
        string customer = 2;
        string product = 3;
        int32 quantity = 4;
        double price = 5;
        Currency currency = 6;
        google.protobuf.Timestamp created = 7;
        optional string note = 8;
        bool is_paid = 9;
    }"#;

const ORDER: &str = r#"{"id":104729,"customer":"customer-000042@example.com","product":"blue ceramic teapot","quantity":3,"price":19.95,"currency":"USD","created":"2026-11-25T22:31:00.123Z","note":"leave it at my door","isPaid":true}"#;

fn schema(kind: SchemaType, text: &str) -> Schema {
    Schema::parse(kind, text, &[]).unwrap_or_else(|e| unreachable!("{e}"))
}

fn bytes_of(schema: &Schema) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = schema.read_json(ORDER, Options::default(), &mut bytes);
    assert_eq!(read, Ok(()));
    bytes
}

fn schemas(c: &mut Criterion) {
    let mut group = c.benchmark_group("schemas");
    group.throughput(Throughput::Elements(1));
    for (name, kind, text) in [("Avro", SchemaType::Avro, AVRO), ("Protobuf", SchemaType::Protobuf, PROTOBUF)] {
        let schema = schema(kind, text);
        let bytes = bytes_of(&schema);
        assert!(kind != SchemaType::Avro || bytes.len() == 89, "{}", bytes.len());
        let mut out = Vec::new();
        group.bench_function(format!("{name} to JSON"), |b| {
            b.iter(|| {
                out.clear();
                schema.write_json(black_box(&bytes), Options::default(), &mut out)
            })
        });
        group.bench_function(format!("JSON to {name}"), |b| {
            b.iter(|| {
                out.clear();
                schema.read_json(black_box(ORDER), Options::default(), &mut out)
            })
        });
    }
    let bytes = bytes_of(&schema(SchemaType::Avro, AVRO));
    if let Ok(parsed) = apache_avro::Schema::parse_str(AVRO)
        && let Ok(reader) = GenericDatumReader::builder(&parsed).build()
    {
        group.bench_function("Avro to JSON by apache-avro", |b| {
            b.iter(|| {
                let value = reader.read_value(&mut black_box(&bytes[..])).ok()?;
                serde_json::to_vec(&serde_json::Value::try_from(value).ok()?).ok()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, schemas);
criterion_main!(benches);
