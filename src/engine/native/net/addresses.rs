//! A host name with several addresses: tried as RFC 8305 has it, those that do not answer last.

use super::clock;
use crate::engine::platform::{Platform, Socket};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An address that has not connected within this time gets competition (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of `HOST:PORT`.
type Resolver = Arc<dyn Fn(String) -> Resolution + Send + Sync>;

/// Why no connection was made.
#[derive(Debug)]
pub enum NoConnection {
    /// The name has no address.
    Unresolved(io::Error),
    /// No address could be connected to; the last one's error.
    Failed(io::Error),
}

/// Connects to names.
pub struct Addresses {
    resolver: Resolver,
    /// Addresses that accepted a connection and then did not answer, and when.
    unanswered: Mutex<BTreeMap<SocketAddr, Instant>>,
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses").field("unanswered", &self.unanswered).finish_non_exhaustive()
    }
}

impl Default for Addresses {
    /// Asks the system's resolver.
    fn default() -> Self {
        Self::with(Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })))
    }
}

impl Addresses {
    fn with(resolver: Resolver) -> Self {
        Self { resolver, unanswered: Mutex::default() }
    }

    fn unanswered(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Instant>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an address tried after all others, for it accepted a connection and did not answer.
    pub fn demote(&self, address: SocketAddr) {
        self.unanswered().insert(address, clock::now());
    }

    /// Has an address tried in its turn again.
    pub fn answered(&self, address: SocketAddr) {
        self.unanswered().remove(&address);
    }

    /// Connects to `HOST:PORT`, on `platform`.
    ///
    /// # Errors
    /// The name has no address, or none accepts.
    pub async fn connect_on(
        &self,
        platform: &Platform,
        name: &str,
    ) -> Result<(Box<dyn Socket>, SocketAddr), NoConnection> {
        match platform {
            Platform::System => {
                let (stream, address) = self.connect(name).await?;
                stream.set_nodelay(true).map_err(NoConnection::Failed)?;
                Ok((Box::new(stream), address))
            }
            Platform::Simulated(simulation) => {
                let address = name.parse().map_err(|_| NoConnection::Unresolved(io::ErrorKind::NotFound.into()))?;
                Ok((simulation.connect(name).await.map_err(NoConnection::Failed)?, address))
            }
        }
    }

    /// Connects to the first address of `HOST:PORT` that accepts: each is given 250 ms before the next is tried beside
    /// it. There is no limit of time.
    ///
    /// # Errors
    /// The name has no address, or none accepts.
    async fn connect(&self, name: &str) -> Result<(TcpStream, SocketAddr), NoConnection> {
        let found = (self.resolver)(name.to_owned()).await.map_err(NoConnection::Unresolved)?;
        let mut untried = self.in_order(found).into_iter();
        let mut attempts = JoinSet::new();
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            match untried.next() {
                Some(address) => {
                    attempts.spawn(async move { (address, TcpStream::connect(address).await) });
                }
                None if attempts.is_empty() => return Err(NoConnection::Failed(failed)),
                None => {}
            }
            tokio::select! {
                Some(Ok((address, connected))) = attempts.join_next() => match connected {
                    Ok(stream) => return Ok((stream, address)),
                    Err(e) => failed = e,
                },
                () = tokio::time::sleep(STAGGER), if untried.len() > 0 => {}
            }
        }
    }

    /// The resolver's order, both families in turns (RFC 8305, section 4), then those that did not answer, the one
    /// that has rested longest first.
    fn in_order(&self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let first_family = found.first().is_some_and(SocketAddr::is_ipv6);
        let (same, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == first_family);
        let (mut same, mut other) = (same.into_iter(), other.into_iter());
        let mut ordered = Vec::new();
        loop {
            let pair = [same.next(), other.next()];
            if pair == [None, None] {
                break;
            }
            ordered.extend(pair.into_iter().flatten());
        }
        let unanswered = self.unanswered();
        ordered.sort_by_key(|address| unanswered.get(address).copied()); // stable; None comes first
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn resolving_to(addresses: Vec<SocketAddr>) -> Addresses {
        Addresses::with(Arc::new(move |_| {
            let addresses = addresses.clone();
            Box::pin(async move { Ok(addresses) })
        }))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn an_address_that_accepts_nothing_does_not_hide_the_one_that_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        // A port of TEST-NET-1, where nobody answers, and one that refuses.
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for dead in ["192.0.2.1:9".parse().unwrap(), refused] {
            let names = resolving_to(vec![dead, live]);
            let connected = tokio::time::timeout(Duration::from_secs(3), names.connect("name:1"));
            assert_eq!(connected.await.expect("in time").expect("a connection").1, live);
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_and_one_that_refuses_are_told_apart() {
        let unknown = Addresses::with(Arc::new(|_| Box::pin(async { Err(io::ErrorKind::NotFound.into()) })));
        assert!(matches!(unknown.connect("name:1").await, Err(NoConnection::Unresolved(_))));
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(resolving_to(vec![refused]).connect("name:1").await, Err(NoConnection::Failed(_))));
    }

    #[test]
    fn families_take_turns_and_silent_addresses_come_last() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let names = Addresses::default();
        assert_eq!(
            names.in_order(found.clone()),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
        names.demote(found[0]);
        names.demote(found[3]);
        assert_eq!(
            names.in_order(found.clone()),
            addresses(&["[::2]:1", "2.2.2.2:1", "[::3]:1", "[::1]:1", "1.1.1.1:1"])
        );
        names.answered(found[0]);
        assert_eq!(names.in_order(found.clone())[0], found[0]);
    }
}
