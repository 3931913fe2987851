//! How the leader of a classic group assigns partitions: pure functions of the members and of the topics' partitions.

use crate::engine::Assignor;
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Assignor {
    /// Whether members keep their partitions through a rebalance.
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// Assigns all partitions of `counts` to `members`.
    pub(super) fn assign(
        self,
        members: &[Subscriber],
        counts: &BTreeMap<Arc<str>, i32>,
    ) -> BTreeMap<String, BTreeSet<TopicPartition>> {
        let mut sorted: Vec<&Subscriber> = members.iter().collect();
        // As the Java client sorts: static members first, by their instance id.
        sorted.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id.clone(), member.id.clone()));
        match self {
            Self::Range => range(&sorted, counts),
            Self::RoundRobin => round_robin(&sorted, counts),
            Self::Sticky => sticky(&sorted, counts),
            Self::CooperativeSticky => {
                let mut assigned = sticky(&sorted, counts);
                withhold(&sorted, &mut assigned);
                assigned
            }
        }
    }
}

/// A member as the leader sees it.
#[derive(Debug, Clone, Default)]
pub struct Subscriber {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) topics: BTreeSet<Arc<str>>,
    /// Its partitions as of `generation`.
    pub(super) owned: BTreeSet<TopicPartition>,
    pub(super) generation: i32,
}

/// Partitions by member ID.
type Assignment = BTreeMap<String, BTreeSet<TopicPartition>>;

fn empty(members: &[&Subscriber]) -> Assignment {
    members.iter().map(|member| (member.id.clone(), BTreeSet::new())).collect()
}

fn range(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, i32>) -> Assignment {
    let mut assignment = empty(members);
    for (topic, count) in counts {
        let subscribers: Vec<_> = members.iter().filter(|member| member.topics.contains(topic)).collect();
        if subscribers.is_empty() {
            continue;
        }
        let (each, more) = (*count as usize / subscribers.len(), *count as usize % subscribers.len());
        let mut next = 0;
        for (index, subscriber) in subscribers.iter().enumerate() {
            let end = next + each + usize::from(index < more);
            let partitions = assignment.entry(subscriber.id.clone()).or_default();
            partitions.extend((next..end).map(|partition| TopicPartition::new(topic.clone(), partition as i32)));
            next = end;
        }
    }
    assignment
}

fn round_robin(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, i32>) -> Assignment {
    let mut assignment = empty(members);
    let mut turn = 0;
    for (topic, count) in counts {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*count {
            while !members[turn % members.len()].topics.contains(topic) {
                turn += 1;
            }
            let partitions = assignment.entry(members[turn % members.len()].id.clone()).or_default();
            partitions.insert(TopicPartition::new(topic.clone(), partition));
            turn += 1;
        }
    }
    assignment
}

/// The owner of each partition that exists and that its owner still subscribes to; of two that claim the same, the one
/// of the later generation.
fn owners(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, i32>) -> BTreeMap<TopicPartition, usize> {
    let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for of in &member.owned {
            let exists = counts.get(&of.topic).is_some_and(|count| of.partition < *count);
            if !exists || !member.topics.contains(&of.topic) {
                continue;
            }
            let newer = owners.get(of).is_none_or(|other| members[*other].generation < member.generation);
            if newer {
                owners.insert(of.clone(), index);
            }
        }
    }
    owners
}

/// An assignment that is being balanced. Topics with the same subscribers are one set, which ranks them by load.
struct Balance<'a> {
    set_of: BTreeMap<&'a Arc<str>, usize>,
    /// (Load, member) of each set's subscribers: the least loaded comes first.
    ranked: Vec<BTreeSet<(usize, usize)>>,
    sets_of: Vec<Vec<usize>>,
    /// What each member has, by set.
    held: Vec<BTreeMap<usize, Vec<TopicPartition>>>,
    load: Vec<usize>,
    /// How many partitions were given or taken away.
    steps: usize,
}

