//! The requests that are served, one file a family: each decodes, asks or changes the [`cluster`](super::cluster) under
//! its lock, and encodes.

pub(super) mod call;
mod classic;
mod configs;
mod fetch;
mod list_offsets;
mod listing;
mod metadata;
mod offsets;
mod produce;
mod topics;

use bytes::Bytes;
use call::{Call, Closed};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    self, ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, JoinGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Message, VersionRange};
use tokio::sync::OwnedSemaphorePermit;

/// The requests that are served, with their versions: those of Kafka 4 that the schemas have.
pub const OFFERED: [(ApiKey, VersionRange); 19] = [
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
];

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
        ApiKey::Produce => produce::answer(call, body)?,
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
        ApiKey::InitProducerId => call.reply(body, produce::init_producer_id),
        ApiKey::DescribeConfigs => call.reply(body, configs::describe_configs),
        ApiKey::CreatePartitions => call.reply(body, topics::create_partitions),
        other => Err(format!("{other:?} is not served")),
    }
}

fn api_versions(call: &Call, _: ApiVersionsRequest) -> ApiVersionsResponse {
    let offered = OFFERED.iter().map(|(api, range)| {
        // Kafka 4 lists Produce from version 0 on without serving it: older librdkafkas look for that (KAFKA-18659).
        let min = if *api == ApiKey::Produce { 0 } else { range.min };
        ApiVersion::default().with_api_key(*api as i16).with_min_version(min).with_max_version(range.max)
    });
    ApiVersionsResponse::default()
        .with_api_keys(offered.collect())
        .with_error_code(call.refusal.map_or(0, |error| error.code()))
}
