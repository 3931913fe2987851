use super::super::Assignor;
use super::super::classic::Classic;
use super::super::kip848::Kip848;
use super::*;
use crate::error::{Action as Attempt, Subject};
use crate::record::TopicPartition;
use proptest::prelude::*;

fn config(instance_id: Option<&str>) -> MemberConfig {
    MemberConfig {
        group: "g".to_owned(),
        instance_id: instance_id.map(str::to_owned),
        session: Duration::from_secs(10),
        rebalance: Duration::from_secs(60),
        beat_every: Duration::from_secs(1),
        retry: Duration::from_millis(100),
    }
}

fn places(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
}

fn wanted() -> Event {
    Event::Wanted(Counts::from([(Arc::from("t"), 4)]))
}

fn refused(error: E) -> Error {
    Error::kafka(Attempt::LookUp, Subject::Cluster, error)
}

/// What a test has to look at, without what it does not.
fn shown(actions: &[Action]) -> Vec<String> {
    let some = |places: &BTreeSet<TopicPartition>| {
        places.iter().map(|of| of.partition.to_string()).collect::<Vec<_>>().join(",")
    };
    let show = |action: &Action| match action {
        Action::Assign(places) => format!("assign {}", some(places)),
        Action::Revoke(places) => format!("revoke {}", some(places)),
        Action::Lose(places, _) => format!("lose {}", some(places)),
        Action::Beat { full } => if *full { "beat in full" } else { "beat" }.to_owned(),
        Action::Join => "join".to_owned(),
        Action::Count(_) => "count".to_owned(),
        Action::Sync(assignments) => format!("sync {}", assignments.len()),
        Action::Leave(id) => format!("leave {id}"),
        Action::Forget => "forget".to_owned(),
        Action::Fail(_) => "fail".to_owned(),
        Action::Left => "left".to_owned(),
    };
    actions.iter().map(show).collect()
}

/// Joins as a follower that is given `share`.
fn join(member: &mut Classic, assignor: Assignor, generation: i32, share: &[i32], now: Instant) -> Vec<String> {
    let joined = Joined { member_id: "m".to_owned(), generation, assignor, members: None };
    assert_eq!(shown(&member.handle(Event::Joined(Ok(joined)), now)), ["sync 0"]);
    shown(&member.handle(Event::Synced(Ok(places(share))), now))
}

#[test]
fn an_eager_member_lets_go_of_all_before_it_joins_again() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    assert_eq!(shown(&member.handle(wanted(), now)), ["join"]);
    assert_eq!(shown(&member.handle(Event::Named("m".to_owned()), now)), ["join"]);
    assert_eq!(join(&mut member, Assignor::Range, 1, &[0, 1], now), ["assign 0,1"]);
    let rebalance = Event::Beat(Err(refused(E::RebalanceInProgress)));
    assert_eq!(shown(&member.handle(rebalance, now)), ["revoke 0,1"]);
    // It still says that it lives, and hears once more what it knows.
    let later = now + Duration::from_secs(2);
    assert_eq!(shown(&member.handle(Event::Due, later)), ["beat"]);
    assert!(member.handle(Event::Beat(Err(refused(E::RebalanceInProgress))), later).is_empty());
    assert_eq!(shown(&member.handle(Event::Released, later)), ["join"]);
    assert_eq!(join(&mut member, Assignor::Range, 2, &[0], later), ["assign 0"]);
    assert_eq!(shown(&member.handle(Event::Leave, later)), ["leave m", "left"]);
}

#[test]
fn a_cooperative_member_lets_go_of_what_moves_alone() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(wanted(), now);
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 1, &[0, 1, 2, 3], now), ["assign 0,1,2,3"]);
    let rebalance = Event::Beat(Err(refused(E::RebalanceInProgress)));
    assert_eq!(shown(&member.handle(rebalance, now)), ["join"]);
    assert_eq!(*member.owned(), places(&[0, 1, 2, 3]), "all are read on");
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 2, &[0, 1], now), ["assign ", "revoke 2,3"]);
    assert_eq!(shown(&member.handle(Event::Released, now)), ["join"]);
    assert_eq!(join(&mut member, Assignor::CooperativeSticky, 3, &[0, 1], now), ["assign "]);
    // A member that shares out eagerly joins: what it is given is not waited for.
    member.handle(Event::Beat(Err(refused(E::RebalanceInProgress))), now);
    assert_eq!(join(&mut member, Assignor::Range, 4, &[1, 2], now), ["assign 2", "lose 0"]);
}

