//! `consume` writes records in every shape, and other programs read them.

use crate::support::{Kafka, json_lines, kpipe, latest_or_local, python, require, shared, shell};
use std::fmt::Write as _;

/// Records with what makes a difference: null and empty, headers of all kinds, bytes that are not text.
const RECORDS: [&str; 6] = [
    r#"{"timestamp":1700000000001,"key":"k1","value":"v1"}"#,
    r#"{"timestamp":1700000000002,"key":null,"value":null}"#,
    r#"{"timestamp":1700000000003,"key":"","value":""}"#,
    r#"{"timestamp":1700000000004,"key_base64":"/wA=","value_base64":"AP8KJXMA"}"#,
    r#"{"timestamp":1700000000005,"key":"é☃","value":"a\tb\nc","headers":{"a":"1"}}"#,
    r#"{"timestamp":1700000000006,"value":"h","headers":[{"key":"a","value":"1"},{"key":"b","value":null},{"key":"a","value":""},{"key":"c","value":"x,y=z"}]}"#,
];

/// kcat's own examples (its README and --help), and every token once more beside the others.
const KCAT_TEMPLATES: [&str; 14] = [
    "Topic %t [%p] at offset %o: key %k: %s\\n",
    "\\nKey (%K bytes): %k\\nValue (%S bytes): %s\\nTimestamp: %T\\nPartition: %p\\nOffset: %o\\nHeaders: %h\\n--\\n",
    "Headers: %h: Message value: %s\\n",
    "%k\\t%s\\n",
    "%R%s",
    "%K %S %R\\n",
    "%s\\x0a",
    "%o%%%p\\r\\n",
    "%t\\x09%T|%h|\\n",
    "{\"key\":\"%k\"}\\n",
    "\\\\%s\\\\\\n",
    "%k%k%s%s",
    "plain",
    "",
];

#[test]
fn a_template_gives_the_bytes_that_kcat_gives() {
    require!(Kcat);
    let kafka = latest_or_local();
    let topic = kafka.topic("templates", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], RECORDS.join("\n").as_bytes());
    for template in KCAT_TEMPLATES {
        let kcat = shell(&format!("kcat -C -b {} -t {topic} -o beginning -e -q -f '{template}'", kafka.bootstrap));
        assert_eq!(kcat.code, 0, "{}", kcat.stderr);
        let ours = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "-f", template], b"");
        assert_eq!(ours.bytes, kcat.bytes, "{template}");
    }
    for flags in [&["-K", ":"][..], &["-K", "\\t", "-D", "|"], &["-K", ", ", "-D", "\\x01"]] {
        let quoted: Vec<String> = flags.iter().map(|flag| format!("'{flag}'")).collect();
        let kcat = shell(&format!("kcat -C -b {} -t {topic} -o beginning -e -q {}", kafka.bootstrap, quoted.join(" ")));
        let ours = kafka.kpipe(&[&["consume", &topic, "-o", "beginning", "-e"], flags].concat(), b"");
        assert_eq!(ours.bytes, kcat.bytes, "{flags:?}");
    }
}

#[test]
fn a_wrong_template_is_pointed_at_before_anything_is_read() {
    let done = kpipe(&["-b", "nowhere:1", "consume", "t", "-f", "%k\\t%q\\n"], b"");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("unknown token %q"), "{}", done.stderr);
    assert!(done.stderr.contains("\n  %k\\t%q\\n\n      ^"), "{}", done.stderr);
}

#[test]
fn flags_without_effect_are_refused() {
    for (flags, why) in [
        (&["--output", "json", "-K", ":"][..], "-K requires --output key-value"),
        (&["--no-header"], "--no-header requires"),
        (&["--output", "files"], "requires --output-dir"),
        (&["--output", "csv", "--columns", "key,ofset"], "did you mean offset?"),
        (&["--output", "length32", "--columns", "value"], "key,value"),
        (&["-f", "%s", "--output", "csv"], "cannot be used with"),
        (&["-f", "%s", "-D", ","], "cannot be used with"),
    ] {
        let done = kpipe(&[&["-b", "nowhere:1", "consume", "t"], flags].concat(), b"");
        assert_eq!(done.code, 2, "{flags:?}: {}", done.stderr);
        assert!(done.stderr.contains(why), "{flags:?}: {}", done.stderr);
    }
}

#[test]
fn keys_and_values_are_shown_as_what_they_are_in_json_templates_and_csv() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("encoded", 1);
    let input =
        "{\"key_i32\":-7,\"value_hex\":\"82a16101a162c0\"}\n{\"key\":\"no number\",\"value\":\"not MessagePack\"}\n";
    kafka.kpipe(&["produce", &topic, "--input", "json"], input.as_bytes());
    let read = |flags: &[&str]| {
        let all = [&["consume", &topic, "-o", "beginning", "-e", "--key-as", "i32", "--value-as", "msgpack"], flags];
        kafka.kpipe(&all.concat(), b"").stdout
    };
    let records = json_lines(&read(&[]));
    assert_eq!(records[0]["key_i32"], -7);
    assert_eq!(records[0]["value_msgpack"], serde_json::json!({"a": 1, "b": null}));
    assert_eq!(
        (&records[1]["key_base64"], &records[1]["value_base64"]),
        (&"bm8gbnVtYmVy".into(), &"bm90IE1lc3NhZ2VQYWNr".into())
    );
    assert_eq!(read(&["-f", "%k %s %s{hex}|"]).split('|').next(), Some("-7 {\"a\":1,\"b\":null} 82a16101a162c0"));
    assert!(read(&["--output", "csv", "--columns", "key,value"]).contains("\n-7,\"{\"\"a\"\":1,\"\"b\"\":null}\"\n"));
}

