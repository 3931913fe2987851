//! Events that an engine reports beside its results, for metrics.

use crate::error::Error;
use crate::record::{BrokerId, Offset, TopicPartition};
use kafka_protocol::messages::ApiKey;
use std::fmt::Debug;
use std::time::Duration;

/// Receives an engine's events, from any thread; no method is called per record. `()` ignores all events.
#[allow(unused_variables)]
pub trait Observer: Debug + Send + Sync {
    /// A connection was attempted; `broker` is `None` for an address of the bootstrap list.
    fn connected(&self, broker: Option<BrokerId>, reached: bool) {}

    /// A request was answered, `after` it was sent.
    fn answered(&self, broker: Option<BrokerId>, api: ApiKey, after: Duration) {}

    /// A request or batch is retried because of `error`.
    fn retried(&self, error: &Error) {}

    /// A batch is full; its size in bytes, before compression.
    fn batch_filled(&self, bytes: usize) {}

    /// A batch is ready to be sent; its size in bytes, compressed.
    fn batch_ready(&self, bytes: usize) {}

    /// A fetch from `position` returned the partition's high watermark.
    fn fetched(&self, of: &TopicPartition, position: Offset, high_watermark: Offset) {}

    /// A commit failed and is being retried.
    fn commit_failed(&self, error: &Error) {}
}

impl Observer for () {}