#[test]
fn a_member_that_the_coordinator_forgot_loses_all_and_begins_anew() {
    let now = Instant::now();
    for (error, id) in [(E::UnknownMemberId, ""), (E::IllegalGeneration, "m")] {
        let mut member = Classic::new(config(None), now);
        member.handle(wanted(), now);
        join(&mut member, Assignor::CooperativeSticky, 1, &[0], now);
        assert_eq!(shown(&member.handle(Event::Beat(Err(refused(error))), now)), ["lose 0", "join"]);
        assert_eq!(member.identity(), (id.to_owned(), -1));
    }
    let mut member = Classic::new(config(Some("i")), now);
    member.handle(wanted(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    assert_eq!(shown(&member.handle(Event::Beat(Err(refused(E::FencedInstanceId))), now)), ["fail"]);
    assert_eq!(shown(&member.handle(Event::Leave, now)), ["left"], "a static member does not say that it leaves");
}

#[test]
fn a_coordinator_out_of_reach_costs_the_partitions_when_the_session_is_over() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(wanted(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    let lost = || Event::Beat(Err(Error::NotTaken));
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(9))), ["forget"]);
    assert_eq!(shown(&member.handle(lost(), now + Duration::from_secs(11))), ["forget", "lose 0", "join"]);
}

#[test]
fn a_stalled_member_leaves_and_joins_again_when_it_moves() {
    let now = Instant::now();
    let mut member = Classic::new(config(None), now);
    member.handle(wanted(), now);
    join(&mut member, Assignor::Range, 1, &[0], now);
    assert_eq!(shown(&member.handle(Event::Stalled, now)), ["leave m", "lose 0"]);
    assert!(member.handle(wanted(), now).is_empty(), "not before it moves");
    assert_eq!(shown(&member.handle(Event::Moving, now)), ["join"]);
}

fn beat(epoch: i32, assignment: Option<&[i32]>) -> Event {
    Event::Beat(Ok(Beat { epoch, assignment: assignment.map(places) }))
}

#[test]
fn a_member_of_kip848_lets_go_before_it_takes() {
    let now = Instant::now();
    let mut member = Kip848::new(config(None), now);
    assert_eq!(shown(&member.handle(wanted(), now)), ["beat in full"]);
    assert_eq!(shown(&member.handle(beat(1, Some(&[0, 1])), now)), ["assign 0,1", "beat in full"]);
    assert!(member.handle(beat(1, Some(&[0, 1])), now).is_empty(), "nothing is new");
    let later = now + Duration::from_secs(1);
    assert_eq!(shown(&member.handle(Event::Due, later)), ["beat"]);
    assert_eq!(shown(&member.handle(beat(2, Some(&[1, 2])), later)), ["revoke 0"]);
    assert_eq!(shown(&member.handle(Event::Released, later)), ["assign 2", "beat in full"]);
    assert_eq!(*member.owned(), places(&[1, 2]));
    let fenced = Event::Beat(Err(refused(E::FencedMemberEpoch)));
    assert_eq!(shown(&member.handle(fenced, later)), ["lose 1,2", "beat in full"]);
    assert_eq!(member.identity().1, 0, "as a new member");
}

/// What can happen to a member, in any order.
fn events() -> impl Strategy<Value = Vec<(u8, Vec<i32>)>> {
    prop::collection::vec((0u8..14, prop::collection::vec(0i32..4, 0..4)), 1..60)
}

fn event(kind: u8, share: &[i32]) -> Event {
    let joined =
        |assignor| Joined { member_id: "m".to_owned(), generation: share.len() as i32, assignor, members: None };
    match kind {
        0 => wanted(),
        1 => Event::Joined(Ok(joined(Assignor::Range))),
        2 => Event::Joined(Ok(joined(Assignor::CooperativeSticky))),
        3 => Event::Joined(Err(refused(E::UnknownMemberId))),
        4 => Event::Synced(Ok(places(share))),
        5 => Event::Synced(Err(refused(E::RebalanceInProgress))),
        6 => beat(1, Some(share)),
        7 => beat(1, None),
        8 => Event::Beat(Err(refused(E::RebalanceInProgress))),
        9 => Event::Beat(Err(refused(E::UnknownMemberId))),
        10 => Event::Released,
        11 => Event::Stalled,
        12 => Event::Moving,
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
            for action in membership.handle(event(kind, &share), now) {
                match action {
                    Action::Assign(new) => for place in new {
                        prop_assert!(has.insert(place), "assigned twice");
                    },
                    Action::Revoke(gone) | Action::Lose(gone, _) => for place in gone {
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
