//! What to say when the cluster denies something: who lacks what, and the command that allows it.

use crate::engine::security::Security;
use crate::engine::{Named, Operation, ResourceType};
use crate::error::Error;
use kafka_protocol::error::ResponseError as E;

/// Something that a principal may not do.
pub(super) type Lack = (Operation, ResourceType, String);

/// Who lacks what, and what an administrator would run; `None` when `error` is no denial. Of a resource's kind,
/// `operation` tells what was attempted, `next` what would be denied after it.
pub(super) fn explain(
    error: &Error,
    security: &Security,
    operation: impl Fn(ResourceType) -> Operation,
    next: impl Fn(ResourceType) -> Option<Lack>,
) -> Option<String> {
    let (kind, name) = resource(error)?;
    let principal = security.principal().unwrap_or("User:NAME".to_owned());
    let lacks = std::iter::once((operation(kind), kind, name.to_owned())).chain(next(kind));
    let said = lacks.map(|(operation, kind, name)| {
        let (operation, kind) = (operation.name(), kind.name());
        let (name, flag) = match kind {
            "cluster" => ("the cluster".to_owned(), "--cluster".to_owned()),
            kind => (format!("{kind} {name}"), format!("--{kind} {}", quoted(&name))),
        };
        let who = quoted(&principal);
        format!(
            "kpipe: {principal} lacks {operation} on {name}; an administrator can allow it:\n  \
             kpipe acls create --principal {who} --operation {operation} {flag}\n"
        )
    });
    Some(said.collect())
}

/// The resource that the cluster denied: its kind, and its name as far as the attempt names it.
fn resource(error: &Error) -> Option<(ResourceType, &str)> {
    let Error::Kafka { subject, code, .. } = error else { return None };
    match code {
        E::TopicAuthorizationFailed => Some((ResourceType::Topic, subject.topic().unwrap_or("NAME"))),
        E::GroupAuthorizationFailed => Some((ResourceType::Group, subject.group().unwrap_or("NAME"))),
        E::TransactionalIdAuthorizationFailed => {
            Some((ResourceType::TransactionalId, subject.transactional_id().unwrap_or("ID")))
        }
        E::ClusterAuthorizationFailed => Some((ResourceType::Cluster, "kafka-cluster")),
        _ => None,
    }
}

/// As the shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:=@/".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
