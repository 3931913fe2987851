//! Values with a schema: written and read by Confluent's serializers, registries that misbehave, and exact copies.

mod avro;
mod framings;
mod manage;
mod misbehaving;
mod protobuf;
mod tls;

use crate::support::{Cluster, Done, python};

/// What a script needs to write and read with Confluent's serializers.
fn script(kafka: &Cluster, registry: &str, body: &str) -> String {
    format!(
        r#"
import sys, json, datetime, decimal, uuid
from confluent_kafka import Producer, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, Schema, SchemaReference
from confluent_kafka.serialization import SerializationContext, MessageField
BROKERS, REGISTRY = {bootstrap:?}, {registry:?}
client = SchemaRegistryClient({{"url": REGISTRY}})
producer = Producer({{"bootstrap.servers": BROKERS}})
def value_of(topic): return SerializationContext(topic, MessageField.VALUE)
def send(topic, value, key=None, headers=None):
    producer.produce(topic, value=value, key=key, headers=headers, partition=0)
def read(topic, count):
    consumer = Consumer({{"bootstrap.servers": BROKERS, "group.id": "none", "enable.auto.commit": False}})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while len(found) < count:
        message = consumer.poll(30)
        assert message is not None and not message.error(), message and message.error()
        found.append(message)
    consumer.close()
    return found
{body}
assert producer.flush(30) == 0
"#,
        bootstrap = kafka.bootstrap,
    )
}

/// Runs a script that writes or reads with Confluent's serializers; its stdout.
fn serializers(kafka: &Cluster, registry: &str, body: &str) -> String {
    let done = python(&script(kafka, registry, body));
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    done.stdout
}

/// Consumes all of `topic` with `more` flags.
fn consume(kafka: &Cluster, registry: &str, topic: &str, more: &[&str]) -> Done {
    kafka.try_kpipe(
        &[&["consume", topic, "-o", "beginning", "-e", "--registry", registry, "--value-as", "auto"], more].concat(),
        b"",
    )
}

/// Writes what was consumed of `topic` to another one, where its values are the same bytes.
fn assert_copied(kafka: &Cluster, registry: &str, topic: &str, consumed: &str) {
    let copy = kafka.topic("copy", 1);
    kafka.kpipe(&["produce", &copy, "--input", "json", "--registry", registry], consumed.as_bytes());
    let bytes =
        |topic: &str| kafka.kpipe(&["consume", topic, "-o", "beginning", "-e", "-f", "%s{base64}\\n"], b"").stdout;
    assert_eq!(bytes(topic), bytes(&copy));
}
