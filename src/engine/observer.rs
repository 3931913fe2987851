//! What an engine reports beside its results, for those who count.

use crate::error::Error;
use crate::record::{BrokerId, Offset, TopicPartition};
use kafka_protocol::messages::ApiKey;
use std::fmt::Debug;
use std::time::Duration;

/// Receives an engine's events, from any thread; nothing here is called a record. `()` ignores them all.
#[allow(unused_variables)]
pub trait Observer: Debug + Send + Sync {
    /// A connection was tried; `broker` is `None` for an address of the bootstrap list.
    fn connected(&self, broker: Option<BrokerId>, reached: bool) {}

    /// A request was answered, so long after it was sent.
    fn answered(&self, broker: Option<BrokerId>, api: ApiKey, after: Duration) {}

    /// A request or batch is retried because of `error`.
    fn retried(&self, error: &Error) {}

    /// A batch of so many bytes is full, before compression.
    fn batch_filled(&self, bytes: usize) {}

    /// A batch of so many bytes is ready to be sent.
    fn batch_ready(&self, bytes: usize) {}

    /// A fetch from `position` told the high watermark of a partition.
    fn fetched(&self, of: &TopicPartition, position: Offset, high_watermark: Offset) {}

    /// A commit failed that is retried.
    fn commit_failed(&self, error: &Error) {}
}

impl Observer for () {}
