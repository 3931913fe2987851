//! `kpipe local`: an in-memory Kafka cluster for trials and tests. Nothing is stored.
//!
//! [`server`] takes requests off sockets, [`requests`] has a file a request family, over a [`cluster`] that does no I/O:
//! logs that store batches as they came, and groups that are state machines. [`faults`] has them go wrong, [`limits`]
//! bounds them. Calls `engine::native` for batches and the network thread, and knows no command.

mod cluster;
mod configs;
mod faults;
mod frames;
mod group;
mod inspect;
mod limits;
mod listener;
mod log;
mod requests;
mod security;
mod server;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tls;
mod transactions;

pub use faults::{Fault, Faults, Times};
pub use requests::{CONSUMER_GROUPS, OFFERED};
pub use security::Access;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use tls::{Generated, generate};

use crate::engine::native::{Network, server_config};
use crate::engine::platform::Platform;
use crate::error::{Error, Result, describe_io};
use crate::record::{BrokerId, PartitionId};
use crate::signal::{Stop, Until};
use cluster::{Advertised, Cluster, HOST, NewTopic};
use frames::Room;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use listener::{Listener, taken};
use requests::call::Shared;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of brokers; at least 1.
    pub brokers: u16,
    /// Broker N listens on this port + N - 1; 0 takes free ones.
    pub port: u16,
    /// Topics to create, with their partitions.
    pub topics: Vec<(String, i32)>,
    /// Maximum size of all records; beyond it the oldest batches are deleted. Groups may take a quarter as much, at least
    /// 1 MB.
    pub retain_bytes: usize,
}

/// What a server shows TLS clients.
#[derive(Debug)]
pub struct Certificate {
    /// The server's certificate, and those up to the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Connections that wait to be accepted, for each broker.
const BACKLOG: u32 = 1024;

/// A running cluster; ends when dropped.
#[derive(Debug)]
pub struct Local {
    network: Network,
    platform: Platform,
    shared: Arc<Shared>,
    room: Room,
    /// The task of each broker that is up, its listener and connections with it.
    running: Mutex<HashMap<BrokerId, JoinHandle<()>>>,
    /// The port of each that is down.
    reserved: Mutex<HashMap<BrokerId, TcpSocket>>,
}

impl Local {
    /// Starts the cluster; it accepts connections when this returns.
    ///
    /// # Errors
    /// A port is taken, or a topic cannot be created.
    pub fn start(options: &Options, stop: &Stop) -> Result<Self> {
        Self::start_on(Platform::System, options, stop)
    }

    /// [`Local::start`] on `platform`; in a simulation the port must not be 0.
    ///
    /// # Errors
    /// As there.
    pub fn start_on(platform: Platform, options: &Options, stop: &Stop) -> Result<Self> {
        let network = Network::start(stop, &platform)?;
        let listeners = network.run(Until::FirstSignal, async {
            let mut listeners = Vec::new();
            for n in 0..options.brokers.max(1) {
                let port = if options.port == 0 { 0 } else { options.port.saturating_add(n) };
                listeners.push(Listener::bind(&platform, port).await?);
            }
            Ok(listeners)
        })?;
        let ports: Vec<u16> = listeners.iter().map(|(_, port)| *port).collect();
        let mut cluster = Cluster::new(&ports, options.retain_bytes);
        for (name, partitions) in &options.topics {
            let new = NewTopic { partitions: Some(*partitions), ..NewTopic::default() };
            cluster
                .create(name, &new, false)
                .map_err(|(error, why)| Error::Usage(format!("--topic {name}:{partitions}: {why} ({error:?})")))?;
        }
        let shared = Arc::new(Shared::new(cluster));
        network.handle().spawn(server::keep_time(shared.clone()));
        let local = Self {
            network,
            platform,
            shared,
            room: Room::default(),
            running: Mutex::default(),
            reserved: Mutex::default(),
        };
        for (index, (listener, _)) in listeners.into_iter().enumerate() {
            local.serve(BrokerId(index as i32 + 1), listener);
        }
        Ok(local)
    }

    fn serve(&self, broker: BrokerId, listener: Listener) {
        let task =
            self.network.handle().spawn(server::accept(self.shared.clone(), self.room.clone(), broker, listener));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(broker, task);
    }

    /// `host:port` of all brokers.
    pub fn bootstrap(&self) -> String {
        let cluster = self.shared.cluster();
        let all: Vec<_> = cluster.brokers.iter().map(|broker| format!("{HOST}:{}", broker.port)).collect();
        all.join(",")
    }

