//! One fetch: what differs by the broker's version is set here.

use super::super::cluster::{Cluster, Lane};
use super::positions::Plan;
use crate::error::Result;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The last version of Fetch that names topics; later ones have ids (KIP-516).
const LAST_FETCH_BY_NAME: i16 = 12;
/// Fetch takes the consumer's rack from this version on (KIP-392).
const FIRST_FETCH_WITH_RACK: i16 = 11;
/// Fetch tells of a truncated log from this version on (KIP-320, KIP-595).
const FIRST_FETCH_WITH_LAST_EPOCH: i16 = 12;
/// An answered fetch.
pub(super) type Answer = (Plan, Result<FetchResponse>);

/// Sends `request` to the plan's broker, which may keep it for `wait`.
pub(super) async fn fetch(
    cluster: Arc<Cluster>,
    plan: Plan,
    mut request: FetchRequest,
    wait: Duration,
    rack: Option<String>,
) -> Answer {
    let ids = request.topics.iter().all(|topic| topic.topic_id != Uuid::nil());
    let newest = if ids { i16::MAX } else { LAST_FETCH_BY_NAME };
    let limit = wait + cluster.options.request_timeout;
    let response = async {
        let connection = cluster.broker_on(plan.broker, Lane::Fetch).await?;
        let version = connection.version::<FetchRequest>(newest)?;
        if let Some(rack) = rack.filter(|_| version >= FIRST_FETCH_WITH_RACK) {
            request.rack_id = StrBytes::from_string(rack);
        }
        if version < FIRST_FETCH_WITH_LAST_EPOCH {
            let partitions = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.last_fetched_epoch = -1);
        }
        connection.request_within(&request, version, limit).await
    };
    let response = response.await;
    (plan, response)
}
