//! How the schema registry is reached, as Confluent's properties have it.

use super::declarations::*;
use super::registry_values::BasicSource;
use super::{Properties, stores};
use crate::engine::Observer;
use crate::engine::security::{Secret, Tls, is_loopback};
use crate::error::{Error, Result};
use crate::registry::{Credentials, Options};
use std::path::PathBuf;
use std::sync::Arc;

/// How to reach the registry that the flag `--registry` names, or else `properties`; `None` if neither does.
///
/// # Errors
/// A property is malformed, or credentials are missing.
pub fn registry(properties: &Properties, flag: Option<&str>, observer: Arc<dyn Observer>) -> Result<Option<Options>> {
    let Some(listed) = properties.resolve(flag.map(str::to_owned), &SCHEMA_REGISTRY_URL)? else { return Ok(None) };
    let (mut urls, mut in_url) = (Vec::new(), None);
    for url in listed.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let (url, credentials) = without_credentials(url).ok_or_else(|| {
            Error::Usage(
                "schema.registry.url: the user and password in the URL are not percent-encoded UTF-8".to_owned(),
            )
        })?;
        urls.push(url);
        in_url = in_url.or(credentials);
    }
    if urls.is_empty() {
        return Err(Error::Usage("schema.registry.url: no address (use --registry URL)".to_owned()));
    }
    let credentials = credentials(properties, in_url)?;
    let mut headers = Vec::new();
    for (name, property) in [
        ("target-sr-cluster", &BEARER_AUTH_LOGICAL_CLUSTER),
        ("confluent-identity-pool-id", &BEARER_AUTH_IDENTITY_POOL_ID),
    ] {
        headers.extend(properties.get(property)?.map(|value| (name, Secret::from(value))));
    }
    Ok(Some(Options {
        cache_dir: cache_dir(properties, &urls)?,
        urls,
        credentials,
        tls: Tls {
            authorities: stores::authorities(properties, &stores::REGISTRY)?,
            identity: stores::identity(properties, &stores::REGISTRY)?,
            check_name: properties.get(&SCHEMA_REGISTRY_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM)?,
            ..Tls::default()
        },
        headers,
        request_timeout: properties.get(&SCHEMA_REGISTRY_REQUEST_TIMEOUT)?,
        retry_limit: properties.get(&REQUEST_TIMEOUT)?,
        retry_backoff: properties.get(&RETRY_BACKOFF)?,
        observer,
    }))
}

fn credentials(properties: &Properties, in_url: Option<Credentials>) -> Result<Option<Credentials>> {
    let token = properties.get(&BEARER_AUTH_TOKEN)?.map(|token| Credentials::Bearer(Secret::from(token.trim())));
    if properties.get(&BEARER_AUTH_CREDENTIALS_SOURCE)?.is_some() && token.is_none() {
        return Err(Error::Usage("bearer.auth.credentials.source=STATIC_TOKEN requires bearer.auth.token".to_owned()));
    }
    let user_info = || {
        let Some(info) = properties.get(&BASIC_AUTH_USER_INFO)? else { return Ok(None) };
        let Some((user, password)) = info.split_once(':') else {
            return Err(properties.malformed(&BASIC_AUTH_USER_INFO, "expected USER:PASSWORD"));
        };
        Ok(Some(Credentials::Basic { user: user.to_owned(), password: Secret::from(password) }))
    };
    let missing =
        |what: &str, source: &str| Error::Usage(format!("basic.auth.credentials.source={source} requires {what}"));
    let basic = match properties.get(&BASIC_AUTH_CREDENTIALS_SOURCE)? {
        // Java's default is the URL; what is set has an effect.
        None => user_info()?.or(in_url),
        Some(BasicSource::UserInfo) => Some(user_info()?.ok_or_else(|| missing("basic.auth.user.info", "USER_INFO"))?),
        Some(BasicSource::Url) => in_url,
        Some(BasicSource::SaslInherit) => {
            let user = properties.get(&SASL_USERNAME)?.ok_or_else(|| missing("sasl.username", "SASL_INHERIT"))?;
            let password = properties.get(&SASL_PASSWORD)?.ok_or_else(|| missing("sasl.password", "SASL_INHERIT"))?;
            Some(Credentials::Basic { user, password: Secret::from(password) })
        }
    };
    match (basic, token) {
        (Some(_), Some(_)) => Err(Error::Usage(
            "the schema registry takes a user and password or a token, not both (unset basic.auth.user.info or bearer.auth.token)".to_owned(),
        )),
        (basic, token) => Ok(basic.or(token)),
    }
}

/// Takes the user and password off a URL; `None` where they are malformed.
fn without_credentials(url: &str) -> Option<(String, Option<Credentials>)> {
    let Some((scheme, rest)) = url.split_once("://") else { return Some((url.to_owned(), None)) };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return Some((url.to_owned(), None)) };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let credentials = Credentials::Basic { user: decoded(user)?, password: Secret::from(decoded(password)?) };
    super::readers::without_core_dumps();
    Some((format!("{scheme}://{}", &rest[at + 1..]), Some(credentials)))
}

