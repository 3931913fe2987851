//! Who produces: producer ids, and the transactions of a transactional one (KIP-98).
//!
//! Transactions announce their partitions (AddPartitionsToTxn) before they write to them. Brokers with
//! transaction version 2 (KIP-890) take that too, from clients that use the versions of before.

use super::super::cluster::{Cluster, Coordinated, topic_name};
use super::super::net::Retry;
use super::queue::ProducerId;
use crate::engine::TransactionConfig;
use crate::error::{Code, Error, Result};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId as WireProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Instant;

/// The last versions of the requests that go with announced partitions.
const LAST_ADD_PARTITIONS: i16 = 3;
const LAST_END_TXN: i16 = 4;

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

/// Takes a producer id. With a transaction this fences earlier producers of its id, and ends what they left open.
///
/// # Errors
/// Idempotence or the transactional id is denied, or the cluster is not ready by `deadline`.
pub(super) async fn take(
    cluster: &Cluster,
    transaction: Option<&TransactionConfig>,
    deadline: Instant,
) -> Result<ProducerId> {
    let timeout = transaction.map_or(i32::MAX, |t| i32::try_from(t.timeout.as_millis()).unwrap_or(i32::MAX));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transaction.map(|t| transactional_id(&t.id)))
        .with_transaction_timeout_ms(timeout)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let what = match transaction {
        Some(t) => format!("a producer id for transactional id {}", t.id),
        None => "a producer id for idempotence".to_owned(),
    };
    let mut retry = retry(cluster, deadline);
    loop {
        let answer = async {
            let broker = match transaction {
                Some(t) => cluster.coordinator(Coordinated::Transaction, &t.id).await?,
                None => cluster.any().await?,
            };
            broker.request(&request).await
        };
        let error = match answer.await {
            Ok(response) if response.error_code == 0 => {
                return Ok(ProducerId { id: response.producer_id.0, epoch: response.producer_epoch });
            }
            Ok(response) => {
                let code = Code(response.error_code);
                let denied = code.response_error() == Some(ResponseError::ClusterAuthorizationFailed);
                let message = "the brokers deny IDEMPOTENT_WRITE; --idempotent false does without";
                Error::Kafka { what: what.clone(), code, message: denied.then(|| message.to_owned()) }
            }
            Err(error) => error,
        };
        retry.after(error).await?;
    }
}

fn retry(cluster: &Cluster, deadline: Instant) -> Retry {
    Retry::until(deadline, cluster.config.retry_backoff / 4)
}

/// Announces that the transaction will write to `topics`.
///
/// # Errors
/// The producer is fenced, a topic denied, or the coordinator not ready by `deadline`.
pub(super) async fn add_partitions(
    cluster: &Cluster,
    id: &str,
    producer: ProducerId,
    topics: BTreeMap<String, Vec<i32>>,
    deadline: Instant,
) -> Result<()> {
    let topics = topics
        .iter()
        .map(|(name, ids)| AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(ids.clone()));
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(id))
        .with_v3_and_below_producer_id(WireProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(topics.collect());
    let mut retry = retry(cluster, deadline);
    loop {
        let answer = async {
            let broker = cluster.coordinator(Coordinated::Transaction, id).await?;
            broker.request_capped(&request, LAST_ADD_PARTITIONS).await
        };
        let error = match answer.await {
            Ok(response) => {
                let results = response.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
                // Partitions that are fine fail with OPERATION_NOT_ATTEMPTED beside one that is not.
                let mut codes: Vec<i16> = results.map(|p| p.partition_error_code).filter(|&code| code != 0).collect();
                codes.sort_by_key(|&code| Code(code).response_error() == Some(ResponseError::OperationNotAttempted));
                match codes.first() {
                    None => return Ok(()),
                    Some(&code) => Error::kafka(format!("the transaction of {id}"), code),
                }
            }
            Err(error) => error,
        };
        retry.after(error).await?;
    }
}

/// Commits or aborts the transaction.
///
/// # Errors
/// The producer is fenced, the transaction timed out, or the coordinator is not ready by `deadline`.
pub(super) async fn end(
    cluster: &Cluster,
    id: &str,
    producer: ProducerId,
    commit: bool,
    deadline: Instant,
) -> Result<()> {
    let request = EndTxnRequest::default()
        .with_transactional_id(transactional_id(id))
        .with_producer_id(WireProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_committed(commit);
    let what = format!("{} the transaction of {id}", if commit { "committing" } else { "aborting" });
    let mut retry = retry(cluster, deadline);
    loop {
        let answer = async {
            let broker = cluster.coordinator(Coordinated::Transaction, id).await?;
            broker.request_capped(&request, LAST_END_TXN).await
        };
        let error = match answer.await {
            Ok(response) if response.error_code == 0 => return Ok(()),
            Ok(response) => Error::kafka(&what, response.error_code),
            Err(error) => error,
        };
        retry.after(error).await?;
    }
}
