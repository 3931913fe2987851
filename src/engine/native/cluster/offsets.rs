//! Offsets of partitions, by ListOffsets. Each partition has its own result: one without a leader costs only itself.

use super::metadata::{TopicInfo, leader, names};
use super::{Asked, Cluster, topic_name};
use crate::engine::native::net::{Connection, clock};
use crate::engine::native::wire::millis;
use crate::engine::{Bounds, Isolation, OffsetAt};
use crate::error::{Action, Error, Result, Subject, error_code};
use crate::record::{BrokerId, LeaderEpoch, Offset, TopicPartition, partitions_by_topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, BrokerId as WireBrokerId, ListOffsetsRequest};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// An offset, and the epoch of the leader that wrote it.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine::native) struct Listed {
    pub(in crate::engine::native) offset: Offset,
    /// `None` before Kafka 2.1.
    pub(in crate::engine::native) leader_epoch: Option<LeaderEpoch>,
}

/// A result for each partition.
pub(in crate::engine::native) type OfEach<T> = BTreeMap<TopicPartition, Result<T>>;

impl Cluster {
    /// The offset of each partition at `at`, `None` where there is none so late. Retries while leaders move, up to
    /// `patience`.
    pub(in crate::engine::native) async fn offset_of_each(
        &self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        isolation: Isolation,
        patience: Duration,
    ) -> OfEach<Option<Offset>> {
        let found = self.offsets(partitions, &[at], isolation, patience).await;
        found.into_iter().map(|(of, offsets)| (of, offsets.map(|offsets| offsets[0]))).collect()
    }

    /// The bounds of each partition; for readers of committed records, the end is the last stable offset. Retries while
    /// leaders move, up to `patience`.
    pub(in crate::engine::native) async fn bounds_of_each(
        &self,
        partitions: &[TopicPartition],
        isolation: Isolation,
        patience: Duration,
    ) -> OfEach<Bounds> {
        let found = self.offsets(partitions, &[OffsetAt::Earliest, OffsetAt::Latest], isolation, patience).await;
        let bounds = |of: &TopicPartition, offsets: Vec<Option<Offset>>| match offsets[..] {
            [Some(first), Some(end)] => Ok(Bounds { first, end }),
            _ => Err(Error::kafka(Action::LookUp, of, ResponseError::LeaderNotAvailable)),
        };
        let of_each = found.into_iter().map(|(of, offsets)| {
            let bounds = offsets.and_then(|offsets| bounds(&of, offsets));
            (of, bounds)
        });
        of_each.collect()
    }

