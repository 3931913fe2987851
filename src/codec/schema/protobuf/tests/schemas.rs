//! Schemas themselves: names, references, imports and faults.

use super::*;

#[test]
fn messages_are_chosen_by_path_or_name() {
    let schema = shop();
    let name_of = |path: &[i32]| {
        let message = schema.message(MessageChoice::Path(path)).map_err(|e| e.to_string())?;
        assert_eq!(schema.path(message), Some(path));
        Ok::<_, String>(schema.full_name(message).unwrap())
    };
    assert_eq!(name_of(&[0]), Ok("shop.v1.Order"));
    assert_eq!(name_of(&[1]), Ok("shop.v1.Scalars"));
    assert_eq!(name_of(&[0, 0]), Ok("shop.v1.Order.Cash"), "entries of maps are not counted");
    assert_eq!(name_of(&[0, 1, 0]), Ok("shop.v1.Order.Item.Detail"));
    for path in [&[][..], &[2], &[-1], &[0, 3], &[0, 0, 0]] {
        assert!(name_of(path).unwrap_err().contains("no message with the indexes"), "{path:?}");
    }
    assert_eq!(schema.full_name(MessageId::default()), Some("shop.v1.Order"));
    let by_name = |name| schema.message(MessageChoice::Name(name));
    assert_eq!(by_name("shop.v1.Scalars"), by_name("Scalars"));
    let imported = by_name("google.protobuf.Timestamp").unwrap();
    assert_eq!(schema.path(imported), None);
    assert_eq!(by_name("Nothing").unwrap_err().to_string(), "the schema has no message \"Nothing\"");
    let empty = parsed("syntax = \"proto3\";");
    assert!(Of(&empty, MessageId::default()).undecodable(b"").contains("has no message"));
}

#[test]
fn imports_are_given_by_name() {
    let reference = |name: &str, text: &str| Reference { name: name.to_owned(), text: text.to_owned() };
    let references = [
        reference("b/b.proto", "syntax = \"proto3\"; package b; import \"c.proto\"; message B { c.C c = 1; }"),
        reference("c.proto", "syntax = \"proto3\"; package c; message C { int32 n = 1; }"),
    ];
    let text = "syntax = \"proto3\"; import \"b/b.proto\"; message A { b.B b = 1; }";
    let schema = Schema::parse(text, &references).unwrap();
    Of::named(&schema, "A").both_ways(b"\x0a\x04\x0a\x02\x08\x01", r#"{"b":{"c":{"n":1}}}"#);
    assert_eq!(schema.full_name(MessageId::default()), Some("A"));
    let missing = Schema::parse(text, &references[..1]).unwrap_err().to_string();
    assert!(missing.contains("c.proto"), "{missing}");
    let circle = [reference("b/b.proto", "syntax = \"proto3\"; import \"b/b.proto\";")];
    assert!(Schema::parse(text, &circle).is_err());
    let loaded = Schema::load("a.proto", text, move |name| {
        Ok(references.iter().find(|reference| reference.name == name).map(|reference| reference.text.clone()))
    });
    assert_eq!(loaded.unwrap().full_name(MessageId::default()), Some("A"));
    let denied = Schema::load("a.proto", text, |_| Err(BadSchema::new("permission denied"))).unwrap_err().to_string();
    assert!(denied.contains("permission denied"), "{denied}");
}

#[test]
fn what_confluents_registry_knows_needs_no_reference() {
    let schema = parsed(
        r#"syntax = "proto3";
        import "confluent/meta.proto";
        import "confluent/type/decimal.proto";
        import "google/type/date.proto";
        import "google/type/timeofday.proto";
        message M {
            option (confluent.message_meta) = { doc: "of a sale", params: [{ key: "k", value: "v" }] };
            confluent.type.Decimal price = 1 [(confluent.field_meta) = { tags: ["PII"] }];
            google.type.Date day = 2;
            google.type.TimeOfDay at = 3;
        }"#,
    );
    let json = r#"{"price":{"value":"AQ==","precision":3,"scale":-1},"day":{"year":2026,"month":11},"at":{"hours":23,"nanos":1}}"#;
    let m = Of::named(&schema, "M");
    assert_eq!(m.shown(&m.read(json).unwrap()), json);
}

#[test]
fn descriptors_are_taken_too() {
    let schema = shop();
    let set = schema.file.parent_pool().encode_to_vec();
    let again = Schema::of_descriptor_set(&set).unwrap();
    assert_eq!(again.full_name(MessageId::default()), Some("shop.v1.Order"));
    Of::named(&again, "Order").both_ways(b"\x08\x01", r#"{"id":"1"}"#);
    // As Confluent's Python client registers it.
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(schema.file.encode_to_vec());
    assert_eq!(parsed(&text).full_name(MessageId::default()), Some("shop.v1.Order"));
    for bytes in [&b""[..], b"\xff", b"\x0a\x02\xff\xff"] {
        assert!(Schema::of_descriptor_set(bytes).unwrap_err().to_string().contains("not a set of file descriptors"));
    }
}

#[test]
fn an_invalid_schema_is_refused_with_its_fault() {
    for (text, why) in [
        ("nonsense", "expected"),
        ("syntax = \"proto3\"; message A { B b = 1; }", "B"),
        ("syntax = \"proto3\"; message A { int32 a = 1; int32 b = 1; }", "1"),
        ("edition = \"2023\"; message A { int32 a = 1; }", "edition"),
    ] {
        let bad = Schema::parse(text, &[]).unwrap_err().to_string();
        assert!(bad.contains(why), "{text}: {bad}");
    }
    let deep = format!("syntax = \"proto3\"; {}{}", "message A {".repeat(10_000), "}".repeat(10_000));
    assert!(Schema::parse(&deep, &[]).is_err());
}
