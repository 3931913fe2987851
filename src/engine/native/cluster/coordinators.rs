//! Which broker coordinates a group or a transaction, and requests to it.

use super::{Cluster, Lane, text};
use crate::engine::native::net::{Connection, Retry};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{BrokerId, Node};
use kafka_protocol::messages::FindCoordinatorResponse;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::protocol::Request;
use std::sync::Arc;

/// From v4 on FindCoordinator asks for several keys at once (KIP-699, Kafka 3.0); one is all that is needed.
const LAST_FIND_ONE: i16 = 3;

/// What has a coordinator; the numbers are FindCoordinator's key types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine::native) enum Coordinated {
    Group = 0,
    Transaction = 1,
}

impl Coordinated {
    fn subject(self, key: &str) -> Subject {
        match self {
            Self::Group => Subject::Group(key.to_owned()),
            Self::Transaction => Subject::TransactionalId(key.to_owned()),
        }
    }
}

impl Cluster {
    /// The broker that coordinates a group or a transactional id; asked for once, until it is forgotten.
    pub(in crate::engine::native) async fn coordinator(&self, of: Coordinated, key: &str) -> Result<BrokerId> {
        if let Some(known) = self.state().coordinators.get(&(of, key.to_owned())) {
            return Ok(*known);
        }
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(of as i8);
        let ask = || async {
            let (response, connection) = self.ask_any(&request, LAST_FIND_ONE).await?;
            let Some(code) = error_code(response.error_code) else { return found(response, &connection) };
            let detail = response.error_message.map(|text| text.to_string()).filter(|text| !text.is_empty());
            Err(Error::Kafka { action: Action::FindCoordinator, subject: of.subject(key), code, detail })
        };
        let (id, address) = self.retry().run(ask).await?;
        let mut state = self.state();
        state.brokers.entry(id).or_insert(address);
        state.coordinators.insert((of, key.to_owned()), id);
        Ok(id)
    }

    /// The connection to that broker that is used for `lane`.
    pub(in crate::engine::native) async fn coordinator_on(
        &self,
        of: Coordinated,
        key: &str,
        lane: Lane,
    ) -> Result<Arc<Connection>> {
        self.broker_on(self.coordinator(of, key).await?, lane).await
    }

    /// Has the coordinator looked up again, for it moved or does not answer.
    pub(in crate::engine::native) fn forget_coordinator(&self, of: Coordinated, key: &str) {
        self.state().coordinators.remove(&(of, key.to_owned()));
        self.ask_next();
    }

    /// Asks the coordinator of `key`, in no newer version than `cap`, again while it moves or loads; `read` takes the
    /// answer apart.
    ///
    /// # Errors
    /// One that no retry mends, or the last when `retry` ends.
    pub(in crate::engine::native) async fn ask_coordinator<R: Request + Clone, T>(
        &self,
        of: Coordinated,
        key: &str,
        request: &R,
        cap: i16,
        retry: Retry,
        read: impl Fn(R::Response, &Connection) -> Result<T>,
    ) -> Result<T> {
        self.ask_coordinator_in_version(of, key, |_| request.clone(), cap, retry, read).await
    }

    /// [`Cluster::ask_coordinator`] with a request that depends on its version.
    ///
    /// # Errors
    /// As there.
    pub(in crate::engine::native) async fn ask_coordinator_in_version<R: Request, T>(
        &self,
        of: Coordinated,
        key: &str,
        request: impl Fn(i16) -> R,
        cap: i16,
        retry: Retry,
        read: impl Fn(R::Response, &Connection) -> Result<T>,
    ) -> Result<T> {
        let deadline = retry.deadline();
        let ask = || async {
            let answer = async {
                let connection = self.coordinator_on(of, key, Lane::Main).await?;
                let version = connection.version::<R>(cap)?;
                let limit = self.request_limit(deadline);
                read(connection.request_within(&request(version), version, limit).await?, &connection)
            };
            answer.await.inspect_err(|error| {
                if error.is_transient() {
                    self.forget_coordinator(of, key);
                }
            })
        };
        retry.run(ask).await
    }
}

/// The coordinator that an answer names, and its address.
fn found(response: FindCoordinatorResponse, connection: &Connection) -> Result<(BrokerId, String)> {
    let (id, host, port) = (response.node_id.0, response.host, response.port);
    if !Node::can_be(id, &host, port) {
        let why = format!("broker {id} at {:?}, port {port}, cannot be the coordinator", host.as_str());
        return Err(connection.malformed::<FindCoordinatorRequest>(&why));
    }
    Ok((BrokerId(id), format!("{host}:{port}")))
}
