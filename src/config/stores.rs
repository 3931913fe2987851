//! Certificates and keys: PEM, inline or in files, and PKCS#12 stores, which Java's are since Java 9.

use super::Properties;
use super::declarations::*;
use super::property::{Property, Text};
use super::readers::warn_of_readers;
use crate::engine::security::{Identity, Secret};
use crate::error::{Error, Result, describe_io};
use crate::files;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::sync::Arc;

/// The properties that name the certificates and keys of one kind of server.
pub(super) struct Names {
    truststore_certificates: &'static Property<Text>,
    truststore_location: &'static Property<Text>,
    truststore_type: &'static Property<Text>,
    truststore_password: &'static Property<Text>,
    certificate_chain: &'static Property<Text>,
    certificate_location: &'static Property<Text>,
    key: &'static Property<Text>,
    key_location: &'static Property<Text>,
    key_password: &'static Property<Text>,
    keystore_location: &'static Property<Text>,
    keystore_type: &'static Property<Text>,
    keystore_password: &'static Property<Text>,
}

/// Those of brokers.
pub(super) const BROKERS: Names = Names {
    truststore_certificates: &SSL_TRUSTSTORE_CERTIFICATES,
    truststore_location: &SSL_TRUSTSTORE_LOCATION,
    truststore_type: &SSL_TRUSTSTORE_TYPE,
    truststore_password: &SSL_TRUSTSTORE_PASSWORD,
    certificate_chain: &SSL_KEYSTORE_CERTIFICATE_CHAIN,
    certificate_location: &SSL_CERTIFICATE_LOCATION,
    key: &SSL_KEYSTORE_KEY,
    key_location: &SSL_KEY_LOCATION,
    key_password: &SSL_KEY_PASSWORD,
    keystore_location: &SSL_KEYSTORE_LOCATION,
    keystore_type: &SSL_KEYSTORE_TYPE,
    keystore_password: &SSL_KEYSTORE_PASSWORD,
};

/// Those of the schema registry.
pub(super) const REGISTRY: Names = Names {
    truststore_certificates: &SCHEMA_REGISTRY_SSL_TRUSTSTORE_CERTIFICATES,
    truststore_location: &SCHEMA_REGISTRY_SSL_TRUSTSTORE_LOCATION,
    truststore_type: &SCHEMA_REGISTRY_SSL_TRUSTSTORE_TYPE,
    truststore_password: &SCHEMA_REGISTRY_SSL_TRUSTSTORE_PASSWORD,
    certificate_chain: &SCHEMA_REGISTRY_SSL_KEYSTORE_CERTIFICATE_CHAIN,
    certificate_location: &SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION,
    key: &SCHEMA_REGISTRY_SSL_KEYSTORE_KEY,
    key_location: &SCHEMA_REGISTRY_SSL_KEY_LOCATION,
    key_password: &SCHEMA_REGISTRY_SSL_KEY_PASSWORD,
    keystore_location: &SCHEMA_REGISTRY_SSL_KEYSTORE_LOCATION,
    keystore_type: &SCHEMA_REGISTRY_SSL_KEYSTORE_TYPE,
    keystore_password: &SCHEMA_REGISTRY_SSL_KEYSTORE_PASSWORD,
};

/// The CAs to trust, if `properties` name any.
pub(super) fn authorities(properties: &Properties, names: &Names) -> Result<Option<Vec<CertificateDer<'static>>>> {
    if let Some(inline) = properties.get(names.truststore_certificates)? {
        return certificates(properties, names.truststore_certificates, inline.as_bytes()).map(Some);
    }
    let name = names.truststore_location;
    let Some(store) = Store::open(properties, name, names.truststore_type, names.truststore_password)? else {
        return Ok(None);
    };
    match store {
        Store::Pem(bytes) => certificates(properties, name, &bytes).map(Some),
        Store::Pkcs12(store) => {
            let certificates = store.entries().filter_map(|(_, entry)| match entry {
                KeyStoreEntry::Certificate(certificate) => Some(der(certificate)),
                _ => None,
            });
            Ok(Some(certificates.collect()))
        }
    }
}

