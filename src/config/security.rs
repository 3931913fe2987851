//! How a cluster is secured, as the Java client's and librdkafka's properties say it.

use super::Properties;
use crate::error::{Error, Result, describe_io};
use std::fmt;
use std::path::Path;

/// Text that must not be seen: its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
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
    /// TLS, where the listener wants it.
    pub tls: Option<Tls>,
    /// SASL, where the listener wants it.
    pub sasl: Option<Sasl>,
}

/// TLS as the client wants it.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM with the CAs to trust; `None` is the system's.
    pub authorities: Option<String>,
    /// PEM with the client's certificate and those that lead to its CA, and its key.
    pub identity: Option<(String, Secret)>,
    /// Whether the certificate has to be for the broker's name.
    pub check_name: bool,
}

/// Who the client is.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// How it proves that.
    pub mechanism: Mechanism,
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// A SASL mechanism.
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

/// Stores of these types are Java's own.
const JAVA_STORES: [&str; 2] = ["JKS", "PKCS12"];

impl Security {
    /// What `properties` ask for.
    ///
    /// # Errors
    /// A value is none of those it can have, a file cannot be read, or something is missing.
    pub fn resolve(properties: &Properties) -> Result<Self> {
        let protocol = properties.text("security.protocol").unwrap_or("PLAINTEXT").to_ascii_uppercase();
        let (tls, sasl) = match protocol.as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                return Err(
                    properties.malformed("security.protocol", "expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
                );
            }
        };
        Ok(Self {
            tls: if tls { Some(Tls::resolve(properties)?) } else { None },
            sasl: if sasl { Some(Sasl::resolve(properties)?) } else { None },
        })
    }

    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.tls.is_some() || self.sasl.is_some()
    }
}

impl Tls {
    fn resolve(properties: &Properties) -> Result<Self> {
        let authorities = match properties.text("ssl.truststore.certificates") {
            Some(inline) => Some(inline.to_owned()),
            None => pem_file(properties, "ssl.truststore.location", "ssl.truststore.type", "-nokeys -out ca.pem")?,
        };
        let inline = properties.text("ssl.keystore.certificate.chain").map(str::to_owned);
        let chain = match inline {
            Some(inline) => Some(inline),
            None => match properties.text("ssl.certificate.location") {
                Some(path) => Some(read(properties, "ssl.certificate.location", path)?),
                None => pem_file(properties, "ssl.keystore.location", "ssl.keystore.type", "-nodes -out client.pem")?,
            },
        };
        let key = match (properties.text("ssl.keystore.key"), properties.text("ssl.key.location")) {
            (Some(inline), _) => Some(inline.to_owned()),
            (None, Some(path)) => Some(read(properties, "ssl.key.location", path)?),
            // A PEM keystore has both in one file.
            (None, None) => chain.clone().filter(|pem| pem.contains("PRIVATE KEY-----")),
        };
        let identity = match (chain, key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some((chain, Secret(key))),
            (Some(_), None) => {
                return Err(Error::Usage(
                    "a client certificate needs its key: ssl.keystore.key or ssl.key.location".to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err(Error::Usage(
                    "a client key needs its certificate: ssl.keystore.certificate.chain or ssl.certificate.location"
                        .to_owned(),
                ));
            }
        };
        let algorithm = properties.text("ssl.endpoint.identification.algorithm").unwrap_or("https");
        let check_name = match algorithm.to_ascii_lowercase().as_str() {
            "https" => true,
            "" | "none" => false,
            _ => {
                let expected = "expected https, or nothing for no check of the broker's name";
                return Err(properties.malformed("ssl.endpoint.identification.algorithm", expected));
            }
        };
        Ok(Self { authorities, identity, check_name })
    }
}

/// The PEM in the file that `name` names. Java's own stores are refused with the command that converts them.
fn pem_file(properties: &Properties, name: &str, kind: &str, convert: &str) -> Result<Option<String>> {
    let Some(path) = properties.text(name) else { return Ok(None) };
    let typed = properties.text(kind).map(str::to_ascii_uppercase);
    let java = |what: &str| {
        let command = match what {
            "JKS" => format!(
                "keytool -importkeystore -srckeystore {path} -destkeystore store.p12 -deststoretype PKCS12 && openssl pkcs12 -in store.p12 {convert}"
            ),
            _ => format!("openssl pkcs12 -in {path} {convert}"),
        };
        let why = format!("a {what} store, which kpipe does not read; as PEM it does, with {kind}=PEM: {command}");
        Err(properties.malformed(name, &why))
    };
    if let Some(what) = JAVA_STORES.iter().find(|store| typed.as_deref() == Some(store)) {
        return java(what);
    }
    let bytes = std::fs::read(path).map_err(|e| properties.malformed(name, &describe_io(&e)))?;
    match bytes[..] {
        [0xfe, 0xed, 0xfe, 0xed, ..] => java("JKS"),
        [0x30, 0x82 | 0x83, ..] => java("PKCS12"),
        _ => String::from_utf8(bytes).map(Some).map_err(|_| properties.malformed(name, "no PEM")),
    }
}

fn read(properties: &Properties, name: &str, path: &str) -> Result<String> {
    std::fs::read_to_string(Path::new(path)).map_err(|e| properties.malformed(name, &describe_io(&e)))
}

impl Sasl {
    fn resolve(properties: &Properties) -> Result<Self> {
        let named = properties.text("sasl.mechanism").ok_or_else(|| {
            Error::Usage(
                "security.protocol=SASL_… needs sasl.mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".to_owned(),
            )
        })?;
        let all = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
        let mechanism = all.into_iter().find(|mechanism| mechanism.name() == named).ok_or_else(|| {
            properties.malformed("sasl.mechanism", "kpipe has PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512")
        })?;
        let jaas = match properties.text("sasl.jaas.config") {
            Some(text) => jaas_options(text).ok_or_else(|| {
                properties.malformed("sasl.jaas.config", "expected CLASS required username=\"…\" password=\"…\";")
            })?,
            None => Vec::new(),
        };
        let option = |name: &str| jaas.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let either = |name: &str, property: &str| {
            option(name).or_else(|| properties.text(property).map(str::to_owned)).ok_or_else(|| {
                Error::Usage(format!("sasl.mechanism={named} needs {property}, or {name} in sasl.jaas.config"))
            })
        };
        let username = either("username", "sasl.username")?;
        Ok(Self { mechanism, username, password: Secret(either("password", "sasl.password")?) })
    }
}

/// The options of a JAAS login module: `CLASS required name="value" …;`.
fn jaas_options(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().strip_suffix(';')?.trim();
    for _ in ["the class", "its control flag"] {
        rest = rest.split_once(char::is_whitespace)?.1.trim_start();
    }
    let mut options = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, end) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        options.push((name.trim().to_owned(), value));
        rest = end.trim_start();
    }
    Some(options)
}

