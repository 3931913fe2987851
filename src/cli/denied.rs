//! What to say when the cluster denies something: who lacks what, and the command that allows it.

use crate::engine::security::Security;
use crate::engine::{Named, Operation, ResourceType};
use crate::error::{Action, Error};
use crate::text::escaped;
use kafka_protocol::error::ResponseError as E;

/// Something that a principal may not do.
pub(super) type Lack = (Operation, ResourceType, String);

/// Who lacks what, and what an administrator would run; `None` when `error` is not a denial. Where the request that was
/// denied does not tell the operation, `intended` does, from the kind of the resource; `next` tells what would be denied
/// after it, and `transactional_id` what the error does not name.
pub(super) fn explain(
    error: &Error,
    security: &Security,
    intended: impl Fn(ResourceType) -> Operation,
    next: impl Fn(ResourceType) -> Option<Lack>,
    transactional_id: Option<&str>,
) -> Option<String> {
    let (action, kind, name) = denied(error)?;
    let name = match kind {
        ResourceType::TransactionalId => name.or(transactional_id).unwrap_or("ID"),
        _ => name.unwrap_or("NAME"),
    };
    let principal = security.principal().unwrap_or("User:NAME".to_owned());
    let operation = operation(action, kind).unwrap_or_else(|| intended(kind));
    let lacks = ("lacks", (operation, kind, name.to_owned()));
    let said = std::iter::once(lacks).chain(next(kind).map(|lack| ("may also lack", lack)));
    let said = said.map(|(lacks, (operation, kind, name))| {
        let (name, flag) = match kind {
            ResourceType::Cluster => ("the cluster".to_owned(), "--cluster".to_owned()),
            kind => (format!("{} {name}", kind.name()), format!("--{} {}", kind.name(), quoted(&name))),
        };
        let operation = operation.name();
        let who = quoted(&principal);
        format!(
            "kpipe: {} {lacks} {operation} on {}; an administrator can allow it:\n  \
             kpipe acls create --principal {} --operation {operation} {}\n",
            escaped(&principal),
            escaped(&name),
            escaped(&who),
            escaped(&flag)
        )
    });
    Some(said.collect())
}

/// What was denied: the attempt, the resource's kind, and its name.
fn denied(error: &Error) -> Option<(Action, ResourceType, Option<&str>)> {
    match error {
        Error::Kafka { action, subject, code, .. } => {
            let (kind, name) = match code {
                E::TopicAuthorizationFailed => (ResourceType::Topic, subject.topic()),
                E::GroupAuthorizationFailed => (ResourceType::Group, subject.group()),
                E::TransactionalIdAuthorizationFailed => (ResourceType::TransactionalId, subject.transactional_id()),
                E::ClusterAuthorizationFailed => (ResourceType::Cluster, Some(ResourceType::CLUSTER_NAME)),
                _ => return None,
            };
            Some((*action, kind, name))
        }
        Error::During { source, .. } | Error::Undelivered { last: source, .. } | Error::Aborted(source) => {
            denied(source)
        }
        _ => None,
    }
}

/// The operation that a request needs on a resource of a kind; `None` for lookups, which every operation on the
/// resource allows.
fn operation(action: Action, kind: ResourceType) -> Option<Operation> {
    use Action as A;
    use ResourceType as R;
    Some(match (action, kind) {
        (A::Produce | A::AddPartitions, R::Topic) => Operation::Write,
        (A::InitProducerId | A::Produce, R::Cluster) => Operation::IdempotentWrite,
        (
            A::InitProducerId | A::AddPartitions | A::CommitTransaction | A::AbortTransaction | A::Produce,
            R::TransactionalId,
        ) => Operation::Write,
        (A::Fetch | A::DescribeProducers | A::DeleteOffsets, R::Topic) => Operation::Read,
        (A::CreateTopic, _) => Operation::Create,
        (A::DeleteTopic | A::DeleteRecords, R::Topic) => Operation::Delete,
        (A::CreatePartitions, R::Topic) => Operation::Alter,
        (A::ElectLeader | A::Reassign | A::CreateAcl | A::DeleteAcl | A::AlterUser, R::Cluster) => Operation::Alter,
        (A::AlterConfigs, _) => Operation::AlterConfigs,
        (A::DescribeConfigs, _) => Operation::DescribeConfigs,
        (
            A::ListReassignments | A::DescribeCluster | A::DescribeQuorum | A::DescribeLogDirs | A::ListAcls,
            R::Cluster,
        ) => Operation::Describe,
        (A::ListUsers | A::ListGroups | A::ListTransactions, R::Cluster) => Operation::Describe,
        (A::JoinGroup | A::SyncGroup | A::Heartbeat | A::CommitOffsets, R::Group | R::Topic) => Operation::Read,
        (A::DeleteGroup | A::DeleteOffsets, R::Group) => Operation::Delete,
        (A::AbortHanging, R::Cluster) => Operation::ClusterAction,
        _ => return None,
    })
}

/// As the shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:=@/".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Subject;
    use crate::record::TopicPartition;

    fn advice(action: Action, subject: Subject, code: E) -> String {
        let error = Error::kafka(action, subject, code);
        explain(&error, &Security::default(), |_| Operation::Describe, |_| None, None).unwrap()
    }

    #[test]
    fn the_request_that_was_denied_tells_the_operation_and_its_subject_the_resource() {
        let id = "id".to_owned();
        let partition = TopicPartition::new("orders", 3);
        let text = advice(
            Action::AddPartitions,
            Subject::TransactionPartition { transactional_id: id.clone(), partition },
            E::TopicAuthorizationFailed,
        );
        assert!(text.contains("--operation write --topic orders\n"), "{text}");
        let text = advice(Action::InitProducerId, Subject::TransactionalId(id), E::TransactionalIdAuthorizationFailed);
        assert!(text.contains("--operation write --transactional-id id\n"), "{text}");
        let text = advice(Action::LookUp, Subject::topic_named("t"), E::TopicAuthorizationFailed);
        assert!(text.contains("--operation describe --topic t\n"), "{text}");
        let text = advice(Action::DescribeConfigs, Subject::TopicConfigs("t".into()), E::TopicAuthorizationFailed);
        assert!(text.contains("--operation describe-configs --topic t\n"), "{text}");
    }

    #[test]
    fn a_name_that_others_chose_stays_on_its_line_and_in_its_quotes() {
        let text = advice(Action::Fetch, Subject::topic_named("a'\x1b[2J\nb"), E::TopicAuthorizationFailed);
        assert!(text.lines().count() == 2 && !text.contains('\x1b'), "{text:?}");
        assert!(text.ends_with("--topic 'a'\\''\\x1b[2J\\nb'\n"), "{text:?}");
    }
}
