//! TLS by rustls, with graviola's cryptography: no C.

use crate::engine::security::{Identity, Tls};
use crate::error::{Disconnect, Error, Result, describe_io};
use crate::record::Node;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Prepares what all connections share.
///
/// # Errors
/// There is no CA to trust, a key is of no use, or no cryptography for this CPU.
pub fn prepare(tls: &Tls) -> Result<Arc<ClientConfig>> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| Error::Usage(format!("{what}: {why}"));
    let provider = Arc::new(provider()?);
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
        return Err(wrong("no CA to trust", &"ssl.truststore.location, or ssl.ca.location, names one"));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| wrong("the CAs to trust", &e))?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.check_name { verifier } else { Arc::new(AnyName { verifier }) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("TLS", &e))?
        // Not for less: AnyName checks all but the name.
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

/// The cryptography: ring's when kpipe was built with it, else graviola's.
#[cfg(feature = "ring")]
fn provider() -> Result<CryptoProvider> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(all(not(feature = "ring"), any(target_arch = "x86_64", target_arch = "aarch64")))]
fn provider() -> Result<CryptoProvider> {
    // graviola wants these, and ends the process without.
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

#[cfg(all(not(feature = "ring"), not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn provider() -> Result<CryptoProvider> {
    Err(no_cryptography())
}

#[cfg(not(feature = "ring"))]
fn no_cryptography() -> Error {
    Error::Usage(
        "TLS: this kpipe's cryptography does not serve this CPU (it needs AES and AVX2, or ARM's AES and SHA-2); cargo build --features ring makes one that does".to_owned(),
    )
}

/// Shakes hands with `node`, whose certificate has to be for the host of its address.
///
/// # Errors
/// [`Error::Security`], when trying again would not help, else [`Error::Disconnected`].
pub async fn connect(config: Arc<ClientConfig>, stream: TcpStream, node: &Node) -> Result<TlsStream<TcpStream>> {
    let address = &*node.address;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Usage(format!("{host} is no name that a certificate can be for")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|e| match explain(&e) {
        Some(why) => Error::Security(format!("TLS with {node}: {why}")),
        None => Error::Disconnected { node: node.clone(), why: Disconnect::DuringHandshake(describe_io(&e)) },
    })
}

/// What to say of an error of TLS; `None` when it is the socket's.
pub fn explain(error: &std::io::Error) -> Option<String> {
    let found: &rustls::Error = error.get_ref()?.downcast_ref()?;
    Some(match found {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                "the broker's certificate is of a CA that is not trusted here: ssl.truststore.location (PEM), or ssl.ca.location, names it".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the broker's certificate has expired ({why})")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{why} (an empty ssl.endpoint.identification.algorithm turns this check off)")
            }
            other => format!("the broker's certificate is refused: {other}"),
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers speaks no TLS: is the listener PLAINTEXT or SASL_PLAINTEXT? (security.protocol)".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure | AlertDescription::BadCertificate) => {
            format!("the broker wants a client certificate that it trusts ({found}): ssl.keystore.location (PEM), or ssl.certificate.location and ssl.key.location")
        }
        other => other.to_string(),
    })
}

/// Checks all but the name.
#[derive(Debug)]
struct AnyName {
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when all else is well.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
