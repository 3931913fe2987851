//! ACLs: who may do what on which resource (<https://kafka.apache.org/documentation/#security_authz>).

use crate::engine::Named;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An enum whose values Kafka numbers from [`Numbered::FIRST`], in the order of [`Named::ALL`]; 0 is "unknown" and 1
/// "any" in all of them.
pub(crate) trait Numbered: Named {
    /// The number of the first value.
    const FIRST: i8;

    fn number(self) -> i8 {
        let index = Self::ALL.iter().position(|value| *value == self).unwrap_or_default();
        Self::FIRST + index as i8
    }

    fn numbered(number: i8) -> Option<Self> {
        Self::ALL.get(usize::try_from(number.checked_sub(Self::FIRST)?).ok()?).copied()
    }
}

/// What an ACL is about; in the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl ResourceType {
    /// The name of the one resource of type cluster.
    pub const CLUSTER_NAME: &str = "kafka-cluster";
}

impl Named for ResourceType {
    const ALL: &'static [Self] =
        &[Self::Topic, Self::Group, Self::Cluster, Self::TransactionalId, Self::DelegationToken, Self::User];

    fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::Cluster => "cluster",
            Self::TransactionalId => "transactional-id",
            Self::DelegationToken => "delegation-token",
            Self::User => "user",
        }
    }
}

impl Numbered for ResourceType {
    const FIRST: i8 = 2;
}

/// Whether a resource's name stands for itself or for all names that begin with it; in the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum PatternType {
    #[default]
    Literal,
    Prefixed,
}

impl Named for PatternType {
    const ALL: &'static [Self] = &[Self::Literal, Self::Prefixed];

    fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Prefixed => "prefixed",
        }
    }
}

impl Numbered for PatternType {
    const FIRST: i8 = 3;
}

/// What is allowed or denied; in the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl Named for Operation {
    const ALL: &'static [Self] = &[
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
        Self::CreateTokens,
        Self::DescribeTokens,
        Self::TwoPhaseCommit,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Alter => "alter",
            Self::Describe => "describe",
            Self::ClusterAction => "cluster-action",
            Self::DescribeConfigs => "describe-configs",
            Self::AlterConfigs => "alter-configs",
            Self::IdempotentWrite => "idempotent-write",
            Self::CreateTokens => "create-tokens",
            Self::DescribeTokens => "describe-tokens",
            Self::TwoPhaseCommit => "two-phase-commit",
        }
    }
}

impl Numbered for Operation {
    const FIRST: i8 = 2;
}

/// Whether an ACL allows or denies; deny overrides allow. In the order of Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Permission {
    Deny,
    #[default]
    Allow,
}

impl Named for Permission {
    const ALL: &'static [Self] = &[Self::Deny, Self::Allow];

    fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

impl Numbered for Permission {
    const FIRST: i8 = 2;
}

/// An ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// The kind of the resource.
    pub resource_type: ResourceType,
    /// The resource's name; `*` for all, `kafka-cluster` for the cluster.
    pub resource_name: String,
    /// How the name matches.
    #[serde(default)]
    pub pattern_type: PatternType,
    /// Whom it is for, such as `User:alice`; `User:*` for everyone.
    pub principal: String,
    /// The client's address; `*` for any.
    #[serde(default = "any_host")]
    pub host: String,
    /// What is allowed or denied.
    pub operation: Operation,
    /// Whether it allows or denies.
    #[serde(default)]
    pub permission: Permission,
}

fn any_host() -> String {
    "*".to_owned()
}

/// Selects the ACLs that all given fields match.
#[derive(Debug, Clone, Default)]
pub struct AclFilter {
    /// A resource; with `pattern_type` only ACLs of exactly that pattern, without it all ACLs that apply to the name.
    pub resource: Option<(ResourceType, Option<String>)>,
    /// How the ACL's name matches.
    pub pattern_type: Option<PatternType>,
    /// Whom it is for.
    pub principal: Option<String>,
    /// The client's address.
    pub host: Option<String>,
    /// What is allowed or denied.
    pub operation: Option<Operation>,
    /// Whether it allows or denies.
    pub permission: Option<Permission>,
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.pattern_type == PatternType::Prefixed { "…" } else { "" };
        let Self { principal, resource_name, .. } = self;
        let (permission, operation, kind) = (self.permission.name(), self.operation.name(), self.resource_type.name());
        write!(f, "the ACL to {permission} {principal} {operation} on {kind} {resource_name}{all}")
    }
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
        assert_eq!(Operation::numbered(15), Some(Operation::TwoPhaseCommit));
        assert_eq!((Operation::numbered(16), Operation::numbered(1), Operation::numbered(i8::MIN)), (None, None, None));
        assert_eq!(ResourceType::TransactionalId.name(), "transactional-id");
    }
}
