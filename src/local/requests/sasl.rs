//! SaslHandshake and SaslAuthenticate.

use super::call::{Call, text};
use crate::local::security::MECHANISMS;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;

pub(in crate::local) fn sasl_handshake(call: &Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let answer = SaslHandshakeResponse::default();
    if let Some(error) = call.refusal {
        return answer.with_error_code(error.code());
    }
    let mut session = call.session();
    if !session.can_begin() {
        return answer.with_error_code(E::IllegalSaslState.code());
    }
    let code = if session.begin(&request.mechanism) { 0 } else { E::UnsupportedSaslMechanism.code() };
    answer.with_error_code(code).with_mechanisms(MECHANISMS.map(StrBytes::from_static_str).to_vec())
}

pub(in crate::local) fn sasl_authenticate(call: &Call, request: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    let answer = SaslAuthenticateResponse::default().with_error_message(None);
    if let Some(error) = call.refusal {
        return answer.with_error_code(error.code());
    }
    let nonce = format!("{:032x}", fastrand::u128(..));
    let mut session = call.session();
    if session.principal().is_some() {
        let why = "SaslAuthenticate request received after successful authentication";
        return answer.with_error_code(E::IllegalSaslState.code()).with_error_message(Some(text(why)));
    }
    match session.step(&request.auth_bytes, &call.shared.security, &nonce) {
        Ok(bytes) => answer.with_auth_bytes(bytes),
        Err(why) => answer.with_error_code(E::SaslAuthenticationFailed.code()).with_error_message(Some(text(why))),
    }
}