impl<'a> Balance<'a> {
    fn new(members: &[&Subscriber], counts: &'a BTreeMap<Arc<str>, i32>) -> Self {
        let mut balance = Self {
            set_of: BTreeMap::new(),
            ranked: Vec::new(),
            sets_of: vec![Vec::new(); members.len()],
            held: vec![BTreeMap::new(); members.len()],
            load: vec![0; members.len()],
            steps: 0,
        };
        let mut sets: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for topic in counts.keys() {
            let subscribers: Vec<usize> =
                (0..members.len()).filter(|index| members[*index].topics.contains(topic)).collect();
            let set = *sets.entry(subscribers).or_insert_with_key(|subscribers| {
                let set = balance.ranked.len();
                balance.ranked.push(subscribers.iter().map(|member| (0, *member)).collect());
                subscribers.iter().for_each(|member| balance.sets_of[*member].push(set));
                set
            });
            balance.set_of.insert(topic, set);
        }
        balance
    }

    fn set_load(&mut self, member: usize, load: usize) {
        let before = std::mem::replace(&mut self.load[member], load);
        for set in &self.sets_of[member] {
            self.ranked[*set].remove(&(before, member));
            self.ranked[*set].insert((load, member));
        }
        self.steps += 1;
    }

    fn give(&mut self, member: usize, set: usize, of: TopicPartition) {
        self.held[member].entry(set).or_default().push(of);
        self.set_load(member, self.load[member] + 1);
    }

    /// Gives a partition to the least loaded subscriber.
    fn give_to_least(&mut self, topic: &Arc<str>, of: TopicPartition) {
        let set = self.set_of[topic];
        if let Some(&(_, least)) = self.ranked[set].first() {
            self.give(least, set, of);
        }
    }

    /// The set of which `member` can pass a partition on, to a subscriber with at least two fewer; the least loaded
    /// such subscriber.
    fn receiver(&self, member: usize) -> Option<(usize, usize)> {
        let sets = self.held[member].iter().filter(|(_, held)| !held.is_empty());
        let least = |(set, _): (&usize, &Vec<TopicPartition>)| Some((*self.ranked[*set].first()?, *set));
        let ((load, receiver), set) = sets.filter_map(least).min()?;
        (self.load[member] > load + 1).then_some((set, receiver))
    }

    /// Moves partitions, one at a time, from the most loaded members. One that can pass nothing on at its turn cannot
    /// later either, unless it receives something.
    fn even_out(&mut self) {
        let total: usize = self.load.iter().sum();
        let most_steps = self.steps + 2 * total * (total.max(2).ilog2() as usize + 1);
        let mut by_load: BTreeSet<(usize, usize)> = self.load.iter().copied().zip(0..).collect();
        while let Some((load, from)) = by_load.pop_last()
            && self.steps < most_steps
        {
            let Some((set, to)) = self.receiver(from) else { continue };
            let Some(of) = self.held[from].get_mut(&set).and_then(Vec::pop) else { continue };
            by_load.remove(&(self.load[to], to));
            self.set_load(from, load - 1);
            self.give(to, set, of);
            by_load.extend([(self.load[from], from), (self.load[to], to)]);
        }
    }
}

/// Members keep their partitions as far as the assignment stays even: at most n log n in the number of partitions,
/// whatever members claim to have.
fn sticky(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, i32>) -> Assignment {
    balanced(members, counts)
        .held
        .into_iter()
        .zip(members)
        .map(|(held, member)| (member.id.clone(), held.into_values().flatten().collect()))
        .collect()
}

fn balanced<'a>(members: &[&Subscriber], counts: &'a BTreeMap<Arc<str>, i32>) -> Balance<'a> {
    let mut balance = Balance::new(members, counts);
    let owners = owners(members, counts);
    for (of, member) in &owners {
        balance.give(*member, balance.set_of[&of.topic], of.clone());
    }
    for (topic, count) in counts {
        for partition in 0..*count {
            let of = TopicPartition::new(topic.clone(), partition);
            if !owners.contains_key(&of) {
                balance.give_to_least(topic, of);
            }
        }
    }
    balance.even_out();
    balance
}

