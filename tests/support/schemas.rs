//! The fields of Kafka's answers, by the schemas of `kafka-protocol`: each can be visited, counted and changed.

use super::batches;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

/// Goes through an answer and changes the one place that it is sent to.
pub struct Visitor<'a> {
    pub random: &'a mut fastrand::Rng,
    /// How many places are passed before the one that is changed.
    left: usize,
    path: Vec<&'static str>,
    /// Where something was changed, and how.
    changed: Option<String>,
}

/// Changes one place of `message`, chosen by `random`; returns where and how.
pub fn mutate(message: &mut dyn Fields, random: &mut fastrand::Rng) -> Option<String> {
    let mut count = Visitor { random, left: usize::MAX, path: Vec::new(), changed: None };
    message.visit(&mut count);
    let places = usize::MAX - count.left;
    let left = random.usize(..places.max(1));
    let mut change = Visitor { random, left, path: Vec::new(), changed: None };
    message.visit(&mut change);
    change.changed
}

impl Visitor<'_> {
    /// A place; `change` is called where it is the chosen one, and returns what it did.
    fn place(&mut self, change: impl FnOnce(&mut fastrand::Rng) -> &'static str) {
        if self.left == 0 && self.changed.is_none() {
            let kind = change(self.random);
            self.changed = Some(format!("{} {kind}", self.path.join(".")));
        }
        self.left = self.left.wrapping_sub(1);
    }

    fn within(&mut self, name: &'static str, visit: impl FnOnce(&mut Self)) {
        self.path.push(name);
        visit(self);
        self.path.pop();
    }
}

/// What has fields.
pub trait Fields {
    fn visit(&mut self, at: &mut Visitor);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Fields for $type {
            fn visit(&mut self, at: &mut Visitor) {
                let is_throttle = at.path.last() == Some(&"throttle_time_ms");
                at.place(|random| {
                    let odd = [0, 1, -1, -2, <$type>::MAX, <$type>::MIN, 7, 100];
                    *self = match random.u8(..4) {
                        _ if is_throttle => 100,
                        0 => self.wrapping_add(1),
                        1 => self.wrapping_sub(1),
                        2 => odd[random.usize(..odd.len())],
                        _ => random.i64(..) as $type,
                    };
                    "number"
                });
            }
        }
    )*};
}

numbers!(i8, i16, i32, i64);

macro_rules! newtypes {
    ($($type:ty),*) => {$(
        impl Fields for $type {
            fn visit(&mut self, at: &mut Visitor) {
                self.0.visit(at);
            }
        }
    )*};
}

newtypes!(BrokerId, ProducerId, TopicName, GroupId, TransactionalId);

impl Fields for bool {
    fn visit(&mut self, at: &mut Visitor) {
        at.place(|_| {
            *self = !*self;
            "flag"
        });
    }
}

impl Fields for StrBytes {
    fn visit(&mut self, at: &mut Visitor) {
        at.place(|random| {
            let text = match random.u8(..5) {
                0 => String::new(),
                1 => "x".repeat(30_000),
                2 => "\u{1b}[31m\u{202e}\n".to_owned(),
                3 => format!("{}x", self.as_str()),
                _ => "other".to_owned(),
            };
            *self = StrBytes::from_string(text);
            "text"
        });
    }
}

impl Fields for Uuid {
    fn visit(&mut self, at: &mut Visitor) {
        at.place(|random| {
            *self = if random.bool() { Uuid::nil() } else { Uuid::from_u128(random.u128(..)) };
            "id"
        });
    }
}

impl<T: Fields + Default> Fields for Option<T> {
    fn visit(&mut self, at: &mut Visitor) {
        at.place(|_| {
            *self = if self.is_some() { None } else { Some(T::default()) };
            "presence"
        });
        if let Some(some) = self {
            some.visit(at);
        }
    }
}

impl<T: Fields + Clone + Default> Fields for Vec<T> {
    fn visit(&mut self, at: &mut Visitor) {
        at.place(|random| {
            let count = self.len();
            match random.u8(..6) {
                _ if count == 0 => {
                    self.push(T::default());
                    "filled"
                }
                0 => {
                    self.clear();
                    "cleared"
                }
                1 => {
                    self.remove(random.usize(..count));
                    "removed"
                }
                2 => {
                    self.push(self[random.usize(..count)].clone());
                    "repeated"
                }
                3 => {
                    self.reverse();
                    "reversed"
                }
                4 => {
                    let one = self[0].clone();
                    self.extend(std::iter::repeat_n(one, 1000));
                    "grown"
                }
                _ => {
                    let from = self[random.usize(..count)].clone();
                    self[random.usize(..count)] = from;
                    "copied"
                }
            }
        });
        self.iter_mut().for_each(|one| one.visit(at));
    }
}

