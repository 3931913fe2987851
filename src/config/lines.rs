//! Properties files as text: names and values, by the rules of Java and of librdkafka.

/// A property.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1; of its first line where it is continued.
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// A line that is not a property, and why.
#[derive(Debug)]
pub(super) struct MalformedLine {
    /// From 1.
    pub(super) number: usize,
    pub(super) why: &'static str,
}

/// The properties as `java.util.Properties` reads them (Latin-1, escapes, continued lines).
pub(super) fn java_lines(bytes: &[u8]) -> Result<Vec<Line>, MalformedLine> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(natural_lines(bytes));
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim_ascii_start().to_vec();
        if matches!(line.first(), None | Some(b'#' | b'!')) {
            continue;
        }
        while is_continued(&line) {
            line.pop();
            // What follows nothing begins a line of its own, and may be a comment.
            let Some((_, more)) = (if line.is_empty() { None } else { lines.next() }) else { break };
            line.extend_from_slice(more.trim_ascii_start());
        }
        if line.is_empty() {
            continue;
        }
        let (name, value) = split(&line);
        let text = |bytes| unescaped(bytes).ok_or(MalformedLine { number, why: "malformed, perhaps a \\u escape" });
        found.push(Line { number, name: text(name)?, value: text(value)? });
    }
    Ok(found)
}

/// The lines of a file, ended by `\n`, `\r` or both.
fn natural_lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (line, after) = rest.split_at(memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()));
        let is_end = rest.is_empty();
        rest = after.strip_prefix(b"\r\n").or(after.get(1..)).unwrap_or_default();
        (!is_end).then_some(line)
    })
}

/// Whether an odd number of backslashes ends the line.
fn is_continued(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// A name ends at the first blank, `=` or `:` without a backslash.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut is_escaped = false;
    let end = line.iter().position(|byte| {
        let ends = !is_escaped && matches!(byte, b'=' | b':' | b' ' | b'\t' | b'\x0c');
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    match rest.trim_ascii_start() {
        [b'=' | b':', value @ ..] => (name, value.trim_ascii_start()),
        value => (name, value),
    }
}

/// Latin-1 with escapes as text: `\u` and four hexadecimal digits are a UTF-16 code unit.
fn unescaped(text: &[u8]) -> Option<String> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        units.push(match byte {
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                match escaped {
                    b't' => u16::from(b'\t'),
                    b'n' => u16::from(b'\n'),
                    b'r' => u16::from(b'\r'),
                    b'f' => 0x0c,
                    b'u' => {
                        let (digits, after) = rest.split_at_checked(4)?;
                        rest = after;
                        hexadecimal(digits)?
                    }
                    other => u16::from(*other),
                }
            }
            byte => u16::from(*byte),
        });
    }
    String::from_utf16(&units).ok()
}

fn hexadecimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)? as u16))
}

/// The properties as librdkafka reads them.
pub(super) fn plain_lines(bytes: &[u8]) -> Result<Vec<Line>, MalformedLine> {
    let text = std::str::from_utf8(bytes).map_err(|_| MalformedLine { number: 1, why: "not UTF-8" })?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(MalformedLine { number, why: "expected NAME=VALUE" })?;
        found.push(Line { number, name: name.trim().to_owned(), value: value.trim().to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<Line> {
        java_lines(text.as_bytes()).unwrap()
    }

    /// The examples of `java.util.Properties.load`, and the corners of its reader.
    #[test]
    fn java_is_read_as_java_reads_it() {
        for (text, name, value) in [
            ("Truth = Beauty", "Truth", "Beauty"),
            (" Truth:Beauty", "Truth", "Beauty"),
            ("Truth                    :Beauty", "Truth", "Beauty"),
            ("fruits  apple, banana, \\\n   pear", "fruits", "apple, banana, pear"),
            ("cheeses", "cheeses", ""),
            ("a\\:b\\=c\\ d=:e", "a:b=c d", ":e"),
            ("a==b", "a", "=b"),
            ("a=b\\\r\n\t#c", "a", "b#c"),
            ("a=b\\\\\n", "a", "b\\"),
            ("a=b\\", "a", "b"),
            ("a=\\u00e9\\uD83D\\uDE00\\t\\q", "a", "é😀\tq"),
            ("\\\n#c\na=b \r", "a", "b "),
            ("!c\\\na=b", "a", "b"),
        ] {
            let found = read(text);
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert_eq!((&*found[0].name, &*found[0].value), (name, value), "{text:?}");
        }
        let numbers: Vec<usize> = read("a\r\n\rb \\\nc\n#\nd").iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 3, 6]);
        for text in ["a=\\u12", "a=\\u+123", "a=\\uD83D", "b=1\n\\uxyzw=2"] {
            assert!(java_lines(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(java_lines(b"a=\xe9").unwrap()[0].value, "é", "Latin-1");
    }

    proptest! {
        #[test]
        fn any_file_is_met(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (java_lines(&bytes), plain_lines(&bytes));
        }
    }
}
