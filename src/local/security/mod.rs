//! Who may connect and do what: users that authenticate with SASL, and ACLs.
//!
//! [`sasl`] is the broker's side of an authentication, [`acls`] decides what a principal may do. Neither does I/O.

mod acls;
mod sasl;

pub(super) use acls::{Acls, Matching, MatchingPattern};
pub(super) use sasl::{MECHANISMS, Session};

use crate::engine::{Acl, Operation, ResourceType};
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

/// The principal of clients that do not authenticate.
pub(super) const ANONYMOUS: &str = "ANONYMOUS";

/// Who may connect to a cluster, and do what there.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names and passwords; clients must authenticate if there are any.
    pub users: BTreeMap<String, String>,
    /// What is allowed to whom; everyone may do everything with `None`.
    pub acls: Option<BTreeSet<Acl>>,
    /// Names of users that may do everything whatever the ACLs are.
    pub super_users: BTreeSet<String>,
}

/// The access rules of a running cluster.
#[derive(Debug, Default)]
pub(super) struct Security {
    users: RwLock<BTreeMap<String, String>>,
    acls: RwLock<Option<Acls>>,
}

impl Security {
    pub(super) fn set(&self, access: Access) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = access.users;
        let acls = access.acls.map(|acls| Acls::new(acls, access.super_users));
        *self.acls.write().unwrap_or_else(PoisonError::into_inner) = acls;
    }

    /// A new connection's.
    pub(super) fn session(&self) -> Session {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        if users.is_empty() { Session::open() } else { Session::new() }
    }

    /// A user's password.
    pub(super) fn password(&self, user: &str) -> Option<String> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }

    /// The error that a principal gets for an operation that it may not do.
    pub(super) fn check(
        &self,
        principal: &str,
        host: &str,
        operation: Operation,
        kind: ResourceType,
        name: &str,
    ) -> Result<(), E> {
        let acls = self.acls.read().unwrap_or_else(PoisonError::into_inner);
        if acls.as_ref().is_none_or(|acls| acls.allows(principal, host, operation, kind, name)) {
            return Ok(());
        }
        Err(match kind {
            ResourceType::Topic => E::TopicAuthorizationFailed,
            ResourceType::Group => E::GroupAuthorizationFailed,
            ResourceType::TransactionalId => E::TransactionalIdAuthorizationFailed,
            ResourceType::DelegationToken => E::DelegationTokenAuthorizationFailed,
            ResourceType::Cluster | ResourceType::User => E::ClusterAuthorizationFailed,
        })
    }

    /// Whether a principal may do this with any resource of the kind.
    pub(super) fn allows_any(&self, principal: &str, host: &str, operation: Operation, kind: ResourceType) -> bool {
        let acls = self.acls.read().unwrap_or_else(PoisonError::into_inner);
        acls.as_ref().is_none_or(|acls| acls.allows_any(principal, host, operation, kind))
    }

    /// Reads or changes the ACLs; SECURITY_DISABLED where there are none.
    pub(super) fn with_acls<T>(&self, f: impl FnOnce(&mut Acls) -> T) -> Result<T, E> {
        let mut acls = self.acls.write().unwrap_or_else(PoisonError::into_inner);
        acls.as_mut().map(f).ok_or(E::SecurityDisabled)
    }
}
