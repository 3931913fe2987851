//! Channels from the network's tasks to the command's own thread, which blocks on them.

use crate::engine::platform::{Simulation, wait_in};
use std::sync::Arc;
use std::sync::mpsc;
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::time::Duration;
use tokio::sync::Notify;

/// The sending half; it never waits.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    /// Of a receiver that waits in a simulation.
    sent: Option<Sent>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), sent: self.sent.clone() }
    }
}

/// Notified when something was sent, and when a sender was dropped.
#[derive(Debug, Clone)]
struct Sent(Arc<Notify>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    simulated: Option<(Arc<dyn Simulation>, Arc<Notify>)>,
}

/// A channel whose receiver is a thread of the system, or of `simulation`.
pub fn channel<T>(simulation: Option<&Arc<dyn Simulation>>) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let simulated = simulation.map(|simulation| (simulation.clone(), Arc::new(Notify::new())));
    let sent = simulated.as_ref().map(|(_, sent)| Sent(sent.clone()));
    (Sender { sender, sent }, Receiver { receiver, simulated })
}

impl<T> Sender<T> {
    /// Sends `message`.
    ///
    /// # Errors
    /// The receiver has been dropped.
    pub fn send(&self, message: T) -> Result<(), mpsc::SendError<T>> {
        let sent = self.sender.send(message);
        if let Some(Sent(notify)) = &self.sent {
            notify.notify_one();
        }
        sent
    }
}

impl<T> Receiver<T> {
    /// What has been sent and not received.
    ///
    /// # Errors
    /// Nothing has, or all senders have been dropped as well.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// All senders have been dropped.
    pub fn recv(&self) -> Result<T, RecvError> {
        match &self.simulated {
            None => self.receiver.recv(),
            Some((simulation, sent)) => wait_in(&**simulation, next(&self.receiver, sent)).unwrap_or(Err(RecvError)),
        }
    }

    /// Waits for the next message, up to `timeout`.
    ///
    /// # Errors
    /// None came in time, or all senders have been dropped.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let Some((simulation, sent)) = &self.simulated else { return self.receiver.recv_timeout(timeout) };
        let next = tokio::time::timeout(timeout, next(&self.receiver, sent));
        match wait_in(&**simulation, next) {
            Some(Ok(next)) => next.map_err(|RecvError| RecvTimeoutError::Disconnected),
            Some(Err(_)) => Err(RecvTimeoutError::Timeout),
            None => Err(RecvTimeoutError::Disconnected),
        }
    }
}

async fn next<T>(receiver: &mpsc::Receiver<T>, sent: &Notify) -> Result<T, RecvError> {
    loop {
        match receiver.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => sent.notified().await,
        }
    }
}
