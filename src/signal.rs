//! SIGINT and SIGTERM as one stop flag that wakes every wait.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Waker = Box<dyn Fn() + Send>;

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
    wakers: Mutex<Vec<Waker>>,
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
        self.shared.signals.fetch_add(1, Ordering::AcqRel);
        let wakers = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.iter().for_each(|wake| wake());
    }

    /// Has `wake` called at every signal from now on, from the signal's thread; also at once if one came before.
    pub fn wake_with(&self, wake: impl Fn() + Send + 'static) {
        let mut wakers = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_raised() {
            wake();
        }
        wakers.push(Box::new(wake));
    }
}
