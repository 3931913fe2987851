use super::*;
use kafka_protocol::error::ResponseError as E;
use proptest::prelude::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

fn join(member_id: &str, instance_id: Option<&str>) -> Join {
    Join {
        member_id: member_id.to_owned(),
        instance_id: instance_id.map(str::to_owned),
        client_id: "test".to_owned(),
        host: "/127.0.0.1".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"meta"))],
        must_ask_for_id: false,
    }
}

fn sync(member_id: &str, generation: i32, assignments: Vec<(String, Bytes)>) -> Sync {
    Sync {
        member_id: member_id.to_owned(),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments,
    }
}

fn joined(answers: &[Answer], waiter: Waiter) -> Joined {
    let found = answers.iter().find_map(|answer| match answer {
        Answer::Joined(of, Ok(joined)) if *of == waiter => Some(joined.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{waiter} has not joined: {answers:?}"))
}

#[test]
fn a_second_member_has_the_first_join_again_and_the_leader_assigns() {
    let (mut group, now) = (Group::default(), Instant::now());
    let a = joined(&group.join(join("", None), 1, now), 1).member_id;
    assert_eq!(group.state(), "CompletingRebalance");
    assert_eq!(group.join(join("", None), 2, now), [], "it waits for the first");
    assert_eq!(group.heartbeat(&a, None, 1, now), Err(E::RebalanceInProgress));
    let answers = group.join(join(&a, None), 3, now);
    let (leader, follower) = (joined(&answers, 3), joined(&answers, 2));
    assert_eq!((leader.generation, leader.members.len(), follower.members.len()), (2, 2, 0));
    assert_eq!(group.sync(sync(&follower.member_id, 2, vec![]), 4, now), [], "it waits for the leader");
    let assigned = vec![(a.clone(), Bytes::from_static(b"A")), (follower.member_id.clone(), Bytes::from_static(b"B"))];
    let mut answers = group.sync(sync(&a, 2, assigned), 5, now);
    answers.sort_by_key(|answer| matches!(answer, Answer::Synced(5, _)));
    let expected = [Answer::Synced(4, Ok(Bytes::from_static(b"B"))), Answer::Synced(5, Ok(Bytes::from_static(b"A")))];
    assert_eq!(answers, expected);
    assert_eq!(group.state(), "Stable");
    assert_eq!(group.heartbeat(&a, None, 2, now), Ok(()));
    assert_eq!(group.may_commit(&a, None, 1, now), Err(E::IllegalGeneration));
}

#[test]
fn who_is_silent_or_late_is_left_behind() {
    let (mut group, now) = (Group::default(), Instant::now());
    let a = joined(&group.join(join("", None), 1, now), 1).member_id;
    group.sync(sync(&a, 1, vec![]), 2, now);
    group.join(join("", None), 3, now);
    // The first never joins again: the rebalance ends without it, for its session is over.
    let answers = group.tick(now + SESSION);
    let b = joined(&answers, 3);
    assert_eq!((b.leader.clone(), b.members.len()), (b.member_id.clone(), 1));
    assert_eq!(group.heartbeat(&a, None, 1, now), Err(E::UnknownMemberId));
    // The second never asks for its assignment.
    group.tick(now + SESSION + REBALANCE);
    assert_eq!(group.state(), "Empty");
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (mut group, now) = (Group::default(), Instant::now());
    let first = joined(&group.join(join("", Some("i")), 1, now), 1).member_id;
    group.sync(sync(&first, 1, vec![(first.clone(), Bytes::from_static(b"A"))]), 2, now);
    let again = joined(&group.join(join("", Some("i")), 3, now), 3);
    assert_eq!((again.generation, again.skip_assignment), (1, true));
    assert_ne!(again.member_id, first);
    let answers = group.sync(sync(&again.member_id, 1, vec![]), 4, now);
    assert_eq!(answers, [Answer::Synced(4, Ok(Bytes::from_static(b"A")))]);
    assert_eq!(group.heartbeat(&first, Some("i"), 1, now), Err(E::FencedInstanceId));
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    JoinAgain(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0usize..5).prop_map(Step::Join),
        (0usize..5).prop_map(Step::JoinAgain),
        (0usize..5).prop_map(Step::Sync),
        (0usize..5).prop_map(Step::Beat),
        (0usize..5).prop_map(Step::Leave),
        (0u64..15).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever members do, each request that waits is answered once, nobody but the leader sees the members, and
    /// when all fall silent the group is empty.
    #[test]
    fn every_request_is_answered_once(steps in steps()) {
        let mut group = Group::default();
        let mut now = Instant::now();
        let mut members: Vec<(String, i32)> = vec![(String::new(), 0); 5];
        let mut waiting: BTreeMap<Waiter, usize> = BTreeMap::new();
        let mut next: Waiter = 0;
        let mut newest = 0;
        for step in steps {
            next += 1;
            let answers = match step {
                Step::Join(n) => {
                    waiting.insert(next, n);
                    group.join(join("", None), next, now)
                }
                Step::JoinAgain(n) => {
                    waiting.insert(next, n);
                    group.join(join(&members[n].0, None), next, now)
                }
                Step::Sync(n) => {
                    waiting.insert(next, n);
                    let all = members.iter().map(|(id, _)| (id.clone(), Bytes::from_static(b"x"))).collect();
                    group.sync(sync(&members[n].0, members[n].1, all), next, now)
                }
                Step::Beat(n) => {
                    let _ = group.heartbeat(&members[n].0, None, members[n].1, now);
                    Vec::new()
                }
                Step::Leave(n) => group.leave(&members[n].0, None, now).1,
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    group.tick(now)
                }
            };
            for answer in answers {
                let (Answer::Joined(waiter, _) | Answer::Synced(waiter, _)) = &answer;
                // One that joins again while it waits takes the place of its first request.
                let n = waiting.remove(waiter);
                prop_assert!(n.is_some(), "{:?} was answered twice", waiter);
                if let (Answer::Joined(_, Ok(joined)), Some(n)) = (&answer, n) {
                    prop_assert!(joined.generation >= newest);
                    newest = joined.generation;
                    prop_assert_eq!(joined.members.is_empty(), joined.leader != joined.member_id);
                    members[n] = (joined.member_id.clone(), joined.generation);
                }
            }
        }
        for _ in 0..10 {
            now += REBALANCE;
            for answer in group.tick(now) {
                let (Answer::Joined(waiter, _) | Answer::Synced(waiter, _)) = &answer;
                waiting.remove(waiter);
            }
        }
        prop_assert_eq!(group.state(), "Empty");
        prop_assert!(waiting.is_empty(), "{:?} were never answered", waiting);
    }
}
