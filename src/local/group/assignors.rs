//! The server-side assignors of KIP-848: `uniform` (balanced and sticky) and `range`.

use crate::record::PartitionId;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Partitions, by topic ID.
pub(in crate::local) type Partitions = BTreeSet<(Uuid, PartitionId)>;
/// The topics that members subscribe to, with their IDs and partition counts.
pub(in crate::local) type Topics = BTreeMap<String, (Uuid, PartitionId)>;

/// How partitions are assigned to members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub(in crate::local) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(in crate::local) fn from_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// A member as assignors see it.
#[derive(Debug)]
pub(super) struct Subscriber<'a> {
    pub(super) topics: &'a BTreeSet<String>,
    pub(super) current: &'a Partitions,
}

/// The partitions of each of `members`, in their order.
pub(super) fn assign(assignor: Assignor, members: &[Subscriber<'_>], topics: &Topics) -> Vec<Partitions> {
    match assignor {
        Assignor::Uniform => uniform(members, topics),
        Assignor::Range => range(members, topics),
    }
}

/// Each topic's partitions in runs, as even as can be.
fn range(members: &[Subscriber<'_>], topics: &Topics) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::new(); members.len()];
    for (topic, (id, count)) in topics {
        let subscribed: Vec<usize> = (0..members.len()).filter(|n| members[*n].topics.contains(topic)).collect();
        let Some(each) = (*count as usize).checked_div(subscribed.len()) else { continue };
        let more = *count as usize % subscribed.len();
        let mut first = 0;
        for (n, member) in subscribed.into_iter().enumerate() {
            let end = first + each + usize::from(n < more);
            assigned[member].extend((first..end).map(|partition| (*id, partition as i32)));
            first = end;
        }
    }
    assigned
}

/// Members keep what they have up to an even part; the rest goes to those with the least.
fn uniform(members: &[Subscriber<'_>], topics: &Topics) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::new(); members.len()];
    if members.is_empty() {
        return assigned;
    }
    let names: BTreeMap<Uuid, (&String, i32)> =
        topics.iter().map(|(name, (id, count))| (*id, (name, *count))).collect();
    let total: usize = topics.values().map(|(_, count)| *count as usize).sum();
    let (each, mut more) = (total / members.len(), total % members.len());
    let mut left: Partitions =
        topics.values().flat_map(|(id, count)| (0..*count).map(move |partition| (*id, partition))).collect();
    for (member, kept) in members.iter().zip(&mut assigned) {
        let is_valid = |(id, partition): &&(Uuid, i32)| {
            names.get(id).is_some_and(|(name, count)| partition < count && member.topics.contains(*name))
        };
        for partition in member.current.iter().filter(is_valid) {
            if kept.len() == each {
                if more == 0 {
                    break;
                }
                more -= 1;
            } else if kept.len() > each {
                break;
            }
            if left.remove(partition) {
                kept.insert(*partition);
            }
        }
    }
    let mut by_count: BTreeSet<(usize, usize)> = assigned.iter().map(BTreeSet::len).zip(0..).collect();
    for partition in left {
        let name = names.get(&partition.0).map(|(name, _)| *name);
        let subscribed = |member: usize| name.is_some_and(|name| members[member].topics.contains(name));
        let Some((count, member)) = by_count.iter().copied().find(|(_, member)| subscribed(*member)) else { continue };
        by_count.remove(&(count, member));
        by_count.insert((count + 1, member));
        assigned[member].insert(partition);
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_partition_has_one_subscriber_and_stays_where_it_can(
            subscriptions in prop::collection::vec(prop::collection::btree_set("[abc]", 0..4), 1..6),
            counts in prop::collection::vec(0i32..9, 3)
        ) {
            let topics: Topics = ["a", "b", "c"].iter().zip(counts).enumerate()
                .map(|(n, (name, count))| ((*name).to_owned(), (Uuid::from_u128(n as u128 + 1), count))).collect();
            let none = Partitions::new();
            for assignor in [Assignor::Uniform, Assignor::Range] {
                let members = subscriptions.iter().map(|topics| Subscriber { topics, current: &none });
                let first = assign(assignor, &members.collect::<Vec<_>>(), &topics);
                for (name, (id, count)) in &topics {
                    for partition in 0..*count {
                        let owners: Vec<usize> = (0..first.len()).filter(|n| first[*n].contains(&(*id, partition))).collect();
                        let wanted = subscriptions.iter().any(|topics| topics.contains(name));
                        prop_assert_eq!(owners.len(), usize::from(wanted));
                        prop_assert!(owners.iter().all(|owner| subscriptions[*owner].contains(name)));
                    }
                }
                let again = subscriptions.iter().zip(&first).map(|(topics, current)| Subscriber { topics, current });
                let again = assign(assignor, &again.collect::<Vec<_>>(), &topics);
                if subscriptions.iter().all(|topics| *topics == subscriptions[0]) {
                    prop_assert_eq!(&again, &first);
                    let sizes: Vec<usize> = first.iter().map(BTreeSet::len).collect();
                    let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
                    prop_assert!(assignor == Assignor::Range || spread <= 1);
                }
            }
        }
    }
}
