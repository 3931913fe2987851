//! How connections are secured: TLS, and the SASL mechanisms with what they need.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;

/// Text that must not be shown: its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a connection is secured with.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS, if the listener requires it.
    pub tls: Option<Tls>,
    /// SASL, if the listener requires it.
    pub sasl: Option<Sasl>,
}

/// How TLS is used.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The CAs to trust, or a server's own certificate; `None` is the system's CAs.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// The client's certificate and key.
    pub identity: Option<Identity>,
    /// Whether the certificate must be for the broker's name.
    pub check_name: bool,
    /// The versions that may be used.
    pub versions: Vec<TlsVersion>,
    /// The cipher suites that may be used, by their names in IANA's registry or in OpenSSL; `None` is all.
    pub cipher_suites: Option<Vec<String>>,
    /// If not empty, the broker's certificate must be covered by one of these, and not be in it.
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            authorities: None,
            identity: None,
            check_name: true,
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            cipher_suites: None,
            revocation_lists: Vec::new(),
        }
    }
}

/// Who the client is, and how it proves that.
#[derive(Debug, Clone)]
pub enum Sasl {
    /// By a password.
    Password {
        /// How that is shown.
        mechanism: Mechanism,
        /// Whose it is.
        username: String,
        /// The password.
        password: Secret,
    },
    /// OAUTHBEARER (RFC 7628): by a token that somebody else signed.
    Bearer(Bearer),
}

/// A SASL mechanism with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself (RFC 4616): for TLS only.
    Plain,
    /// A proof of the password (RFC 5802, RFC 7677).
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
}

impl Mechanism {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    /// How brokers call the client, as ACLs name it (`User:alice`), as far as that is known here: brokers may map
    /// names, and a token tells its own.
    pub fn principal(&self) -> Option<String> {
        match (&self.sasl, &self.tls) {
            (Some(Sasl::Password { username, .. }), _) => Some(format!("User:{username}")),
            (Some(Sasl::Bearer(bearer)), _) => bearer.principal(),
            (None, Some(Tls { identity: Some(identity), .. })) => identity.subject().map(|name| format!("User:{name}")),
            (None, _) => Some("User:ANONYMOUS".to_owned()),
        }
    }

    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.tls.is_some() || self.sasl.is_some()
    }
}

/// A client's certificate, with those that lead to its CA, and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The client's own comes first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key; its `Debug` does not show it.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// The subject of the client's certificate, written as Java does (RFC 2253): brokers call the client so.
    fn subject(&self) -> Option<String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        let attributes = certificate.subject().iter_attributes().map(|attribute| {
            let short = x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry());
            let value = attribute.as_str().unwrap_or_default();
            format!("{}={}", short.unwrap_or("?"), value.replace(',', "\\,"))
        });
        let mut attributes: Vec<String> = attributes.collect();
        attributes.reverse();
        Some(attributes.join(","))
    }
}

/// What OAUTHBEARER needs.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// Where the token comes from.
    pub token: Token,
    /// Names and values that are sent with it (KIP-342).
    pub extensions: Vec<(String, String)>,
}

/// Where a token comes from.
#[derive(Debug, Clone)]
pub enum Token {
    /// A token that is looked up for each connection, as it may change.
    Supplied(TokenSource),
    /// An OpenID provider gives it.
    Oidc(Oidc),
}

/// Where a token is looked up; may block.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> std::result::Result<String, String> + Send + Sync>);

impl TokenSource {
    /// Calls `look_up` for each token; its error says why there is none.
    pub fn new(look_up: impl Fn() -> std::result::Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// Why there is none.
    pub fn token(&self) -> std::result::Result<Secret, String> {
        (self.0)().map(|token| Secret::from(token.trim()))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// The client credentials grant (RFC 6749, section 4.4).
#[derive(Debug, Clone)]
pub struct Oidc {
    /// The token endpoint, `https://…` or `http://…`.
    pub endpoint: String,
    /// Who asks.
    pub client_id: String,
    /// And its secret.
    pub client_secret: Secret,
    /// What is asked for.
    pub scope: Option<String>,
    /// The CAs of the endpoint; `None` is the system's.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
}

/// What a token (a JSON Web Token, RFC 7519) says of itself; nobody checks its signature here.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
pub struct Claims {
    /// Whose it is.
    #[serde(rename = "sub")]
    pub subject: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: Option<f64>,
}

impl Claims {
    /// Reads the claims of `token`; none of one that is no JSON Web Token.
    pub fn of(token: &str) -> Self {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
        claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default()
    }
}

impl Bearer {
    /// Whose token it is, when that can be told without asking for one.
    fn principal(&self) -> Option<String> {
        let Token::Supplied(source) = &self.token else { return None };
        Claims::of(source.token().ok()?.reveal()).subject.map(|subject| format!("User:{subject}"))
    }
}

/// Whether `host` names this machine, so that nothing that is sent there leaves it.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_tells_whose_it_is_and_until_when() {
        let body = URL_SAFE_NO_PAD.encode(r#"{"sub":"dave","exp":1795434844,"aud":["x"]}"#);
        let claims = Claims::of(&format!("e30.{body}.sig"));
        assert_eq!((claims.subject.as_deref(), claims.expires), (Some("dave"), Some(1_795_434_844.0)));
        assert_eq!(Claims::of("opaque"), Claims::default());
    }

    proptest! {
        #[test]
        fn any_token_is_met(token in ".{0,60}", body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Claims::of(&token), Claims::of(&format!("a.{}", URL_SAFE_NO_PAD.encode(body))));
        }
    }
}
