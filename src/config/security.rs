//! How a cluster is secured, as the Java client's and librdkafka's properties say it.

use super::Properties;
use super::sources::look_up;
use super::stores;
use crate::engine::security::{Bearer, Mechanism, Oidc, Sasl, Secret, Security, Tls, Token, TokenSource};
use crate::error::{Error, Result};

/// What `properties` ask for.
///
/// # Errors
/// A value is none of those it can have, a file cannot be read, or something is missing.
pub(super) fn resolve(properties: &Properties) -> Result<Security> {
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
    Ok(Security {
        tls: if tls { Some(resolve_tls(properties)?) } else { None },
        sasl: if sasl { Some(resolve_sasl(properties)?) } else { None },
    })
}

fn resolve_tls(properties: &Properties) -> Result<Tls> {
    let algorithm = properties.text("ssl.endpoint.identification.algorithm").unwrap_or("https");
    let check_name = match algorithm.to_ascii_lowercase().as_str() {
        "https" => true,
        "" | "none" => false,
        _ => {
            let expected = "expected https, or nothing for no check of the broker's name";
            return Err(properties.malformed("ssl.endpoint.identification.algorithm", expected));
        }
    };
    Ok(Tls { authorities: stores::authorities(properties)?, identity: stores::identity(properties)?, check_name })
}

/// What `sasl.mechanism` may be.
const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER";

fn resolve_sasl(properties: &Properties) -> Result<Sasl> {
    let named = properties
        .text("sasl.mechanism")
        .ok_or_else(|| Error::Usage(format!("security.protocol=SASL_… needs sasl.mechanism: one of {MECHANISMS}")))?;
    let jaas = match properties.text("sasl.jaas.config") {
        Some(text) => jaas_options(text).ok_or_else(|| {
            properties.malformed("sasl.jaas.config", "expected CLASS required username=\"…\" password=\"…\";")
        })?,
        None => Vec::new(),
    };
    let option = |name: &str| jaas.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let either = |name: &str, property: &str| option(name).or_else(|| properties.text(property).map(str::to_owned));
    let needed = |name: &str, property: &str| {
        either(name, property).ok_or_else(|| {
            Error::Usage(format!("sasl.mechanism={named} needs {property}, or {name} in sasl.jaas.config"))
        })
    };
    if named == "OAUTHBEARER" {
        let endpoint = properties.text("sasl.oauthbearer.token.endpoint.url");
        let token = match (properties.text("sasl.oauthbearer.token"), endpoint) {
            (Some(text), _) => supplied(text.to_owned()),
            // The Java client's way to name a file.
            (None, Some(file)) if file.starts_with("file:") => {
                let path = file.trim_start_matches("file:");
                let path = path.strip_prefix("//").unwrap_or(path);
                supplied(format!("${{file:{path}}}"))
            }
            (None, Some(url)) => Token::Oidc(Oidc {
                endpoint: url.to_owned(),
                client_id: needed("clientId", "sasl.oauthbearer.client.id")?,
                client_secret: Secret::from(needed("clientSecret", "sasl.oauthbearer.client.secret")?),
                scope: either("scope", "sasl.oauthbearer.scope"),
                authorities: stores::pem_file(properties, "https.ca.location")?,
            }),
            (None, None) => {
                return Err(Error::Usage(
                        "sasl.mechanism=OAUTHBEARER needs sasl.oauthbearer.token (${file:PATH} and ${command:LINE} are looked up for each connection) or sasl.oauthbearer.token.endpoint.url".to_owned(),
                    ));
            }
        };
        let listed = properties.parsed("sasl.oauthbearer.extensions", parse_extensions)?.unwrap_or_default();
        let in_jaas =
            jaas.iter().filter_map(|(key, value)| Some((key.strip_prefix("extension_")?.to_owned(), value.clone())));
        return Ok(Sasl::Bearer(Bearer { token, extensions: in_jaas.chain(listed).collect() }));
    }
    let all = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    let mechanism = all
        .into_iter()
        .find(|mechanism| mechanism.name() == named)
        .ok_or_else(|| properties.malformed("sasl.mechanism", &format!("kpipe has {MECHANISMS}")))?;
    let username = needed("username", "sasl.username")?;
    Ok(Sasl::Password { mechanism, username, password: Secret::from(needed("password", "sasl.password")?) })
}

/// A token, or a reference to one.
fn supplied(text: String) -> Token {
    Token::Supplied(TokenSource::new(move || look_up(&text)))
}

/// `name=value,…`, as librdkafka has them.
fn parse_extensions(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.split(',').map(|each| pair(each).ok_or_else(|| "expected name=value,…".to_owned())).collect()
}

/// The options of a JAAS login module: `CLASS required name="value" …;`. `None` is malformed.
pub fn jaas_options(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().strip_suffix(';')?.trim();
    rest = rest.split_once(char::is_whitespace)?.1.trim_start(); // the class
    rest = rest.split_once(char::is_whitespace).map_or("", |(_flag, options)| options.trim_start());
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
        super::resolve(&Properties::of(settings).unwrap())
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
        assert_eq!(jaas_options("x.OAuthBearerLoginModule required;"), Some(Vec::new()));
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

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (settings, says) in [
            (&["security.protocol=TLS"][..], "expected PLAINTEXT, SSL"),
            (&["security.protocol=SASL_SSL"], "needs sasl.mechanism"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=GSSAPI"], "kpipe has PLAIN"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN"], "needs sasl.username"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN", "sasl.jaas.config=x"], "expected CLASS required"),
            (&["security.protocol=SSL", "ssl.truststore.location=/none"], "No such file"),
            (&["security.protocol=SASL_SSL", "sasl.mechanism=OAUTHBEARER"], "needs sasl.oauthbearer.token"),
            (
                &[
                    "security.protocol=SASL_SSL",
                    "sasl.mechanism=OAUTHBEARER",
                    "sasl.oauthbearer.token.endpoint.url=http://x",
                ],
                "needs sasl.oauthbearer.client.id",
            ),
            (&["security.protocol=SSL", "ssl.keystore.key=x"], "a client key needs its certificate"),
            (&["security.protocol=SSL", "ssl.endpoint.identification.algorithm=x"], "expected https"),
        ] {
            let error = resolve(settings).unwrap_err().to_string();
            assert!(error.contains(says), "{settings:?}: {error}");
        }
    }
}
