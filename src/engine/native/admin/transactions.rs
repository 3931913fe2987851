//! Transactions: the open ones, and hanging ones that no producer will end (KIP-664).

use super::partitions::PATIENCE;
use super::{Cluster, NativeAdmin, refusal};
use crate::engine::native::cluster::{Coordinated, answer_to, answers_to, join_all, of_topic, text, topic_name};
use crate::engine::native::net::Connection;
use crate::engine::{ListedTransaction, Listing, OpenTransaction, Topic, Transaction};
use crate::error::{Action, Error, ErrorCode, Result, Subject};
use crate::record::{BrokerId, TopicPartition, partitions_by_topic};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId, WriteTxnMarkersRequest,
};

impl NativeAdmin {
    /// All transactions that coordinators know, by id.
    ///
    /// # Errors
    /// No broker answered, or all are older than 3.0.
    pub fn transactions(&self) -> Result<Listing<ListedTransaction>> {
        self.run(self.cluster().transactions())
    }

    /// One transaction.
    ///
    /// # Errors
    /// There is none of this id, or the coordinator did not answer.
    pub fn transaction(&self, id: &str) -> Result<Transaction> {
        self.run(self.cluster().transaction(id))
    }

    /// The transactions that are open in any topic.
    ///
    /// # Errors
    /// As [`NativeAdmin::open_transactions`].
    pub fn all_open_transactions(&self) -> Result<Listing<OpenTransaction>> {
        self.run(self.cluster().all_open_transactions())
    }

    /// The transactions that are open in `partitions`.
    ///
    /// # Errors
    /// No leader answered, or all refused.
    pub fn open_transactions(&self, partitions: &[TopicPartition]) -> Result<Listing<OpenTransaction>> {
        self.run(self.cluster().open_transactions(partitions))
    }

    /// Ends an open transaction in its partition without its coordinator: for one that hangs there.
    ///
    /// # Errors
    /// The leader refused.
    pub fn abort(&self, open: &OpenTransaction) -> Result<()> {
        self.repeat(|| self.cluster().abort(open))
    }
}

impl Cluster {
    async fn transactions(&self) -> Result<Listing<ListedTransaction>> {
        let asked = self.brokers().await?.into_iter().map(|broker| self.transactions_of(broker));
        let mut listing = Listing::of_all(join_all(asked.collect()).await)?;
        listing.found.sort();
        Ok(listing)
    }

    /// The transactions that `broker` coordinates.
    async fn transactions_of(&self, broker: BrokerId) -> Result<Vec<ListedTransaction>> {
        let read = |answer: ListTransactionsResponse, _: &Connection| {
            refusal(Action::ListTransactions, Subject::Broker(self.node(broker)), answer.error_code, None)?;
            Ok(answer)
        };
        // Later versions filter by what is not asked for here.
        let answer = self.ask_broker_for(PATIENCE, broker, &ListTransactionsRequest::default(), 0, read).await?;
        let listed = answer.transaction_states.iter().map(|state| ListedTransaction {
            transactional_id: state.transactional_id.to_string(),
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id.0,
            coordinator: broker,
        });
        Ok(listed.collect())
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

    /// Topics that come and go meanwhile are looked up again.
    async fn all_open_transactions(&self) -> Result<Listing<OpenTransaction>> {
        let ask = async || {
            let listed = self.retry().run(|| self.describe(None)).await?;
            let partitions: Vec<_> = listed.found.iter().flat_map(Topic::named_partitions).map(|(of, _)| of).collect();
            let mut open = self.open_transactions(&partitions).await?;
            open.incomplete.extend(listed.incomplete);
            Ok(open)
        };
        let may_pass = |error: &Error| error.code().is_some_and(|code| code.is_transient());
        let is_settled = |answer: &Result<Listing<OpenTransaction>>| match answer {
            Ok(open) => !open.incomplete.iter().any(may_pass),
            Err(error) => !may_pass(error),
        };
        self.settled(ask, is_settled).await
    }

    async fn open_transactions(&self, partitions: &[TopicPartition]) -> Result<Listing<OpenTransaction>> {
        let (led, leaderless) = self.by_leader_each(partitions).await?;
        let asked = led.into_iter().map(|(leader, partitions)| async move {
            self.open_transactions_of(leader, &partitions).await.unwrap_or_else(|error| vec![Err(error)])
        });
        let answers = join_all(asked.collect()).await.into_iter().flatten();
        Listing::of_all(answers.chain(leaderless.into_iter().map(Err)))
    }

    /// The transactions that are open in partitions of one leader, each partition with its own result.
    async fn open_transactions_of(
        &self,
        leader: BrokerId,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<Vec<OpenTransaction>>>> {
        let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(name, partitions)| {
            TopicRequest::default().with_name(topic_name(&name)).with_partition_indexes(partitions)
        });
        let request = DescribeProducersRequest::default().with_topics(topics.collect());
        let read = |answer: DescribeProducersResponse, connection: &Connection| {
            let answers = answer
                .topics
                .into_iter()
                .flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
            answers_to(connection, ApiKey::DescribeProducers, partitions.iter().cloned(), answers)
        };
        let answers = self.ask_broker_for(PATIENCE, leader, &request, i16::MAX, read).await?;
        Ok(answers.iter().map(|(of, partition)| open_in(of, partition)).collect())
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
            let answers =
                topics.flat_map(|topic| of_topic(&topic.name, topic.partitions, |partition| partition.partition_index));
            let answer = answer_to(&connection, ApiKey::WriteTxnMarkers, of.clone(), answers)?;
            refusal(Action::AbortHanging, &of, answer.error_code, None)?;
        }
        Ok(())
    }
}

/// The open transactions of one partition.
fn open_in(of: &TopicPartition, partition: &PartitionResponse) -> Result<Vec<OpenTransaction>> {
    refusal(Action::DescribeProducers, of, partition.error_code, partition.error_message.as_ref())?;
    let open = partition.active_producers.iter().filter(|producer| producer.current_txn_start_offset >= 0);
    let open = open.map(|producer| OpenTransaction {
        topic: of.topic.to_string(),
        partition: of.partition,
        producer_id: producer.producer_id.0,
        producer_epoch: producer.producer_epoch,
        coordinator_epoch: producer.coordinator_epoch,
        start_offset: producer.current_txn_start_offset,
        last_timestamp: producer.last_timestamp,
    });
    Ok(open.collect())
}
