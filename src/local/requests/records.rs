//! DeleteRecords and DescribeLogDirs.

use super::call::Call;
use crate::engine::Operation;
use crate::local::cluster::{Cluster, Partition};
use crate::local::configs::has_policy;
use crate::record::PartitionId;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

/// The name of the log directory that is none.
const LOG_DIR: &str = "/kpipe-local";
/// DeleteRecords up to the high watermark.
const ALL: i64 = -1;

pub(in crate::local) fn delete_records(call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut cluster = call.cluster();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let deleted = call.check_topic(Operation::Delete, &topic.name);
            let deleted = deleted.and_then(|()| delete(call, &mut cluster, &topic.name, index, partition.offset));
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match deleted {
                Ok(start) => answer.with_low_watermark(start),
                Err(error) => answer.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// Returns the log start offset.
fn delete(call: &Call, cluster: &mut Cluster, topic: &str, index: PartitionId, offset: i64) -> Result<i64, E> {
    let (_, found) = cluster.topic(topic, uuid::Uuid::nil())?;
    // Kafka deletes records only where its retention may.
    if !has_policy(&found.configs, "delete") {
        return Err(E::PolicyViolation);
    }
    let led = cluster.led(topic, uuid::Uuid::nil(), index, call.broker)?;
    let offset = if offset == ALL { led.high_watermark() } else { offset };
    if !(0..=led.high_watermark()).contains(&offset) {
        return Err(E::OffsetOutOfRange);
    }
    cluster.delete_records(topic, index, offset).ok_or(E::UnknownTopicOrPartition)
}

pub(in crate::local) fn describe_log_dirs(call: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let answer = DescribeLogDirsResponse::default();
    if let Err(error) = call.check_cluster(Operation::Describe) {
        return answer.with_error_code(error.code());
    }
    let asked = request.topics.map(|topics| {
        let mut asked: BTreeMap<StrBytes, BTreeSet<PartitionId>> = BTreeMap::new();
        for topic in topics {
            asked.entry(topic.topic.0).or_default().extend(topic.partitions);
        }
        asked
    });
    let cluster = call.cluster();
    let topics = cluster.topics().filter_map(|(name, topic)| {
        let name = StrBytes::from_string(name.clone());
        let asked = match &asked {
            None => None,
            Some(asked) => Some(asked.get(&name)?),
        };
        let here = |(index, partition): &(PartitionId, &Partition)| {
            partition.replicas.contains(&call.broker) && asked.is_none_or(|asked| asked.contains(index))
        };
        let partitions = (0..).zip(&topic.partitions).filter(here).map(|(index, partition)| {
            let size = partition.log.disk_bytes() as i64;
            DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size)
        });
        let partitions: Vec<_> = partitions.collect();
        let topic = DescribeLogDirsTopic::default().with_name(TopicName(name));
        (!partitions.is_empty()).then(|| topic.with_partitions(partitions))
    });
    let dir = DescribeLogDirsResult::default().with_log_dir(StrBytes::from_static_str(LOG_DIR));
    answer.with_results(vec![dir.with_topics(topics.collect()).with_total_bytes(-1).with_usable_bytes(-1)])
}
