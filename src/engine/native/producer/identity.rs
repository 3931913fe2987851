//! Who produces: producer IDs, and the transactions of a transactional one (KIP-98, KIP-890).

use super::super::cluster::{Cluster, Coordinated, Lane, answers_to, of_topic, text, topic_name};
use super::super::mutation::mutated;
use super::super::net::{Connection, Retry, api_versions_request};
use super::super::wire::millis;
use super::queue::ProducerId;
use crate::engine::{TransactionConfig, TransactionEnd};
use crate::error::{Action, Error, ErrorCode, Result, Subject, error_code};
use crate::record::TopicPartition;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, EndTxnRequest, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId as WireProducerId, TransactionalId,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

/// The last version of AddPartitionsToTxn that clients send; brokers use later ones among themselves.
const LAST_ADD_PARTITIONS: i16 = 3;
/// The last version of EndTxn that leaves the epoch as it is.
const LAST_END_TXN_V1: i16 = 4;

/// How the cluster's transactions work: the level of its feature `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransactionVersion {
    /// A producer adds a partition to the transaction (AddPartitionsToTxn) before it writes to it.
    One,
    /// Since Kafka 4.0: a partition is added by the first batch that is written to it, and each transaction has an
    /// epoch of its own, so that a late batch of an earlier one is fenced (KIP-890).
    Two,
}

/// Which transactions the cluster has agreed on.
///
/// # Errors
/// No broker can be reached before `deadline`.
pub(super) async fn transaction_version(cluster: &Cluster, deadline: Instant) -> Result<TransactionVersion> {
    let request = api_versions_request();
    let ask = || async { cluster.any().await?.request(&request).await };
    let features = retry(cluster, deadline).run(ask).await?.finalized_features;
    let level = features.iter().find(|feature| feature.name.as_str() == "transaction.version");
    Ok(match level.map_or(0, |feature| feature.max_version_level) {
        2.. => TransactionVersion::Two,
        _ => TransactionVersion::One,
    })
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
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
    let timeout = transaction.map_or(i32::MAX, |t| millis(t.timeout));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transaction.map(|t| transactional_id(&t.id)))
        .with_transaction_timeout_ms(timeout)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let subject = transaction.map_or(Subject::Producer, |t| Subject::TransactionalId(t.id.clone()));
    let read = |response: InitProducerIdResponse, connection: &Connection| {
        if let Some(code) = error_code(response.error_code) {
            return Err(Error::kafka(Action::InitProducerId, subject.clone(), code));
        }
        identity(response.producer_id, response.producer_epoch)
            .ok_or_else(|| connection.malformed::<InitProducerIdRequest>(&"a negative producer ID or epoch"))
    };
    let retry = retry(cluster, deadline);
    match transaction {
        Some(t) => cluster.ask_coordinator(Coordinated::Transaction, &t.id, &request, i16::MAX, retry, read).await,
        // Any broker gives one that belongs to no transaction.
        None => {
            let ask = || async {
                let (response, connection) = cluster.ask_any(&request, i16::MAX).await?;
                read(response, &connection)
            };
            retry.run(ask).await
        }
    }
}

/// An identity that a broker can give.
fn identity(id: WireProducerId, epoch: i16) -> Option<ProducerId> {
    (id.0 >= 0 && epoch >= 0).then_some(ProducerId { id: id.0, epoch })
}

fn retry(cluster: &Cluster, deadline: Instant) -> Retry {
    Retry::until(deadline, &cluster.options).divided_by(4)
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
    let asked: Vec<TopicPartition> =
        topics.iter().flat_map(|(name, ids)| ids.iter().map(|id| TopicPartition::new(name.as_str(), *id))).collect();
    let topics = topics
        .iter()
        .map(|(name, ids)| AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(ids.clone()));
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(id))
        .with_v3_and_below_producer_id(WireProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(topics.collect());
    let read = |response: AddPartitionsToTxnResponse, connection: &Connection| {
        let results = response
            .results_by_topic_v3_and_below
            .into_iter()
            .flat_map(|topic| of_topic(&topic.name, topic.results_by_partition, |partition| partition.partition_index));
        let results = answers_to(connection, ApiKey::AddPartitionsToTxn, asked.iter().cloned(), results)?;
        let failed =
            results.into_iter().filter_map(|(of, result)| Some((error_code(result.partition_error_code)?, of)));
        // Partitions that are fine fail with OPERATION_NOT_ATTEMPTED beside one that is not.
        match failed.min_by_key(|(code, _)| *code == ResponseError::OperationNotAttempted) {
            None => Ok(()),
            Some((code, partition)) => {
                let subject = Subject::TransactionPartition { transactional_id: id.to_owned(), partition };
                Err(Error::kafka(Action::AddPartitions, subject, code))
            }
        }
    };
    let retry = retry(cluster, deadline);
    cluster.ask_coordinator(Coordinated::Transaction, id, &request, LAST_ADD_PARTITIONS, retry, read).await
}

/// Commits or aborts the transaction; returns the identity of the next one. `in_doubt` is set while a request may
/// have been carried out that was not answered: then nobody but the coordinator knows how the transaction ended.
///
/// # Errors
/// The producer is fenced, the transaction timed out, or the coordinator is not ready by `deadline`.
pub(super) async fn end(
    cluster: &Cluster,
    id: &str,
    (producer, version): (ProducerId, TransactionVersion),
    end: TransactionEnd,
    deadline: Instant,
    in_doubt: &Cell<bool>,
) -> Result<ProducerId> {
    let commit = end == TransactionEnd::Commit;
    let request = EndTxnRequest::default()
        .with_transactional_id(transactional_id(id))
        .with_producer_id(WireProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_committed(commit);
    let cap = if version == TransactionVersion::One { LAST_END_TXN_V1 } else { i16::MAX };
    let action = if commit { Action::CommitTransaction } else { Action::AbortTransaction };
    let mut retry = retry(cluster, deadline);
    loop {
        let was_in_doubt = in_doubt.get();
        let answer = async {
            let connection = cluster.coordinator_on(Coordinated::Transaction, id, Lane::Main).await?;
            in_doubt.set(!mutated!(AbortedAfterCommit));
            Ok((connection.request_within(&request, cap, cluster.request_limit(deadline)).await?, connection))
        };
        let error = match answer.await {
            Err(error) => error,
            Ok((response, connection)) => match error_code(response.error_code) {
                // Before version 5 the answer has no identity.
                None if response.producer_id.0 < 0 => return Ok(producer),
                None => match identity(response.producer_id, response.producer_epoch) {
                    Some(next) => return Ok(next),
                    None => connection.malformed::<EndTxnRequest>(&"a negative producer epoch"),
                },
                // There is nothing to abort: no record came so far, or the brokers aborted it themselves.
                Some(ResponseError::InvalidTxnState) if !commit => return Ok(producer),
                Some(code) => {
                    // The coordinator may answer these although its log has the decision.
                    let is_certain = !code.is_transient() && code != ResponseError::UnknownServerError;
                    in_doubt.set(was_in_doubt || !is_certain);
                    Error::kafka(action, Subject::TransactionalId(id.to_owned()), code)
                }
            },
        };
        if error.is_transient() {
            cluster.forget_coordinator(Coordinated::Transaction, id);
        }
        retry.after(error).await?;
    }
}
