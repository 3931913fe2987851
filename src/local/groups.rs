//! FindCoordinator and the requests about groups: joining, leaving, offsets, lists.

use super::call::{Call, HOST, text};
use super::group::{Answer, Group, Join, Joined, Sync};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::time::{Duration, Instant};

fn owned(text: Option<&StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

pub(super) fn find_coordinator(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    let find = |key: &StrBytes| -> Result<(i32, u16), (E, &str)> {
        if let Some(error) = call.refusal {
            return Err((error, ""));
        }
        if request.key_type != GROUP {
            return Err((E::InvalidRequest, "kpipe local has no transactions"));
        }
        let cluster = call.cluster();
        let found = cluster.coordinator(key).and_then(|id| cluster.broker(id)).map(|broker| (broker.id, broker.port));
        found.ok_or((E::CoordinatorNotAvailable, ""))
    };
    // From v4 on several are asked for at once (KIP-699).
    if call.version >= 4 {
        let one = |key: &StrBytes| {
            let answer = Coordinator::default().with_key(key.clone());
            match find(key) {
                Ok((id, port)) => {
                    let answer = answer.with_node_id(BrokerId(id)).with_host(StrBytes::from_static_str(HOST));
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
        Ok((id, port)) => {
            let answer = answer.with_node_id(BrokerId(id)).with_host(StrBytes::from_static_str(HOST));
            answer.with_port(i32::from(port)).with_error_message(Some(StrBytes::from_static_str("NONE")))
        }
        Err((error, why)) => {
            let answer = answer.with_node_id(BrokerId(-1)).with_port(-1).with_error_code(error.code());
            answer.with_error_message(Some(text(why)))
        }
    }
}

pub(super) async fn join_group(call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let joined = match call.coordinates(&request.group_id) {
        Err(error) => Err((error, request.member_id.to_string())),
        Ok(()) => {
            let protocols = request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata));
            let millis = |ms: i32| Duration::from_millis(ms.max(0) as u64);
            let join = Join {
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id.as_ref()),
                client_id: call.client_id.clone(),
                host: call.host.clone(),
                session_timeout: millis(request.session_timeout_ms),
                // Version 0 has but one timeout.
                rebalance_timeout: millis(request.rebalance_timeout_ms.max(request.session_timeout_ms)),
                protocol_type: request.protocol_type.to_string(),
                protocols: protocols.collect(),
                must_ask_for_id: call.version >= 4,
            };
            match call.ask_group(&request.group_id, |group, waiter, now| group.join(join, waiter, now)).await {
                Some(Answer::Joined(_, joined)) => joined,
                _ => Err((E::CoordinatorNotAvailable, String::new())),
            }
        }
    };
    let answer = JoinGroupResponse::default();
    match joined {
        Ok(Joined { generation, protocol, leader, member_id, members, skip_assignment }) => {
            let member = |(id, instance, metadata): (String, Option<String>, Bytes)| {
                let member = JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata);
                member.with_group_instance_id(instance.map(text))
            };
            answer
                .with_generation_id(generation)
                .with_protocol_type(Some(request.protocol_type))
                .with_protocol_name(Some(text(protocol)))
                .with_leader(text(leader))
                .with_member_id(text(member_id))
                .with_members(members.into_iter().map(member).collect())
                .with_skip_assignment(skip_assignment && call.version >= 9)
        }
        // Versions before 7 know no null here.
        Err((error, member_id)) => answer
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name((call.version < 7).then(StrBytes::default))
            .with_member_id(text(member_id)),
    }
}

pub(super) async fn sync_group(call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let synced = match call.coordinates(&request.group_id) {
        Err(error) => Err(error),
        Ok(()) => {
            let assignments = request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment));
            let sync = Sync {
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id.as_ref()),
                generation: request.generation_id,
                protocol_type: owned(request.protocol_type.as_ref()),
                protocol: owned(request.protocol_name.as_ref()),
                assignments: assignments.collect(),
            };
            match call.ask_group(&request.group_id, |group, waiter, now| group.sync(sync, waiter, now)).await {
                Some(Answer::Synced(_, synced)) => synced,
                _ => Err(E::CoordinatorNotAvailable),
            }
        }
    };
    let answer = SyncGroupResponse::default();
    match synced {
        Ok(assignment) => answer
            .with_protocol_type(request.protocol_type)
            .with_protocol_name(request.protocol_name)
            .with_assignment(assignment),
        Err(error) => answer.with_error_code(error.code()),
    }
}

pub(super) fn heartbeat(call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let beaten = call.coordinates(&request.group_id).and_then(|()| {
        let mut cluster = call.cluster();
        let group = cluster.groups.get_mut(request.group_id.as_str()).ok_or(E::UnknownMemberId)?;
        let instance = request.group_instance_id.as_deref();
        group.heartbeat(&request.member_id, instance, request.generation_id, Instant::now())
    });
    HeartbeatResponse::default().with_error_code(code(beaten))
}

fn code(result: Result<(), E>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

pub(super) fn leave_group(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Err(error) = call.coordinates(&request.group_id) {
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    // Before v3 one member leaves; from then on several may (KIP-345).
    let alone = MemberIdentity::default().with_member_id(request.member_id);
    let leaving = if call.version < 3 { vec![alone] } else { request.members };
    let mut cluster = call.cluster();
    let leave = |member: MemberIdentity| {
        let left = match cluster.groups.get_mut(request.group_id.as_str()) {
            None => Err(E::UnknownMemberId),
            Some(group) => {
                let (left, answers) =
                    group.leave(&member.member_id, member.group_instance_id.as_deref(), Instant::now());
                cluster.hand_out(answers);
                left
            }
        };
        let answer = MemberResponse::default().with_member_id(member.member_id).with_error_code(code(left));
        answer.with_group_instance_id(member.group_instance_id)
    };
    let members: Vec<_> = leaving.into_iter().map(leave).collect();
    drop(cluster);
    call.shared.deadlines.notify_one();
    let error = if call.version < 3 { members.first().map_or(0, |member| member.error_code) } else { 0 };
    LeaveGroupResponse::default().with_error_code(error).with_members(if call.version < 3 {
        Vec::new()
    } else {
        members
    })
}

pub(super) fn describe_groups(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let describe = |id: kafka_protocol::messages::GroupId| {
        let answer = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(i32::MIN);
        if let Err(error) = call.coordinates(&id) {
            return answer.with_error_code(error.code());
        }
        let cluster = call.cluster();
        let Some(group) = cluster.groups.get(id.as_str()) else {
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
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
}

pub(super) fn list_groups(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    if let Some(error) = call.refusal {
        return ListGroupsResponse::default().with_error_code(error.code());
    }
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
    };
    let cluster = call.cluster();
    let here = cluster.groups.iter().filter(|(id, _)| cluster.coordinator(id) == Some(call.broker));
    let asked = here
        .filter(|(_, group)| wanted(&request.states_filter, group.state()) && wanted(&request.types_filter, "classic"));
    let list = |(id, group): (&String, &Group)| {
        ListedGroup::default()
            .with_group_id(text(&**id).into())
            .with_protocol_type(text(group.protocol_type()))
            .with_group_state(StrBytes::from_static_str(group.state()))
            .with_group_type(StrBytes::from_static_str("classic"))
    };
    ListGroupsResponse::default().with_groups(asked.map(list).collect())
}
