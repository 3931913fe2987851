//! `kpipe local` answers like a real broker: the same requests to both, in every version, field by field.

mod administration;
mod both;
mod groups;
mod records;
mod replication;
mod security;
mod topics;
mod transactions;

use crate::support::{Kafka, Wire, fresh, require, shared, wait_until};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use kpipe::local::OFFERED;
use std::fmt::Debug;
use uuid::Uuid;

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
const LOADING: [i16; 3] = [14, 15, 16];

/// One of the two clusters.
struct Side {
    wire: Wire,
    /// The ID of the topic there.
    id: Uuid,
}

/// A real broker and `kpipe local`, each with the same topic of one partition.
struct Pair {
    real: Side,
    ours: Side,
    topic: String,
    _clusters: [std::sync::Arc<crate::support::Cluster>; 2],
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn versions<R: Request>(from: i16) -> std::ops::RangeInclusive<i16> {
    R::VERSIONS.min.max(from)..=R::VERSIONS.max
}

impl Pair {
    fn new() -> Self {
        let kafka = shared(Kafka::LATEST);
        let local = shared(Kafka::Local);
        let topic = fresh("agreed");
        let side = |bootstrap: &str| {
            let mut wire = Wire::connect(bootstrap);
            let new =
                CreatableTopic::default().with_name(name(&topic)).with_num_partitions(1).with_replication_factor(1);
            let created = wire.ask(&CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(9000), 7);
            assert_eq!(created.topics[0].error_code, 0);
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let partitions = ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
            let ends = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![partitions]);
            wait_until("the leader", || wire.ask(&ends, 7).topics[0].partitions[0].error_code == 0);
            Side { wire, id: created.topics[0].topic_id }
        };
        let (real, ours) = (side(&kafka.bootstrap), side(&local.bootstrap));
        Self { real, ours, topic, _clusters: [kafka, local] }
    }

    /// Sends the same request to both and compares the responses without what `blank` removes, because it may differ.
    /// Returns the response of `kpipe local`.
    fn agree<R: Request>(
        &mut self,
        version: i16,
        make: impl Fn(&Side) -> R,
        blank: impl Fn(&mut R::Response),
    ) -> R::Response
    where
        R::Response: PartialEq + Debug + Clone,
    {
        let mut real = self.real.wire.ask(&make(&self.real), version);
        let ours = self.ours.wire.ask(&make(&self.ours), version);
        let mut shown = ours.clone();
        blank(&mut real);
        blank(&mut shown);
        let api = ApiKey::try_from(R::KEY).unwrap();
        let (kafka, local) = (format!("{real:#?}"), format!("{shown:#?}"));
        let differences: Vec<_> = kafka.lines().zip(local.lines()).filter(|(a, b)| a != b).take(10).collect();
        assert!(real == shown, "{api:?} v{version}, Kafka and kpipe local: {differences:#?}\n{kafka}\n{local}");
        ours
    }
}

#[test]
fn the_same_versions_are_offered() {
    require!(Kafka);
    let mut pair = Pair::new();
    for version in versions::<ApiVersionsRequest>(0) {
        let request = |_: &Side| {
            let request = ApiVersionsRequest::default().with_client_software_name(text("kpipe"));
            if version >= 3 { request.with_client_software_version(text("1")) } else { ApiVersionsRequest::default() }
        };
        pair.agree(version, request, |response| {
            response.api_keys.retain(|api| OFFERED.iter().any(|(offered, _)| *offered as i16 == api.api_key));
            response.api_keys.sort_by_key(|api| api.api_key);
            for api in &mut response.api_keys {
                // The message schemas do not have the newest version of these yet.
                let newest = [
                    (ApiKey::ListOffsets, 11),
                    (ApiKey::OffsetCommit, 10),
                    (ApiKey::OffsetFetch, 10),
                    (ApiKey::ApiVersions, 5),
                    (ApiKey::WriteTxnMarkers, 2),
                    (ApiKey::TxnOffsetCommit, 6),
                    (ApiKey::DescribeLogDirs, 5),
                    (ApiKey::DeleteGroups, 3),
                ];
                if newest.iter().any(|(key, version)| *key as i16 == api.api_key && *version == api.max_version) {
                    api.max_version -= 1;
                }
            }
            response.supported_features.clear();
            response.finalized_features.clear();
            response.finalized_features_epoch = -1;
        });
    }
}
