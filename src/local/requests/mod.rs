//! The requests that are served, one file a family: each decodes, asks or changes the [`cluster`](super::cluster) under
//! its lock, and encodes.

mod acls;
pub(super) mod call;
mod classic;
mod configs;
mod consumer_groups;
mod fetch;
mod list_offsets;
mod listing;
mod metadata;
mod offsets;
mod produce;
mod records;
mod sasl;
mod topics;
mod transaction_admin;
mod transactions;

use bytes::Bytes;
use call::{Call, Closed};
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{
    self, ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, JoinGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Message, StrBytes, VersionRange};
use tokio::sync::OwnedSemaphorePermit;

/// The requests that are served, with their versions: those of Kafka 4 that the schemas have.
pub const OFFERED: [(ApiKey, VersionRange); 39] = [
    (ApiKey::Produce, messages::ProduceRequest::VERSIONS),
    (ApiKey::Fetch, messages::FetchRequest::VERSIONS),
    (ApiKey::ListOffsets, messages::ListOffsetsRequest::VERSIONS),
    (ApiKey::Metadata, messages::MetadataRequest::VERSIONS),
    (ApiKey::OffsetCommit, messages::OffsetCommitRequest::VERSIONS),
    (ApiKey::OffsetFetch, messages::OffsetFetchRequest::VERSIONS),
    (ApiKey::FindCoordinator, messages::FindCoordinatorRequest::VERSIONS),
    (ApiKey::JoinGroup, messages::JoinGroupRequest::VERSIONS),
    (ApiKey::Heartbeat, messages::HeartbeatRequest::VERSIONS),
    (ApiKey::LeaveGroup, messages::LeaveGroupRequest::VERSIONS),
    (ApiKey::SyncGroup, messages::SyncGroupRequest::VERSIONS),
    (ApiKey::DescribeGroups, messages::DescribeGroupsRequest::VERSIONS),
    (ApiKey::ListGroups, messages::ListGroupsRequest::VERSIONS),
    (ApiKey::ApiVersions, messages::ApiVersionsRequest::VERSIONS),
    (ApiKey::CreateTopics, messages::CreateTopicsRequest::VERSIONS),
    (ApiKey::DeleteTopics, messages::DeleteTopicsRequest::VERSIONS),
    (ApiKey::InitProducerId, messages::InitProducerIdRequest::VERSIONS),
    (ApiKey::DescribeConfigs, messages::DescribeConfigsRequest::VERSIONS),
    (ApiKey::CreatePartitions, messages::CreatePartitionsRequest::VERSIONS),
    (ApiKey::OffsetForLeaderEpoch, messages::OffsetForLeaderEpochRequest::VERSIONS),
    (ApiKey::DeleteRecords, messages::DeleteRecordsRequest::VERSIONS),
    (ApiKey::DescribeLogDirs, messages::DescribeLogDirsRequest::VERSIONS),
    (ApiKey::AddPartitionsToTxn, messages::AddPartitionsToTxnRequest::VERSIONS),
    (ApiKey::AddOffsetsToTxn, messages::AddOffsetsToTxnRequest::VERSIONS),
    (ApiKey::EndTxn, messages::EndTxnRequest::VERSIONS),
    (ApiKey::TxnOffsetCommit, messages::TxnOffsetCommitRequest::VERSIONS),
    (ApiKey::WriteTxnMarkers, messages::WriteTxnMarkersRequest::VERSIONS),
    (ApiKey::ListTransactions, messages::ListTransactionsRequest::VERSIONS),
    (ApiKey::DescribeTransactions, messages::DescribeTransactionsRequest::VERSIONS),
    (ApiKey::DescribeProducers, messages::DescribeProducersRequest::VERSIONS),
    (ApiKey::IncrementalAlterConfigs, messages::IncrementalAlterConfigsRequest::VERSIONS),
    (ApiKey::DeleteGroups, messages::DeleteGroupsRequest::VERSIONS),
    (ApiKey::OffsetDelete, messages::OffsetDeleteRequest::VERSIONS),
    (ApiKey::DescribeCluster, messages::DescribeClusterRequest::VERSIONS),
    // Since v1 the mechanism's messages are requests (KIP-152).
    (ApiKey::SaslHandshake, VersionRange { min: 1, max: messages::SaslHandshakeRequest::VERSIONS.max }),
    (ApiKey::SaslAuthenticate, messages::SaslAuthenticateRequest::VERSIONS),
    (ApiKey::DescribeAcls, messages::DescribeAclsRequest::VERSIONS),
    (ApiKey::CreateAcls, messages::CreateAclsRequest::VERSIONS),
    (ApiKey::DeleteAcls, messages::DeleteAclsRequest::VERSIONS),
];

/// The requests of KIP-848, which are served once [`Local::offer_consumer_groups`](super::Local::offer_consumer_groups)
/// has been called: clients prefer that protocol where they find it.
pub const CONSUMER_GROUPS: [(ApiKey, VersionRange); 2] = [
    (ApiKey::ConsumerGroupHeartbeat, messages::ConsumerGroupHeartbeatRequest::VERSIONS),
    (ApiKey::ConsumerGroupDescribe, messages::ConsumerGroupDescribeRequest::VERSIONS),
];

/// Producers' epochs rise with every transaction (KIP-890).
const TRANSACTION_VERSION: i16 = 2;

