//! Message sets v0 and v1, which old segments may still hold, read by the native engine.

use crate::support::{Kafka, Version, fresh, json_lines, require, shared};

#[test]
fn old_segments_are_read() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V1_1));
    for (format, codec) in
        [("0.9.0", "none"), ("0.9.0", "snappy"), ("0.10.2", "none"), ("0.10.2", "gzip"), ("0.10.2", "lz4")]
    {
        let topic = fresh("segments");
        let set = format!("message.format.version={format}");
        kafka.kpipe(&["topics", "create", &topic, "--config", &set], b"");
        // The broker converts v2 batches to the topic's format.
        let args =
            ["produce", &topic, "-K", "=", "-Z", "--timestamp", "1700000000123", "-z", codec, "--idempotent", "false"];
        kafka.kpipe(&args, b"k1=v1\nk2=\nk3=v3\n");
        kafka.kpipe(&["produce", &topic, "-K", "=", "--idempotent", "false"], b"k4=v4\n");
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"");
        let records = json_lines(&read.stdout);
        let offsets: Vec<_> = records.iter().map(|r| r["offset"].as_i64().unwrap()).collect();
        assert_eq!(offsets, [0, 1, 2, 3], "{format} {codec}");
        assert_eq!(records[1]["value"], serde_json::Value::Null);
        assert_eq!(records[2]["value"], "v3");
        let timestamp = records[0].get("timestamp").and_then(serde_json::Value::as_i64);
        assert_eq!(timestamp, (format != "0.9.0").then_some(1_700_000_000_123), "{format}");
        let middle = kafka.kpipe(&["consume", &topic, "-o", "2", "-e"], b"");
        assert_eq!(json_lines(&middle.stdout).len(), 2, "from the middle of a batch");
    }
}
