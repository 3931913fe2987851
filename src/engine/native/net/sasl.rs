//! SASL over a new connection (<https://kafka.apache.org/protocol#sasl_handshake>): says who the client is.

use super::connection::Connection;
use super::scram::{Hash, Scram};
use crate::config::{Mechanism, Sasl};
use crate::error::{Code, Error, Result};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

/// Authenticates; how long that holds, where the broker sets a limit (KIP-368).
///
/// # Errors
/// [`Error::Security`]: the broker refuses, or does not know the password itself.
pub async fn authenticate(connection: &Connection, sasl: &Sasl) -> Result<Option<Duration>> {
    let (label, name) = (connection.label(), sasl.mechanism.name());
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
    match sasl.mechanism {
        Mechanism::Plain => {
            let token = format!("\0{}\0{}", sasl.username, sasl.password.reveal());
            Ok(say(connection, sasl, token).await?.1)
        }
        Mechanism::ScramSha256 => scram(connection, sasl, Hash::Sha256).await,
        Mechanism::ScramSha512 => scram(connection, sasl, Hash::Sha512).await,
    }
}

async fn scram(connection: &Connection, sasl: &Sasl, hash: Hash) -> Result<Option<Duration>> {
    let wrong = |why: &str| Error::Security(format!("{}: SASL {}: {why}", connection.label(), sasl.mechanism.name()));
    let nonce = uuid::Uuid::from_u128(fastrand::u128(..)).simple().to_string();
    let scram = Scram::new(hash, &sasl.username, nonce);
    let (first, _) = say(connection, sasl, scram.first()).await?;
    let (proof, proved) = scram.prove(sasl.password.reveal(), &first).map_err(wrong)?;
    let (last, lifetime) = say(connection, sasl, proof).await?;
    proved.check(&last).map_err(|why| wrong(&why))?;
    Ok(lifetime)
}

/// Says one thing; what the broker answers, and how long the session holds when that was the last.
async fn say(connection: &Connection, sasl: &Sasl, words: String) -> Result<(String, Option<Duration>)> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(words));
    let answer = connection.request(&request).await?;
    let (label, user) = (connection.label(), &sasl.username);
    if answer.error_code != 0 {
        let why =
            answer.error_message.map(|words| format!(": {}", words.as_str().trim_end_matches('.'))).unwrap_or_default();
        let hint = if answer.error_code == E::SaslAuthenticationFailed.code() {
            " (check sasl.username and sasl.password)"
        } else {
            ""
        };
        return Err(Error::Security(format!("{label} refuses user {user}: {}{why}{hint}", Code(answer.error_code))));
    }
    let words = String::from_utf8(answer.auth_bytes.to_vec())
        .map_err(|_| Error::Security(format!("{label} answered SASL with no text")))?;
    let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok((words, lifetime))
}