/// What moves is given to nobody until its owner has released it: that happens in the next round (KIP-429).
fn withhold(members: &[&Subscriber], assignment: &mut Assignment) {
    let newest = members.iter().map(|member| member.generation).max().unwrap_or(-1);
    let mut claimed: BTreeMap<&TopicPartition, Vec<&str>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.generation == newest || member.generation < 0) {
        for of in &member.owned {
            claimed.entry(of).or_default().push(&member.id);
        }
    }
    for (id, partitions) in assignment {
        partitions.retain(|of| claimed.get(of).is_none_or(|owners| owners.iter().all(|owner| owner == id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscriber(id: &str, topics: &[&str], owned: &[(&str, i32)]) -> Subscriber {
        Subscriber {
            id: id.to_owned(),
            instance_id: None,
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            owned: owned.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect(),
            generation: 1,
        }
    }

    fn counts(topics: &[(&str, i32)]) -> BTreeMap<Arc<str>, i32> {
        topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
    }

    fn shown(assignment: &Assignment, id: &str) -> Vec<String> {
        assignment[id].iter().map(|of| format!("{}{}", of.topic, of.partition)).collect()
    }

    /// The examples in the Java client's documentation of each assignor.
    #[test]
    fn shares_are_those_of_the_java_client() {
        let members = [subscriber("C0", &["a", "b"], &[]), subscriber("C1", &["a", "b"], &[])];
        let topics = counts(&[("a", 3), ("b", 3)]);
        let assignment = Assignor::Range.assign(&members, &topics);
        assert_eq!(shown(&assignment, "C0"), ["a0", "a1", "b0", "b1"]);
        assert_eq!(shown(&assignment, "C1"), ["a2", "b2"]);
        let assignment = Assignor::RoundRobin.assign(&members, &topics);
        assert_eq!(shown(&assignment, "C0"), ["a0", "a2", "b1"]);
        assert_eq!(shown(&assignment, "C1"), ["a1", "b0", "b2"]);
        let uneven = [
            subscriber("C0", &["a"], &[]),
            subscriber("C1", &["a", "b"], &[]),
            subscriber("C2", &["a", "b", "c"], &[]),
        ];
        let assignment = Assignor::RoundRobin.assign(&uneven, &counts(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(shown(&assignment, "C0"), ["a0"]);
        assert_eq!(shown(&assignment, "C1"), ["b0"]);
        assert_eq!(shown(&assignment, "C2"), ["b1", "c0", "c1", "c2"]);
        let assignment = Assignor::Sticky.assign(&uneven, &counts(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(shown(&assignment, "C0"), ["a0"]);
        assert_eq!(shown(&assignment, "C1"), ["b0", "b1"]);
        assert_eq!(shown(&assignment, "C2"), ["c0", "c1", "c2"]);
    }

    /// A member that claims everything costs the leader no more than n log n steps.
    #[test]
    fn a_member_that_claims_all_partitions_is_balanced_in_n_log_n() {
        const PARTITIONS: usize = 200_000;
        let all: Vec<(&str, i32)> = (0..PARTITIONS as i32).map(|p| ("t", p)).collect();
        let mut members: Vec<_> = (0..50).map(|n| subscriber(&format!("m{n:02}"), &["t"], &[])).collect();
        members[0] = subscriber("m00", &["t"], &all);
        members[1] = subscriber("m01", &["t", "u"], &all[..PARTITIONS / 2]);
        let sorted: Vec<&Subscriber> = members.iter().collect();
        let topics = counts(&[("t", PARTITIONS as i32), ("u", 100)]);
        let balance = balanced(&sorted, &topics);
        assert!(balance.steps <= PARTITIONS * 14, "{}", balance.steps);
        let share = (PARTITIONS + 100) / members.len();
        assert!(balance.load.iter().all(|load| (share..=share + 1).contains(load)), "{:?}", balance.load);
        let mut assignment = sticky(&sorted, &topics);
        withhold(&sorted, &mut assignment);
        assert!(assignment["m02"].is_empty(), "its partitions are still owned");
    }

    #[test]
    fn what_moves_is_first_given_to_nobody() {
        let all: Vec<(&str, i32)> = (0..4).map(|p| ("t", p)).collect();
        let members = [subscriber("a", &["t"], &all), subscriber("b", &["t"], &[])];
        let assignment = Assignor::CooperativeSticky.assign(&members, &counts(&[("t", 4)]));
        assert_eq!((assignment["a"].len(), assignment["b"].len()), (2, 0));
        let kept: Vec<(&str, i32)> = assignment["a"].iter().map(|of| ("t", of.partition)).collect();
        let members = [subscriber("a", &["t"], &kept), subscriber("b", &["t"], &[])];
        let assignment = Assignor::CooperativeSticky.assign(&members, &counts(&[("t", 4)]));
        assert_eq!((assignment["a"].len(), assignment["b"].len()), (2, 2));
    }

    fn groups() -> impl Strategy<Value = (Vec<Subscriber>, BTreeMap<Arc<str>, i32>)> {
        let member = (
            prop::collection::btree_set(0usize..4, 0..4),
            prop::collection::vec((0usize..4, 0i32..9), 0..12),
            -1i32..4,
        );
        (prop::collection::vec(member, 1..6), prop::collection::vec(0i32..9, 4)).prop_map(|(members, sizes)| {
            let topic = |n: usize| -> Arc<str> { format!("t{n}").into() };
            let members = members.into_iter().enumerate().map(|(n, (topics, owned, generation))| Subscriber {
                id: format!("m{n}"),
                instance_id: None,
                topics: topics.into_iter().map(topic).collect(),
                owned: owned.into_iter().map(|(t, p)| TopicPartition::new(topic(t), p)).collect(),
                generation,
            });
            (members.collect(), sizes.into_iter().enumerate().map(|(n, count)| (topic(n), count)).collect())
        })
    }

    proptest! {
        #[test]
        fn every_partition_goes_to_one_member_that_wants_it((members, counts) in groups()) {
            for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
                let assignment = assignor.assign(&members, &counts);
                let mut given: Vec<&TopicPartition> = assignment.values().flatten().collect();
                let all = given.len();
                given.sort();
                given.dedup();
                prop_assert_eq!(given.len(), all, "given twice");
                let wanted = counts.iter().filter(|(t, _)| members.iter().any(|m| m.topics.contains(*t)));
                prop_assert_eq!(all as i32, wanted.map(|(_, count)| count).sum::<i32>());
                for member in &members {
                    prop_assert!(assignment[&member.id].iter().all(|of| member.topics.contains(&of.topic)));
                }
            }
        }

        #[test]
        fn sticky_shares_of_equals_are_even_and_stay((size, count) in (1usize..7, 0i32..40)) {
            let topics = counts(&[("t", count)]);
            let mut members: Vec<_> = (0..size).map(|n| subscriber(&format!("m{n}"), &["t"], &[])).collect();
            let assignment = Assignor::Sticky.assign(&members, &topics);
            let sizes: Vec<usize> = assignment.values().map(BTreeSet::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            members.iter_mut().for_each(|member| member.owned = assignment[&member.id].clone());
            prop_assert_eq!(&Assignor::Sticky.assign(&members, &topics), &assignment, "nothing moves");
            prop_assert_eq!(&Assignor::CooperativeSticky.assign(&members, &topics), &assignment);
        }

        /// Rounds of cooperative rebalancing come to an end, and never give a partition to two members at once.
        #[test]
        fn cooperative_rounds_come_to_rest((mut members, counts) in groups()) {
            // What members claim is theirs: nobody has what another has.
            let sorted: Vec<&Subscriber> = members.iter().collect();
            let owners = owners(&sorted, &counts);
            for (n, member) in members.iter_mut().enumerate() {
                member.owned = owners.iter().filter(|(_, owner)| **owner == n).map(|(of, _)| of.clone()).collect();
                member.generation = 1;
            }
            let goal = counts.iter().filter(|(t, _)| members.iter().any(|m| m.topics.contains(*t))).map(|(_, c)| *c as usize).sum::<usize>();
            for round in 0..5 {
                let assignment = Assignor::CooperativeSticky.assign(&members, &counts);
                for member in &members {
                    for other in members.iter().filter(|other| other.id != member.id) {
                        prop_assert!(assignment[&member.id].is_disjoint(&other.owned), "still owned");
                    }
                }
                members.iter_mut().for_each(|member| member.owned = assignment[&member.id].clone());
                if members.iter().map(|member| member.owned.len()).sum::<usize>() == goal {
                    break;
                }
                prop_assert!(round < 4, "no rest");
            }
        }
    }
}
