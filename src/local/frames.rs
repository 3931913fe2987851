//! Requests off the socket, within bounds: a frame is read once there is room for what it may take decoded.

use super::limits::{
    DECODED_BYTES, LONGEST_PRODUCE, LONGEST_REQUEST, LONGEST_TRANSFER, MOST_PRODUCED, MOST_REQUEST_BYTES,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Key, version and correlation ID, which stand first in every request.
const SHORTEST_REQUEST: usize = 8;

/// The room for all requests in work.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_REQUEST_BYTES)))
    }
}

impl Room {
    /// Reads the next request, without its length; `None` when the client has closed the connection.
    ///
    /// # Errors
    /// It is too long or too short, or comes too slowly.
    pub(super) async fn read(
        &self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<(Bytes, OwnedSemaphorePermit)>, String> {
        let Ok(len) = socket.read_i32().await else { return Ok(None) };
        let Ok(key) = socket.read_i16().await else { return Ok(None) };
        let is_produce = key == ApiKey::Produce as i16;
        let longest = if is_produce { LONGEST_PRODUCE } else { LONGEST_REQUEST };
        let len = usize::try_from(len).ok().filter(|len| (SHORTEST_REQUEST..=longest).contains(len));
        let len = len.ok_or_else(|| format!("a request that is not {SHORTEST_REQUEST} to {longest} bytes long"))?;
        // The records of a produce request stay as they are; what is around them is decoded.
        let decoded = DECODED_BYTES * if is_produce { len.min(MOST_PRODUCED) } else { len };
        let weight = if is_produce { len + decoded } else { decoded };
        let permit = self.0.clone().acquire_many_owned(weight as u32).await.map_err(|e| e.to_string())?;
        let mut frame = BytesMut::with_capacity(len);
        frame.put_i16(key);
        let read = async {
            while frame.len() < len {
                let missing = len - frame.len();
                if socket.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(LONGEST_TRANSFER, read).await {
            Ok(Ok(())) => Ok(Some((frame.freeze(), permit))),
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(format!("a request that took more than {} s to arrive", LONGEST_TRANSFER.as_secs())),
        }
    }
}

/// Checks that a produce request names no more topics and partitions than [`MOST_PRODUCED`]: walks over it without
/// decoding it.
///
/// # Errors
/// It names more, or is malformed.
pub(super) fn check_produce(body: &Bytes, version: i16) -> Result<(), String> {
    let walked = ProduceWalk { left: body, is_flexible: version >= 9, names_ids: version >= 13 }.walk();
    match walked {
        Some(count) if count <= MOST_PRODUCED => Ok(()),
        Some(_) => Err(format!("a produce request of more than {MOST_PRODUCED} partitions")),
        None => Err("a malformed produce request".to_owned()),
    }
}

struct ProduceWalk<'a> {
    left: &'a [u8],
    /// Whether lengths are varints, and structures end with tagged fields (KIP-482).
    is_flexible: bool,
    names_ids: bool,
}

impl ProduceWalk<'_> {
    /// How many topics and partitions there are; `None` if it is malformed.
    fn walk(mut self) -> Option<usize> {
        self.skip_string()?; // transactional ID
        self.skip(6)?; // acks, timeout
        let topics = self.count()?;
        let mut total = topics;
        for _ in 0..topics {
            if self.names_ids {
                self.skip(16)?
            } else {
                self.skip_string()?
            };
            let partitions = self.count()?;
            total = total.checked_add(partitions)?;
            if total > MOST_PRODUCED {
                return Some(total);
            }
            for _ in 0..partitions {
                self.skip(4)?;
                let records = if self.is_flexible { self.varint()?.saturating_sub(1) } else { self.nullable_i32()? };
                self.skip(records)?;
                self.skip_tags()?;
            }
            self.skip_tags()?;
        }
        Some(total)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.left = self.left.get(count..)?;
        Some(())
    }

    fn count(&mut self) -> Option<usize> {
        if self.is_flexible { Some(self.varint()?.saturating_sub(1)) } else { self.nullable_i32() }
    }

    fn nullable_i32(&mut self) -> Option<usize> {
        usize::try_from(self.left.try_get_i32().ok()?.max(0)).ok()
    }

    fn skip_string(&mut self) -> Option<()> {
        let len = if self.is_flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.left.try_get_i16().ok()?.max(0)).ok()?
        };
        self.skip(len)
    }

    fn skip_tags(&mut self) -> Option<()> {
        let tags = if self.is_flexible { self.varint()? } else { 0 };
        for _ in 0..tags {
            self.varint()?;
            let len = self.varint()?;
            self.skip(len)?;
        }
        Some(())
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = self.left.try_get_u8().ok()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::{Encodable, Message, StrBytes};
    use proptest::prelude::*;

    fn encoded(topics: usize, partitions: usize, records: &'static [u8], version: i16) -> Bytes {
        let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(records)));
        let topic = TopicProduceData::default().with_partition_data(vec![data; partitions]);
        let topic = if version >= 13 { topic } else { topic.with_name(StrBytes::from_static_str("t").into()) };
        let request = ProduceRequest::default().with_topic_data(vec![topic; topics]);
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    proptest! {
        #[test]
        fn a_produce_request_is_walked_in_every_version(
            topics in 0usize..4, partitions in 0usize..4, version in ProduceRequest::VERSIONS.min..=13
        ) {
            let bytes = encoded(topics, partitions, b"some records", version);
            let walk = ProduceWalk { left: &bytes, is_flexible: version >= 9, names_ids: version >= 13 };
            prop_assert_eq!(walk.walk(), Some(topics + topics * partitions));
        }

        #[test]
        fn any_bytes_are_walked(bytes: Vec<u8>, version in 3i16..14) {
            let _ = check_produce(&bytes.into(), version);
        }
    }

    #[test]
    fn a_produce_request_of_too_many_partitions_is_refused() {
        for version in [3, 9, 13] {
            assert_eq!(check_produce(&encoded(1, 1000, b"", version), version), Ok(()));
            assert!(check_produce(&encoded(2, MOST_PRODUCED / 2, b"", version), version).is_err());
        }
    }
}
