//! Sockets: pipelined connections to brokers, the thread they live on, and how long to wait before a retry.

mod addresses;
mod channel;
pub mod clock;
mod connection;
mod dialer;
mod frame;
pub mod http;
mod oauth;
pub mod retry;
mod sasl;
mod scram;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod versions;

pub use channel::{Receiver, RecvTimeoutError, Sender};
pub use connection::Connection;
pub use dialer::{Dialer, OldBroker, Opened};
pub use retry::{Backoff, Outage, Retry, backoff, throttle};
pub use scram::{Hash, Scram};
pub use tls::{Service, check_cryptography, server_config};
pub use transport::Frame;
pub use versions::api_versions_request;

use crate::engine::platform::{Platform, Simulation, wait_in};
use crate::error::{Error, Result};
use crate::signal::{Stop, Until, Waker};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// The network's own thread: sockets and timers run there, compression on its blocking pool. In a simulation, a part of
/// its only thread.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    signals: watch::Receiver<u8>,
    stop: Stop,
    _waker: Waker,
    host: Host,
}

/// Where the network runs.
#[derive(Debug)]
enum Host {
    /// On a thread of its own, until this is dropped.
    Thread {
        _running: oneshot::Sender<()>,
    },
    Simulated(Arc<dyn Simulation>),
}

impl Network {
    /// Starts the thread; in a simulation there is one already.
    ///
    /// # Errors
    /// The system has no thread or no epoll to give.
    pub fn start(stop: &Stop, platform: &Platform) -> Result<Self> {
        let (handle, host) = match platform {
            Platform::System => start_thread()?,
            Platform::Simulated(simulation) => (Handle::current(), Host::Simulated(simulation.clone())),
        };
        let (raised, signals) = watch::channel(0);
        let counted = stop.clone();
        let waker = stop.wake_with(move || {
            raised.send_replace(counted.signals());
        });
        Ok(Self { handle, signals, stop: stop.clone(), _waker: waker, host })
    }

    /// Where to spawn tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The stop flag.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs `work` to its end, or until signals end it.
    ///
    /// # Errors
    /// Those of `work`, or [`Error::Stopped`].
    pub fn run<T>(&self, until: Until, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut signals = self.signals.clone();
        self.wait(async {
            tokio::select! {
                biased;
                done = work => done,
                _ = signals.wait_for(|&count| until.is_over(count)) => Err(Error::Stopped),
            }
        })?
    }

    /// Runs `work` to its end, whatever signals come.
    ///
    /// # Errors
    /// A simulation ends first.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match &self.host {
            Host::Thread { .. } => Ok(self.handle.block_on(work)),
            Host::Simulated(simulation) => wait_in(&**simulation, work).ok_or(Error::TaskEnded("the simulation")),
        }
    }

    /// A channel to the thread that uses this network.
    pub fn channel<T>(&self) -> (Sender<T>, Receiver<T>) {
        match &self.host {
            Host::Thread { .. } => channel::channel(None),
            Host::Simulated(simulation) => channel::channel(Some(simulation)),
        }
    }
}

fn start_thread() -> Result<(Handle, Host)> {
    let failed = |e: std::io::Error| Error::io("cannot start the network thread", &e);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    let (running, ended) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || {
            // Err: the sender was dropped, which is how it ends.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    Ok((handle, Host::Thread { _running: running }))
}

/// Waits until `at`; for ever without one.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
