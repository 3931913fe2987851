//! What OAUTHBEARER (RFC 7628, KIP-255, KIP-768) needs: where the token comes from, and what one tells of itself.

use super::security::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;

/// What OAUTHBEARER needs.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// Where the token comes from.
    pub token: Token,
    /// Names and values that are sent with it (KIP-342).
    pub extensions: Vec<(String, String)>,
}

/// Where a token comes from.
#[derive(Debug, Clone)]
pub enum Token {
    /// A token, or a reference to one, looked up for each connection.
    Text(Secret),
    /// An OpenID provider gives it.
    Oidc(Oidc),
}

/// The client credentials grant (RFC 6749, section 4.4).
#[derive(Debug, Clone)]
pub struct Oidc {
    /// The token endpoint, `https://…` or `http://…`.
    pub endpoint: String,
    /// Who asks.
    pub client_id: String,
    /// And its secret.
    pub client_secret: Secret,
    /// What is asked for.
    pub scope: Option<String>,
    /// The CAs of the endpoint; `None` is the system's.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
}

/// What a token (a JSON Web Token, RFC 7519) says of itself; nobody checks its signature here.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
pub struct Claims {
    /// Whose it is.
    #[serde(rename = "sub")]
    pub subject: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: Option<f64>,
}

impl Claims {
    /// Reads the claims of `token`; none of one that is no JSON Web Token.
    pub fn of(token: &str) -> Self {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
        claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default()
    }
}

impl Bearer {
    /// Whose token it is, when that can be told without asking for one.
    pub(super) fn principal(&self) -> Option<String> {
        let Token::Text(text) = &self.token else { return None };
        let token = super::look_up(text.reveal()).ok()?;
        Claims::of(&token).subject.map(|subject| format!("User:{subject}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_tells_whose_it_is_and_until_when() {
        let body = URL_SAFE_NO_PAD.encode(r#"{"sub":"dave","exp":1795434844,"aud":["x"]}"#);
        let claims = Claims::of(&format!("e30.{body}.sig"));
        assert_eq!((claims.subject.as_deref(), claims.expires), (Some("dave"), Some(1_795_434_844.0)));
        assert_eq!(Claims::of("opaque"), Claims::default());
    }

    proptest! {
        #[test]
        fn any_token_is_met(token in ".{0,60}", body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Claims::of(&token), Claims::of(&format!("a.{}", URL_SAFE_NO_PAD.encode(body))));
        }
    }
}
