//! What a schema registry can answer instead of what was asked for.

use hyper::StatusCode;
use std::fmt;

/// A schema registry did not do what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// The registry's address, without credentials.
    pub url: String,
    /// What was asked for, for people: `schema ID 7`, `subject orders-value`.
    pub about: String,
    /// Why it failed.
    pub why: RegistryFailure,
}

/// Why a request to a schema registry failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryFailure {
    /// The registry refused, in its own words.
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The registry's error code, such as 40403; 0 is none.
        code: u32,
        /// Its message.
        message: String,
    },
    /// The server is not a schema registry, or a proxy in front of one answered.
    Foreign {
        /// The HTTP status.
        status: StatusCode,
        /// Whether the answer is a web page.
        is_html: bool,
    },
    /// There was no answer.
    Unanswered(String),
    /// The answer is not what the API promises.
    Malformed(String),
}

impl RegistryFailure {
    /// Error code of a subject that does not exist.
    pub const NO_SUBJECT: u32 = 40401;
    /// Error code of a version that does not exist.
    pub const NO_VERSION: u32 = 40402;
    /// Error code of a schema that does not exist.
    pub const NO_SCHEMA: u32 = 40403;
    /// Error code of a subject that is deleted softly already.
    pub const SUBJECT_DELETED: u32 = 40404;
    /// Error code of a subject that must be deleted softly first.
    pub const SUBJECT_NOT_DELETED: u32 = 40405;
    /// Error code of a version that is deleted softly already.
    pub const VERSION_DELETED: u32 = 40406;
    /// Error code of a version that must be deleted softly first.
    pub const VERSION_NOT_DELETED: u32 = 40407;
    /// Error code of a subject without a compatibility level of its own.
    pub const NO_SUBJECT_CONFIG: u32 = 40408;

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } | Self::Foreign { status, .. } => Some(*status),
            Self::Unanswered(_) | Self::Malformed(_) => None,
        }
    }

    /// The registry's own error code.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } => Some(*code).filter(|code| *code != 0),
            _ => None,
        }
    }

    /// Whether the registry knows nothing of what was asked for, as it says itself.
    pub fn is_unknown(&self) -> bool {
        matches!(self.code(), Some(Self::NO_SUBJECT..=Self::NO_SUBJECT_CONFIG))
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unanswered(_) => true,
            Self::Malformed(_) => false,
            Self::Refused { status, .. } | Self::Foreign { status, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
        }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema registry {}: {}: ", self.url, self.about)?;
        match &self.why {
            RegistryFailure::Refused { status, code, message } => {
                write!(f, "{status}")?;
                if *code != 0 && *code != u32::from(status.as_u16()) {
                    write!(f, ", error code {code}")?;
                }
                let message = message.trim_end_matches('.');
                if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
            }
            RegistryFailure::Foreign { status, is_html: true } => write!(f, "{status} with a web page"),
            RegistryFailure::Foreign { status, is_html: false } if status.is_success() => {
                write!(f, "{status}, but the response is not JSON")
            }
            RegistryFailure::Foreign { status, is_html: false } => write!(f, "{status}"),
            RegistryFailure::Unanswered(why) => f.write_str(why),
            RegistryFailure::Malformed(why) => write!(f, "malformed response: {why}"),
        }
    }
}

impl std::error::Error for RegistryError {}
