//! Connections: a request in, its handler, its answer out, with the faults that were injected; and the clock of the
//! groups.

use super::faults::Fault;
use super::frames::Room;
use super::limits::LONGEST_TRANSFER;
use super::listener::{Accepted, Listener};
use super::requests::answer;
use super::requests::call::{Call, Closed, Shared};
use super::security::Session;
use crate::engine::native::clock;
use crate::engine::native::{sleep_until, wire::message};
use crate::engine::platform::Socket;
use crate::record::BrokerId;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Message, VersionRange};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Accepts connections to `broker` until it is aborted; that ends them too.
pub(super) async fn accept(shared: Arc<Shared>, room: Room, broker: BrokerId, mut listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok(Accepted { socket, host }) => {
                    connections.spawn(serve(shared.clone(), room.clone(), broker, socket, host));
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

async fn serve(shared: Arc<Shared>, room: Room, broker: BrokerId, socket: Box<dyn Socket>, host: String) {
    shared.faults.count_connection();
    let tls = shared.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
    let socket = match tls {
        None => socket,
        Some(config) => {
            let shaking = TlsAcceptor::from(config).accept(socket);
            match tokio::time::timeout(LONGEST_TRANSFER, shaking).await {
                Ok(Ok(shaken)) => Box::new(shaken),
                Ok(Err(error)) => return tracing::info!(%broker, %error, "no TLS handshake"),
                Err(_) => return tracing::info!(%broker, "a TLS handshake that took too long"),
            }
        }
    };
    if let Err(why) = serve_requests(&shared, &room, broker, socket, &host).await {
        tracing::info!(%broker, %why, "closed a connection");
    }
}

/// One request after the other, as Kafka does: the next is read when the one before is answered.
async fn serve_requests(
    shared: &Arc<Shared>,
    room: &Room,
    broker: BrokerId,
    socket: Box<dyn Socket>,
    host: &str,
) -> Result<(), Closed> {
    let mut socket = BufReader::new(socket);
    let session = Arc::new(Mutex::new(shared.security.session()));
    loop {
        let Some((frame, permit)) = room.read(&mut socket).await? else { return Ok(()) };
        shared.faults.until_thawed(broker.0).await;
        let (call, api, body) = match read_header(shared, broker, host, &session, frame)? {
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
        handle(call, api, body, permit, &mut socket).await?;
        if session.lock().unwrap_or_else(PoisonError::into_inner).has_failed() {
            return Err("the client could not authenticate".to_owned());
        }
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

fn read_header(
    shared: &Arc<Shared>,
    broker: BrokerId,
    host: &str,
    session: &Arc<Mutex<Session>>,
    mut frame: Bytes,
) -> Result<Asked, Closed> {
    // Key, version and correlation ID stand first in every request.
    let Some([a, b, c, d, correlation @ ..]) = frame.first_chunk::<8>().copied() else {
        return Err("a request without a header".to_owned());
    };
    let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let correlation = i32::from_be_bytes(correlation);
    let served =
        |(api, range): &&(ApiKey, VersionRange)| *api as i16 == key && (range.min..=range.max).contains(&version);
    let Some((api, _)) = shared.offered().find(served).copied() else {
        let versions = key == ApiKey::ApiVersions as i16;
        let refusal = refuse(versions, correlation);
        let why = || format!("request {key} in version {version} is not served");
        return Ok(if versions { Asked::OtherVersion(refusal) } else { Asked::Unknown(refusal, why()) });
    };
    let header_version = api.request_header_version(version);
    let header: RequestHeader = message::decode(&mut frame, header_version, header_version >= 2)
        .map_err(|e| format!("a malformed header: {e}"))?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    tracing::info!(%broker, request = ?api, version, client = client_id, bytes = frame.len(), "request");
    let mut session_now = session.lock().unwrap_or_else(PoisonError::into_inner);
    let principal = session_now.principal().map(str::to_owned);
    let opens = matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
    let is_out_of_turn = principal.is_none() && !opens;
    if is_out_of_turn && session_now.can_begin() {
        return Err(format!("{api:?} of a client that has not authenticated"));
    }
    if is_out_of_turn {
        session_now.fail();
    }
    drop(session_now);
    let call = Call {
        principal: principal.unwrap_or_default(),
        session: session.clone(),
        shared: shared.clone(),
        broker,
        version,
        correlation,
        client_id,
        host: host.to_owned(),
        refusal: is_out_of_turn.then_some(E::IllegalSaslState),
        throttle: Duration::ZERO,
    };
    Ok(Asked::Served(call, api, frame))
}

/// Answers a request, with what is to go wrong with it.
async fn handle(
    mut call: Call,
    api: ApiKey,
    body: Bytes,
    permit: OwnedSemaphorePermit,
    socket: &mut BufReader<Box<dyn Socket>>,
) -> Result<(), Closed> {
    let mut in_work = Some(permit);
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
            answer(&call, api, body.clone(), &mut in_work).await?;
            call.refusal = E::try_from_code(code);
        }
        Some(Fault::Throttle(time)) => call.throttle = time,
        Some(Fault::DropAfter | Fault::Delay(_) | Fault::Cut(_)) | None => {}
    }
    let answer = answer(&call, api, body, &mut in_work).await?;
    drop(in_work);
    let latency = call.shared.faults.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    call.shared.faults.until_thawed(call.broker.0).await;
    let mut sent = &answer.frame[..];
    match fault {
        Some(Fault::DropAfter) => return ordered(),
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Cut(bytes)) => sent = &sent[..bytes.min(sent.len())],
        _ => {}
    }
    socket.write_all(sent).await.map_err(|e| e.to_string())?;
    if matches!(fault, Some(Fault::Cut(_))) {
        return ordered();
    }
    tokio::time::sleep(call.throttle).await;
    Ok(())
}

/// UNSUPPORTED_VERSION, where most answers have their error: first. ApiVersions also lists its versions.
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

/// Does what is due in groups, transactions, logs and replicas, when it is due.
pub(super) async fn keep_time(shared: Arc<Shared>) {
    loop {
        let (next, is_changed) = {
            let mut cluster = shared.cluster();
            (cluster.tick(clock::now()), cluster.take_changed())
        };
        if is_changed {
            shared.appended.notify_waiters();
        }
        tokio::select! {
            biased;
            () = shared.deadlines.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}