/// The CAs of the token endpoint, if `properties` name any.
pub(super) fn https_authorities(properties: &Properties) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let Some((from, pem)) = pem(properties, &HTTPS_CA_PEM, &HTTPS_CA_LOCATION)? else { return Ok(None) };
    certificates(properties, from, &pem).map(Some)
}

/// The revocation lists in the file that `properties` name, if they do.
pub(super) fn revocation_lists(properties: &Properties) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let name = &SSL_CRL_LOCATION;
    let Some(path) = properties.get(name)? else { return Ok(Vec::new()) };
    let pem = read(properties, name, &path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(properties.malformed(name, "no revocation list found (expected PEM)")),
        found => found.map_err(|e| properties.malformed(name, &e.to_string())),
    }
}

/// Whether `properties` name a certificate of the client for brokers.
pub(super) fn names_identity(properties: &Properties) -> bool {
    let all = [&SSL_KEYSTORE_CERTIFICATE_CHAIN, &SSL_CERTIFICATE_LOCATION, &SSL_KEYSTORE_LOCATION];
    all.into_iter().any(|name| properties.is_set(name))
}

/// PEM text, and the property that it comes from.
type Pem = (&'static Property<Text>, Vec<u8>);

/// PEM text in the property `inline`, else in the file that `file` names.
fn pem(properties: &Properties, inline: &'static Property<Text>, file: &'static Property<Text>) -> Result<Option<Pem>> {
    Ok(match (properties.get(inline)?, properties.get(file)?) {
        (Some(text), _) => Some((inline, text.into_bytes())),
        (None, Some(path)) => Some((file, read(properties, file, &path)?)),
        (None, None) => None,
    })
}

/// The client's certificate and key, if `properties` name any.
pub(super) fn identity(properties: &Properties, names: &Names) -> Result<Option<Identity>> {
    let chain = pem(properties, names.certificate_chain, names.certificate_location)?;
    let key = pem(properties, names.key, names.key_location)?;
    match (chain, key) {
        (Some((chain_from, chain)), key) => {
            // One file may have both.
            let (key_from, key) = key.unwrap_or((chain_from, chain.clone()));
            let chain = certificates(properties, chain_from, &chain)?;
            Ok(Some(Identity { chain, key: private_key(properties, key_from, names.key_password, &key)? }))
        }
        (None, Some(_)) => Err(Error::Usage(format!(
            "a client key requires its certificate (set {} or {})",
            names.certificate_chain.name, names.certificate_location.name
        ))),
        (None, None) => key_store(properties, names),
    }
}

fn key_store(properties: &Properties, names: &Names) -> Result<Option<Identity>> {
    let name = names.keystore_location;
    match Store::open(properties, name, names.keystore_type, names.keystore_password)? {
        None => Ok(None),
        Some(Store::Pem(bytes)) => {
            let chain = certificates(properties, name, &bytes)?;
            Ok(Some(Identity { chain, key: private_key(properties, name, names.key_password, &bytes)? }))
        }
        Some(Store::Pkcs12(store)) => {
            let found = store.private_key_chain().ok_or_else(|| properties.malformed(name, "no private key found"))?;
            let chain = found.1.certs().iter().map(der).collect();
            let key = PrivatePkcs8KeyDer::from(found.1.key().as_der().to_vec());
            Ok(Some(Identity { chain, key: Arc::new(key.into()) }))
        }
    }
}

fn der(certificate: &p12_keystore::Certificate) -> CertificateDer<'static> {
    certificate.as_der().to_vec().into()
}

