//! A small HTTP/1.1 client: one request per connection, with TLS, basic authentication, a limit for the response and one
//! for the time. For token endpoints and schema registries.

use super::tls::{self, Service};
use crate::engine::security::{Secret, Tls, is_loopback};
use crate::error::{Error, describe_io};
use crate::record::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The largest response that is read, unless another limit is set.
const MAX_RESPONSE: usize = 1 << 20;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct HttpClient {
    service: Service,
    host: String,
    port: u16,
    /// Host and port, as the URL has them.
    authority: String,
    path: String,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
    max_response: usize,
}

/// What proves to a server who the client is.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    /// A user and a password (RFC 7617).
    Basic { user: &'a str, password: &'a Secret },
    /// A token (RFC 6750).
    Bearer(&'a Secret),
}

/// What is sent.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    pub method: Method,
    /// What is appended to the URL's path.
    pub path: &'a str,
    pub credentials: Option<Credentials<'a>>,
    /// More headers, by their names in lower case.
    pub headers: &'a [(&'static str, String)],
    /// The media type that is expected.
    pub accept: &'a str,
    /// The media type of the body, and the body.
    pub body: Option<(&'a str, String)>,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug)]
pub enum HttpError {
    /// The URL or the request is not usable: trying again does not help.
    Unusable(String),
    /// The server or the network failed: trying again may help.
    Failed(String),
    /// TLS was refused.
    Tls(Error),
}

impl HttpClient {
    /// A client of the server that `url` names. `tls` is used for `https`.
    ///
    /// # Errors
    /// The URL is not usable, or `tls` is not.
    pub fn new(service: Service, url: &str, tls: &Tls, limit: Duration) -> Result<Self, HttpError> {
        let unusable = |why: &str| Err(HttpError::Unusable(why.to_owned()));
        let Ok(uri) = url.parse::<Uri>() else { return unusable("not a URL") };
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else { return unusable("no host in it") };
        if authority.as_str().contains('@') {
            return unusable("a user name and password in the URL are not used (set them as properties)");
        }
        let (is_secure, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return unusable("expected https:// or http://"),
        };
        Ok(Self {
            service,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls: if is_secure { Some(tls::prepare(tls).map_err(HttpError::Tls)?) } else { None },
            limit,
            max_response: MAX_RESPONSE,
        })
    }

    /// Reads responses of up to `max_response` bytes.
    pub fn with_max_response(self, max_response: usize) -> Self {
        Self { max_response, ..self }
    }

    /// A client of the same server for the part of the URL's path before `marker`, if the path has it.
    pub fn before(&self, marker: &str) -> Option<Self> {
        let at = self.path.find(marker)?;
        Some(Self { path: self.path[..at].to_owned(), ..self.clone() })
    }

    /// Whether what is sent can be read on the way to another machine.
    pub fn exposes_credentials(&self) -> bool {
        self.tls.is_none() && !is_loopback(&self.host)
    }

    /// Sends a request on a connection of its own and reads the response.
    ///
    /// # Errors
    /// There is no response.
    pub async fn send(&self, request: HttpRequest<'_>) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(self.limit, self.exchange(request)).await;
        answered.unwrap_or_else(|_| Err(HttpError::Failed(format!("no response within {:?}", self.limit))))
    }

    async fn exchange(&self, request: HttpRequest<'_>) -> Result<HttpResponse, HttpError> {
        let request = self.prepared(request)?;
        let address = format!("{}:{}", self.host, self.port);
        let stream = TcpStream::connect(&address).await.map_err(|e| HttpError::Failed(describe_io(&e)))?;
        let node = Node::bootstrap(&address);
        let answered = match &self.tls {
            None => exchange(stream, request, self.max_response).await,
            Some(tls) => {
                let secured = tls::connect(tls.clone(), Box::new(stream), &node, self.service).await;
                exchange(secured.map_err(HttpError::Tls)?, request, self.max_response).await
            }
        };
        answered.map_err(|error| {
            let causes = std::iter::successors(Some(&*error as &(dyn std::error::Error + 'static)), |e| e.source());
            let refusal = causes.filter_map(|e| e.downcast_ref()).find_map(|e| tls::refusal(e, &node, self.service));
            refusal.map_or_else(|| HttpError::Failed(error.to_string()), HttpError::Tls)
        })
    }

    fn prepared(&self, request: HttpRequest<'_>) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        let HttpRequest { method, path, credentials, headers, accept, body } = request;
        // A path that is appended begins with a slash, and the URL's may end with one.
        let base = if path.is_empty() { &self.path } else { self.path.trim_end_matches('/') };
        let mut prepared = hyper::Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, accept);
        let authorization = credentials.map(|credentials| match credentials {
            Credentials::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
            Credentials::Bearer(token) => format!("Bearer {}", token.reveal()),
        });
        if let Some(authorization) = authorization {
            prepared = prepared.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            prepared = prepared.header(*name, value);
        }
        let (kind, body) = body.unzip();
        if let Some(kind) = kind {
            prepared = prepared.header(header::CONTENT_TYPE, kind);
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        prepared.body(body).map_err(|e| HttpError::Unusable(e.to_string()))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: hyper::Request<Full<Bytes>>,
    max_response: usize,
) -> Result<HttpResponse, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let conversation = async move {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, max_response).collect().await?;
        Ok(HttpResponse { status: head.status, body: body.to_bytes() })
    };
    // An error of the connection is an error of the conversation, too.
    tokio::join!(conversation, connection).0
}

/// Encodes `text` as `application/x-www-form-urlencoded`.
pub fn form_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Encodes `text` as one segment of a URL's path (RFC 3986).
pub fn path_encoded(text: &str) -> String {
    form_encoded(text).replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_its_bytes() {
        assert_eq!(form_encoded("kafka api://x/.default é"), "kafka+api%3A%2F%2Fx%2F.default+%C3%A9");
        assert_eq!(path_encoded("a/b c+d"), "a%2Fb%20c%2Bd");
    }

    #[test]
    fn a_url_that_is_not_usable_is_refused_without_its_password() {
        for (url, says) in [
            ("nonsense", "expected https://"),
            ("ftp://host/", "expected https://"),
            ("http://me:hunter2@host/", "user name and password"),
        ] {
            let error = HttpClient::new(Service::TokenEndpoint, url, &Tls::default(), Duration::ZERO).unwrap_err();
            assert!(matches!(&error, HttpError::Unusable(why) if why.contains(says)), "{url}: {error:?}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
        let plain = |url| {
            HttpClient::new(Service::TokenEndpoint, url, &Tls::default(), Duration::ZERO).unwrap().exposes_credentials()
        };
        assert!(plain("http://host:1/") && !plain("http://localhost:1/") && !plain("http://127.0.0.1/"));
    }
}
