//! Trying again: how long to wait, for how long in all, and what is said of it. Every request that is repeated goes
//! through [`Retry`]; event loops, which never wait for one thing alone, use its parts, [`Backoff`] and [`Outage`].
//!
//! No stop flag is asked here: a signal drops the future that waits.

use super::clock;
use crate::engine::{Observer, Options};
use crate::error::{Error, Result};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Waits grow up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A shorter wait would be a spin, whatever `retry.backoff.ms` is.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Brokers ask for no longer pause than their quotas look back, 10 s by default: a longer one is not believed.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);
/// What is over sooner is not worth a line.
pub(super) const LASTING: Duration = Duration::from_secs(2);
/// The second line about a problem that lasts comes after this long, each further one after twice as long.
const REMIND_AFTER: Duration = Duration::from_secs(30);
/// One that changes is reported after this part of the time.
const CHANGES_SOONER: u32 = 10;

/// How long a broker has the client pause, because a quota is exceeded (KIP-219); within limits.
pub fn throttle(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).min(LONGEST_THROTTLE)
}

/// The wait before retry number `attempt` (from 0): doubles from `first` up to 1 s, give or take a fifth, so that
/// many clients do not come back at the same moment.
pub fn backoff(first: Duration, attempt: u32) -> Duration {
    let wait = first.max(SHORTEST_WAIT).saturating_mul(1 << attempt.min(10)).min(LONGEST_WAIT);
    wait.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Waits that grow until something succeeds.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    attempt: u32,
}

impl Backoff {
    /// Begins with a wait of `first`.
    pub fn new(first: Duration) -> Self {
        Self { first, attempt: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = backoff(self.first, self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        wait
    }

    /// Something was achieved: the next wait is a short one.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// A problem that may last, reported in few lines: one when it has lasted for 2 s, one when it changes or after growing
/// intervals, and one when it ends. Each failure is logged at `info` besides.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    reported: Option<Reported>,
}

#[derive(Debug)]
struct Reported {
    error_name: String,
    at: Instant,
    /// The wait before the next line.
    interval: Duration,
}

impl Outage {
    /// Notes that an attempt failed. Returns for how long none has succeeded.
    pub fn failed(&mut self, error: &Error) -> Duration {
        self.failed_at(error, clock::now())
    }

    fn failed_at(&mut self, error: &Error, now: Instant) -> Duration {
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        let error_name = error.name();
        let interval = match &self.reported {
            None => (lasted >= LASTING).then_some(REMIND_AFTER),
            Some(last) => {
                let is_new = last.error_name != error_name;
                let wait = if is_new { last.interval / CHANGES_SOONER } else { last.interval };
                (now >= last.at + wait).then(|| last.interval.saturating_mul(2))
            }
        };
        match interval {
            None => tracing::info!(error_name, %error, "retrying"),
            Some(interval) => {
                tracing::warn!(error_name, %error, for_s = lasted.as_secs(), "retrying");
                self.reported = Some(Reported { error_name, at: now, interval });
            }
        }
        lasted
    }

    /// Whether a line said that attempts fail.
    pub fn is_reported(&self) -> bool {
        self.reported.is_some()
    }

    /// Notes that an attempt succeeded. Returns whether a line said so, for the problem had been reported.
    pub fn ended(&mut self) -> bool {
        let (since, reported) = (self.since.take(), self.reported.take());
        if let (Some(since), Some(last)) = (since, &reported) {
            tracing::warn!("recovered from {} after {} s", last.error_name, clock::since(since).as_secs());
        }
        reported.is_some()
    }
}

/// A request that is repeated, with longer and longer waits, until a deadline.
#[derive(Debug)]
pub struct Retry {
    observer: Arc<dyn Observer>,
    backoff: Backoff,
    outage: Outage,
    deadline: Instant,
}

impl Retry {
    /// Waits `retry.backoff.ms` before the first retry; none begins after `deadline`.
    pub fn until(deadline: Instant, options: &Options) -> Self {
        Self::new(deadline, options.retry_backoff, options.observer.clone())
    }

    /// Waits `first` before the first retry; none begins after `deadline`.
    pub fn new(deadline: Instant, first: Duration, observer: Arc<dyn Observer>) -> Self {
        Self { observer, backoff: Backoff::new(first), outage: Outage::default(), deadline }
    }

    /// Begins with a part of `retry.backoff.ms`, where the first answer is known to come soon.
    pub fn divided_by(mut self, parts: u32) -> Self {
        self.backoff.first /= parts;
        self
    }

    /// Ends at `deadline`.
    pub fn until_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = deadline;
        self
    }

    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Calls `attempt` until it succeeds.
    ///
    /// # Errors
    /// The last error of `attempt`: one that no retry mends, or any at the deadline.
    // Not an `AsyncFn`: the compiler cannot tell that a task which awaits one may move between threads.
    pub async fn run<T, F: Future<Output = Result<T>>>(mut self, mut attempt: impl FnMut() -> F) -> Result<T> {
        loop {
            match attempt().await {
                Ok(done) => {
                    self.ended();
                    return Ok(done);
                }
                Err(error) => self.after(error).await?,
            }
        }
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
        let left = self.deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(error);
        }
        self.outage.failed(&error);
        self.observer.retried(&error);
        tokio::time::sleep(self.backoff.next_wait().min(left)).await;
        Ok(())
    }

    /// A part was achieved, though not all: the next wait is a short one, the deadline stays.
    pub fn progressed(&mut self) {
        self.backoff.reset();
    }

    /// Everything was achieved; to be called where [`Retry::run`] is not used.
    pub fn ended(&mut self) {
        self.outage.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Action, Subject};
    use kafka_protocol::error::ResponseError;

    fn error(code: ResponseError) -> Error {
        Error::kafka(Action::LookUp, Subject::Topic("t".into()), code)
    }

    #[test]
    fn waits_double_up_to_a_second_and_are_never_none() {
        for (first, attempt, milliseconds) in
            [(100, 0, 100), (100, 2, 400), (100, 20, 1000), (0, 0, 10), (5000, 0, 1000)]
        {
            let wait = backoff(Duration::from_millis(first), attempt).as_millis();
            assert!((milliseconds * 8 / 10..=milliseconds * 12 / 10).contains(&wait), "{first} {attempt}: {wait}");
        }
    }

    #[test]
    fn a_problem_is_reported_when_it_lasts_when_it_changes_and_ever_more_rarely() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let (busy, moved) = (error(ResponseError::LeaderNotAvailable), error(ResponseError::NotLeaderOrFollower));
        let mut lines = Vec::new();
        for tenths in 0..6000 {
            let error = if tenths < 50 { &busy } else { &moved };
            let before = outage.reported.as_ref().map(|last| last.at);
            outage.failed_at(error, began + Duration::from_millis(100) * tenths);
            if outage.reported.as_ref().map(|last| last.at) != before {
                lines.push(tenths / 10);
            }
        }
        assert_eq!(lines, [2, 5, 65, 185, 425]);
        assert!(outage.ended());
        assert!(!outage.ended());
    }

    #[test]
    fn a_pause_is_as_long_as_the_broker_asks_within_limits() {
        for (asked, expected) in [(-1, 0), (250, 250), (i32::MAX, 60_000)] {
            assert_eq!(throttle(asked), Duration::from_millis(expected));
        }
    }

    #[test]
    fn what_is_over_soon_is_no_line() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        outage.failed_at(&error(ResponseError::LeaderNotAvailable), began);
        outage.failed_at(&error(ResponseError::LeaderNotAvailable), began + LASTING / 2);
        assert!(!outage.ended());
    }
}