fn read(properties: &Properties, name: &Property<Text>, path: &str) -> Result<Vec<u8>> {
    let (bytes, metadata) = files::read_with_metadata(Path::new(path), files::SETTINGS_LIMIT)
        .map_err(|e| properties.malformed(name, &describe_io(&e)))?;
    let has = |what: &[u8]| memchr::memmem::find(&bytes, what).is_some();
    // An encrypted key needs its password, too.
    if has(b"PRIVATE KEY-----") && !has(b"ENCRYPTED PRIVATE KEY-----") && !has(b"Proc-Type: 4,ENCRYPTED") {
        warn_of_readers(Path::new(path), "a private key", &metadata);
    }
    Ok(bytes)
}

fn certificates(properties: &Properties, name: &Property<Text>, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(properties.malformed(name, "no certificate found (expected PEM)")),
        found => found.map_err(|e| properties.malformed(name, &e.to_string())),
    }
}

fn private_key(
    properties: &Properties,
    name: &Property<Text>,
    password: &Property<Text>,
    pem: &[u8],
) -> Result<Arc<PrivateKeyDer<'static>>> {
    let wrong = |why: &str| properties.malformed(name, why);
    let text = String::from_utf8_lossy(pem);
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(
            "the key uses OpenSSL's legacy encryption (convert it: openssl pkcs8 -topk8 -in key.pem -out new.pem)",
        ));
    }
    let Some(begin) = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----") else {
        let key = PrivateKeyDer::from_pem_slice(pem);
        return key.map(Arc::new).map_err(|_| wrong("no private key found (expected PEM)"));
    };
    let password_name = password.name;
    let Some(password) = properties.get(password)? else {
        return Err(wrong(&format!("the key is encrypted (set {password_name})")));
    };
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let end = text[begin..].find(END).map_or(text.len(), |at| begin + at + END.len());
    let (_, encrypted) = pkcs8::SecretDocument::from_pem(&text[begin..end]).map_err(|e| wrong(&e.to_string()))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).map_err(|e| wrong(&e.to_string()))?;
    let plain = encrypted.decrypt(password).map_err(|_| {
        wrong(&format!("{password_name} does not decrypt the key, or its encryption is an old one (openssl pkcs8 -topk8 -v2 aes-256-cbc writes a new one)"))
    })?;
    Ok(Arc::new(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into()))
}

/// What a file that holds certificates is.
enum Store {
    Pem(Vec<u8>),
    Pkcs12(KeyStore),
}

impl Store {
    /// Opens the file that `name` names, if it is set. Its type is what its first bytes say.
    fn open(
        properties: &Properties,
        name: &Property<Text>,
        kind: &Property<Text>,
        password: &Property<Text>,
    ) -> Result<Option<Self>> {
        let Some(path) = properties.get(name)? else { return Ok(None) };
        let bytes = read(properties, name, &path)?;
        let wrong = |why: &str| Err(properties.malformed(name, why));
        match bytes[..] {
            [0xfe, 0xed, 0xfe, 0xed, ..] => wrong(&format!(
                "JKS stores are not supported (convert it: keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12)"
            )),
            [0x30, 0x80..=0x84, ..] => {
                let Some(secret) = properties.get(password)? else {
                    return wrong(&format!("the PKCS#12 store requires {}", password.name));
                };
                let secret = Secret::from(secret);
                let store = KeyStore::from_pkcs12(&bytes, secret.reveal(), Pkcs12ImportPolicy::Relaxed);
                store.map(|store| Some(Self::Pkcs12(store))).or_else(|e| {
                    let password = password.name;
                    wrong(&format!("the PKCS#12 store cannot be read ({e}): is {password} right?"))
                })
            }
            _ if properties.get(kind)?.is_some_and(|kind| !kind.eq_ignore_ascii_case("PEM")) => {
                wrong(&format!("not a PKCS#12 or JKS store, although {} is set to that", kind.name))
            }
            _ => Ok(Some(Self::Pem(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn a_private_key_is_kept_out_of_core_dumps() {
        let limits = getrlimit(Resource::Core);
        setrlimit(Resource::Core, Rlimit { current: limits.maximum, ..limits }).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN PRIVATE KEY-----").unwrap();
        read(&Properties::default(), &SSL_KEY_LOCATION, &file.path().display().to_string()).unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