/// Up to the closing quote; a backslash takes the next character as it is.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[&str]) -> Result<Security> {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        Security::resolve(&Properties::load(None, &settings).unwrap())
    }

    #[test]
    fn both_clients_ways_to_name_a_user_are_read() {
        let jaas = r#"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="al\"ice" password="p;w=1 \\x";"#;
        let java =
            resolve(&["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-512", jaas]).unwrap().sasl.unwrap();
        assert_eq!((java.username.as_str(), java.password.reveal()), ("al\"ice", "p;w=1 \\x"));
        assert_eq!(java.mechanism, Mechanism::ScramSha512);
        let librdkafka =
            ["security.protocol=sasl_plaintext", "sasl.mechanisms=PLAIN", "sasl.username=bob", "sasl.password=pw"];
        let librdkafka = resolve(&librdkafka).unwrap().sasl.unwrap();
        assert_eq!((librdkafka.username.as_str(), librdkafka.password.reveal()), ("bob", "pw"));
        assert!(!format!("{librdkafka:?}").contains("pw"), "a secret is not shown");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (settings, says) in [
            (&["security.protocol=TLS"][..], "expected PLAINTEXT, SSL"),
            (&["security.protocol=SASL_SSL"], "needs sasl.mechanism"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=GSSAPI"], "kpipe has PLAIN"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN"], "needs sasl.username"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN", "sasl.jaas.config=x"], "expected CLASS required"),
            (&["security.protocol=SSL", "ssl.truststore.location=/none"], "No such file"),
            (
                &["security.protocol=SSL", "ssl.truststore.location=a.jks", "ssl.truststore.type=JKS"],
                "keytool -importkeystore",
            ),
            (&["security.protocol=SSL", "ssl.endpoint.identification.algorithm=x"], "expected https"),
        ] {
            let error = resolve(settings).unwrap_err().to_string();
            assert!(error.contains(says), "{settings:?}: {error}");
        }
    }
}
