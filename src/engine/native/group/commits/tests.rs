//! Members, their commits and a coordinator in any interleaving: joins, leaves, stalls, revocations, late answers.

use super::super::assignors::Subscriber;
use super::super::classic::Classic;
use super::super::kip848::Kip848;
use super::super::membership::{
    Content, Effect, Event, HeartbeatAnswer, Joined, MemberConfig, Membership, PartitionCounts, Role,
};
use super::super::ownership::Ownership;
use super::*;
use crate::engine::Assignor;
use crate::error::{Action, Subject};
use crate::record::Position;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

const PARTITIONS: i32 = 4;
const MEMBERS: usize = 3;

fn error(code: E) -> Error {
    Error::kafka(Action::LookUp, Subject::Cluster, code)
}

fn counts() -> PartitionCounts {
    PartitionCounts::from([(Arc::from("t"), PARTITIONS)])
}

/// A change of the assignment as the command hears of it: with the offsets that were committed when it was looked up.
enum Told {
    Assigned(Offsets, AssignmentNumber),
    Gone(BTreeSet<TopicPartition>),
}

/// A member with its command.
struct Client {
    membership: Box<dyn Membership>,
    ownership: Ownership,
    commits: Commits,
    /// Not heard by the command yet. What is gone overtakes what is assigned, as it overtakes records.
    told: Vec<Told>,
    releasing: bool,
    reading: Written,
    requests: Vec<Effect>,
    /// A commit on its way, as it was sent.
    sent: Option<(String, i32, Offsets)>,
}

/// What the coordinator knows of a member.
#[derive(Default, Clone)]
struct Known {
    id: String,
    epoch: i32,
    assigned: BTreeSet<TopicPartition>,
}

/// A coordinator as Kafka's: commits are checked against the generation, or the member's epoch.
struct Coordinator {
    kip848: bool,
    epoch: i32,
    members: Vec<Option<Known>>,
    /// Who has joined the next generation, with what they had (classic).
    joined: Vec<Option<(String, BTreeSet<TopicPartition>)>>,
    is_rebalancing: bool,
    next_id: u32,
    committed: BTreeMap<TopicPartition, Offset>,
}

impl Coordinator {
    fn owner(&self, of: &TopicPartition) -> Option<usize> {
        self.members.iter().position(|member| member.as_ref().is_some_and(|member| member.assigned.contains(of)))
    }

    /// The partitions that each member is to have.
    fn target(&self, member: usize) -> BTreeSet<TopicPartition> {
        let alive: Vec<usize> = (0..MEMBERS).filter(|index| self.members[*index].is_some()).collect();
        let rank = alive.iter().position(|index| *index == member);
        let mine = |partition: &i32| rank == Some(*partition as usize % alive.len().max(1));
        (0..PARTITIONS).filter(mine).map(|partition| TopicPartition::new("t", partition)).collect()
    }

    /// All that have joined are the next generation; others are none any more (classic).
    fn complete(&mut self, clients: &mut [Client], assignor: Assignor, now: Instant) -> Vec<(usize, Effect)> {
        let subscribers: Vec<Subscriber> = self
            .joined
            .iter()
            .flatten()
            .map(|(id, owned)| Subscriber {
                id: id.clone(),
                topics: [Arc::from("t")].into(),
                owned: owned.clone(),
                generation: self.epoch,
                ..Subscriber::default()
            })
            .collect();
        let shares = assignor.assign(&subscribers, &counts());
        self.epoch += 1;
        self.is_rebalancing = false;
        let mut effects = Vec::new();
        for (index, joined) in std::mem::take(&mut self.joined).into_iter().enumerate() {
            let generation = self.epoch;
            self.members[index] = joined.map(|(id, _)| Known { assigned: shares[&id].clone(), id, epoch: generation });
            if let Some(Known { id, .. }) = &self.members[index] {
                let joined = Joined { member_id: id.clone(), generation, assignor, role: Role::Follower };
                effects.extend(clients[index].handle(index, Event::Joined(Ok(joined)), now));
            }
        }
        self.joined = vec![None; MEMBERS];
        effects
    }

