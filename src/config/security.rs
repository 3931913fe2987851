//! How a cluster is secured, as the Java client's and librdkafka's properties have it.

use super::declarations::*;
use super::property::{Declared, Property};
use super::readers::warn_of_readers;
use super::security_values::{MECHANISMS, SaslMechanism, SecurityProtocol};
use super::{Properties, stores};
use crate::engine::security::{Bearer, Oidc, Sasl, Secret, Security, Tls, TlsVersion, Token, TokenSource};
use crate::error::{Error, Result};
use crate::files;
use std::path::Path;

/// What `properties` ask for.
///
/// # Errors
/// A value is not one of those it can have, a file cannot be read, or something is missing.
pub(super) fn resolve(properties: &Properties) -> Result<Security> {
    let protocol = match properties.get(&SECURITY_PROTOCOL)? {
        Some(protocol) => protocol,
        None => derived(properties)?,
    };
    Ok(Security {
        tls: if protocol.tls { Some(resolve_tls(properties)?) } else { None },
        sasl: if protocol.sasl { Some(resolve_sasl(properties)?) } else { None },
    })
}

/// What the listener requires, from what else is set: no setting that protects may have no effect.
fn derived(properties: &Properties) -> Result<SecurityProtocol> {
    let set = |prefix: &str| properties.names().find(|name| name.starts_with(prefix));
    let (sasl, ssl) = (set("sasl."), set("ssl."));
    let tls = properties.is_set(&SSL_TRUSTSTORE_LOCATION)
        || properties.is_set(&SSL_TRUSTSTORE_CERTIFICATES)
        || stores::names_identity(properties);
    let needed = |name: &str, values: &str| {
        Err(Error::Usage(format!("{name} is set, but security.protocol is not (set security.protocol={values})")))
    };
    match (sasl, ssl) {
        (None, None) => Ok(SecurityProtocol { tls: false, sasl: false }),
        (sasl, Some(_)) if tls => Ok(SecurityProtocol { tls, sasl: sasl.is_some() }),
        (None, Some(name)) => needed(name, "SSL, or PLAINTEXT for a listener without TLS"),
        (Some(name), _) => needed(name, "SASL_SSL, or SASL_PLAINTEXT for a listener without TLS"),
    }
}

fn resolve_tls(properties: &Properties) -> Result<Tls> {
    // Set to anything but true, it is an error.
    properties.get(&ENABLE_SSL_CERTIFICATE_VERIFICATION)?;
    let mut versions = properties.get(&SSL_ENABLED_PROTOCOLS)?;
    if properties.get(&SSL_PROTOCOL)? == TlsVersion::Tls12 {
        versions.retain(|version| *version == TlsVersion::Tls12);
    }
    if versions.is_empty() {
        return Err(properties.malformed(&SSL_PROTOCOL, "ssl.enabled.protocols has no version up to this one"));
    }
    Ok(Tls {
        authorities: stores::authorities(properties, &stores::BROKERS)?,
        identity: stores::identity(properties, &stores::BROKERS)?,
        check_name: properties.get(&SSL_ENDPOINT_IDENTIFICATION_ALGORITHM)?,
        versions,
        cipher_suites: properties.get(&SSL_CIPHER_SUITES)?,
        revocation_lists: stores::revocation_lists(properties)?,
    })
}

/// The options of `sasl.jaas.config`, with the properties that mean the same.
struct Credentials<'a> {
    properties: &'a Properties,
    mechanism: SaslMechanism,
    jaas: Vec<(String, String)>,
}

impl Credentials<'_> {
    fn either<K: Declared<Output = Option<String>>>(
        &self,
        name: &str,
        property: &Property<K>,
    ) -> Result<Option<String>> {
        match self.jaas.iter().find(|(key, _)| key == name) {
            Some((_, value)) => Ok(Some(value.clone())),
            None => self.properties.get(property),
        }
    }

    fn needed<K: Declared<Output = Option<String>>>(&self, name: &str, property: &Property<K>) -> Result<String> {
        self.either(name, property)?.ok_or_else(|| {
            let (mechanism, property) = (self.mechanism.name(), property.name);
            Error::Usage(format!("sasl.mechanism={mechanism} requires {property}, or {name} in sasl.jaas.config"))
        })
    }
}

