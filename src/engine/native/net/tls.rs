//! TLS by rustls, with graviola's cryptography: no C.

use crate::engine::platform::Socket;
use crate::engine::security::{Identity, Tls, TlsVersion};
use crate::error::{Disconnect, Error, Result, describe_io};
use crate::record::Node;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

/// Prepares what all connections share.
///
/// # Errors
/// There is no trusted CA, a key or list is not usable, nothing allowed is supported, or there is no cryptography for
/// this CPU.
pub fn prepare(tls: &Tls) -> Result<Arc<ClientConfig>> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| Error::Usage(format!("{what}: {why}"));
    let mut provider = provider()?;
    if let Some(names) = &tls.cipher_suites {
        restrict(&mut provider, names)?;
    }
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(given) => {
            for certificate in given {
                roots.add(certificate.clone()).map_err(|e| wrong("ssl.truststore.location", &e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(wrong("no trusted CA", &"set ssl.truststore.location, or ssl.ca.location"));
    }
    let mut by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if !tls.revocation_lists.is_empty() {
        // As OpenSSL and librdkafka do.
        by_chain = by_chain
            .with_crls(tls.revocation_lists.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    let by_chain = by_chain.build().map_err(|e| wrong("the trusted CAs", &e))?;
    let trusted = tls.authorities.clone().unwrap_or_default();
    let has_lists = !tls.revocation_lists.is_empty();
    let verifier = Arc::new(Verifier { by_chain, trusted, check_name: tls.check_name, has_lists });
    let versions: Vec<_> = tls.versions.iter().map(|version| supported(*version)).collect();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| wrong("ssl.enabled.protocols and ssl.cipher.suites", &e))?
        // Not for less: Verifier checks what rustls checks, but for what is said there.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|e| wrong("the client's certificate and key", &e))?,
    };
    Ok(Arc::new(config))
}

/// What a server needs to accept TLS connections; clients show no certificate.
///
/// # Errors
/// The key does not fit the certificate, or there is no cryptography for this CPU.
pub fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>> {
    let wrong = |e: rustls::Error| Error::Usage(format!("the server's certificate and key: {e}"));
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()?));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    builder.with_no_client_auth().with_single_cert(chain, key).map(Arc::new).map_err(wrong)
}

/// Checks that TLS can be used.
///
/// # Errors
/// There is no cryptography for this CPU.
pub fn check_cryptography() -> Result<()> {
    provider().map(|_| ())
}

fn supported(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        TlsVersion::Tls13 => &rustls::version::TLS13,
    }
}

/// Leaves only the named cipher suites.
fn restrict(provider: &mut CryptoProvider, names: &[String]) -> Result<()> {
    let all: Vec<String> = provider.cipher_suites.iter().map(iana_name).collect();
    provider.cipher_suites.retain(|suite| {
        let iana = iana_name(suite);
        names.iter().any(|name| *name == iana || *name == openssl_name(&iana))
    });
    if provider.cipher_suites.is_empty() {
        return Err(Error::Usage(format!("ssl.cipher.suites: none is supported (kpipe has {})", all.join(", "))));
    }
    Ok(())
}

/// A suite's name in IANA's registry.
fn iana_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// The name that OpenSSL has for a suite of TLS 1.2; those of TLS 1.3 have one name only.
fn openssl_name(iana: &str) -> String {
    let Some((exchange, cipher)) = iana.trim_start_matches("TLS_").split_once("_WITH_") else { return iana.to_owned() };
    let cipher = cipher.replace("AES_", "AES").replace("POLY1305_SHA256", "POLY1305");
    format!("{exchange}-{cipher}").replace('_', "-")
}

/// The cryptography: AWS-LC's or ring's when kpipe was built with it, else graviola's.
#[cfg(feature = "aws-lc-rs")]
fn provider() -> Result<CryptoProvider> {
    Ok(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn provider() -> Result<CryptoProvider> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(all(not(any(feature = "aws-lc-rs", feature = "ring")), any(target_arch = "x86_64", target_arch = "aarch64")))]
fn provider() -> Result<CryptoProvider> {
    // graviola requires these, and ends the process without.
    #[cfg(target_arch = "x86_64")]
    let serves = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    let serves = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    if serves { Ok(rustls_graviola::default_provider()) } else { Err(no_cryptography()) }
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring", target_arch = "x86_64", target_arch = "aarch64")))]
fn provider() -> Result<CryptoProvider> {
    Err(no_cryptography())
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn no_cryptography() -> Error {
    Error::Usage(
        "TLS: this build does not support this CPU (it requires AES and AVX2, or ARM AES and SHA-2; build with --features ring)".to_owned(),
    )
}

/// Who is at the other end of TLS: what it is called in messages, and which properties set how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Broker,
    /// Of OAUTHBEARER.
    TokenEndpoint,
    SchemaRegistry,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::TokenEndpoint => "token endpoint",
            Self::SchemaRegistry => "schema registry",
        }
    }

    /// The properties that name trusted CAs.
    fn authorities(self) -> &'static str {
        match self {
            Self::Broker => "ssl.truststore.location or ssl.ca.location",
            Self::TokenEndpoint => "https.ca.location",
            Self::SchemaRegistry => "schema.registry.ssl.truststore.location or schema.registry.ssl.ca.location",
        }
    }

    /// What to do about a certificate that is not for the host's name.
    fn name_hint(self) -> &'static str {
        match self {
            Self::Broker => "an empty ssl.endpoint.identification.algorithm turns this check off",
            Self::TokenEndpoint => "the URL must have a name that the certificate is for",
            Self::SchemaRegistry => {
                "an empty schema.registry.ssl.endpoint.identification.algorithm turns this check off"
            }
        }
    }

    /// What to do where a certificate of the client is required.
    fn identity_hint(self) -> &'static str {
        match self {
            Self::Broker => "set ssl.keystore.location, or ssl.certificate.location and ssl.key.location",
            Self::TokenEndpoint => "kpipe sends none to token endpoints",
            Self::SchemaRegistry => {
                "set schema.registry.ssl.keystore.location, or schema.registry.ssl.certificate.location and schema.registry.ssl.key.location"
            }
        }
    }
}

