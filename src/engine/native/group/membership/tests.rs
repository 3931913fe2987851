use super::super::classic::Classic;
use super::super::kip848::Kip848;
use super::*;
use crate::engine::Assignor;
use crate::error::{Action, Subject};
use crate::record::TopicPartition;
use proptest::prelude::*;

fn config(instance_id: Option<&str>) -> MemberConfig {
    MemberConfig {
        group: "g".to_owned(),
        instance_id: instance_id.map(str::to_owned),
        session_timeout: Duration::from_secs(10),
        max_poll_interval: Duration::from_secs(60),
        heartbeat_interval: Duration::from_secs(1),
        retry: Duration::from_millis(100),
    }
}

fn partitions(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
}

fn topics() -> Event {
    Event::Topics(PartitionCounts::from([(Arc::from("t"), 4)]))
}

fn refused(error: E) -> Error {
    Error::kafka(Action::LookUp, Subject::Cluster, error)
}

fn shown(effects: &[Effect]) -> Vec<String> {
    let some = |partitions: &BTreeSet<TopicPartition>| {
        partitions.iter().map(|of| of.partition.to_string()).collect::<Vec<_>>().join(",")
    };
    let show = |effect: &Effect| match effect {
        Effect::Assign(partitions) => format!("assign {}", some(partitions)),
        Effect::Revoke(partitions) => format!("revoke {}", some(partitions)),
        Effect::Lose(partitions, _) => format!("lose {}", some(partitions)),
        Effect::Heartbeat(Content::Full) => "full heartbeat".to_owned(),
        Effect::Heartbeat(Content::Alive) => "heartbeat".to_owned(),
        Effect::Join => "join".to_owned(),
        Effect::CountPartitions(_) => "count".to_owned(),
        Effect::ComputeAssignment { members, .. } => format!("assign to {}", members.len()),
        Effect::Sync(assignments) => format!("sync {}", assignments.len()),
        Effect::Leave(id) => format!("leave {id}"),
        Effect::ForgetCoordinator => "forget".to_owned(),
        Effect::Retry(_) => "retry".to_owned(),
        Effect::Fail(_) => "fail".to_owned(),
        Effect::Left => "left".to_owned(),
    };
    effects.iter().map(show).collect()
}

/// Joins as a follower that is assigned `share`.
fn join(member: &mut Classic, assignor: Assignor, generation: i32, share: &[i32], now: Instant) -> Vec<String> {
    let joined = Joined { member_id: "m".to_owned(), generation, assignor, role: Role::Follower };
    assert_eq!(shown(&member.handle(Event::Joined(Ok(joined)), now)), ["sync 0"]);
    shown(&member.handle(Event::Synced(Ok(partitions(share))), now))
}

/// The answer to the join of a member that leads, alone.
fn joined_as_leader() -> Event {
    let role = Role::Leader(vec![Subscriber { id: "m".to_owned(), ..Subscriber::default() }]);
    Event::Joined(Ok(Joined { member_id: "m".to_owned(), generation: 1, assignor: Assignor::Range, role }))
}

#[test]
fn an_eager_member_lets_go_of_all_before_it_joins_again() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    assert_eq!(shown(&member.handle(topics(), now)), ["join"]);
    assert_eq!(shown(&member.handle(Event::MemberIdGiven("m".to_owned()), now)), ["join"]);
    assert_eq!(join(&mut member, Assignor::Range, 1, &[0, 1], now), ["assign 0,1"]);
    let rebalance = Event::Heartbeat(Err(refused(E::RebalanceInProgress)));
    assert_eq!(shown(&member.handle(rebalance, now)), ["revoke 0,1"]);
    // It still says that it lives, and hears once more what it knows.
    let later = now + Duration::from_secs(2);
    assert_eq!(shown(&member.handle(Event::Due, later)), ["heartbeat"]);
    assert!(member.handle(Event::Heartbeat(Err(refused(E::RebalanceInProgress))), later).is_empty());
    assert_eq!(shown(&member.handle(Event::Released, later)), ["join"]);
    assert_eq!(join(&mut member, Assignor::Range, 2, &[0], later), ["assign 0"]);
    assert_eq!(shown(&member.handle(Event::Leave, later)), ["leave m", "left"]);
}

#[test]
fn a_cooperative_member_lets_go_of_what_moves_alone() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 1, &[0, 1, 2, 3], now), ["assign 0,1,2,3"]);
    let rebalance = Event::Heartbeat(Err(refused(E::RebalanceInProgress)));
    assert_eq!(shown(&member.handle(rebalance, now)), ["join"]);
    assert_eq!(*member.owned(), partitions(&[0, 1, 2, 3]), "all are read on");
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 2, &[0, 1], now), ["assign ", "revoke 2,3"]);
    assert_eq!(shown(&member.handle(Event::Released, now)), ["join"]);
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 3, &[0, 1], now), ["assign "]);
    // A member that shares out eagerly joins: what it is given is not waited for.
    member.handle(Event::Heartbeat(Err(refused(E::RebalanceInProgress))), now);
    assert_eq!(join(&mut member, Assignor::Range, 4, &[1, 2], now), ["assign 2", "lose 0"]);
}

