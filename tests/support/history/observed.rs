//! A history seen from outside: what processes of kpipe have written, and what kcat finds in the topics.

use super::log::Logged;
use super::{Entry, History, Log, ProducerInfo, Promise, ReaderInfo, RecordId, Told, TransactionEnd};
use crate::support::{json_lines, shell};
use kpipe::record::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

impl History {
    /// Adds a producer that was given the records 0 to `count` and ended, with what `--receipts` wrote of them: a line for
    /// each record, in order.
    pub fn add_receipts(&mut self, producer: u32, promise: Promise, count: u32, receipts: &str) {
        self.producers.insert(producer, ProducerInfo { promise, has_ended: true });
        self.entries.extend((0..count).map(|number| Entry::Appended(RecordId { producer, number })));
        let mut is_whole = true;
        for receipt in json_lines(receipts) {
            let number = receipt["record"].as_u64().expect("a receipt names its record") as u32 - 1;
            let told = match receipt.get("possibly_written").map(|flag| flag == true) {
                None => Told::Written(receipt["offset"].as_i64()),
                Some(true) => Told::PossiblyWritten,
                Some(false) => Told::NotWritten,
            };
            is_whole &= matches!(told, Told::Written(_));
            self.entries.push(Entry::Receipt {
                of: partition_of(&receipt),
                ids: vec![RecordId { producer, number }],
                told,
            });
        }
        if promise == Promise::Transactional && is_whole {
            self.entries.push(Entry::TransactionEnded { producer, end: TransactionEnd::Committed });
        }
    }

    /// Adds a reader with the JSON lines that it wrote; a last one that was cut short was not written. One without a group
    /// began at the first offset of each of `partitions`. When a member of a group gets its partitions is not seen: where
    /// its offsets do not go on by one, it may have got them again.
    pub fn add_reader(&mut self, name: &str, info: ReaderInfo, partitions: &[TopicPartition], output: &str) {
        let reader = || name.to_owned();
        let mut next: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        if info.group.is_none() {
            self.entries.extend(partitions.iter().map(|of| Entry::Begins { reader: reader(), of: of.clone(), at: 0 }));
        }
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        for record in json_lines(whole) {
            let of = partition_of(&record);
            let offset = record["offset"].as_i64().expect("a record has an offset");
            let value = record["value"].as_str().expect("a record has a value");
            let id = RecordId::of(value.as_bytes()).expect("every record names itself");
            if info.group.is_some() && next.get(&of) != Some(&offset) {
                self.entries.push(Entry::Begins { reader: reader(), of: of.clone(), at: offset });
            }
            next.insert(of.clone(), offset + 1);
            self.entries.push(Entry::Wrote { reader: reader(), of, offset, id });
        }
        self.readers.insert(reader(), info);
    }

    /// Adds the logs of some partitions of a topic, as kcat reads them.
    pub fn add_logs(&mut self, bootstrap: &str, partitions: &[TopicPartition], is_transactional: bool) {
        for of in partitions {
            let read = |isolation: &str| -> BTreeMap<Offset, RecordId> {
                let TopicPartition { topic, partition } = of;
                let read = format!("kcat -b {bootstrap} -C -t {topic} -p {partition} -o beginning -e -q");
                let done = shell(&format!("{read} -X isolation.level={isolation} -f '%o %s\\n'"));
                assert_eq!(done.code, 0, "{}", done.stderr);
                let line = |line: &str| {
                    let (offset, value) = line.split_once(' ')?;
                    Some((offset.parse().ok()?, RecordId::of(value.as_bytes())?))
                };
                done.stdout.lines().map(|text| line(text).expect("every record names itself")).collect()
            };
            let committed: BTreeSet<Offset> = read("read_committed").into_keys().collect();
            let all = read("read_uncommitted").into_iter();
            let records = all
                .map(|(offset, id)| (offset, Logged { id, is_visible: committed.contains(&offset), is_transactional }));
            self.logs.insert(of.clone(), Log { records: records.collect(), ..Log::default() });
        }
    }
}

fn partition_of(line: &serde_json::Value) -> TopicPartition {
    let topic = line["topic"].as_str().expect("a line names its topic");
    TopicPartition::new(topic, line["partition"].as_i64().expect("a line names its partition") as i32)
}