#[test]
fn pythons_csv_and_json_read_what_is_written() {
    require!(Python);
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("python", 1);
    let mut input = String::new();
    for n in 0..200 {
        let odd = ["a,b", "say \"hi\"", "two\nlines", "tab\there", "\r\n", "", " pad ", "é☃", "\"", ","][n % 10];
        let value = serde_json::json!({"id": n, "text": odd}).to_string();
        writeln!(input, "{}", serde_json::json!({"key": odd, "value": value})).unwrap();
    }
    kafka.kpipe(&["produce", &topic, "--input", "json"], input.as_bytes());
    let dir = tempfile::tempdir().unwrap();
    for (name, output) in [("csv", "csv"), ("tsv", "tsv"), ("json", "json")] {
        let columns = ["--columns", "offset,key,value,.text,.id"];
        let flags = if name == "json" { &[][..] } else { &columns[..] };
        let all = [&["consume", &topic, "-o", "beginning", "-e", "--output", output], flags].concat();
        std::fs::write(dir.path().join(name), kafka.kpipe(&all, b"").bytes).unwrap();
    }
    let script = r#"
import csv, json
records = [json.loads(line) for line in open("json", encoding="utf-8")]
assert len(records) == 200
for name, dialect in ("csv", "excel"), ("tsv", "excel-tab"):
    rows = list(csv.DictReader(open(name, newline="", encoding="utf-8"), dialect=dialect))
    assert len(rows) == 200, (name, len(rows))
    for row, record in zip(rows, records):
        value = json.loads(record["value"])
        assert row == {"offset": str(record["offset"]), "key": record["key"], "value": record["value"],
                       ".text": value["text"], ".id": str(value["id"])}, (row, record)
print("same")
"#;
    let done = python(&format!("import os\nos.chdir({:?})\n{script}", dir.path()));
    assert_eq!(done.stdout, "same\n", "{}", done.stderr);
}

#[test]
fn values_are_framed_without_a_doubt() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("framed", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], RECORDS[..4].join("\n").as_bytes());
    let read =
        |flags: &[&str]| kafka.kpipe(&[&["consume", &topic, "-o", "beginning", "-e"], flags].concat(), b"").bytes;
    let framed = b"\0\0\0\x02v1\xff\xff\xff\xff\0\0\0\0\0\0\0\x06\0\xff\n%s\0";
    assert_eq!(read(&["--output", "length32"]), framed);
    assert_eq!(read(&["-f", "%R%s"]), framed, "kcat's way to say it");
    assert_eq!(read(&["--output", "length32", "--columns", "key,value"])[..12], *b"\0\0\0\x02k1\0\0\0\x02v1");
    assert_eq!(read(&["--output", "value", "-D", ""]), b"v1\0\xff\n%s\0", "exact bytes, nothing between");
}

#[test]
fn each_record_becomes_a_file() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("files", 1);
    kafka.kpipe(&["produce", &topic, "--input", "json"], RECORDS[..4].join("\n").as_bytes());
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("new");
    let into = into.to_str().unwrap();
    let flags = ["consume", &topic, "-o", "beginning", "-e", "--output", "files", "--output-dir", into];
    let paths = kafka.kpipe(&flags, b"").stdout;
    let expected: Vec<String> = ["0", "1.null", "2", "3"].map(|offset| format!("{into}/{topic}-0-{offset}")).into();
    assert_eq!(paths.lines().collect::<Vec<_>>(), expected);
    assert_eq!(std::fs::read(&expected[0]).unwrap(), b"v1");
    assert_eq!(std::fs::read(&expected[3]).unwrap(), b"\0\xff\n%s\0");
    assert_eq!(std::fs::read_dir(into).unwrap().count(), 4);
}

#[test]
fn colors_are_for_those_who_ask_and_never_with_no_color() {
    require!(Script);
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("pretty", 1);
    kafka.kpipe(&["produce", &topic], b"{\"a\":1}\n");
    let pretty = ["consume", &topic, "-o", "beginning", "-e", "--output", "pretty"];
    let plain = kafka.kpipe(&pretty, b"").stdout;
    assert!(plain.ends_with("/0 null {\"a\":1}\n"), "{plain}");
    assert!(kafka.kpipe(&[&pretty[..], &["--color"]].concat(), b"").stdout.contains("\x1b[34m\"a\""));
    let command = format!("{} -b {} -q {}", env!("CARGO_BIN_EXE_kpipe"), kafka.bootstrap, pretty.join(" "));
    let in_terminal = |environment: &str, command: &str| {
        shell(&format!("{environment} TERM=xterm script -qec '{command}' /dev/null </dev/null")).stdout
    };
    assert!(in_terminal("", &command).contains("\x1b[34m\"a\""));
    assert!(!in_terminal("NO_COLOR=1", &command).contains('\x1b'));
    assert!(!in_terminal("NO_COLOR=1", &format!("{command} --color")).contains('\x1b'));
    // The setting holds on a terminal alone: a script that reads a pipe gets JSON.
    let set = format!(
        "{} -b {} -q -X kpipe.output=pretty consume {topic} -o beginning -e",
        env!("CARGO_BIN_EXE_kpipe"),
        kafka.bootstrap
    );
    assert!(in_terminal("", &set).contains("\x1b[34m\"a\""));
    assert!(shell(&set).stdout.starts_with("{\"topic\""));
}