    /// `owned` is what a full heartbeat says that the member has.
    fn heartbeat_kip848(
        &mut self,
        index: usize,
        id: &str,
        epoch: i32,
        owned: Option<&BTreeSet<TopicPartition>>,
    ) -> Event {
        if epoch == 0 {
            self.epoch += 1;
            self.members[index] = Some(Known { id: id.to_owned(), epoch: self.epoch, assigned: BTreeSet::new() });
        }
        let target = self.target(index);
        let free: BTreeSet<_> =
            target.iter().filter(|of| self.owner(of).is_none_or(|owner| owner == index)).cloned().collect();
        let group_epoch = self.epoch;
        let Some(member) = self.members[index].as_mut().filter(|member| member.id == id) else {
            return Event::Heartbeat(Err(error(E::UnknownMemberId)));
        };
        if epoch != 0 && epoch != member.epoch {
            return Event::Heartbeat(Err(error(E::FencedMemberEpoch)));
        }
        // What it is to release is its own until it says that it is released.
        let is_released = member.assigned.is_subset(&target) || owned.is_some_and(|owned| owned.is_subset(&target));
        let assignment = if is_released {
            member.epoch = group_epoch;
            member.assigned = free.clone();
            free
        } else {
            target.intersection(&member.assigned).cloned().collect()
        };
        Event::Heartbeat(Ok(HeartbeatAnswer { epoch: member.epoch, interval: None, assignment: Some(assignment) }))
    }

    fn commit(&mut self, index: usize, id: &str, epoch: i32, offsets: &Offsets) -> Result<Answers, Error> {
        let is_current = self.members[index].as_ref().is_some_and(|member| member.id == id && member.epoch == epoch);
        if !is_current {
            return Err(error(if self.kip848 { E::StaleMemberEpoch } else { E::IllegalGeneration }));
        }
        for (of, position) in offsets {
            let owner = self.owner(of);
            assert!(owner.is_none_or(|owner| owner == index), "{of} is committed by {index}, and owned by {owner:?}");
            let before = self.committed.insert(of.clone(), position.offset).unwrap_or(0);
            assert!(before <= position.offset, "{of} moves back from {before} to {}", position.offset);
        }
        Ok(offsets.keys().map(|of| (of.clone(), None)).collect())
    }
}

impl Client {
    fn new(index: usize, kip848: bool, now: Instant) -> Self {
        let config = MemberConfig {
            group: "g".to_owned(),
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(1),
            retry: Duration::from_millis(100),
        };
        let membership: Box<dyn Membership> =
            if kip848 { Box::new(Kip848::new(config, now)) } else { Box::new(Classic::new(config, now)) };
        let mut client = Self {
            membership,
            ownership: Ownership::default(),
            commits: Commits::new(Duration::from_millis(100), Duration::from_secs(600)),
            told: Vec::new(),
            releasing: false,
            reading: Written::new(),
            requests: Vec::new(),
            sent: None,
        };
        let effects = client.handle(index, Event::Topics(counts()), now);
        client.requests = effects.into_iter().map(|(_, effect)| effect).collect();
        client
    }

    /// As the task does.
    fn handle(&mut self, index: usize, event: Event, now: Instant) -> Vec<(usize, Effect)> {
        if matches!(event, Event::Released) {
            self.ownership.released();
        }
        let effects = self.membership.handle(event, now);
        let (member_id, generation) = self.membership.identity();
        self.ownership.identify(member_id, generation);
        effects.into_iter().map(|effect| (index, effect)).collect()
    }
}

struct World {
    now: Instant,
    coordinator: Coordinator,
    clients: Vec<Client>,
    assignor: Assignor,
}

impl World {
    fn new(kip848: bool, assignor: Assignor) -> Self {
        let now = Instant::now();
        let coordinator = Coordinator {
            kip848,
            epoch: 0,
            members: vec![None; MEMBERS],
            joined: vec![None; MEMBERS],
            is_rebalancing: true,
            next_id: 0,
            committed: BTreeMap::new(),
        };
        Self {
            now,
            coordinator,
            clients: (0..MEMBERS).map(|index| Client::new(index, kip848, now)).collect(),
            assignor,
        }
    }

