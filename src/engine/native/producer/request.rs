//! Produce requests in bytes, written by hand: the schemas would copy the batches.
//! <https://kafka.apache.org/protocol#The_Messages_Produce>

use super::super::net::Frame;
use super::super::wire::{ProducerStamp, Sealed, millis};
use crate::engine::Acks;
use crate::record::PartitionId;
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// The last version of Produce that names topics; later ones have ids (KIP-516).
pub(super) const LAST_BY_NAME: i16 = 12;
/// The last version for transactions of version 1; with later ones a batch adds its partition to the transaction
/// (KIP-890).
pub(super) const LAST_WITH_ADDED_PARTITIONS: i16 = 11;
/// The first version of brokers that recognize a repeat among a producer's last five batches; those of Kafka 0.11
/// remember only the last one (KAFKA-5494).
pub(super) const FIRST_WITH_FIVE_REMEMBERED: i16 = 4;
/// The first version in the flexible encoding (KIP-482).
const FIRST_FLEXIBLE: i16 = 9;

/// A batch in a request.
pub(super) struct Entry<'a> {
    pub(super) topic: &'a str,
    pub(super) topic_id: Uuid,
    pub(super) partition: PartitionId,
    pub(super) sealed: Sealed,
    pub(super) stamp: ProducerStamp,
}

/// The request's body. The broker may wait `timeout` for its replicas.
pub(super) fn encode(
    entries: &[Entry<'_>],
    acks: Acks,
    timeout: Duration,
    transactional_id: Option<&str>,
    version: i16,
) -> Frame {
    let flexible = version >= FIRST_FLEXIBLE;
    let mut topics: BTreeMap<&str, Vec<&Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        topics.entry(entry.topic).or_default().push(entry);
    }
    let mut frame = Frame::new();
    let mut out = BytesMut::with_capacity(64 + entries.len() * 80);
    match transactional_id {
        Some(id) => put_string(&mut out, id, flexible),
        None if flexible => out.put_u8(0),
        None => out.put_i16(-1),
    }
    out.put_i16(acks as i16);
    out.put_i32(millis(timeout));
    put_len(&mut out, topics.len(), flexible);
    for (name, entries) in topics {
        if version > LAST_BY_NAME {
            out.put_slice(entries[0].topic_id.as_bytes());
        } else {
            put_string(&mut out, name, flexible);
        }
        put_len(&mut out, entries.len(), flexible);
        for Entry { partition, sealed, stamp, .. } in entries {
            out.put_i32(*partition);
            put_len(&mut out, sealed.len(), flexible);
            out.put_slice(&sealed.header(*stamp));
            frame.push(out.split().freeze());
            frame.push(sealed.records.clone());
            if flexible {
                out.put_u8(0); // no tagged fields of the partition
            }
        }
        if flexible {
            out.put_u8(0); // nor of the topic
        }
    }
    if flexible {
        out.put_u8(0); // nor of the request
    }
    frame.push(out.freeze());
    frame
}

fn put_string(out: &mut BytesMut, text: &str, compact: bool) {
    if compact {
        put_len(out, text.len(), true);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

/// An array's or a byte string's length; compact ones are unsigned varints, plus one (KIP-482).
fn put_len(out: &mut BytesMut, len: usize, compact: bool) {
    if !compact {
        return out.put_i32(len as i32);
    }
    let mut rest = len as u32 + 1;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::BatchBuilder;
    use super::*;
    use crate::record::{Headers, RecordRef};
    use bytes::Bytes;
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::protocol::Decodable;

    #[test]
    fn the_schemas_read_what_is_written() {
        let mut builder = BatchBuilder::default();
        let value = [7; 300];
        let record =
            RecordRef { offset: 0, timestamp: Some(1), key: None, value: Some(&value), headers: Headers::default() };
        builder.append(&record, 0);
        let sealed = builder.seal(BytesMut::new());
        let entry = |topic, partition| Entry {
            topic,
            topic_id: Uuid::from_u128(5),
            partition,
            sealed: sealed.clone(),
            stamp: ProducerStamp::NONE,
        };
        let entries = [entry("b", 0), entry("a", 3), entry("b", 1)];
        for version in 3..=13 {
            for id in [None, Some("tx")] {
                let frame = encode(&entries, Acks::All, Duration::from_secs(5), id, version);
                let mut bytes = Bytes::from(frame.concat());
                let request = ProduceRequest::decode(&mut bytes, version).unwrap();
                assert!(bytes.is_empty(), "v{version}");
                assert_eq!((request.acks, request.timeout_ms), (-1, 5000));
                assert_eq!(request.transactional_id.map(|id| id.to_string()).as_deref(), id);
                let partitions: Vec<i32> =
                    request.topic_data.iter().flat_map(|t| &t.partition_data).map(|p| p.index).collect();
                assert_eq!(partitions, [3, 0, 1]);
                let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
                assert_eq!(records.len(), sealed.len());
            }
        }
    }
}
