//! ACLs: list, create, delete (KIP-140, KIP-290).

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::admin::Numbered;
use crate::engine::native::cluster::{answers_in_order, text};
use crate::engine::{Acl, AclFilter};
use crate::error::{Action, Result, Subject};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeSet;

/// Matches any value, in all fields of a filter.
const ANY: i8 = 1;
/// Matches all patterns that apply to the name.
const MATCH: i8 = 2;

impl NativeAdmin {
    /// All ACLs that `filter` matches, in order.
    ///
    /// # Errors
    /// The cluster refused, or has no authorizer.
    pub fn acls(&self, filter: &AclFilter) -> Result<BTreeSet<Acl>> {
        self.repeat(|| self.cluster().acls(filter))
    }

    /// Creates ACLs, and waits until the broker that is asked returns them.
    ///
    /// # Errors
    /// The cluster refused one; those before it are created.
    pub fn create_acls(&self, acls: &[Acl]) -> Result<()> {
        self.run(self.cluster().create_acls(acls))
    }

    /// Deletes exactly these ACLs.
    ///
    /// # Errors
    /// The cluster refused one; those before it are deleted.
    pub fn delete_acls(&self, acls: &[Acl]) -> Result<()> {
        self.run(self.cluster().delete_acls(acls))
    }
}

impl Cluster {
    async fn acls(&self, filter: &AclFilter) -> Result<BTreeSet<Acl>> {
        let text = |value: &Option<String>| value.as_deref().map(text);
        let (kind, name) = filter.resource.clone().map_or((ANY, None), |(kind, name)| (kind.number(), name));
        let pattern = match (filter.pattern_type, &name) {
            (Some(pattern), _) => pattern.number(),
            (None, Some(_)) => MATCH,
            (None, None) => ANY,
        };
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(kind)
            .with_resource_name_filter(text(&name))
            .with_pattern_type_filter(pattern)
            .with_principal_filter(text(&filter.principal))
            .with_host_filter(text(&filter.host))
            .with_operation(filter.operation.map_or(ANY, |operation| operation.number()))
            .with_permission_type(filter.permission.map_or(ANY, |permission| permission.number()));
        let connection = self.any().await?;
        let answer = connection.request(&request).await?;
        refusal(Action::ListAcls, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
        let mut found = BTreeSet::new();
        for resource in &answer.resources {
            for acl in &resource.acls {
                let known = || {
                    Some(Acl {
                        resource_type: Numbered::numbered(resource.resource_type)?,
                        resource_name: resource.resource_name.to_string(),
                        pattern_type: Numbered::numbered(resource.pattern_type)?,
                        principal: acl.principal.to_string(),
                        host: acl.host.to_string(),
                        operation: Numbered::numbered(acl.operation)?,
                        permission: Numbered::numbered(acl.permission_type)?,
                    })
                };
                found.insert(known().ok_or_else(|| {
                    let name = resource.resource_name.as_str();
                    connection.malformed::<DescribeAclsRequest>(&format_args!("an ACL on {name} is of an unknown kind"))
                })?);
            }
        }
        Ok(found)
    }

    async fn create_acls(&self, acls: &[Acl]) -> Result<()> {
        let creation = |acl: &Acl| {
            AclCreation::default()
                .with_resource_type(acl.resource_type.number())
                .with_resource_name(text(&acl.resource_name))
                .with_resource_pattern_type(acl.pattern_type.number())
                .with_principal(text(&acl.principal))
                .with_host(text(&acl.host))
                .with_operation(acl.operation.number())
                .with_permission_type(acl.permission.number())
        };
        let request = CreateAclsRequest::default().with_creations(acls.iter().map(creation).collect());
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            let asked = acls.iter().collect();
            let results = answers_in_order(&controller, ApiKey::CreateAcls, asked, answer.results)?;
            results.into_iter().try_for_each(|(acl, result)| {
                refusal(
                    Action::CreateAcl,
                    Subject::Acl(acl.to_string()),
                    result.error_code,
                    result.error_message.as_ref(),
                )
            })
        })
        .await?;
        self.until(async || {
            let known = self.acls(&AclFilter::default()).await?;
            Ok(acls.iter().all(|acl| known.contains(acl)))
        })
        .await
    }

    async fn delete_acls(&self, acls: &[Acl]) -> Result<()> {
        let some = |value: &str| -> Option<StrBytes> { Some(text(value)) };
        let filter = |acl: &Acl| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(acl.resource_type.number())
                .with_resource_name_filter(some(&acl.resource_name))
                .with_pattern_type_filter(acl.pattern_type.number())
                .with_principal_filter(some(&acl.principal))
                .with_host_filter(some(&acl.host))
                .with_operation(acl.operation.number())
                .with_permission_type(acl.permission.number())
        };
        let request = DeleteAclsRequest::default().with_filters(acls.iter().map(filter).collect());
        self.ask_controller(async |controller| {
            let answer = controller.request(&request).await?;
            let asked = acls.iter().collect();
            let results = answers_in_order(&controller, ApiKey::DeleteAcls, asked, answer.filter_results)?;
            results.into_iter().try_for_each(|(acl, result)| {
                let refusal = |code, message| refusal(Action::DeleteAcl, Subject::Acl(acl.to_string()), code, message);
                refusal(result.error_code, result.error_message.as_ref())?;
                let mut matching = result.matching_acls.iter();
                matching.try_for_each(|one| refusal(one.error_code, one.error_message.as_ref()))
            })
        })
        .await?;
        self.until(async || {
            let known = self.acls(&AclFilter::default()).await?;
            Ok(!acls.iter().any(|acl| known.contains(acl)))
        })
        .await
    }
}
