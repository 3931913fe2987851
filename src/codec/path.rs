//! Fields of JSON values, found by scanning: no tree is built, and what is not on the way is only skipped.

use memchr::memchr2;
use std::borrow::Cow;
use std::fmt;

/// Where a field stands in a JSON value, as jq writes it: `.user.id`, `.items[0].name`, `."odd name"`, or `.` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text.strip_prefix('.').ok_or("a path begins with a dot, like .user.id")?;
        let mut steps = Vec::new();
        let mut is_after_dot = true;
        while !rest.is_empty() {
            rest = match rest.strip_prefix('[') {
                Some(inner) => bracketed(inner, &mut steps)?,
                None if is_after_dot => field(rest, &mut steps)?,
                None => rest,
            };
            if rest.is_empty() {
                break;
            }
            match rest.strip_prefix('.') {
                Some("") => return Err("a path does not end with a dot".to_owned()),
                Some(next) => (rest, is_after_dot) = (next, true),
                None if rest.starts_with('[') => is_after_dot = false,
                None => return Err(format!("expected . or [ before {rest:?}")),
            }
        }
        Ok(Self { text: text.to_owned(), steps })
    }
}

/// Takes a name, plain or quoted.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    if text.starts_with('"') {
        return quoted(text, steps);
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '$'))).unwrap_or(text.len());
    if end == 0 {
        return Err(format!("expected a field name before {text:?} (quote other characters: .\"odd name\")"));
    }
    steps.push(Step::Field(text[..end].to_owned()));
    Ok(&text[end..])
}

/// Takes a name in quotes, with JSON's escapes.
fn quoted<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let not_closed = || "a quoted field name is not closed".to_owned();
    let end = end_of_string(text.as_bytes(), 0).ok_or_else(not_closed)?;
    let name = serde_json::from_str(&text[..end]).map_err(|_| format!("{} is not a JSON string", &text[..end]))?;
    steps.push(Step::Field(name));
    Ok(&text[end..])
}

/// Takes an index or a quoted name, and the bracket behind it.
fn bracketed<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let rest = if text.starts_with('"') {
        quoted(text, steps)?
    } else {
        let end = text.find(']').unwrap_or(text.len());
        let index = text[..end].parse().map_err(|_| format!("expected an index in [{}]", &text[..end]))?;
        steps.push(Step::Index(index));
        &text[end..]
    };
    rest.strip_prefix(']').ok_or_else(|| "a bracket is not closed".to_owned())
}

impl Path {
    /// The JSON of the field in `json`, as it stands there; `None` where there is no such field, or where the scan meets
    /// what is not JSON. Of repeated fields the first counts. What stands beside and behind the field is not checked.
    #[inline]
    pub fn find<'a>(&self, json: &'a [u8]) -> Option<&'a [u8]> {
        self.walk(json, member)
    }

    /// As [`Path::find`], but of repeated fields the last counts, as it does to jq.
    pub fn find_last<'a>(&self, json: &'a [u8]) -> Option<&'a [u8]> {
        self.walk(json, last_member)
    }

    /// Goes the steps, with `member` to find the value of a field.
    #[inline]
    fn walk<'a>(&self, json: &'a [u8], member: impl Fn(&[u8], usize, &[u8]) -> Option<usize>) -> Option<&'a [u8]> {
        let mut at = skip_space(json, 0);
        for step in &self.steps {
            at = match step {
                Step::Field(name) => member(json, at, name.as_bytes())?,
                Step::Index(index) => element(json, at, *index)?,
            };
        }
        let end = end_of_value(json, at)?;
        Some(&json[at..end])
    }
}

