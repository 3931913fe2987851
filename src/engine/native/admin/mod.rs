//! The native engine's admin: topics, partitions, configs, ACLs, users, transactions, and what the cluster consists of.
//!
//! Each method of [`NativeAdmin`] runs one task on the network's thread; the tasks are methods of `Cluster`.

mod acls;
mod cluster;
mod configs;
mod groups;
mod partitions;
mod topics;
mod transactions;
mod users;

use super::Client;
use super::cluster::Cluster;
use super::net::Connection;
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::BrokerId;
use crate::signal::Until;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::DescribeQuorumRequest;
use kafka_protocol::protocol::StrBytes;
use std::future::Future;
use std::sync::Arc;

/// Administration of a cluster through the native engine.
#[derive(Debug, Clone)]
pub struct NativeAdmin {
    client: Client,
}

impl NativeAdmin {
    pub(in crate::engine) fn new(client: Client) -> Self {
        Self { client }
    }

    fn cluster(&self) -> &Cluster {
        &self.client.cluster
    }

    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.client.network.run(Until::FirstSignal, work)
    }

    /// Asks for what may be done twice, because it changes nothing or the same thing, again while that may help.
    fn repeat<T, F: Future<Output = Result<T>>>(&self, ask: impl FnMut() -> F) -> Result<T> {
        self.run(self.cluster().retry().run(ask))
    }
}

/// Whether a controller that answers with `code` has changed nothing.
fn is_refused_untouched(code: ResponseError) -> bool {
    matches!(code, ResponseError::NotController | ResponseError::ThrottlingQuotaExceeded)
}

/// The error that an answer's code and message stand for.
fn refusal(action: Action, subject: impl Into<Subject>, code: i16, message: Option<&StrBytes>) -> Result<()> {
    let Some(code) = error_code(code) else { return Ok(()) };
    // What brokers add to a denial is an object's address.
    let detail = message.map(ToString::to_string).filter(|text| !text.is_empty() && !code.is_denied());
    Err(Error::Kafka { action, subject: subject.into(), code, detail })
}

impl Cluster {
    /// Since KRaft any broker forwards to the controller (KIP-590); before, the controller must be asked itself.
    async fn controller(&self) -> Result<Arc<Connection>> {
        let any = self.any().await?;
        if any.version::<DescribeQuorumRequest>(i16::MAX).is_ok() {
            return Ok(any);
        }
        match self.nodes().await?.controller_id.0 {
            id if id >= 0 => self.broker(BrokerId(id)).await,
            _ => self.any().await,
        }
    }

    /// A connection to a broker that the user named.
    async fn known_broker(&self, id: BrokerId) -> Result<Arc<Connection>> {
        self.require_known(id).await?;
        self.broker(id).await
    }

    /// Checks that the cluster has a broker that the user named.
    async fn require_known(&self, id: BrokerId) -> Result<()> {
        let is_known = self.knows(id) || self.brokers().await?.contains(&id);
        if is_known { Ok(()) } else { Err(Error::UnknownBroker(id)) }
    }

    /// Asks the controller, and the next one when it moved meanwhile; again when a quota of changes is exceeded, for then
    /// it has done nothing (KIP-599).
    async fn ask_controller<T>(&self, ask: impl AsyncFn(Arc<Connection>) -> Result<T>) -> Result<T> {
        let moved = || async {
            match ask(self.controller().await?).await {
                Err(error) if error.code().is_some_and(is_refused_untouched) => Err(error),
                answer => Ok(answer),
            }
        };
        self.retry().run(moved).await?
    }
}