#[test]
fn a_leader_computes_the_assignment_apart_and_may_leave_meanwhile() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    assert_eq!(shown(&member.handle(joined_as_leader(), now)), ["count"]);
    let counts = PartitionCounts::from([(Arc::from("t"), 4)]);
    assert_eq!(shown(&member.handle(Event::Counted(Ok(counts)), now)), ["assign to 1"]);
    let computed = Event::AssignmentComputed(Ok(vec![("m".to_owned(), Bytes::new())]));
    assert_eq!(shown(&member.handle(computed, now)), ["sync 1"]);
    assert_eq!(shown(&member.handle(Event::Leave, now)), ["leave m", "left"]);
    let late = Event::AssignmentComputed(Ok(Vec::new()));
    assert!(member.handle(late, now).is_empty(), "it is not a member any more");
}

/// KIP-62: to assign many partitions may take longer than a session.
#[test]
fn a_leader_says_that_it_lives_while_it_assigns() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    let later = now + Duration::from_secs(5);
    member.handle(joined_as_leader(), later);
    assert!(member.handle(Event::Due, later).is_empty(), "not at once");
    let interval = Duration::from_secs(1);
    assert_eq!(member.due(), Some(later + interval));
    assert_eq!(shown(&member.handle(Event::Due, later + interval)), ["heartbeat"]);
    assert_eq!(member.due(), None, "one at a time");
    // Old brokers refuse it until all have their assignment.
    assert!(member.handle(Event::Heartbeat(Err(refused(E::RebalanceInProgress))), later + interval).is_empty());
    member.handle(Event::Counted(Ok(PartitionCounts::from([(Arc::from("t"), 4)]))), later + interval);
    assert_eq!(shown(&member.handle(Event::Due, later + 2 * interval)), ["heartbeat"]);
    let computed = Event::AssignmentComputed(Ok(vec![("m".to_owned(), Bytes::new())]));
    assert_eq!(shown(&member.handle(computed, later + 2 * interval)), ["sync 1"]);
    assert!(member.handle(Event::Due, later + 4 * interval).is_empty(), "the coordinator does not ask for it");
}

#[test]
fn a_member_that_the_coordinator_forgot_loses_all_and_begins_again() {
    let now = Instant::now();
    for (error, id) in [(E::UnknownMemberId, ""), (E::IllegalGeneration, "m")] {
        let mut member = Classic::new(config(None), now);
        member.handle(topics(), now);
        join(&mut member, Assignor::CooperativeSticky, 1, &[0], now);
        assert_eq!(shown(&member.handle(Event::Heartbeat(Err(refused(error))), now)), ["lose 0", "join"]);
        assert_eq!(member.identity(), (id.to_owned(), -1));
    }
    let mut member = Classic::new(config(Some("i")), now);
    member.handle(topics(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    assert_eq!(shown(&member.handle(Event::Heartbeat(Err(refused(E::FencedInstanceId))), now)), ["fail"]);
    assert_eq!(shown(&member.handle(Event::Leave, now)), ["left"], "a static member does not say that it leaves");
}

#[test]
fn a_coordinator_out_of_reach_costs_the_partitions_after_the_poll_interval() {
    let now = Instant::now();
    let lost = || Event::Heartbeat(Err(Error::NotTaken));
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(59))), ["forget", "retry"]);
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(61))), ["forget", "retry", "lose 0", "join"]);
    let mut member = Kip848::new(config(None), now);
    member.handle(topics(), now);
    member.handle(heartbeat(1, Some(&[0])), now);
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(59))), ["forget", "retry"]);
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(61))), ["forget", "retry", "lose 0"]);
}

/// How many requests a member sends in a minute when `answer` is all that it hears.
fn requests_in_a_minute(member: &mut dyn Membership, answer: impl Fn(&Effect) -> Option<Event>) -> usize {
    let mut now = Instant::now();
    let end = now + Duration::from_secs(60);
    let (mut requests, mut effects) = (0, member.handle(topics(), now));
    while now < end {
        let mut next = Vec::new();
        for effect in &effects {
            if let Some(event) = answer(effect) {
                requests += 1;
                next.extend(member.handle(event, now));
            }
            if matches!(effect, Effect::Revoke(_)) {
                next.extend(member.handle(Event::Released, now));
            }
        }
        effects = next;
        if effects.is_empty() {
            let Some(due) = member.due() else { break };
            now = now.max(due);
            effects = member.handle(Event::Due, now);
        }
        assert!(requests < 1_000, "it spins");
    }
    requests
}

