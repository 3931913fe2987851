//! DescribeAcls, CreateAcls and DeleteAcls.

use super::call::{Call, text};
use crate::engine::{Acl, Numbered, Operation, PatternType, ResourceType};
use crate::local::security::{Matching, MatchingPattern};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

/// Kafka's "any" and "match", of types, patterns, operations and permissions.
const ANY: i8 = 1;
const MATCH: i8 = 2;
/// What Kafka answers where no authorizer is configured: a broker, which describes ACLs, and the controller, which
/// changes them.
const NO_AUTHORIZER_ON_BROKER: &str = "No Authorizer is configured on the broker";
const NO_AUTHORIZER: &str = "No Authorizer is configured.";

/// `None` for "any".
fn numbered<T: Numbered>(number: i8) -> Result<Option<T>, E> {
    if number == ANY { Ok(None) } else { T::numbered(number).map(Some).ok_or(E::InvalidRequest) }
}

fn why(error: E, no_authorizer: &'static str) -> Option<StrBytes> {
    (error == E::SecurityDisabled).then(|| StrBytes::from_static_str(no_authorizer))
}

pub(in crate::local) fn describe_acls(call: &Call, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let wanted = || {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(request.resource_type_filter)
            .with_resource_name_filter(request.resource_name_filter.clone())
            .with_pattern_type_filter(request.pattern_type_filter)
            .with_principal_filter(request.principal_filter.clone())
            .with_host_filter(request.host_filter.clone())
            .with_operation(request.operation)
            .with_permission_type(request.permission_type);
        call.check_cluster(Operation::Describe)?;
        let which = matching(&filter)?;
        call.shared.security.with_acls(|acls| acls.list(&which))
    };
    let answer = DescribeAclsResponse::default().with_error_message(None);
    let acls = match wanted() {
        Ok(acls) => acls,
        Err(error) => {
            let message = why(error, NO_AUTHORIZER_ON_BROKER);
            return answer.with_error_code(error.code()).with_error_message(message);
        }
    };
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for acl in acls {
        let described = AclDescription::default()
            .with_principal(text(acl.principal))
            .with_host(text(acl.host))
            .with_operation(acl.operation.number())
            .with_permission_type(acl.permission.number());
        let resource = DescribeAclsResource::default()
            .with_resource_type(acl.resource_type.number())
            .with_resource_name(text(acl.resource_name))
            .with_pattern_type(acl.pattern_type.number());
        // They come in the order of their resources.
        match resources.last_mut() {
            Some(last)
                if (last.resource_type, last.pattern_type) == (resource.resource_type, resource.pattern_type)
                    && last.resource_name == resource.resource_name =>
            {
                last.acls.push(described);
            }
            _ => resources.push(resource.with_acls(vec![described])),
        }
    }
    answer.with_resources(resources)
}

fn matching(filter: &DeleteAclsFilter) -> Result<Matching, E> {
    let owned = |text: &Option<StrBytes>| text.as_ref().map(|text| text.to_string());
    let pattern = match filter.pattern_type_filter {
        ANY => MatchingPattern::Any,
        MATCH => MatchingPattern::Applies,
        number => MatchingPattern::Exactly(PatternType::numbered(number).ok_or(E::InvalidRequest)?),
    };
    Ok(Matching {
        kind: numbered(filter.resource_type_filter)?,
        name: owned(&filter.resource_name_filter),
        pattern,
        principal: owned(&filter.principal_filter),
        host: owned(&filter.host_filter),
        operation: numbered(filter.operation)?,
        permission: numbered(filter.permission_type)?,
    })
}

pub(in crate::local) fn create_acls(call: &Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let results = request.creations.iter().map(|creation| {
        let created = call
            .check_cluster(Operation::Alter)
            .and_then(|()| acl(creation))
            .and_then(|acl| call.shared.security.with_acls(|acls| acls.add(acl))?);
        let answer = AclCreationResult::default().with_error_message(None);
        match created {
            Ok(()) => answer,
            Err(error) => answer.with_error_code(error.code()).with_error_message(why(error, NO_AUTHORIZER)),
        }
    });
    CreateAclsResponse::default().with_results(results.collect())
}

fn acl(creation: &AclCreation) -> Result<Acl, E> {
    let known = || {
        Some(Acl {
            resource_type: Numbered::numbered(creation.resource_type)?,
            resource_name: creation.resource_name.to_string(),
            pattern_type: Numbered::numbered(creation.resource_pattern_type)?,
            principal: creation.principal.to_string(),
            host: creation.host.to_string(),
            operation: Numbered::numbered(creation.operation)?,
            permission: Numbered::numbered(creation.permission_type)?,
        })
    };
    let acl = known().ok_or(E::InvalidRequest)?;
    let is_named = !acl.resource_name.is_empty()
        && (acl.resource_type != ResourceType::Cluster || acl.resource_name == ResourceType::CLUSTER_NAME);
    let has_principal = acl.principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
    if is_named && has_principal && !acl.host.is_empty() { Ok(acl) } else { Err(E::InvalidRequest) }
}

pub(in crate::local) fn delete_acls(call: &Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let results = request.filters.iter().map(|filter| {
        let deleted = call
            .check_cluster(Operation::Alter)
            .and_then(|()| matching(filter))
            .and_then(|which| call.shared.security.with_acls(|acls| acls.delete(&which)));
        let answer = DeleteAclsFilterResult::default().with_error_message(None);
        match deleted {
            Ok(gone) => answer.with_matching_acls(gone.into_iter().map(shown).collect()),
            Err(error) => answer.with_error_code(error.code()).with_error_message(why(error, NO_AUTHORIZER)),
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

fn shown(acl: Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(acl.resource_type.number())
        .with_resource_name(text(acl.resource_name))
        .with_pattern_type(acl.pattern_type.number())
        .with_principal(text(acl.principal))
        .with_host(text(acl.host))
        .with_operation(acl.operation.number())
        .with_permission_type(acl.permission.number())
}
