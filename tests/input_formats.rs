//! `produce` reads what `consume` and other programs write, whatever its shape.

use crate::support::{Kafka, json_lines, kpipe, python, require, shared, shell};
use serde_json::{Value, json};

/// Keys and values of all kinds; every exact format has to carry them all.
const RECORDS: [&str; 6] = [
    r#"{"timestamp":1700000000001,"key":"k1","value":"v1"}"#,
    r#"{"timestamp":1700000000002,"key":null,"value":null}"#,
    r#"{"timestamp":1700000000003,"key":"","value":""}"#,
    r#"{"timestamp":1700000000004,"key_base64":"/wA=","value_base64":"AP8KJXMA"}"#,
    r#"{"timestamp":1700000000005,"key":"é☃","value":"a\tb\nc"}"#,
    r#"{"timestamp":1700000000006,"key":"-1","value":"4 \n"}"#,
];

/// Key, value and time of each record.
fn contents(text: &str) -> Vec<Value> {
    let record = |record: Value| {
        json!([record["key"], record["key_base64"], record["value"], record["value_base64"], record["timestamp"]])
    };
    json_lines(text).into_iter().map(record).collect()
}

#[test]
fn what_an_exact_format_wrote_is_the_same_topic_again() {
    let kafka = shared(Kafka::Local);
    let from = kafka.topic("exact", 1);
    kafka.kpipe(&["produce", &from, "--input", "json"], RECORDS.join("\n").as_bytes());
    let all = ["consume", &from, "-o", "beginning", "-e"];
    let original = contents(&kafka.kpipe(&all, b"").stdout);
    assert_eq!(original.len(), RECORDS.len());
    let formats: [(&[&str], &[&str], bool); 5] = [
        (&["--key-as", "hex", "--value-as", "base64"], &["--input", "json"], true),
        (&["-f", "%T,%K,%k%S,%s"], &["--template", "%T,%K,%k%S,%s"], true),
        (&["-f", "%t %p %o %T %K %R%k%s\\n"], &["--template", "%t %p %o %T %K %R%k%s\\n"], true),
        (
            &["-f", "%K %k{hex} %S %s{base64} %T{rfc3339}\\n"],
            &["--template", "%K %k{hex} %S %s{base64} %T{rfc3339}\\n"],
            true,
        ),
        (
            &["--output", "length32", "--columns", "key,value"],
            &["--input", "length32", "--columns", "key,value"],
            false,
        ),
    ];
    for (out, back, has_times) in formats {
        let written = kafka.kpipe(&[&all[..], out].concat(), b"").bytes;
        let to = kafka.topic("again", 1);
        kafka.kpipe(&[&["produce", &to], back].concat(), &written);
        let again = contents(&kafka.kpipe(&["consume", &to, "-o", "beginning", "-e"], b"").stdout);
        let expected: Vec<Value> = original.clone();
        let without_times = |records: &[Value]| -> Vec<Value> {
            records.iter().map(|record| json!([record[0], record[1], record[2], record[3]])).collect()
        };
        if has_times {
            assert_eq!(again, expected, "{out:?}");
        } else {
            assert_eq!(without_times(&again), without_times(&expected), "{out:?}");
        }
    }
}