/// Shakes hands with `node`, whose certificate has to be for the host of its address.
///
/// # Errors
/// [`Error::Security`], when trying again would not help, else [`Error::Disconnected`].
pub async fn connect(
    config: Arc<ClientConfig>,
    stream: Box<dyn Socket>,
    node: &Node,
    service: Service,
) -> Result<TlsStream<Box<dyn Socket>>> {
    let address = &*node.address;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Usage(format!("{host} is not a valid host name for a certificate")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|e| {
        let disconnected =
            || Error::Disconnected { node: node.clone(), why: Disconnect::DuringHandshake(describe_io(&e)) };
        refusal(&e, node, service).unwrap_or_else(disconnected)
    })
}

/// The error of a connection on which TLS failed; `None` if it is the socket's. With TLS 1.3 a server refuses a client's
/// certificate only after the handshake.
pub fn refusal(error: &std::io::Error, node: &Node, service: Service) -> Option<Error> {
    explain(error, service).map(|why| Error::Security(format!("TLS with {node}: {why}")))
}

/// Describes an error of TLS; `None` if it is the socket's.
fn explain(error: &std::io::Error, service: Service) -> Option<String> {
    let found: &rustls::Error = error.get_ref()?.downcast_ref()?;
    let name = service.name();
    Some(match found {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                format!("the {name}'s certificate was issued by an untrusted CA (set {})", service.authorities())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the {name}'s certificate has expired ({why})")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{why} ({})", service.name_hint())
            }
            CertificateError::Revoked => "the broker's certificate is revoked (ssl.crl.location)".to_owned(),
            CertificateError::UnknownRevocationStatus => {
                "ssl.crl.location has no list of the CA that issued the broker's certificate".to_owned()
            }
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                "the revocation list has expired (get a new one for ssl.crl.location)".to_owned()
            }
            CertificateError::Other(why) => format!("the {name}'s certificate was rejected: {why}"),
            other => format!("the {name}'s certificate was rejected: {other}"),
        },
        rustls::Error::InvalidMessage(_) if service != Service::Broker => {
            format!("the {name} does not use TLS (does its address begin with http://?)")
        }
        rustls::Error::InvalidMessage(_) => {
            "the listener does not use TLS (is it PLAINTEXT or SASL_PLAINTEXT? see security.protocol)".to_owned()
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => format!(
                "the {name} requires a client certificate that it trusts ({found}; {})",
                service.identity_hint()
            ),
            AlertDescription::HandshakeFailure => format!(
                "the {name} ended the handshake ({found}): it has no cipher suite in common with kpipe, or requires a client certificate ({})",
                service.identity_hint()
            ),
            AlertDescription::ProtocolVersion => {
                format!("the {name} does not support a version of TLS that is enabled here ({found})")
            }
            _ => found.to_string(),
        },
        other => other.to_string(),
    })
}

/// Why a certificate is rejected that rustls has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unusable {
    #[error(
        "it is an X.509 certificate of version 1, which has no names to check and is not supported (issue one of version 3, with the host name in subjectAltName: openssl x509 -req -extfile …)"
    )]
    Version1,
    #[error(
        "it is a CA's own certificate (trust exactly this certificate with ssl.ca.location, or issue one with CA:FALSE)"
    )]
    Authority,
}

