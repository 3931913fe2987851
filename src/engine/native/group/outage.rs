//! When to report that the coordinator is out of reach: once it lasts, and when it is over.

use crate::error::Error;
use std::time::{Duration, Instant};

/// A failure shorter than this is reported at `-v` only.
const LASTS: Duration = Duration::from_secs(3);

/// A time of failures.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    is_reported: bool,
}

impl Outage {
    /// `what` failed for `group`, and is retried.
    pub(super) fn failed(&mut self, group: &str, what: &str, error: &Error, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if !self.is_reported && now.saturating_duration_since(since) >= LASTS {
            self.is_reported = true;
            tracing::warn!("group {group}: {what} keeps failing; retrying: {error}");
        }
    }

    /// `what` succeeded.
    pub(super) fn succeeded(&mut self, group: &str, what: &str, now: Instant) {
        if let Some(since) = self.since.take().filter(|_| std::mem::take(&mut self.is_reported)) {
            let lasted = now.saturating_duration_since(since).as_secs();
            tracing::warn!("group {group}: {what} works again after {lasted} s");
        }
    }
}
