//! Tokens for OAUTHBEARER: looked up, or asked of an OpenID provider (KIP-768) and kept until they grow old.

use super::tls;
use crate::engine::security::{Bearer, Claims, Oidc, Secret, Tls, Token};
use crate::error::{Error, Result, describe_io};
use crate::record::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How much of a token's life it is used for.
const USED: f32 = 0.8;
/// What brokers allow clocks to differ by (sasl.oauthbearer.clock.skew.seconds).
const CLOCK_SKEW: f64 = 30.0;
/// A longer answer of a token endpoint is not believed.
const MAX_ANSWER: usize = 1 << 20;

/// Tokens, and what is sent with them.
#[derive(Debug)]
pub struct Tokens {
    bearer: Bearer,
    /// For an endpoint with https.
    tls: Option<Arc<ClientConfig>>,
    kept: Mutex<Option<(Secret, Instant)>>,
    limit: Duration,
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds.
    expires_in: Option<f64>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
}

impl Tokens {
    /// Prepares to get tokens, each within `limit`.
    ///
    /// # Errors
    /// The CAs of the endpoint are of no use.
    pub fn prepare(bearer: &Bearer, limit: Duration) -> Result<Self> {
        let tls = match &bearer.token {
            Token::Oidc(oidc) if oidc.endpoint.starts_with("https:") => {
                Some(tls::prepare(&Tls { authorities: oidc.authorities.clone(), identity: None, check_name: true })?)
            }
            _ => None,
        };
        Ok(Self { bearer: bearer.clone(), tls, kept: Mutex::default(), limit })
    }

    /// The first message of the mechanism (RFC 7628, section 3.1), with a token that has not ended.
    ///
    /// # Errors
    /// There is no token, or it has ended.
    pub async fn first(&self) -> Result<Secret> {
        let token = match &self.bearer.token {
            Token::Supplied(source) => {
                let source = source.clone();
                // A command may take its time.
                let found = tokio::task::spawn_blocking(move || source.token()).await;
                let found = found.map_err(|_| Error::TaskEnded("looking up a token"))?;
                found.map_err(|why| Error::Security(format!("sasl.oauthbearer.token: {why}")))?
            }
            Token::Oidc(oidc) => self.of_provider(oidc).await?,
        };
        if let Some(left) = seconds_left(&token).filter(|left| *left < -CLOCK_SKEW) {
            let ago = -left as u64;
            return Err(Error::Security(format!("the OAUTHBEARER token expired {ago} s ago: get a new one")));
        }
        let extensions: String =
            self.bearer.extensions.iter().map(|(name, value)| format!("{name}={value}\x01")).collect();
        Ok(Secret::from(format!("n,,\x01auth=Bearer {}\x01{extensions}\x01", token.reveal()).as_str()))
    }

    async fn of_provider(&self, oidc: &Oidc) -> Result<Secret> {
        let mut kept = self.kept.lock().await;
        if let Some((token, until)) = kept.as_ref().filter(|(_, until)| Instant::now() < *until) {
            tracing::debug!(for_s = (*until - Instant::now()).as_secs(), "the token is still good");
            return Ok(token.clone());
        }
        let asked = tokio::time::timeout(self.limit, ask(oidc, self.tls.clone())).await;
        let granted = match asked {
            Err(_) => return Err(oidc.failed(format!("no answer within {:?}", self.limit))),
            Ok(answer) => answer?,
        };
        let token = Secret::from(granted.access_token.as_str());
        // A token may say more exactly than its giver when it ends.
        let life = granted.expires_in.into_iter().chain(seconds_left(&token)).reduce(f64::min).unwrap_or_default();
        let life = Duration::try_from_secs_f64(life).unwrap_or_default();
        *kept = Some((token.clone(), Instant::now() + life.mul_f32(USED)));
        Ok(token)
    }
}

/// How long the token goes on, by this machine's clock, as far as it tells.
fn seconds_left(token: &Secret) -> Option<f64> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    Claims::of(token.reveal()).expires.map(|expires| expires - now)
}

async fn ask(oidc: &Oidc, tls: Option<Arc<ClientConfig>>) -> Result<Granted> {
    let usage = |why: &str| Error::Usage(format!("sasl.oauthbearer.token.endpoint.url={}: {why}", oidc.endpoint));
    let uri: Uri = oidc.endpoint.parse().map_err(|_| usage("no URL"))?;
    let host = uri.host().ok_or_else(|| usage("no host in it"))?.to_owned();
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), Some("http" | "https")) => port,
        (None, Some("https")) => 443,
        (None, Some("http")) => 80,
        _ => return Err(usage("expected https:// or http://")),
    };
    let credentials = STANDARD.encode(format!("{}:{}", oidc.client_id, oidc.client_secret.reveal()));
    let mut body = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &oidc.scope {
        body.push_str("&scope=");
        body.push_str(&form_encoded(scope));
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, uri.authority().map_or(host.as_str(), |authority| authority.as_str()))
        .header(header::AUTHORIZATION, format!("Basic {credentials}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| usage(&e.to_string()))?;
    let network = |e: std::io::Error| oidc.failed(describe_io(&e));
    let address = format!("{host}:{port}");
    let node = Node::bootstrap(&address);
    let stream = TcpStream::connect(&address).await.map_err(network)?;
    let answer = match tls {
        None => exchange(oidc, stream, request).await?,
        Some(tls) => exchange(oidc, tls::connect(tls, stream, &node).await?, request).await?,
    };
    let (status, body) = answer;
    if !status.is_success() {
        let refused: Refused = serde_json::from_slice(&body).unwrap_or_default();
        let why = [refused.error, refused.error_description].into_iter().filter(|text| !text.is_empty());
        let why = why.collect::<Vec<_>>().join(", ");
        let colon = if why.is_empty() { "" } else { ": " };
        let text = format!("{status}{colon}{why} (check the client's id and secret, and the scope)");
        return Err(if status.is_server_error() { oidc.failed(text) } else { oidc.refused(&text) });
    }
    serde_json::from_slice(&body).map_err(|_| oidc.refused("answered with no access_token"))
}

impl Oidc {
    /// A failure that may pass.
    fn failed(&self, why: String) -> Error {
        Error::TokenEndpoint { url: self.endpoint.clone(), why }
    }

    /// A failure that asking again does not mend.
    fn refused(&self, why: &str) -> Error {
        Error::Security(format!("token endpoint {}: {why}", self.endpoint))
    }
}

async fn exchange(
    oidc: &Oidc,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(hyper::StatusCode, Bytes)> {
    let network = |e: hyper::Error| oidc.failed(e.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(network)?;
    let talk = async move {
        let answer = sender.send_request(request).await.map_err(network)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| oidc.failed(e.to_string()))?;
        Ok((head.status, body.to_bytes()))
    };
    // What the connection ends with, the talk has heard.
    tokio::join!(talk, connection).0
}

/// `application/x-www-form-urlencoded`.
fn form_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_form_keeps_its_bytes() {
        assert_eq!(super::form_encoded("kafka api://x/.default é"), "kafka+api%3A%2F%2Fx%2F.default+%C3%A9");
    }
}
