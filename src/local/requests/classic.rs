//! The requests of members of classic groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use super::call::{Call, text};
use crate::engine::Operation;
use crate::engine::native::clock;
use crate::local::group::{Answer, Join, Joined, Sync};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

fn owned(text: Option<&StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

pub(in crate::local) async fn join_group(call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let joined = match call.coordinates_for(Operation::Read, &request.group_id) {
        Err(error) => Err((error, request.member_id.to_string())),
        Ok(()) => {
            // Copied, so that it does not keep the whole request.
            let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
            let protocols = request.protocols.iter().map(|p| (p.name.to_string(), copied(&p.metadata)));
            let millis = |ms: i32| Duration::from_millis(ms.max(0) as u64);
            let join = Join {
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id.as_ref()),
                client_id: call.client_id.clone(),
                host: call.host.clone(),
                session_timeout: millis(request.session_timeout_ms),
                // Version 0 has only one timeout.
                rebalance_timeout: millis(request.rebalance_timeout_ms.max(request.session_timeout_ms)),
                protocol_type: request.protocol_type.to_string(),
                protocols: protocols.collect(),
                must_ask_for_id: call.version >= 4,
            };
            let bytes = join.bytes() + join.client_id.len();
            match call.ask_group(&request.group_id, bytes, |group, waiter, now| group.join(join, waiter, now)).await {
                Ok(Some(Answer::Joined(_, joined))) => joined,
                Ok(_) => Err((E::CoordinatorNotAvailable, String::new())),
                Err(error) => Err((error, String::new())),
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
        // Versions before 7 cannot carry null here.
        Err((error, member_id)) => answer
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name((call.version < 7).then(StrBytes::default))
            .with_member_id(text(member_id)),
    }
}

pub(in crate::local) async fn sync_group(call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let synced = match call.coordinates_for(Operation::Read, &request.group_id) {
        Err(error) => Err(error),
        Ok(()) => {
            let bytes = request.assignments.iter().map(|assigned| assigned.assignment.len()).sum();
            let assignments = request.assignments.iter();
            let assignments = assignments.map(|a| (a.member_id.to_string(), Bytes::copy_from_slice(&a.assignment)));
            let sync = Sync {
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id.as_ref()),
                generation: request.generation_id,
                protocol_type: owned(request.protocol_type.as_ref()),
                protocol: owned(request.protocol_name.as_ref()),
                assignments: assignments.collect(),
            };
            match call.ask_group(&request.group_id, bytes, |group, waiter, now| group.sync(sync, waiter, now)).await {
                Ok(Some(Answer::Synced(_, synced))) => synced,
                Ok(_) => Err(E::CoordinatorNotAvailable),
                Err(error) => Err(error),
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

pub(in crate::local) fn heartbeat(call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let alive = call.coordinates_for(Operation::Read, &request.group_id).and_then(|()| {
        let mut cluster = call.cluster();
        let group = cluster.groups.get_mut(request.group_id.as_str()).ok_or(E::UnknownMemberId)?;
        let instance = request.group_instance_id.as_deref();
        group.heartbeat(&request.member_id, instance, request.generation_id, clock::now())
    });
    HeartbeatResponse::default().with_error_code(code(alive))
}

fn code(result: Result<(), E>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

pub(in crate::local) fn leave_group(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Err(error) = call.coordinates_for(Operation::Read, &request.group_id) {
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
                let (left, answers) = group.leave(&member.member_id, member.group_instance_id.as_deref(), clock::now());
                cluster.deliver(answers);
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
