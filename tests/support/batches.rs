//! Changes record batches and other bytes in answers.

use bytes::{Bytes, BytesMut};

/// The part of a batch that its checksum covers begins here.
const CRC_FROM: usize = 21;
const HEADER: usize = 61;

/// Changes `bytes` at random, as record batches where they are some; returns them, and what was done.
pub fn mutate(bytes: &Bytes, is_records: bool, random: &mut fastrand::Rng) -> (Bytes, &'static str) {
    if bytes.is_empty() {
        return (Bytes::from(vec![0; random.usize(1..100)]), "filled");
    }
    let mut changed = BytesMut::from(&bytes[..]);
    let kind = match random.u8(..if is_records && bytes.len() > HEADER { 9 } else { 3 }) {
        0 => {
            let at = random.usize(..changed.len());
            changed[at] ^= 1 << random.u8(..8);
            "byte flipped"
        }
        1 => {
            changed.truncate(random.usize(..changed.len()));
            "cut"
        }
        2 => {
            changed.extend_from_slice(bytes);
            "repeated"
        }
        3 => {
            let mut all = split(bytes);
            all.reverse();
            changed = BytesMut::from(&all.concat()[..]);
            "batches reversed"
        }
        // From here on the checksum is right.
        4 => {
            put_i32(&mut changed, 57, |count| count.saturating_sub(1));
            "record count lowered"
        }
        5 => {
            put_i32(&mut changed, 57, |count| count.saturating_mul(1000).saturating_add(1));
            "record count raised"
        }
        6 => {
            put_i32(&mut changed, 23, |delta| delta - 1);
            "last offset delta lowered"
        }
        7 => {
            changed[CRC_FROM + 1] ^= random.u8(1..8);
            "codec changed"
        }
        _ => {
            let offset = random.i64(..);
            changed[..8].copy_from_slice(&offset.to_be_bytes());
            "base offset changed"
        }
    };
    let len = first_len(&changed);
    if let Some(batch) = changed
        .get_mut(..len)
        .filter(|batch| batch.len() > HEADER && bytes.len() > HEADER && kind.contains(' ') && kind != "byte flipped")
    {
        let checksum = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    (changed.freeze(), kind)
}

fn put_i32(bytes: &mut BytesMut, at: usize, change: impl Fn(i32) -> i32) {
    let Some(field) = bytes.get_mut(at..at + 4) else { return };
    let value = change(i32::from_be_bytes(field.try_into().unwrap()));
    field.copy_from_slice(&value.to_be_bytes());
}

/// The length of the first batch.
fn first_len(bytes: &[u8]) -> usize {
    let len = bytes.get(8..12).map_or(0, |len| i32::from_be_bytes(len.try_into().unwrap()));
    usize::try_from(len).map_or(0, |len| (len + 12).min(bytes.len()))
}

fn split(bytes: &Bytes) -> Vec<Bytes> {
    let (mut all, mut rest) = (Vec::new(), bytes.clone());
    while rest.len() > 12 {
        let len = first_len(&rest).max(13).min(rest.len());
        all.push(rest.split_to(len));
    }
    all
}
