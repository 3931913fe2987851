//! Properties files as text: names and values, by the rules of Java and of librdkafka.

/// Line number, name and value of each property; or the line that is malformed, and why.
pub(super) type Lines = std::result::Result<Vec<(usize, String, String)>, (usize, String)>;

/// Line number, name and value of each property, as `java.util.Properties` reads them (Latin-1, escapes, continued
/// lines).
pub(super) fn java_lines(bytes: &[u8]) -> Lines {
    let mut found = Vec::new();
    for line in java_properties::PropertiesIter::new(bytes) {
        let line = line.map_err(|e| (e.line_number().unwrap_or(1), "malformed, perhaps a \\u escape".to_owned()))?;
        if let java_properties::LineContent::KVPair(name, value) = line.content() {
            found.push((line.line_number(), name.clone(), value.clone()));
        }
    }
    Ok(found)
}

/// Line number, name and value of each property, as librdkafka reads them.
pub(super) fn plain_lines(bytes: &[u8]) -> Lines {
    let text = std::str::from_utf8(bytes).map_err(|_| (1, "not UTF-8".to_owned()))?;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or((index + 1, "expected NAME=VALUE".to_owned()))?;
        found.push((index + 1, name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_file_is_met(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (java_lines(&bytes), plain_lines(&bytes));
        }
    }
}
