//! Looking after a cluster: topics, partitions, configs, ACLs, users, transactions, and what it is made of.

mod acls;
mod configs;
mod partitions;
mod state;
mod topics;
mod transactions;
mod users;

pub use configs::{Change, ConfigEntry, Configured};
pub use partitions::Reassignment;
pub use state::{Api, Broker, Brokers, Feature, LogDir, Quorum, QuorumReplica};
pub use transactions::{ListedTransaction, OpenTransaction, Transaction};

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

/// Looks after a cluster through the native engine.
#[derive(Debug)]
pub struct ClusterAdmin {
    client: Client,
}

impl ClusterAdmin {
    /// Looks after the cluster that `client` is connected to.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn cluster(&self) -> &Cluster {
        &self.client.cluster
    }

    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.client.network.run(Until::FirstSignal, work)
    }
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
            id if id >= 0 => self.broker(id).await,
            _ => self.any().await,
        }
    }

    /// A connection to a broker that somebody named.
    async fn known_broker(&self, id: i32) -> Result<Arc<Connection>> {
        if !self.knows(id) && !self.brokers().await?.contains(&id) {
            return Err(Error::UnknownBroker(BrokerId(id)));
        }
        self.broker(id).await
    }

    /// Asks the controller, and the next one when it moved meanwhile.
    async fn ask_controller<T>(&self, ask: impl AsyncFn(Arc<Connection>) -> Result<T>) -> Result<T> {
        let moved = || async {
            match ask(self.controller().await?).await {
                Err(error) if error.code() == Some(ResponseError::NotController) => Err(error),
                answer => Ok(answer),
            }
        };
        self.retry().run(moved).await?
    }
}
