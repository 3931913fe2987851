//! SASL over a new connection (<https://kafka.apache.org/protocol#sasl_handshake>): authenticates the client.

use super::connection::Connection;
use super::oauth::Tokens;
use super::scram::{Hash, Scram};
use crate::engine::security::{Mechanism, Sasl, Secret, is_loopback};
use crate::error::{Error, ErrorCode, Result, error_code};
use crate::record::Node;
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use std::sync::Once;
use std::time::Duration;

/// Authenticates. Returns the session's lifetime, if the broker sets a limit (KIP-368). OAUTHBEARER requires `tokens`.
///
/// # Errors
/// [`Error::Security`]: the broker refuses, or does not know the password itself.
pub async fn authenticate(connection: &Connection, sasl: &Sasl, tokens: Option<&Tokens>) -> Result<Option<Duration>> {
    let label = connection.node();
    let name = match sasl {
        Sasl::Password { mechanism, .. } => mechanism.name(),
        Sasl::Bearer(_) => "OAUTHBEARER",
    };
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
    let answer = connection.request(&request).await?;
    if let Some(code) = error_code(answer.error_code) {
        if code == E::IllegalSaslState {
            return Err(Error::Security(format!(
                "{label} does not accept SASL on this listener (use security.protocol=PLAINTEXT or SSL)"
            )));
        }
        let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
        return Err(Error::Security(format!(
            "{label} does not support SASL {name} ({}); it supports {}",
            code.name(),
            offered.join(", ")
        )));
    }
    match (sasl, tokens) {
        (Sasl::Password { mechanism: Mechanism::Plain, username, password }, _) => {
            let exchange = Exchange::as_user(connection, username);
            Ok(exchange.send(format!("\0{username}\0{}", password.reveal())).await?.1)
        }
        (Sasl::Password { mechanism, username, password }, _) => {
            let hash = if *mechanism == Mechanism::ScramSha256 { Hash::Sha256 } else { Hash::Sha512 };
            scram(&Exchange::as_user(connection, username), hash, username, password).await
        }
        (Sasl::Bearer(_), Some(tokens)) => {
            let exchange = Exchange { connection, who: "the token".to_owned(), check: "sasl.oauthbearer.…" };
            let (error, lifetime) = exchange.send(tokens.first().await?.reveal().to_owned()).await?;
            if error.is_empty() {
                return Ok(lifetime);
            }
            // RFC 7628, section 3.2.3: the client says so when it has heard why; then the server fails it.
            exchange.send("\x01".to_owned()).await?;
            Err(Error::Security(format!("{label} rejected the token: {error}")))
        }
        (Sasl::Bearer(_), None) => Err(Error::Security("no tokens were prepared".to_owned())),
    }
}

async fn scram(exchange: &Exchange<'_>, hash: Hash, username: &str, password: &Secret) -> Result<Option<Duration>> {
    let wrong = |why: &str| Error::Security(format!("{}: SASL SCRAM: {why}", exchange.connection.node()));
    let scram = Scram::new(hash, username, nonce()?);
    let (first, _) = exchange.send(scram.first()).await?;
    let (proof, proved) = scram.prove(password.reveal(), &first).map_err(wrong)?;
    let (last, lifetime) = exchange.send(proof).await?;
    proved.check(&last).map_err(|why| wrong(&why))?;
    Ok(lifetime)
}

/// What is sent to `address` that whoever reads it on the way can use again, if it leaves this machine.
fn exposed(sasl: &Sasl, address: &str) -> Option<&'static str> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match sasl {
        _ if is_loopback(host) => None,
        Sasl::Password { mechanism: Mechanism::Plain, .. } => Some("PLAIN sends the password"),
        Sasl::Password { .. } => None,
        Sasl::Bearer(_) => Some("OAUTHBEARER sends the token"),
    }
}

/// Warns if credentials are about to be sent to another machine without encryption; for the first broker, to which
/// `warned` belongs.
pub fn warn_of_plaintext(sasl: &Sasl, node: &Node, warned: &Once) {
    if let Some(sent) = exposed(sasl, &node.address) {
        warned.call_once(|| {
            tracing::warn!("{sent} to {node} without encryption (use security.protocol=SASL_SSL)");
        });
    }
}

/// 128 random bits as text.
fn nonce() -> Result<String> {
    let bits = getrandom::u64().and_then(|high| Ok((high, getrandom::u64()?)));
    let (high, low) = bits.map_err(|e| Error::Security(format!("the system has no random numbers: {e}")))?;
    Ok(format!("{high:016x}{low:016x}"))
}

/// The messages between client and broker.
struct Exchange<'a> {
    connection: &'a Connection,
    who: String,
    /// What to look at when the broker refuses.
    check: &'static str,
}

impl<'a> Exchange<'a> {
    fn as_user(connection: &'a Connection, username: &str) -> Self {
        Self { connection, who: format!("user {username}"), check: "sasl.username and sasl.password" }
    }

    /// Sends one message. Returns the broker's answer, and the session's lifetime when that was the last one.
    async fn send(&self, words: String) -> Result<(String, Option<Duration>)> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(words));
        let answer = self.connection.request(&request).await?;
        let label = self.connection.node();
        if let Some(code) = error_code(answer.error_code) {
            let why = answer.error_message.map(|words| format!(": {}", words.as_str().trim_end_matches('.')));
            let hint =
                if code == E::SaslAuthenticationFailed { format!(" (check {})", self.check) } else { String::new() };
            let (who, code, why) = (&self.who, code.name(), why.unwrap_or_default());
            return Err(Error::Security(format!("{label} rejected {who}: {code}{why}{hint}")));
        }
        let words = String::from_utf8(answer.auth_bytes.to_vec())
            .map_err(|_| Error::Security(format!("{label} sent a malformed SASL response")))?;
        let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        Ok((words, lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::security::{Bearer, Token, TokenSource};

    #[test]
    fn only_what_leaves_this_machine_and_can_be_used_again_is_exposed() {
        let password = |mechanism| Sasl::Password { mechanism, username: "u".into(), password: Secret::from("p") };
        let token = Token::Supplied(TokenSource::new(|| Ok(String::new())));
        let bearer = Sasl::Bearer(Bearer { token, extensions: Vec::new() });
        for (sasl, is_exposed) in [
            (password(Mechanism::Plain), true),
            (password(Mechanism::ScramSha256), false),
            (password(Mechanism::ScramSha512), false),
            (bearer, true),
        ] {
            for address in ["127.0.0.1:9092", "[::1]:9092", "localhost:9092"] {
                assert_eq!(exposed(&sasl, address), None, "{address}");
            }
            for address in ["kafka-1:9092", "10.0.0.1:9092", "[2001:db8::1]:9092", "localhost.example:9092"] {
                assert_eq!(exposed(&sasl, address).is_some(), is_exposed, "{address}");
            }
        }
    }
}
