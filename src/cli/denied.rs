//! What to say when the cluster denies something: who lacks what, and the command that allows it.

use crate::config::Security;
use crate::engine::acl::Numbered;
use crate::engine::{Operation, ResourceType};
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
        let (name, flag) = match kind.as_str() {
            "cluster" => ("the cluster".to_owned(), "--cluster".to_owned()),
            kind => (format!("{kind} {name}"), format!("--{kind} {}", quoted(&name))),
        };
        let who = quoted(&principal);
        format!(
            "kpipe: {principal} lacks {operation} on {name}; who looks after the ACLs can allow it:\n  \
             kpipe acls create --principal {who} --operation {operation} {flag}\n"
        )
    });
    Some(said.collect())
}

/// The resource that the cluster denied: its kind, and its name as far as what was attempted tells it.
fn resource(error: &Error) -> Option<(ResourceType, &str)> {
    let Error::Kafka { what, code, .. } = error else { return None };
    let after = |word: &str| what.split_once(word).map(|(_, name)| name);
    match code.response_error()? {
        E::TopicAuthorizationFailed => {
            // A topic's name has neither blanks nor slashes: `topic NAME`, or `NAME/PARTITION`.
            let partition = what.split(' ').find_map(|word| Some(word.split_once('/')?.0));
            let named = after("topic ").map(|rest| rest.split([' ', ',']).next().unwrap_or(rest));
            Some((ResourceType::Topic, named.or(partition).unwrap_or("NAME")))
        }
        E::GroupAuthorizationFailed => Some((ResourceType::Group, after("group ").unwrap_or("NAME"))),
        E::TransactionalIdAuthorizationFailed => {
            Some((ResourceType::TransactionalId, after("transactional id ").unwrap_or("ID")))
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
