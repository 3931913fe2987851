use super::super::assignments::Assignments;
use super::*;
use crate::engine::Event;
use crate::engine::native::group::AssignmentNumber;
use crate::error::{Action, Error};
use kafka_protocol::error::ResponseError;
use proptest::prelude::*;

const RESPONSE: usize = 1 << 20;
const PARTITION: usize = 400 << 10;

fn of(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn epoch(epoch: i32) -> Option<LeaderEpoch> {
    LeaderEpoch::from_wire(epoch)
}

fn at(offset: Offset) -> Position {
    Position { offset, leader_epoch: None }
}

fn error() -> Error {
    Error::kafka(Action::Fetch, of(0), ResponseError::NotLeaderOrFollower)
}

fn led_by(topic_id: Uuid, leader: i32, epoch: Option<LeaderEpoch>) -> Leader {
    Leader { leader: BrokerId(leader), epoch, topic_id }
}

fn begin(position: Position, until: Offset) -> Begin {
    Begin { position, until, committed: None }
}

fn source() -> Source {
    Source { by: Some(BrokerId(1)), brokers: 3, at: Instant::now() }
}

/// A partition that is led by `leader` and begins at `offset`.
fn reading(positions: &mut Positions, partition: i32, leader: i32, offset: Offset, now: Instant) -> AssignmentId {
    let id = positions.add(of(partition), Start::Beginning, now);
    positions.set_leader(id, led_by(Uuid::nil(), leader, epoch(5)), &source(), Start::Beginning);
    positions.begin(id, begin(at(offset), 9));
    positions.announce(now);
    id
}

fn plans(positions: &mut Positions, now: Instant) -> Vec<(i32, Vec<AssignmentId>)> {
    positions.plan(now, RESPONSE, PARTITION).into_iter().map(|plan| (plan.broker.0, plan.partitions)).collect()
}

fn answer(positions: &mut Positions, plan: &Plan, now: Instant) {
    positions.answered(plan, false, now, Duration::ZERO, |_| Duration::ZERO);
}

#[test]
fn a_broker_gets_one_fetch_at_a_time_and_none_for_ended_partitions() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let a = reading(&mut positions, 0, 1, 0, now);
    reading(&mut positions, 1, 1, 9, now);
    let c = reading(&mut positions, 2, 2, 0, now);
    let first = positions.plan(now, RESPONSE, PARTITION);
    assert_eq!(first.iter().map(|plan| &plan.partitions[..]).collect::<Vec<_>>(), [&[a][..], &[c][..]]);
    assert_eq!(plans(&mut positions, now), []);
    positions.fetched(a, Some(at(9)), now);
    positions.fetched(c, Some(at(4)), now);
    first.iter().for_each(|plan| answer(&mut positions, plan, now));
    let second = positions.plan(now, RESPONSE, PARTITION);
    assert_eq!(second.iter().map(|plan| &plan.partitions[..]).collect::<Vec<_>>(), [&[c][..]]);
    positions.fetched(c, Some(at(9)), now);
    assert!(positions.ended());
}

#[test]
fn a_failed_partition_waits_then_looks_for_its_leader() {
    let now = Instant::now();
    let wait = Duration::from_millis(100);
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 0, now);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    positions.failed(id, error(), now, wait);
    answer(&mut positions, &plan, now);
    assert!(!positions.needs_leaders(now));
    assert_eq!(positions.next_due(now), Some(now + wait));
    let later = now + wait;
    assert!(positions.needs_leaders(later));
    assert_ne!(positions.next_due(later), Some(later), "a moment that has passed is not waited for");
    let stale = positions.set_leader(id, led_by(Uuid::nil(), 1, epoch(4)), &source(), Start::Beginning);
    assert_eq!(stale, LeaderChange::Stale, "an older epoch");
    assert!(plans(&mut positions, later).is_empty());
    positions.set_leader(id, led_by(Uuid::nil(), 2, epoch(6)), &source(), Start::Beginning);
    assert_eq!(plans(&mut positions, later), [(2, vec![id])]);
}

/// Silence means that nothing is produced only while every partition is read.
#[test]
fn positions_are_impaired_until_every_partition_has_begun_and_while_one_fails() {
    let now = Instant::now();
    let mut positions = Positions::default();
    assert!(!positions.is_impaired(), "a member without partitions waits for none");
    let id = positions.add(of(1), Start::Beginning, now);
    assert!(positions.is_impaired());
    positions.begin(id, begin(at(0), 9));
    positions.announce(now);
    let failing = reading(&mut positions, 0, 1, 0, now);
    assert!(!positions.is_impaired());
    positions.failed(failing, error(), now, Duration::ZERO);
    assert!(positions.is_impaired());
    positions.fetched(failing, None, now);
    assert!(!positions.is_impaired());
}

