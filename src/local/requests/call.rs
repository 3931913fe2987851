//! One request as its handler sees it, and what all of them share: the cluster behind its lock, decoding, encoding.

use super::{CONSUMER_GROUPS, OFFERED};
use crate::engine::native::clock;
use crate::engine::native::wire::message;
use crate::engine::{Operation, ResourceType};
use crate::local::cluster::Cluster;
use crate::local::faults::Faults;
use crate::local::group::{Answer, Group, Waiter};
use crate::local::limits::MOST_FETCHED_IN_ALL;
use crate::local::security::{Security, Session};
use crate::record::BrokerId;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

pub(in crate::local) const CLUSTER_ID: &str = "kpipe-local-cluster-00";
/// Text in the schemas' type.
pub(in crate::local) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// What all connections share.
#[derive(Debug)]
pub(in crate::local) struct Shared {
    pub(in crate::local) cluster: Mutex<Cluster>,
    /// New records were appended, or a leader has moved.
    pub(in crate::local) appended: Notify,
    /// A group may be due earlier than it was.
    pub(in crate::local) deadlines: Notify,
    pub(in crate::local) faults: Faults,
    pub(in crate::local) security: Security,
    /// Connections are encrypted if it is there.
    pub(in crate::local) tls: RwLock<Option<Arc<rustls::ServerConfig>>>,
    /// Whether the requests of KIP-848 are served.
    pub(in crate::local) consumer_groups: AtomicBool,
    /// Bytes that answers to fetches may still take.
    pub(in crate::local) fetched: Arc<Semaphore>,
}

impl Shared {
    pub(in crate::local) fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Mutex::new(cluster),
            appended: Notify::new(),
            deadlines: Notify::new(),
            faults: Faults::default(),
            security: Security::default(),
            tls: RwLock::default(),
            consumer_groups: AtomicBool::new(false),
            fetched: Arc::new(Semaphore::new(MOST_FETCHED_IN_ALL)),
        }
    }

    /// The requests that are served.
    pub(in crate::local) fn offered(&self) -> impl Iterator<Item = &'static (ApiKey, VersionRange)> {
        let consumer_groups = self.consumer_groups.load(Ordering::Relaxed);
        OFFERED.iter().chain(CONSUMER_GROUPS.iter().filter(move |_| consumer_groups))
    }

    pub(in crate::local) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// WriteTxnMarkers is between brokers, which do not throttle each other.
impl Throttled for kafka_protocol::messages::WriteTxnMarkersResponse {
    fn throttle(&mut self, _millis: i32) {}
}

/// Who is not known yet is not throttled.
impl Throttled for kafka_protocol::messages::SaslHandshakeResponse {
    fn throttle(&mut self, _millis: i32) {}
}

impl Throttled for kafka_protocol::messages::SaslAuthenticateResponse {
    fn throttle(&mut self, _millis: i32) {}
}

/// One request: its broker, its client, its version.
#[derive(Debug)]
pub(in crate::local) struct Call {
    pub(in crate::local) shared: Arc<Shared>,
    pub(in crate::local) broker: BrokerId,
    pub(in crate::local) version: i16,
    pub(in crate::local) correlation: i32,
    pub(in crate::local) client_id: String,
    /// As Kafka shows it: `/127.0.0.1`.
    pub(in crate::local) host: String,
    /// Who asks: the user that has authenticated.
    pub(in crate::local) principal: String,
    /// The connection's.
    pub(in crate::local) session: Arc<Mutex<Session>>,
    /// The error that answers it: an injected one, or ILLEGAL_SASL_STATE before authentication.
    pub(in crate::local) refusal: Option<E>,
    /// The throttle time that its answer carries.
    pub(in crate::local) throttle: Duration,
}

/// An answer that can carry a throttle time.
pub(in crate::local) trait Throttled {
    /// Sets the throttle time, in milliseconds.
    fn throttle(&mut self, millis: i32);
}

macro_rules! throttled {
    ($($response:ident)*) => {$(
        impl Throttled for kafka_protocol::messages::$response {
            fn throttle(&mut self, millis: i32) {
                self.throttle_time_ms = millis;
            }
        }
    )*};
}

throttled! {
    AddOffsetsToTxnResponse AddPartitionsToTxnResponse DeleteGroupsResponse DeleteRecordsResponse DescribeClusterResponse
    DescribeLogDirsResponse DescribeProducersResponse DescribeTransactionsResponse EndTxnResponse
    IncrementalAlterConfigsResponse ListTransactionsResponse OffsetDeleteResponse OffsetForLeaderEpochResponse
    TxnOffsetCommitResponse ConsumerGroupHeartbeatResponse ConsumerGroupDescribeResponse
    ApiVersionsResponse CreatePartitionsResponse CreateTopicsResponse DeleteTopicsResponse DescribeConfigsResponse
    DescribeGroupsResponse FetchResponse FindCoordinatorResponse HeartbeatResponse InitProducerIdResponse
    JoinGroupResponse LeaveGroupResponse ListGroupsResponse ListOffsetsResponse MetadataResponse OffsetCommitResponse
    OffsetFetchResponse ProduceResponse SyncGroupResponse
    DescribeAclsResponse CreateAclsResponse DeleteAclsResponse
}

/// Why a connection is closed.
pub(in crate::local) type Closed = String;

