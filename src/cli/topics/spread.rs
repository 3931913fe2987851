//! Spreads replicas over brokers and racks: a pure function of where they are.

use crate::record::{BrokerId, TopicPartition};
use std::collections::{BTreeMap, HashMap};

/// Replicas for each partition, so that each broker has as many as any other, give or take one, and leads as many;
/// replicas that need not move stay. Replicas of a partition are in different racks as far as there are enough.
pub(super) fn spread(
    current: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    racks: &BTreeMap<BrokerId, Option<String>>,
    factor: Option<usize>,
) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
    let wanted = |replicas: &Vec<BrokerId>| factor.unwrap_or(replicas.len());
    let total: usize = current.values().map(wanted).sum();
    let fair = total.div_ceil(racks.len().max(1));
    let mut load: HashMap<BrokerId, usize> = racks.keys().map(|id| (*id, 0)).collect();
    let mut kept: BTreeMap<TopicPartition, Vec<BrokerId>> = BTreeMap::new();
    for (at, replicas) in current {
        let mut stay = Vec::new();
        for id in replicas.iter().take(wanted(replicas)) {
            if let Some(count) = load.get_mut(id).filter(|count| **count < fair) {
                *count += 1;
                stay.push(*id);
            }
        }
        kept.insert(at.clone(), stay);
    }
    for (at, replicas) in &mut kept {
        while replicas.len() < wanted(&current[at]) {
            let rack_used =
                |id: &BrokerId| racks[id].is_some() && replicas.iter().any(|other| racks[other] == racks[id]);
            let free = racks.keys().filter(|id| !replicas.contains(id));
            let Some(best) = free.min_by_key(|id| (rack_used(id), load[*id], **id)).copied() else { break };
            *load.entry(best).or_default() += 1;
            replicas.push(best);
        }
    }
    even_out(&mut kept, &mut load, racks);
    // The first replica leads: the broker that leads fewest so far, the present leader where that is no worse.
    let mut leads: HashMap<BrokerId, usize> = HashMap::new();
    for replicas in kept.values_mut() {
        let fewest = replicas.iter().map(|id| leads.get(id).copied().unwrap_or(0)).min().unwrap_or(0);
        let leader = replicas.iter().position(|id| leads.get(id).copied().unwrap_or(0) == fewest).unwrap_or(0);
        if !replicas.is_empty() {
            replicas[..=leader].rotate_right(1);
            *leads.entry(replicas[0]).or_default() += 1;
        }
    }
    kept
}

/// Moves replicas from the brokers that have most to those that have fewest, as long as that evens them out and puts
/// no two replicas of a partition into one rack that were in two.
fn even_out(
    kept: &mut BTreeMap<TopicPartition, Vec<BrokerId>>,
    load: &mut HashMap<BrokerId, usize>,
    racks: &BTreeMap<BrokerId, Option<String>>,
) {
    loop {
        let mut by_load: Vec<BrokerId> = racks.keys().copied().collect();
        by_load.sort_by_key(|id| (load[id], *id));
        let pairs = by_load.iter().rev().flat_map(|most| by_load.iter().map(move |least| (*most, *least)));
        let move_from_to = pairs.filter(|(most, least)| load[most] > load[least] + 1).find_map(|(most, least)| {
            let fits = |ids: &Vec<BrokerId>| {
                let rest = || ids.iter().filter(|id| **id != most);
                let in_rack = |of: BrokerId| racks[&of].is_some() && rest().any(|id| racks[id] == racks[&of]);
                ids.contains(&most) && !ids.contains(&least) && (!in_rack(least) || in_rack(most))
            };
            kept.iter().find(|(_, ids)| fits(ids)).map(|(at, _)| (at.clone(), most, least))
        });
        let Some((at, most, least)) = move_from_to else { return };
        for id in kept.get_mut(&at).into_iter().flatten().filter(|id| **id == most) {
            *id = least;
        }
        *load.entry(most).or_default() -= 1;
        *load.entry(least).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assigned(replicas: &[&[i32]]) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
        replicas
            .iter()
            .enumerate()
            .map(|(p, ids)| (TopicPartition::new("t", p as i32), ids.iter().copied().map(BrokerId).collect()))
            .collect()
    }

    fn racks(of: &[(i32, &str)]) -> BTreeMap<BrokerId, Option<String>> {
        of.iter().map(|(id, rack)| (BrokerId(*id), Some((*rack).to_owned()))).collect()
    }

    #[test]
    fn what_is_well_spread_stays() {
        let current = assigned(&[&[1, 2], &[2, 3], &[3, 1]]);
        assert_eq!(spread(&current, &racks(&[(1, "a"), (2, "b"), (3, "c")]), None), current);
    }

    #[test]
    fn replicas_stand_in_different_racks() {
        let spread =
            spread(&assigned(&[&[1], &[1], &[1], &[1]]), &racks(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]), Some(2));
        for ids in spread.values() {
            assert_ne!(ids[0].0 <= 2, ids[1].0 <= 2, "{spread:?}");
        }
    }

    proptest! {
        #[test]
        fn every_broker_keeps_and_leads_its_share(
            partitions in 1..30usize, brokers in 1..7i32, factor in 1..4usize, seed in any::<u64>()
        ) {
            let factor = factor.min(brokers as usize);
            let mut random = fastrand::Rng::with_seed(seed);
            let anywhere = || {
                let mut ids: Vec<i32> = (1..=brokers).collect();
                random.shuffle(&mut ids);
                ids.truncate(factor);
                ids
            };
            let lists: Vec<Vec<i32>> = std::iter::repeat_with(anywhere).take(partitions).collect();
            let current = assigned(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let all = (1..=brokers).map(|id| (BrokerId(id), None)).collect();
            let spread = spread(&current, &all, None);
            let mut kept: HashMap<BrokerId, usize> = HashMap::new();
            for ids in spread.values() {
                prop_assert_eq!(ids.len(), factor);
                let mut distinct = ids.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), factor);
                ids.iter().for_each(|id| *kept.entry(*id).or_default() += 1);
            }
            let counts: Vec<usize> = (1..=brokers).map(|id| kept.get(&BrokerId(id)).copied().unwrap_or(0)).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}
