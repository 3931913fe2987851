//! What is wrong with a schema, with bytes, or with JSON.

use std::fmt;

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSchema(String);

impl BadSchema {
    /// With the reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Why bytes cannot be decoded with a schema. Boxed, because it is rare and its result is returned for every value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(Box<Located>);

/// Why JSON does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(Box<Located>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Located {
    /// From the innermost step to the outermost.
    steps: Vec<Step>,
    why: String,
    /// Where in the bytes.
    offset: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(u64),
}

impl Undecodable {
    /// With the reason.
    #[cold]
    pub fn new(why: impl Into<String>) -> Self {
        Self(Box::new(Located { steps: Vec::new(), why: why.into(), offset: None }))
    }

    /// Adds how many bytes precede the fault.
    #[cold]
    #[must_use]
    pub fn at(mut self, offset: usize) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Adds the field in which it happened.
    #[cold]
    #[must_use]
    pub fn in_field(mut self, name: &str) -> Self {
        self.0.steps.push(Step::Field(name.to_owned()));
        self
    }

    /// Adds the element in which it happened.
    #[cold]
    #[must_use]
    pub fn in_element(mut self, index: u64) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    /// The field, as `--jq` and templates name it: `.order.items[2]`, or `.` for the value itself.
    pub fn path(&self) -> String {
        self.0.path()
    }
}

impl Unfit {
    /// With the reason: what was expected.
    #[cold]
    pub fn new(why: impl Into<String>) -> Self {
        Self(Box::new(Located { steps: Vec::new(), why: why.into(), offset: None }))
    }

    /// With what was expected, and what stands there instead.
    #[cold]
    pub fn expected(what: impl fmt::Display, json: &str) -> Self {
        Self::new(format!("expected {what}, found {}", excerpt(json)))
    }

    /// Adds the field in which it happened.
    #[cold]
    #[must_use]
    pub fn in_field(mut self, name: &str) -> Self {
        self.0.steps.push(Step::Field(name.to_owned()));
        self
    }

    /// Adds the element in which it happened.
    #[cold]
    #[must_use]
    pub fn in_element(mut self, index: u64) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    /// The field, as `--jq` and templates name it: `.order.items[2]`, or `.` for the value itself.
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// What was expected.
    pub fn why(&self) -> &str {
        &self.0.why
    }
}

impl Located {
    fn path(&self) -> String {
        if self.steps.is_empty() {
            return ".".to_owned();
        }
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Field(name) if is_plain(name) => path += &format!(".{name}"),
                Step::Field(name) => path += &format!(".{name:?}"),
                Step::Index(index) if path.is_empty() => path += &format!(".[{index}]"),
                Step::Index(index) => path += &format!("[{index}]"),
            }
        }
        path
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.steps.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        f.write_str(&self.why)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
    }
}

/// JSON as an error quotes it.
fn excerpt(json: &str) -> String {
    const LONGEST: usize = 40;
    match json.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json.to_owned(),
    }
}
