//! Looking after topics.

mod groups;

use crate::error::Result;
use crate::record::{Offset, PartitionId};
pub use groups::{Bounds, CommittedOffset, DescribedGroup, GroupMember, GroupsProgress, ListedGroup, Progress};

/// A topic as `topics list` and `describe` show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Whether it is Kafka's own, like `__consumer_offsets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<bool>,
    /// Its partitions in order.
    pub partitions: Vec<Partition>,
}

/// A partition as `topics describe` shows it; what an engine cannot know is `None`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: PartitionId,
    /// The leader's broker id; `None` when there is none.
    pub leader: Option<i32>,
    /// Broker ids of all replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<i32>>,
    /// Broker ids of those in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync_replicas: Option<Vec<i32>>,
    /// Offset of the first record there is; `None` when it was not asked or nobody could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<Offset>,
    /// Offset the next record will get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<Offset>,
}

/// A topic to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// `None` is the brokers' default.
    pub partitions: Option<i32>,
    /// `None` is the brokers' default.
    pub replication_factor: Option<i16>,
    /// Topic configs that differ from the brokers' defaults.
    pub configs: Vec<(String, String)>,
    /// The brokers of each partition, the preferred leader first; empty leaves that to the cluster.
    pub assignment: Vec<Vec<i32>>,
}

/// Looks after a cluster.
pub trait Admin {
    /// All topics by name, or those of `names`; with `offsets`, first and next offset of each partition too.
    ///
    /// # Errors
    /// A named topic does not exist, or the cluster did not answer.
    fn topics(&mut self, names: Option<&[String]>, offsets: bool) -> Result<Vec<Topic>>;

    /// Makes a topic and waits until its leaders are known; with `only_check` the cluster only says whether it would.
    ///
    /// # Errors
    /// The cluster refused, or the engine cannot.
    fn create_topic(&mut self, topic: &NewTopic, only_check: bool) -> Result<()>;

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// The cluster refused, or the engine cannot.
    fn delete_topic(&mut self, name: &str) -> Result<()>;
}