#[test]
fn csv_becomes_keys_objects_and_headers() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("csv", 1);
    let csv = "id,name,note\r\n1,\"Smith, Ann\",\"two\nlines\"\r\n2,\"say \"\"hi\"\"\",\r\n";
    let flags =
        ["produce", &topic, "--input", "csv", "--key-column", "id", "--header-columns", "note", "-Z", "-H", "x=y"];
    kafka.kpipe(&flags, csv.as_bytes());
    let records = json_lines(&kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"").stdout);
    assert_eq!((&records[0]["key"], &records[0]["value"]), (&json!("1"), &json!(r#"{"name":"Smith, Ann"}"#)));
    assert_eq!(records[0]["headers"], json!([{"key": "note", "value": "two\nlines"}, {"key": "x", "value": "y"}]));
    assert_eq!(records[1]["value"], r#"{"name":"say \"hi\""}"#);
    assert_eq!(records[1]["headers"][0], json!({"key": "note", "value": null}));
    let written = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "csv"], b"").bytes;
    let copy = kafka.topic("csv-copy", 1);
    kafka.kpipe(&["produce", &copy, "--input", "csv", "--key-column", "key", "--value-column", "value"], &written);
    let copied = json_lines(&kafka.kpipe(&["consume", &copy, "-o", "beginning", "-e"], b"").stdout);
    for (record, copy) in records.iter().zip(&copied) {
        assert_eq!((&record["key"], &record["value"]), (&copy["key"], &copy["value"]));
    }
}

#[test]
fn a_bad_row_is_named_by_its_line_and_costs_only_itself() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("bad-rows", 1);
    let csv = b"a,b\n\"x\ny\",1\n1,2,3\n4,5\n";
    let stopped = kafka.try_kpipe(&["produce", &topic, "--input", "csv"], csv);
    assert_eq!(stopped.code, 1);
    assert!(stopped.stderr.contains("stdin, line 4: 3 fields, where the header has 2"), "{}", stopped.stderr);
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("dead.jsonl");
    let flags = ["--on-error", "continue", "--skip", "1", "--dead-letter", letters.to_str().unwrap()];
    let rest = kafka.try_kpipe(&[&["produce", &topic, "--input", "csv"], &flags[..]].concat(), csv);
    assert_eq!(rest.code, 1);
    let letter = &json_lines(&std::fs::read_to_string(&letters).unwrap())[0];
    assert_eq!(letter["value"], r#""1","2","3""#, "the row can be read again");
    assert_eq!(kafka.values(&topic), [r#"{"a":"x\ny","b":"1"}"#, r#"{"a":"4","b":"5"}"#]);
    // A header that does not fit costs all, and nothing is sent.
    let none =
        kafka.try_kpipe(&["produce", &topic, "--input", "csv", "--key-column", "c", "--on-error", "continue"], csv);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("no column \"c\"") && none.stderr.contains("a, b"), "{}", none.stderr);
    assert_eq!(kafka.values(&topic).len(), 2);
}

#[test]
fn python_writes_csv_that_is_read() {
    require!(Python);
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("python-csv", 1);
    let script = r#"
import csv, sys
out = csv.writer(sys.stdout)
out.writerow(["key", "value"])
for n in range(300):
    odd = ["a,b", 'say "hi"', "two\nlines", "tab\there", "\r\n", "", " pad ", "é☃", '"', ",", "\r"][n % 11]
    out.writerow([n, odd])
"#;
    let csv = python(script);
    assert_eq!(csv.code, 0, "{}", csv.stderr);
    kafka.kpipe(&["produce", &topic, "--input", "csv", "--key-column", "key", "--value-column", "value"], &csv.bytes);
    let values = kafka.values(&topic);
    let odd = ["a,b", "say \"hi\"", "two\nlines", "tab\there", "\r\n", "", " pad ", "é☃", "\"", ",", "\r"];
    let expected: Vec<&str> = (0..300).map(|n| odd[n % 11]).collect();
    assert_eq!(values, expected);
}

#[test]
fn keys_times_and_partitions_come_from_the_value() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("derived", 3);
    let lines =
        b"{\"user\":{\"id\":7},\"at\":\"2023-11-14T22:13:20Z\",\"p\":2}\n{\"user\":{},\"at\":1700000001,\"p\":0}\n";
    let flags = ["produce", &topic, "--key-from", ".user.id", "--timestamp-from", ".at", "--partition-from", ".p"];
    let failed = kafka.try_kpipe(&flags, lines);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("stdin, line 2: --key-from: the value has no field .user.id"), "{}", failed.stderr);
    kafka.kpipe(&[&flags[..], &["--skip", "1", "--missing-key", "null"]].concat(), lines);
    let mut records = json_lines(&kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e"], b"").stdout);
    records.sort_by_key(|record| record["timestamp"].as_i64());
    let found: Vec<_> = records.iter().map(|r| json!([r["key"], r["timestamp"], r["partition"]])).collect();
    assert_eq!(found, [json!(["7", 1_700_000_000_000i64, 2]), json!([null, 1_700_000_001_000i64, 0])]);
}

#[test]
fn dead_letters_go_back_to_where_they_came_from() {
    let kafka = shared(Kafka::Local);
    let (orders, dead) = (kafka.topic("orders", 4), kafka.topic("dead", 1));
    kafka.kpipe(&["produce", &dead, "-H", &format!("origin={orders}")], b"a\nb\n");
    let letters = kafka.kpipe(&["consume", &dead, "-o", "beginning", "-e"], b"").bytes;
    let done = kafka.try_kpipe(&["produce", "-", "--input", "json", "--topic-from-header", "origin"], &letters);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(kafka.values(&orders), ["a", "b"]);
    // What another topic's partitions were does not fit here.
    let line = b"{\"partition\":9,\"key\":\"k\",\"value\":\"c\"}\n";
    assert_eq!(kafka.try_kpipe(&["produce", &orders, "--input", "json"], line).code, 1);
    kafka.kpipe(&["produce", &orders, "--input", "json", "--repartition"], line);
    assert_eq!(kafka.values(&orders).len(), 3);
}

#[test]
fn each_file_is_a_record() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("whole", 1);
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a.bin", "empty", "z.gz"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let contents: [&[u8]; 3] = [b"one\ntwo\n\0", b"", b"\x1f\x8b\x08 stays as it is"];
    for (path, bytes) in paths.iter().zip(contents) {
        std::fs::write(path, bytes).unwrap();
    }
    let flags = ["produce", &topic, "--input", "files", "--name-header", "file", "-H", "a=b"];
    kafka.kpipe(&[&flags[..], &[&paths[0], &paths[1], &paths[2]]].concat(), b"");
    let text = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "-f", "%R%s%h{file}|"], b"").bytes;
    let expected: Vec<u8> = paths
        .iter()
        .zip(contents)
        .flat_map(|(path, bytes)| [&(bytes.len() as u32).to_be_bytes(), bytes, path.as_bytes(), b"|"].concat())
        .collect();
    assert_eq!(text, expected);
}