#[test]
fn a_topic_created_again_begins_again_whatever_its_epoch() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 5, now);
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let set = |positions: &mut Positions, topic, leader_epoch| {
        positions.set_leader(id, led_by(topic, 1, epoch(leader_epoch)), &source(), Start::Beginning)
    };
    assert_eq!(set(&mut positions, old, 7), LeaderChange::Taken);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert_eq!(set(&mut positions, new, 0), LeaderChange::Recreated);
    assert!(positions.awaiting(id, plan.request).is_none(), "what was fetched of the old topic is not believed");
    let question = positions.questions(now).remove(0);
    assert_eq!(question.partitions, [(id, Stage::Begins(Start::Beginning))]);
    positions.begin(id, begin(at(0), Offset::MAX));
    assert_eq!(positions.announce(now), [(id, true)]);
    assert_eq!(positions.target(id).map(|target| (target.position, target.leader_epoch)), Some((0, epoch(0))));
    assert_eq!(set(&mut positions, new, 0), LeaderChange::Taken);
}

/// The end that a reader was given may lie in what an unclean election lost.
#[test]
fn a_truncated_log_is_read_up_to_where_it_goes_on() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 8, now);
    positions.truncated(id, at(4));
    assert!(!positions.ended());
    let question = positions.questions(now).remove(0);
    assert_eq!(question.partitions, [(id, Stage::Checks)]);
    assert!(positions.shorten(id, 4));
    assert!(positions.ended() && !positions.shorten(id, 4));
}

/// KIP-320: a broker that is cut off from the others leads as it did, and knows less than the group has committed.
#[test]
fn a_leader_behind_the_committed_offset_is_not_believed_unless_brokers_agree() {
    let now = Instant::now();
    let named = |broker, leader_epoch| led_by(Uuid::from_u128(1), broker, epoch(leader_epoch));
    let from = |by, brokers, at| Source { by: Some(BrokerId(by)), brokers, at };
    let behind = || {
        let mut positions = Positions::default();
        let id = positions.add(of(0), Start::Stored, now);
        positions.set_leader(id, named(2, 1), &from(2, 3, now), Start::Beginning);
        assert_eq!(positions.questions(now).len(), 1);
        positions.behind(id, LeaderEpoch::from_wire(3).unwrap());
        positions.failed(id, error(), now, Duration::ZERO);
        (positions, id)
    };
    let set = |positions: &mut Positions, id, named, source: &Source| {
        let change = positions.set_leader(id, named, source, Start::Beginning);
        (change, positions.target(id).is_some_and(|target| target.is_recreated))
    };
    let (mut positions, id) = behind();
    assert_eq!(set(&mut positions, id, named(2, 1), &from(2, 3, now)), (LeaderChange::Stale, false));
    let later = now + Duration::from_secs(3);
    assert_eq!(set(&mut positions, id, named(2, 1), &from(2, 3, later)), (LeaderChange::Stale, false), "one alone");
    assert_eq!(set(&mut positions, id, named(1, 3), &from(1, 3, later)), (LeaderChange::Taken, false));

    let (mut positions, id) = behind();
    assert_eq!(set(&mut positions, id, named(2, 1), &from(2, 3, now)), (LeaderChange::Stale, false));
    assert_eq!(set(&mut positions, id, named(2, 1), &from(1, 3, later)), (LeaderChange::Taken, true), "they agree");

    let (mut positions, id) = behind();
    assert_eq!(set(&mut positions, id, named(2, 1), &from(2, 1, now)), (LeaderChange::Taken, true), "the only one");
}

