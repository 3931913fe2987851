//! Certificates and keys: PEM, inline or in files, and PKCS#12 stores, which Java's are since Java 9.

use super::Properties;
use crate::engine::security::{Identity, Secret};
use crate::error::{Error, Result, describe_io};
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::sync::Arc;

/// The CAs to trust, when `properties` name any.
pub(super) fn authorities(properties: &Properties) -> Result<Option<Vec<CertificateDer<'static>>>> {
    if let Some(inline) = properties.text("ssl.truststore.certificates") {
        return certificates(properties, "ssl.truststore.certificates", inline.as_bytes()).map(Some);
    }
    let name = "ssl.truststore.location";
    let Some(store) = Store::open(properties, name, "ssl.truststore.type", "ssl.truststore.password")? else {
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

/// The CAs of a PEM file that `name` names, when it does.
pub(super) fn pem_file(properties: &Properties, name: &str) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let Some(path) = properties.text(name) else { return Ok(None) };
    certificates(properties, name, &read(properties, name, path)?).map(Some)
}

/// Who the client is, when `properties` say.
pub(super) fn identity(properties: &Properties) -> Result<Option<Identity>> {
    let (chain, key) = ("ssl.keystore.certificate.chain", "ssl.keystore.key");
    let inline = |name: &'static str, file: &'static str| -> Result<Option<(&'static str, Vec<u8>)>> {
        Ok(match (properties.text(name), properties.text(file)) {
            (Some(inline), _) => Some((name, inline.as_bytes().to_vec())),
            (None, Some(path)) => Some((file, read(properties, file, path)?)),
            (None, None) => None,
        })
    };
    let (chain, key) = (inline(chain, "ssl.certificate.location")?, inline(key, "ssl.key.location")?);
    match (chain, key) {
        (Some((chain_from, chain)), key) => {
            // One file may have both.
            let (key_from, key) = key.unwrap_or((chain_from, chain.clone()));
            let chain = certificates(properties, chain_from, &chain)?;
            Ok(Some(Identity { chain, key: private_key(properties, key_from, &key)? }))
        }
        (None, Some(_)) => Err(Error::Usage(
            "a client key needs its certificate: ssl.keystore.certificate.chain or ssl.certificate.location".to_owned(),
        )),
        (None, None) => key_store(properties),
    }
}

fn key_store(properties: &Properties) -> Result<Option<Identity>> {
    let name = "ssl.keystore.location";
    match Store::open(properties, name, "ssl.keystore.type", "ssl.keystore.password")? {
        None => Ok(None),
        Some(Store::Pem(bytes)) => {
            let chain = certificates(properties, name, &bytes)?;
            Ok(Some(Identity { chain, key: private_key(properties, name, &bytes)? }))
        }
        Some(Store::Pkcs12(store)) => {
            let found =
                store.private_key_chain().ok_or_else(|| properties.malformed(name, "it holds no private key"))?;
            let chain = found.1.certs().iter().map(der).collect();
            let key = PrivatePkcs8KeyDer::from(found.1.key().as_der().to_vec());
            Ok(Some(Identity { chain, key: Arc::new(key.into()) }))
        }
    }
}

fn der(certificate: &p12_keystore::Certificate) -> CertificateDer<'static> {
    certificate.as_der().to_vec().into()
}

fn read(properties: &Properties, name: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(Path::new(path)).map_err(|e| properties.malformed(name, &describe_io(&e)))
}

fn certificates(properties: &Properties, name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(properties.malformed(name, "no certificate in it (PEM)")),
        found => found.map_err(|e| properties.malformed(name, &e.to_string())),
    }
}

fn private_key(properties: &Properties, name: &str, pem: &[u8]) -> Result<Arc<PrivateKeyDer<'static>>> {
    let wrong = |why: &str| properties.malformed(name, why);
    let text = String::from_utf8_lossy(pem);
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(
            "the key is encrypted in OpenSSL's old way; as PKCS#8 kpipe reads it: openssl pkcs8 -topk8 -in key.pem -out new.pem",
        ));
    }
    let Some(begin) = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----") else {
        let key = PrivateKeyDer::from_pem_slice(pem);
        return key.map(Arc::new).map_err(|_| wrong("no private key in it (PEM)"));
    };
    let Some(password) = properties.text("ssl.key.password") else {
        return Err(wrong("the key is encrypted: ssl.key.password"));
    };
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let end = text[begin..].find(END).map_or(text.len(), |at| begin + at + END.len());
    let (_, encrypted) = pkcs8::SecretDocument::from_pem(&text[begin..end]).map_err(|e| wrong(&e.to_string()))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).map_err(|e| wrong(&e.to_string()))?;
    let plain = encrypted.decrypt(password).map_err(|_| {
        wrong("ssl.key.password does not decrypt the key, or its encryption is an old one (openssl pkcs8 -topk8 -v2 aes-256-cbc writes a new one)")
    })?;
    Ok(Arc::new(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into()))
}

/// What a file that holds certificates is.
enum Store {
    Pem(Vec<u8>),
    Pkcs12(KeyStore),
}

impl Store {
    /// Opens the file that `name` names, when it does. Its type is what its first bytes say.
    fn open(properties: &Properties, name: &str, kind: &str, password: &str) -> Result<Option<Self>> {
        let Some(path) = properties.text(name) else { return Ok(None) };
        let bytes = read(properties, name, path)?;
        match bytes[..] {
            [0xfe, 0xed, 0xfe, 0xed, ..] => Err(properties.malformed(
                name,
                &format!("a store of the old type JKS, which kpipe does not read; as PKCS#12 it does: keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12"),
            )),
            [0x30, 0x80..=0x84, ..] => {
                let Some(secret) = properties.text(password) else {
                    return Err(properties.malformed(name, &format!("a PKCS#12 store, which needs {password}")));
                };
                let secret = Secret::from(secret);
                let store = KeyStore::from_pkcs12(&bytes, secret.reveal(), Pkcs12ImportPolicy::Relaxed);
                store.map(|store| Some(Self::Pkcs12(store))).map_err(|e| {
                    properties.malformed(name, &format!("the PKCS#12 store cannot be read ({e}): is {password} right?"))
                })
            }
            _ if properties.text(kind).is_some_and(|kind| !kind.eq_ignore_ascii_case("PEM")) => {
                Err(properties.malformed(name, &format!("neither a PKCS#12 nor a JKS store, though {kind} says so")))
            }
            _ => Ok(Some(Self::Pem(bytes))),
        }
    }
}
