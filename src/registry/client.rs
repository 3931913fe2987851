//! Requests to a registry: to its addresses in turn, with credentials, repeated while that may help.

use super::{Credentials, Options};
use crate::engine::Observer;
use crate::engine::native::http::{self, HttpClient, HttpError, HttpRequest, HttpResponse};
use crate::engine::native::{Retry, Service};
use crate::error::{Error, RegistryError, RegistryFailure, Result};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The largest answer: a registry with 100,000 subjects lists them in less.
const MAX_RESPONSE: usize = 64 << 20;
/// The media type of Confluent's API.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What is accepted: an answer of Apicurio's own API may be a schema.
const ACCEPTED: &str = "application/vnd.schemaregistry.v1+json, application/json, */*;q=0.5";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Behind the address, from its slash on.
    pub path: String,
    /// A path that does not depend on that of the address: Apicurio's own API.
    pub is_absolute: bool,
    pub body: Option<String>,
    /// What it is about, for people.
    pub about: String,
}

impl Request {
    pub fn get(path: String, about: impl Into<String>) -> Self {
        Self { method: Method::GET, path, is_absolute: false, body: None, about: about.into() }
    }

    pub fn with_body(method: Method, path: String, body: &serde_json::Value, about: impl Into<String>) -> Self {
        Self { method, path, is_absolute: false, body: Some(body.to_string()), about: about.into() }
    }

    pub fn delete(path: String, about: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path, is_absolute: false, body: None, about: about.into() }
    }

    /// The same below the registry's root instead of its Confluent API.
    pub fn absolute(self) -> Self {
        Self { is_absolute: true, ..self }
    }
}

/// One address of the registry.
#[derive(Debug)]
struct Server {
    url: String,
    http: HttpClient,
    /// The same without the path of Confluent's API, as Apicurio Registry has it.
    root: Option<HttpClient>,
}

/// Asks a registry; clones share all.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    /// The server that answered last.
    preferred: AtomicUsize,
    credentials: Option<Credentials>,
    headers: Vec<(&'static str, String)>,
    retry_limit: Duration,
    retry_backoff: Duration,
    observer: Arc<dyn Observer>,
}

/// A registry's own error.
#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    error_code: u32,
    message: Option<String>,
}

impl Client {
    pub fn new(options: &Options) -> Result<Self> {
        let server = |url: &String| {
            let unusable = |error| match error {
                HttpError::Unusable(why) | HttpError::Failed(why) => {
                    Error::Usage(format!("schema.registry.url {url}: {why}"))
                }
                HttpError::Tls(error) => error,
            };
            let http = HttpClient::new(Service::SchemaRegistry, url, &options.tls, options.request_timeout)
                .map_err(unusable)?;
            let http = http.with_max_response(MAX_RESPONSE);
            if options.credentials.is_some() && http.exposes_credentials() {
                tracing::warn!("credentials are sent to schema registry {url} without encryption (use https)");
            }
            let root = http.before("/apis/");
            Ok(Server { url: url.clone(), http, root })
        };
        Ok(Self(Arc::new(Shared {
            servers: options.urls.iter().map(server).collect::<Result<_>>()?,
            preferred: AtomicUsize::new(0),
            credentials: options.credentials.clone(),
            headers: options.headers.iter().map(|(name, value)| (*name, value.reveal().to_owned())).collect(),
            retry_limit: options.retry_limit,
            retry_backoff: options.retry_backoff,
            observer: options.observer.clone(),
        })))
    }

    /// The address that answered last, or the first.
    pub fn url(&self) -> &str {
        let Shared { servers, preferred, .. } = &*self.0;
        servers.get(preferred.load(Ordering::Relaxed)).map_or("", |server| &server.url)
    }

    /// Whether the registry has an API of Apicurio's beside Confluent's.
    pub fn has_root(&self) -> bool {
        self.0.servers.iter().all(|server| server.root.is_some())
    }

    /// The error of a request that was answered with something else than the API promises.
    pub fn malformed(&self, about: &str, why: impl Into<String>) -> Error {
        self.error(self.url(), about, RegistryFailure::Malformed(why.into()))
    }

