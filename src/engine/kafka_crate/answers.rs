//! Version 0 of the answers that the `kafka` crate reads, checked and written again: counts fit their frame, partitions
//! are numbered from 0 on, brokers have addresses, which become those of the relay, and message sets are unpacked and
//! ordered, so that the crate neither unpacks nor believes anything.
//! <https://kafka.apache.org/protocol#protocol_messages>

use crate::engine::native::wire::{Decoder, Isolation, batches};
use crate::error::{Error, Result, error_code};
use crate::record::{Node, RecordRef, TopicPartition};
use bytes::{BufMut, Bytes};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::ApiKey;
use std::collections::BTreeSet;

/// What an answer is, and how far it is believed.
pub struct Rewrite<'a> {
    pub node: &'a Node,
    pub api: ApiKey,
    /// How many bytes one compressed message may unpack to.
    pub max_unpacked: usize,
    /// How long the answer may become.
    pub longest: usize,
    /// Is told of each topic in an answer to Metadata with its error, or that of its first partition without a leader:
    /// the crate leaves both out.
    pub on_topic: OnTopic<'a>,
}

/// Is told of a topic's error.
pub type OnTopic<'a> = &'a dyn Fn(&str, Option<E>);

/// Finds the address on loopback that leads to a broker.
pub type Address<'a> = &'a dyn Fn(&str) -> Result<String>;

/// A field of an answer.
enum Field {
    /// A number of so many bytes.
    Number(usize),
    Text,
    Array(&'static [Field]),
}

use Field::{Array, Number, Text};

const PRODUCE: &[Field] = &[Array(&[Text, Array(&[Number(4), Number(2), Number(8)])])];
const LIST_OFFSETS: &[Field] = &[Array(&[Text, Array(&[Number(4), Number(2), Array(&[Number(8)])])])];
const OFFSET_FETCH: &[Field] = &[Array(&[Text, Array(&[Number(4), Number(8), Text, Number(2)])])];

impl Field {
    /// The least bytes that it takes.
    fn least(&self) -> usize {
        match self {
            Number(size) => *size,
            Text => 2,
            Array(_) => 4,
        }
    }
}

/// The answer as the crate is given it, without the length before it.
///
/// # Errors
/// It is malformed or too large, or a record in it is corrupt.
pub fn rewrite(answer: &[u8], how: &Rewrite<'_>, address: Address<'_>) -> Result<Vec<u8>> {
    let mut answer = Answer { rest: answer, how, out: Vec::with_capacity(answer.len()) };
    answer.copy(&[Number(4)])?; // the correlation id
    match how.api {
        ApiKey::Produce => answer.copy(PRODUCE)?,
        ApiKey::ListOffsets => answer.copy(LIST_OFFSETS)?,
        ApiKey::OffsetCommit => answer.commits()?,
        ApiKey::OffsetFetch => answer.copy(OFFSET_FETCH)?,
        ApiKey::Metadata => answer.metadata(address)?,
        ApiKey::FindCoordinator => answer.coordinator(address)?,
        ApiKey::Fetch => answer.fetched()?,
        _ => return Err(answer.malformed("the kafka crate sends no such request")),
    }
    if !answer.rest.is_empty() {
        return Err(answer.malformed("bytes are left over"));
    }
    Ok(answer.out)
}

struct Answer<'a> {
    rest: &'a [u8],
    how: &'a Rewrite<'a>,
    out: Vec<u8>,
}

impl<'a> Answer<'a> {
    fn malformed(&self, why: impl ToString) -> Error {
        Error::Malformed { node: self.how.node.clone(), api: self.how.api, why: why.to_string() }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(|| self.malformed("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number<const SIZE: usize>(&mut self) -> Result<[u8; SIZE]> {
        let taken = self.take(SIZE)?.first_chunk().copied();
        taken.ok_or_else(|| self.malformed("it is cut short"))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.number()?))
    }

