//! Where a broker accepts connections: a port of this host, or one of a simulation.

use super::cluster::HOST;
use crate::engine::platform::{Platform, Socket};
use crate::error::{Error, Result, describe_io};
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

/// A port that was listened on before is tried so often.
const MOST_TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A listening port.
pub(super) enum Listener {
    Tcp(TcpListener),
    Simulated(UnboundedReceiver<Box<dyn Socket>>),
}

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) socket: Box<dyn Socket>,
    /// The client's host, as Kafka shows it: `/127.0.0.1`.
    pub(super) host: String,
}

impl Listener {
    /// Listens on `port`; 0 takes a free one of this host. Returns the port.
    pub(super) async fn bind(platform: &Platform, port: u16) -> Result<(Self, u16)> {
        match platform {
            Platform::System => {
                let listener = TcpListener::bind((HOST, port)).await.map_err(|e| taken(port, &e))?;
                let address = listener.local_addr().map_err(|e| Error::io("a listener's port", &e))?;
                Ok((Self::Tcp(listener), address.port()))
            }
            Platform::Simulated(simulation) => {
                let connections = simulation.listen(port).map_err(|e| taken(port, &e))?;
                Ok((Self::Simulated(connections), port))
            }
        }
    }

    /// Listens on a port that was listened on until now: a child process that is being started may keep the old socket
    /// open for a moment.
    pub(super) async fn bind_again(platform: &Platform, port: u16) -> Result<Self> {
        let mut tries = 0;
        loop {
            match Self::bind(platform, port).await {
                Ok((listener, _)) => return Ok(listener),
                Err(error) if tries == MOST_TRIES => return Err(error),
                Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
            }
            tries += 1;
        }
    }

    /// The next connection.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok(Accepted { socket: Box::new(socket), host: format!("/{}", peer.ip()) })
            }
            Self::Simulated(connections) => match connections.recv().await {
                Some(socket) => Ok(Accepted { socket, host: format!("/{HOST}") }),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }
}

/// The error of a port that cannot be listened on.
pub(super) fn taken(port: u16, error: &io::Error) -> Error {
    Error::Io(format!("cannot listen on {HOST}:{port}: {} (--port 0 takes a free one)", describe_io(error)))
}