/// Before Kafka 2.8 a topic has no ID: brokers that agree on a lower epoch for long describe another topic; one broker
/// alone may be cut off from the others.
#[test]
fn without_topic_ids_a_lasting_older_epoch_that_no_broker_contradicts_is_another_topics() {
    let began = Instant::now();
    let two = [Some(1), Some(2), Some(1), Some(2)];
    for (asked, brokers, contradicted, expected) in [
        (two, 3, false, LeaderChange::Recreated),
        (two, 5, false, LeaderChange::Stale),
        ([Some(1); 4], 3, false, LeaderChange::Stale),
        ([None, Some(1), None, Some(1)], 2, false, LeaderChange::Stale),
        ([None; 4], 1, false, LeaderChange::Recreated),
        (two, 3, true, LeaderChange::Stale),
    ] {
        let mut positions = Positions::default();
        let id = reading(&mut positions, 0, 1, 5, began);
        let mut last = LeaderChange::Taken;
        for (n, by) in asked.iter().enumerate() {
            let at = began + Duration::from_secs(4 * n as u64);
            let source = Source { by: by.map(BrokerId), brokers, at };
            let named = |leader_epoch| led_by(Uuid::nil(), 1, epoch(leader_epoch));
            if contradicted && n == 2 {
                positions.set_leader(id, named(5), &source, Start::Beginning);
            }
            last = positions.set_leader(id, named(0), &source, Start::Beginning);
        }
        assert_eq!(last, expected, "{asked:?} of {brokers}, contradicted: {contradicted}");
        if expected == LeaderChange::Recreated {
            assert_eq!(positions.target(id).map(|target| target.leader_epoch), Some(epoch(0)));
            assert_eq!(positions.questions(began).remove(0).partitions, [(id, Stage::Begins(Start::Beginning))]);
        }
    }
}

#[test]
fn a_new_leader_is_followed_while_the_old_one_is_silent() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 0, now);
    let old = positions.plan(now, RESPONSE, PARTITION).remove(0);
    positions.set_leader(id, led_by(Uuid::nil(), 2, epoch(6)), &source(), Start::Beginning);
    assert_eq!(plans(&mut positions, now), [(2, vec![id])]);
    assert!(positions.awaiting(id, old.request).is_none(), "the old leader is not believed any more");
}

#[test]
fn a_nearer_replica_is_read_until_it_fails() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 0, now);
    positions.follow(id, BrokerId(3), now);
    assert_eq!(plans(&mut positions, now)[0].0, 3);
    positions.failed(id, error(), now, Duration::ZERO);
    positions.set_leader(id, led_by(Uuid::nil(), 1, epoch(5)), &source(), Start::Beginning);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert_eq!((plan.broker.0, plan.may_follow), (1, false), "the leader would name what is out of reach again");
}

#[test]
fn a_follower_that_lacks_the_position_is_left_for_the_leader_and_the_position_stays() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 5, now);
    positions.follow(id, BrokerId(3), now);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert!(positions.back_to_leader(id, now));
    answer(&mut positions, &plan, now);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert_eq!((plan.broker.0, plan.may_follow), (1, false), "the leader, which may not name the follower again");
    assert!(!positions.back_to_leader(id, now), "the leader itself says so");
    positions.check(id);
    assert_eq!(positions.questions(now)[0].partitions, [(id, Stage::Checks)]);
    assert_eq!(positions.target(id).map(|target| target.position), Some(5));
}

#[test]
fn partitions_with_records_share_a_response_and_take_turns() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let [a, b, c, d] = [0, 1, 2, 3].map(|partition| reading(&mut positions, partition, 1, 0, now));
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert_eq!((plan.share, &plan.partitions[..]), (256 << 10, &[a, b, c, d][..]));
    positions.fetched(a, Some(at(1)), now);
    positions.fetched(b, Some(at(1)), now);
    answer(&mut positions, &plan, now);
    let plan = positions.plan(now, RESPONSE, PARTITION).remove(0);
    assert_eq!(plan.partitions, [c, d, a, b], "those that brought nothing come first");
    assert_eq!(
        plan.share, PARTITION,
        "two of four have records: half of the response each, up to the partition's limit"
    );
}

#[test]
fn partitions_begin_together_unless_one_is_out_of_reach() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let [a, b, c] = [0, 1, 2].map(|partition| positions.add(of(partition), Start::End, now));
    let begins = begin(at(3), Offset::MAX);
    positions.begin(a, begins);
    assert_eq!(positions.announce(now), []);
    positions.failed(b, error(), now, Duration::ZERO);
    assert_eq!(positions.announce(now), []);
    assert_eq!(positions.announce(now + OPENING), [(a, false)], "the third has taken too long");
    positions.begin(c, begins);
    assert_eq!(positions.announce(now), [(c, false)], "the second was tried");
}

