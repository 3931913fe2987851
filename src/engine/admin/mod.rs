//! What admin calls take and return, whichever engine answers them. Knows only `record` and `error`.

mod acls;
mod cluster;
mod configs;
mod groups;
mod listing;
mod partitions;
mod topics;
mod transactions;
mod users;

pub(crate) use acls::Numbered;
pub use acls::{Acl, AclFilter, Operation, PatternType, Permission, ResourceType};
pub use cluster::{Api, Broker, Brokers, Feature, LogDir, Quorum, QuorumReplica, QuorumRole};
pub use configs::{ConfigChange, ConfigEntry, ConfigSource, Configured};
pub use groups::{
    Bounds, CommittedOffset, DescribedGroup, GroupMember, GroupType, GroupsProgress, ListedGroup, Progress,
};
pub use listing::Listing;
pub use partitions::{Elected, Election, OffsetAt, Reassignment};
pub use topics::{NewTopic, Partition, Topic};
pub use transactions::{ListedTransaction, OpenTransaction, Transaction};
pub use users::Credential;