/// A coordinator that gives one answer for ever is asked about once a second.
#[test]
fn no_answer_makes_a_member_spin() {
    let codes = [
        E::CoordinatorNotAvailable,
        E::MemberIdRequired,
        E::UnknownMemberId,
        E::IllegalGeneration,
        E::RebalanceInProgress,
        E::FencedMemberEpoch,
        E::UnreleasedInstanceId,
    ];
    for code in codes {
        let refuse = |effect: &Effect| match effect {
            Effect::Join if code == E::MemberIdRequired => Some(Event::MemberIdGiven("m".to_owned())),
            Effect::Join => Some(Event::Joined(Err(refused(code)))),
            Effect::Heartbeat(_) => Some(Event::Heartbeat(Err(refused(code)))),
            _ => None,
        };
        let sync_refused = |effect: &Effect| match effect {
            Effect::Join => {
                let assignor = Assignor::CooperativeSticky;
                let joined = Joined { member_id: "m".to_owned(), generation: 1, assignor, role: Role::Follower };
                Some(Event::Joined(Ok(joined)))
            }
            Effect::Sync(_) => Some(Event::Synced(Err(refused(code)))),
            _ => None,
        };
        let heartbeat_refused = |effect: &Effect| match effect {
            Effect::Sync(_) => Some(Event::Synced(Ok(partitions(&[0])))),
            Effect::Heartbeat(_) => Some(Event::Heartbeat(Err(refused(code)))),
            other => sync_refused(other),
        };
        let now = Instant::now();
        for answer in [&refuse as &dyn Fn(&Effect) -> Option<Event>, &sync_refused, &heartbeat_refused] {
            let requests = requests_in_a_minute(&mut Classic::new(config(None), now), answer);
            assert!(requests < 250, "{code:?}: {requests}");
        }
        let requests = requests_in_a_minute(&mut Kip848::new(config(None), now), refuse);
        assert!(requests < 100, "{code:?}: {requests}");
    }
    // An assignment that changes with each answer.
    let flips = std::cell::Cell::new(0);
    let flip = |effect: &Effect| {
        flips.set(flips.get() + 1);
        matches!(effect, Effect::Heartbeat(_)).then(|| heartbeat(1, Some(&[flips.get() % 2])))
    };
    let requests = requests_in_a_minute(&mut Kip848::new(config(None), Instant::now()), flip);
    assert!(requests < 250, "{requests}");
}

#[test]
fn a_member_of_kip848_sends_heartbeats_as_often_as_its_coordinator_says() {
    let now = Instant::now();
    let mut member = Kip848::new(config(None), now);
    member.handle(topics(), now);
    let answer = |seconds| {
        let interval = Some(Duration::from_secs(seconds));
        Event::Heartbeat(Ok(HeartbeatAnswer { epoch: 1, interval, assignment: None }))
    };
    member.handle(answer(5), now);
    assert_eq!(member.due(), Some(now + Duration::from_secs(5)));
    let then = now + Duration::from_secs(5);
    assert_eq!(shown(&member.handle(Event::Due, then)), ["heartbeat"]);
    member.handle(answer(2), then);
    assert_eq!(member.due(), Some(then + Duration::from_secs(2)));
}

#[test]
fn a_stalled_member_leaves_and_joins_again_when_it_moves() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    assert_eq!(shown(&member.handle(Event::Stalled, now)), ["leave m", "lose 0"]);
    assert!(member.handle(topics(), now).is_empty(), "not before it moves");
    assert_eq!(shown(&member.handle(Event::Resumed, now)), ["join"]);
}

fn heartbeat(epoch: i32, assignment: Option<&[i32]>) -> Event {
    Event::Heartbeat(Ok(HeartbeatAnswer { epoch, interval: None, assignment: assignment.map(partitions) }))
}

#[test]
fn a_member_of_kip848_lets_go_before_it_takes() {
    let now = Instant::now();
    let mut member = Kip848::new(config(None), now);
    assert_eq!(shown(&member.handle(topics(), now)), ["full heartbeat"]);
    assert_eq!(shown(&member.handle(heartbeat(1, Some(&[0, 1])), now)), ["assign 0,1", "full heartbeat"]);
    assert!(member.handle(heartbeat(1, Some(&[0, 1])), now).is_empty(), "nothing is new");
    let later = now + Duration::from_secs(1);
    assert_eq!(shown(&member.handle(Event::Due, later)), ["heartbeat"]);
    assert_eq!(shown(&member.handle(heartbeat(2, Some(&[1, 2])), later)), ["revoke 0"]);
    assert_eq!(shown(&member.handle(Event::Released, later)), ["assign 2", "full heartbeat"]);
    assert_eq!(*member.owned(), partitions(&[1, 2]));
    let fenced = Event::Heartbeat(Err(refused(E::FencedMemberEpoch)));
    assert_eq!(shown(&member.handle(fenced, later)), ["lose 1,2", "full heartbeat"]);
    assert_eq!(member.identity().1, 0, "as a new member");
}

