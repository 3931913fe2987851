//! ACLs as Kafka's authorizer applies them: what nobody allows is denied, and a denial overrides (KIP-290).

use super::ANONYMOUS;
use crate::engine::{Acl, Operation, PatternType, Permission, ResourceType};
use crate::local::limits::MOST_ACLS;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeSet;

/// The name that stands for all resources of a kind.
const ALL: &str = "*";

/// All ACLs of a cluster.
#[derive(Debug)]
pub(in crate::local) struct Acls {
    all: BTreeSet<Acl>,
    super_users: BTreeSet<String>,
}

/// Which ACLs are listed or deleted; `None` matches any.
#[derive(Debug, Clone)]
pub(in crate::local) struct Matching {
    pub(in crate::local) kind: Option<ResourceType>,
    pub(in crate::local) name: Option<String>,
    pub(in crate::local) pattern: MatchingPattern,
    pub(in crate::local) principal: Option<String>,
    pub(in crate::local) host: Option<String>,
    pub(in crate::local) operation: Option<Operation>,
    pub(in crate::local) permission: Option<Permission>,
}

/// How the name of a filter is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum MatchingPattern {
    /// With the names of ACLs of any pattern.
    Any,
    /// It is the name of a resource, which ACLs of any pattern may apply to.
    Applies,
    /// With the names of ACLs of this pattern.
    Exactly(PatternType),
}

impl Matching {
    fn includes(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, value: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        }
        let name = match (self.pattern, &self.name) {
            (MatchingPattern::Applies, Some(name)) => applies(acl, name),
            (MatchingPattern::Exactly(pattern), name) => acl.pattern_type == pattern && is(name, &acl.resource_name),
            (MatchingPattern::Any | MatchingPattern::Applies, name) => is(name, &acl.resource_name),
        };
        name && is(&self.kind, &acl.resource_type)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && is(&self.operation, &acl.operation)
            && is(&self.permission, &acl.permission)
    }
}

/// Whether an ACL is about the resource `name` of its kind.
fn applies(acl: &Acl, name: &str) -> bool {
    match acl.pattern_type {
        PatternType::Literal => acl.resource_name == name || acl.resource_name == ALL,
        PatternType::Prefixed => name.starts_with(&acl.resource_name),
    }
}

/// Whether allowing `given` allows `asked` too.
fn implies(given: Operation, asked: Operation) -> bool {
    use Operation as O;
    given == asked
        || given == O::All
        || match asked {
            O::Describe => matches!(given, O::Read | O::Write | O::Delete | O::Alter),
            O::DescribeConfigs => given == O::AlterConfigs,
            _ => false,
        }
}

impl Acls {
    pub(super) fn new(all: BTreeSet<Acl>, super_users: BTreeSet<String>) -> Self {
        Self { all, super_users }
    }