/// Decodes what is percent-encoded.
fn decoded(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((plain, encoded)) = rest.split_once('%') {
        out.extend_from_slice(plain.as_bytes());
        let digits = encoded.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &encoded[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).ok()
}

/// Where schemas are kept between runs. A registry on this machine is asked soon, and often begins again with ID 1.
fn cache_dir(properties: &Properties, urls: &[String]) -> Result<Option<PathBuf>> {
    if let Some(named) = properties.get(&SCHEMA_CACHE_DIR)? {
        if named.contains("://") {
            return Err(Error::Usage("kpipe.schema.cache.dir: expected a directory, not a URL".to_owned()));
        }
        return Ok((!named.is_empty()).then(|| PathBuf::from(named)));
    }
    let host = |url: &String| url.parse::<hyper::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    if urls.iter().all(|url| host(url).is_none_or(|host| is_loopback(&host))) {
        return Ok(None);
    }
    let cache = super::base_directory("XDG_CACHE_HOME", ".cache");
    Ok(cache.filter(|cache| cache.is_absolute()).map(|cache| cache.join("kpipe/schemas")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[&str]) -> Result<Option<Options>> {
        registry(&Properties::of(settings)?, None, Arc::new(()))
    }

    fn basic(settings: &[&str]) -> Option<(String, String)> {
        match resolve(settings).unwrap().unwrap().credentials {
            Some(Credentials::Basic { user, password }) => Some((user, password.reveal().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn credentials_are_read_where_each_client_has_them() {
        let url = "schema.registry.url=http://r:8081";
        let expected = Some(("me".to_owned(), "p:w".to_owned()));
        assert_eq!(basic(&[url, "basic.auth.user.info=me:p:w"]), expected);
        assert_eq!(basic(&[url, "schema.registry.basic.auth.user.info=me:p:w"]), expected);
        assert_eq!(basic(&["schema.registry.url=http://me:p%3Aw@r:8081/x"]), expected);
        let inherit = "basic.auth.credentials.source=SASL_INHERIT";
        assert_eq!(basic(&[url, inherit, "sasl.username=me", "sasl.password=p:w"]), expected);
        let token = resolve(&[url, "bearer.auth.token=t", "bearer.auth.logical.cluster=lsrc-1"]).unwrap().unwrap();
        assert!(matches!(&token.credentials, Some(Credentials::Bearer(token)) if token.reveal() == "t"));
        assert_eq!(token.headers, [("target-sr-cluster", Secret::from("lsrc-1"))]);
        assert!(resolve(&["client.id=x"]).unwrap().is_none(), "no registry is set");
    }

    #[test]
    fn several_addresses_are_one_registry_without_their_credentials() {
        let options = resolve(&["schema.registry.url=https://me:pw@a/x, https://b:1"]).unwrap().unwrap();
        assert_eq!(options.urls, ["https://a/x", "https://b:1"]);
        assert!(!format!("{options:?}").contains("pw"));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_named() {
        let url = "schema.registry.url=http://r";
        for (settings, says) in [
            (&[url, "basic.auth.credentials.source=USER_INFO"][..], "requires basic.auth.user.info"),
            (&[url, "basic.auth.credentials.source=SASL_INHERIT"], "requires sasl.username"),
            (&[url, "basic.auth.user.info=nonsense"], "expected USER:PASSWORD"),
            (&[url, "basic.auth.user.info=a:b", "bearer.auth.token=t"], "not both"),
            (&[url, "bearer.auth.credentials.source=STATIC_TOKEN"], "requires bearer.auth.token"),
            (&[url, "schema.registry.ssl.keystore.key=x"], "set schema.registry.ssl.keystore.certificate.chain"),
            (&["schema.registry.url= ,"], "no address"),
            (&["schema.registry.url=http://a:%zz@r"], "percent-encoded"),
        ] {
            let error = resolve(settings).unwrap_err().to_string();
            assert!(error.contains(says), "{settings:?}: {error}");
            assert!(!error.contains("nonsense"), "{error}");
        }
    }

    #[test]
    fn a_registry_on_loopback_is_not_cached_unless_asked_for() {
        let dir = |settings: &[&str]| resolve(settings).unwrap().unwrap().cache_dir;
        assert_eq!(dir(&["schema.registry.url=http://localhost:8081"]), None);
        let asked = ["schema.registry.url=http://localhost:8081", "kpipe.schema.cache.dir=/x"];
        assert_eq!(dir(&asked), Some(PathBuf::from("/x")));
        assert_eq!(dir(&["schema.registry.url=http://host", "kpipe.schema.cache.dir="]), None);
    }
}
