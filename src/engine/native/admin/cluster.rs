//! What a cluster consists of: brokers, versions, features, quorum, disks.

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{answer_to, of_topic, topic_name};
use crate::engine::native::net::{Connection, api_versions_request};
use crate::engine::{Api, Broker, Brokers, Feature, LogDir, Quorum, QuorumReplica, QuorumRole};
use crate::error::{Action, Error, ErrorCode, Result, Subject};
use crate::record::{BrokerId, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use kafka_protocol::messages::{
    ApiKey, DescribeClusterRequest, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeQuorumRequest,
};
use kafka_protocol::protocol::VersionRange;

/// The log of the cluster's own metadata (KIP-595).
const METADATA_TOPIC: &str = "__cluster_metadata";

impl NativeAdmin {
    /// Which brokers there are.
    ///
    /// # Errors
    /// None answered.
    pub fn brokers(&self) -> Result<Brokers> {
        self.repeat(|| self.cluster().describe_brokers())
    }

    /// The ids of the brokers that are up, in order.
    ///
    /// # Errors
    /// None answered.
    pub fn alive(&self) -> Result<Vec<BrokerId>> {
        self.run(self.cluster().brokers())
    }

    /// The id of the node that decides now, perhaps none of the brokers; `None` where that may not be seen.
    ///
    /// # Errors
    /// None answered.
    pub fn controller(&self) -> Result<Option<BrokerId>> {
        self.repeat(|| self.cluster().controller_id())
    }

    /// The features that the brokers have agreed on, and could.
    ///
    /// # Errors
    /// None answered.
    pub fn features(&self) -> Result<Vec<Feature>> {
        self.repeat(|| self.cluster().features())
    }

    /// The requests that a broker takes, by number.
    ///
    /// # Errors
    /// It did not answer.
    pub fn apis(&self, broker: BrokerId) -> Result<Vec<Api>> {
        self.run(self.cluster().apis(broker))
    }

    /// The controllers' quorum; `None` for a cluster with ZooKeeper.
    ///
    /// # Errors
    /// The cluster refused to tell.
    pub fn quorum(&self) -> Result<Option<Quorum>> {
        self.repeat(|| self.cluster().quorum())
    }

    /// The log directories of `brokers`.
    ///
    /// # Errors
    /// One did not answer, or refused.
    pub fn log_dirs(&self, brokers: &[BrokerId]) -> Result<Vec<LogDir>> {
        self.run(self.cluster().log_dirs(brokers))
    }
}

impl Cluster {
    async fn describe_brokers(&self) -> Result<Brokers> {
        let metadata = self.nodes().await?;
        let mut brokers: Vec<Broker> = metadata
            .brokers
            .iter()
            .map(|broker| Broker {
                id: BrokerId(broker.node_id.0),
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
                fenced: false,
            })
            .collect();
        // Only this tells of brokers that are registered and not alive.
        let connection = self.any().await?;
        if connection.version::<DescribeClusterRequest>(i16::MAX).is_ok_and(|version| version >= 2) {
            let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
            let answer = connection.request(&request).await?;
            refusal(Action::DescribeCluster, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
            for broker in answer.brokers.iter().filter(|broker| broker.is_fenced) {
                brokers.push(Broker {
                    id: BrokerId(broker.broker_id.0),
                    host: broker.host.to_string(),
                    port: broker.port,
                    rack: broker.rack.as_ref().map(ToString::to_string),
                    fenced: true,
                });
            }
        }
        brokers.sort_by_key(|broker| broker.id);
        brokers.dedup_by_key(|broker| broker.id);
        Ok(Brokers { cluster: metadata.cluster_id.map(|id| id.to_string()), brokers })
    }

    /// With KRaft the metadata names any broker, for any forwards; only the quorum tells.
    async fn controller_id(&self) -> Result<Option<BrokerId>> {
        match self.quorum().await {
            Ok(None) => Ok(BrokerId::from_wire(self.nodes().await?.controller_id.0)),
            Ok(Some(quorum)) => Ok(quorum.replicas.iter().find(|r| r.role == QuorumRole::Leader).map(|r| r.node)),
            Err(Error::Kafka { code, .. }) if code.is_denied() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn api_versions(&self, broker: Option<BrokerId>) -> Result<kafka_protocol::messages::ApiVersionsResponse> {
        let connection = match broker {
            Some(id) => self.known_broker(id).await?,
            None => self.any().await?,
        };
        // Its header is that of version 0 in all versions (KIP-511), which the connection knows.
        connection.request(&api_versions_request()).await
    }

    async fn features(&self) -> Result<Vec<Feature>> {
        let answer = self.api_versions(None).await?;
        let finalized = |name: &str| {
            let found = answer.finalized_features.iter().find(|feature| feature.name.as_str() == name);
            found.map(|feature| feature.max_version_level)
        };
        let feature = |f: &kafka_protocol::messages::api_versions_response::SupportedFeatureKey| Feature {
            finalized: finalized(&f.name),
            feature: f.name.to_string(),
            supported: (f.min_version, f.max_version),
        };
        let mut features: Vec<Feature> = answer.supported_features.iter().map(feature).collect();
        features.sort_by(|a, b| a.feature.cmp(&b.feature));
        Ok(features)
    }

    async fn apis(&self, broker: BrokerId) -> Result<Vec<Api>> {
        let answer = self.api_versions(Some(broker)).await?;
        let api = |api: &kafka_protocol::messages::api_versions_response::ApiVersion| {
            let known = ApiKey::try_from(api.api_key).ok();
            let range = known.map(|key| key.valid_versions());
            Api {
                key: api.api_key,
                api: known.map(|key| format!("{key:?}")),
                broker: (api.min_version, api.max_version),
                kpipe: range.map(|VersionRange { min, max }| (min, max)),
            }
        };
        let mut apis: Vec<Api> = answer.api_keys.iter().map(api).collect();
        apis.sort_by_key(|api| api.key);
        Ok(apis)
    }

    async fn quorum(&self) -> Result<Option<Quorum>> {
        let topic = TopicData::default()
            .with_topic_name(topic_name(METADATA_TOPIC))
            .with_partitions(vec![PartitionData::default()]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let connection = self.any().await?;
        if connection.version::<DescribeQuorumRequest>(i16::MAX).is_err() {
            return Ok(None);
        }
        let answer = connection.request(&request).await?;
        refusal(Action::DescribeQuorum, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
        let partitions = answer
            .topics
            .into_iter()
            .flat_map(|topic| of_topic(&topic.topic_name, topic.partitions, |partition| partition.partition_index));
        let log = TopicPartition::new(METADATA_TOPIC, 0);
        let partition = answer_to(&connection, ApiKey::DescribeQuorum, log, partitions)?;
        refusal(Action::DescribeQuorum, Subject::Cluster, partition.error_code, partition.error_message.as_ref())?;
        let leader = partition.leader_id;
        let voters = partition.current_voters.iter();
        let end =
            voters.clone().find(|r| r.replica_id == leader).map_or(partition.high_watermark, |r| r.log_end_offset);
        let caught_up = voters.clone().find(|r| r.replica_id == leader).map_or(-1, |r| r.last_caught_up_timestamp);
        let replica = |role: QuorumRole| {
            move |r: &ReplicaState| {
                let role = if r.replica_id == leader { QuorumRole::Leader } else { role };
                let known = caught_up >= 0 && r.last_caught_up_timestamp >= 0;
                QuorumReplica {
                    node: BrokerId(r.replica_id.0),
                    role,
                    log_end_offset: r.log_end_offset,
                    lag: (end - r.log_end_offset).max(0),
                    behind_ms: known.then_some((caught_up - r.last_caught_up_timestamp).max(0)),
                }
            }
        };
        let mut replicas: Vec<QuorumReplica> = voters
            .map(replica(QuorumRole::Follower))
            .chain(partition.observers.iter().map(replica(QuorumRole::Observer)))
            .collect();
        replicas.sort_by_key(|r| (r.role, r.node));
        Ok(Some(Quorum { epoch: partition.leader_epoch, high_watermark: partition.high_watermark, replicas }))
    }

    pub(super) async fn log_dirs(&self, brokers: &[BrokerId]) -> Result<Vec<LogDir>> {
        let mut found = Vec::new();
        for &broker in brokers {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            self.require_known(broker).await?;
            let subject = Subject::Broker(self.node(broker));
            let read = |answer: DescribeLogDirsResponse, _: &Connection| {
                refusal(Action::DescribeLogDirs, subject.clone(), answer.error_code, None)?;
                Ok(answer)
            };
            let answer = self.ask_broker(broker, &request, i16::MAX, read).await?;
            if answer.results.is_empty() {
                // What brokers answer whoever may not see them.
                return Err(Error::kafka(Action::DescribeLogDirs, subject, ResponseError::ClusterAuthorizationFailed));
            }
            for dir in answer.results {
                let subject = Subject::LogDir(dir.log_dir.to_string());
                let error = refusal(Action::LookUp, subject, dir.error_code, None).err().map(|e| e.to_string());
                let partitions = dir
                    .topics
                    .into_iter()
                    .flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
                found.push(LogDir {
                    broker,
                    path: dir.log_dir.to_string(),
                    error,
                    total: (dir.total_bytes >= 0).then_some(dir.total_bytes),
                    usable: (dir.usable_bytes >= 0).then_some(dir.usable_bytes),
                    partitions: partitions.map(|(of, partition)| (of, partition.partition_size)).collect(),
                });
            }
        }
        Ok(found)
    }
}
