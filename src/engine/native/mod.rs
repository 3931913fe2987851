//! This project's own client: Kafka 0.11 to today.
//!
//! `net` moves bytes, `wire` knows batches, [`cluster`](self) knows who leads what; producer, consumer and
//! admin stand on these. Sockets live on one thread; the command's own thread does the work on records.

mod admin;
mod cluster;
mod consumer;
mod group;
#[cfg_attr(feature = "mutations", doc(hidden))]
pub mod mutation;
mod net;
mod producer;
pub mod wire;

pub use admin::NativeAdmin;
pub use consumer::NativeConsumer;
pub use group::{read_assignment, read_subscription};
pub(in crate::engine) use net::Backoff;
pub use net::{Hash, Scram, Service, http};
pub(crate) use net::{Network, Outage, Retry, check_cryptography, clock, server_config, sleep_until};
pub(in crate::engine) use producer::precedes_append;
pub use producer::{NativeProducer, Wake};

use crate::engine::Options;
use crate::error::Result;
use crate::signal::{Stop, Until};
use cluster::Cluster;
use net::OldBroker;
use std::sync::Arc;

/// A connection to a cluster; clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    network: Arc<Network>,
    cluster: Arc<Cluster>,
}

/// What was found where brokers should be.
#[derive(Debug)]
pub enum Found {
    /// Brokers that this engine speaks to.
    Modern(Client),
    /// A broker that seems to be older.
    Old(OldBroker),
}

impl Client {
    /// Whether the brokers also take the requests of the `kafka` crate.
    ///
    /// # Errors
    /// None can be reached any more.
    pub fn is_legacy(&self) -> Result<bool> {
        self.network.run(Until::FirstSignal, async { Ok(self.cluster.any().await?.is_legacy()) })
    }

    /// Connects to the first of `config`'s brokers that answers.
    ///
    /// # Errors
    /// None does, or what answers is no broker.
    pub fn connect(options: &Options, stop: &Stop) -> Result<Found> {
        let network = Arc::new(Network::start(stop, &options.platform)?);
        let cluster = network.run(Until::FirstSignal, Cluster::connect(options.clone()))?;
        Ok(match cluster {
            cluster::Found::Modern(cluster) => Found::Modern(Self { network, cluster }),
            cluster::Found::Old(reason) => Found::Old(reason),
        })
    }
}
