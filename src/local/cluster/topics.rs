//! Creating, growing and deleting topics, within limits.

use super::{Cluster, Partition, Topic};
use crate::local::configs::{self, Refused};
use crate::local::limits::{MOST_CONFIG_BYTES, MOST_PARTITIONS};
use crate::record::BrokerId;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The replication factor of a topic that is created without one.
const DEFAULT_REPLICATION_FACTOR: usize = 3;

/// What Kafka says of a topic that does not exist.
pub(in crate::local) const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// What a topic is created with.
#[derive(Debug, Clone, Default)]
pub(in crate::local) struct NewTopic {
    /// 1 by default.
    pub(in crate::local) partitions: Option<i32>,
    /// 3 by default, or as many as there are brokers.
    pub(in crate::local) replication_factor: Option<u16>,
    /// The replicas of each partition, in place of both.
    pub(in crate::local) assignments: Option<Vec<Vec<BrokerId>>>,
    pub(in crate::local) configs: BTreeMap<String, String>,
}

impl Cluster {
    /// Creates a topic.
    pub(in crate::local) fn create(&mut self, name: &str, new: &NewTopic, validate_only: bool) -> Result<(), Refused> {
        check_name(name)?;
        if self.topics.contains_key(name) {
            return Err((E::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        let replicas = self.new_replicas(new)?;
        configs::check(&new.configs)?;
        self.check_limits(replicas.len(), configs::bytes(&new.configs))?;
        if !validate_only {
            let partitions: Vec<_> =
                replicas.into_iter().map(|replicas| Partition::new(replicas, |id| self.is_up(id))).collect();
            let id = Uuid::from_u128(fastrand::u128(1..));
            self.partition_count += partitions.len();
            self.config_bytes += configs::bytes(&new.configs);
            self.names.insert(id, name.to_owned());
            self.topics.insert(name.to_owned(), Topic { id, partitions, configs: new.configs.clone() });
        }
        Ok(())
    }

    fn new_replicas(&self, new: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refused> {
        let known: Vec<BrokerId> = self.brokers.iter().map(|broker| broker.id).collect();
        if let Some(assignments) = &new.assignments {
            let wrong = |ids: &Vec<BrokerId>| ids.is_empty() || ids.iter().any(|id| !known.contains(id));
            if assignments.is_empty() || assignments.iter().any(wrong) {
                let why = "a replica assignment names a broker that does not exist".to_owned();
                return Err((E::InvalidReplicaAssignment, why));
            }
            return Ok(assignments.clone());
        }
        let factor = new.replication_factor.map_or(known.len().min(DEFAULT_REPLICATION_FACTOR), usize::from);
        if factor == 0 || factor > known.len() {
            let up = known.len();
            let why = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {up} broker(s) are registered."
            );
            return Err((E::InvalidReplicationFactor, why));
        }
        self.assign_replicas(0, new.partitions.unwrap_or(1), factor)
    }

    /// Sets the configs of a topic in place of those it has.
    pub(in crate::local) fn set_configs(
        &mut self,
        name: &str,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), Refused> {
        configs::check(&configs)?;
        let unknown = || (E::UnknownTopicOrPartition, UNKNOWN_TOPIC.to_owned());
        let before = configs::bytes(&self.topics.get(name).ok_or_else(unknown)?.configs);
        let more = configs::bytes(&configs);
        self.check_limits(0, more.saturating_sub(before))?;
        if let Some(topic) = self.topics.get_mut(name).filter(|_| !validate_only) {
            topic.configs = configs;
            self.config_bytes = self.config_bytes + more - before;
            self.apply_replication();
        }
        Ok(())
    }

    /// Adds partitions until there are `count`.
    pub(in crate::local) fn add_partitions(
        &mut self,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let unknown = || (E::UnknownTopicOrPartition, UNKNOWN_TOPIC.to_owned());
        let topic = self.topics.get(name).ok_or_else(unknown)?;
        let (have, factor) = (topic.partitions.len(), topic.partitions.first().map_or(1, |p| p.replicas.len()));
        let more = count.saturating_sub(have as i32);
        if more <= 0 {
            let why = if more == 0 {
                format!("Topic already has {have} partition(s).")
            } else {
                format!("The topic {name} currently has {have} partition(s); {count} would not be an increase.")
            };
            return Err((E::InvalidPartitions, why));
        }
        let replicas = self.assign_replicas(have, more, factor)?;
        self.check_limits(replicas.len(), 0)?;
        if !validate_only {
            let mut added: Vec<Partition> =
                replicas.into_iter().map(|replicas| Partition::new(replicas, |id| self.is_up(id))).collect();
            self.partition_count += added.len();
            if let Some(topic) = self.topics.get_mut(name) {
                topic.partitions.append(&mut added);
            }
        }
        Ok(())
    }

    /// Deletes a topic with its records and the offsets that groups have committed to it.
    pub(in crate::local) fn delete(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        self.names.remove(&topic.id);
        self.partition_count -= topic.partitions.len();
        self.config_bytes -= configs::bytes(&topic.configs);
        for partition in &topic.partitions {
            self.retained.remove(partition);
        }
        for group in self.groups.values_mut() {
            group.offsets.remove_topic(name);
        }
    }

    /// Deletes a topic and creates one of the same name, partitions and configs; false when there is none.
    pub(in crate::local) fn recreate(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.get(name) else { return false };
        let new = NewTopic {
            assignments: Some(topic.partitions.iter().map(|partition| partition.replicas.clone()).collect()),
            configs: topic.configs.clone(),
            ..NewTopic::default()
        };
        self.delete(name);
        self.create(name, &new, false).is_ok()
    }

    /// The replicas of `count` partitions from number `first` on, round-robin over the brokers.
    fn assign_replicas(&self, first: usize, count: i32, factor: usize) -> Result<Vec<Vec<BrokerId>>, Refused> {
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            (E::InvalidPartitions, "Number of partitions was set to an invalid non-positive value.".to_owned())
        })?;
        self.check_limits(count, 0)?;
        let brokers = self.brokers.len();
        let replicas = |n: usize| (0..factor).map(|r| self.brokers[(n + r) % brokers].id).collect();
        Ok((first..first + count).map(replicas).collect())
    }

    /// Refuses what would take more memory than a trial cluster is worth.
    fn check_limits(&self, partitions: usize, config_bytes: usize) -> Result<(), Refused> {
        let why = if self.partition_count.saturating_add(partitions) > MOST_PARTITIONS {
            format!("kpipe local holds up to {MOST_PARTITIONS} partitions")
        } else if self.config_bytes + config_bytes > MOST_CONFIG_BYTES {
            format!("kpipe local holds up to {MOST_CONFIG_BYTES} bytes of topic configs")
        } else {
            return Ok(());
        };
        Err((E::PolicyViolation, why))
    }
}

/// Kafka's rule for topic names.
pub(in crate::local) fn check_name(name: &str) -> Result<(), Refused> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let why = match name {
        "" => "Topic name is invalid: the empty string is not allowed".to_owned(),
        "." | ".." => "Topic name is invalid: '.' or '..' is not allowed".to_owned(),
        _ if name.len() > 249 => {
            format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249")
        }
        _ if !name.chars().all(legal) => format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
        _ => return Ok(()),
    };
    Err((E::InvalidTopicException, why))
}
