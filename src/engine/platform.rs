//! What an engine stands on: the system's sockets and threads, or those of a simulation.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// A connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>>;

/// A simulated network and the threads on it. All of them take turns on one thread of the system, in a tokio runtime
/// whose clock is paused, so that nothing depends on the system's scheduling.
pub trait Simulation: Debug + Send + Sync {
    /// Connects to `HOST:PORT`.
    fn connect(&self, address: &str) -> Connecting;

    /// Listens on a port of this host, until the receiver is dropped.
    ///
    /// # Errors
    /// The port is taken.
    fn listen(&self, port: u16) -> io::Result<UnboundedReceiver<Box<dyn Socket>>>;

    /// Has the calling simulated thread wait until `work` is done.
    fn block_on(&self, work: Pin<&mut dyn Future<Output = ()>>);
}

/// Where sockets and threads come from.
#[derive(Debug, Clone, Default)]
pub enum Platform {
    /// The system.
    #[default]
    System,
    /// A simulation, for tests.
    Simulated(Arc<dyn Simulation>),
}

impl Platform {
    /// Runs what takes the processor for long: on the blocking pool; in a simulation at once.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        match self {
            Self::System => tokio::task::spawn_blocking(work).await,
            Self::Simulated(_) => Ok(work()),
        }
    }

    /// [`Platform::run_blocking`] as one of `tasks`.
    pub fn spawn_blocking<T: Send + 'static>(&self, tasks: &mut JoinSet<T>, work: impl FnOnce() -> T + Send + 'static) {
        match self {
            Self::System => tasks.spawn_blocking(work),
            Self::Simulated(_) => tasks.spawn(async move { work() }),
        };
    }
}

/// Has the calling thread of `simulation` wait for `work`; `None` when the simulation ends first.
pub(crate) fn wait_in<T>(simulation: &dyn Simulation, work: impl Future<Output = T>) -> Option<T> {
    let mut done = None;
    simulation.block_on(pin!(async { done = Some(work.await) }));
    done
}
