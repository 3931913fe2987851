//! Opening connections: addresses, TLS, what the broker offers, SASL.

use super::addresses::{Addresses, NoConnection};
use super::clock;
use super::connection::Connection;
use super::retry::LASTING;
use super::transport::{Progress, Watched};
use super::versions::{Versions, api_versions_request};
use super::{oauth, sasl, tls};
use crate::engine::security::{Sasl, Security};
use crate::engine::{EngineChoice, Options};
use crate::error::{Action, Disconnect, Error, Foreign, Result, Subject, describe_io};
use crate::record::Node;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::MetadataRequest;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use tokio::sync::Notify;

/// How much of an authenticated session is used before another connection takes its place.
const SESSION_USED: f32 = 0.8;

/// What answered at an address.
#[derive(Debug)]
pub enum Opened {
    /// A broker that takes record batches v2.
    Modern(Arc<Connection>),
    /// A broker, perhaps, but an older one.
    Old(OldBroker),
}

/// A broker that seems to be older than Kafka 0.11.
#[derive(Debug, Clone)]
pub struct OldBroker {
    node: Node,
    found: Age,
}

#[derive(Debug, Clone, Copy)]
enum Age {
    /// Before Kafka 0.10.
    ClosesOnApiVersions,
    /// Kafka 0.10.
    OldVersions,
}

impl From<OldBroker> for Error {
    fn from(old: OldBroker) -> Self {
        Self::OldBroker(old.to_string())
    }
}

impl std::fmt::Display for OldBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.found {
            Age::ClosesOnApiVersions => write!(f, "{} closed the connection on ApiVersions", self.node),
            Age::OldVersions => write!(f, "{} does not offer Produce v3 and Fetch v4 (before Kafka 0.11)", self.node),
        }
    }
}

/// Opens connections to a cluster's brokers, and holds what they share.
#[derive(Debug)]
pub struct Dialer {
    tls: Option<Arc<rustls::ClientConfig>>,
    tokens: Option<oauth::Tokens>,
    addresses: Addresses,
    /// Told when a broker has been silent for too long.
    suspected: Arc<Notify>,
    /// Done when the user was warned that credentials are sent without encryption.
    warned: Once,
    /// The addresses that were reported because a connection took long.
    slow: Mutex<HashSet<Arc<str>>>,
    /// Done when a broker of this cluster was found to be of Kafka 0.11 or later.
    modern: Once,
}

impl Dialer {
    /// Prepares what `options` asks for.
    ///
    /// # Errors
    /// A certificate or key is of no use.
    pub fn prepare(options: &Options) -> Result<Self> {
        let Security { tls, sasl } = &options.security;
        let tokens = match sasl {
            Some(Sasl::Bearer(bearer)) => Some(oauth::Tokens::prepare(bearer, options.request_timeout)?),
            _ => None,
        };
        let tls = tls.as_ref().map(tls::prepare).transpose()?;
        let (addresses, suspected) = (Addresses::default(), Arc::default());
        Ok(Self { tls, tokens, addresses, suspected, warned: Once::new(), slow: Mutex::default(), modern: Once::new() })
    }

