//! Tokens for OAUTHBEARER: looked up, or asked of an OpenID provider (KIP-768) and kept until they grow old.

use super::http::{Credentials, HttpClient, HttpError, HttpRequest, HttpResponse, form_encoded};
use super::tls::Service;
use crate::engine::security::{Bearer, Claims, Oidc, Secret, Tls, Token};
use crate::error::{Error, Result};
use hyper::Method;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// How much of a token's life it is used for.
const USED: f64 = 0.8;
/// A token is used for no longer, in seconds: a day.
const LONGEST: f64 = 86_400.0;
/// What brokers allow clocks to differ by (sasl.oauthbearer.clock.skew.seconds).
const CLOCK_SKEW: f64 = 30.0;

/// Tokens, and what is sent with them.
#[derive(Debug)]
pub struct Tokens {
    bearer: Bearer,
    /// For tokens of an OpenID provider.
    provider: Option<Provider>,
}

#[derive(Debug)]
struct Provider {
    client: HttpClient,
    /// The last token, and until when it is used.
    kept: Mutex<Option<(Secret, Instant)>>,
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
        let provider = match &bearer.token {
            Token::Oidc(oidc) => {
                let tls = Tls { authorities: oidc.authorities.clone(), ..Tls::default() };
                let client =
                    HttpClient::new(Service::TokenEndpoint, &oidc.endpoint, &tls, limit).map_err(|e| oidc.error(e))?;
                if client.exposes_credentials() {
                    tracing::warn!("the client secret is sent to {} without encryption (use https)", oidc.endpoint);
                }
                Some(Provider { client, kept: Mutex::default() })
            }
            Token::Supplied(_) => None,
        };
        Ok(Self { bearer: bearer.clone(), provider })
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
            Token::Oidc(oidc) => match &self.provider {
                Some(provider) => provider.token(oidc).await?,
                None => return Err(Error::Security("no token endpoint was prepared".to_owned())),
            },
        };
        let extensions = self.bearer.extensions.iter().flat_map(|(name, value)| [name.as_str(), value]);
        if std::iter::once(token.reveal()).chain(extensions).any(|text| text.contains(char::is_control)) {
            let why = "the OAUTHBEARER token or an extension contains a control character";
            return Err(Error::Security(why.to_owned()));
        }
        if let Some(left) = seconds_left(&token).filter(|left| *left < -CLOCK_SKEW) {
            let ago = -left as u64;
            return Err(Error::Security(format!("the OAUTHBEARER token expired {ago} s ago (get a new one)")));
        }
        let extensions: String =
            self.bearer.extensions.iter().map(|(name, value)| format!("{name}={value}\x01")).collect();
        Ok(Secret::from(format!("n,,\x01auth=Bearer {}\x01{extensions}\x01", token.reveal()).as_str()))
    }
}

impl Provider {
    /// The token as long as it is valid, then a new one.
    async fn token(&self, oidc: &Oidc) -> Result<Secret> {
        let mut kept = self.kept.lock().await;
        if let Some((token, until)) = kept.as_ref().filter(|(_, until)| Instant::now() < *until) {
            tracing::debug!(for_s = (*until - Instant::now()).as_secs(), "the token is still valid");
            return Ok(token.clone());
        }
        let granted = self.ask(oidc).await?;
        let token = Secret::from(granted.access_token.as_str());
        // A token may say more exactly than its issuer when it ends.
        let life = granted.expires_in.into_iter().chain(seconds_left(&token)).reduce(f64::min).unwrap_or_default();
        *kept = Some((token.clone(), Instant::now() + usable(life)));
        Ok(token)
    }
}

/// How long to use a token that is valid for so many seconds.
fn usable(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(LONGEST) * USED).unwrap_or_default()
}

/// How long the token is still valid, by this machine's clock, if it says so.
fn seconds_left(token: &Secret) -> Option<f64> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    Claims::of(token.reveal()).expires.map(|expires| expires - now)
}

impl Provider {
    async fn ask(&self, oidc: &Oidc) -> Result<Granted> {
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &oidc.scope {
            form.push_str("&scope=");
            form.push_str(&form_encoded(scope));
        }
        let request = HttpRequest {
            method: Method::POST,
            path: "",
            credentials: Some(Credentials::Basic { user: &oidc.client_id, password: &oidc.client_secret }),
            headers: &[],
            accept: "application/json",
            body: Some(("application/x-www-form-urlencoded", form)),
        };
        let HttpResponse { status, body } = self.client.send(request).await.map_err(|e| oidc.error(e))?;
        if !status.is_success() {
            let refused: Refused = serde_json::from_slice(&body).unwrap_or_default();
            let why = [refused.error, refused.error_description].into_iter().filter(|text| !text.is_empty());
            let why = why.collect::<Vec<_>>().join(", ");
            let colon = if why.is_empty() { "" } else { ": " };
            let text = format!("{status}{colon}{why} (check the client's ID and secret, and the scope)");
            return Err(if status.is_server_error() { oidc.failed(text) } else { oidc.refused(&text) });
        }
        serde_json::from_slice(&body).map_err(|_| oidc.refused("the response has no access_token"))
    }
}

impl Oidc {
    fn error(&self, error: HttpError) -> Error {
        match error {
            HttpError::Unusable(why) => Error::Usage(format!("sasl.oauthbearer.token.endpoint.url: {why}")),
            HttpError::Failed(why) => self.failed(why),
            HttpError::Tls(error) => error,
        }
    }

    /// A failure that may pass.
    fn failed(&self, why: String) -> Error {
        Error::TokenEndpoint { url: self.endpoint.clone(), why }
    }

    /// A failure that lasts.
    fn refused(&self, why: &str) -> Error {
        Error::Security(format!("token endpoint {}: {why}", self.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::security::TokenSource;

    fn first(token: &'static str, extensions: &[(&str, &str)]) -> Result<Secret> {
        let extensions = extensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let token = Token::Supplied(TokenSource::new(|| Ok(token.to_owned())));
        let tokens = Tokens::prepare(&Bearer { token, extensions }, Duration::from_secs(1)).unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tokens.first())
    }

    /// The message is delimited by such characters: a token could bring fields of its own.
    #[test]
    fn control_characters_are_refused() {
        assert_eq!(first("a.b.c", &[("pool", "p")]).unwrap().reveal(), "n,,\x01auth=Bearer a.b.c\x01pool=p\x01\x01");
        for (token, extension) in [("a\x01b", "p"), ("a\nb", "p"), ("a", "p\x01q=r")] {
            let error = first(token, &[("pool", extension)]).unwrap_err().to_string();
            assert!(error.contains("control character"), "{error}");
        }
    }

    #[test]
    fn a_life_that_no_clock_can_hold_is_cut() {
        for life in [1e19, f64::INFINITY, 1e300] {
            assert!(Instant::now().checked_add(usable(life)).is_some(), "{life}");
        }
        assert_eq!(usable(-1e19), Duration::ZERO);
        assert_eq!(usable(100.0), Duration::from_secs(80));
    }
}