    /// The faults of requests: which go wrong, and how.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Serves the consumer group protocol (KIP-848) too, from the next connection on: clients that ask what there is
    /// then prefer it.
    pub fn offer_consumer_groups(&self) {
        self.shared.consumer_groups.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Encrypts connections with TLS, from the next one on.
    ///
    /// # Errors
    /// The key does not fit the certificate, or there is no cryptography for this CPU.
    pub fn encrypt(&self, certificate: Certificate) -> Result<()> {
        let config = server_config(certificate.chain, certificate.key)?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
        Ok(())
    }

    /// Sets who may connect, from the next connection on, and do what.
    pub fn set_access(&self, access: Access) {
        self.shared.security.set(access);
    }

    /// Changes the cluster and wakes the readers that wait.
    fn change<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let changed = change(&mut self.shared.cluster());
        self.shared.appended.notify_waiters();
        changed
    }

    /// Has another broker lead a partition, under a new leader epoch, with the records that it has: an unclean election
    /// when it is not in sync. False when there is no such partition, or the broker is down.
    #[must_use = "false: nothing was changed"]
    pub fn move_leader(&self, topic: &str, partition: PartitionId, broker: i32) -> bool {
        self.change(|cluster| cluster.move_leader(topic, partition, Some(BrokerId(broker))))
    }

    /// Leaves a partition without a leader until [`Local::move_leader`]; false when there is no such partition.
    #[must_use = "false: nothing was changed"]
    pub fn remove_leader(&self, topic: &str, partition: PartitionId) -> bool {
        self.change(|cluster| cluster.move_leader(topic, partition, None))
    }

    /// Has a partition answer Produce, Fetch and ListOffsets with an error code of Kafka's, or serve them again with
    /// `None`; false when there is no such partition.
    #[must_use = "false: nothing was changed"]
    pub fn set_partition_error(&self, topic: &str, partition: PartitionId, code: Option<i16>) -> bool {
        self.change(|cluster| {
            let found = cluster.partition_mut(topic, partition);
            found.map(|partition| partition.error = code.and_then(ResponseError::try_from_code)).is_some()
        })
    }

    /// Moves a partition's log start offset up or down, within 0 and its end; false when there is no such partition.
    /// The records stay, so that a lowered start shows them again.
    #[must_use = "false: nothing was changed"]
    pub fn set_log_start(&self, topic: &str, partition: PartitionId, offset: i64) -> bool {
        self.change(|cluster| {
            let found = cluster.partition_mut(topic, partition);
            found.map(|partition| partition.log.set_start(offset)).is_some()
        })
    }

    /// Deletes the records of a partition before `offset`, as retention does; false if it does not exist.
    #[must_use = "false: nothing was changed"]
    pub fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> bool {
        self.change(|cluster| cluster.delete_records(topic, partition, offset).is_some())
    }

    /// Adds partitions to a topic until there are `count`; false when it has as many or does not exist.
    #[must_use = "false: nothing was changed"]
    pub fn add_partitions(&self, topic: &str, count: i32) -> bool {
        self.change(|cluster| cluster.add_partitions(topic, count, false).is_ok())
    }

    /// Compacts a topic at once, whatever its `cleanup.policy`: of the committed records with a key only the last of each
    /// stays. False when there is no such topic.
    #[must_use = "false: nothing was changed"]
    pub fn compact(&self, topic: &str) -> bool {
        self.change(|cluster| cluster.compact(topic))
    }

    /// Deletes a topic and creates it again at once: the same partitions and configs, another topic ID, leader epoch 0,
    /// no records; false when there is none.
    #[must_use = "false: nothing was changed"]
    pub fn recreate_topic(&self, topic: &str) -> bool {
        self.change(|cluster| cluster.recreate(topic))
    }

    /// Cuts off what a partition has from `offset` on, in whole batches, under a new leader epoch, as after an unclean
    /// election; false when there is no such partition.
    #[must_use = "false: nothing was changed"]
    pub fn truncate(&self, topic: &str, partition: PartitionId, offset: i64) -> bool {
        self.change(|cluster| cluster.truncate(topic, partition, offset))
    }

    /// Cuts a broker off from the others, or joins it again: until then it names and serves the leaders and records of
    /// the moment when it was cut off. As a leader it accepts records with acks=1 only; they are lost if another has been
    /// elected when it joins again.
    pub fn isolate(&self, broker: i32, is_isolated: bool) {
        self.change(|cluster| cluster.isolate(BrokerId(broker), is_isolated));
    }