    fn perform(&mut self, effects: Vec<(usize, Effect)>) {
        for (index, effect) in effects {
            let client = &mut self.clients[index];
            match effect {
                Effect::Assign(partitions) => {
                    let number = client.ownership.assigned(&partitions);
                    let begins = partitions.into_iter().map(|of| {
                        let offset = self.coordinator.committed.get(&of).copied().unwrap_or(0);
                        (of, Position { offset, leader_epoch: None })
                    });
                    client.told.push(Told::Assigned(begins.collect(), number));
                }
                Effect::Revoke(partitions) => {
                    client.ownership.revoking(&partitions);
                    client.releasing = true;
                    client.told.push(Told::Gone(partitions));
                }
                Effect::Lose(partitions, _) => {
                    client.ownership.lost(&partitions);
                    client.told.push(Told::Gone(partitions));
                }
                Effect::Leave(id) => {
                    client.requests.clear();
                    if self.coordinator.members[index].as_ref().is_some_and(|member| member.id == id) {
                        self.coordinator.members[index] = None;
                        self.coordinator.epoch += i32::from(self.coordinator.kip848);
                        self.coordinator.is_rebalancing = true;
                    }
                }
                effect => client.requests.push(effect),
            }
        }
    }

    /// Answers the oldest request of a member.
    fn answer(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.requests.is_empty() {
            return;
        }
        let request = client.requests.remove(0);
        let (id, generation) = client.membership.identity();
        let owned = client.membership.owned().clone();
        let known = self.coordinator.members[index].as_ref().filter(|member| member.id == id);
        let event = match request {
            Effect::Join => {
                let id = if id.is_empty() {
                    self.coordinator.next_id += 1;
                    format!("m{}", self.coordinator.next_id)
                } else {
                    id
                };
                self.coordinator.joined[index] = Some((id, owned));
                self.coordinator.is_rebalancing = true;
                return; // answered when all have joined
            }
            Effect::Sync(_) => Event::Synced(match known {
                Some(member) if member.epoch == generation => Ok(member.assigned.clone()),
                _ => Err(error(E::UnknownMemberId)),
            }),
            Effect::Heartbeat(content) if self.coordinator.kip848 => {
                let owned = (content == Content::Full).then_some(&owned);
                self.coordinator.heartbeat_kip848(index, &id, generation, owned)
            }
            Effect::Heartbeat(_) => Event::Heartbeat(match known {
                None => Err(error(E::UnknownMemberId)),
                Some(member) if member.epoch != generation => Err(error(E::IllegalGeneration)),
                Some(_) if self.coordinator.is_rebalancing => Err(error(E::RebalanceInProgress)),
                Some(_) => Ok(HeartbeatAnswer::default()),
            }),
            _ => return,
        };
        let effects = self.clients[index].handle(index, event, self.now);
        self.perform(effects);
    }

    /// The command hears of something: of what is gone first, or in order.
    fn hear(&mut self, index: usize, in_order: bool) {
        let client = &mut self.clients[index];
        let gone = client.told.iter().position(|told| matches!(told, Told::Gone(_)));
        let next = if in_order { 0 } else { gone.unwrap_or(0) };
        if next >= client.told.len() {
            return;
        }
        match client.told.remove(next) {
            Told::Assigned(begins, number) => {
                client.commits.assigned(&begins, number);
                client.reading.extend(begins.into_iter().map(|(of, position)| (of, (position, number))));
            }
            Told::Gone(partitions) => {
                client.commits.add(client.reading.clone());
                client.reading.retain(|of, _| !partitions.contains(of));
            }
        }
    }

