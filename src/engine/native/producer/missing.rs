//! Topics that were looked up and do not exist: asked for again at each record, they would hold up all others.

use super::super::net::clock;
use crate::error::Error;
use kafka_protocol::error::ResponseError;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A topic that did not exist is looked up again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// When each was looked up, and the error.
#[derive(Default)]
pub(super) struct Missing(HashMap<String, (Instant, Error)>);

impl Missing {
    pub(super) fn get(&self, name: &str) -> Option<Error> {
        let (at, error) = self.0.get(name)?;
        (clock::since(*at) < ASK_AGAIN).then(|| error.clone())
    }

    pub(super) fn note(&mut self, name: &str, error: &Error) {
        if error.code() == Some(ResponseError::UnknownTopicOrPartition) {
            self.0.retain(|_, (at, _)| clock::since(*at) < ASK_AGAIN);
            self.0.insert(name.to_owned(), (clock::now(), error.clone()));
        }
    }
}
