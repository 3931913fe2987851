//! ACLs: who may do what on which resource (<https://kafka.apache.org/documentation/#security_authz>).

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Kafka's number of a value; 1 is "any" in all of them.
pub(crate) trait Numbered: ValueEnum {
    /// That of the first variant; the others follow.
    const FIRST: i8;

    fn number(&self) -> i8 {
        let place = Self::value_variants().iter().position(|v| v.to_possible_value() == self.to_possible_value());
        Self::FIRST + place.unwrap_or_default() as i8
    }

    fn of(number: i8) -> Option<Self> {
        Self::value_variants().get(usize::try_from(number.checked_sub(Self::FIRST)?).ok()?).cloned()
    }

    /// As the command line and JSON write it.
    fn name(&self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// What an ACL is about; in the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ResourceType {
    Topic,
    Group,
    Cluster,
    TransactionalId,
    DelegationToken,
    User,
}

impl Numbered for ResourceType {
    const FIRST: i8 = 2;
}

/// Whether a resource's name stands for itself or for all that begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum PatternType {
    #[default]
    Literal,
    Prefixed,
}

impl Numbered for PatternType {
    const FIRST: i8 = 3;
}

/// What is allowed or denied; in the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Operation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
    CreateTokens,
    DescribeTokens,
    TwoPhaseCommit,
}

impl Numbered for Operation {
    const FIRST: i8 = 2;
}

/// Whether an ACL allows or denies; a denial wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Permission {
    Deny,
    #[default]
    Allow,
}

impl Numbered for Permission {
    const FIRST: i8 = 2;
}

/// One ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// What it is about.
    pub resource_type: ResourceType,
    /// Its name; `*` is all, a cluster is called `kafka-cluster`.
    pub resource_name: String,
    /// How the name is meant.
    #[serde(default)]
    pub pattern_type: PatternType,
    /// Whose it is, like `User:alice`; `User:*` is everybody.
    pub principal: String,
    /// The address that they come from; `*` is any.
    #[serde(default = "any_host")]
    pub host: String,
    /// What they may do, or may not.
    pub operation: Operation,
    /// Which of the two.
    #[serde(default)]
    pub permission: Permission,
}

fn any_host() -> String {
    "*".to_owned()
}

/// Which ACLs are meant: those that all given fields fit.
#[derive(Debug, Clone, Default)]
pub struct AclFilter {
    /// A resource; with its pattern type exactly that ACL's, without all ACLs that bear on it.
    pub resource: Option<(ResourceType, Option<String>)>,
    /// How the resource's name is written in the ACL.
    pub pattern_type: Option<PatternType>,
    /// Whose.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// For what.
    pub operation: Option<Operation>,
    /// Allowing or denying.
    pub permission: Option<Permission>,
}

/// A user's SCRAM credential, as far as brokers tell (KIP-554).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The user.
    pub user: String,
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// How often the password was hashed.
    pub iterations: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `org.apache.kafka.common.acl` and `…resource`.
    #[test]
    fn numbers_are_kafkas() {
        assert_eq!((ResourceType::Topic.number(), ResourceType::User.number()), (2, 7));
        assert_eq!((PatternType::Literal.number(), PatternType::Prefixed.number()), (3, 4));
        assert_eq!((Operation::All.number(), Operation::IdempotentWrite.number()), (2, 12));
        assert_eq!((Permission::Deny.number(), Permission::Allow.number()), (2, 3));
        assert_eq!(Operation::of(15), Some(Operation::TwoPhaseCommit));
        assert_eq!((Operation::of(16), Operation::of(1), Operation::of(i8::MIN)), (None, None, None));
        assert_eq!(ResourceType::TransactionalId.name(), "transactional-id");
    }
}