impl From<Unusable> for rustls::Error {
    fn from(why: Unusable) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Checks what rustls checks, with two differences: the name may be left unchecked, and a certificate that is itself
/// among the trusted ones needs no CA, as OpenSSL and Java have it.
#[derive(Debug)]
struct Verifier {
    by_chain: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    check_name: bool,
    /// Whether a certificate must be covered by a revocation list.
    has_lists: bool,
}

impl Verifier {
    /// Checks a certificate that is itself trusted: its time and its name; whose key it is, the handshake proves.
    fn verify_trusted(
        &self,
        end_entity: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let validity = certificate.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < validity.not_before.timestamp() {
            return Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now > validity.not_after.timestamp() {
            return Err(rustls::Error::InvalidCertificate(CertificateError::Expired));
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let malformed = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, certificate) = x509_parser::parse_x509_certificate(end_entity).map_err(malformed)?;
        if certificate.version() == X509Version::V1 {
            return Err(Unusable::Version1.into());
        }
        let is_trusted = self.trusted.iter().any(|trusted| **trusted == **end_entity) && !self.has_lists;
        let verified = if is_trusted {
            self.verify_trusted(end_entity, &certificate, server_name, now)
        } else {
            self.by_chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match verified {
            // The name is looked at last, when all else is well.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if certificate.is_ca() => {
                Err(Unusable::Authority.into())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    /// Self-signed, for localhost, CA:TRUE, valid for 100 years from 2026: openssl req -x509.
    const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBlDCCATugAwIBAgIUFCl05KBJVkcpz9iuF7o3LlNtF/swCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTE3MDkyOFoYDzIxMjYxMTAx\n\
MTcwOTI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAASYJfoPtWcdCbwstMnxeM3SBNyiv6eyhaIxv0FjeiYCJmrtzOzFWJUf\n\
EZTajsINh4BMhQCEuF2hj5Z/SMtO7Odmo2kwZzAdBgNVHQ4EFgQUCM6pXJ/ShnU+\n\
WZ3y4edJSyMGdXwwHwYDVR0jBBgwFoAUCM6pXJ/ShnU+WZ3y4edJSyMGdXwwFAYD\n\
VR0RBA0wC4IJbG9jYWxob3N0MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID\n\
RwAwRAIgcH0YbBrLBy6UvNNb0ciTLofmngLhTv3edoVcxUy6fjwCIEdwErCPjlNC\n\
Kg77Ui2J8Fvu3FsAlHTCApjmkpzgHQ/H\n\
-----END CERTIFICATE-----";
    /// Self-signed, of version 1: openssl x509 -req without extensions.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBJTCBywIUYJhB1hDFrZFAgK+AsvY5fdl+a2cwCgYIKoZIzj0EAwIwFDESMBAG\n\
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTE3MDkyOVoYDzIxMjYxMTAxMTcwOTI5\n\
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AAT0Vtte/BGRgict6sN02iLH3Yx0Qr5ZqUEIv1OBqdbCzAV/B33G/cmO1oHkpIbk\n\
GwMm9MfK8bX2bdzrvJlaS042MAoGCCqGSM49BAMCA0kAMEYCIQDsh/1ou+yr7Ynf\n\
KmpNsxUvouusIPd2IV/M3Bb80g2AmQIhAIIclDrSTHNDufphHeubzK5UGzMmIU3X\n\
JVCqNqtwkb9p\n\
-----END CERTIFICATE-----";

    /// Whether the certificate is accepted for `name` where `trusted` is.
    fn verified(pem: &str, trusted: &str, name: &'static str, check_name: bool) -> Result<(), String> {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(trusted)).unwrap();
        let provider = Arc::new(provider().unwrap());
        let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let verifier = Verifier { by_chain, trusted: vec![der(trusted)], check_name, has_lists: false };
        let (name, now) = (ServerName::try_from(name).unwrap(), UnixTime::now());
        let found = verifier.verify_server_cert(&der(pem), &[], &name, &[], now);
        found.map(drop).map_err(|e| explain(&std::io::Error::other(e), Service::Broker).unwrap())
    }

    #[test]
    fn a_trusted_self_signed_certificate_needs_no_ca() {
        assert_eq!(verified(SELF_SIGNED, SELF_SIGNED, "localhost", true), Ok(()));
        let error = verified(SELF_SIGNED, SELF_SIGNED, "other", true).unwrap_err();
        assert!(error.contains("ssl.endpoint.identification.algorithm"), "{error}");
        assert_eq!(verified(SELF_SIGNED, SELF_SIGNED, "other", false), Ok(()));
        let error = verified(SELF_SIGNED, VERSION_1, "localhost", true).unwrap_err();
        assert!(error.contains("a CA's own certificate (trust exactly"), "{error}");
    }

    #[test]
    fn a_version_1_certificate_is_refused_with_what_to_do() {
        let error = verified(VERSION_1, VERSION_1, "localhost", true).unwrap_err();
        assert!(error.contains("version 1") && error.contains("subjectAltName"), "{error}");
    }

    #[test]
    fn a_refused_client_certificate_is_named() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateUnknown);
        let error = explain(&std::io::Error::other(alert), Service::Broker).unwrap();
        assert!(error.contains("requires a client certificate") && error.contains("ssl.keystore.location"), "{error}");
    }

    #[test]
    fn only_the_named_cipher_suites_are_left() {
        for (name, left) in [
            ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        ] {
            let mut found = provider().unwrap();
            restrict(&mut found, &[name.to_owned(), "TLS_OTHER".to_owned()]).unwrap();
            assert_eq!(found.cipher_suites.iter().map(iana_name).collect::<Vec<_>>(), [left]);
        }
        let error = restrict(&mut provider().unwrap(), &["TLS_OTHER".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("none is supported (kpipe has TLS_"), "{error}");
    }
}
