//! SIGINT and SIGTERM as one stop flag that wakes every wait.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Wake = Box<dyn Fn() + Send>;

/// How far signals let work go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The first signal ends the work.
    FirstSignal,
    /// The first signal lets what was begun finish; the second ends it.
    SecondSignal,
}

impl Until {
    /// Whether so many signals end the work.
    pub fn is_over(self, signals: u8) -> bool {
        match self {
            Self::FirstSignal => signals >= 1,
            Self::SecondSignal => signals >= 2,
        }
    }
}

/// The stop flag. Clones are the same flag.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    signals: AtomicU8,
    /// The number of the last signal.
    last: Arc<AtomicUsize>,
    wakers: Mutex<Wakers>,
    raised: Condvar,
}

#[derive(Default)]
struct Wakers {
    next_id: u64,
    wakes: Vec<(u64, Wake)>,
}

impl Shared {
    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a function being called at every signal; dropping it ends that.
#[must_use = "dropping it removes the waker"]
pub struct Waker {
    shared: Arc<Shared>,
    id: u64,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waker({})", self.id)
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.shared.wakers().wakes.retain(|(id, _)| *id != self.id);
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stop({})", self.signals())
    }
}

impl Stop {
    /// A flag that SIGINT, SIGTERM and SIGHUP raise; to be called once a process.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let raised = stop.clone();
        let failed = |e: &dyn std::fmt::Display| Error::Io(format!("cannot handle SIGINT and SIGTERM: {e}"));
        let hangs_after = std::time::Duration::from_millis(500);
        ctrlc::set_handler(move || {
            raised.raise();
            if raised.signals() > 1 {
                // Whoever waits has been told; a write to a stalled pipe cannot be.
                std::thread::sleep(hangs_after);
                std::process::exit(i32::from(raised.exit_code()));
            }
        })
        .map_err(|e| failed(&e))?;
        // ctrlc does not say which signal came; this notes it and then calls ctrlc's own handler.
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register_usize(signal, stop.shared.last.clone(), signal as usize)
                .map_err(|e| failed(&e))?;
        }
        Ok(stop)
    }

    /// What a shell reports of a process ended by the last signal: 130 for SIGINT, 143 for SIGTERM.
    pub fn exit_code(&self) -> u8 {
        128 + self.shared.last.load(Ordering::Acquire) as u8
    }

    /// How many signals came: at the first, finish what was begun; at the second, stop at once.
    pub fn signals(&self) -> u8 {
        self.shared.signals.load(Ordering::Acquire)
    }

    /// Whether a signal came.
    pub fn is_raised(&self) -> bool {
        self.signals() > 0
    }

    /// Counts a signal and wakes all waits.
    pub fn raise(&self) {
        let wakers = self.shared.wakers();
        self.shared.signals.fetch_add(1, Ordering::AcqRel);
        self.shared.raised.notify_all();
        wakers.wakes.iter().for_each(|(_, wake)| wake());
    }

    /// Waits for a signal, up to `timeout`; returns whether one came, now or before.
    pub fn wait(&self, timeout: Duration) -> bool {
        let (wakers, raised) = (self.shared.wakers(), &self.shared.raised);
        let waited = raised.wait_timeout_while(wakers, timeout, |_| !self.is_raised());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_raised()
    }

    /// Has `wake` called at every signal from now on, from the signal's thread; also at once if one came before.
    /// `wake` must not drop a [`Waker`].
    pub fn wake_with(&self, wake: impl Fn() + Send + 'static) -> Waker {
        let mut wakers = self.shared.wakers();
        if self.is_raised() {
            wake();
        }
        let id = wakers.next_id;
        wakers.next_id += 1;
        wakers.wakes.push((id, Box::new(wake)));
        Waker { shared: self.shared.clone(), id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_wait_ends_with_its_time_or_with_a_signal() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::ZERO));
        let waits = stop.clone();
        let waiting = std::thread::spawn(move || waits.wait(Duration::from_secs(60)));
        stop.raise();
        assert!(waiting.join().unwrap());
        assert!(stop.wait(Duration::from_secs(60)));
    }

    #[test]
    fn a_waker_is_called_until_it_is_dropped() {
        let stop = Stop::default();
        let (wake, woken) = channel();
        let waker = stop.wake_with(move || wake.send(()).unwrap());
        stop.raise();
        stop.raise();
        assert_eq!(woken.try_iter().count(), 2);
        drop(waker);
        stop.raise();
        assert!(woken.recv().is_err(), "its function is dropped with it");
    }

    #[test]
    fn a_waker_that_comes_after_the_signal_is_called_at_once() {
        let stop = Stop::default();
        stop.raise();
        let (wake, woken) = channel();
        let _waker = stop.wake_with(move || wake.send(()).unwrap());
        assert_eq!(woken.try_iter().count(), 1);
    }
}
