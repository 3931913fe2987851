//! JSON Schema: the bytes are JSON, which a schema may refuse.

#[cfg(feature = "json-schema")]
mod validator;
#[cfg(not(feature = "json-schema"))]
mod without_validator;

#[cfg(feature = "json-schema")]
use validator::Validator;
#[cfg(not(feature = "json-schema"))]
use without_validator::Validator;

use super::{BadSchema, Reference, Undecodable, Unfit};
use crate::codec::embedded::write_on_one_line;
use serde_json::Value;
use serde_json::value::RawValue;

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    title: Option<String>,
}

impl Schema {
    /// Parses a schema. `references` are all that it refers to, also through others. Nothing is fetched.
    ///
    /// # Errors
    /// The schema or a reference is invalid, or one is missing.
    pub fn parse(text: &str, references: &[Reference]) -> Result<Self, BadSchema> {
        let schema: Value =
            serde_json::from_str(text).map_err(|e| BadSchema::new(format!("not a schema in JSON: {e}")))?;
        let validator = Validator::new(&schema, references)?;
        let title = schema.get("title").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { validator, title })
    }

    /// What the schema calls its values.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Appends the JSON that `bytes` are, on one line.
    ///
    /// # Errors
    /// They are not JSON.
    pub fn write_json(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
        let json: &RawValue = serde_json::from_slice(bytes).map_err(|e| Undecodable::new(format!("not JSON: {e}")))?;
        write_on_one_line(out, json.get().as_bytes());
        Ok(())
    }

    /// Appends a JSON text, which has to be valid.
    ///
    /// # Errors
    /// It is not.
    pub fn read_json(&self, json: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
        self.validate(json)?;
        out.extend_from_slice(json.trim().as_bytes());
        Ok(())
    }

    /// Checks a JSON text.
    ///
    /// # Errors
    /// It is not valid, with the first fault and its field.
    pub fn validate(&self, json: &str) -> Result<(), Unfit> {
        let value: Value = serde_json::from_str(json).map_err(|e| Unfit::new(format!("not JSON: {e}")))?;
        self.validator.validate(&value)
    }
}

#[cfg(all(test, feature = "json-schema"))]
mod tests {
    use super::*;

    #[allow(clippy::unwrap_used)]
    fn parsed(text: &str) -> Schema {
        Schema::parse(text, &[]).unwrap()
    }

    const ORDER: &str = r#"{"title":"Order","type":"object","properties":{"id":{"type":"integer"},
        "items":{"type":"array","items":{"type":"object","required":["sku"]}},"code":{"pattern":"^(?!x)[a-z]+$"}}}"#;

    #[test]
    fn json_is_passed_on_where_it_is_valid() {
        let schema = parsed(ORDER);
        assert_eq!(schema.title(), Some("Order"));
        let (mut bytes, mut json) = (Vec::new(), Vec::new());
        schema.read_json(" {\"id\": 12345678901234567890123} ", &mut bytes).unwrap();
        assert_eq!(bytes, b"{\"id\": 12345678901234567890123}");
        schema.write_json(b"{\"id\":\n1,\"s\":\"\x7f\xc2\x9b\"}", &mut json).unwrap();
        assert_eq!(json, br#"{"id": 1,"s":"\u007f\u009b"}"#);
        assert!(schema.write_json(b"{", &mut json).unwrap_err().to_string().contains("not JSON"));
        assert!(schema.write_json(b"\"\xff\"", &mut json).is_err());
        for (json, why) in [
            (r#"{"id":"1"}"#, ".id: the value is not of type \"integer\""),
            (r#"{"items":[{"sku":1},{}]}"#, ".items[1]: \"sku\" is a required property"),
            (r#"{"code":"xa"}"#, ".code: the value does not match"),
            ("[]", "the value is not of type \"object\""),
            ("{", "not JSON"),
        ] {
            let unfit = schema.read_json(json, &mut bytes).unwrap_err().to_string();
            assert!(unfit.starts_with(why), "{json}: {unfit}");
        }
    }

    #[test]
    fn references_are_found_by_their_names_and_never_fetched() {
        let reference = |name: &str, text: &str| Reference { name: name.to_owned(), text: text.to_owned() };
        let references = [
            reference(
                "item.json",
                r#"{"type":"object","properties":{"price":{"$ref":"http://x.example/price.json#/$defs/p"}}}"#,
            ),
            reference("http://x.example/price.json", r#"{"$defs":{"p":{"type":"number"}}}"#),
        ];
        for id in ["", r#""$id":"http://y.example/order.json","#] {
            let text = format!(r#"{{{id}"properties":{{"item":{{"$ref":"item.json"}}}}}}"#);
            let schema = Schema::parse(&text, &references).unwrap();
            assert!(schema.validate(r#"{"item":{"price":1}}"#).is_ok());
            let unfit = schema.validate(r#"{"item":{"price":"1"}}"#).unwrap_err();
            assert_eq!(unfit.path(), ".item.price");
            let missing = Schema::parse(&text, &references[..1]).unwrap_err().to_string();
            assert!(missing.contains("http://x.example/price.json"), "{missing}");
        }
    }

    #[test]
    fn an_invalid_schema_is_refused() {
        for (text, why) in [
            ("{", "not a schema in JSON"),
            (r#"{"type":"nothing"}"#, "nothing"),
            (r##"{"$ref":"#/$defs/none"}"##, "none"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "not among its references"),
            (r#"{"pattern":"("}"#, "("),
        ] {
            let bad = Schema::parse(text, &[]).unwrap_err().to_string();
            assert!(bad.contains(why), "{text}: {bad}");
        }
    }

    #[test]
    fn hostile_schemas_take_neither_memory_nor_time() {
        let slow = parsed(r#"{"pattern":"^(a|aa)+(?=b)c$"}"#);
        assert!(slow.validate(&format!("\"{}\"", "a".repeat(10_000))).is_err());
        // A schema that is itself, without end.
        for text in [r##"{"$ref":"#"}"##, r##"{"allOf":[{"$ref":"#"}]}"##, r##"{"not":{"$ref":"#"}}"##] {
            if let Ok(schema) = Schema::parse(text, &[]) {
                let _ = schema.validate("1");
            }
        }
    }
}