impl Fields for Bytes {
    fn visit(&mut self, at: &mut Visitor) {
        let is_records = at.path.last() == Some(&"records");
        // As likely as the fields around them.
        for _ in 0..if is_records { 20 } else { 2 } {
            at.place(|random| {
                let (bytes, kind) = batches::mutate(self, is_records, random);
                *self = bytes;
                kind
            });
        }
    }
}

macro_rules! fields {
    ($($type:ty { $($field:ident),* $(,)? })*) => {$(
        impl Fields for $type {
            fn visit(&mut self, at: &mut Visitor) {
                $(at.within(stringify!($field), |at| self.$field.visit(at));)*
            }
        }
    )*};
}

fields! {
    api_versions_response::ApiVersion { api_key, min_version, max_version }
    ApiVersionsResponse { error_code, api_keys, finalized_features_epoch }
    metadata_response::MetadataResponseBroker { node_id, host, port, rack }
    metadata_response::MetadataResponsePartition { error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes, offline_replicas }
    metadata_response::MetadataResponseTopic { error_code, name, topic_id, is_internal, partitions }
    MetadataResponse { throttle_time_ms, brokers, cluster_id, controller_id, topics }
    list_offsets_response::ListOffsetsPartitionResponse { partition_index, error_code, timestamp, offset, leader_epoch }
    list_offsets_response::ListOffsetsTopicResponse { name, partitions }
    ListOffsetsResponse { throttle_time_ms, topics }
    fetch_response::AbortedTransaction { producer_id, first_offset }
    fetch_response::EpochEndOffset { epoch, end_offset }
    fetch_response::LeaderIdAndEpoch { leader_id, leader_epoch }
    fetch_response::PartitionData { partition_index, error_code, high_watermark, last_stable_offset, log_start_offset, diverging_epoch, current_leader, aborted_transactions, preferred_read_replica, records }
    fetch_response::FetchableTopicResponse { topic, topic_id, partitions }
    FetchResponse { throttle_time_ms, error_code, session_id, responses }
    produce_response::BatchIndexAndErrorMessage { batch_index, batch_index_error_message }
    produce_response::LeaderIdAndEpoch { leader_id, leader_epoch }
    produce_response::PartitionProduceResponse { index, error_code, base_offset, log_append_time_ms, log_start_offset, record_errors, error_message, current_leader }
    produce_response::TopicProduceResponse { name, topic_id, partition_responses }
    ProduceResponse { responses, throttle_time_ms }
    FindCoordinatorResponse { throttle_time_ms, error_code, error_message, node_id, host, port }
    join_group_response::JoinGroupResponseMember { member_id, group_instance_id, metadata }
    JoinGroupResponse { throttle_time_ms, error_code, generation_id, protocol_type, protocol_name, leader, skip_assignment, member_id, members }
    SyncGroupResponse { throttle_time_ms, error_code, assignment }
    HeartbeatResponse { throttle_time_ms, error_code }
    LeaveGroupResponse { throttle_time_ms, error_code }
    offset_fetch_response::OffsetFetchResponsePartition { partition_index, committed_offset, committed_leader_epoch, metadata, error_code }
    offset_fetch_response::OffsetFetchResponseTopic { name, partitions }
    OffsetFetchResponse { throttle_time_ms, topics, error_code }
    offset_commit_response::OffsetCommitResponsePartition { partition_index, error_code }
    offset_commit_response::OffsetCommitResponseTopic { name, partitions }
    OffsetCommitResponse { throttle_time_ms, topics }
    InitProducerIdResponse { throttle_time_ms, error_code, producer_id, producer_epoch }
    add_partitions_to_txn_response::AddPartitionsToTxnPartitionResult { partition_index, partition_error_code }
    add_partitions_to_txn_response::AddPartitionsToTxnTopicResult { name, results_by_partition }
    AddPartitionsToTxnResponse { throttle_time_ms, results_by_topic_v3_and_below }
    EndTxnResponse { throttle_time_ms, error_code, producer_id, producer_epoch }
    consumer_group_heartbeat_response::TopicPartitions { topic_id, partitions }
    consumer_group_heartbeat_response::Assignment { topic_partitions }
    ConsumerGroupHeartbeatResponse { throttle_time_ms, error_code, error_message, member_id, member_epoch, heartbeat_interval_ms, assignment }
    consumer_group_describe_response::TopicPartitions { topic_id, topic_name, partitions }
    consumer_group_describe_response::Assignment { topic_partitions }
    consumer_group_describe_response::Member { member_id, instance_id, member_epoch, client_id, client_host, assignment }
    consumer_group_describe_response::DescribedGroup { error_code, group_id, group_state, assignor_name, members }
    ConsumerGroupDescribeResponse { throttle_time_ms, groups }
    describe_groups_response::DescribedGroupMember { member_id, group_instance_id, client_id, client_host, member_metadata, member_assignment }
    describe_groups_response::DescribedGroup { error_code, group_id, group_state, protocol_type, protocol_data, members }
    DescribeGroupsResponse { throttle_time_ms, groups }
    list_groups_response::ListedGroup { group_id, protocol_type, group_state, group_type }
    ListGroupsResponse { throttle_time_ms, error_code, groups }
    offset_delete_response::OffsetDeleteResponsePartition { partition_index, error_code }
    offset_delete_response::OffsetDeleteResponseTopic { name, partitions }
    OffsetDeleteResponse { error_code, throttle_time_ms, topics }
    create_topics_response::CreatableTopicResult { name, topic_id, error_code, error_message, num_partitions, replication_factor }
    CreateTopicsResponse { throttle_time_ms, topics }
    delete_topics_response::DeletableTopicResult { name, topic_id, error_code, error_message }
    DeleteTopicsResponse { throttle_time_ms, responses }
    describe_configs_response::DescribeConfigsResourceResult { name, value, read_only, config_source, is_sensitive }
    describe_configs_response::DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
    DescribeConfigsResponse { throttle_time_ms, results }
    incremental_alter_configs_response::AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    IncrementalAlterConfigsResponse { throttle_time_ms, responses }
    list_transactions_response::TransactionState { transactional_id, producer_id, transaction_state }
    ListTransactionsResponse { throttle_time_ms, error_code, transaction_states }
    describe_cluster_response::DescribeClusterBroker { broker_id, host, port, rack, is_fenced }
    DescribeClusterResponse { throttle_time_ms, error_code, error_message, cluster_id, controller_id, brokers }
    describe_log_dirs_response::DescribeLogDirsPartition { partition_index, partition_size, offset_lag }
    describe_log_dirs_response::DescribeLogDirsTopic { name, partitions }
    describe_log_dirs_response::DescribeLogDirsResult { error_code, log_dir, topics, total_bytes, usable_bytes }
    DescribeLogDirsResponse { throttle_time_ms, error_code, results }
}

