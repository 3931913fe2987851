//! Message sets v0 and v1 (before KIP-98), as older segments still hold them and brokers down to 0.8 wrote
//! them, brought into the form of a v2 batch. Rare, so each record is copied.

use super::{Codec, Corrupt, Damage, Decoder};
use crate::record::{Batch, Headers, Offset, RecordRef, TimestampType, encode};
use bytes::{Buf, BytesMut};

/// Set in a v1 message's attributes when the broker set the timestamp (KIP-32).
const APPEND_TIME: u8 = 1 << 3;

struct Message<'a> {
    offset: Offset,
    magic: u8,
    attributes: u8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// Decodes one outer message: a record, or a compressed set of them.
pub(super) fn decode(decoder: &Decoder, bytes: &[u8]) -> Result<Batch, Corrupt> {
    let outer = parse(bytes)?;
    let codec = Codec::from_attributes(i16::from(outer.attributes))
        .ok_or_else(|| Corrupt::malformed(outer.offset, "an unknown compression codec"))?;
    let append = outer.attributes & APPEND_TIME != 0 && outer.magic == 1;
    let unpacked = if codec == Codec::None { Vec::new() } else { unpack(decoder, &outer, codec)? };
    let shift = shift(&outer, &unpacked)?;
    let mut records = BytesMut::with_capacity(unpacked.len().max(bytes.len()));
    let mut count = 0;
    let mut base_offset = None;
    let mut take = |message: &Message<'_>, offset: Offset| -> Result<(), Corrupt> {
        if offset < decoder.from {
            return Ok(());
        }
        let base = *base_offset.get_or_insert(offset);
        let record =
            RecordRef { offset, timestamp: None, key: message.key, value: message.value, headers: Headers::default() };
        let delta = i32::try_from(offset.wrapping_sub(base))
            .map_err(|_| Corrupt::malformed(base, "inner offsets too far apart"))?;
        encode(&mut records, &record, message.timestamp.wrapping_sub(outer.timestamp), delta);
        count += 1;
        Ok(())
    };
    if codec == Codec::None {
        take(&outer, outer.offset)?;
    }
    let mut rest = &unpacked[..];
    while let Some(inner) = cut(&mut rest, outer.offset)? {
        let message = parse(inner)?;
        take(&message, message.offset.wrapping_add(shift))?;
    }
    Ok(Batch {
        topic: decoder.topic.clone(),
        partition: decoder.partition,
        base_offset: base_offset.unwrap_or(outer.offset),
        base_timestamp: (outer.magic == 1).then_some(outer.timestamp),
        timestamp_type: if append { TimestampType::Append } else { TimestampType::Create },
        nulls_known: true,
        leader_epoch: -1,
        from: decoder.from,
        until: decoder.until,
        next_offset: outer.offset.wrapping_add(1).min(decoder.until),
        count,
        records: records.freeze(),
    })
}

fn unpack(decoder: &Decoder, outer: &Message<'_>, codec: Codec) -> Result<Vec<u8>, Corrupt> {
    let mut packed = outer.value.unwrap_or_default().to_vec();
    if codec == Codec::Lz4 && outer.magic == 0 {
        mend_lz4_header(&mut packed);
    }
    codec.decompress_within(&packed, decoder.max_unpacked).map_err(|source| Corrupt {
        base_offset: outer.offset,
        damage: Damage::Compression { codec: codec.name(), source },
    })
}

/// What is added to inner offsets: since v1 they count from 0 and the outer one is the last's (KIP-31); in v0 they are
/// absolute.
fn shift(outer: &Message<'_>, unpacked: &[u8]) -> Result<Offset, Corrupt> {
    let (mut rest, mut last) = (unpacked, None);
    while let Some(inner) = cut(&mut rest, outer.offset)? {
        last = Some((&inner[..]).get_i64());
    }
    Ok(last.filter(|_| outer.magic == 1).map_or(0, |last| outer.offset.wrapping_sub(last)))
}

/// Takes an inner message off the front.
fn cut<'a>(rest: &mut &'a [u8], outer: Offset) -> Result<Option<&'a [u8]>, Corrupt> {
    if rest.is_empty() {
        return Ok(None);
    }
    let len = rest.get(8..12).map(|mut len| len.get_i32()).and_then(|len| usize::try_from(len).ok());
    let Some((one, after)) = len.and_then(|len| rest.split_at_checked(len.checked_add(12)?)) else {
        return Err(Corrupt::malformed(outer, "an inner message cut short"));
    };
    *rest = after;
    Ok(Some(one))
}

