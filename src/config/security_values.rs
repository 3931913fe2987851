//! What the properties of TLS and SASL may say.

use crate::engine::security::Mechanism;

/// What a listener requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityProtocol {
    pub tls: bool,
    pub sasl: bool,
}

/// Parses `security.protocol`.
pub(super) fn parse_protocol(text: &str) -> Result<SecurityProtocol, String> {
    let (tls, sasl) = match text.trim().to_ascii_uppercase().as_str() {
        "PLAINTEXT" => (false, false),
        "SSL" => (true, false),
        "SASL_PLAINTEXT" => (false, true),
        "SASL_SSL" => (true, true),
        _ => return Err("expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned()),
    };
    Ok(SecurityProtocol { tls, sasl })
}

/// The mechanisms that kpipe has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    Password(Mechanism),
    OauthBearer,
}

impl SaslMechanism {
    pub fn name(self) -> &'static str {
        match self {
            Self::Password(mechanism) => mechanism.name(),
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// What `sasl.mechanism` may be.
pub(super) const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER";

/// Parses `sasl.mechanism`.
pub(super) fn parse_mechanism(text: &str) -> Result<SaslMechanism, String> {
    let with_password = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    let all = with_password.map(SaslMechanism::Password).into_iter().chain([SaslMechanism::OauthBearer]);
    let mut all = all.filter(|mechanism| mechanism.name() == text.trim());
    all.next().ok_or_else(|| format!("supported mechanisms are {MECHANISMS}"))
}

/// Whether the broker's certificate must be for its host name.
pub(super) fn parse_name_check(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "https" => Ok(true),
        "" | "none" => Ok(false),
        _ => Err("expected https, or empty to disable host name verification".to_owned()),
    }
}

/// Parses `name=value,…`, as librdkafka has extensions.
pub(super) fn parse_extensions(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.split(',').map(|each| pair(each).ok_or_else(|| "expected name=value,…".to_owned())).collect()
}