    fn step(&mut self, step: u8, index: usize) {
        self.now += Duration::from_millis(300);
        let now = self.now;
        let client = &mut self.clients[index];
        let mut effects = Vec::new();
        match step {
            0..=3 => self.answer(index),
            4 | 5 => self.hear(index, step == 4),
            6 => client.reading.values_mut().for_each(|(position, _)| position.offset += 10),
            7 => client.commits.add(client.reading.clone()),
            8 => {
                if client.sent.is_none() && client.commits.due(now).is_some_and(|due| due <= now) {
                    let offsets = client.commits.begin(Some(&client.ownership));
                    let Ownership { member_id, generation, .. } = &client.ownership;
                    client.sent = (!offsets.is_empty()).then(|| (member_id.clone(), *generation, offsets));
                }
            }
            9 | 10 => {
                if let Some((id, epoch, offsets)) = client.sent.take() {
                    let answers = self.coordinator.commit(index, &id, epoch, &offsets);
                    // The answer may be lost.
                    let answers = if step == 9 { answers } else { Err(Error::NotTaken) };
                    self.clients[index].commits.answered(answers, true, now);
                }
            }
            11 => {
                let is_committed = client.commits.is_settled() && client.sent.is_none();
                let has_heard = !client.told.iter().any(|told| matches!(told, Told::Gone(_)));
                if client.releasing && is_committed && has_heard {
                    client.releasing = false;
                    effects = client.handle(index, Event::Released, now);
                }
            }
            12 => effects = client.handle(index, Event::Stalled, now),
            13 => effects = client.handle(index, Event::Resumed, now),
            14 => effects = client.handle(index, Event::Due, now),
            15 => {
                // A session ends.
                self.coordinator.members[index] = None;
                self.coordinator.epoch += i32::from(self.coordinator.kip848);
                self.coordinator.is_rebalancing = true;
            }
            _ => {
                if !self.coordinator.kip848 && self.coordinator.joined.iter().any(Option::is_some) {
                    let assignor = self.assignor;
                    effects = self.coordinator.complete(&mut self.clients, assignor, now);
                }
            }
        }
        self.perform(effects);
    }
}

fn at(offset: Offset) -> Offsets {
    Offsets::from([(TopicPartition::new("t", 0), Position { offset, leader_epoch: None })])
}

/// What failed for an assignment that has ended does not count against the next one.
#[test]
fn failures_of_an_earlier_assignment_end_with_it() {
    let limit = Duration::from_secs(10);
    for is_over in [false, true] {
        let mut commits = Commits::new(Duration::from_millis(100), limit);
        let (mut ownership, began) = (Ownership::default(), Instant::now());
        let partitions = BTreeSet::from([TopicPartition::new("t", 0)]);
        let write = |commits: &mut Commits, ownership: &mut Ownership, offset| {
            let number = ownership.assigned(&partitions);
            commits.assigned(&at(offset), number);
            commits.add(at(offset + 1).into_iter().map(|(of, position)| (of, (position, number))).collect());
            assert_eq!(commits.lead(), 1, "the first record counts");
            assert_eq!(commits.begin(Some(ownership)).len(), 1);
        };
        write(&mut commits, &mut ownership, 0);
        let lost = |commits: &mut Commits, at| commits.answered(Err(error(E::NotCoordinator)), true, at);
        lost(&mut commits, began);
        if is_over {
            lost(&mut commits, began + limit + Duration::from_secs(1));
        }
        assert_eq!(commits.over().is_some(), is_over);
        ownership.lost(&partitions);
        assert!(commits.begin(Some(&ownership)).is_empty());
        write(&mut commits, &mut ownership, 5);
        lost(&mut commits, began + 3 * limit);
        assert!(commits.over().is_none(), "it is the first failure of this assignment");
        assert!(commits.due(began).is_some(), "it is sent again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A commit for a partition is made by its owner alone, and moves no offset back.
    #[test]
    fn only_the_owner_of_a_partition_commits_for_it_and_never_backward(
        steps in prop::collection::vec((0u8..18, 0..MEMBERS), 1..400),
        kip848: bool,
        cooperative: bool,
    ) {
        let assignor = if cooperative { Assignor::CooperativeSticky } else { Assignor::Range };
        let mut world = World::new(kip848, assignor);
        for (step, index) in steps {
            world.step(step, index);
        }
    }

    /// Without disturbances everything that is written is committed.
    #[test]
    fn what_is_written_is_committed_in_the_end(kip848: bool, rounds in 1usize..20) {
        let mut world = World::new(kip848, Assignor::CooperativeSticky);
        for round in 0..60 + rounds {
            let steps: &[u8] = if round < 60 { &[0, 17, 0, 4, 8, 9, 11, 14, 0] } else { &[6, 7, 8, 9] };
            for step in steps {
                let count = if *step == 17 { 1 } else { MEMBERS };
                (0..count).for_each(|index| world.step(*step, index));
            }
        }
        let committed: Vec<Offset> = world.coordinator.committed.values().copied().collect();
        prop_assert_eq!(committed, vec![10 * rounds as i64; PARTITIONS as usize]);
    }
}
