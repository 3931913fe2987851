//! The broker's side of SASL PLAIN and SCRAM (RFC 4616, RFC 5802): bytes in, bytes out.

use super::{ANONYMOUS, Security};
use crate::engine::native::Hash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// The mechanisms that are offered.
pub(in crate::local) const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// Kafka's default.
const ITERATIONS: u32 = 4_096;

#[derive(Debug, Clone, Copy)]
enum Mechanism {
    Plain,
    Scram(Hash),
}

/// How far a connection has authenticated.
#[derive(Debug)]
enum Step {
    /// Nobody need authenticate here.
    Open,
    New,
    Asked(Mechanism),
    /// SCRAM's first messages have been exchanged.
    Challenged(Challenge),
    Authenticated(String),
    /// The connection closes.
    Failed,
}

/// What the last messages of SCRAM are checked against.
#[derive(Debug)]
struct Challenge {
    hash: Hash,
    user: String,
    salted: Vec<u8>,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

/// The authentication of a connection.
#[derive(Debug)]
pub(in crate::local) struct Session(Step);

/// Why an authentication ended: the message that the client gets.
pub(in crate::local) type Failed = String;

impl Session {
    pub(super) fn open() -> Self {
        Self(Step::Open)
    }

    pub(super) fn new() -> Self {
        Self(Step::New)
    }

    /// Who the client is; `None` before it has authenticated.
    pub(in crate::local) fn principal(&self) -> Option<&str> {
        match &self.0 {
            Step::Open => Some(ANONYMOUS),
            Step::Authenticated(user) => Some(user),
            Step::New | Step::Asked(_) | Step::Challenged(_) | Step::Failed => None,
        }
    }

    /// Whether the client could not authenticate.
    pub(in crate::local) fn has_failed(&self) -> bool {
        matches!(self.0, Step::Failed)
    }

    /// Ends the authentication.
    pub(in crate::local) fn fail(&mut self) {
        self.0 = Step::Failed;
    }

    /// Whether a mechanism can be asked for now.
    pub(in crate::local) fn can_begin(&self) -> bool {
        matches!(self.0, Step::New)
    }

    /// SaslHandshake; false when the mechanism is not offered.
    pub(in crate::local) fn begin(&mut self, mechanism: &str) -> bool {
        let mechanism = match mechanism {
            "PLAIN" => Mechanism::Plain,
            "SCRAM-SHA-256" => Mechanism::Scram(Hash::Sha256),
            "SCRAM-SHA-512" => Mechanism::Scram(Hash::Sha512),
            _ => return false,
        };
        self.0 = Step::Asked(mechanism);
        true
    }

