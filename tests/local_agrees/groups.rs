//! Consumer groups: coordinators, members and committed offsets.

use super::{LOADING, Pair, Side, name, text, versions};
use crate::support::{fresh, require, wait_until};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

#[test]
fn find_coordinator_agrees_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<FindCoordinatorRequest>(0) {
        let request = |_: &Side| {
            let request = FindCoordinatorRequest::default();
            if version >= 4 { request.with_coordinator_keys(vec![text("g")]) } else { request.with_key(text("g")) }
        };
        // The first request creates __consumer_offsets; there is no coordinator before it exists.
        wait_until("the coordinator", || {
            let found = pair.real.wire.ask(&request(&pair.ours), version);
            found.error_code == 0 && found.coordinators.iter().all(|c| c.error_code == 0)
        });
        pair.agree(version, request, |response| {
            response.port = 0;
            response.error_message = None;
            for one in &mut response.coordinators {
                one.port = 0;
                one.error_message = None;
            }
        });
    }
}

/// A member of a group on each side, in requests of one version.
struct Members {
    version: i16,
    group: String,
    topic: String,
    /// The member IDs: the real broker's, and that of `kpipe local`.
    ids: [String; 2],
    /// The ID of the topic on the real broker, by which the sides are told apart.
    real: Uuid,
    generation: i32,
}

impl Members {
    /// The request's version, unless its newest is older.
    fn at_most(&self, newest: i16) -> i16 {
        self.version.min(newest)
    }

    fn group(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    fn id(&self, side: &Side) -> StrBytes {
        text(if side.id == self.real { &self.ids[0] } else { &self.ids[1] })
    }

    fn heartbeat(&self, side: &Side, generation: i32) -> HeartbeatRequest {
        let request = HeartbeatRequest::default().with_group_id(self.group());
        request.with_generation_id(generation).with_member_id(self.id(side))
    }

    fn sync(&self, side: &Side, generation: i32) -> SyncGroupRequest {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(self.id(side))
            .with_assignment(Bytes::from_static(b"mine"));
        let request = SyncGroupRequest::default()
            .with_group_id(self.group())
            .with_generation_id(generation)
            .with_member_id(self.id(side))
            .with_assignments(vec![assignment]);
        if self.version >= 5 {
            request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
        } else {
            request
        }
    }

    fn commit(&self, side: &Side, generation: i32) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(5)
            .with_committed_metadata(Some(text("note")));
        let topic = OffsetCommitRequestTopic::default().with_name(name(&self.topic)).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(self.group())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(self.id(side))
            .with_topics(vec![topic])
    }

    fn leave(&self, member: StrBytes) -> LeaveGroupRequest {
        let request = LeaveGroupRequest::default().with_group_id(self.group());
        if self.at_most(5) >= 3 {
            request.with_members(vec![MemberIdentity::default().with_member_id(member)])
        } else {
            request.with_member_id(member)
        }
    }
}

fn blank_joined(response: &mut JoinGroupResponse) {
    response.member_id = text("member");
    response.leader = text(if response.leader.is_empty() { "" } else { "member" });
    response.members.iter_mut().for_each(|member| member.member_id = text("member"));
}

/// Joins a new group on both sides.
fn join(pair: &mut Pair, version: i16) -> Members {
    let group = fresh("members");
    let join = |member: &str, protocols: &[&str]| {
        let protocol = |p: &&str| {
            JoinGroupRequestProtocol::default().with_name(text(p)).with_metadata(Bytes::from_static(b"meta"))
        };
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(text(member))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.iter().map(protocol).collect());
        if version >= 1 { request.with_rebalance_timeout_ms(10_000) } else { request }
    };
    wait_until("the group's coordinator to load", || {
        !LOADING.contains(&pair.real.wire.ask(&join("no-such-member", &["range"]), version).error_code)
    });
    pair.agree(version, |_| join("no-such-member", &["range"]), blank_joined);
    pair.agree(version, |_| join("", &[]), blank_joined);
    // Since v4 the first response only gives the ID to join with (KIP-394).
    let first =
        [pair.real.wire.ask(&join("", &["range"]), version), pair.ours.wire.ask(&join("", &["range"]), version)];
    let ids = [first[0].member_id.to_string(), first[1].member_id.to_string()];
    assert_eq!(first[0].error_code, first[1].error_code);
    let [mut real, mut ours] = if version >= 4 {
        assert_eq!(first[0].error_code, 79, "MEMBER_ID_REQUIRED");
        [
            pair.real.wire.ask(&join(&ids[0], &["range", "other"]), version),
            pair.ours.wire.ask(&join(&ids[1], &["range", "other"]), version),
        ]
    } else {
        first
    };
    let generation = ours.generation_id;
    blank_joined(&mut real);
    blank_joined(&mut ours);
    assert_eq!(real, ours, "JoinGroup v{version}");
    Members { version, group, topic: pair.topic.clone(), ids, real: pair.real.id, generation }
}

