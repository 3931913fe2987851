//! `--rate`: holds records back.

use crate::signal::Stop;
use std::time::{Duration, Instant};

/// Lets no more than so many records a second pass.
pub(super) struct Pace {
    per_second: f64,
    began: Instant,
    passed: u64,
    /// A signal ends the wait.
    stop: Stop,
}

impl Pace {
    pub(super) fn new(per_second: f64, stop: &Stop) -> Self {
        Self { per_second, began: Instant::now(), passed: 0, stop: stop.clone() }
    }

    /// How long the next record has to wait; `None` when it is due.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let due = self.began + Duration::from_secs_f64(self.passed as f64 / self.per_second);
        self.passed += 1;
        Some(due.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Waits; false when a signal came first.
    pub(super) fn wait(&self, time: Duration) -> bool {
        !self.stop.wait(time)
    }
}
