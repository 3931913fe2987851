//! FindCoordinator, and what administrators ask of groups: ListGroups, DescribeGroups, DeleteGroups.

use super::call::{Call, distinct, text};
use crate::engine::Operation;
use crate::local::cluster::{Advertised, Broker};
use crate::local::group::Group;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

pub(in crate::local) fn find_coordinator(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    const TRANSACTION: i8 = 1;
    let find = |key: &StrBytes| -> Result<Broker, (E, &str)> {
        if let Some(error) = call.refusal {
            return Err((error, ""));
        }
        if ![GROUP, TRANSACTION].contains(&request.key_type) {
            return Err((E::InvalidRequest, "kpipe local has no share groups"));
        }
        let may_find = match request.key_type {
            GROUP => call.check_group(Operation::Describe, key),
            _ => call.check_transactional_id(Operation::Describe, key),
        };
        may_find.map_err(|error| (error, ""))?;
        let cluster = call.cluster();
        let found = cluster.coordinator(key).and_then(|id| cluster.broker(id)).cloned();
        found.ok_or((E::CoordinatorNotAvailable, ""))
    };
    // From v4 on several are asked for at once (KIP-699).
    if call.version >= 4 {
        let one = |key: &StrBytes| {
            let answer = Coordinator::default().with_key(key.clone());
            match find(key) {
                Ok(Broker { id, advertised: Advertised { host, port }, .. }) => {
                    let answer = answer.with_node_id(BrokerId(id.0)).with_host(host);
                    answer.with_port(i32::from(port)).with_error_message(Some(StrBytes::default()))
                }
                Err((error, why)) => {
                    let answer = answer.with_node_id(BrokerId(-1)).with_port(-1).with_error_code(error.code());
                    answer.with_error_message(Some(text(why)))
                }
            }
        };
        return FindCoordinatorResponse::default()
            .with_coordinators(request.coordinator_keys.iter().map(one).collect());
    }
    let answer = FindCoordinatorResponse::default();
    match find(&request.key) {
        Ok(Broker { id, advertised: Advertised { host, port }, .. }) => {
            let answer = answer.with_node_id(BrokerId(id.0)).with_host(host);
            answer.with_port(i32::from(port)).with_error_message(Some(StrBytes::from_static_str("NONE")))
        }
        Err((error, why)) => {
            let answer = answer.with_node_id(BrokerId(-1)).with_port(-1).with_error_code(error.code());
            answer.with_error_message(Some(text(why)))
        }
    }
}

pub(in crate::local) fn describe_groups(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let describe = |id: GroupId| {
        let answer = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(i32::MIN);
        if let Err(error) = call.coordinates_for(Operation::Describe, &id) {
            return answer.with_error_code(error.code());
        }
        let cluster = call.cluster();
        let Some(group) = cluster.groups.get(id.as_str()).filter(|group| !group.is_consumer()) else {
            let answer = answer.with_group_state(StrBytes::from_static_str("Dead"));
            if call.version < 6 {
                return answer;
            }
            // An error of its own since v6 (KIP-1043).
            let why = format!("Group {} not found.", id.as_str());
            return answer.with_error_code(E::GroupIdNotFound.code()).with_error_message(Some(text(why)));
        };
        let members = group.members().map(|(id, member)| {
            DescribedGroupMember::default()
                .with_member_id(text(id))
                .with_group_instance_id(member.instance_id.clone().map(text))
                .with_client_id(text(&*member.client_id))
                .with_client_host(text(&*member.host))
                .with_member_metadata(group.metadata(member))
                .with_member_assignment(member.assignment.clone())
        });
        answer
            .with_error_message(None)
            .with_group_state(StrBytes::from_static_str(group.state()))
            .with_protocol_type(text(group.protocol_type()))
            .with_protocol_data(text(group.protocol()))
            .with_members(members.collect())
    };
    DescribeGroupsResponse::default().with_groups(distinct(request.groups, GroupId::clone).map(describe).collect())
}

pub(in crate::local) fn list_groups(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    if let Some(error) = call.refusal {
        return ListGroupsResponse::default().with_error_code(error.code());
    }
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
    };
    let cluster = call.cluster();
    let sees_all = call.check_cluster(Operation::Describe).is_ok();
    let may_see = |id: &str| sees_all || call.check_group(Operation::Describe, id).is_ok();
    let here = cluster.groups.iter().filter(|(id, _)| cluster.coordinator(id) == Some(call.broker) && may_see(id));
    let asked = here.filter(|(_, group)| {
        wanted(&request.states_filter, group.state()) && wanted(&request.types_filter, group.type_name())
    });
    let list = |(id, group): (&String, &Group)| {
        ListedGroup::default()
            .with_group_id(text(&**id).into())
            .with_protocol_type(text(group.protocol_type()))
            .with_group_state(StrBytes::from_static_str(group.state()))
            .with_group_type(StrBytes::from_static_str(group.type_name()))
    };
    ListGroupsResponse::default().with_groups(asked.map(list).collect())
}

pub(in crate::local) fn delete_groups(call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut cluster = call.cluster();
    let results = request.groups_names.into_iter().map(|id| {
        // Kafka looks for a group without a name too.
        let coordinates = if id.is_empty() { Ok(()) } else { call.coordinates_in(&cluster, &id) };
        let may_delete = call.check_group(Operation::Delete, &id);
        let deleted = may_delete.and(coordinates).and_then(|()| match cluster.groups.get(id.as_str()) {
            None => Err(E::GroupIdNotFound),
            Some(group) if group.has_members() => Err(E::NonEmptyGroup),
            Some(_) => {
                cluster.groups.remove(id.as_str());
                Ok(())
            }
        });
        let code = deleted.err().map_or(0, |error| error.code());
        DeletableGroupResult::default().with_group_id(id).with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
