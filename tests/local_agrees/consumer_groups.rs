//! The consumer group protocol (KIP-848): heartbeats of members that join, share, are fenced and leave.

use super::both::{Both, One};
use super::{name, text};
use crate::support::{Cluster, Wire, fresh, require, wait_until};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

/// A member with the epoch and the partitions that it has, on Kafka and on `kpipe local`.
#[derive(Clone)]
struct Member {
    id: StrBytes,
    epochs: [i32; 2],
    owned: [Vec<i32>; 2],
}

struct Group {
    both: Both,
    id: GroupId,
    version: i16,
}

impl Group {
    /// Sends a heartbeat with all that a member knows, and what `change` makes of it.
    fn beat(
        &mut self,
        step: &str,
        member: &mut Member,
        change: impl Fn(ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatRequest,
    ) {
        let (id, topic, real) = (self.id.clone(), self.both.topic.clone(), self.both.real.topic_id);
        let make = |one: &One| {
            let side = usize::from(one.topic_id != real);
            let owned = &member.owned[side];
            let owned = TopicPartitions::default().with_topic_id(one.topic_id).with_partitions(owned.clone());
            let owned = if owned.partitions.is_empty() { Vec::new() } else { vec![owned] };
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(id.clone())
                .with_member_id(member.id.clone())
                .with_member_epoch(member.epochs[side])
                .with_rebalance_timeout_ms(30_000)
                .with_subscribed_topic_names(Some(vec![name(&topic)]))
                .with_topic_partitions(Some(owned));
            change(request)
        };
        let answers = self.both.ask(step, self.version, make, |response| {
            response.error_message = response.error_message.take().map(|_| text(""));
            // Which partitions a member gets is the assignor's choice; how many is not.
            for topic in response.assignment.iter_mut().flat_map(|assignment| &mut assignment.topic_partitions) {
                topic.topic_id = uuid::Uuid::nil();
                topic.partitions.iter_mut().for_each(|partition| *partition = 0);
            }
        });
        for (side, answer) in answers.into_iter().enumerate() {
            if answer.error_code == 0 && answer.member_epoch >= 0 {
                member.epochs[side] = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    member.owned[side] = assignment.topic_partitions.into_iter().flat_map(|t| t.partitions).collect();
                }
            }
        }
    }

    fn describe(&mut self, step: &str) {
        let id = self.id.clone();
        let request = |_: &One| {
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![id.clone(), text("no-such-group").into()])
        };
        self.both.ask(step, self.version, request, |response| {
            for group in &mut response.groups {
                group.error_message = group.error_message.take().map(|_| text(""));
                group.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
                for member in &mut group.members {
                    for topic in member
                        .assignment
                        .topic_partitions
                        .iter_mut()
                        .chain(&mut member.target_assignment.topic_partitions)
                    {
                        topic.topic_id = uuid::Uuid::nil();
                        topic.partitions.iter_mut().for_each(|partition| *partition = 0);
                    }
                }
            }
        });
    }
}

fn member(id: &str) -> Member {
    Member { id: text(id), epochs: [0, 0], owned: [vec![], vec![]] }
}

#[test]
fn members_join_share_and_leave_alike() {
    require!(Kafka);
    // Not the shared one: its clients would use this protocol too.
    let local = Cluster::start_local(1);
    local.local().offer_consumer_groups();
    let runs = [0, 1].map(|version| {
        let mut both = Both::new();
        both.ours.wire = Wire::connect(&local.bootstrap);
        let new = create_topics_request::CreatableTopic::default().with_name(name(&both.topic)).with_num_partitions(1);
        let new = CreateTopicsRequest::default().with_topics(vec![new.with_replication_factor(1)]);
        both.ours.topic_id = both.ours.wire.ask(&new, 7).topics[0].topic_id;
        let more =
            create_partitions_request::CreatePartitionsTopic::default().with_name(name(&both.topic)).with_count(4);
        let more =
            CreatePartitionsRequest::default().with_timeout_ms(9000).with_topics(vec![more.with_assignments(None)]);
        both.ask("partitions", 3, |_| more.clone(), |_| {});
        let group = fresh("g848");
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group)]);
        wait_until("the coordinator", || {
            both.real.wire.ask(&find, 4).coordinators.iter().all(|found| found.error_code == 0)
        });
        let mut group = Group { both, id: text(&group).into(), version };
        sequence(&mut group);
        group.both
    });
    Both::agree(runs);
}

fn sequence(group: &mut Group) {
    let (mut a, mut b) = (member("member-a"), member("member-b"));
    group.beat("unknown group", &mut member("x"), |r| r.with_member_epoch(3));
    group.beat("no topics", &mut member("x"), |r| r.with_subscribed_topic_names(None));
    group.beat("no timeout", &mut member("x"), |r| r.with_rebalance_timeout_ms(-1));
    group.beat("owned at the start", &mut member("x"), |r| r.with_topic_partitions(None));
    group.beat("a strange epoch", &mut member("x"), |r| r.with_member_epoch(-3));
    group.beat("static without an instance", &mut member("x"), |r| r.with_member_epoch(-2));
    group.beat("a strange assignor", &mut member("x"), |r| r.with_server_assignor(Some(text("mine"))));
    group.beat("first joins", &mut a, |r| r);
    group.describe("one member");
    group.beat("first again", &mut a, |r| r);
    group.beat("second joins", &mut b, |r| r);
    group.describe("two members");
    group.beat("first must give up", &mut a, |r| r);
    group.describe("revoking");
    group.beat("second waits", &mut b, |r| r);
    group.beat("first has given up", &mut a, |r| r);
    group.beat("second gets its part", &mut b, |r| r);
    group.describe("shared");
    group.beat("a late epoch", &mut a.clone(), |r| r.with_member_epoch(99));
    group.beat("an unknown member", &mut member("x"), |r| r.with_member_epoch(2));
    group.beat("second leaves", &mut b, |r| r.with_member_epoch(-1));
    group.beat("first gets all", &mut a, |r| r);
    group.describe("one left");
    group.beat("first leaves", &mut a, |r| r.with_member_epoch(-1));
    group.describe("empty");
}