fn parse(bytes: &[u8]) -> Result<Message<'_>, Corrupt> {
    let mut rest = bytes;
    let offset = rest.try_get_i64().unwrap_or(-1);
    let malformed = |what| Corrupt::malformed(offset, what);
    let short = |_| malformed("a message cut short");
    rest.try_get_i32().map_err(short)?; // length: known to fit
    let crc = rest.try_get_u32().map_err(short)?;
    if crc32fast::hash(rest) != crc {
        return Err(malformed("it fails its CRC-32 check"));
    }
    let magic = rest.try_get_u8().map_err(short)?;
    let attributes = rest.try_get_u8().map_err(short)?;
    let timestamp = match magic {
        0 => -1,
        1 => rest.try_get_i64().map_err(short)?,
        magic => return Err(Corrupt { base_offset: offset, damage: Damage::Magic(magic) }),
    };
    let mut field = || -> Result<Option<&[u8]>, Corrupt> {
        let len = rest.try_get_i32().map_err(short)?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| malformed("a negative length"))?;
        let (bytes, after) = rest.split_at_checked(len).ok_or_else(|| malformed("a message cut short"))?;
        rest = after;
        Ok(Some(bytes))
    };
    let key = field()?;
    let value = field()?;
    Ok(Message { offset, magic, attributes, timestamp, key, value })
}

/// Clients before 0.10 computed the frame's header checksum over the magic too (KIP-57).
fn mend_lz4_header(frame: &mut [u8]) {
    let Some(&flags) = frame.get(4) else { return };
    let end = if flags & 0b1000 != 0 { 14 } else { 6 };
    if frame.len() > end {
        frame[end] = (twox_hash::XxHash32::oneshot(0, &frame[4..end]) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, Isolation, batches};
    use super::*;

    fn message(offset: i64, magic: u8, attributes: u8, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![magic, attributes];
        if magic == 1 {
            body.extend_from_slice(&(1000 + offset).to_be_bytes());
        }
        for field in [key, value] {
            body.extend_from_slice(&field.map_or(-1, |f| f.len() as i32).to_be_bytes());
            body.extend_from_slice(field.unwrap_or_default());
        }
        let mut out = offset.to_be_bytes().to_vec();
        out.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    type Owned = (i64, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);

    fn decoder(from: Offset) -> Decoder {
        Decoder {
            topic: "t".into(),
            partition: 0,
            from,
            until: i64::MAX,
            isolation: Isolation::Committed,
            aborted: Vec::new(),
            max_unpacked: usize::MAX,
        }
    }

    fn read(set: Vec<u8>, from: Offset) -> Vec<Owned> {
        let (batches, corrupt) = decoder(from).decode(batches(set.into()).unwrap());
        assert!(corrupt.is_none(), "{corrupt:?}");
        let records = batches.iter().flat_map(Batch::records).map(Result::unwrap);
        records.map(|r| (r.offset, r.timestamp, r.key.map(Into::into), r.value.map(Into::into))).collect()
    }

    #[test]
    fn plain_messages_are_read_from_the_offset_asked_for() {
        let set = [
            message(5, 0, 0, None, Some(b"old")),
            message(6, 1, 0, Some(b"k"), None),
            message(7, 1, 0, Some(b""), Some(b"")),
        ];
        let expected =
            [(6, Some(1006), Some(b"k".to_vec()), None), (7, Some(1007), Some(b"".to_vec()), Some(b"".to_vec()))];
        assert_eq!(read(set.concat(), 6), expected);
    }

    #[test]
    fn wrapped_messages_are_read_with_absolute_and_relative_offsets() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4] {
            for magic in [0, 1] {
                let base = if magic == 0 { 10 } else { 0 };
                let inner: Vec<u8> = (0..3).flat_map(|n| message(base + n, magic, 0, None, Some(&[n as u8]))).collect();
                let mut packed = Compression { codec, level: None }.compress(&inner).unwrap();
                if codec == Codec::Lz4 && magic == 0 {
                    packed[6] ^= 0xff; // as clients before 0.10 wrote it
                }
                let read = read(message(12, magic, codec as u8, None, Some(&packed)), 0);
                let offsets: Vec<_> = read.iter().map(|r| (r.0, r.3.clone().unwrap()[0])).collect();
                assert_eq!(offsets, [(10, 0), (11, 1), (12, 2)], "{codec:?} v{magic}");
            }
        }
    }

    #[test]
    fn a_wrapper_that_unpacks_to_too_much_is_corrupt() {
        for (codec, magic) in [(Codec::Gzip, 0), (Codec::Snappy, 1), (Codec::Lz4, 1)] {
            let inner = message(0, magic, 0, None, Some(&vec![0; 4 << 20]));
            let packed = Compression { codec, level: None }.compress(&inner).unwrap();
            let set = message(12, magic, codec as u8, None, Some(&packed));
            let decoder = Decoder { max_unpacked: 1 << 20, ..decoder(0) };
            let (batches, corrupt) = decoder.decode(batches(set.into()).unwrap());
            assert!(batches.is_empty());
            assert!(matches!(corrupt.unwrap().damage, Damage::Compression { .. }), "{codec:?}");
        }
    }
}
