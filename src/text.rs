//! Text for people and for JSON: what others wrote is made visible, what is counted gets its plural. Knows no other
//! module.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that move the cursor, change colors or reorder what is shown: C0, DEL, C1, and Unicode's line
/// separators and bidirectional controls.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text that others may have written, such as the name of a topic or a broker's message, for a terminal or a log:
/// control characters are shown as escapes, so that one line stays one line and nothing acts on the terminal.
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii() => write_escape(out, format_args!("\\x{:02x}", u32::from(c))),
        c => write_escape(out, format_args!("\\u{{{:x}}}", u32::from(c))),
    })
}

/// The same for lines of records on a terminal: their line feeds and tabs stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| match c {
        '\n' | '\t' => out.push(c),
        c => out.push_str(&escaped(c.encode_utf8(&mut [0; 4]))),
    })
}

/// JSON as it is valid already, with the control characters that JSON allows in strings written as escapes.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    replaced(json, |out, c| write_escape(out, format_args!("\\u{:04x}", u32::from(c))))
}

fn replaced(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) { escape(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn write_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(escape); // a String takes all
}

/// The escapes that delimiters and templates have.
pub const ESCAPES: &str = "\\n \\t \\r \\0 \\\\ \\xHH";

/// Reads what stands behind a backslash: the byte that it means, and how many bytes of `rest` that takes.
///
/// # Errors
/// There is no such escape.
pub fn escape(rest: &str) -> Result<(u8, usize), String> {
    let byte = match rest.as_bytes().first() {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            return code.map(|code| (code, 3)).ok_or_else(|| "\\x takes two hexadecimal digits".to_owned());
        }
        _ => return Err(format!("supported escapes are {ESCAPES}")),
    };
    Ok((byte, 1))
}

/// `1 batch`, `2 batches`.
pub fn counted(count: u64, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with(['s', 'x', 'h']) => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_all_else_stays() {
        assert!(matches!(escaped("orders-ä…"), Cow::Borrowed("orders-ä…")));
        assert_eq!(escaped("a\x1b[31m\n\x07\x7f\u{9b}2J\u{202e}z"), "a\\x1b[31m\\n\\x07\\x7f\\u{9b}2J\\u{202e}z");
        for c in (0..=0x9f).filter_map(char::from_u32).chain("\u{2028}\u{2066}\u{2069}\u{200f}\u{61c}".chars()) {
            assert_eq!(escaped(&c.to_string()).chars().count() == 1, (' '..='~').contains(&c), "{c:?}");
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escaped_lines("a\tb\n\u{1b}[2Jc\r\n"), "a\tb\n\\x1b[2Jc\\r\n");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let json = serde_json::json!({ "k\u{9b}": "a\u{7f}\u{2028}\u{202e}\n\u{1b}" });
        let text = json.to_string();
        let escaped = escaped_json(&text);
        assert!(escaped.chars().all(|c| !is_control(c)), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), json);
    }

    #[test]
    fn what_is_counted_gets_its_plural() {
        assert_eq!(counted(1, "batch"), "1 batch");
        assert_eq!(counted(2, "batch"), "2 batches");
        assert_eq!(counted(0, "ACL"), "0 ACLs");
    }
}