    /// Stops a broker's replication of what others lead: records with acks=all wait for it until it is out of sync, and
    /// what it lacks is lost if it is elected.
    pub fn pause_replication(&self, broker: i32) {
        self.change(|cluster| cluster.set_replicating(BrokerId(broker), false));
        self.shared.deadlines.notify_one();
    }

    /// Has a broker replicate again: it cuts off what the leaders do not have, copies the rest and is in sync.
    pub fn resume_replication(&self, broker: i32) {
        self.change(|cluster| cluster.set_replicating(BrokerId(broker), true));
    }

    /// Sets how long a replica may lack records before it is out of sync (`replica.lag.time.max.ms`); 30 seconds at first.
    pub fn set_replica_lag(&self, most: Duration) {
        self.change(|cluster| cluster.set_replica_lag(most));
        self.shared.deadlines.notify_one();
    }

    /// Cuts off what a replica that is down or does not replicate has from `offset` on, in whole batches, as a loss of
    /// power does with what was not flushed; false when there is no such replica.
    #[must_use = "false: nothing was changed"]
    pub fn truncate_replica(&self, topic: &str, partition: PartitionId, broker: i32, offset: i64) -> bool {
        self.change(|cluster| cluster.truncate_replica(topic, partition, BrokerId(broker), offset))
    }

    /// The in-sync replicas of a partition; none when there is no such partition.
    pub fn in_sync_replicas(&self, topic: &str, partition: PartitionId) -> Vec<i32> {
        let mut cluster = self.shared.cluster();
        let found = cluster.partition_mut(topic, partition);
        found.map(|found| found.in_sync().iter().map(|id| id.0).collect()).unwrap_or_default()
    }

    /// Has a broker tell clients another address than the one it listens on, as `advertised.listeners` does: a proxy's, or
    /// a wrong one.
    pub fn advertise(&self, broker: i32, host: &str, port: u16) {
        self.change(|cluster| {
            for found in cluster.brokers.iter_mut().filter(|found| found.id == BrokerId(broker)) {
                found.advertised = Advertised { host: StrBytes::from_string(host.to_owned()), port };
            }
        });
    }

    /// Has another broker coordinate a group.
    pub fn move_coordinator(&self, group: &str, broker: i32) {
        self.shared.cluster().move_coordinator(group, BrokerId(broker));
    }

    /// Kills a broker: its connections break, and the next in-sync replica leads what it led, or none while there is
    /// none. The broker keeps its log.
    pub fn crash(&self, broker: i32) {
        let broker = BrokerId(broker);
        let task = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&broker);
        if let Some(task) = task {
            task.abort();
            // Err: it was aborted, as it should be. Its port is free when this returns.
            let _ = self.network.wait(task);
            if matches!(self.platform, Platform::System) {
                self.reserve_port(broker);
            }
        }
        self.change(|cluster| cluster.set_up(broker, false));
    }

    /// Keeps others from the port of a broker that is down, without listening on it.
    fn reserve_port(&self, broker: BrokerId) {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(broker))))?;
            Ok::<_, std::io::Error>(socket)
        };
        match reserve() {
            Ok(socket) => drop(self.reserved.lock().unwrap_or_else(PoisonError::into_inner).insert(broker, socket)),
            Err(e) => tracing::info!(%broker, error = describe_io(&e), "others may take its port"),
        }
    }

    fn port(&self, broker: BrokerId) -> u16 {
        self.shared.cluster().broker(broker).map_or(0, |broker| broker.port)
    }

    /// Starts a broker that crashed, at its old address: it follows the leaders, and leads what nobody else may.
    ///
    /// # Errors
    /// The port has been taken meanwhile, and stays so.
    pub fn restart(&self, broker: i32) -> Result<()> {
        let broker = BrokerId(broker);
        let port = self.port(broker);
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&broker);
        let listener = match reserved {
            Some(socket) => {
                let listen = async { socket.listen(BACKLOG).map_err(|e| taken(port, &e)) };
                Listener::Tcp(self.network.run(Until::SecondSignal, listen)?)
            }
            None => self.network.run(Until::SecondSignal, Listener::bind_again(&self.platform, port))?,
        };
        self.change(|cluster| cluster.set_up(broker, true));
        self.serve(broker, listener);
        Ok(())
    }
}
