//! Kafka's error codes (<https://kafka.apache.org/protocol#protocol_error_codes>), which the schemas' enum stands for.

use kafka_protocol::error::ResponseError;

/// The error that a message's code stands for; `None` for 0, which is no error.
pub fn error_code(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

/// What the schemas' enum does not tell of a code.
pub trait ErrorCode: Copy {
    /// Kafka's own name, as its protocol page spells it.
    fn name(self) -> String;

    /// Whether the same request may succeed later, perhaps at another broker.
    fn is_transient(&self) -> bool;

    /// Whether an ACL is missing.
    fn is_denied(&self) -> bool;
}

impl ErrorCode for ResponseError {
    fn name(self) -> String {
        match self {
            Self::Unknown(code) => format!("error code {code}"),
            known => screaming(&format!("{known:?}")),
        }
    }

    fn is_transient(&self) -> bool {
        // The transaction before is still being ended: Kafka calls that retriable, the schemas do not.
        self.is_retriable() || *self == Self::ConcurrentTransactions
    }

    fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::TopicAuthorizationFailed
                | Self::GroupAuthorizationFailed
                | Self::TransactionalIdAuthorizationFailed
                | Self::ClusterAuthorizationFailed
        )
    }
}

/// `NotLeaderOrFollower` → `NOT_LEADER_OR_FOLLOWER`.
fn screaming(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 8);
    for (index, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_protocol_page() {
        let name = |code| error_code(code).map(ErrorCode::name);
        assert_eq!(name(6).as_deref(), Some("NOT_LEADER_OR_FOLLOWER"));
        assert_eq!(name(45).as_deref(), Some("OUT_OF_ORDER_SEQUENCE_NUMBER"));
        assert_eq!(name(17).as_deref(), Some("INVALID_TOPIC_EXCEPTION"));
        assert_eq!(name(9999).as_deref(), Some("error code 9999"));
        assert_eq!(name(0), None);
    }
}