    /// The ACLs about a principal at a host.
    fn of<'a>(&'a self, principal: &'a str, host: &'a str) -> impl Iterator<Item = &'a Acl> {
        let is_principal = move |acl: &Acl| {
            let name = acl.principal.strip_prefix("User:");
            name.is_some_and(|name| name == principal || name == ALL)
        };
        let host = host.trim_start_matches('/');
        self.all.iter().filter(move |acl| is_principal(acl) && (acl.host == host || acl.host == ALL))
    }

    fn is_super(&self, principal: &str) -> bool {
        principal != ANONYMOUS && self.super_users.contains(principal)
    }

    pub(super) fn allows(
        &self,
        principal: &str,
        host: &str,
        operation: Operation,
        kind: ResourceType,
        name: &str,
    ) -> bool {
        let about = || self.of(principal, host).filter(|acl| acl.resource_type == kind && applies(acl, name));
        let is_denied = about().any(|acl| {
            acl.permission == Permission::Deny && (acl.operation == operation || acl.operation == Operation::All)
        });
        let is_allowed = || about().any(|acl| acl.permission == Permission::Allow && implies(acl.operation, operation));
        self.is_super(principal) || (!is_denied && is_allowed())
    }

    /// Whether there is a resource of this kind with which the principal may do this.
    pub(super) fn allows_any(&self, principal: &str, host: &str, operation: Operation, kind: ResourceType) -> bool {
        let mut allowing = self.of(principal, host).filter(|acl| {
            acl.resource_type == kind && acl.permission == Permission::Allow && implies(acl.operation, operation)
        });
        self.is_super(principal)
            || allowing.any(|acl| self.allows(principal, host, operation, kind, &acl.resource_name))
    }

    /// Adds an ACL.
    pub(in crate::local) fn add(&mut self, acl: Acl) -> Result<(), E> {
        if self.all.len() >= MOST_ACLS && !self.all.contains(&acl) {
            return Err(E::PolicyViolation);
        }
        self.all.insert(acl);
        Ok(())
    }

    pub(in crate::local) fn list(&self, which: &Matching) -> Vec<Acl> {
        self.all.iter().filter(|acl| which.includes(acl)).cloned().collect()
    }

    /// Deletes those that match, and returns them.
    pub(in crate::local) fn delete(&mut self, which: &Matching) -> Vec<Acl> {
        let gone = self.list(which);
        self.all.retain(|acl| !which.includes(acl));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(principal: &str, permission: Permission, operation: Operation, name: &str, pattern: PatternType) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            resource_name: name.to_owned(),
            pattern_type: pattern,
            principal: format!("User:{principal}"),
            host: ALL.to_owned(),
            operation,
            permission,
        }
    }

    #[test]
    fn what_nobody_allows_is_denied_and_denials_override() {
        use Operation as O;
        let acls = [
            acl("alice", Permission::Allow, O::Read, "raw.", PatternType::Prefixed),
            acl("*", Permission::Allow, O::Write, "open", PatternType::Literal),
            acl("*", Permission::Deny, O::All, "raw.secret", PatternType::Literal),
            acl("bob", Permission::Allow, O::All, "*", PatternType::Literal),
        ];
        let acls = Acls::new(acls.into(), ["root".to_owned()].into());
        let may =
            |who: &str, what: Operation, topic: &str| acls.allows(who, "/127.0.0.1", what, ResourceType::Topic, topic);
        assert!(may("alice", O::Read, "raw.1") && may("alice", O::Describe, "raw.1"));
        assert!(
            !may("alice", O::Write, "raw.1") && !may("alice", O::Read, "rare") && !may("alice", O::Read, "raw.secret")
        );
        assert!(may("alice", O::Write, "open") && may("bob", O::Alter, "rare") && !may("bob", O::Read, "raw.secret"));
        assert!(may("root", O::Delete, "raw.secret") && !may(ANONYMOUS, O::Read, "raw.1"));
        assert!(!acls.allows("bob", "/127.0.0.1", O::Read, ResourceType::Group, "g"));
        let any = |who: &str, what| acls.allows_any(who, "/127.0.0.1", what, ResourceType::Topic);
        assert!(any("alice", O::Read) && any("alice", O::Write) && !any("alice", O::Alter));
    }

    #[test]
    fn filters_match_by_field_and_by_what_applies_to_a_name() {
        let prefixed = acl("alice", Permission::Allow, Operation::Read, "raw.", PatternType::Prefixed);
        let literal = acl("alice", Permission::Allow, Operation::Write, "raw.1", PatternType::Literal);
        let mut acls = Acls::new([prefixed.clone(), literal.clone()].into(), BTreeSet::new());
        let all = Matching {
            kind: None,
            name: None,
            pattern: MatchingPattern::Any,
            principal: None,
            host: None,
            operation: None,
            permission: None,
        };
        assert_eq!(acls.list(&all).len(), 2);
        let name = Some("raw.1".to_owned());
        let applying = Matching { name: name.clone(), pattern: MatchingPattern::Applies, ..all.clone() };
        assert_eq!(acls.list(&applying).len(), 2);
        let exact = Matching { name, pattern: MatchingPattern::Exactly(PatternType::Literal), ..all.clone() };
        assert_eq!(acls.list(&exact), [literal]);
        assert_eq!(acls.delete(&Matching { operation: Some(Operation::Read), ..all.clone() }), [prefixed]);
        assert_eq!(acls.list(&all).len(), 1);
    }
}
