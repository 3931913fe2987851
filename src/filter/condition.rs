//! What a record must have.

use crate::codec::View;
use crate::record::RecordRef;
use regex::bytes::{Regex, RegexBuilder};

/// A part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The key.
    Key,
    /// The value.
    Value,
    /// Any header of this name.
    Header(Vec<u8>),
}

/// What is asked of it.
#[derive(Debug, Clone)]
pub enum Test {
    /// It exists; a null does too.
    Exists,
    /// It has a match of the expression; a null has none.
    Matches(Regex),
    /// It has just these bytes.
    Equals(Vec<u8>),
}

impl Test {
    /// A match of `pattern`, a regular expression over bytes.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn matches(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        if let Err(error) = parser().parse(pattern) {
            return Err(match error {
                regex_syntax::Error::Parse(e) => format!("{} at column {}", e.kind(), e.span().start.column),
                regex_syntax::Error::Translate(e) => format!("{} at column {}", e.kind(), e.span().start.column),
                other => other.to_string(),
            });
        }
        let regex = RegexBuilder::new(pattern).case_insensitive(ignores_case).build();
        regex.map(Self::Matches).map_err(|error| error.to_string())
    }

    /// Whether it holds for a part of a record.
    pub fn holds(&self, bytes: Option<&[u8]>) -> bool {
        match (self, bytes) {
            (Self::Exists, _) => true,
            (Self::Matches(regex), Some(bytes)) => regex.is_match(bytes),
            (Self::Equals(expected), Some(bytes)) => bytes == expected,
            (_, None) => false,
        }
    }
}

/// A part of a record, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Condition {
    field: Field,
    test: Test,
    /// Finds a match in all records of which the part has one, and perhaps in others.
    search: Option<Regex>,
}

impl Condition {
    /// Asks `test` of `field`.
    pub fn new(field: Field, test: Test) -> Self {
        let search = match &test {
            Test::Matches(regex) if is_context_free(regex.as_str()) => Some(regex.clone()),
            // Short texts are found everywhere, an empty one at once.
            Test::Equals(bytes) if bytes.len() >= 4 => literal(bytes),
            _ => None,
        };
        Self { field, test, search }
    }

    /// An expression without a match in bytes that hold many records has none in any of their parts.
    pub(super) fn search(&self) -> Option<&Regex> {
        self.search.as_ref()
    }

    pub(super) fn holds(&self, record: &RecordRef<'_>, view: &View<'_>) -> bool {
        match &self.field {
            Field::Key => self.test.holds(view.key.text(record.key)),
            Field::Value => self.test.holds(view.value.text(record.value)),
            Field::Header(name) => {
                record.headers.iter().any(|header| header.key == *name && self.test.holds(header.value))
            }
        }
    }
}

fn literal(bytes: &[u8]) -> Option<Regex> {
    let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    RegexBuilder::new(&escaped).unicode(false).build().ok()
}

/// Whether a match depends on nothing but its own bytes: not on what stands before and after it, as `^`, `$` and `\b` do.
fn is_context_free(pattern: &str) -> bool {
    parser().parse(pattern).is_ok_and(|hir| hir.properties().look_set().is_empty())
}

/// Parses as `regex::bytes` does.
fn parser() -> regex_syntax::Parser {
    regex_syntax::ParserBuilder::new().utf8(false).build()
}
