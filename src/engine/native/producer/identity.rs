//! Who produces: producer ids, and the transactions of a transactional one (KIP-98).
//!
//! Transactions announce their partitions (AddPartitionsToTxn) before they write to them. Brokers with
//! transaction version 2 (KIP-890) take that too, from clients that use the versions of before.

use super::super::cluster::{Cluster, Coordinated, text, topic_name};
use super::super::net::Retry;
use super::queue::ProducerId;
use crate::engine::TransactionConfig;
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::TopicPartition;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId as WireProducerId, TransactionalId,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// The last versions of the requests that go with announced partitions.
const LAST_ADD_PARTITIONS: i16 = 3;
const LAST_END_TXN: i16 = 4;

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
    let timeout = transaction.map_or(i32::MAX, |t| i32::try_from(t.timeout.as_millis()).unwrap_or(i32::MAX));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transaction.map(|t| transactional_id(&t.id)))
        .with_transaction_timeout_ms(timeout)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let subject = transaction.map_or(Subject::Producer, |t| Subject::TransactionalId(t.id.clone()));
    let refusal = |response: &InitProducerIdResponse| {
        Some(Error::kafka(Action::InitProducerId, subject.clone(), error_code(response.error_code)?))
    };
    let retry = retry(cluster, deadline);
    let response = match transaction {
        Some(t) => {
            let of = Coordinated::Transaction;
            cluster.ask_coordinator(of, &t.id, &request, i16::MAX, retry, refusal).await?
        }
        // Any broker gives one that belongs to no transaction.
        None => {
            let ask = || async {
                let response = cluster.any().await?.request(&request).await?;
                refusal(&response).map_or(Ok(response), Err)
            };
            retry.run(ask).await?
        }
    };
    Ok(ProducerId { id: response.producer_id.0, epoch: response.producer_epoch })
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
    let topics = topics
        .iter()
        .map(|(name, ids)| AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(ids.clone()));
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(id))
        .with_v3_and_below_producer_id(WireProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(topics.collect());
    let refusal = |response: &AddPartitionsToTxnResponse| {
        let failed = response.results_by_topic_v3_and_below.iter().flat_map(|topic| {
            let of = |index| TopicPartition::new(topic.name.as_str(), index);
            let failed = move |index, code| Some((error_code(code)?, of(index)));
            topic.results_by_partition.iter().filter_map(move |p| failed(p.partition_index, p.partition_error_code))
        });
        // Partitions that are fine fail with OPERATION_NOT_ATTEMPTED beside one that is not.
        let (code, partition) = failed.min_by_key(|(code, _)| *code == ResponseError::OperationNotAttempted)?;
        let subject = Subject::TransactionPartition { transactional_id: id.to_owned(), partition };
        Some(Error::kafka(Action::AddPartitions, subject, code))
    };
    let retry = retry(cluster, deadline);
    cluster.ask_coordinator(Coordinated::Transaction, id, &request, LAST_ADD_PARTITIONS, retry, refusal).await.map(drop)
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
    let action = if commit { Action::CommitTransaction } else { Action::AbortTransaction };
    let refusal = |response: &EndTxnResponse| {
        let code = error_code(response.error_code)?;
        // Nothing to be aborted: it was not begun, or the brokers aborted it themselves.
        let gone = !commit && code == ResponseError::InvalidTxnState;
        (!gone).then(|| Error::kafka(action, Subject::TransactionalId(id.to_owned()), code))
    };
    let retry = retry(cluster, deadline);
    cluster.ask_coordinator(Coordinated::Transaction, id, &request, LAST_END_TXN, retry, refusal).await.map(drop)
}