#[test]
fn a_broker_that_answers_at_once_without_use_rests_longer_and_longer() {
    let now = Instant::now();
    let mut positions = Positions::default();
    reading(&mut positions, 0, 1, 0, now);
    let mut at = now;
    for attempt in 0..4 {
        let plan = positions.plan(at, RESPONSE, PARTITION).remove(0);
        let wait = |attempt| Duration::from_millis(100_u64 << attempt);
        positions.answered(&plan, true, at, Duration::ZERO, wait);
        assert_eq!(plans(&mut positions, at), []);
        assert_eq!(positions.next_due(at), Some(at + wait(attempt)));
        at += wait(attempt);
    }
    let plan = positions.plan(at, RESPONSE, PARTITION).remove(0);
    positions.answered(&plan, false, at, Duration::ZERO, |_| Duration::ZERO);
    assert_eq!(plans(&mut positions, at).len(), 1);
}

#[test]
fn a_lasting_problem_is_reported_once() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let id = reading(&mut positions, 0, 1, 0, now);
    let mut reports = 0;
    for round in 0..100 {
        let at = now + Duration::from_millis(100) * round;
        positions.failed(id, error(), at, Duration::from_millis(100));
        reports += positions.lasting_troubles(at).len();
        assert!(round > 9 || reports == 0, "a moment is no problem");
    }
    assert_eq!(reports, 1);
    assert!(positions.fetched(id, None, now).is_some(), "its end is reported");
    assert!(positions.fetched(id, None, now).is_none());
}

#[test]
fn records_that_wait_for_a_transaction_are_reported_once_with_all_that_wait() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let [a, b] = [0, 1].map(|partition| reading(&mut positions, partition, 1, 0, now));
    positions.hold_back(a, 7, now);
    assert!(positions.held_back(now).is_empty());
    let later = now + HELD_BACK;
    positions.hold_back(a, 8, later);
    positions.hold_back(b, 2, later);
    assert_eq!(positions.held_back(later), [(of(0), 8), (of(1), 2)]);
    assert!(positions.held_back(later + HELD_BACK).is_empty());
    positions.hold_back(a, 0, later);
    assert!(positions.held_back(later + HELD_BACK * 2).is_empty());
}

#[test]
fn a_reader_gives_up_only_what_failed_long_enough_after_everything_else_is_read() {
    let now = Instant::now();
    let mut positions = Positions::default();
    let good = reading(&mut positions, 0, 1, 0, now);
    let bad = reading(&mut positions, 1, 2, 0, now);
    let limit = |_| Duration::from_secs(60);
    positions.failed(bad, error(), now, Duration::ZERO);
    let long_after = now + Duration::from_secs(61);
    assert!(positions.unreadable(long_after, limit).is_none(), "the other is not at its end");
    positions.fetched(good, Some(at(9)), now);
    assert!(positions.unreadable(now, limit).is_none());
    let given_up = positions.unreadable(long_after, limit).unwrap();
    assert_eq!(given_up.into_iter().map(|(of, _)| of).collect::<Vec<_>>(), [of(1)]);
}

/// What happens to the partitions of a member, in any order, with answers that come whenever they come.
#[derive(Debug, Clone)]
enum Step {
    Assign(i32),
    Revoke(i32),
    Lose(i32),
    Ask,
    Answer(prop::sample::Index),
    NewLeader(i32, i32),
    TakeEvent,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3).prop_map(Step::Assign),
        (0..3).prop_map(Step::Revoke),
        (0..3).prop_map(Step::Lose),
        Just(Step::Ask),
        any::<prop::sample::Index>().prop_map(Step::Answer),
        (0..3, 1..4).prop_map(|(partition, leader)| Step::NewLeader(partition, leader)),
        Just(Step::TakeEvent),
    ]
}

/// A member as the group, the fetcher and the command see it.
#[derive(Default)]
struct Model {
    positions: Positions,
    assignments: Assignments,
    /// What the group has assigned.
    assigned: BTreeMap<i32, AssignmentId>,
    /// Questions on their way, each with the offset that its answer will name.
    asked: Vec<(Question, Offset)>,
    next_offset: Offset,
    /// Where each assignment begins, as it was announced.
    begins: BTreeMap<AssignmentId, Offset>,
    /// What the command holds, and would commit.
    held: BTreeMap<i32, Offset>,
}