macro_rules! answers {
    ($($api:ident($answer:ident)),* $(,)?) => {
        /// An answer that is decoded.
        pub enum Answer {
            $($api($answer),)*
        }

        impl Answer {
            /// Decodes an answer behind its header; `None` where its fields are not listed above.
            pub fn decode(api: ApiKey, bytes: &mut Bytes, version: i16) -> Option<Self> {
                match api {
                    $(ApiKey::$api => $answer::decode(bytes, version).ok().map(Self::$api),)*
                    _ => None,
                }
            }

            /// An answer with nothing in it.
            pub fn empty(api: ApiKey) -> Option<Self> {
                match api {
                    $(ApiKey::$api => Some(Self::$api($answer::default())),)*
                    _ => None,
                }
            }

            pub fn encode(&self, out: &mut BytesMut, version: i16) -> Option<()> {
                match self {
                    $(Self::$api(answer) => answer.encode(out, version).ok(),)*
                }
            }

            pub fn fields(&mut self) -> &mut dyn Fields {
                match self {
                    $(Self::$api(answer) => answer,)*
                }
            }
        }
    };
}

answers! {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    ListOffsets(ListOffsetsResponse),
    Fetch(FetchResponse),
    Produce(ProduceResponse),
    FindCoordinator(FindCoordinatorResponse),
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetFetch(OffsetFetchResponse),
    OffsetCommit(OffsetCommitResponse),
    InitProducerId(InitProducerIdResponse),
    AddPartitionsToTxn(AddPartitionsToTxnResponse),
    EndTxn(EndTxnResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerGroupDescribe(ConsumerGroupDescribeResponse),
    DescribeGroups(DescribeGroupsResponse),
    ListGroups(ListGroupsResponse),
    CreateTopics(CreateTopicsResponse),
    DeleteTopics(DeleteTopicsResponse),
    DescribeConfigs(DescribeConfigsResponse),
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse),
    ListTransactions(ListTransactionsResponse),
    DescribeCluster(DescribeClusterResponse),
    DescribeLogDirs(DescribeLogDirsResponse),
    OffsetDelete(OffsetDeleteResponse),
}
