//! Faults on demand, for tests and for `kpipe local --fault`: what goes wrong with requests, and how many there were.
//!
//! A fault of a request kind is injected here. A fault of a partition, a leader or a whole broker is a method of
//! [`Local`](super::Local), because it changes the cluster.
//!
//! ```no_run
//! use kafka_protocol::messages::ApiKey;
//! use kpipe::local::{Fault, Local, Options, Times};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { brokers: 3, port: 0, topics: vec![("t".to_owned(), 1)], retain_bytes: 1 << 30 };
//! let local = Local::start(&options, &Default::default())?;
//! let faults = local.faults();
//! faults.inject(ApiKey::Produce, 2, Fault::Error(6)); // the next two have no effect
//! faults.inject(ApiKey::Produce, 1, Fault::ErrorAfter(56)); // then one is in the log in spite of its error
//! faults.inject(ApiKey::Metadata, Times::Always, Fault::Delay(Duration::from_millis(50)));
//! faults.inject(ApiKey::Fetch, Times::Chance(0.01), Fault::DropAfter); // one in a hundred loses its answer
//! faults.freeze(2); // accepts connections and answers nothing until `thaw`
//! local.set_partition_error("t", 0, Some(3)); // what this partition answers to Produce, Fetch and ListOffsets
//! local.remove_leader("t", 0); // until `move_leader`
//! local.isolate(3, true); // it names and serves what it knows now, and accepts nothing
//! local.advertise(3, "wrong.invalid", 9092); // what clients are told of its address
//! local.recreate_topic("t"); // another topic ID, leader epoch 0, no records
//! let before = faults.requests(ApiKey::Metadata); // a later look at it gives the request rate
//! # Ok(())
//! # }
//! ```

use kafka_protocol::messages::ApiKey;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this error code of Kafka's, and has no effect.
    Error(i16),
    /// It takes effect, and is then answered with this error code: a produce request's records are in the log.
    ErrorAfter(i16),
    /// The connection closes; it has had no effect.
    DropBefore,
    /// It takes effect, then the connection closes instead of an answer.
    DropAfter,
    /// It has no effect and is never answered; the connection stays open until the client closes it.
    Silence,
    /// It takes effect, and its answer comes so much later.
    Delay(Duration),
    /// It takes effect, and its answer carries this throttle time; the broker then reads nothing from the connection
    /// for as long (KIP-219). That of a fetch is without partitions.
    Throttle(Duration),
    /// It takes effect; so many bytes of the answer are sent, then the connection closes.
    Cut(usize),
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Times {
    /// With the next so many requests.
    Next(u32),
    /// With every request from now on.
    Always,
    /// With each request at this probability, 0 to 1.
    Chance(f64),
}

impl From<u32> for Times {
    fn from(count: u32) -> Self {
        Self::Next(count)
    }
}

/// The faults to come, and the requests so far.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    thawed: Notify,
}

#[derive(Debug, Default)]
struct State {
    injected: Vec<(ApiKey, Times, Fault)>,
    latency: Duration,
    frozen: HashSet<i32>,
    requests: HashMap<i16, u64>,
    connections: u64,
    random: fastrand::Rng,
}

impl Faults {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has requests of `api` go wrong: the next few, all, or some. Those injected before come first.
    pub fn inject(&self, api: ApiKey, times: impl Into<Times>, fault: Fault) {
        self.state().injected.push((api, times.into(), fault));
    }

    /// Removes the faults of `api` that have not happened yet.
    pub fn clear(&self, api: ApiKey) {
        self.state().injected.retain(|(of, ..)| *of != api);
    }

    /// Whether every fault injected for a number of times has happened as often.
    pub fn are_done(&self) -> bool {
        !self.state().injected.iter().any(|(_, times, _)| matches!(times, Times::Next(_)))
    }

    /// Whether every fault of `api` that was injected for a number of times has happened as often.
    pub fn happened(&self, api: ApiKey) -> bool {
        !self.state().injected.iter().any(|(of, times, _)| *of == api && matches!(times, Times::Next(_)))
    }

    /// Delays every answer by this much.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Decides from here on which requests go wrong by [`Times::Chance`]: the same seed, the same choices.
    pub fn set_seed(&self, seed: u64) {
        self.state().random = fastrand::Rng::with_seed(seed);
    }

    /// Has a broker accept connections and requests but neither handle nor answer any, as a stopped process would.
    pub fn freeze(&self, broker: i32) {
        self.state().frozen.insert(broker);
    }

    /// Has a frozen broker continue, beginning with the requests that wait.
    pub fn thaw(&self, broker: i32) {
        self.state().frozen.remove(&broker);
        self.thawed.notify_waiters();
    }

    /// How many requests of `api` have come so far, answered or not.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.state().requests.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// How many connections have been accepted so far.
    pub fn connections(&self) -> u64 {
        self.state().connections
    }

    pub(super) fn count_connection(&self) {
        self.state().connections += 1;
    }

    pub(super) fn latency(&self) -> Duration {
        self.state().latency
    }

    /// Returns once `broker` is not frozen.
    pub(super) async fn until_thawed(&self, broker: i32) {
        loop {
            let mut thawed = pin!(self.thawed.notified());
            thawed.as_mut().enable();
            if !self.state().frozen.contains(&broker) {
                return;
            }
            thawed.await;
        }
    }

    /// Counts a request; returns what goes wrong with it.
    pub(super) fn take_next(&self, api: ApiKey) -> Option<Fault> {
        let mut state = self.state();
        let State { injected, requests, random, .. } = &mut *state;
        *requests.entry(api as i16).or_default() += 1;
        let index = injected.iter().position(|(of, times, _)| {
            *of == api
                && match times {
                    Times::Next(_) | Times::Always => true,
                    Times::Chance(share) => random.f64() < *share,
                }
        })?;
        let (_, times, fault) = &mut injected[index];
        let fault = *fault;
        if let Times::Next(left) = times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                injected.remove(index);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_order_and_as_often_as_injected() {
        let faults = Faults::default();
        faults.inject(ApiKey::Fetch, 2, Fault::Error(1));
        faults.inject(ApiKey::Produce, 1, Fault::DropAfter);
        faults.inject(ApiKey::Fetch, Times::Always, Fault::Silence);
        let seen: Vec<_> = (0..4).map(|_| faults.take_next(ApiKey::Fetch)).collect();
        let error = Some(Fault::Error(1));
        assert_eq!(seen, [error, error, Some(Fault::Silence), Some(Fault::Silence)]);
        assert!(!faults.are_done(), "a produce is still to go wrong");
        assert_eq!(faults.take_next(ApiKey::Produce), Some(Fault::DropAfter));
        assert!(faults.are_done());
        faults.clear(ApiKey::Fetch);
        assert_eq!(faults.take_next(ApiKey::Fetch), None);
        assert_eq!((faults.requests(ApiKey::Fetch), faults.requests(ApiKey::Metadata)), (5, 0));
    }

    #[test]
    fn a_seed_repeats_the_choices() {
        let chosen = |seed| {
            let faults = Faults::default();
            faults.set_seed(seed);
            faults.inject(ApiKey::Fetch, Times::Chance(0.25), Fault::DropBefore);
            (0..1000).map(|_| faults.take_next(ApiKey::Fetch).is_some()).collect::<Vec<_>>()
        };
        let first = chosen(7);
        let count = first.iter().filter(|hit| **hit).count();
        assert!((150..350).contains(&count), "{count}");
        assert_eq!(first, chosen(7));
        assert_ne!(first, chosen(8));
    }
}
