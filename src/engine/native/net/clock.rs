//! The clock of the network: the system's, or in a simulation the runtime's, which is paused and moved by its timers.

use std::time::{Duration, Instant};

/// The moment now.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago `moment` was.
pub fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}