impl Model {
    fn act(&mut self, step: Step, now: Instant) {
        match step {
            Step::Assign(partition) => {
                let Model { positions, assigned, .. } = self;
                assigned.entry(partition).or_insert_with(|| positions.add(of(partition), Start::Stored, now));
            }
            Step::Revoke(partition) | Step::Lose(partition) => {
                let Some(id) = self.assigned.remove(&partition) else { return };
                let gone = self.positions.remove(|other| *other == of(partition));
                assert_eq!(gone, [id]);
                match step {
                    Step::Revoke(_) => self.assignments.revoke(&gone, vec![of(partition)]),
                    _ => self.assignments.lose(&gone, vec![of(partition)], error()),
                }
            }
            Step::NewLeader(partition, leader) => {
                if let Some(id) = self.assigned.get(&partition) {
                    self.positions.set_leader(*id, led_by(Uuid::nil(), leader, None), &source(), Start::Beginning);
                }
            }
            Step::Ask => {
                for question in self.positions.questions(now) {
                    self.next_offset += 1;
                    self.asked.push((question, self.next_offset));
                }
            }
            Step::Answer(which) => {
                if !self.asked.is_empty() {
                    let (question, offset) = self.asked.swap_remove(which.index(self.asked.len()));
                    self.answer(&question, offset, now);
                }
            }
            Step::TakeEvent => self.take_event(),
        }
    }

    fn answer(&mut self, question: &Question, offset: Offset, now: Instant) {
        for (id, _) in &question.partitions {
            if self.positions.awaiting(*id, question.request).is_some() {
                self.positions.begin(*id, begin(at(offset), Offset::MAX));
            }
        }
        // Announced at once, whatever else is being looked up.
        for (id, _) in self.positions.announce(now + OPENING) {
            let target = self.positions.target(id).unwrap();
            self.begins.insert(id, target.position);
            let begins = [(target.of.clone(), at(target.position))].into();
            self.assignments.begin([id]);
            self.assignments.assign(begins, AssignmentNumber::default());
        }
    }

    fn take_event(&mut self) {
        match self.assignments.take_event().map(|(event, _)| event) {
            Some(Event::Assigned(begins)) => {
                for (of, position) in begins {
                    let before = self.held.insert(of.partition, position.offset);
                    assert_eq!(before, None, "{of} was not released");
                }
            }
            Some(Event::Revoking(gone) | Event::Lost(gone, _)) => {
                self.held.retain(|partition, _| !gone.contains(&of(*partition)));
            }
            _ => {}
        }
    }
}

proptest! {
    /// Once all events are taken, the command holds what is assigned and has begun, from where that assignment began:
    /// nothing of an earlier one, and nothing that was revoked while the answer was on its way.
    #[test]
    fn the_command_holds_what_is_assigned_and_nothing_stale(steps in prop::collection::vec(step(), 1..120)) {
        let now = Instant::now();
        let mut model = Model::default();
        for step in steps {
            model.act(step, now);
            if !model.assignments.has_events() {
                for (partition, offset) in &model.held {
                    let id = model.assigned.get(partition);
                    prop_assert_eq!(id.and_then(|id| model.begins.get(id)), Some(offset));
                }
            }
        }
        while model.assignments.has_events() {
            model.take_event();
        }
        let expected: BTreeMap<i32, Offset> = model
            .assigned
            .iter()
            .filter_map(|(partition, id)| Some((*partition, *model.begins.get(id)?)))
            .collect();
        prop_assert_eq!(&model.held, &expected);
        for id in model.begins.keys() {
            prop_assert_eq!(model.assignments.is_live(*id), model.assigned.values().any(|live| live == id));
        }
    }

    /// Whatever happens, time is never waited for that has passed, and no partition is asked about twice at a time.
    #[test]
    fn nothing_is_due_in_the_past(waits in prop::collection::vec((0..4usize, 0..300u64, 0..3u8), 1..60)) {
        let mut now = Instant::now();
        let mut positions = Positions::default();
        let ids: Vec<_> = (0..4).map(|partition| reading(&mut positions, partition, partition % 2, 0, now)).collect();
        let mut in_flight: Vec<Plan> = Vec::new();
        for (which, wait, what) in waits {
            now += Duration::from_millis(wait);
            in_flight.extend(positions.plan(now, RESPONSE, PARTITION));
            let asked: Vec<_> = in_flight.iter().flat_map(|plan| {
                plan.partitions.iter().filter(|id| positions.awaiting(**id, plan.request).is_some())
            }).collect();
            prop_assert!(asked.iter().all(|id| asked.iter().filter(|other| *other == id).count() == 1));
            match what {
                0 => positions.failed(ids[which], error(), now, Duration::from_millis(wait)),
                1 => drop(positions.set_leader(ids[which], led_by(Uuid::nil(), (wait % 2) as i32, None), &source(), Start::End)),
                _ => if let Some(plan) = in_flight.pop() {
                    positions.answered(&plan, wait > 200, now, Duration::ZERO, |_| Duration::from_millis(50));
                },
            }
            prop_assert!(positions.next_due(now).is_none_or(|at| at > now));
        }
    }
}
