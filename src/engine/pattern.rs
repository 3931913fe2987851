//! A pattern of topic names.

use regex_lite::Regex;
use std::fmt;

/// A regular expression that matches whole names.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    /// Parses a regular expression.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = Regex::new(&format!("^(?:{text})$")).map_err(|e| e.to_string())?;
        Ok(Self { text: text.to_owned(), whole })
    }

    /// Whether it matches all of `name`.
    pub fn is_match(&self, name: &str) -> bool {
        self.whole.is_match(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
