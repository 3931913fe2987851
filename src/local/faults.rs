//! Misbehaviour on demand, for tests: nothing on the command line leads here.

use kafka_protocol::messages::ApiKey;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this error code of Kafka's, and has no effect.
    Error(i16),
    /// The connection closes; it has had no effect.
    DropBefore,
    /// It takes effect, then the connection closes instead of an answer.
    DropAfter,
    /// It is answered so much later.
    Delay(Duration),
    /// So many bytes of the answer are sent, then the connection closes.
    Cut(usize),
}

/// The faults that are to come, and how many requests there were.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// With how many more requests each goes wrong.
    coming: Vec<(ApiKey, u32, Fault)>,
    requests: HashMap<i16, u64>,
}

impl Faults {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` requests of `api` go wrong, after those ordered before.
    pub fn inject(&self, api: ApiKey, times: u32, fault: Fault) {
        self.state().coming.push((api, times, fault));
    }

    /// Whether all that was ordered has happened.
    pub fn are_done(&self) -> bool {
        self.state().coming.is_empty()
    }

    /// How many requests of `api` came so far.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.state().requests.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Counts a request; what is to go wrong with it.
    pub(super) fn take_next(&self, api: ApiKey) -> Option<Fault> {
        let mut state = self.state();
        *state.requests.entry(api as i16).or_default() += 1;
        let index = state.coming.iter().position(|(of, ..)| *of == api)?;
        let (_, times, fault) = &mut state.coming[index];
        let fault = *fault;
        *times = times.saturating_sub(1);
        if *times == 0 {
            state.coming.remove(index);
        }
        Some(fault)
    }
}
