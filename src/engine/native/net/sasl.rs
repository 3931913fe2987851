//! SASL over a new connection (<https://kafka.apache.org/protocol#sasl_handshake>): says who the client is.

use super::connection::Connection;
use super::oauth::Tokens;
use super::scram::{Hash, Scram};
use crate::config::{Mechanism, Sasl, Secret};
use crate::error::{Code, Error, Result};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

/// Authenticates; how long that holds, where the broker sets a limit (KIP-368). `tokens` are there for OAUTHBEARER.
///
/// # Errors
/// [`Error::Security`]: the broker refuses, or does not know the password itself.
pub async fn authenticate(connection: &Connection, sasl: &Sasl, tokens: Option<&Tokens>) -> Result<Option<Duration>> {
    let label = connection.label();
    let name = match sasl {
        Sasl::Password { mechanism, .. } => mechanism.name(),
        Sasl::Bearer(_) => "OAUTHBEARER",
    };
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
    let answer = connection.request(&request).await?;
    if answer.error_code != 0 {
        if answer.error_code == E::IllegalSaslState.code() {
            return Err(Error::Security(format!(
                "{label} wants no SASL on this listener: security.protocol=PLAINTEXT or SSL"
            )));
        }
        let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
        let code = Code(answer.error_code);
        return Err(Error::Security(format!(
            "{label} does not take SASL {name} ({code}); it takes {}",
            offered.join(", ")
        )));
    }
    match (sasl, tokens) {
        (Sasl::Password { mechanism: Mechanism::Plain, username, password }, _) => {
            let talk = Talk::as_user(connection, username);
            Ok(talk.say(format!("\0{username}\0{}", password.reveal())).await?.1)
        }
        (Sasl::Password { mechanism, username, password }, _) => {
            let hash = if *mechanism == Mechanism::ScramSha256 { Hash::Sha256 } else { Hash::Sha512 };
            scram(&Talk::as_user(connection, username), hash, username, password).await
        }
        (Sasl::Bearer(_), Some(tokens)) => {
            let talk = Talk { connection, who: "the token".to_owned(), check: "sasl.oauthbearer.…" };
            let (error, lifetime) = talk.say(tokens.first().await?.reveal().to_owned()).await?;
            if error.is_empty() {
                return Ok(lifetime);
            }
            // RFC 7628, section 3.2.3: the client says so when it has heard why; then the server fails it.
            talk.say("\x01".to_owned()).await?;
            Err(Error::Security(format!("{label} refuses the token: {error}")))
        }
        (Sasl::Bearer(_), None) => Err(Error::Security("no tokens were prepared".to_owned())),
    }
}

async fn scram(talk: &Talk<'_>, hash: Hash, username: &str, password: &Secret) -> Result<Option<Duration>> {
    let wrong = |why: &str| Error::Security(format!("{}: SASL SCRAM: {why}", talk.connection.label()));
    let scram = Scram::new(hash, username, nonce()?);
    let (first, _) = talk.say(scram.first()).await?;
    let (proof, proved) = scram.prove(password.reveal(), &first).map_err(wrong)?;
    let (last, lifetime) = talk.say(proof).await?;
    proved.check(&last).map_err(|why| wrong(&why))?;
    Ok(lifetime)
}

/// 128 random bits as text.
fn nonce() -> Result<String> {
    let bits = getrandom::u64().and_then(|high| Ok((high, getrandom::u64()?)));
    let (high, low) = bits.map_err(|e| Error::Security(format!("the system has no random numbers: {e}")))?;
    Ok(format!("{high:016x}{low:016x}"))
}

/// What is said between client and broker.
struct Talk<'a> {
    connection: &'a Connection,
    who: String,
    /// What to look at when the broker refuses.
    check: &'static str,
}

impl<'a> Talk<'a> {
    fn as_user(connection: &'a Connection, username: &str) -> Self {
        Self { connection, who: format!("user {username}"), check: "sasl.username and sasl.password" }
    }

    /// Says one thing; what the broker answers, and how long the session holds when that was the last.
    async fn say(&self, words: String) -> Result<(String, Option<Duration>)> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(words));
        let answer = self.connection.request(&request).await?;
        let label = self.connection.label();
        if answer.error_code != 0 {
            let why = answer.error_message.map(|words| format!(": {}", words.as_str().trim_end_matches('.')));
            let hint = if answer.error_code == E::SaslAuthenticationFailed.code() {
                format!(" (check {})", self.check)
            } else {
                String::new()
            };
            let (who, code, why) = (&self.who, Code(answer.error_code), why.unwrap_or_default());
            return Err(Error::Security(format!("{label} refuses {who}: {code}{why}{hint}")));
        }
        let words = String::from_utf8(answer.auth_bytes.to_vec())
            .map_err(|_| Error::Security(format!("{label} answered SASL with no text")))?;
        let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        Ok((words, lifetime))
    }
}
