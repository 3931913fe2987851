//! What a fetch's answer means for one partition.

use super::super::mutation::mutated;
use super::super::wire::{RawBatch, batches};
use super::decoding::describe;
use super::positions::Target;
use crate::engine::Isolation;
use crate::error::{Action, Error, ErrorCode, error_code};
use crate::record::{BrokerId, LeaderEpoch, Node, Offset, Position};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};

/// What is to be done about a partition.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Records, perhaps none.
    Fetched(Fetched),
    /// The leader names a nearer replica, and returns nothing.
    Follow(BrokerId),
    /// The position is not in the broker's log.
    OutOfRange,
    /// The leader's log ends here for the epoch of the record read last: what was read after it no longer exists. With the
    /// epoch of the last record that is left.
    Truncated(Position),
    /// Another leader or another moment may mend it.
    Retry(Error),
    /// Nothing mends it.
    Fatal(Error),
}

/// Records of a partition.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) raw: Vec<RawBatch>,
    /// Where they end; `None` when there are none.
    pub(super) next: Option<Position>,
    /// Producers and the first offsets of their aborted transactions.
    pub(super) aborted: Vec<(i64, Offset)>,
    pub(super) high_watermark: Offset,
    /// How many offsets at the position wait for the end of a transaction.
    pub(super) held_back: i64,
}

/// Whether a partition that is answered with `code` may be read later. A corrupt batch stays corrupt: the schemas call
/// that retriable, for a producer. An exception in a broker passes, as it does for the Java client.
pub(super) fn may_pass(code: ResponseError) -> bool {
    match code {
        ResponseError::CorruptMessage => false,
        ResponseError::UnknownServerError => true,
        code => code.is_transient(),
    }
}