#[test]
fn compressed_input_is_unpacked_wherever_it_comes_from() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("packed", 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.gz");
    let at = path.display();
    assert_eq!(shell(&format!("seq 20000 | gzip >{at}")).code, 0);
    let bin = format!("kpipe -b {} -q produce {topic}", kafka.bootstrap);
    assert_eq!(shell(&format!("{bin} {at} && {bin} <{at} && cat {at} {at} | {bin}")).code, 0);
    let values = kafka.values(&topic);
    let once: Vec<String> = (1..=20_000).map(|n| n.to_string()).collect();
    assert_eq!(values.len(), 80_000);
    assert!(values.chunks(20_000).all(|values| values == once));
    let short = shell(&format!("head -c 20000 {at} | {bin}"));
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("stdin: gzip data ends early, at byte 20000"), "{}", short.stderr);
    let raw = kafka.topic("raw", 1);
    kafka.kpipe(&["produce", &raw, "--no-decompress", "-D", "\\0\\0\\0\\0"], b"\x1f\x8b\x08x");
    let read = kafka.kpipe(&["consume", &raw, "-o", "beginning", "-e", "--output", "value", "-D", ""], b"");
    assert_eq!(read.bytes, b"\x1f\x8b\x08x");
}

#[test]
fn input_that_ends_within_a_record_is_no_success() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("cut-off", 1);
    let done = kafka.try_kpipe(&["produce", &topic, "--input", "length32"], b"\0\0\0\x01a\0\0\0\x05abc");
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("stdin, record 2: the input ends within the record, after 7 bytes of it"),
        "{}",
        done.stderr
    );
    assert_eq!(kafka.values(&topic), ["a"]);
    let done = kafka.try_kpipe(&["produce", &topic, "--input", "csv"], b"a,b\n1,\"x\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("stdin, line 2: a quoted field is not closed"), "{}", done.stderr);
}

#[test]
fn a_wrong_value_names_its_line_and_what_was_expected() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("numbers", 1);
    let done =
        kafka.try_kpipe(&["produce", &topic, "-K", ":", "--key-as", "i64", "--value-as", "hex"], b"1:00ff\nx:00\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("stdin, line 2: the key: expected a signed 64-bit integer"), "{}", done.stderr);
    let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "-f", "%k{hex} %s{hex}\\n"], b"");
    assert_eq!(read.stdout, "0000000000000001 00ff\n");
}

#[test]
fn flags_that_do_not_fit_the_input_are_refused() {
    for (flags, why) in [
        (&["--input", "json", "-K", ":"][..], "-K requires --input lines"),
        (&["--key-column", "a"], "--key-column requires --input csv or tsv"),
        (&["--template", "%k%s\\n"], "the end of this is not known"),
        (&["--template", "%s\\n", "-D", ","], "-D requires"),
        (&["--topic-from-header", "x"], "requires TOPIC -"),
        (&["--missing-key", "null"], "--key-from"),
        (&["--key-from", "user"], "a path begins with a dot"),
    ] {
        let done = kpipe(&[&["-b", "nowhere:1", "produce", "t"], flags].concat(), b"");
        assert_eq!(done.code, 2, "{flags:?}: {}", done.stderr);
        assert!(done.stderr.contains(why), "{flags:?}: {}", done.stderr);
    }
}

#[test]
fn a_key_that_looks_like_a_path_gets_a_hint() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("hint", 1);
    let done = kafka.kpipe(&["produce", &topic, "-k", ".id"], b"{\"id\":1}\n");
    assert!(done.stderr.contains("--key-from .id takes keys from the JSON values"), "{}", done.stderr);
    let done = kafka.kpipe(&["produce", &topic, "-k", "id"], b"{\"id\":1}\n");
    assert!(!done.stderr.contains("--key-from"), "{}", done.stderr);
}