    fn error(&self, url: &str, about: &str, why: RegistryFailure) -> Error {
        Error::Registry(Box::new(RegistryError { url: url.to_owned(), about: about.to_owned(), why }))
    }

    /// Sends `request` and parses the answer.
    ///
    /// # Errors
    /// Those of [`Client::send`], or the answer is not a `T`.
    pub async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body).map_err(|e| self.malformed(&request.about, e.to_string()))
    }

    /// Sends `request`; the answer's bytes.
    ///
    /// # Errors
    /// No server answered in time, or the one that did refused.
    pub async fn send(&self, request: &Request) -> Result<Bytes> {
        let shared = &*self.0;
        let deadline = Instant::now() + shared.retry_limit;
        let retry = Retry::new(deadline, shared.retry_backoff, shared.observer.clone());
        retry.run(|| self.try_servers(request)).await
    }

    /// Asks the servers in turn, beginning with the one that answered last, until one has an answer that others would
    /// not have better.
    async fn try_servers(&self, request: &Request) -> Result<Bytes> {
        let Shared { servers, preferred, .. } = &*self.0;
        let first = preferred.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..servers.len() {
            let index = (first + offset) % servers.len();
            match self.try_server(&servers[index], request).await {
                Err(error) if error.is_transient() => last = Some(error),
                answered => {
                    preferred.store(index, Ordering::Relaxed);
                    return answered;
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Usage("schema.registry.url: no address".to_owned())))
    }

    async fn try_server(&self, server: &Server, request: &Request) -> Result<Bytes> {
        let failed = |why| self.error(&server.url, &request.about, why);
        let http = match (request.is_absolute, &server.root) {
            (false, _) => &server.http,
            (true, Some(root)) => root,
            (true, None) => {
                let why = "this kind of ID is Apicurio Registry's, whose address ends with /apis/ccompat/v7";
                return Err(failed(RegistryFailure::Malformed(why.to_owned())));
            }
        };
        let credentials = self.0.credentials.as_ref().map(|credentials| match credentials {
            Credentials::Basic { user, password } => http::Credentials::Basic { user, password },
            Credentials::Bearer(token) => http::Credentials::Bearer(token),
        });
        tracing::debug!(method = %request.method, path = request.path, url = server.url, "asking the schema registry");
        let sent = http.send(HttpRequest {
            method: request.method.clone(),
            path: &request.path,
            credentials,
            headers: &self.0.headers,
            accept: ACCEPTED,
            body: request.body.clone().map(|body| (MEDIA_TYPE, body)),
        });
        let HttpResponse { status, body } = sent.await.map_err(|error| match error {
            HttpError::Unusable(why) => failed(RegistryFailure::Malformed(why)),
            HttpError::Failed(why) => failed(RegistryFailure::Unanswered(why)),
            HttpError::Tls(error) => error,
        })?;
        if status.is_success() && !is_html(&body) {
            return Ok(body);
        }
        Err(failed(failure(status, &body)))
    }
}

/// What an answer says that is not what was asked for.
fn failure(status: StatusCode, body: &[u8]) -> RegistryFailure {
    match serde_json::from_slice::<Refused>(body) {
        Ok(Refused { error_code, message: Some(message) }) if !status.is_success() => {
            RegistryFailure::Refused { status, code: error_code, message }
        }
        _ => RegistryFailure::Foreign { status, is_html: is_html(body) },
    }
}

fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_of_a_registry_is_told_apart() {
        let refused = |status: u16, body: &str| failure(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let unknown = refused(404, r#"{"error_code":40403,"message":"Schema 7 not found"}"#);
        assert!(unknown.is_unknown() && !unknown.is_transient());
        let page = refused(404, "<html>nothing here</html>");
        assert_eq!(page, RegistryFailure::Foreign { status: StatusCode::NOT_FOUND, is_html: true });
        assert!(!page.is_unknown(), "a proxy's 404 says nothing of schemas");
        assert!(!refused(404, r#"{"error_code":0,"message":"no such resource"}"#).is_unknown());
        assert!(
            refused(503, "<html>").is_transient()
                && refused(500, r#"{"error_code":50001,"message":"x"}"#).is_transient()
        );
        assert!(!refused(401, "").is_transient() && !refused(200, "<html>").is_transient());
    }
}
