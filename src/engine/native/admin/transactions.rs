//! Transactions: which there are, and those that nobody will end (KIP-664).

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{Coordinated, answer_to, answers_to, text, topic_name};
use crate::engine::native::net::Connection;
use crate::engine::{ListedTransaction, OpenTransaction, Transaction};
use crate::error::{Action, Result, Subject};
use crate::record::TopicPartition;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsRequest, ProducerId, TransactionalId, WriteTxnMarkersRequest,
};

impl NativeAdmin {
    /// All transactions that coordinators know, by id.
    ///
    /// # Errors
    /// A broker did not answer, or is older than 3.0.
    pub fn transactions(&self) -> Result<Vec<ListedTransaction>> {
        self.read(|| self.cluster().transactions())
    }

    /// One transaction.
    ///
    /// # Errors
    /// There is none of this id, or the coordinator did not answer.
    pub fn transaction(&self, id: &str) -> Result<Transaction> {
        self.run(self.cluster().transaction(id))
    }

    /// The transactions that are open in `places`.
    ///
    /// # Errors
    /// A leader did not answer, or refused.
    pub fn open_transactions(&self, places: &[TopicPartition]) -> Result<Vec<OpenTransaction>> {
        self.run(self.cluster().open_transactions(places))
    }

    /// Ends an open transaction in its partition without its coordinator: for one that hangs there.
    ///
    /// # Errors
    /// The leader refused.
    pub fn abort(&self, open: &OpenTransaction) -> Result<()> {
        self.run(self.cluster().abort(open))
    }
}

impl Cluster {
    async fn transactions(&self) -> Result<Vec<ListedTransaction>> {
        let mut found = Vec::new();
        for broker in self.brokers().await? {
            let request = ListTransactionsRequest::default();
            // Later versions filter by what is not asked for here.
            let answer = self.broker(broker).await?.request_capped(&request, 0).await?;
            refusal(Action::ListTransactions, Subject::Broker(self.node(broker)), answer.error_code, None)?;
            found.extend(answer.transaction_states.iter().map(|state| ListedTransaction {
                transactional_id: state.transactional_id.to_string(),
                state: state.transaction_state.to_string(),
                producer_id: state.producer_id.0,
                coordinator: broker,
            }));
        }
        found.sort();
        Ok(found)
    }

    async fn transaction(&self, id: &str) -> Result<Transaction> {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text(id))]);
        let subject = Subject::TransactionalId(id.to_owned());
        let read = |answer: DescribeTransactionsResponse, connection: &Connection| {
            let states = answer.transaction_states.into_iter().map(|state| (state.transactional_id.to_string(), state));
            let state = answer_to(connection, ApiKey::DescribeTransactions, id.to_owned(), states)?;
            refusal(Action::LookUp, subject.clone(), state.error_code, None)?;
            Ok(state)
        };
        let state = self.ask_coordinator(Coordinated::Transaction, id, &request, i16::MAX, self.retry(), read).await?;
        let partitions = state.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| TopicPartition::new(topic.topic.as_str(), *partition).to_string())
        });
        Ok(Transaction {
            partitions: partitions.collect(),
            transactional_id: id.to_owned(),
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id.0,
            producer_epoch: state.producer_epoch,
            timeout_ms: state.transaction_timeout_ms,
            started: (state.transaction_start_time_ms >= 0).then_some(state.transaction_start_time_ms),
        })
    }

    async fn open_transactions(&self, places: &[TopicPartition]) -> Result<Vec<OpenTransaction>> {
        let mut found = Vec::new();
        for (leader, places) in self.by_leader(places).await? {
            let topic = |of: &TopicPartition| {
                TopicRequest::default().with_name(topic_name(&of.topic)).with_partition_indexes(vec![of.partition])
            };
            let request = DescribeProducersRequest::default().with_topics(places.iter().map(topic).collect());
            let read = |answer: DescribeProducersResponse, connection: &Connection| {
                let answers = answer.topics.into_iter().flat_map(|topic| {
                    let of = move |partition| TopicPartition::new(topic.name.as_str(), partition);
                    topic.partitions.into_iter().map(move |partition| (of(partition.partition_index), partition))
                });
                let answers = answers_to(connection, ApiKey::DescribeProducers, places.iter().cloned(), answers)?;
                for (of, partition) in &answers {
                    refusal(Action::DescribeProducers, of, partition.error_code, partition.error_message.as_ref())?;
                }
                Ok(answers)
            };
            for (of, partition) in self.ask_broker(leader, &request, i16::MAX, read).await? {
                let open = partition.active_producers.iter().filter(|p| p.current_txn_start_offset >= 0);
                found.extend(open.map(|producer| OpenTransaction {
                    topic: of.topic.to_string(),
                    partition: of.partition,
                    producer_id: producer.producer_id.0,
                    producer_epoch: producer.producer_epoch,
                    coordinator_epoch: producer.coordinator_epoch,
                    start_offset: producer.current_txn_start_offset,
                    last_timestamp: producer.last_timestamp,
                }));
            }
        }
        Ok(found)
    }

    async fn abort(&self, open: &OpenTransaction) -> Result<()> {
        let of = open.topic_partition();
        let topic = WritableTxnMarkerTopic::default()
            .with_name(topic_name(&open.topic))
            .with_partition_indexes(vec![open.partition]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(open.producer_id))
            .with_producer_epoch(open.producer_epoch as i16)
            .with_transaction_result(false)
            // A producer that no coordinator ever wrote for has the epoch that Kafka's own tool takes.
            .with_coordinator_epoch(open.coordinator_epoch.max(0))
            .with_topics(vec![topic]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        for leader in self.by_leader(std::slice::from_ref(&of)).await?.into_keys() {
            let connection = self.broker(leader).await?;
            let answer = connection.request(&request).await?;
            let topics = answer.markers.into_iter().flat_map(|marker| marker.topics);
            let codes = topics.flat_map(|topic| {
                let of = move |partition| TopicPartition::new(topic.name.as_str(), partition);
                topic.partitions.into_iter().map(move |partition| (of(partition.partition_index), partition.error_code))
            });
            let code = answer_to(&connection, ApiKey::WriteTxnMarkers, of.clone(), codes)?;
            refusal(Action::AbortHanging, &of, code, None)?;
        }
        Ok(())
    }
}
