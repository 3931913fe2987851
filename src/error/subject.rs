//! What an error is about: what was attempted, and on what.

use crate::record::{BrokerId, Node, Offset, TopicPartition};
use std::fmt;
use std::sync::Arc;

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A broker.
    Broker(Node),
    /// A topic.
    Topic(Arc<str>),
    /// A topic's partition.
    TopicPartition(TopicPartition),
    /// A topic's partition, as the broker that was asked has it.
    Replica(TopicPartition, Node),
    /// An offset of a partition.
    Offset(TopicPartition, Offset),
    /// A consumer group.
    Group(String),
    /// A group's offsets of partitions.
    GroupPartitions {
        /// The group.
        group: String,
        /// What was to be kept for each partition.
        partitions: Vec<(TopicPartition, Offset)>,
    },
    /// A group's offset of a partition.
    GroupPartition {
        /// The group.
        group: String,
        /// The partition.
        partition: TopicPartition,
    },
    /// A transactional ID, or its transaction.
    TransactionalId(String),
    /// A partition that a transaction writes to.
    TransactionPartition {
        /// The transactional ID.
        transactional_id: String,
        /// The partition.
        partition: TopicPartition,
    },
    /// A producer that belongs to no transactional ID.
    Producer,
    /// A user with SCRAM credentials.
    User(String),
    /// An ACL, as it is displayed.
    Acl(String),
    /// The configs of a topic.
    TopicConfigs(Arc<str>),
    /// The configs of a broker; `None` for those of all brokers.
    BrokerConfigs(Option<BrokerId>),
    /// A broker's directory.
    LogDir(String),
}

impl Subject {
    /// The topic that it belongs to.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(topic) | Self::TopicConfigs(topic) => Some(topic),
            Self::TopicPartition(of) | Self::Replica(of, _) | Self::Offset(of, _) => Some(&of.topic),
            Self::GroupPartition { partition, .. } | Self::TransactionPartition { partition, .. } => {
                Some(&partition.topic)
            }
            Self::GroupPartitions { partitions, .. } => partitions.first().map(|(of, _)| &*of.topic),
            _ => None,
        }
    }

    /// The group that it belongs to.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Group(group) | Self::GroupPartition { group, .. } | Self::GroupPartitions { group, .. } => {
                Some(group)
            }
            _ => None,
        }
    }

    /// The transactional ID that it belongs to.
    pub fn transactional_id(&self) -> Option<&str> {
        match self {
            Self::TransactionalId(id) | Self::TransactionPartition { transactional_id: id, .. } => Some(id),
            _ => None,
        }
    }

    /// A topic by its name.
    pub fn topic_named(name: &str) -> Self {
        Self::Topic(name.into())
    }

    /// A group by its ID.
    pub fn group_named(id: &str) -> Self {
        Self::Group(id.to_owned())
    }
}

impl From<TopicPartition> for Subject {
    fn from(of: TopicPartition) -> Self {
        Self::TopicPartition(of)
    }
}

impl From<&TopicPartition> for Subject {
    fn from(of: &TopicPartition) -> Self {
        Self::TopicPartition(of.clone())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Broker(node) => node.fmt(f),
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::TopicPartition(of) => of.fmt(f),
            Self::Replica(of, node) => write!(f, "{of} on {node}"),
            Self::Offset(of, offset) => write!(f, "offset {offset} of {of}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::GroupPartitions { group, partitions } => {
                for (index, (of, offset)) in partitions.iter().enumerate() {
                    write!(f, "{}{of}@{offset}", if index > 0 { ", " } else { "" })?;
                }
                write!(f, " for group {group}")
            }
            Self::GroupPartition { group, partition } => write!(f, "{partition} for group {group}"),
            Self::TransactionalId(id) => write!(f, "transactional ID {id}"),
            Self::TransactionPartition { transactional_id, partition } => {
                write!(f, "{partition} to the transaction of {transactional_id}")
            }
            Self::Producer => f.write_str("an idempotent producer"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Acl(acl) => f.write_str(acl),
            Self::TopicConfigs(topic) => write!(f, "configs of topic {topic}"),
            Self::BrokerConfigs(Some(id)) => write!(f, "configs of broker {id}"),
            Self::BrokerConfigs(None) => f.write_str("configs of all brokers"),
            Self::LogDir(path) => f.write_str(path),
        }
    }
}

/// What was attempted, named by the request that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// Nothing worth a verb: metadata, offsets, descriptions.
    LookUp,
    ApiVersions,
    FindCoordinator,
    Produce,
    Fetch,
    CreateTopic,
    DeleteTopic,
    CreatePartitions,
    DeleteRecords,
    ElectLeader,
    ListReassignments,
    Reassign,
    AlterConfigs,
    DescribeConfigs,
    DescribeCluster,
    DescribeQuorum,
    DescribeLogDirs,
    ListAcls,
    CreateAcl,
    DeleteAcl,
    ListUsers,
    AlterUser,
    JoinGroup,
    SyncGroup,
    Heartbeat,
    CommitOffsets,
    FetchOffsets,
    ListGroups,
    DescribeGroup,
    DeleteGroup,
    DeleteOffsets,
    InitProducerId,
    AddPartitions,
    CommitTransaction,
    AbortTransaction,
    ListTransactions,
    DescribeProducers,
    AbortHanging,
}

impl Action {
    /// How a message begins, up to the subject.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::LookUp | Self::Produce | Self::AlterConfigs | Self::DescribeConfigs | Self::AlterUser => "",
            Self::ApiVersions => "asking for API versions of ",
            Self::FindCoordinator => "finding the coordinator of ",
            Self::Fetch => "fetching ",
            Self::CreateTopic => "creating ",
            Self::DeleteTopic => "deleting ",
            Self::CreatePartitions => "adding partitions to ",
            Self::DeleteRecords => "deleting records of ",
            Self::ElectLeader => "electing the leader of ",
            Self::ListReassignments => "listing reassignments of ",
            Self::Reassign => "reassigning ",
            Self::DescribeCluster => "describing ",
            Self::DescribeQuorum => "describing the controller quorum of ",
            Self::DescribeLogDirs => "describing log directories of ",
            Self::ListAcls => "listing ACLs of ",
            Self::CreateAcl => "creating ",
            Self::DeleteAcl => "deleting ",
            Self::ListUsers => "listing users of ",
            Self::JoinGroup => "joining ",
            Self::SyncGroup => "syncing ",
            Self::Heartbeat => "sending a heartbeat to ",
            Self::CommitOffsets => "committing ",
            Self::FetchOffsets => "fetching offsets of ",
            Self::ListGroups => "listing groups of ",
            Self::DescribeGroup => "describing ",
            Self::DeleteGroup => "deleting ",
            Self::DeleteOffsets => "deleting offsets of ",
            Self::InitProducerId => "initializing ",
            Self::AddPartitions => "adding ",
            Self::CommitTransaction => "committing the transaction of ",
            Self::AbortTransaction => "aborting the transaction of ",
            Self::ListTransactions => "listing transactions of ",
            Self::DescribeProducers => "describing producers of ",
            Self::AbortHanging => "aborting a hanging transaction in ",
        }
    }
}
