//! Schemas themselves: names, references, imports and faults.

use super::*;

#[test]
fn names_are_found_in_their_namespaces() {
    let schema = r#"{"type":"record","name":"R","namespace":"a.b","fields":[
        {"name":"x","type":{"type":"fixed","name":"F","size":1}},
        {"name":"y","type":{"type":"record","name":"c.Inner","fields":[{"name":"z","type":"a.b.F"},{"name":"w","type":{"type":"enum","name":"E","symbols":["S"]}}]}},
        {"name":"e","type":["null","c.E"]},
        {"name":"f","type":["null","F","R"]}]}"#;
    let parsed = parsed(schema);
    assert_eq!(parsed.full_name(), Some("a.b.R"));
    let bytes = b"ab\x00\x02\x00\x02c";
    both_ways(schema, bytes, r#"{"x":"YQ==","y":{"z":"Yg==","w":"S"},"e":"S","f":"Yw=="}"#);
    let specification = shown_as(&parsed, AvroForm::Specification, bytes).unwrap();
    assert_eq!(specification, r#"{"x":"a","y":{"z":"b","w":"S"},"e":{"c.E":"S"},"f":{"a.b.F":"c"}}"#);
    assert_eq!(read_as(&parsed, AvroForm::Specification, &specification).unwrap(), bytes);
    // A name in no namespace, used in one.
    let outer = r#"{"type":"record","name":"Top","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":1}},
        {"name":"b","type":{"type":"record","name":"n.I","fields":[{"name":"c","type":"F"}]}}]}"#;
    both_ways(outer, b"ab", r#"{"a":"YQ==","b":{"c":"Yg=="}}"#);
}

#[test]
fn types_of_other_schemas_are_used_by_name() {
    let reference = |name: &str, text: &str| Reference { name: name.to_owned(), text: text.to_owned() };
    let references = [
        reference(
            "n.Inner",
            r#"{"type":"record","name":"Inner","namespace":"n","fields":[{"name":"i","type":"int"}]}"#,
        ),
        reference(
            "n.Outer",
            r#"{"type":"record","name":"Outer","namespace":"n","fields":[{"name":"o","type":"Inner"}]}"#,
        ),
        reference(
            "n.Inner",
            r#"{"type":"record","name":"Inner","namespace":"n","fields":[{"name":"i","type":"int"}]}"#,
        ),
    ];
    let schema = r#"{"type":"array","items":["n.Outer","null"]}"#;
    let parsed = Schema::parse(schema, &references).unwrap();
    assert_eq!(shown_as(&parsed, AvroForm::Plain, b"\x04\x00\x02\x02\x00").unwrap(), r#"[{"o":{"i":1}},null]"#);
    let missing = Schema::parse(schema, &references[..1]).unwrap_err();
    assert_eq!(missing.to_string(), "unknown type \"n.Outer\"");
    let missing = Schema::parse(schema, &references[1..2]).unwrap_err();
    assert_eq!(missing.to_string(), "reference \"n.Outer\": record n.Outer: field o: unknown type \"Inner\"");
}

#[test]
fn an_invalid_schema_is_refused_with_its_fault() {
    for (schema, why) in [
        ("", "not a schema in JSON"),
        ("{", "not a schema in JSON"),
        ("5", "expected a type, found 5"),
        ("\"nothing\"", "unknown type \"nothing\""),
        ("{}", "has no \"type\""),
        (r#"{"type":"record","fields":[]}"#, "has no name"),
        (r#"{"type":"record","name":"R"}"#, "record R: it has no list \"fields\""),
        (r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#, "record R: a field has no name"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "record R: field a: it has no type"),
        (r#"{"type":"record","name":"int","fields":[]}"#, "a primitive type"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "field a stands there twice",
        ),
        (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "enum E: a symbol stands there twice"),
        (r#"{"type":"enum","name":"E"}"#, "it has no list \"symbols\""),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "fixed F: its size is not"),
        (r#"{"type":"array"}"#, "an array has no \"items\""),
        (r#"{"type":"map"}"#, "a map has no \"values\""),
        (r#"["int",["null"]]"#, "a union stands directly in a union"),
        (r#"["int","int"]"#, "a union has int twice"),
        (
            r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#,
            "type \"F\" is defined twice",
        ),
    ] {
        let bad = Schema::parse(schema, &[]).unwrap_err().to_string();
        assert!(bad.contains(why), "{schema}: {bad}");
    }
    assert!(Schema::parse(" string \n", &[]).is_ok());
    assert!(Schema::parse(r#"{"type":{"type":"string"}}"#, &[]).is_ok());
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(1_000), "}".repeat(1_000));
    assert!(Schema::parse(&deep, &[]).unwrap_err().to_string().contains("recursion limit"));
}