    fn slow(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told whenever a broker has been silent for too long.
    pub fn suspected(&self) -> &Arc<Notify> {
        &self.suspected
    }

    /// Connects to `node` and asks what the broker offers. `self` was prepared from `options`.
    ///
    /// # Errors
    /// Nobody is there, or what is there is not a broker.
    pub async fn open(&self, node: &Node, options: &Options) -> Result<Opened> {
        let open = async {
            let (connection, address) = self.connect(node, options).await?;
            self.introduce(connection, address, options).await
        };
        let mut open = pin!(open);
        let opened = match tokio::time::timeout(LASTING, &mut open).await {
            Ok(opened) => opened,
            Err(_) => {
                // One line for each broker: a name server or a firewall that does not answer takes its time again.
                if self.slow().insert(node.address.clone()) {
                    tracing::warn!("connecting to {node} has taken {} s so far", LASTING.as_secs());
                }
                open.await
            }
        };
        if opened.is_ok() {
            self.slow().remove(&node.address);
        }
        options.observer.connected(node.id, opened.is_ok());
        opened
    }

    async fn connect(&self, node: &Node, options: &Options) -> Result<(Connection, SocketAddr)> {
        let cannot = |why: String| Error::Unreachable { node: node.clone(), why };
        let limit = options.connect_timeout;
        let stream = tokio::time::timeout(limit, self.addresses.connect_on(&options.platform, &node.address)).await;
        let (stream, address) = match stream.map_err(|_| cannot(format!("no connection within {limit:?}")))? {
            Ok(connected) => connected,
            Err(NoConnection::Unresolved(e)) => {
                return Err(Error::Unresolved { node: node.clone(), why: describe_io(&e) });
            }
            Err(NoConnection::Failed(e)) => return Err(cannot(describe_io(&e))),
        };
        let progress = Arc::new(Progress::new());
        let (node, suspected) = (node.clone(), self.suspected.clone());
        let connection = match &self.tls {
            None => {
                let (read, write) = tokio::io::split(Watched::new(stream, &progress));
                Connection::over(Box::new(read), Box::new(write), progress, node, suspected, options)
            }
            Some(tls) => {
                let shaken =
                    tokio::time::timeout(limit, tls::connect(tls.clone(), stream, &node, tls::Service::Broker)).await;
                let stream = shaken.map_err(|_| {
                    self.addresses.demote(address);
                    cannot(format!("no TLS handshake within {limit:?}"))
                })??;
                let (read, write) = tokio::io::split(Watched::new(stream, &progress));
                Connection::over(Box::new(read), Box::new(write), progress, node, suspected, options)
            }
        };
        tracing::debug!(broker = %connection.node(), %address, "connected");
        Ok((connection, address))
    }

    /// What closes the connection on ApiVersions is a broker before Kafka 0.10 if the user says so, or if it answers
    /// Metadata as that one does.
    async fn find_age(&self, node: Node, options: &Options) -> Result<Opened> {
        let old = OldBroker { node: node.clone(), found: Age::ClosesOnApiVersions };
        if options.engine == EngineChoice::Kafka {
            return Ok(Opened::Old(old));
        }
        let (connection, _) = self.connect(&node, options).await?;
        let all_topics = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = connection.exchange(&all_topics, 0, options.suspect_after()).await;
        match answer.and_then(|answer| connection.decode::<MetadataRequest>(answer, 0)) {
            // One that has just started and has no topics does not list itself.
            Ok(metadata) if metadata.brokers.iter().all(|b| Node::can_be(b.node_id.0, &b.host, b.port)) => {
                Ok(Opened::Old(old))
            }
            Err(error @ Error::TimedOut { .. }) => Err(error),
            _ => Err(Error::Disconnected { node, why: Disconnect::BeforeFirstAnswer }),
        }
    }

    /// Asks what the broker offers, and authenticates.
    async fn introduce(&self, connection: Connection, address: SocketAddr, options: &Options) -> Result<Opened> {
        let node = connection.node().clone();
        // A broker older than the version asked for answers in version 0 that it is.
        let mut version = 3;
        loop {
            let request = api_versions_request();
            let answer = match connection.exchange(&request, version, options.suspect_after()).await {
                Ok(answer) => answer,
                // In a cluster known to be modern, a connection that is lost now is like any other that is lost.
                Err(Error::Disconnected { why: Disconnect::BeforeFirstAnswer, .. }) if !self.modern.is_completed() => {
                    return self.find_age(node, options).await;
                }
                Err(error) => {
                    if matches!(error, Error::TimedOut { .. }) {
                        self.addresses.demote(address);
                    }
                    return Err(error);
                }
            };
            match Versions::parse(answer, version) {
                Err(Some(ResponseError::UnsupportedVersion)) if version > 0 => version = 0,
                // Not even an error code of Kafka's.
                Err(None | Some(ResponseError::Unknown(_))) => {
                    return Err(Error::NotKafka { node, found: Foreign::FirstAnswer });
                }
                Err(Some(code)) => return Err(Error::kafka(Action::ApiVersions, Subject::Broker(node), code)),
                Ok(versions) if versions.is_modern() => {
                    connection.offers(versions);
                    if let (Some(sasl), None) = (&options.security.sasl, &self.tls) {
                        sasl::warn_of_plaintext(sasl, &node, &self.warned);
                    }
                    if let Some(sasl) = &options.security.sasl
                        && let Some(lifetime) = sasl::authenticate(&connection, sasl, self.tokens.as_ref()).await?
                    {
                        connection.retire_at(clock::now() + lifetime.mul_f32(SESSION_USED));
                    }
                    self.addresses.answered(address);
                    self.modern.call_once(|| {});
                    return Ok(Opened::Modern(Arc::new(connection)));
                }
                Ok(_) => return Ok(Opened::Old(OldBroker { node, found: Age::OldVersions })),
            }
        }
    }
}
