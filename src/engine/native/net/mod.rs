//! Sockets: pipelined connections to brokers, the thread they live on, and how long to wait before a retry.

mod connection;
mod frame;
mod oauth;
mod sasl;
mod scram;
mod tls;
mod versions;

pub use connection::{Connection, Frame, OldBroker, Opened};
pub use scram::Hash;

use crate::engine::security::{Sasl, Security};
use crate::engine::{Observer, Options};
use crate::error::{Error, Result};
use crate::signal::Stop;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// What all connections to a cluster share: how they are secured.
#[derive(Debug, Default)]
pub struct Secured {
    tls: Option<Arc<rustls::ClientConfig>>,
    tokens: Option<oauth::Tokens>,
}

impl Secured {
    /// Prepares what `config` asks for.
    ///
    /// # Errors
    /// A certificate or key is of no use.
    pub fn prepare(options: &Options) -> Result<Self> {
        let Security { tls, sasl } = &options.security;
        let tokens = match sasl {
            Some(Sasl::Bearer(bearer)) => Some(oauth::Tokens::prepare(bearer, options.request_timeout)?),
            _ => None,
        };
        Ok(Self { tls: tls.as_ref().map(tls::prepare).transpose()?, tokens })
    }
}

/// The network's own thread: sockets and timers run there, compression on its blocking pool.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    signals: watch::Receiver<u8>,
    stop: Stop,
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
        stop.wake_with(move || {
            raised.send_replace(counted.signals());
        });
        Ok(Self { handle, signals, stop: stop.clone(), _running: running })
    }

    /// Where to spawn tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The stop flag.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs `work` to its end, or to the `limit`th signal from now.
    ///
    /// # Errors
    /// What `work` says, or [`Error::Stopped`].
    pub fn run<T>(&self, limit: u8, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut signals = self.signals.clone();
        self.handle.block_on(async {
            tokio::select! {
                biased;
                done = work => done,
                _ = signals.wait_for(|&count| count >= limit) => Err(Error::Stopped),
            }
        })
    }
}

/// Trying again, with longer and longer waits, until a deadline.
#[derive(Debug)]
pub struct Retry {
    observer: Arc<dyn Observer>,
    first: Duration,
    deadline: Instant,
    attempt: u32,
}

impl Retry {
    /// Waits as `config` has it before the first retry; none begins after `deadline`.
    pub fn until(deadline: Instant, options: &Options) -> Self {
        let (observer, first) = (options.observer.clone(), options.retry_backoff);
        Self { observer, first, deadline, attempt: 0 }
    }

    /// Begins with a part of `retry.backoff.ms`, where the first answer is known to come soon.
    pub fn divided_by(mut self, parts: u32) -> Self {
        self.first /= parts;
        self
    }

    /// Waits, when `error` may pass and there is time.
    ///
    /// # Errors
    /// `error`, when not.
    pub async fn after(&mut self, error: Error) -> Result<()> {
        if error.is_transient() { self.again(error).await } else { Err(error) }
    }

    /// Waits, when there is time: the caller knows that `error` passes.
    ///
    /// # Errors
    /// `error`, when there is not.
    pub async fn again(&mut self, error: Error) -> Result<()> {
        if Instant::now() >= self.deadline {
            return Err(error);
        }
        tracing::info!(error_name = error.name(), %error, "retrying");
        self.observer.retried(&error);
        tokio::time::sleep(backoff(self.first, self.attempt)).await;
        self.attempt += 1;
        Ok(())
    }
}

/// Waits until `at`; for ever without one.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The wait before retry number `attempt` (from 0): doubles from `first` up to 1 s.
pub fn backoff(first: Duration, attempt: u32) -> Duration {
    first.saturating_mul(1 << attempt.min(10)).min(Duration::from_secs(1))
}
