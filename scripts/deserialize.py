"""Reads a topic of Avro values with Confluent's deserializer and prints them as JSON: what scripts/bench compares with."""
import json, sys
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

broker, registry, topic, count = sys.argv[1:5]
deserializer = AvroDeserializer(SchemaRegistryClient({"url": registry}))
context = SerializationContext(topic, MessageField.VALUE)
consumer = Consumer({"bootstrap.servers": broker, "group.id": "none", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, 0, 0)])
left = int(count)
while left > 0:
    for message in consumer.consume(min(left, 10_000), 30):
        print(json.dumps(deserializer(message.value(), context)))
        left -= 1
consumer.close()
