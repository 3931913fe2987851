//! What happened in a simulation, in order and with its simulated time: the same seed gives the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// So many events are kept to be shown.
const KEPT: usize = 60;

/// A trace; clones share it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    last: VecDeque<String>,
    /// All lines, where the whole trace is wanted.
    whole: Option<String>,
    faults: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Begins now; keeps all events if `is_whole`.
    pub fn begin(is_whole: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            began: Instant::now(),
            last: VecDeque::with_capacity(KEPT),
            whole: is_whole.then(String::new),
            faults: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let mut inner = self.inner();
        let mut line =
            if inner.last.len() == KEPT { inner.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Err: never, a String takes everything.
        let _ = write!(line, "{:9.3} {event}", inner.began.elapsed().as_secs_f64());
        if let Some(whole) = &mut inner.whole {
            whole.push_str(&line);
            whole.push('\n');
        }
        inner.last.push_back(line);
    }

    /// Counts a fault.
    pub fn count(&self, fault: &'static str) {
        *self.inner().faults.entry(fault).or_default() += 1;
    }

    /// How many faults of each kind there were.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.inner().faults.clone()
    }

    /// The last events.
    pub fn last(&self) -> Vec<String> {
        self.inner().last.iter().cloned().collect()
    }

    /// All events, if they were kept.
    pub fn whole(&self) -> Option<String> {
        self.inner().whole.clone()
    }
}

/// Takes what the engine logs.
impl std::io::Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.note(format_args!("  {}", String::from_utf8_lossy(bytes).trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Trace {
    /// Has what the engine logs noted too, until the guard is dropped.
    pub fn log(&self) -> tracing::subscriber::DefaultGuard {
        /// With one subscriber alone, whether a place in the code is logged depends on the thread that comes there
        /// first, which may be another test's. With two, both are asked.
        static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing_subscriber::fmt().finish().into());
        LazyLock::force(&SECOND);
        let trace = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .with_writer(move || trace.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

/// Adds an event to a trace.
macro_rules! note {
    ($trace:expr, $($event:tt)*) => { $trace.note(format_args!($($event)*)) };
}
pub(crate) use note;
