//! What the properties of the schema registry may say.

/// Where the user and password for the registry are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasicSource {
    /// In `basic.auth.user.info`.
    UserInfo,
    /// In the URL.
    Url,
    /// They are those of SASL.
    SaslInherit,
}

/// Parses `basic.auth.credentials.source`.
pub(super) fn parse_basic_source(text: &str) -> Result<BasicSource, String> {
    match text.to_ascii_uppercase().as_str() {
        "USER_INFO" => Ok(BasicSource::UserInfo),
        "URL" => Ok(BasicSource::Url),
        "SASL_INHERIT" => Ok(BasicSource::SaslInherit),
        _ => Err("expected USER_INFO, URL or SASL_INHERIT".to_owned()),
    }
}

/// Where the token for the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerSource {
    /// In `bearer.auth.token`.
    StaticToken,
}

/// Parses `bearer.auth.credentials.source`.
pub(super) fn parse_bearer_source(text: &str) -> Result<BearerSource, String> {
    match text.to_ascii_uppercase().as_str() {
        "STATIC_TOKEN" => Ok(BearerSource::StaticToken),
        _ => Err("expected STATIC_TOKEN (a command that gets a token can be named in bearer.auth.token)".to_owned()),
    }
}
