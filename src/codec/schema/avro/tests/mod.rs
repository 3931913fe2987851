use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;

mod random;
mod schemas;

use random::Random;

fn parsed(schema: &str) -> Schema {
    Schema::parse(schema, &[]).unwrap()
}

fn shown_as(schema: &Schema, form: AvroForm, bytes: &[u8]) -> Result<String, Undecodable> {
    let mut out = Vec::new();
    schema.write_json(bytes, form, &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn shown(schema: &str, bytes: &[u8]) -> String {
    shown_as(&parsed(schema), AvroForm::Plain, bytes).unwrap()
}

fn undecodable(schema: &str, bytes: &[u8]) -> String {
    shown_as(&parsed(schema), AvroForm::Plain, bytes).unwrap_err().to_string()
}

fn read_as(schema: &Schema, form: AvroForm, json: &str) -> Result<Vec<u8>, Unfit> {
    let mut out = Vec::new();
    schema.read_json(json, form, &mut out).map(|()| out)
}

fn read(schema: &str, json: &str) -> Vec<u8> {
    read_as(&parsed(schema), AvroForm::Plain, json).unwrap()
}

fn unfit(schema: &str, json: &str) -> String {
    read_as(&parsed(schema), AvroForm::Plain, json).unwrap_err().to_string()
}

/// Bytes and JSON, both ways.
fn both_ways(schema: &str, bytes: &[u8], json: &str) {
    assert_eq!(shown(schema, bytes), json, "{schema}");
    assert_eq!(read(schema, json), bytes, "{schema} {json}");
}

fn logical(kind: &str, logical: &str) -> String {
    format!(r#"{{"type":{kind},"logicalType":"{logical}"}}"#)
}

/// The examples of the specification, "Binary encoding".
#[test]
fn the_specifications_examples_are_read_and_written() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (-1, &[0x01]),
        (1, &[0x02]),
        (-2, &[0x03]),
        (2, &[0x04]),
        (-64, &[0x7f]),
        (64, &[0x80, 0x01]),
    ] {
        both_ways("\"int\"", bytes, &value.to_string());
        both_ways("\"long\"", bytes, &value.to_string());
    }
    both_ways("\"string\"", b"\x06foo", "\"foo\"");
    let record =
        r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    both_ways(record, b"\x36\x06foo", r#"{"a":27,"b":"foo"}"#);
    let foo = r#"{"type": "enum", "name": "Foo", "symbols": ["A", "B", "C", "D"] }"#;
    both_ways(foo, b"\x06", "\"D\"");
    both_ways(r#"{"type": "array", "items": "long"}"#, b"\x04\x06\x36\x00", "[3,27]");
    both_ways(r#"["null","string"]"#, b"\x00", "null");
    both_ways(r#"["null","string"]"#, b"\x02\x02a", "\"a\"");
    // "JSON encoding".
    let union = parsed(r#"["null","string",{"type":"record","name":"Foo","fields":[]}]"#);
    assert_eq!(shown_as(&union, AvroForm::Specification, b"\x00").unwrap(), "null");
    assert_eq!(shown_as(&union, AvroForm::Specification, b"\x02\x02a").unwrap(), r#"{"string":"a"}"#);
    assert_eq!(shown_as(&union, AvroForm::Specification, b"\x04").unwrap(), r#"{"Foo":{}}"#);
    let bytes = parsed("\"bytes\"");
    assert_eq!(shown_as(&bytes, AvroForm::Specification, b"\x04\xffA").unwrap(), r#""\u00ffA""#);
    assert_eq!(read_as(&bytes, AvroForm::Specification, r#""\u00FFA""#).unwrap(), b"\x04\xffA");
    assert_eq!(read_as(&bytes, AvroForm::Specification, r#""ÿA""#).unwrap(), b"\x04\xffA");
}

#[test]
fn numbers_are_exact() {
    both_ways("\"long\"", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "-9223372036854775808");
    both_ways("\"long\"", b"\x82\x80\x80\x80\x80\x80\x80\x20", "9007199254740993");
    both_ways("\"float\"", &0.1f32.to_le_bytes(), "0.1");
    both_ways("\"float\"", &f32::MAX.to_le_bytes(), "3.4028235e+38");
    both_ways("\"double\"", &(-0.0f64).to_le_bytes(), "-0.0");
    both_ways("\"double\"", &5e-324f64.to_le_bytes(), "5e-324");
    both_ways("\"double\"", &f64::NEG_INFINITY.to_le_bytes(), "\"-Infinity\"");
    both_ways("\"float\"", &f32::INFINITY.to_le_bytes(), "\"Infinity\"");
    assert_eq!(shown("\"double\"", &f64::NAN.to_le_bytes()), "\"NaN\"");
    assert!(f64::from_le_bytes(read("\"double\"", "\"NaN\"").try_into().unwrap()).is_nan());
    assert_eq!(read("\"double\"", "5"), 5f64.to_le_bytes());
    for (schema, json) in [
        ("\"int\"", "2147483648"),
        ("\"int\"", "1.0"),
        ("\"int\"", "\"1\""),
        ("\"long\"", "1e3"),
        ("\"long\"", "9223372036854775808"),
        ("\"float\"", "1e39"),
        ("\"double\"", "1e400"),
        ("\"double\"", "\"nan\""),
    ] {
        assert!(unfit(schema, json).contains("expected"), "{schema} {json}");
    }
}

#[test]
fn logical_types_are_shown_as_people_read_them() {
    let long = |value: i64| {
        let mut bytes = Vec::new();
        crate::record::varint::write(&mut bytes, value);
        bytes
    };
    for (kind, name, value, json) in [
        ("int", "date", 20_782, "\"2026-11-25\""),
        ("int", "date", -719_528, "\"0000-01-01\""),
        ("int", "date", 2_932_896, "\"9999-12-31\""),
        ("int", "date", 2_932_897, "2932897"),
        ("int", "date", -719_529, "-719529"),
        ("int", "date", i64::from(i32::MIN), "-2147483648"),
        ("int", "time-millis", 49_530_007, "\"13:45:30.007\""),
        ("int", "time-millis", 86_400_000, "86400000"),
        ("int", "time-millis", -1, "-1"),
        ("long", "time-micros", 86_399_999_999, "\"23:59:59.999999\""),
        ("long", "timestamp-millis", 0, "\"1970-01-01T00:00:00.000Z\""),
        ("long", "timestamp-millis", -1, "\"1969-12-31T23:59:59.999Z\""),
        ("long", "timestamp-micros", 1_795_418_062_647_123, "\"2026-11-23T07:14:22.647123Z\""),
        ("long", "timestamp-nanos", 951_782_400_000_000_001, "\"2000-02-29T00:00:00.000000001Z\""),
        ("long", "timestamp-millis", i64::MAX, "9223372036854775807"),
        ("long", "timestamp-micros", i64::MIN, "-9223372036854775808"),
        ("long", "local-timestamp-millis", 1_000, "\"1970-01-01T00:00:01.000\""),
        ("long", "local-timestamp-micros", 1, "\"1970-01-01T00:00:00.000001\""),
        ("long", "local-timestamp-nanos", 1, "\"1970-01-01T00:00:00.000000001\""),
    ] {
        both_ways(&logical(&format!("\"{kind}\""), name), &long(value), json);
    }
    let date = logical("\"int\"", "date");
    assert_eq!(read(&date, "20782"), long(20_782), "a number is the days themselves");
    let timestamp = logical("\"long\"", "timestamp-millis");
    assert_eq!(read(&timestamp, "\"1970-01-01T01:00:00+01:00\""), long(0));
    assert!(unfit(&timestamp, "\"1970-01-01T00:00:00.0001Z\"").contains("milliseconds at most"));
    assert!(unfit(&timestamp, "\"1970-01-01T00:00:00\"").contains("expected a timestamp"), "it has no time zone");
    assert!(unfit(&date, "\"2026-02-29\"").contains("expected a date"));

    let decimal = |precision: u32, scale: u32| {
        format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
    };
    for (precision, scale, bytes, json) in [
        (5, 2, &b"\x04\x30\x39"[..], "\"123.45\""),
        (5, 2, b"\x04\xcf\xc7", "\"-123.45\""),
        (5, 2, b"\x02\x00", "\"0.00\""),
        (5, 2, b"\x02\x01", "\"0.01\""),
        (5, 5, b"\x02\xff", "\"-0.00001\""),
        (3, 0, b"\x02\x80", "\"-128\""),
        (3, 0, b"\x04\x00\x80", "\"128\""),
        (39, 0, b"\x20\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "\"-170141183460469231731687303715884105728\""),
    ] {
        both_ways(&decimal(precision, scale), bytes, json);
    }
    let price = decimal(5, 2);
    assert_eq!(read(&price, "123.450"), read(&price, "\"123.45\""));
    assert_eq!(read(&price, "1e2"), read(&price, "\"100\""));
    for json in ["1234.56", "0.001", "\"1,5\"", "\"\"", "\"-\"", "null", "\".5\"", "1e999999999", "\"1e99999999999\""] {
        assert!(unfit(&price, json).contains("a decimal of at most 5 digits"), "{json}");
    }
    let fixed = r#"{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9,"scale":1}"#;
    both_ways(fixed, b"\xff\xff\xff\xfb", "\"-0.5\"");
    both_ways(fixed, b"\x00\x00\x00\x05", "\"0.5\"");

    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    both_ways(uuid, &[0xab; 16], "\"abababab-abab-abab-abab-abababababab\"");
    both_ways(&logical("\"string\"", "uuid"), b"\x02x", "\"x\"");
    let duration = r#"{"type":"fixed","name":"L","size":12,"logicalType":"duration"}"#;
    both_ways(duration, b"\x01\0\0\0\x02\0\0\0\xbc\x0b\0\0", "\"P1M2DT3.004S\"");
    both_ways(duration, &[0xff; 12], "\"P4294967295M4294967295DT4294967.295S\"");
    assert_eq!(read(duration, "\"P1Y2W\""), b"\x0c\0\0\0\x0e\0\0\0\0\0\0\0");
    assert_eq!(read(duration, "\"PT1H1M1.5S\""), b"\0\0\0\0\0\0\0\0\xbc\xde\x37\0");
    for json in
        ["\"\"", "\"P\"", "\"PT\"", "\"P1S\"", "\"P1D1M\"", "\"P1.5M\"", "\"PT1.2345S\"", "\"P4294967296D\"", "\"Pé\""]
    {
        assert!(unfit(duration, json).contains("a duration such as"), "{json}");
    }
}

#[test]
fn long_decimals_are_exact() {
    let schema = r#"{"type":"bytes","logicalType":"decimal","precision":2466,"scale":7}"#;
    for bits in [127, 128, 129, 191, 192, 1_000, 8_191] {
        // 2 to the power of bits, minus 1 and negative, by repeated doubling of its digits.
        let mut digits = vec![1u8];
        for _ in 0..bits {
            let mut carry = 0;
            for digit in digits.iter_mut().rev() {
                let doubled = *digit * 2 + carry;
                (*digit, carry) = (doubled % 10, doubled / 10);
            }
            if carry > 0 {
                digits.insert(0, carry);
            }
        }
        let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let (whole, fraction) = text.split_at(text.len() - 7);
        let negative = format!("\"-{whole}.{fraction}\"");
        let bytes = read(schema, &negative);
        assert_eq!(shown(schema, &bytes), negative);
        // -2^n is a sign bit and zeros.
        let mut expected = vec![0xffu8.wrapping_shl(bits % 8)];
        expected.resize(1 + bits as usize / 8, 0);
        let mut framed = Vec::new();
        crate::record::varint::write_bytes(&mut framed, Some(&expected));
        assert_eq!(bytes, framed, "{bits}");
    }
    let too_long = [&b"\x84\x10"[..], &[0x55; 1_026]].concat();
    assert!(undecodable(schema, &too_long).contains("longer than any"));
}

#[test]
fn a_logical_type_that_does_not_fit_is_ignored() {
    for schema in [
        r#"{"type":"bytes","logicalType":"decimal"}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":0}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":1000000000}"#,
        r#"{"type":"bytes","logicalType":"date"}"#,
        r#"{"type":"bytes","logicalType":"whatever"}"#,
    ] {
        both_ways(schema, b"\x02a", "\"YQ==\"");
    }
    both_ways(r#"{"type":"fixed","name":"F","size":1,"logicalType":"decimal","precision":3}"#, b"a", "\"YQ==\"");
    both_ways(r#"{"type":"fixed","name":"F","size":1,"logicalType":"uuid"}"#, b"a", "\"YQ==\"");
    both_ways(&logical("\"long\"", "date"), b"\x02", "1");
}

#[test]
fn a_branch_of_a_union_is_named_only_where_json_does_not_tell_it() {
    let a = r#"{"type":"record","name":"x.A","fields":[{"name":"n","type":"int"}]}"#;
    let b =
        r#"{"type":"record","name":"x.B","fields":[{"name":"n","type":"int"},{"name":"m","type":"int","default":0}]}"#;
    let double = |value: f64| [&b"\x02"[..], &value.to_le_bytes()].concat();
    both_ways(&format!("[\"null\",{a}]"), b"\x02\x02", r#"{"n":1}"#);
    both_ways(&format!("[\"null\",{a},{b}]"), b"\x02\x02", r#"{"x.A":{"n":1}}"#);
    both_ways(&format!("[\"null\",{a},{b}]"), b"\x04\x02\x04", r#"{"x.B":{"n":1,"m":2}}"#);
    both_ways(r#"["null","string","bytes"]"#, b"\x02\x02a", r#"{"string":"a"}"#);
    both_ways(r#"["null","string","bytes"]"#, b"\x04\x02a", r#"{"bytes":"YQ=="}"#);
    both_ways(r#"["int","string","boolean"]"#, b"\x00\x02", "1");
    both_ways(r#"["int","long"]"#, b"\x02\x02", r#"{"long":1}"#);
    // What is not a number in JSON, and dates beyond RFC 3339.
    both_ways(r#"["string","double"]"#, &double(1.5), "1.5");
    both_ways(r#"["string","double"]"#, &double(f64::INFINITY), r#"{"double":"Infinity"}"#);
    both_ways(r#"["string","double"]"#, b"\x00\x10Infinity", "\"Infinity\"");
    both_ways(r#"["null","double"]"#, &double(f64::INFINITY), "\"Infinity\"");
    let date = r#"["long",{"type":"int","logicalType":"date"}]"#;
    both_ways(date, b"\x02\x00", "\"1970-01-01\"");
    both_ways(date, b"\x02\xff\xff\xff\xff\x0f", r#"{"int":-2147483648}"#);
    both_ways(date, b"\x00\x02", "1");
    // With a tag anywhere, objects have one too.
    let tagged = format!(r#"[{a},"string","bytes"]"#);
    both_ways(&tagged, b"\x00\x02", r#"{"x.A":{"n":1}}"#);

    // What is not as kpipe writes it, but clear.
    assert_eq!(read(&format!("[\"null\",{a}]"), r#"{"x.A":{"n":1}}"#), b"\x02\x02");
    assert_eq!(read(&format!("[{a},{b}]"), r#"{"n":1,"m":2}"#), b"\x02\x02\x04");
    assert_eq!(read(r#"["null",{"type":"map","values":"int"}]"#, r#"{"map":{"a":1}}"#), b"\x02\x02\x02a\x02\x00");
    assert_eq!(read(r#"["null",{"type":"map","values":"int"}]"#, r#"{"map":1}"#), b"\x02\x02\x06map\x02\x00");
    assert_eq!(read(r#"["int","long"]"#, "4294967296"), b"\x02\x80\x80\x80\x80\x20");
    assert_eq!(read(r#"["float","double"]"#, "0.1"), [&b"\x02"[..], &0.1f64.to_le_bytes()].concat());
    assert_eq!(read(r#"["string","bytes"]"#, "\"YQ==\""), b"\x00\x08YQ==");
    assert_eq!(unfit(&format!("[{a},{b}]"), r#"{"n":1}"#), r#"expected {"x.A": …} or {"x.B": …}, found {"n":1}"#);
    assert_eq!(unfit(r#"["null","int"]"#, "true"), "expected null or int, found true");
    assert_eq!(unfit(r#"["int"]"#, "null"), "expected int, found null");
    assert_eq!(unfit(r#"["null","int"]"#, "1.5"), "expected an integer of 32 bits (int), found 1.5");

    let both = parsed(&format!("[\"null\",{a},{b}]"));
    assert_eq!(read_as(&both, AvroForm::Specification, r#"{"x.A":{"n":1}}"#).unwrap(), b"\x02\x02");
    assert!(read_as(&both, AvroForm::Specification, r#"{"n":1}"#).is_err());
}

#[test]
fn a_field_that_is_left_out_takes_its_default() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"int","default":7,"aliases":["old"]},
        {"name":"b","type":["null","string"],"default":null},
        {"name":"c","type":"bytes","default":"\u00ff"},
        {"name":"d","type":{"type":"record","name":"I","fields":[{"name":"x","type":"double","default":1},{"name":"y","type":"int"}]},"default":{"y":2}},
        {"name":"e","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["A","B"]}},"default":["B"]},
        {"name":"f","type":{"type":"int","logicalType":"date"},"default":1},
        {"name":"g","type":["string","null"],"default":"s"},
        {"name":"h","type":"string"}]}"#;
    let json = r#"{"a":7,"b":null,"c":"/w==","d":{"x":1.0,"y":2},"e":["B"],"f":"1970-01-02","g":"s","h":"h"}"#;
    assert_eq!(shown(schema, &read(schema, r#"{"h":"h"}"#)), json);
    assert_eq!(shown(schema, &read(schema, json)), json);
    let turned = r#"{"h":"h", "g":"s","d":{"y":2},"old":7}"#;
    assert_eq!(shown(schema, &read(schema, turned)), json);
    assert_eq!(unfit(schema, "{}"), ".h: missing (record R has no default for it)");
    assert_eq!(unfit(schema, r#"{"h":"h","hh":1}"#), ".hh: record R has no such field; did you mean h?");
    assert_eq!(unfit(schema, r#"{"h":"h","h":"h"}"#), ".h: the field is there twice");
    assert_eq!(unfit(schema, r#"{"h":"h","e":["A","C"]}"#), ".e[1]: expected a symbol of enum E (A, B), found \"C\"");
    assert_eq!(unfit(schema, r#"{"h":"h","d":{"y":"2"}}"#), ".d.y: expected an integer of 32 bits (int), found \"2\"");
    assert!(unfit(schema, "{").contains("not JSON"));
    let wrong = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#;
    assert!(unfit(wrong, "{}").contains(".a: the schema's default does not fit: expected an integer"));
}

#[test]
fn bytes_that_are_not_of_the_schema_are_refused_with_their_field() {
    let order = r#"{"type":"record","name":"Order","fields":[{"name":"items","type":{"type":"array","items":
        {"type":"record","name":"Item","fields":[{"name":"tags","type":{"type":"map","values":"string"}}]}}}]}"#;
    assert_eq!(undecodable(order, b"\x02\x02\x02k\x02\xff"), ".items[0].tags.k: a string is not UTF-8 (at byte 6)");
    for (schema, bytes, why) in [
        ("\"int\"", &b""[..], "the bytes end within a number"),
        ("\"int\"", b"\x80", "the bytes end within a number"),
        ("\"long\"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "the bytes end within a number"),
        ("\"int\"", b"\x80\x80\x80\x80\x10", "an int is out of range"),
        ("\"int\"", b"\x02\x02", "1 more bytes than the schema describes (at byte 1)"),
        ("\"boolean\"", b"\x02", "neither 0 nor 1"),
        ("\"string\"", b"\x01", "a length is -1"),
        ("\"string\"", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes are announced, 0 are left"),
        ("\"double\"", b"\0\0\0", "the bytes end within a number"),
        (r#"["null"]"#, b"\x02", "a union of 1 has no branch 1"),
        (r#"["null"]"#, b"\x01", "a union of 1 has no branch -1"),
        ("[]", b"\x00", "a union of 0 has no branch 0"),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, b"\x02", "enum E has no symbol 1"),
        (r#"{"type":"array","items":"int"}"#, b"\x02", "[0]: the bytes end within a number"),
        (
            r#"{"type":"array","items":"int"}"#,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
            "a block's count is out of range",
        ),
    ] {
        let bad = undecodable(schema, bytes);
        assert!(bad.contains(why), "{schema}: {bad}");
    }
}

#[test]
fn blocks_of_arrays_and_maps_may_have_their_size_before_them() {
    let array = r#"{"type":"array","items":"long"}"#;
    assert_eq!(shown(array, b"\x03\x04\x06\x36\x02\x02\x00"), "[3,27,1]");
    let map = r#"{"type":"map","values":"long"}"#;
    assert_eq!(shown(map, b"\x01\x06\x02a\x02\x02\x02b\x04\x00"), r#"{"a":1,"b":2}"#);
    let many: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    let json = format!("[{}]", many.join(","));
    assert_eq!(shown(array, &read(array, &json)), json);
}

#[test]
fn hostile_schemas_and_bytes_take_neither_memory_nor_time() {
    let huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"; // 2^63 - 1
    let too_much = "far more JSON than a record of this size can be";
    assert!(undecodable(r#"{"type":"array","items":"null"}"#, huge).contains(too_much));
    let empty = r#"{"type":"record","name":"E","fields":[]}"#;
    assert!(undecodable(&format!(r#"{{"type":"array","items":{empty}}}"#), huge).contains(too_much));
    // A record in itself, without end and without a byte.
    let endless = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#;
    assert!(undecodable(endless, b"").contains("nested deeper than 128 levels"));
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    assert!(undecodable(list, &[2; 1_000]).contains("nested deeper than 128 levels"));
    let mut json = "null".to_owned();
    for _ in 0..1_000 {
        json = format!(r#"{{"next":{json}}}"#);
    }
    assert!(unfit(list, &json).contains("nested deeper than 128 levels"));
    // Each record holds two of the next: 2^60 of them, without a byte, and as defaults.
    let mut doubling = String::from(r#"{"type":"record","name":"R0","fields":[]}"#);
    let mut names = Vec::new();
    for n in 1..=60 {
        let inner = format!(
            r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":"R{0}","default":{{}}}},{{"name":"b","type":"R{0}","default":{{}}}}]}}"#,
            n - 1
        );
        names.push(Reference { name: format!("R{}", n - 1), text: std::mem::replace(&mut doubling, inner) });
    }
    let schema = Schema::parse(&doubling, &names).unwrap();
    assert!(shown_as(&schema, AvroForm::Plain, b"").unwrap_err().to_string().contains(too_much));
    assert!(read_as(&schema, AvroForm::Plain, "{}").unwrap_err().to_string().contains("far too many fields"));
    // A huge fixed, and a union with very many branches.
    assert!(undecodable(r#"{"type":"fixed","name":"F","size":18446744073709551615}"#, b"").contains("are announced"));
    let branches: Vec<String> = (0..20_000).map(|n| format!(r#"{{"type":"fixed","name":"F{n}","size":0}}"#)).collect();
    both_ways(&format!("[{}]", branches.join(",")), b"\x02", r#"{"F1":""}"#);
    let symbols: Vec<String> = (0..100_000).map(|n| format!("\"S{n}\"")).collect();
    both_ways(
        &format!(r#"{{"type":"enum","name":"E","symbols":[{}]}}"#, symbols.join(",")),
        b"\xbe\x9a\x0c",
        "\"S99999\"",
    );
}

#[test]
fn nothing_in_the_json_acts_on_a_terminal() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a\u001b\u0085","type":{"type":"map","values":"string"}},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["\u202e\n"]}}]}"#;
    let json = shown(schema, b"\x02\x02\x1b\x0c\xc2\x9b31m\x7f\x00\x00");
    assert_eq!(json, r#"{"a\u001b\u0085":{"\u001b":"\u009b31m\u007f"},"e":"\u202e\n"}"#);
    assert_eq!(read(schema, &json), b"\x02\x02\x1b\x0c\xc2\x9b31m\x7f\x00\x00");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random schemas and values: what apache-avro reads is what the JSON says, and every form is read back to the bytes.
    #[test]
    fn random_values_are_read_as_apache_avro_reads_them(seed: u64) {
        let mut random = Random::new(seed);
        let kind = random.kind(4);
        let text = kind.json().to_string();
        let bytes = random.bytes(&kind);
        let reference = apache_avro::Schema::parse_str(&text).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&reference).build().unwrap();
        let value = reader.read_value(&mut &bytes[..]).unwrap();

        let schema = parsed(&text);
        let specification = shown_as(&schema, AvroForm::Specification, &bytes).unwrap();
        let read: Json = serde_json::from_str(&specification).unwrap();
        prop_assert_eq!(&read, &random.expected(&kind, &value), "{}", text);
        prop_assert_eq!(&read_as(&schema, AvroForm::Specification, &specification).unwrap(), &bytes, "{} {}", text, specification);
        let plain = shown_as(&schema, AvroForm::Plain, &bytes).unwrap();
        prop_assert_eq!(&read_as(&schema, AvroForm::Plain, &plain).unwrap(), &bytes, "{} {}", text, plain);

        // What apache-avro writes, which may order maps otherwise.
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&reference).build().unwrap();
        let written = writer.write_value_to_vec(value.clone()).unwrap();
        let again: Json = serde_json::from_str(&shown_as(&schema, AvroForm::Specification, &written).unwrap()).unwrap();
        prop_assert_eq!(again, read);
    }

    /// Damaged bytes are refused, or are a value that is read back: nothing panics.
    #[test]
    fn damaged_bytes_do_no_harm(seed: u64, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index) {
        let mut random = Random::new(seed);
        let kind = random.kind(4);
        let mut bytes = random.bytes(&kind);
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        let schema = parsed(&kind.json().to_string());
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)]] {
            for form in [AvroForm::Plain, AvroForm::Specification] {
                if let Ok(json) = shown_as(&schema, form, bytes) {
                    serde_json::from_str::<Json>(&json).unwrap();
                    let again = read_as(&schema, form, &json).map(|bytes| shown_as(&schema, form, &bytes).unwrap());
                    if let Ok(again) = again {
                        prop_assert_eq!(again, json);
                    }
                }
            }
        }
    }

    #[test]
    fn times_are_written_as_jiff_writes_them(millis in -62_167_219_200_000..253_402_207_200_000i64, nanos: i64) {
        let schema = parsed(&logical("\"long\"", "timestamp-millis"));
        let mut bytes = Vec::new();
        crate::record::varint::write(&mut bytes, millis);
        let expected = format!("\"{:.3}\"", jiff::Timestamp::from_millisecond(millis).unwrap());
        prop_assert_eq!(shown_as(&schema, AvroForm::Plain, &bytes).unwrap(), expected);
        let schema = parsed(&logical("\"long\"", "timestamp-nanos"));
        bytes.clear();
        crate::record::varint::write(&mut bytes, nanos);
        let expected = format!("\"{:.9}\"", jiff::Timestamp::from_nanosecond(nanos.into()).unwrap());
        prop_assert_eq!(shown_as(&schema, AvroForm::Plain, &bytes).unwrap(), expected);
    }
}
