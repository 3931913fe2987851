//! Answers held against what was asked: everything asked is answered, once, and nothing else is believed.

use crate::engine::native::net::Connection;
use crate::error::{Error, Result};
use crate::record::Node;
use kafka_protocol::messages::ApiKey;
use std::collections::BTreeSet;
use std::fmt::Display;

/// What was asked of a broker and is not answered yet.
#[derive(Debug)]
pub(in crate::engine::native) struct Asked<K> {
    node: Node,
    api: ApiKey,
    unanswered: BTreeSet<K>,
}

impl<K: Ord + Display> Asked<K> {
    /// A request of `api` asked the broker at the other end of `connection` for `keys`.
    pub(in crate::engine::native) fn new(
        connection: &Connection,
        api: ApiKey,
        keys: impl IntoIterator<Item = K>,
    ) -> Self {
        Self { node: connection.node().clone(), api, unanswered: keys.into_iter().collect() }
    }

    /// The error of an answer that is wrong in another way.
    pub(in crate::engine::native) fn malformed(&self, why: impl Display) -> Error {
        Error::Malformed { node: self.node.clone(), api: self.api, why: why.to_string() }
    }

    /// Notes the answer for `key`.
    ///
    /// # Errors
    /// It was not asked for, or is answered twice.
    pub(in crate::engine::native) fn answered(&mut self, key: &K) -> Result<()> {
        if self.unanswered.remove(key) {
            Ok(())
        } else {
            Err(self.malformed(format_args!("{key} is unasked or twice")))
        }
    }

    /// What is not answered, each with its error.
    pub(in crate::engine::native) fn missing(&mut self) -> Vec<(K, Error)> {
        let missing = std::mem::take(&mut self.unanswered);
        missing
            .into_iter()
            .map(|key| (self.malformed(format_args!("it lacks {key}")), key))
            .map(|(e, k)| (k, e))
            .collect()
    }

    /// Checks that everything is answered.
    ///
    /// # Errors
    /// Something is not.
    pub(in crate::engine::native) fn complete(mut self) -> Result<()> {
        self.missing().into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}
