//! Sockets: pipelined connections to brokers, the thread they live on, and how long to wait before a retry.

mod addresses;
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

pub use connection::Connection;
pub use dialer::{Dialer, OldBroker, Opened};
pub use retry::{Backoff, Outage, Retry, backoff, throttle};
pub use scram::{Hash, Scram};
pub use transport::Frame;

use crate::error::{Error, Result};
use crate::signal::{Stop, Until, Waker};
use std::future::Future;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// The network's own thread: sockets and timers run there, compression on its blocking pool.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    signals: watch::Receiver<u8>,
    stop: Stop,
    _waker: Waker,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Network {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no epoll to give.
    pub fn start(stop: &Stop) -> Result<Self> {
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
        let (raised, signals) = watch::channel(0);
        let counted = stop.clone();
        let waker = stop.wake_with(move || {
            raised.send_replace(counted.signals());
        });
        Ok(Self { handle, signals, stop: stop.clone(), _waker: waker, _running: running })
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
        self.handle.block_on(async {
            tokio::select! {
                biased;
                done = work => done,
                _ = signals.wait_for(|&count| until.is_over(count)) => Err(Error::Stopped),
            }
        })
    }
}

/// Waits until `at`; for ever without one.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