fn resolve_sasl(properties: &Properties) -> Result<Sasl> {
    let mechanism = properties.get(&SASL_MECHANISM)?.ok_or_else(|| {
        Error::Usage(format!("security.protocol=SASL_… requires sasl.mechanism, one of {MECHANISMS}"))
    })?;
    let jaas = properties.get(&SASL_JAAS_CONFIG)?.unwrap_or_default();
    let credentials = Credentials { properties, mechanism, jaas };
    match mechanism {
        SaslMechanism::OauthBearer => resolve_bearer(&credentials).map(Sasl::Bearer),
        SaslMechanism::Password(mechanism) => Ok(Sasl::Password {
            mechanism,
            username: credentials.needed("username", &SASL_USERNAME)?,
            password: Secret::from(credentials.needed("password", &SASL_PASSWORD)?),
        }),
    }
}

fn resolve_bearer(credentials: &Credentials<'_>) -> Result<Bearer> {
    let properties = credentials.properties;
    let endpoint = properties.get(&SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL)?;
    let token = match (properties.late(&SASL_OAUTHBEARER_TOKEN), endpoint) {
        (Some(token), _) => Token::Supplied(TokenSource::new(token)),
        // The Java client's way to name a file.
        (None, Some(file)) if file.starts_with("file:") => {
            let path = file.trim_start_matches("file:");
            let path = path.strip_prefix("//").unwrap_or(path).to_owned();
            Token::Supplied(TokenSource::new(move || {
                let read = files::read_with_metadata(Path::new(&path), files::SETTINGS_LIMIT);
                let (bytes, metadata) = read.map_err(|e| format!("{path}: {}", crate::error::describe_io(&e)))?;
                warn_of_readers(Path::new(&path), "a token", &metadata);
                let text = String::from_utf8(bytes).map_err(|_| format!("{path}: not UTF-8"))?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }))
        }
        (None, Some(endpoint)) => Token::Oidc(Oidc {
            endpoint,
            client_id: credentials.needed("clientId", &SASL_OAUTHBEARER_CLIENT_ID)?,
            client_secret: Secret::from(credentials.needed("clientSecret", &SASL_OAUTHBEARER_CLIENT_SECRET)?),
            scope: credentials.either("scope", &SASL_OAUTHBEARER_SCOPE)?,
            authorities: stores::https_authorities(properties)?,
        }),
        (None, None) => {
            return Err(Error::Usage(
                "sasl.mechanism=OAUTHBEARER requires sasl.oauthbearer.token (${file:PATH} and ${command:LINE} are looked up for each connection) or sasl.oauthbearer.token.endpoint.url".to_owned(),
            ));
        }
    };
    let listed = properties.get(&SASL_OAUTHBEARER_EXTENSIONS)?.unwrap_or_default();
    let in_jaas = credentials.jaas.iter();
    let in_jaas = in_jaas.filter_map(|(key, value)| Some((key.strip_prefix("extension_")?.to_owned(), value.clone())));
    Ok(Bearer { token, extensions: in_jaas.chain(listed).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::security::Mechanism;

    fn resolve(settings: &[&str]) -> Result<Security> {
        super::resolve(&Properties::of(settings)?)
    }

    fn password(settings: &[&str]) -> (Mechanism, String, String) {
        match resolve(settings).unwrap().sasl {
            Some(Sasl::Password { mechanism, username, password }) => {
                assert!(!format!("{password:?}").contains(password.reveal()), "a secret is not shown");
                (mechanism, username, password.reveal().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_clients_ways_to_name_a_user_are_read() {
        let jaas = r#"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="al\"ice" password="p;w=1 \\x";"#;
        let java = password(&["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-512", jaas]);
        assert_eq!(java, (Mechanism::ScramSha512, "al\"ice".to_owned(), "p;w=1 \\x".to_owned()));
        let librdkafka =
            ["security.protocol=sasl_plaintext", "sasl.mechanisms=PLAIN", "sasl.username=bob", "sasl.password=pw"];
        assert_eq!(password(&librdkafka), (Mechanism::Plain, "bob".to_owned(), "pw".to_owned()));
        assert_eq!(resolve(&librdkafka).unwrap().principal().as_deref(), Some("User:bob"));
        assert_eq!(resolve(&[]).unwrap().principal().as_deref(), Some("User:ANONYMOUS"));
    }

    #[test]
    fn both_clients_ways_to_a_token_are_read() {
        let base = ["security.protocol=SASL_SSL", "sasl.mechanism=OAUTHBEARER"];
        let bearer = |more: &[&str]| match resolve(&[&base, more].concat()).unwrap().sasl {
            Some(Sasl::Bearer(bearer)) => bearer,
            other => panic!("{other:?}"),
        };
        let url = "sasl.oauthbearer.token.endpoint.url=https://login/token";
        let jaas = r#"sasl.jaas.config=x.OAuthBearerLoginModule required clientId="me" clientSecret="s3" scope="kafka" extension_pool="p";"#;
        let java = bearer(&[url, jaas]);
        assert_eq!(java.extensions, [("pool".to_owned(), "p".to_owned())]);
        assert!(
            matches!(&java.token, Token::Oidc(oidc) if oidc.client_id == "me" && oidc.client_secret.reveal() == "s3")
        );
        let librdkafka = bearer(&[
            url,
            "sasl.oauthbearer.method=oidc",
            "sasl.oauthbearer.client.id=me",
            "sasl.oauthbearer.client.secret=s3",
            "sasl.oauthbearer.scope=kafka",
            "sasl.oauthbearer.extensions=pool=p",
        ]);
        assert!(!format!("{librdkafka:?}").contains("s3"));
        assert_eq!(format!("{java:?}"), format!("{librdkafka:?}"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc\n").unwrap();
        let file = bearer(&[&format!("sasl.oauthbearer.token.endpoint.url=file://{}", path.display())]);
        assert!(matches!(&file.token, Token::Supplied(source) if source.token().unwrap().reveal() == "abc"));
    }

    /// Without security.protocol, nothing that protects is left unused without an error.
    #[test]
    fn the_protocol_follows_from_what_is_set_or_is_asked_for() {
        let ca = "ssl.ca.location=/etc/ssl/certs/ca-certificates.crt";
        let sasl = ["sasl.mechanism=PLAIN", "sasl.username=u", "sasl.password=p"];
        let protocol = |settings: &[&str]| {
            derived(&Properties::of(settings).unwrap()).map(|protocol| (protocol.tls, protocol.sasl))
        };
        assert_eq!(protocol(&["client.id=x"]).unwrap(), (false, false));
        assert_eq!(protocol(&[ca]).unwrap(), (true, false));
        assert_eq!(protocol(&[&[ca][..], &sasl].concat()).unwrap(), (true, true));
        for (settings, says) in [
            (&sasl[..], "sasl.mechanism is set, but security.protocol is not (set security.protocol=SASL_SSL"),
            (&["ssl.enabled.protocols=TLSv1.3"], "set security.protocol=SSL"),
            (&["sasl.jaas.config=x required a=b;", "ssl.key.password=p"], "set security.protocol=SASL_SSL"),
        ] {
            let error = protocol(settings).unwrap_err().to_string();
            assert!(error.contains(says), "{settings:?}: {error}");
        }
        let plaintext = [&["security.protocol=PLAINTEXT"][..], &sasl].concat();
        assert!(!resolve(&plaintext).unwrap().is_some(), "what is asked for counts");
    }

    #[test]
    fn versions_of_tls_are_limited_by_both_properties() {
        let versions = |settings: &[&str]| {
            resolve(&[&["security.protocol=SSL"], settings].concat()).map(|security| security.tls.unwrap().versions)
        };
        assert_eq!(versions(&[]).unwrap(), [TlsVersion::Tls12, TlsVersion::Tls13]);
        assert_eq!(versions(&["ssl.protocol=TLSv1.2"]).unwrap(), [TlsVersion::Tls12]);
        assert_eq!(versions(&["ssl.enabled.protocols=TLSv1.3"]).unwrap(), [TlsVersion::Tls13]);
        assert!(versions(&["ssl.enabled.protocols=TLSv1.3", "ssl.protocol=TLSv1.2"]).is_err());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (settings, says) in [
            (&["security.protocol=TLS"][..], "expected PLAINTEXT, SSL"),
            (&["security.protocol=SASL_SSL"], "requires sasl.mechanism"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=GSSAPI"], "supported mechanisms are PLAIN"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN"], "requires sasl.username"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN", "sasl.jaas.config=x"], "expected CLASS required"),
            (&["security.protocol=SSL", "ssl.truststore.location=/none"], "No such file"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=OAUTHBEARER"], "requires sasl.oauthbearer.token"),
            (
                &[
                    "security.protocol=SASL_SSL",
                    "sasl.mechanism=OAUTHBEARER",
                    "sasl.oauthbearer.token.endpoint.url=http://x",
                ],
                "requires sasl.oauthbearer.client.id",
            ),
            (&["security.protocol=SSL", "ssl.keystore.key=x"], "a client key requires its certificate"),
            (&["security.protocol=SSL", "ssl.endpoint.identification.algorithm=x"], "expected https"),
        ] {
            let error = resolve(settings).unwrap_err().to_string();
            assert!(error.contains(says), "{settings:?}: {error}");
        }
    }
}
