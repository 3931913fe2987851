//! The one place where answers are held against what was asked: everything asked is answered, once, and nothing else is
//! believed. An answer that is wrong is [`Error::Malformed`], which names the broker and the request and is retried as
//! other errors are that may pass.

use crate::engine::native::net::Connection;
use crate::error::{Error, Result};
use crate::record::{Node, PartitionId, TopicPartition};
use kafka_protocol::messages::ApiKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

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
        Self::of(connection.node(), api, keys)
    }

    /// A request of `api` asked `node` for `keys`.
    pub(in crate::engine::native) fn of(node: &Node, api: ApiKey, keys: impl IntoIterator<Item = K>) -> Self {
        Self { node: node.clone(), api, unanswered: keys.into_iter().collect() }
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
            Err(self.malformed(format_args!("{key} was not requested, or is there more than once")))
        }
    }

    /// What is not answered, each with its error.
    pub(in crate::engine::native) fn missing(&mut self) -> Vec<(K, Error)> {
        let missing = std::mem::take(&mut self.unanswered);
        let lacks = |key: &K| self.malformed(format_args!("{key} is missing"));
        missing.into_iter().map(|key| (lacks(&key), key)).map(|(error, key)| (key, error)).collect()
    }

    /// Checks that everything is answered.
    ///
    /// # Errors
    /// Something is not.
    pub(in crate::engine::native) fn complete(mut self) -> Result<()> {
        self.missing().into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The answer of each of the `keys` that a request of `api` asked for.
///
/// # Errors
/// One is missing, unasked or twice.
pub(in crate::engine::native) fn answers_to<K: Ord + Display, A>(
    connection: &Connection,
    api: ApiKey,
    keys: impl IntoIterator<Item = K>,
    answers: impl IntoIterator<Item = (K, A)>,
) -> Result<BTreeMap<K, A>> {
    let mut asked = Asked::new(connection, api, keys);
    let mut found = BTreeMap::new();
    for (key, answer) in answers {
        asked.answered(&key)?;
        found.insert(key, answer);
    }
    asked.complete()?;
    Ok(found)
}

/// The answer of the one `key` that a request of `api` asked for.
///
/// # Errors
/// It is missing or twice, or another one is there.
pub(in crate::engine::native) fn answer_to<K: Ord + Display, A>(
    connection: &Connection,
    api: ApiKey,
    key: K,
    answers: impl IntoIterator<Item = (K, A)>,
) -> Result<A> {
    let mut asked = Asked::new(connection, api, [key]);
    let mut found = None;
    for (key, answer) in answers {
        asked.answered(&key)?;
        found = Some(answer);
    }
    // Whatever is not the key's has been refused.
    found.ok_or_else(|| asked.malformed("what was requested is missing"))
}

/// The answers to a list of things that are answered in their order, such as ACLs.
///
/// # Errors
/// There are more or fewer answers.
pub(in crate::engine::native) fn answers_in_order<K, A>(
    connection: &Connection,
    api: ApiKey,
    asked: Vec<K>,
    answers: Vec<A>,
) -> Result<Vec<(K, A)>> {
    if asked.len() != answers.len() {
        let why = format!("it has {} results for {}", answers.len(), asked.len());
        return Err(Error::Malformed { node: connection.node().clone(), api, why });
    }
    Ok(asked.into_iter().zip(answers).collect())
}

/// The answers for partitions of one topic, each with its partition, whose number `index` finds.
pub(in crate::engine::native) fn of_topic<A, F: Fn(&A) -> PartitionId>(
    topic: &str,
    answers: Vec<A>,
    index: F,
) -> impl Iterator<Item = (TopicPartition, A)> + use<A, F> {
    let topic: Arc<str> = topic.into();
    answers.into_iter().map(move |answer| (TopicPartition::new(topic.clone(), index(&answer)), answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(keys: &[&'static str]) -> Asked<&'static str> {
        Asked::of(&Node::bootstrap("b:1"), ApiKey::CreateTopics, keys.iter().copied())
    }

    #[test]
    fn everything_asked_is_answered_once_and_nothing_else() {
        let mut complete = asked(&["a", "b"]);
        complete.answered(&"b").unwrap();
        complete.answered(&"a").unwrap();
        complete.complete().unwrap();
        let error = asked(&["a"]).answered(&"c").unwrap_err();
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            "b:1 sent a malformed response to CreateTopics: c was not requested, or is there more than once"
        );
        let mut twice = asked(&["a", "b"]);
        twice.answered(&"a").unwrap();
        assert!(twice.answered(&"a").is_err());
        assert!(twice.complete().unwrap_err().to_string().ends_with("b is missing"));
    }
}
