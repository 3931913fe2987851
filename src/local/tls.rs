//! Certificates for `kpipe local --tls`: a CA of its own, and a server's certificate for this host.

use crate::error::{Error, Result};
use crate::local::Certificate;
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names that the server's certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// An uncompressed point of P-256, with which the encoded public key ends.
const POINT_LEN: usize = 65;

/// A certificate of a server, and the CA that has signed it.
#[derive(Debug)]
pub struct Generated {
    /// The server's.
    pub server: Certificate,
    /// The CA's certificate in DER.
    pub authority: Vec<u8>,
}

/// A key that signs certificates.
struct Key {
    key: SigningKey<P256>,
    public: Vec<u8>,
}

fn wrong(why: impl std::fmt::Display) -> Error {
    Error::Usage(format!("--tls: cannot create a certificate: {why}"))
}

impl Key {
    fn generate() -> Result<Self> {
        let key = SigningKey::generate().map_err(|e| wrong(format!("{e:?}")))?;
        let mut buffer = [0; 256];
        let encoded = key.to_spki_der(&mut buffer).map_err(|e| wrong(format!("{e:?}")))?;
        let public = encoded.len().checked_sub(POINT_LEN).map(|from| encoded[from..].to_vec());
        Ok(Self { public: public.ok_or_else(|| wrong("its public key is too short"))?, key })
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rcgen::Error> {
        let mut buffer = [0; 128];
        let signed = self.key.sign_asn1::<Sha256>(&[message], &mut buffer);
        signed.map(<[u8]>::to_vec).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Creates a CA and a certificate for this host.
///
/// # Errors
/// There is no randomness, or no cryptography for this CPU.
pub fn generate() -> Result<Generated> {
    crate::engine::native::check_cryptography()?;
    let serial = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(wrong)?;
        bytes[0] = bytes[0] & 0x7f | 1; // positive, and not 0
        Ok::<_, Error>(Some(SerialNumber::from_slice(&bytes)))
    };
    let (authority_key, key) = (Key::generate()?, Key::generate()?);
    let mut authority = CertificateParams::new(Vec::new()).map_err(wrong)?;
    authority.distinguished_name.push(DnType::CommonName, "kpipe local CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.serial_number = serial()?;
    let signed = authority.self_signed(&authority_key).map_err(wrong)?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(wrong)?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.serial_number = serial()?;
    let issuer = Issuer::from_params(&authority, &authority_key);
    let certificate = params.signed_by(&key, &issuer).map_err(wrong)?;
    let mut buffer = [0; 256];
    let key = key.key.to_pkcs8_der(&mut buffer).map_err(|e| wrong(format!("{e:?}")))?.to_vec();
    let server =
        Certificate { chain: vec![certificate.der().clone()], key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key)) };
    Ok(Generated { server, authority: signed.der().to_vec() })
}
