//! `consume | produce --input json` copies a topic exactly.

use crate::support::{Kafka, json_lines, shared};

#[test]
fn a_topic_is_copied_byte_for_byte() {
    let kafka = shared(Kafka::Local);
    let (from, to) = (kafka.topic("from", 3), kafka.topic("to", 3));
    let lines = [
        r#"{"partition":2,"timestamp":1700000000001,"key":"k","value":"v"}"#,
        r#"{"partition":0,"timestamp":1700000000002,"key":null,"value":null}"#,
        r#"{"partition":0,"timestamp":1700000000003,"key":"","value":""}"#,
        r#"{"partition":1,"timestamp":1700000000004,"key_base64":"/wA=","value_base64":"AP8K"}"#,
        r#"{"partition":1,"timestamp":1700000000005,"key":"\u0000\n\"\\é☃😀","value":"\u0000\n\r\t\"\\é☃😀"}"#,
        r#"{"partition":1,"timestamp":1700000000006,"key":null,"value":"h","headers":[{"key":"a","value":"1"},{"key":"a","value":""},{"key":"b","value":null},{"key":"","value_base64":"/w=="}]}"#,
    ];
    kafka.kpipe(&["produce", &from, "--input", "json"], (lines.join("\n") + "\n").as_bytes());
    let first = kafka.kpipe(&["consume", &from, "-o", "beginning", "-e"], b"");
    assert_eq!(json_lines(&first.stdout).len(), lines.len());
    kafka.kpipe(&["produce", &to, "--input", "json"], &first.bytes);
    let second = kafka.kpipe(&["consume", &to, "-o", "beginning", "-e"], b"");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&second.stdout), sorted(&first.stdout.replace(&from, &to)));
    for (line, record) in sorted(&lines.join("\n")).iter().zip(sorted(&first.stdout)) {
        // All fields of the input come out; the topic adds others.
        let given: serde_json::Value = serde_json::from_str(line).unwrap();
        let all = first.stdout.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        let same = |r: &serde_json::Value| given.as_object().unwrap().iter().all(|(name, value)| r[name] == *value);
        assert_eq!(all.filter(|r| same(r)).count(), 1, "{line} against {record}");
    }
}

#[test]
fn records_may_name_their_own_topic() {
    let kafka = shared(Kafka::Local);
    let (a, b) = (kafka.topic("a", 1), kafka.topic("b", 1));
    let lines = format!("{{\"topic\":\"{a}\",\"value\":\"1\"}}\n{{\"topic\":\"{b}\",\"value\":\"2\"}}\n");
    kafka.kpipe(&["produce", "-", "--input", "json"], lines.as_bytes());
    let read = kafka.kpipe(&["consume", &a, &b, "-o", "beginning", "-e"], b"");
    let mut records = json_lines(&read.stdout);
    records.sort_by_key(|r| r["value"].to_string());
    assert_eq!(records[0]["topic"], a.as_str());
    assert_eq!(records[1]["topic"], b.as_str());
}

#[test]
fn lines_may_hold_any_bytes() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("bytes", 1);
    let input: Vec<u8> = (0..=255u8).filter(|byte| *byte != b'\n').chain([b'\n', b'\n']).chain(*b"last").collect();
    kafka.kpipe(&["produce", &topic], &input);
    let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
    assert_eq!(
        read.bytes,
        [&input[..], b"\n"].concat(),
        "an empty line is an empty value; the last needs no delimiter"
    );
    let topic = kafka.topic("delimited", 1);
    kafka.kpipe(&["produce", &topic, "-D", "\\0--"], b"a\nb\0--c\0--\0--d\0-");
    let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value", "-D", "|"], b"");
    assert_eq!(read.stdout, "a\nb|c||d\0-|");
}

#[test]
fn value_as_sets_the_encoding_of_values() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("shown", 1);
    kafka.kpipe(&["produce", &topic, "-k", "key"], b"{\"a\": [1, 2]}\nplain\n");
    let show = |how: &str| {
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--value-as", how], b"");
        json_lines(&read.stdout)
    };
    assert_eq!(show("json")[0]["value"]["a"][1], 2);
    assert_eq!(show("json")[1]["value"], "plain");
    assert_eq!(show("hex")[1]["value_hex"], "706c61696e");
    assert_eq!(show("base64")[1]["value_base64"], "cGxhaW4=");
}