/// What can happen to a member, in any order.
fn events() -> impl Strategy<Value = Vec<(u8, Vec<i32>)>> {
    prop::collection::vec((0u8..14, prop::collection::vec(0i32..4, 0..4)), 1..60)
}

fn event(kind: u8, share: &[i32]) -> Event {
    let joined =
        |assignor| Joined { member_id: "m".to_owned(), generation: share.len() as i32, assignor, role: Role::Follower };
    match kind {
        0 => topics(),
        1 => Event::Joined(Ok(joined(Assignor::Range))),
        2 => Event::Joined(Ok(joined(Assignor::CooperativeSticky))),
        3 => Event::Joined(Err(refused(E::UnknownMemberId))),
        4 => Event::Synced(Ok(partitions(share))),
        5 => Event::Synced(Err(refused(E::RebalanceInProgress))),
        6 => heartbeat(1, Some(share)),
        7 => heartbeat(1, None),
        8 => Event::Heartbeat(Err(refused(E::RebalanceInProgress))),
        9 => Event::Heartbeat(Err(refused(E::UnknownMemberId))),
        10 => Event::Released,
        11 => Event::Stalled,
        12 => Event::Resumed,
        _ => Event::Due,
    }
}

proptest! {
    /// Whatever comes in whatever order: what is taken was not had, what is let go was, and both add up to what the
    /// membership says that the member has.
    #[test]
    fn what_is_assigned_and_taken_adds_up(events in events(), kip848: bool) {
        let mut now = Instant::now();
        let mut membership: Box<dyn Membership> =
            if kip848 { Box::new(Kip848::new(config(None), now)) } else { Box::new(Classic::new(config(None), now)) };
        let mut has = BTreeSet::new();
        for (kind, share) in events {
            now += Duration::from_millis(300);
            for effect in membership.handle(event(kind, &share), now) {
                match effect {
                    Effect::Assign(new) => for place in new {
                        prop_assert!(has.insert(place), "assigned twice");
                    },
                    Effect::Revoke(gone) | Effect::Lose(gone, _) => for place in gone {
                        prop_assert!(has.remove(&place), "let go without having it");
                    },
                    _ => {}
                }
            }
            prop_assert_eq!(&has, membership.owned());
            prop_assert!(membership.due().is_none_or(|due| due < now + Duration::from_secs(2)), "it would sleep too long");
        }
    }
}

/// KIP-814: it does not assign, and is still the one that follows partition counts.
#[test]
fn a_static_leader_that_returns_has_partitions_assigned_that_were_added() {
    let now = Instant::now();
    let returned = |is_complete: bool| {
        let mut member = Classic::new(config(Some("static")), now);
        member.handle(topics(), now);
        let role = Role::ReturnedLeader { is_complete };
        let joined = Joined { member_id: "m".to_owned(), generation: 1, assignor: Assignor::Range, role };
        assert_eq!(shown(&member.handle(Event::Joined(Ok(joined)), now)), ["sync 0"]);
        let synced = shown(&member.handle(Event::Synced(Ok(partitions(&[0, 1]))), now));
        (member, synced)
    };
    let (mut member, synced) = returned(true);
    assert_eq!(synced, ["assign 0,1"]);
    let more = Event::Topics(PartitionCounts::from([(Arc::from("t"), 5)]));
    assert_eq!(shown(&member.handle(more, now)), ["revoke 0,1"], "later");
    assert_eq!(returned(false).1, ["assign 0,1", "revoke 0,1"], "while it was away");
}

/// Brokers that have just started do not describe every topic; without another round nobody would ever read it.
#[test]
fn a_topic_that_the_leader_missed_is_assigned_when_it_is_found_again() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(topics(), now);
    member.handle(joined_as_leader(), now);
    assert_eq!(shown(&member.handle(Event::Counted(Ok(PartitionCounts::new())), now)), ["assign to 1"]);
    member.handle(Event::AssignmentComputed(Ok(vec![("m".to_owned(), Bytes::new())])), now);
    assert_eq!(shown(&member.handle(Event::Synced(Ok(BTreeSet::new())), now)), ["assign "]);
    assert_eq!(shown(&member.handle(topics(), now)), ["join"]);
}
