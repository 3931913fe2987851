//! Connections: frames in, the request's handler, frames out; and the clock of the groups.

use super::call::{Call, Closed, Shared};
use super::faults::Fault;
use super::{fetch, groups, offsets, produce, topics};
use crate::engine::native::{read_frame, sleep_until, wire::message};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    self, ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, JoinGroupRequest, ProduceRequest,
    RequestHeader, SyncGroupRequest,
};
use kafka_protocol::protocol::{Message, VersionRange};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Kafka's socket.request.max.bytes: a longer request is not believed.
const LONGEST_REQUEST: usize = 100 << 20;

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

/// Accepts connections to `broker` until it is aborted; that ends them too.
pub(super) async fn accept(shared: Arc<Shared>, broker: i32, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    connections.spawn(serve(shared.clone(), broker, socket, format!("/{}", peer.ip())));
                }
                Err(error) => {
                    // No more descriptors: some may be free in a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(shared: Arc<Shared>, broker: i32, socket: TcpStream, host: String) {
    shared.faults.count_connection();
    if let Err(why) = serve_requests(&shared, broker, socket, &host).await {
        tracing::info!(broker, %why, "closed a connection");
    }
}

/// One request after the other, as Kafka does: the next is read when the one before is answered.
async fn serve_requests(shared: &Arc<Shared>, broker: i32, socket: TcpStream, host: &str) -> Result<(), Closed> {
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    let mut socket = BufReader::new(socket);
    loop {
        let Ok(frame) = read_frame(&mut socket, LONGEST_REQUEST).await else { return Ok(()) };
        shared.faults.until_thawed(broker).await;
        let (call, api, body) = match read_header(shared, broker, host, frame)? {
            Asked::Served(call, api, body) => (call, api, body),
            Asked::OtherVersion(refusal) => {
                socket.write_all(&refusal).await.map_err(|e| e.to_string())?;
                continue; // the client asks again in a version that both know (KIP-511)
            }
            Asked::Unknown(refusal, why) => {
                socket.write_all(&refusal).await.map_err(|e| e.to_string())?;
                return Err(why);
            }
        };
        handle(call, api, body, &mut socket).await?;
    }
}

/// A request whose header has been read.
enum Asked {
    Served(Call, ApiKey, Bytes),
    /// ApiVersions in a version that is not served, and the answer to that.
    OtherVersion(Bytes),
    /// Anything else that is not served: the answer, and why the connection closes after it.
    Unknown(Bytes, Closed),
}

fn read_header(shared: &Arc<Shared>, broker: i32, host: &str, mut frame: Bytes) -> Result<Asked, Closed> {
    // Key, version and correlation ID stand first in every request.
    let Some([a, b, c, d, correlation @ ..]) = frame.first_chunk::<8>().copied() else {
        return Err("a request without a header".to_owned());
    };
    let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let correlation = i32::from_be_bytes(correlation);
    let served =
        |(api, range): &&(ApiKey, VersionRange)| *api as i16 == key && (range.min..=range.max).contains(&version);
    let Some((api, _)) = OFFERED.iter().find(served).copied() else {
        let versions = key == ApiKey::ApiVersions as i16;
        let refusal = refuse(versions, correlation);
        let why = || format!("request {key} in version {version} is not served");
        return Ok(if versions { Asked::OtherVersion(refusal) } else { Asked::Unknown(refusal, why()) });
    };
    let header_version = api.request_header_version(version);
    let header: RequestHeader = message::decode(&mut frame, header_version, header_version >= 2)
        .map_err(|e| format!("a malformed header: {e}"))?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    tracing::info!(broker, request = ?api, version, client = client_id, bytes = frame.len(), "request");
    let call = Call {
        shared: shared.clone(),
        broker,
        version,
        correlation,
        client_id,
        host: host.to_owned(),
        refusal: None,
        throttle: Duration::ZERO,
    };
    Ok(Asked::Served(call, api, frame))
}