impl Call {
    pub(in crate::local) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster()
    }

    pub(in crate::local) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that answers a request about a resource: the injected one, or that its principal may not do this.
    fn check(&self, operation: Operation, kind: ResourceType, name: &str) -> Result<(), E> {
        let check = || self.shared.security.check(&self.principal, &self.host, operation, kind, name);
        self.refusal.map_or_else(check, Err)
    }

    /// [`Call::check`] for a topic.
    pub(in crate::local) fn check_topic(&self, operation: Operation, name: &str) -> Result<(), E> {
        self.check(operation, ResourceType::Topic, name)
    }

    /// [`Call::check_topic`] for a topic by name, or by ID where the name is empty.
    pub(in crate::local) fn check_topic_in(
        &self,
        cluster: &Cluster,
        operation: Operation,
        name: &str,
        id: Uuid,
    ) -> Result<(), E> {
        self.check_topic(operation, cluster.topic(name, id).map_or(name, |(found, _)| found))
    }

    /// [`Call::check`] for a group.
    pub(in crate::local) fn check_group(&self, operation: Operation, id: &str) -> Result<(), E> {
        self.check(operation, ResourceType::Group, id)
    }

    /// [`Call::check`] for a transactional ID.
    pub(in crate::local) fn check_transactional_id(&self, operation: Operation, id: &str) -> Result<(), E> {
        self.check(operation, ResourceType::TransactionalId, id)
    }

    /// [`Call::check`] for the cluster.
    pub(in crate::local) fn check_cluster(&self, operation: Operation) -> Result<(), E> {
        self.check(operation, ResourceType::Cluster, ResourceType::CLUSTER_NAME)
    }

    /// Whether the principal may be an idempotent producer: since Kafka 3.0 whoever may write to any topic (KIP-679).
    pub(in crate::local) fn may_be_idempotent(&self) -> bool {
        let security = &self.shared.security;
        self.check_cluster(Operation::IdempotentWrite).is_ok()
            || security.allows_any(&self.principal, &self.host, Operation::Write, ResourceType::Topic)
    }

    /// Whether this broker answers for `group`, and the principal may do this with it.
    pub(in crate::local) fn coordinates_for(&self, operation: Operation, group: &str) -> Result<(), E> {
        self.check_group(operation, group)?;
        self.coordinates(group)
    }

    /// Whether this broker answers for `group`.
    pub(in crate::local) fn coordinates(&self, group: &str) -> Result<(), E> {
        self.coordinates_in(&self.cluster(), group)
    }

    /// [`Call::coordinates`] for a caller that has locked the cluster.
    pub(in crate::local) fn coordinates_in(&self, cluster: &Cluster, group: &str) -> Result<(), E> {
        match self.refusal {
            Some(error) => Err(error),
            None if group.is_empty() => Err(E::InvalidGroupId),
            None if cluster.coordinator(group) == Some(self.broker) => Ok(()),
            None => Err(E::NotCoordinator),
        }
    }

    /// Asks a group, which may take `bytes` more for it, and waits for the answer; `None` when the server ends first.
    pub(in crate::local) async fn ask_group(
        &self,
        group: &str,
        bytes: usize,
        ask: impl FnOnce(&mut Group, Waiter, Instant) -> Vec<Answer>,
    ) -> Result<Option<Answer>, E> {
        let answer = {
            let mut cluster = self.cluster();
            cluster.group_with_room(group, bytes)?;
            let (waiter, answer) = cluster.wait();
            let answers = match cluster.groups.get_mut(group) {
                Some(group) => ask(group, waiter, clock::now()),
                None => Vec::new(),
            };
            cluster.deliver(answers);
            answer
        };
        self.shared.deadlines.notify_one();
        Ok(answer.await.ok())
    }

    pub(in crate::local) fn decode<R: Request>(&self, mut body: Bytes) -> Result<R, Closed> {
        let flexible = R::header_version(self.version) >= 2;
        message::decode(&mut body, self.version, flexible).map_err(|e| format!("a malformed request: {e}"))
    }

    /// Encodes an answer as a whole frame.
    pub(in crate::local) fn encode<R: Request<Response: Throttled>>(
        &self,
        mut response: R::Response,
    ) -> Result<Bytes, Closed> {
        if !self.throttle.is_zero() {
            response.throttle(i32::try_from(self.throttle.as_millis()).unwrap_or(i32::MAX));
        }
        let failed = |e| format!("an answer that cannot be encoded: {e}");
        let size = response.compute_size(self.version).map_err(|e| failed(e.to_string()))?;
        let mut frame = BytesMut::with_capacity(size + 16);
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut frame, R::Response::header_version(self.version)).map_err(|e| failed(e.to_string()))?;
        response.encode(&mut frame, self.version).map_err(|e| failed(e.to_string()))?;
        let len = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        Ok(frame.freeze())
    }

    pub(in crate::local) fn reply<R: Request<Response: Throttled>>(
        &self,
        body: Bytes,
        handle: impl FnOnce(&Self, R) -> R::Response,
    ) -> Result<Bytes, Closed> {
        let response = handle(self, self.decode(body)?);
        self.encode::<R>(response)
    }
}

/// Leaves out what stands earlier in a list: an answer grows with the request, not with its repetitions.
pub(in crate::local) fn distinct<T, K: std::hash::Hash + Eq>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = T> {
    let mut seen = std::collections::HashSet::new();
    items.into_iter().filter(move |item| seen.insert(key(item)))
}
