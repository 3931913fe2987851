//! The record that all modules share: borrowed, never copied on the way.
//!
//! Both directions share it: `input` lends records that point into a chunk of stdin, `engine` lends
//! records that point into a fetched batch. This module uses no other.

mod batch;
mod compression;
mod partition;
pub mod varint;

pub(crate) use batch::encode;
pub use batch::{Batch, Malformed, Records};
pub use compression::{Codec, Compression};
pub use partition::{BrokerId, LeaderEpoch, Node, Position, TopicPartition, by_topic, partitions_by_topic};

/// Kafka's number of a partition within its topic.
pub type PartitionId = i32;

/// A record's place in its partition.
pub type Offset = i64;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Timestamp = i64;

/// Which records of transactions are shown (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, aborted and open ones too.
    Uncommitted,
    /// Those of committed transactions, and those of none.
    #[default]
    Committed,
}

/// The time now.
pub fn now() -> Timestamp {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as Timestamp)
}

/// Who set a record's timestamp (`message.timestamp.type`, KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer, when it made the record.
    #[default]
    Create,
    /// The broker, when it appended the record.
    Append,
}

/// A record, lent. `None` in `key` or `value` is Kafka's null, which differs from empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordRef<'a> {
    /// Its offset; meaningless on the way in.
    pub offset: Offset,
    /// `None`: the engine cannot know it (out), or "when it was read" (in).
    pub timestamp: Option<Timestamp>,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers, in order, repeats kept.
    pub headers: Headers<'a>,
}

/// A record's headers, kept as the record batch v2 format writes them, so that neither direction
/// allocates: a header-less record is a zero, and a fixed set of headers is encoded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// One header: a name and a value, which may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name; Kafka says UTF-8, a careless producer may say otherwise.
    pub key: &'a [u8],
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// `bytes` holds `count` headers, encoded as in a v2 record; [`Headers::iter`] ends early where it does not.
    pub(crate) const fn encoded(count: u32, bytes: &'a [u8]) -> Self {
        Self { count, bytes }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded headers, without their count.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The last header with this key, which counts where several have it.
    pub fn last(&self, key: &[u8]) -> Option<Header<'a>> {
        self.iter().filter(|header| header.key == key).last()
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| {
            let key = varint::read_bytes(&mut rest)??;
            let value = varint::read_bytes(&mut rest)?;
            Some(Header { key, value })
        })
    }
}

/// Headers being put together; owns their encoding.
#[derive(Debug, Clone, Default)]
pub struct HeaderBuf {
    count: u32,
    bytes: Vec<u8>,
}

impl HeaderBuf {
    /// Adds one at the end.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.count += 1;
        varint::write_bytes(&mut self.bytes, Some(key));
        varint::write_bytes(&mut self.bytes, value);
    }

    /// Adds all of `headers` at the end.
    pub fn extend(&mut self, headers: Headers<'_>) {
        self.count += headers.count;
        self.bytes.extend_from_slice(headers.bytes);
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Lends them.
    pub fn as_headers(&self) -> Headers<'_> {
        Headers { count: self.count, bytes: &self.bytes }
    }
}
