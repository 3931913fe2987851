//! What the properties of TLS and SASL may say.

use crate::engine::security::{Mechanism, TlsVersion};

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

/// Parses `ssl.enabled.protocols`. Versions that kpipe does not have are left out: that protects no less.
pub(super) fn parse_versions(text: &str) -> Result<Vec<TlsVersion>, String> {
    let mut versions = Vec::new();
    for name in text.split(',').map(str::trim) {
        match name {
            "TLSv1.2" => versions.push(TlsVersion::Tls12),
            "TLSv1.3" => versions.push(TlsVersion::Tls13),
            "SSLv2Hello" | "SSLv3" | "TLSv1" | "TLSv1.1" => {}
            _ => return Err("expected TLSv1.3, TLSv1.2 or both, separated by commas".to_owned()),
        }
    }
    if versions.is_empty() { Err("kpipe has TLSv1.2 and TLSv1.3".to_owned()) } else { Ok(versions) }
}

/// Parses `ssl.protocol`, which names the highest version.
pub(super) fn parse_highest_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "TLS" | "TLSv1.3" => Ok(TlsVersion::Tls13),
        "TLSv1.2" => Ok(TlsVersion::Tls12),
        _ => Err("expected TLSv1.3 or TLSv1.2".to_owned()),
    }
}

/// Parses names of cipher suites.
pub(super) fn parse_cipher_suites(text: &str) -> Result<Vec<String>, String> {
    Ok(text.split([',', ':']).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
}

/// That certificates are verified: they always are.
#[derive(Debug, Clone, Copy)]
pub struct Verified;

/// Parses librdkafka's `enable.ssl.certificate.verification`.
pub(super) fn parse_verification(text: &str) -> Result<Verified, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(Verified),
        _ => Err(
            "kpipe always verifies the broker's certificate (trust it with ssl.ca.location; an empty ssl.endpoint.identification.algorithm accepts another host name)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_protects_is_read_or_refused() {
        assert_eq!(parse_versions("TLSv1.3"), Ok(vec![TlsVersion::Tls13]));
        assert_eq!(parse_versions("TLSv1.1, TLSv1.2"), Ok(vec![TlsVersion::Tls12]));
        assert!(parse_versions("TLSv1.1").is_err() && parse_versions("DTLS").is_err());
        assert!(parse_highest_version("TLSv1.1").is_err());
        assert!(parse_verification("false").is_err() && parse_verification("true").is_ok());
    }
}
