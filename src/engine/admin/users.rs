//! Users with SCRAM credentials (KIP-554).

use serde::Serialize;

/// A user's SCRAM credential, as far as brokers return it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The user's name.
    pub user: String,
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// How many times the password was hashed.
    pub iterations: i32,
}
