//! Two decoders of zstd agree. The one that reads what brokers send uses unsafe code: what it accepts, ruzstd, which has
//! none in its decoder, unpacks to the same bytes. Under Miri the cases are few:
//! `MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --lib zstd_agrees`.

use super::{Codec, Compression};
use proptest::prelude::*;
use std::io::Read;

const LIMIT: usize = 4 << 20;

fn unpacked(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    Codec::Zstd.decompress_within(frame, LIMIT)
}

fn unpacked_by_ruzstd(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let decoder = ruzstd::decoding::StreamingDecoder::new(frame).ok()?;
    decoder.take(LIMIT as u64).read_to_end(&mut out).ok()?;
    Some(out)
}

/// Text as compressors like it: words that come again, and bytes that do not.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..30);
    let order = prop::collection::vec(any::<prop::sample::Index>(), 0..if cfg!(miri) { 20 } else { 300 });
    (words, order).prop_map(|(words, order)| order.iter().flat_map(|at| at.get(&words).clone()).collect())
}

/// What is done to a frame.
#[derive(Debug, Clone)]
enum Damage {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, to)| Damage::Set(at, to)),
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
    ]
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        let len = frame.len();
        match self {
            _ if len == 0 => {}
            Self::Set(at, to) => frame[at.index(len)] = *to,
            Self::Flip(at, bit) => frame[at.index(len)] ^= 1 << bit,
            Self::Cut(at) => frame.truncate(at.index(len)),
            Self::Insert(at, byte) => frame.insert(at.index(len), *byte),
            Self::Remove(at) => {
                frame.remove(at.index(len));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 1_000 }))]

    #[test]
    fn both_unpack_what_either_packed(input in input(), level in 1..=9) {
        let packed = Compression { codec: Codec::Zstd, level: Some(level) }.compress(&input)?;
        prop_assert_eq!(unpacked_by_ruzstd(&packed), Some(input.clone()));
        prop_assert_eq!(&unpacked(&packed)?, &input);
        let fastest = ruzstd::encoding::CompressionLevel::Fastest;
        prop_assert_eq!(unpacked(&ruzstd::encoding::compress_to_vec(&input[..], fastest))?, input);
    }

    #[test]
    fn what_a_damaged_frame_unpacks_to_is_the_same(
        input in input(),
        level in 1..=9,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut frame = Compression { codec: Codec::Zstd, level: Some(level) }.compress(&input)?;
        damages.iter().for_each(|damage| damage.apply(&mut frame));
        if let Ok(unpacked) = unpacked(&frame) {
            prop_assert_eq!(unpacked_by_ruzstd(&frame), Some(unpacked));
        }
    }
}
