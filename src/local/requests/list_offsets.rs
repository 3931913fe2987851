//! ListOffsets and OffsetForLeaderEpoch.

use super::call::Call;
use crate::engine::Operation;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use uuid::Uuid;

/// `isolation_level` of a consumer that reads committed records only (KIP-98).
const READ_COMMITTED: i8 = 1;

/// ListOffsets' special timestamps.
mod time {
    pub(in crate::local) const LATEST: i64 = -1;
    pub(in crate::local) const EARLIEST: i64 = -2;
    pub(in crate::local) const MAX_TIMESTAMP: i64 = -3;
    pub(in crate::local) const EARLIEST_LOCAL: i64 = -4;
    pub(in crate::local) const LATEST_TIERED: i64 = -5;
}

pub(in crate::local) fn list_offsets(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let cluster = call.cluster();
    let topics = request.topics.into_iter().map(|topic| {
        let answer = |asked: &ListOffsetsPartition| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let led = cluster.led(&topic.name, Uuid::nil(), asked.partition_index, call.broker);
            let led = match call.check_topic(Operation::Describe, &topic.name).and(led) {
                Err(error) => return answer.with_error_code(error.code()),
                Ok(led) => led,
            };
            // A new leader does not know yet what its predecessor acknowledged (KIP-207).
            if led.is_settling() && ![time::EARLIEST, time::EARLIEST_LOCAL].contains(&asked.timestamp) {
                let error = if call.version >= 5 { E::OffsetNotAvailable } else { E::LeaderNotAvailable };
                return answer.with_error_code(error.code());
            }
            let log = &led.log;
            let visible = |found: Option<(i64, i64)>| found.filter(|(offset, _)| *offset < led.high_watermark());
            let (offset, timestamp) = match asked.timestamp {
                time::LATEST if request.isolation_level == READ_COMMITTED => (led.last_stable_offset(), -1),
                time::LATEST => (led.high_watermark(), -1),
                time::EARLIEST | time::EARLIEST_LOCAL => (log.start(), -1),
                time::LATEST_TIERED => (-1, -1), // nothing is tiered
                time::MAX_TIMESTAMP => visible(log.max_timestamp()).unwrap_or((-1, -1)),
                timestamp => visible(log.at_time(timestamp)).unwrap_or((-1, -1)),
            };
            // Versions before 4 do not carry an epoch.
            let epoch = if offset < 0 || call.version < 4 { -1 } else { led.leader_epoch };
            answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Where the log of a leader epoch ends (KIP-320).
pub(in crate::local) fn offset_for_leader_epoch(
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let cluster = call.cluster();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let led = cluster.led(&topic.topic, Uuid::nil(), asked.partition, call.broker);
            let may_ask = call.check_topic(Operation::Describe, &topic.topic);
            let found = may_ask.and(led).and_then(|led| match asked.current_leader_epoch {
                -1 => Ok(led),
                epoch if epoch < led.leader_epoch => Err(E::FencedLeaderEpoch),
                epoch if epoch > led.leader_epoch => Err(E::UnknownLeaderEpoch),
                _ => Ok(led),
            });
            match found {
                Err(error) => answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
                Ok(led) if asked.leader_epoch == led.leader_epoch => {
                    answer.with_leader_epoch(led.leader_epoch).with_end_offset(led.log.next())
                }
                Ok(led) => {
                    let (epoch, end) = if (0..=led.leader_epoch).contains(&asked.leader_epoch) {
                        led.log.reported_end_of_epoch(asked.leader_epoch)
                    } else {
                        (-1, -1)
                    };
                    answer.with_leader_epoch(epoch).with_end_offset(end)
                }
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
