//! Which partition a record goes to.

use crate::record::PartitionId;

/// The partition of a keyed record: where the Java client puts it.
pub fn by_key(key: &[u8], partitions: usize) -> PartitionId {
    // Java: toPositive(murmur2(key)) % partitions
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1) as i32
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
pub(super) fn next_sticky(last: Option<usize>, available: &[bool]) -> usize {
    let usable = |&index: &usize| available[index] && Some(index) != last;
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
    fn sticky_moves_on_and_avoids_partitions_without_a_leader() {
        for _ in 0..100 {
            assert_eq!(next_sticky(Some(0), &[true, false, true]), 2);
        }
        assert_eq!(next_sticky(Some(0), &[true]), 0);
        assert_eq!(next_sticky(None, &[false, false]), 0);
    }
}