/// A member joins, syncs, sends heartbeats and commits; wrong members and generations are refused.
#[test]
fn members_agree_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<JoinGroupRequest>(0) {
        let m = join(&mut pair, version);
        let now = m.generation;
        pair.agree(m.at_most(5), |side| m.sync(side, now + 5), |_| {});
        pair.agree(m.at_most(4), |side| m.heartbeat(side, now), |_| {});
        pair.agree(7, |side| m.commit(side, now), |_| {});
        pair.agree(m.at_most(5), |side| m.sync(side, now), |_| {});
        pair.agree(m.at_most(5), |side| m.sync(side, now), |_| {});
        pair.agree(m.at_most(4), |side| m.heartbeat(side, now), |_| {});
        pair.agree(m.at_most(4), |side| m.heartbeat(side, now + 1), |_| {});
        pair.agree(m.at_most(4), |side| m.heartbeat(side, now).with_member_id(text("nobody")), |_| {});
        pair.agree(7, |side| m.commit(side, now + 1), |_| {});
        pair.agree(7, |side| m.commit(side, now).with_member_id(text("nobody")), |_| {});
        pair.agree(7, |side| m.commit(side, -1).with_member_id(text("")), |_| {});
        listings_agree(&mut pair, &m);
        let blank = |response: &mut LeaveGroupResponse| {
            response.members.iter_mut().for_each(|member| member.member_id = text("member"))
        };
        pair.agree(m.at_most(5), |_| m.leave(text("nobody")), blank);
        pair.agree(m.at_most(5), |side| m.leave(m.id(side)), blank);
        pair.agree(m.at_most(4), |side| m.heartbeat(side, now), |_| {});
    }
}

/// DescribeGroups and ListGroups.
fn listings_agree(pair: &mut Pair, m: &Members) {
    let groups = vec![m.group(), GroupId(text("no-such-group"))];
    let describe = |_: &Side| DescribeGroupsRequest::default().with_groups(groups.clone());
    pair.agree(m.at_most(6), describe, |response| {
        response.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        for group in &mut response.groups {
            group.error_message = None;
            group.members.iter_mut().for_each(|member| member.member_id = text("member"));
        }
    });
    let version = m.at_most(5);
    let list = |_: &Side| {
        let request = ListGroupsRequest::default();
        let request = if version >= 4 { request.with_states_filter(vec![text("Stable")]) } else { request };
        if version >= 5 { request.with_types_filter(vec![text("classic")]) } else { request }
    };
    pair.agree(version, list, |response| response.groups.retain(|listed| listed.group_id == m.group()));
}

#[test]
fn committed_offsets_agree_in_every_version() {
    require!(Kafka);
    let mut pair = Pair::new();
    let pair = &mut pair;
    let topic = pair.topic.clone();
    for version in versions::<OffsetCommitRequest>(2) {
        let group = fresh("offsets");
        let describe = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group))]);
        wait_until("the group's coordinator", || {
            !LOADING.contains(&pair.real.wire.ask(&describe, 5).groups[0].error_code)
        });
        let request = |_: &Side| {
            let partition = |index: i32| {
                let partition = OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(40 + i64::from(version));
                let partition = partition.with_committed_metadata(Some(text("note")));
                if version >= 6 { partition.with_committed_leader_epoch(0) } else { partition }
            };
            let topic = OffsetCommitRequestTopic::default()
                .with_name(name(&topic))
                .with_partitions(vec![partition(0), partition(9)]);
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(text(&group)))
                .with_generation_id_or_member_epoch(-1);
            let request = if version < 5 { request.with_retention_time_ms(-1) } else { request };
            request.with_topics(vec![topic])
        };
        pair.agree(version, request, |response| {
            response.topics[0].partitions.sort_by_key(|partition| partition.partition_index);
        });
        for version in versions::<OffsetFetchRequest>(1) {
            fetched_offsets_agree(pair, &group, version);
        }
    }
}

/// OffsetFetch for two partitions, and for all of a group.
fn fetched_offsets_agree(pair: &mut Pair, group: &str, version: i16) {
    let topic = pair.topic.clone();
    for all in [false, true] {
        // All are asked for since v2.
        if all && version < 2 {
            continue;
        }
        let request = |_: &Side| {
            let group = GroupId(text(group));
            let indexes = vec![0, 1];
            if version >= 8 {
                let topics =
                    OffsetFetchRequestTopics::default().with_name(name(&topic)).with_partition_indexes(indexes);
                let of_group = OffsetFetchRequestGroup::default().with_group_id(group);
                let of_group = of_group.with_topics((!all).then(|| vec![topics]));
                let of_group =
                    if version >= 9 { of_group.with_member_id(None).with_member_epoch(-1) } else { of_group };
                return OffsetFetchRequest::default().with_groups(vec![of_group]);
            }
            let topics = OffsetFetchRequestTopic::default().with_name(name(&topic)).with_partition_indexes(indexes);
            OffsetFetchRequest::default().with_group_id(group).with_topics((!all).then(|| vec![topics]))
        };
        pair.agree(version, request, |_| {});
    }
}