    /// A text; null is an empty one, as the crate has it.
    fn text(&mut self) -> Result<&'a str> {
        let len = usize::try_from(i16::from_be_bytes(self.number()?)).unwrap_or(0);
        std::str::from_utf8(self.take(len)?).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    /// The number of an array's elements, each of which takes at least `least` bytes.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = usize::try_from(self.i32()?).unwrap_or(0);
        if count > self.rest.len() / least.max(1) {
            return Err(self.malformed("a count is larger than the rest of the answer"));
        }
        self.out.put_i32(count as i32);
        Ok(count)
    }

    /// Copies an error code.
    fn error(&mut self) -> Result<Option<E>> {
        let code = i16::from_be_bytes(self.number()?);
        self.out.put_i16(code);
        Ok(error_code(code))
    }

    fn put_text(&mut self, text: &str) {
        self.out.put_i16(text.len() as i16);
        self.out.put_slice(text.as_bytes());
    }

    fn copy(&mut self, fields: &[Field]) -> Result<()> {
        for field in fields {
            match field {
                Number(size) => {
                    let number = self.take(*size)?;
                    self.out.put_slice(number);
                }
                Text => {
                    let text = self.text()?;
                    self.put_text(text);
                }
                Array(of) => {
                    for _ in 0..self.count(of.iter().map(Field::least).sum())? {
                        self.copy(of)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A broker, as the relay has it.
    fn broker(&mut self, id: i32, address: Address<'_>) -> Result<()> {
        let (host, port) = (self.text()?, self.i32()?);
        if !Node::can_be(id, host, port) {
            return Err(self.malformed(format_args!("broker {id} at {host:?}, port {port}, cannot be")));
        }
        let relayed = address(&format!("{host}:{port}"))?;
        let (host, port) = relayed.rsplit_once(':').unwrap_or((&relayed, ""));
        self.out.put_i32(id);
        self.put_text(host);
        self.out.put_i32(port.parse().unwrap_or(0));
        Ok(())
    }

    fn metadata(&mut self, address: Address<'_>) -> Result<()> {
        let mut ids = BTreeSet::new();
        for _ in 0..self.count(10)? {
            let id = self.i32()?;
            if !ids.insert(id) {
                return Err(self.malformed(format_args!("broker {id} is there twice")));
            }
            self.broker(id, address)?;
        }
        for _ in 0..self.count(8)? {
            let mut error = self.error()?;
            let topic = self.text()?;
            self.put_text(topic);
            let count = self.count(18)?;
            let mut indexes = BTreeSet::new();
            for _ in 0..count {
                let of_partition = self.error()?;
                let index = self.i32()?;
                if usize::try_from(index).is_ok_and(|index| index < count) && indexes.insert(index) {
                    self.out.put_i32(index);
                } else {
                    let why = format!("the partitions of topic {topic} are not numbered from 0 on");
                    return Err(self.malformed(why));
                }
                let leader = self.i32()?;
                self.out.put_i32(leader);
                if leader < 0 {
                    error = error.or(of_partition);
                }
                self.copy(&[Array(&[Number(4)]), Array(&[Number(4)])])?;
            }
            (self.how.on_topic)(topic, error);
        }
        Ok(())
    }

    fn coordinator(&mut self, address: Address<'_>) -> Result<()> {
        let code: [u8; 2] = self.number()?;
        self.out.put_slice(&code);
        if i16::from_be_bytes(code) != 0 {
            return self.copy(&[Number(4), Text, Number(4)]);
        }
        let id = self.i32()?;
        self.broker(id, address)
    }

    /// The crate retries a commit without end, at last without a wait, when the coordinator loads or has moved: it gets
    /// another error, and kpipe looks for the coordinator itself.
    fn commits(&mut self) -> Result<()> {
        for _ in 0..self.count(6)? {
            self.copy(&[Text])?;
            for _ in 0..self.count(6)? {
                self.copy(&[Number(4)])?;
                let code = i16::from_be_bytes(self.number()?);
                let is_endless = [E::CoordinatorLoadInProgress.code(), E::NotCoordinator.code()].contains(&code);
                self.out.put_i16(if is_endless { E::CoordinatorNotAvailable.code() } else { code });
            }
        }
        Ok(())
    }

    fn fetched(&mut self) -> Result<()> {
        for _ in 0..self.count(6)? {
            let topic = self.text()?;
            self.put_text(topic);
            for _ in 0..self.count(18)? {
                let partition = self.i32()?;
                self.out.put_i32(partition);
                self.copy(&[Number(2), Number(8)])?;
                let len = usize::try_from(self.i32()?).unwrap_or(0);
                let set = self.take(len)?;
                self.messages(&TopicPartition::new(topic, partition), set)?;
            }
        }
        Ok(())
    }

    /// A message set, unpacked, in version 0.
    fn messages(&mut self, of: &TopicPartition, set: &[u8]) -> Result<()> {
        let corrupt = |offset, why: String| Error::Corrupt { partition: of.clone(), offset, why };
        let raw = batches(Bytes::copy_from_slice(set)).map_err(|e| corrupt(e.base_offset, e.to_string()))?;
        let decoder = Decoder {
            topic: of.topic.clone(),
            partition: of.partition,
            from: 0,
            until: i64::MAX,
            isolation: Isolation::Uncommitted,
            aborted: Vec::new(),
            max_unpacked: self.how.max_unpacked,
        };
        let start = self.out.len();
        self.out.put_i32(0);
        let mut next = 0;
        for batch in decoder.batches(raw) {
            let batch = batch.map_err(|e| corrupt(e.base_offset, e.to_string()))?;
            for record in batch.records() {
                let record = record.map_err(|e| corrupt(e.base_offset, e.to_string()))?;
                if record.offset < next {
                    continue; // it was there before: offsets only advance
                }
                next = record.offset.saturating_add(1);
                put_message(&mut self.out, &record);
                if self.out.len() > self.how.longest {
                    let why = format!("it decompresses to more than {} bytes", self.how.longest);
                    return Err(self.malformed(why));
                }
            }
        }
        let len = (self.out.len() - start - 4) as i32;
        self.out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }
}

/// A message of version 0.
fn put_message(out: &mut Vec<u8>, record: &RecordRef<'_>) {
    out.put_i64(record.offset);
    let start = out.len();
    out.put_i64(0); // its length and checksum, once they are known
    out.put_i16(0); // version 0, not compressed
    for field in [record.key, record.value] {
        out.put_i32(field.map_or(-1, |bytes| bytes.len() as i32));
        out.put_slice(field.unwrap_or_default());
    }
    let (len, checksum) = ((out.len() - start - 4) as i32, crc32fast::hash(&out[start + 8..]));
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::native::wire::{Codec, Compression};
    use proptest::prelude::*;

    const APIS: [ApiKey; 7] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::FindCoordinator,
    ];

    fn rewritten(api: ApiKey, answer: &[u8]) -> Result<Vec<u8>> {
        let how = Rewrite {
            node: &Node::bootstrap("b:1"),
            api,
            max_unpacked: 100_000,
            longest: 1 << 20,
            on_topic: &|_, _| {},
        };
        rewrite(answer, &how, &|_| Ok("127.0.0.1:7".to_owned()))
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        out.put_i16(text.len() as i16);
        out.put_slice(text.as_bytes());
    }

    /// Metadata of one broker and a topic with these partitions.
    fn metadata(indexes: &[i32]) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5];
        text(&mut out, "broker.example");
        out.put_i32(9092);
        out.put_i32(1);
        out.put_i16(0);
        text(&mut out, "t");
        out.put_i32(indexes.len() as i32);
        for index in indexes {
            out.put_i16(0);
            [*index, 5, 1, 5, 1, 5].into_iter().for_each(|number| out.put_i32(number));
        }
        out
    }

    fn fetched(set: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 9, 0, 0, 0, 1];
        text(&mut out, "t");
        out.put_i32(1);
        out.put_i32(0);
        out.put_i16(0);
        out.put_i64(9);
        out.put_i32(set.len() as i32);
        out.put_slice(set);
        out
    }

    fn message(offset: i64, attributes: u8, value: &[u8]) -> Vec<u8> {
        let mut body = vec![0, attributes, 0xff, 0xff, 0xff, 0xff];
        body.put_i32(value.len() as i32);
        body.put_slice(value);
        let mut out = Vec::new();
        out.put_i64(offset);
        out.put_i32(body.len() as i32 + 4);
        out.put_u32(crc32fast::hash(&body));
        out.put_slice(&body);
        out
    }

    #[test]
    fn brokers_are_found_through_the_relay() {
        let out = rewritten(ApiKey::Metadata, &metadata(&[1, 0])).unwrap();
        let mut expected = vec![0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5];
        text(&mut expected, "127.0.0.1");
        expected.put_i32(7);
        assert!(out.starts_with(&expected), "{out:?}");
        assert_eq!(out[expected.len()..], metadata(&[1, 0])[32..]);
    }

    #[test]
    fn partitions_that_are_not_numbered_from_0_on_are_refused() {
        for indexes in [&[1][..], &[0, 0], &[-1], &[i32::MAX]] {
            let error = rewritten(ApiKey::Metadata, &metadata(indexes)).unwrap_err();
            assert!(error.to_string().contains("numbered from 0"), "{error}");
        }
    }

    #[test]
    fn a_count_beyond_the_frame_is_refused() {
        for api in [ApiKey::Produce, ApiKey::Fetch, ApiKey::ListOffsets, ApiKey::Metadata, ApiKey::OffsetFetch] {
            let answer = [&[0, 0, 0, 9][..], &i32::MAX.to_be_bytes(), &[0; 16]].concat();
            let error = rewritten(api, &answer).unwrap_err();
            assert!(error.to_string().contains("count"), "{api:?}: {error}");
        }
    }

    #[test]
    fn message_sets_are_unpacked_and_ordered() {
        let plain = fetched(&[message(3, 0, b"a"), message(4, 0, b"b")].concat());
        assert_eq!(rewritten(ApiKey::Fetch, &plain).unwrap(), plain);
        for codec in [Codec::Gzip, Codec::Snappy] {
            let inner = [message(3, 0, b"a"), message(4, 0, b"b")].concat();
            let packed = Compression { codec, level: None }.compress(&inner).unwrap();
            assert_eq!(rewritten(ApiKey::Fetch, &fetched(&message(4, codec as u8, &packed))).unwrap(), plain);
        }
        let repeated = [message(3, 0, b"a"), message(4, 0, b"b"), message(3, 0, b"a"), message(4, 0, b"b")].concat();
        assert_eq!(rewritten(ApiKey::Fetch, &fetched(&repeated)).unwrap(), plain);
    }

    #[test]
    fn damaged_and_boundless_messages_are_refused() {
        let snappy = |value: &[u8]| fetched(&message(4, Codec::Snappy as u8, value));
        for value in [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x05\xff\xff\xff\xff\x0f"[..], b"\x82SNAPPY\0", b"\xff"]
        {
            assert!(matches!(rewritten(ApiKey::Fetch, &snappy(value)), Err(Error::Corrupt { offset: 4, .. })));
        }
        let zeros = Compression { codec: Codec::Gzip, level: None }.compress(&vec![0; 1 << 20]).unwrap();
        let error = rewritten(ApiKey::Fetch, &fetched(&message(4, Codec::Gzip as u8, &zeros))).unwrap_err();
        assert!(error.to_string().contains("decompresses to more"), "{error}");
    }

    #[test]
    fn a_commit_that_the_crate_would_repeat_for_ever_is_refused() {
        let answer = |code| {
            let mut out = vec![0, 0, 0, 9, 0, 0, 0, 1];
            text(&mut out, "t");
            out.put_i32(1);
            out.put_i32(0);
            out.put_i16(code);
            out
        };
        for (code, told) in [(0, 0), (14, 15), (16, 15), (22, 22)] {
            assert_eq!(rewritten(ApiKey::OffsetCommit, &answer(code)).unwrap(), answer(told));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_rewritten_or_refused(bytes: Vec<u8>, which in 0..APIS.len()) {
            let _ = rewritten(APIS[which], &bytes);
        }

        #[test]
        fn a_damaged_answer_is_rewritten_or_refused(at: prop::sample::Index, to: u8) {
            let packed = Compression { codec: Codec::Snappy, level: None }.compress(&message(3, 0, b"a")).unwrap();
            for (api, mut answer) in
                [(ApiKey::Metadata, metadata(&[0, 1])), (ApiKey::Fetch, fetched(&message(4, 2, &packed)))]
            {
                let at = at.index(answer.len());
                answer[at] = to;
                let _ = rewritten(api, &answer);
            }
        }
    }
}