/// Appends the text of a JSON value: a string without its quotes and escapes, any other value as it stands.
///
/// # Errors
/// It is not a valid string.
pub fn write_text(out: &mut Vec<u8>, json: &[u8]) -> Result<(), serde_json::Error> {
    match json {
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => out.extend_from_slice(inner),
        [b'"', ..] => out.extend_from_slice(serde_json::from_slice::<super::Str<'_>>(json)?.0.as_bytes()),
        _ => out.extend_from_slice(json),
    }
    Ok(())
}

/// Where the value of the member `name` begins, in the object that begins at `at`.
fn member(json: &[u8], mut at: usize, name: &[u8]) -> Option<usize> {
    at = skip_space(json, expect(json, at, b'{')?);
    loop {
        let is_found;
        (is_found, at) = value_of(json, at, name)?;
        if is_found {
            return Some(at);
        }
        at = skip_space(json, end_of_value(json, at)?);
        at = skip_space(json, expect(json, at, b',')?);
    }
}

/// Where the value of the last member `name` begins, in the object that begins at `at`.
fn last_member(json: &[u8], mut at: usize, name: &[u8]) -> Option<usize> {
    at = skip_space(json, expect(json, at, b'{')?);
    let mut found = None;
    loop {
        let is_found;
        (is_found, at) = value_of(json, at, name)?;
        if is_found {
            found = Some(at);
        }
        at = skip_space(json, end_of_value(json, at)?);
        match json.get(at)? {
            b',' => at = skip_space(json, at + 1),
            b'}' => return found,
            _ => return None,
        }
    }
}

/// Whether the member that begins at `at` is called `name`, and where its value begins.
#[inline]
fn value_of(json: &[u8], at: usize, name: &[u8]) -> Option<(bool, usize)> {
    let name_end = end_of_string(json, at)?;
    let is_found = is_name(&json[at..name_end], name);
    Some((is_found, skip_space(json, expect(json, skip_space(json, name_end), b':')?)))
}

/// Where an element begins, in the array that begins at `at`.
fn element(json: &[u8], mut at: usize, index: usize) -> Option<usize> {
    at = skip_space(json, expect(json, at, b'[')?);
    for _ in 0..index {
        at = skip_space(json, end_of_value(json, at)?);
        at = skip_space(json, expect(json, at, b',')?);
    }
    (json.get(at)? != &b']').then_some(at)
}

/// Whether a JSON string is `name`.
#[inline]
fn is_name(string: &[u8], name: &[u8]) -> bool {
    let inner = &string[1..string.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return inner == name;
    }
    serde_json::from_slice::<Cow<'_, str>>(string).is_ok_and(|text| text.as_bytes() == name)
}

#[inline]
pub(super) fn expect(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

#[inline]
pub(crate) fn skip_space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the string that begins at `at` ends, behind its quote.
#[inline]
pub(crate) fn end_of_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = expect(json, at, b'"')?;
    loop {
        let found = at + memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Where the value that begins at `at` ends. Nesting is counted, not followed, so that no depth overflows the stack.
#[inline]
pub(super) fn end_of_value(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => at = end_of_string(json, at)?,
            b'{' | b'[' => (depth, at) = (depth + 1, at + 1),
            b'}' | b']' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            b',' | b':' | b' ' | b'\n' | b'\t' | b'\r' if depth > 0 => at += 1,
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                at += json[at..].iter().take_while(|byte| is_inside(byte)).count();
            }
            _ => return None,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn found(path: &str, json: &str) -> Option<String> {
        let path: Path = path.parse().unwrap();
        path.find(json.as_bytes()).map(|json| String::from_utf8(json.to_vec()).unwrap())
    }

    #[test]
    fn a_field_is_found_as_it_stands() {
        let json =
            r#" {"a":{"x":"}\"{","id": 7 },"list":[1,[2,3],{"n":null}],"u\u0073er":"é","odd name":true,"b":{}} "#;
        for (path, expected) in [
            (".a.id", Some("7")),
            (".a.x", Some(r#""}\"{""#)),
            (".list[1]", Some("[2,3]")),
            (".list[1][0]", Some("2")),
            (".list[2].n", Some("null")),
            (".user", Some("\"é\"")),
            (".\"odd name\"", Some("true")),
            (".[\"odd name\"]", Some("true")),
            (".a", Some(r#"{"x":"}\"{","id": 7 }"#)),
            (".", Some(json.trim())),
            (".none", None),
            (".b.none", None),
            (".a.id.x", None),
            (".list[3]", None),
            (".list.x", None),
            (".a[0]", None),
        ] {
            assert_eq!(found(path, json).as_deref(), expected, "{path}");
        }
        assert_eq!(found(".[1]", "[1, 2]").as_deref(), Some("2"));
        assert_eq!(found(".[0]", "[]"), None);
        for json in ["", "{", "{\"a\"", "{\"a\":", "{a:1}", "nonsense", "{\"a\":\"", "{\"a\":\"\\"] {
            assert_eq!(found(".a", json), None, "{json}");
        }
    }

    #[test]
    fn a_malformed_path_is_refused() {
        for text in ["", "a", ".a.", "..a", ".a[", ".a[x]", ".a[1", ".a b", ".\"a", ".a\"b\"", ".[1]x", ".a..b"] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_skipped() {
        let json = format!("{{\"a\":{}{},\"b\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(found(".b", &json).as_deref(), Some("1"));
    }

    pub(in crate::codec) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(json in any_json(), name in "[a-c\"\\\\]{0,2}", index in 0..3usize, pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
            let quoted = serde_json::to_string(&name).unwrap();
            for (path, expected) in [
                (format!(".{quoted}"), json.get(&name)),
                (format!(".[{index}]"), json.get(index)),
                (format!(".{quoted}[{index}]"), json.get(&name).and_then(|inner| inner.get(index))),
                (format!(".[{index}].{quoted}"), json.get(index).and_then(|inner| inner.get(&name))),
            ] {
                let found = found(&path, &text).map(|found| serde_json::from_str::<Value>(&found).unwrap());
                prop_assert_eq!(found.as_ref(), expected, "{}", path);
            }
        }

        #[test]
        fn any_bytes_are_searched(bytes: Vec<u8>, text in "[\\[\\]{}\":,a\\\\ ]{0,20}") {
            let path: Path = ".a[1].b".parse().unwrap();
            path.find(&bytes);
            path.find(text.as_bytes());
        }
    }
}
