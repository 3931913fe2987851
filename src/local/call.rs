//! One request as its handler sees it, and what all of them share.

use super::cluster::Cluster;
use super::faults::Faults;
use super::group::{Answer, Group, Waiter};
use crate::engine::native::wire::message;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Where brokers listen.
pub(super) const HOST: &str = "127.0.0.1";
pub(super) const CLUSTER_ID: &str = "kpipe-local-cluster-00";
/// Text as the schemas want it.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Mutex<Cluster>,
    /// There are new records, or a leader has moved.
    pub(super) appended: Notify,
    /// A group may be due earlier than it was.
    pub(super) deadlines: Notify,
    pub(super) faults: Faults,
}

impl Shared {
    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request: to whom, from whom, in which version.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: i32,
    pub(super) version: i16,
    pub(super) correlation: i32,
    pub(super) client_id: String,
    /// As Kafka shows it: `/127.0.0.1`.
    pub(super) host: String,
    /// What it is to be refused with, whatever it asks.
    pub(super) refusal: Option<E>,
    /// The throttle time that its answer carries.
    pub(super) throttle: Duration,
}

/// An answer that can carry a throttle time.
pub(super) trait Throttled {
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
    ApiVersionsResponse CreatePartitionsResponse CreateTopicsResponse DeleteTopicsResponse DescribeConfigsResponse
    DescribeGroupsResponse FetchResponse FindCoordinatorResponse HeartbeatResponse InitProducerIdResponse
    JoinGroupResponse LeaveGroupResponse ListGroupsResponse ListOffsetsResponse MetadataResponse OffsetCommitResponse
    OffsetFetchResponse ProduceResponse SyncGroupResponse
}

/// Why a connection is closed.
pub(super) type Closed = String;

impl Call {
    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster()
    }

    /// The brokers that are up: id, host, port.
    pub(super) fn endpoints(&self) -> Vec<(i32, StrBytes, i32)> {
        let cluster = self.cluster();
        let up = cluster.brokers.iter().filter(|broker| broker.up);
        up.map(|broker| (broker.id, StrBytes::from_static_str(HOST), i32::from(broker.port))).collect()
    }

    /// Whether this broker answers for `group`.
    pub(super) fn coordinates(&self, group: &str) -> Result<(), E> {
        self.coordinates_in(&self.cluster(), group)
    }

    /// [`Call::coordinates`] for who has the cluster locked.
    pub(super) fn coordinates_in(&self, cluster: &Cluster, group: &str) -> Result<(), E> {
        match self.refusal {
            Some(error) => Err(error),
            None if group.is_empty() => Err(E::InvalidGroupId),
            None if cluster.coordinator(group) == Some(self.broker) => Ok(()),
            None => Err(E::NotCoordinator),
        }
    }

    /// Puts a question to a group and waits for the answer; `None` when the server ends first.
    pub(super) async fn ask_group(
        &self,
        group: &str,
        ask: impl FnOnce(&mut Group, Waiter, Instant) -> Vec<Answer>,
    ) -> Option<Answer> {
        let answer = {
            let mut cluster = self.cluster();
            let (waiter, answer) = cluster.wait();
            let group = cluster.groups.entry(group.to_owned()).or_default();
            let answers = ask(group, waiter, Instant::now());
            cluster.hand_out(answers);
            answer
        };
        self.shared.deadlines.notify_one();
        answer.await.ok()
    }

    pub(super) fn decode<R: Request>(&self, mut body: Bytes) -> Result<R, Closed> {
        let flexible = R::header_version(self.version) >= 2;
        message::decode(&mut body, self.version, flexible).map_err(|e| format!("a malformed request: {e}"))
    }

    /// The answer's whole frame.
    pub(super) fn encode<R: Request<Response: Throttled>>(&self, mut response: R::Response) -> Result<Bytes, Closed> {
        if !self.throttle.is_zero() {
            response.throttle(i32::try_from(self.throttle.as_millis()).unwrap_or(i32::MAX));
        }
        let failed = |e| format!("an answer that cannot be put into bytes: {e}");
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

    pub(super) fn reply<R: Request<Response: Throttled>>(
        &self,
        body: Bytes,
        handle: impl FnOnce(&Self, R) -> R::Response,
    ) -> Result<Bytes, Closed> {
        let response = handle(self, self.decode(body)?);
        self.encode::<R>(response)
    }
}