/// What `data`, fetched from `node`, means for `target`.
pub(super) fn meaning(target: &Target, node: &Node, isolation: Isolation, data: PartitionData) -> Meaning {
    let malformed = |why: String| {
        Meaning::Retry(Error::Malformed {
            node: node.clone(),
            api: ApiKey::Fetch,
            why: format!("{}: {why}", target.of),
        })
    };
    match error_code(data.error_code) {
        Some(ResponseError::OffsetOutOfRange) => return Meaning::OutOfRange,
        Some(code) if may_pass(code) => {
            return Meaning::Retry(Error::kafka(Action::Fetch, &target.of, code));
        }
        Some(code) => return Meaning::Fatal(Error::kafka(Action::Fetch, &target.of, code)),
        None => {}
    }
    let EpochEndOffset { epoch, end_offset: diverges_at, .. } = data.diverging_epoch;
    // The last epoch that the leader shares with what was read, if it is an older one.
    let left = LeaderEpoch::from_wire(epoch).filter(|epoch| Some(*epoch) <= target.last_epoch);
    if diverges_at >= target.position && left >= target.last_epoch {
        return malformed(format!("its log parts at {diverges_at}, not before position {}", target.position));
    }
    if diverges_at >= 0 {
        // Its log may have other records up to the position and behind it: where they begin is unknown. With the epoch,
        // the next answer reports a further truncation before anything else is read.
        return Meaning::Truncated(Position { offset: diverges_at.min(target.position), leader_epoch: left });
    }
    let records = data.records.unwrap_or_default();
    if let Some(broker) = BrokerId::from_wire(data.preferred_read_replica.0).filter(|_| records.is_empty()) {
        return Meaning::Follow(broker);
    }
    let is_empty = records.is_empty();
    let raw = match batches(records) {
        Ok(raw) => raw,
        Err(corrupt) => return Meaning::Fatal(describe(&target.of, &corrupt)),
    };
    let overlaps = |pair: &[RawBatch]| pair[1].base_offset() < pair[0].next_offset();
    if let Some([_, batch]) = raw.windows(2).find(|pair| overlaps(pair)) {
        return malformed(format!("the batch at {} follows one that ends later", batch.base_offset()));
    }
    let next = raw.iter().fold(None, |next: Option<Position>, batch| {
        let reached = next.map_or(target.position, |next| next.offset);
        let after =
            Position { offset: batch.next_offset(), leader_epoch: LeaderEpoch::from_wire(batch.leader_epoch()) };
        if after.offset > reached { Some(after) } else { next }
    });
    if next.is_none() && !is_empty {
        return malformed(format!("no batch goes beyond position {}", target.position));
    }
    let waits = isolation == Isolation::Committed && next.is_none() && target.position >= data.last_stable_offset;
    Meaning::Fetched(Fetched {
        raw,
        next,
        aborted: data
            .aborted_transactions
            .unwrap_or_default()
            .into_iter()
            .filter(|_| !mutated!(AbortedShown))
            .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
            .collect(),
        high_watermark: data.high_watermark,
        held_back: if waits && data.last_stable_offset >= 0 { data.high_watermark - target.position } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::native::wire::{BatchBuilder, ProducerStamp};
    use crate::record::{RecordRef, TopicPartition};
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::BrokerId as WireBrokerId;
    use uuid::Uuid;

    fn target(position: Offset) -> Target {
        Target {
            of: TopicPartition::new("t", 0),
            topic_id: Uuid::nil(),
            leader_epoch: None,
            position,
            until: Offset::MAX,
            last_epoch: None,
            is_recreated: false,
        }
    }

    /// Three records from `offset` on.
    fn batch(offset: Offset) -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        (0..3).for_each(|_| builder.append(&RecordRef { value: Some(b"v"), ..RecordRef::default() }, 1));
        let sealed = builder.seal(BytesMut::new());
        let mut bytes = [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    }

    fn data(records: Vec<u8>) -> PartitionData {
        PartitionData::default()
            .with_records(Some(Bytes::from(records)))
            .with_high_watermark(100)
            .with_last_stable_offset(100)
            .with_diverging_epoch(EpochEndOffset::default().with_end_offset(-1))
            .with_preferred_read_replica(WireBrokerId(-1))
    }

    fn read(position: Offset, data: PartitionData) -> Meaning {
        meaning(&target(position), &Node::bootstrap("b:1"), Isolation::Committed, data)
    }

    #[test]
    fn the_position_goes_to_the_end_of_the_last_batch_that_advances() {
        for (offsets, expected) in [(&[0, 3][..], Some(6)), (&[0, 7], Some(10)), (&[], None)] {
            let records = offsets.iter().flat_map(|offset| batch(*offset)).collect();
            let Meaning::Fetched(fetched) = read(0, data(records)) else { panic!("{offsets:?}") };
            assert_eq!(fetched.next.map(|next| next.offset), expected, "{offsets:?}");
        }
    }

    /// Nothing of such an answer is believed: what stands before a batch that comes too early would be skipped.
    #[test]
    fn repeated_and_reversed_batches_are_malformed() {
        for offsets in [&[3, 0][..], &[0, 0], &[0, 3, 1]] {
            let records = offsets.iter().flat_map(|offset| batch(*offset)).collect();
            let Meaning::Retry(error) = read(0, data(records)) else { panic!("{offsets:?}") };
            assert!(error.to_string().contains("follows one that ends later"), "{error}");
        }
    }

    #[test]
    fn an_answer_that_does_not_advance_is_no_progress() {
        let cut = batch(5)[..40].to_vec();
        for (position, records) in [(5, batch(0)), (3, batch(0)), (5, cut)] {
            let Meaning::Retry(error) = read(position, data(records)) else { panic!("at {position}") };
            assert!(error.is_transient() && error.to_string().contains("t/0"), "{error}");
        }
    }

    #[test]
    fn a_log_parts_before_the_position_or_the_answer_is_malformed() {
        let diverging =
            |end| data(Vec::new()).with_diverging_epoch(EpochEndOffset::default().with_epoch(2).with_end_offset(end));
        assert!(matches!(read(5, diverging(3)), Meaning::Truncated(Position { offset: 3, leader_epoch: None })));
        let target = Target { last_epoch: LeaderEpoch::from_wire(4), ..target(5) };
        let Meaning::Truncated(left) = meaning(&target, &Node::bootstrap("b:1"), Isolation::Committed, diverging(3))
        else {
            panic!("not truncated")
        };
        assert_eq!(left, Position { offset: 3, leader_epoch: LeaderEpoch::from_wire(2) });
        // Others were written up to the position and behind it.
        let Meaning::Truncated(left) = meaning(&target, &Node::bootstrap("b:1"), Isolation::Committed, diverging(9))
        else {
            panic!("not truncated")
        };
        assert_eq!(left, Position { offset: 5, leader_epoch: LeaderEpoch::from_wire(2) });
        assert!(matches!(read(5, diverging(5)), Meaning::Retry(_)));
        assert!(matches!(read(5, diverging(9)), Meaning::Retry(_)));
    }

    #[test]
    fn errors_are_told_apart_by_what_mends_them() {
        let failed = |code: ResponseError| read(5, data(Vec::new()).with_error_code(code.code()));
        assert!(matches!(failed(ResponseError::OffsetOutOfRange), Meaning::OutOfRange));
        assert!(matches!(failed(ResponseError::NotLeaderOrFollower), Meaning::Retry(_)));
        assert!(matches!(failed(ResponseError::UnknownTopicId), Meaning::Retry(_)));
        assert!(matches!(failed(ResponseError::UnknownServerError), Meaning::Retry(_)));
        assert!(matches!(failed(ResponseError::CorruptMessage), Meaning::Fatal(_)));
        assert!(matches!(failed(ResponseError::TopicAuthorizationFailed), Meaning::Fatal(_)));
    }

    #[test]
    fn records_beyond_the_last_stable_offset_wait_for_their_transaction() {
        let at_the_stable_end = data(Vec::new()).with_last_stable_offset(5);
        for (isolation, waiting) in [(Isolation::Committed, 95), (Isolation::Uncommitted, 0)] {
            let meaning = meaning(&target(5), &Node::bootstrap("b:1"), isolation, at_the_stable_end.clone());
            let Meaning::Fetched(fetched) = meaning else { panic!("{isolation:?}") };
            assert_eq!(fetched.held_back, waiting);
        }
    }
}