    /// SaslAuthenticate: returns the answer to the client's message. `nonce` is any text that was never used before.
    pub(in crate::local) fn step(&mut self, message: &Bytes, users: &Security, nonce: &str) -> Result<Bytes, Failed> {
        match std::mem::replace(&mut self.0, Step::Failed) {
            Step::Asked(Mechanism::Plain) => {
                self.0 = Step::Authenticated(plain(message, users)?);
                Ok(Bytes::new())
            }
            Step::Asked(Mechanism::Scram(hash)) => {
                let challenge = challenge(hash, message, users, nonce)?;
                let answer = challenge.server_first.clone().into_bytes().into();
                self.0 = Step::Challenged(challenge);
                Ok(answer)
            }
            Step::Challenged(challenge) => {
                let answer = challenge.check(message)?;
                self.0 = Step::Authenticated(challenge.user);
                Ok(answer)
            }
            Step::Open | Step::New | Step::Authenticated(_) | Step::Failed => {
                Err("SaslAuthenticate request received without a SaslHandshake".to_owned())
            }
        }
    }
}

/// The user of a PLAIN message: authorization ID, user and password, each after a NUL.
fn plain(message: &[u8], users: &Security) -> Result<String, Failed> {
    let malformed = || "Authentication failed: Invalid username or password".to_owned();
    let text = std::str::from_utf8(message).map_err(|_| malformed())?;
    let [authorization, user, password] = text.split('\0').collect::<Vec<_>>()[..] else { return Err(malformed()) };
    if !authorization.is_empty() && authorization != user {
        return Err(
            "Authentication failed: Client requested an authorization id that is different from username".into()
        );
    }
    let is_known = users.password(user).is_some_and(|known| known == password);
    if is_known { Ok(user.to_owned()) } else { Err(malformed()) }
}

fn invalid(hash: Hash) -> Failed {
    let mechanism = hash.mechanism();
    format!("Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}")
}

/// A field of a SCRAM message.
fn field(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

fn challenge(hash: Hash, message: &[u8], users: &Security, nonce: &str) -> Result<Challenge, Failed> {
    let text = std::str::from_utf8(message).map_err(|_| invalid(hash))?;
    // No channel binding; an authorization ID may stand after it.
    let bare = text.strip_prefix("n,").and_then(|rest| rest.split_once(',')).map(|(_, bare)| bare);
    let bare = bare.ok_or_else(|| invalid(hash))?;
    let (Some(name), Some(theirs)) = (field(bare, 'n'), field(bare, 'r')) else { return Err(invalid(hash)) };
    let user = name.replace("=2C", ",").replace("=3D", "=");
    let password = users.password(&user).ok_or_else(|| invalid(hash))?;
    // The same for the same user, as where it is stored.
    let salt = hash.digest(user.as_bytes())[..16].to_vec();
    let salted = hash.salted(password.as_bytes(), &salt, ITERATIONS);
    let nonce = format!("{theirs}{nonce}");
    let server_first = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(&salt));
    Ok(Challenge { hash, user, salted, client_first_bare: bare.to_owned(), server_first, nonce })
}

impl Challenge {
    /// Checks the client's proof; returns the server's.
    fn check(&self, message: &[u8]) -> Result<Bytes, Failed> {
        let hash = self.hash;
        let failed = || invalid(hash);
        let text = std::str::from_utf8(message).map_err(|_| failed())?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(failed)?;
        let proof = STANDARD.decode(proof).map_err(|_| failed())?;
        if field(without_proof, 'r') != Some(&*self.nonce) {
            return Err(failed());
        }
        let said = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let mac = |key: &[u8], data: &[u8]| hash.hmac(key, data).ok_or_else(failed);
        let stored_key = hash.digest(&mac(&self.salted, b"Client Key")?);
        let signature = mac(&stored_key, said.as_bytes())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if proof.len() != signature.len() || hash.digest(&client_key) != stored_key {
            return Err(failed());
        }
        let server_signature = mac(&mac(&self.salted, b"Server Key")?, said.as_bytes())?;
        Ok(format!("v={}", STANDARD.encode(server_signature)).into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;
    use proptest::prelude::*;

    fn users() -> Security {
        let security = Security::default();
        let users = [("alice", "secret"), ("a,b=c", "geheim")].map(|(name, word)| (name.into(), word.into()));
        security.set(Access { users: users.into(), ..Access::default() });
        security
    }

    fn plain(message: &'static [u8]) -> Result<Option<String>, Failed> {
        let (users, mut session) = (users(), Session::new());
        assert!(session.can_begin() && session.begin("PLAIN"));
        session.step(&Bytes::from_static(message), &users, "")?;
        Ok(session.principal().map(str::to_owned))
    }

    #[test]
    fn plain_checks_name_and_password() {
        assert_eq!(plain(b"\0alice\0secret"), Ok(Some("alice".to_owned())));
        assert_eq!(plain(b"alice\0alice\0secret"), Ok(Some("alice".to_owned())));
        for wrong in [&b"\0alice\0wrong"[..], b"\0bob\0secret", b"bob\0alice\0secret", b"", b"\0alice", b"\xff\0a\0b"] {
            assert!(plain(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_served_before_the_last_message() {
        let (users, mut session) = (users(), Session::new());
        assert_eq!(session.principal(), None);
        assert!(session.step(&Bytes::new(), &users, "").is_err());
        assert!(!session.begin("GSSAPI") && session.begin("SCRAM-SHA-512"));
        let first = session.step(&Bytes::from_static(b"n,,n=alice,r=abc"), &users, "xyz").unwrap();
        assert!(first.starts_with(b"r=abcxyz,s=") && session.principal().is_none());
        assert!(session.step(&Bytes::from_static(b"c=biws,r=abcxyz,p=AAAA"), &users, "").is_err());
        assert_eq!(Session::open().principal(), Some(ANONYMOUS));
    }

    proptest! {
        #[test]
        fn any_messages_are_answered_or_refused(messages in prop::collection::vec(any::<Vec<u8>>(), 0..4), which in 0..3usize) {
            let (users, mut session) = (users(), Session::new());
            session.begin(MECHANISMS[which]);
            for message in messages {
                let _ = session.step(&message.into(), &users, "n");
            }
            prop_assert_eq!(session.principal(), None);
        }
    }
}