/// Answers a request, with what is to go wrong with it.
async fn handle(mut call: Call, api: ApiKey, body: Bytes, socket: &mut BufReader<TcpStream>) -> Result<(), Closed> {
    let ordered = || Err("a fault was injected".to_owned());
    let fault = call.shared.faults.take_next(api);
    match fault {
        Some(Fault::DropBefore) => return ordered(),
        Some(Fault::Silence) => {
            // Reads on, so that the client's end is noticed.
            let ended = tokio::io::copy(socket, &mut tokio::io::sink()).await;
            return ended.map_err(|e| e.to_string()).and_then(|_| ordered());
        }
        Some(Fault::Error(code)) => call.refusal = E::try_from_code(code),
        Some(Fault::ErrorAfter(code)) => {
            answer(&call, api, body.clone()).await?;
            call.refusal = E::try_from_code(code);
        }
        Some(Fault::Throttle(time)) => call.throttle = time,
        Some(Fault::DropAfter | Fault::Delay(_) | Fault::Cut(_)) | None => {}
    }
    let answer = answer(&call, api, body).await?;
    let latency = call.shared.faults.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    call.shared.faults.until_thawed(call.broker).await;
    let mut sent = &answer[..];
    match fault {
        Some(Fault::DropAfter) => return ordered(),
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Cut(bytes)) => sent = &answer[..bytes.min(answer.len())],
        _ => {}
    }
    socket.write_all(sent).await.map_err(|e| e.to_string())?;
    if matches!(fault, Some(Fault::Cut(_))) {
        return ordered();
    }
    tokio::time::sleep(call.throttle).await;
    Ok(())
}

/// UNSUPPORTED_VERSION, where most answers have their error: first. ApiVersions also says what there is.
fn refuse(versions_asked: bool, correlation: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(correlation);
    frame.put_i16(E::UnsupportedVersion.code());
    if versions_asked {
        let range = ApiVersionsRequest::VERSIONS;
        frame.put_i32(1);
        frame.put_i16(ApiKey::ApiVersions as i16);
        frame.put_i16(range.min);
        frame.put_i16(range.max);
    }
    let mut whole = BytesMut::new();
    whole.put_i32(frame.remaining() as i32);
    whole.put(frame);
    whole.freeze()
}

/// The answer's frame; empty when there is to be none.
async fn answer(call: &Call, api: ApiKey, body: Bytes) -> Result<Bytes, Closed> {
    match api {
        ApiKey::Produce => {
            let request: ProduceRequest = call.decode(body)?;
            let answered = request.acks != 0;
            let response = produce::produce(call, request);
            if answered {
                return call.encode::<ProduceRequest>(response);
            }
            // Who does not wait for answers learns of a failure by losing the connection.
            let failed = response.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
            if failed { Err("a produce with acks=0 failed".to_owned()) } else { Ok(Bytes::new()) }
        }
        ApiKey::Fetch => {
            let response = fetch::fetch(call, call.decode(body)?).await;
            call.encode::<FetchRequest>(response)
        }
        ApiKey::JoinGroup => {
            let response = groups::join_group(call, call.decode(body)?).await;
            call.encode::<JoinGroupRequest>(response)
        }
        ApiKey::SyncGroup => {
            let response = groups::sync_group(call, call.decode(body)?).await;
            call.encode::<SyncGroupRequest>(response)
        }
        ApiKey::ListOffsets => call.reply(body, fetch::list_offsets),
        ApiKey::Metadata => call.reply(body, topics::metadata),
        ApiKey::OffsetCommit => call.reply(body, offsets::offset_commit),
        ApiKey::OffsetFetch => call.reply(body, offsets::offset_fetch),
        ApiKey::FindCoordinator => call.reply(body, groups::find_coordinator),
        ApiKey::Heartbeat => call.reply(body, groups::heartbeat),
        ApiKey::LeaveGroup => call.reply(body, groups::leave_group),
        ApiKey::DescribeGroups => call.reply(body, groups::describe_groups),
        ApiKey::ListGroups => call.reply(body, groups::list_groups),
        ApiKey::ApiVersions => call.reply(body, api_versions),
        ApiKey::CreateTopics => call.reply(body, topics::create_topics),
        ApiKey::DeleteTopics => call.reply(body, topics::delete_topics),
        ApiKey::InitProducerId => call.reply(body, produce::init_producer_id),
        ApiKey::DescribeConfigs => call.reply(body, topics::describe_configs),
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

/// Does what is due in the groups, when it is due.
pub(super) async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = shared.cluster().tick(Instant::now());
        tokio::select! {
            () = shared.deadlines.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}