    /// As many offsets of each partition as `ats` has.
    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        ats: &[OffsetAt],
        isolation: Isolation,
        patience: Duration,
    ) -> OfEach<Vec<Option<Offset>>> {
        let mut found: OfEach<Vec<Option<Offset>>> = BTreeMap::new();
        let mut retry = self.retry().until_deadline(clock::now() + patience);
        loop {
            let open = |of: &&TopicPartition| {
                found.get(*of).is_none_or(|result| result.as_ref().is_err_and(Error::is_transient))
            };
            let missing: Vec<TopicPartition> = partitions.iter().filter(open).cloned().collect();
            if missing.is_empty() {
                retry.ended();
                return found;
            }
            let mut failed = None;
            for (of, result) in self.offsets_once(&missing, ats, isolation, retry.deadline()).await {
                match &result {
                    Ok(_) => retry.progressed(),
                    Err(error) if error.is_transient() => failed = Some(error.clone()),
                    Err(_) => {}
                }
                found.insert(of, result);
            }
            if let Some(error) = failed
                && retry.after(error).await.is_err()
            {
                return found;
            }
        }
    }

    /// Asks all leaders at the same time, so that a silent one delays nobody else's answer.
    async fn offsets_once(
        &self,
        wanted: &[TopicPartition],
        ats: &[OffsetAt],
        isolation: Isolation,
        deadline: Instant,
    ) -> Vec<(TopicPartition, Result<Vec<Option<Offset>>>)> {
        let topics = match self.metadata(Some(&names(wanted)), false).await {
            Ok(topics) => topics,
            Err(error) => return wanted.iter().map(|of| (of.clone(), Err(error.clone()))).collect(),
        };
        let topics: BTreeMap<String, std::result::Result<TopicInfo, ResponseError>> = topics.into_iter().collect();
        let (mut led, mut results) = (BTreeMap::<BrokerId, Vec<TopicPartition>>::new(), Vec::new());
        for of in wanted {
            let leader = match topics.get(&*of.topic) {
                Some(Err(code)) => Err(Error::kafka(Action::LookUp, Subject::topic_named(&of.topic), *code)),
                Some(Ok(info)) => leader(of, Some(info)),
                None => leader(of, None),
            };
            match leader {
                Ok(leader) => led.entry(leader).or_default().push(of.clone()),
                Err(error) => results.push((of.clone(), Err(error))),
            }
        }
        let asked = led.into_iter().map(|(broker, partitions)| async move {
            let answered = async {
                let connection = self.broker(broker).await?;
                let limit = self.time_left(deadline);
                let answered = tokio::time::timeout(limit, self.ask_leader(&connection, &partitions, ats, isolation));
                answered.await.unwrap_or_else(|_| Err(Error::TimedOut { node: connection.node().clone(), limit }))
            };
            match answered.await {
                Ok(results) => results,
                Err(error) => partitions.iter().map(|of| (of.clone(), Err(error.clone()))).collect(),
            }
        });
        results.extend(join_all(asked.collect()).await.into_iter().flatten());
        results
    }

    /// As many offsets of each partition as `ats` has, from the broker that leads them.
    async fn ask_leader(
        &self,
        connection: &Connection,
        partitions: &[TopicPartition],
        ats: &[OffsetAt],
        isolation: Isolation,
    ) -> Result<Vec<(TopicPartition, Result<Vec<Option<Offset>>>)>> {
        let mut found: BTreeMap<TopicPartition, Result<Vec<Option<Offset>>>> =
            partitions.iter().map(|of| (of.clone(), Ok(Vec::new()))).collect();
        for at in ats {
            for (of, listed) in self.list_offsets(connection, partitions, *at, isolation).await? {
                let offset = listed.map(|listed| listed.map(|listed| listed.offset));
                if let Some(result) = found.get_mut(&of) {
                    note(result, offset, connection, &of);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Asks the broker at the other end of `connection` for an offset of each partition, `None` where no record is as
    /// late.
    ///
    /// # Errors
    /// It did not answer. A partition that its answer lacks has an error of its own.
    pub(in crate::engine::native) async fn list_offsets(
        &self,
        connection: &Connection,
        partitions: &[TopicPartition],
        at: OffsetAt,
        isolation: Isolation,
    ) -> Result<OfEach<Option<Listed>>> {
        let entry =
            |partition| ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(at.to_wire());
        let topics = partitions_by_topic(partitions.iter().cloned()).into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(topic_name(&name))
                .with_partitions(partitions.into_iter().map(entry).collect())
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(WireBrokerId(-1))
            .with_isolation_level(i8::from(isolation == Isolation::Committed))
            .with_timeout_ms(millis(self.options.suspect_after()))
            .with_topics(topics.collect());
        let response = connection.request(&request).await?;
        let mut asked = Asked::new(connection, ApiKey::ListOffsets, partitions.iter().cloned());
        let mut all = OfEach::new();
        for topic in response.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for partition in topic.partitions {
                let of = TopicPartition::new(name.clone(), partition.partition_index);
                asked.answered(&of)?;
                let listed = match error_code(partition.error_code) {
                    Some(code) => Err(Error::kafka(Action::LookUp, &of, code)),
                    // No record is so late.
                    None if partition.offset == -1 && matches!(at, OffsetAt::Time(_)) => Ok(None),
                    None if partition.offset < 0 => {
                        Err(asked.malformed(format_args!("{of} has offset {}", partition.offset)))
                    }
                    None => Ok(Some(Listed {
                        offset: partition.offset,
                        leader_epoch: LeaderEpoch::from_wire(partition.leader_epoch),
                    })),
                };
                all.insert(of, listed);
            }
        }
        all.extend(asked.missing().into_iter().map(|(of, error)| (of, Err(error))));
        Ok(all)
    }
}

/// Adds a further offset of a partition, which is not before the ones found earlier.
fn note(
    result: &mut Result<Vec<Option<Offset>>>,
    offset: Result<Option<Offset>>,
    connection: &Connection,
    of: &TopicPartition,
) {
    match (result.as_mut(), offset) {
        (Ok(offsets), Ok(offset)) => {
            let before = offsets.last().copied().flatten();
            offsets.push(offset);
            if let (Some(before), Some(offset)) = (before, offset)
                && offset < before
            {
                *result = Err(Error::Malformed {
                    node: connection.node().clone(),
                    api: ApiKey::ListOffsets,
                    why: format!("{of} begins at {before} and ends at {offset}"),
                });
            }
        }
        (Ok(_), Err(error)) => *result = Err(error),
        (Err(_), _) => {}
    }
}

/// Awaits all of `futures` at the same time.
pub(in crate::engine::native) async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    let mut all = pin!(poll_fn(|cx| {
        let mut waits = false;
        for (future, done) in running.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => *done = Some(output),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    }));
    all.as_mut().await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}
