//! Which partition a record goes to.

use crate::engine::Partitioner;
use std::sync::atomic::{AtomicBool, Ordering};

impl Partitioner {
    /// The index of the partition that a record with `key` goes to; `None` leaves it to the sticky one.
    /// `turn` counts the records so far.
    pub fn choose(self, key: Option<&[u8]>, turn: u64, partitions: usize) -> Option<usize> {
        let partitions = partitions.max(1);
        Some(match (self, key) {
            (Self::Random, _) => fastrand::usize(..partitions),
            (Self::RoundRobin, _) => (turn % partitions as u64) as usize,
            (_, None) => return None,
            // Java: toPositive(murmur2(key)) % partitions
            (Self::Murmur2, Some(key)) => (murmur2(key) & 0x7fff_ffff) as usize % partitions,
            (Self::Crc32, Some(key)) => crc32fast::hash(key) as usize % partitions,
            // Sarama: the signed remainder, its sign dropped
            (Self::Fnv1a, Some(key)) => (fnv1a(key) as i32 % partitions as i32).unsigned_abs() as usize,
        })
    }
}

/// Fowler, Noll and Vo's hash 1a, 32 bits.
fn fnv1a(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Austin Appleby's MurmurHash2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` has it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (index, &byte) in tail.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The next partition for keyless records: any but `last` of those with a leader, if there is one (KIP-480).
pub(super) fn next_sticky(last: Option<usize>, available: &[AtomicBool]) -> usize {
    let usable = |&index: &usize| available[index].load(Ordering::Relaxed) && Some(index) != last;
    let candidates = (0..available.len()).filter(usable).count();
    if candidates == 0 {
        return last.unwrap_or(0);
    }
    (0..available.len()).filter(usable).nth(fastrand::usize(..candidates)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_javas() {
        // From Kafka's own UtilsTest.
        let vectors = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn fnv1a_is_saramas() {
        // Computed by Sarama's NewHashPartitioner.
        let vectors = [
            ("", 3, 0),
            ("", 12, 3),
            ("", 100, 35),
            ("a", 3, 0),
            ("a", 100, 76),
            ("key", 12, 4),
            ("key", 100, 28),
            ("user-42", 12, 3),
            ("user-42", 100, 99),
            ("foobar", 100, 76),
            ("été ☃", 12, 4),
            ("été ☃", 100, 8),
            ("21", 100, 52),
            ("a-little-bit-longer-string", 12, 9),
            ("a-little-bit-longer-string", 100, 13),
        ];
        for (key, partitions, partition) in vectors {
            assert_eq!(
                Partitioner::Fnv1a.choose(Some(key.as_bytes()), 0, partitions),
                Some(partition),
                "{key} {partitions}"
            );
        }
    }

    #[test]
    fn keyless_records_are_left_to_the_sticky_partition_but_by_two() {
        assert_eq!(Partitioner::Murmur2.choose(None, 7, 3), None);
        assert_eq!(Partitioner::RoundRobin.choose(None, 7, 3), Some(1));
        assert!(Partitioner::Random.choose(None, 7, 3).is_some_and(|partition| partition < 3));
    }

    #[test]
    fn sticky_moves_on_and_avoids_partitions_without_a_leader() {
        let next = |last, available: &[bool]| {
            let available: Vec<AtomicBool> = available.iter().map(|&is| AtomicBool::new(is)).collect();
            next_sticky(last, &available)
        };
        for _ in 0..100 {
            assert_eq!(next(Some(0), &[true, false, true]), 2);
        }
        assert_eq!(next(Some(0), &[true]), 0);
        assert_eq!(next(None, &[false, false]), 0);
    }
}