/// An answer on its way.
pub(super) struct Answer {
    /// Empty when there is none.
    pub(super) frame: Bytes,
    /// What its records count for until it is sent.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// Handles a request. A request that waits for others gives up what it counts for, `in_work`.
pub(super) async fn answer(
    call: &Call,
    api: ApiKey,
    body: Bytes,
    in_work: &mut Option<OwnedSemaphorePermit>,
) -> Result<Answer, Closed> {
    let mut permit = None;
    let frame = match api {
        ApiKey::Produce => produce::answer(call, body, in_work).await?,
        ApiKey::Fetch => {
            let (response, records) = fetch::fetch(call, call.decode(body)?).await;
            permit = records;
            call.encode::<FetchRequest>(response)?
        }
        ApiKey::JoinGroup => {
            let request = call.decode(body)?;
            *in_work = None;
            call.encode::<JoinGroupRequest>(classic::join_group(call, request).await)?
        }
        ApiKey::SyncGroup => {
            let request = call.decode(body)?;
            *in_work = None;
            call.encode::<SyncGroupRequest>(classic::sync_group(call, request).await)?
        }
        _ => answer_at_once(call, api, body)?,
    };
    Ok(Answer { frame, _permit: permit })
}

fn answer_at_once(call: &Call, api: ApiKey, body: Bytes) -> Result<Bytes, Closed> {
    match api {
        ApiKey::ListOffsets => call.reply(body, list_offsets::list_offsets),
        ApiKey::Metadata => call.reply(body, metadata::metadata),
        ApiKey::OffsetCommit => call.reply(body, offsets::offset_commit),
        ApiKey::OffsetFetch => call.reply(body, offsets::offset_fetch),
        ApiKey::FindCoordinator => call.reply(body, listing::find_coordinator),
        ApiKey::Heartbeat => call.reply(body, classic::heartbeat),
        ApiKey::LeaveGroup => call.reply(body, classic::leave_group),
        ApiKey::DescribeGroups => call.reply(body, listing::describe_groups),
        ApiKey::ListGroups => call.reply(body, listing::list_groups),
        ApiKey::ApiVersions => call.reply(body, api_versions),
        ApiKey::CreateTopics => call.reply(body, topics::create_topics),
        ApiKey::DeleteTopics => call.reply(body, topics::delete_topics),
        ApiKey::InitProducerId => call.reply(body, transactions::init_producer_id),
        ApiKey::DescribeConfigs => call.reply(body, configs::describe_configs),
        ApiKey::CreatePartitions => call.reply(body, topics::create_partitions),
        ApiKey::OffsetForLeaderEpoch => call.reply(body, list_offsets::offset_for_leader_epoch),
        ApiKey::DeleteRecords => call.reply(body, records::delete_records),
        ApiKey::DescribeLogDirs => call.reply(body, records::describe_log_dirs),
        ApiKey::AddPartitionsToTxn => call.reply(body, transactions::add_partitions_to_txn),
        ApiKey::AddOffsetsToTxn => call.reply(body, transactions::add_offsets_to_txn),
        ApiKey::EndTxn => call.reply(body, transactions::end_txn),
        ApiKey::TxnOffsetCommit => call.reply(body, transactions::txn_offset_commit),
        ApiKey::WriteTxnMarkers => call.reply(body, transaction_admin::write_txn_markers),
        ApiKey::ListTransactions => call.reply(body, transaction_admin::list_transactions),
        ApiKey::DescribeTransactions => call.reply(body, transaction_admin::describe_transactions),
        ApiKey::DescribeProducers => call.reply(body, transaction_admin::describe_producers),
        ApiKey::IncrementalAlterConfigs => call.reply(body, configs::incremental_alter_configs),
        ApiKey::DeleteGroups => call.reply(body, listing::delete_groups),
        ApiKey::OffsetDelete => call.reply(body, offsets::offset_delete),
        ApiKey::DescribeCluster => call.reply(body, metadata::describe_cluster),
        ApiKey::SaslHandshake => call.reply(body, sasl::sasl_handshake),
        ApiKey::SaslAuthenticate => call.reply(body, sasl::sasl_authenticate),
        ApiKey::DescribeAcls => call.reply(body, acls::describe_acls),
        ApiKey::CreateAcls => call.reply(body, acls::create_acls),
        ApiKey::DeleteAcls => call.reply(body, acls::delete_acls),
        ApiKey::ConsumerGroupHeartbeat => call.reply(body, consumer_groups::consumer_group_heartbeat),
        ApiKey::ConsumerGroupDescribe => call.reply(body, consumer_groups::consumer_group_describe),
        other => Err(format!("{other:?} is not served")),
    }
}

fn api_versions(call: &Call, _: ApiVersionsRequest) -> ApiVersionsResponse {
    let offered = call.shared.offered().map(|(api, range)| {
        // Kafka 4 lists Produce from version 0 on without serving it: older librdkafkas look for that (KAFKA-18659), and
        // all of them look for version 0 of SaslHandshake.
        let min = if matches!(api, ApiKey::Produce | ApiKey::SaslHandshake) { 0 } else { range.min };
        ApiVersion::default().with_api_key(*api as i16).with_min_version(min).with_max_version(range.max)
    });
    // A client uses the newest kind of transactions only where the cluster has agreed on it (KIP-584, KIP-890).
    let name = StrBytes::from_static_str("transaction.version");
    let supported = SupportedFeatureKey::default().with_name(name.clone()).with_max_version(TRANSACTION_VERSION);
    let finalized = FinalizedFeatureKey::default().with_name(name).with_max_version_level(TRANSACTION_VERSION);
    ApiVersionsResponse::default()
        .with_api_keys(offered.collect())
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(1)
        .with_finalized_features(vec![finalized.with_min_version_level(TRANSACTION_VERSION)])
        .with_error_code(call.refusal.map_or(0, |error| error.code()))
}
