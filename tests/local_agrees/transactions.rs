//! Transactions: of clients before KIP-890 and since, their fencing, their offsets and what administrators see.

use super::both::{Both, CONCURRENT, One, blank_records};
use super::{LOADING, name, text};
use crate::support::{fresh, require, wait_until};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kpipe::engine::native::wire::{BatchBuilder, ProducerStamp};
use kpipe::record::RecordRef;

/// The versions that a client of one kind uses together.
#[derive(Debug, Clone, Copy)]
struct Client {
    init: i16,
    add: i16,
    produce: i16,
    end: i16,
    offsets: i16,
}

const CLIENTS: [Client; 5] = [
    Client { init: 0, add: 0, produce: 3, end: 0, offsets: 0 },
    Client { init: 2, add: 1, produce: 7, end: 1, offsets: 2 },
    Client { init: 4, add: 3, produce: 9, end: 3, offsets: 3 },
    Client { init: 5, add: 3, produce: 11, end: 4, offsets: 4 },
    Client { init: 5, add: 3, produce: 12, end: 5, offsets: 5 },
];

struct Run {
    both: Both,
    client: Client,
    id: String,
    topic: String,
}

impl Run {
    fn new(client: Client) -> Self {
        let both = Both::new();
        let topic = both.topic.clone();
        Self { both, client, id: fresh("txn"), topic }
    }

    fn id(&self) -> TransactionalId {
        text(&self.id).into()
    }

    fn init(&mut self, step: &str, make: impl Fn(InitProducerIdRequest, &One) -> InitProducerIdRequest) {
        let id = self.id();
        let request = |one: &One| {
            let request = InitProducerIdRequest::default().with_transactional_id(Some(id.clone()));
            make(
                request.with_transaction_timeout_ms(60_000).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
                one,
            )
        };
        let step = &format!("{step} ({:?})", self.client);
        let answers = self.both.ask(step, self.client.init, request, |response| {
            if response.producer_id.0 >= 0 {
                response.producer_id = ProducerId(7);
            }
        });
        for (one, answer) in [&mut self.both.real, &mut self.both.ours].into_iter().zip(answers) {
            if answer.error_code == 0 {
                (one.producer_id, one.epoch) = (answer.producer_id.0, answer.producer_epoch);
            }
        }
    }

    fn add(&mut self, step: &str, topics: &[(&str, &[i32])], older: i16) {
        let id = self.id();
        let topic = |(topic, partitions): &(&str, &[i32])| {
            AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(partitions.to_vec())
        };
        let topics: Vec<_> = topics.iter().map(topic).collect();
        let request = |one: &One| {
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id.clone())
                .with_v3_and_below_producer_id(ProducerId(one.producer_id))
                .with_v3_and_below_producer_epoch(one.epoch - older)
                .with_v3_and_below_topics(topics.clone())
        };
        self.both.ask(step, self.client.add, request, |response| {
            response.results_by_topic_v3_and_below.sort_by(|a, b| a.name.cmp(&b.name));
            for topic in &mut response.results_by_topic_v3_and_below {
                topic.results_by_partition.sort_by_key(|partition| partition.partition_index);
            }
        });
    }

    fn produce(&mut self, step: &str, partition: i32, sequence: i32, older: i16) {
        let (version, id, topic) = (self.client.produce, self.id(), self.topic.clone());
        let request = |one: &One| {
            let data = batch(one, sequence, older);
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(data));
            let data = TopicProduceData::default().with_name(name(&topic)).with_partition_data(vec![data]);
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
            request.with_transactional_id(Some(id.clone()))
        };
        self.both.ask(step, version, request, |response| {
            for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
                partition.error_message = None;
            }
        });
    }

    fn end(&mut self, step: &str, committed: bool, older: i16) {
        let id = self.id();
        let request = |one: &One| {
            EndTxnRequest::default()
                .with_transactional_id(id.clone())
                .with_producer_id(ProducerId(one.producer_id))
                .with_producer_epoch(one.epoch - older)
                .with_committed(committed)
        };
        let step = &format!("{step} ({:?})", self.client);
        let answers = self.both.ask(step, self.client.end, request, |response| {
            if response.producer_id.0 >= 0 {
                response.producer_id = ProducerId(7);
            }
        });
        for (one, answer) in [&mut self.both.real, &mut self.both.ours].into_iter().zip(answers) {
            if answer.error_code == 0 && self.client.end >= 5 {
                (one.producer_id, one.epoch) = (answer.producer_id.0, answer.producer_epoch);
            }
        }
        self.await_markers();
    }

    fn await_markers(&mut self) {
        let describe = DescribeTransactionsRequest::default().with_transactional_ids(vec![self.id()]);
        wait_until("the markers", || {
            let state = &self.both.real.wire.ask(&describe, 0).transaction_states[0];
            !state.transaction_state.starts_with("Prepare") && !LOADING.contains(&state.error_code)
        });
    }

    /// What readers and administrators see.
    fn look(&mut self, step: &str) {
        let step = &format!("{step} ({:?})", self.client);
        for isolation in [0, 1] {
            for offset in [0, 3] {
                self.fetch(step, isolation, offset);
            }
            let topic = self.topic.clone();
            let request = |_: &One| {
                let partition = ListOffsetsPartition::default().with_timestamp(-1);
                let topic = ListOffsetsTopic::default().with_name(name(&topic)).with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
                request.with_isolation_level(isolation)
            };
            self.both.ask(step, 7, request, |_| {});
        }
        let id = self.id();
        let request = |_: &One| DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
        self.both.ask(step, 0, request, |response| {
            for state in &mut response.transaction_states {
                state.producer_id = ProducerId(7);
                state.transaction_start_time_ms = state.transaction_start_time_ms.min(0);
                state.topics.retain(|topic| topic.topic.as_str() != "__consumer_offsets");
            }
        });
        let request = |one: &One| {
            let request = ListTransactionsRequest::default().with_duration_filter(-1);
            request.with_producer_id_filters(vec![ProducerId(one.producer_id)])
        };
        self.both.ask(step, 1, request, |response| {
            response.transaction_states.iter_mut().for_each(|state| state.producer_id = ProducerId(7));
        });
        let topic = self.topic.clone();
        let request = |_: &One| {
            let of = |topic: &str| TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![0]);
            DescribeProducersRequest::default().with_topics(vec![of(&topic), of("nowhere")])
        };
        self.both.ask(step, 0, request, |response| {
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.error_message = None;
                for producer in &mut partition.active_producers {
                    producer.producer_id = ProducerId(7);
                    producer.last_timestamp = 0;
                }
            }
        });
    }

    /// Fetches one batch.
    fn fetch(&mut self, step: &str, isolation: i8, offset: i64) {
        let topic = self.topic.clone();
        let request = |_: &One| {
            let partition = FetchPartition::default().with_partition_max_bytes(1).with_current_leader_epoch(-1);
            let partition = partition.with_fetch_offset(offset);
            let topic = FetchTopic::default().with_topic(name(&topic)).with_partitions(vec![partition]);
            let request = FetchRequest::default().with_max_bytes(1 << 20).with_isolation_level(isolation);
            request.with_replica_id(BrokerId(-1)).with_session_epoch(-1).with_topics(vec![topic])
        };
        self.both.ask(&format!("{step} at {offset}"), 11, request, |response| {
            for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                blank_records(&mut partition.records);
                for aborted in partition.aborted_transactions.iter_mut().flatten() {
                    aborted.producer_id = ProducerId(7);
                }
            }
        });
    }
}

fn batch(one: &One, base_sequence: i32, older: i16) -> Bytes {
    let mut builder = BatchBuilder::default();
    for _ in 0..2 {
        builder.append(&RecordRef { timestamp: Some(1000), value: Some(b"v"), ..RecordRef::default() }, 0);
    }
    let sealed = builder.seal(BytesMut::new());
    let (producer_id, producer_epoch) = (one.producer_id, one.epoch - older);
    let stamp = ProducerStamp { producer_id, producer_epoch, base_sequence, transactional: true };
    [&sealed.header(stamp)[..], &sealed.records].concat().into()
}

/// Creates the real broker's __transaction_state, which takes a while.
fn await_coordinator(run: &mut Run) {
    let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![run.id().0]);
    wait_until("the coordinator", || {
        run.both.real.wire.ask(&find, 4).coordinators.iter().all(|found| found.error_code == 0)
    });
    let other = text(&fresh("settled"));
    let init = |_: &One| {
        let request = InitProducerIdRequest::default().with_transactional_id(Some(other.clone().into()));
        request.with_transaction_timeout_ms(60_000).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    run.both.settle(4, init, |answer| answer.error_code);
}

#[test]
fn a_transaction_is_begun_committed_and_aborted_alike() {
    require!(Kafka);
    let runs = CLIENTS.map(|client| {
        let mut run = Run::new(client);
        await_coordinator(&mut run);
        let topic = run.topic.clone();
        run.init("no timeout", |request, _| request.with_transaction_timeout_ms(0));
        run.init("a long timeout", |request, _| request.with_transaction_timeout_ms(900_001));
        run.init("an empty ID", |request, _| request.with_transactional_id(Some(TransactionalId::default())));
        run.init("first", |request, _| request);
        run.end("nothing to commit", true, 0);
        if client.produce < 12 {
            run.produce("not added", 0, 0, 0);
            run.add("unknown", &[(&topic, &[0, 9]), ("nowhere", &[0])], 0);
        }
        let begin = |run: &mut Run| {
            if client.produce < 12 {
                run.add("added", &[(&topic, &[0])], 0);
            }
        };
        begin(&mut run);
        run.produce("written", 0, 0, 0);
        run.look("open");
        run.end("committed", true, 0);
        run.look("committed");
        run.end("committed again", true, i16::from(client.end >= 5));
        run.end("aborted after a commit", false, i16::from(client.end >= 5));
        begin(&mut run);
        run.produce("written to be aborted", 0, if client.end >= 5 { 0 } else { 2 }, 0);
        run.end("aborted", false, 0);
        run.look("aborted");
        run.end("aborted again", false, i16::from(client.end >= 5));
        run.end("committed after an abort", true, i16::from(client.end >= 5));
        run.both
    });
    Both::agree(runs);
}

#[test]
fn a_new_producer_fences_the_old_one_alike() {
    require!(Kafka);
    let runs = CLIENTS.map(|client| {
        let mut run = Run::new(client);
        await_coordinator(&mut run);
        let topic = run.topic.clone();
        run.init("first", |request, _| request);
        if client.produce < 12 {
            run.add("added", &[(&topic, &[0])], 0);
        }
        run.produce("written", 0, 0, 0);
        run.init("while open", |request, _| request);
        run.await_markers();
        run.look("fenced");
        run.init("again", |request, _| request);
        run.look("taken over");
        run.add("by the old epoch", &[(&topic, &[0])], 1);
        run.produce("by the old epoch", 0, 2, 1);
        run.end("by the old epoch", true, 1);
        if client.init >= 3 {
            let of = |request: InitProducerIdRequest, one: &One, older: i16| {
                request.with_producer_id(ProducerId(one.producer_id)).with_producer_epoch(one.epoch - older)
            };
            run.init("by its epoch", |request, one| of(request, one, 0));
            run.init("repeated", |request, one| of(request, one, 1));
            run.init("by an old epoch", |request, one| of(request, one, 2));
            run.init("half of a stamp", |request, one| of(request, one, 0).with_producer_epoch(-1));
        }
        run.both
    });
    Both::agree(runs);
}

#[test]
fn offsets_are_committed_with_a_transaction_alike() {
    require!(Kafka);
    let runs = CLIENTS.map(|client| {
        let mut run = Run::new(client);
        await_coordinator(&mut run);
        let group = fresh("g");
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group)]);
        wait_until("the coordinator", || {
            run.both.real.wire.ask(&find, 4).coordinators.iter().all(|found| found.error_code == 0)
        });
        // The coordinator is known before it has loaded the group.
        let offsets = OffsetFetchRequest::default().with_group_id(text(&group).into()).with_topics(Some(Vec::new()));
        run.both.settle(5, |_| offsets.clone(), |answer| answer.error_code);
        run.init("first", |request, _| request);
        for committed in [false, true] {
            commit_offsets(&mut run, &group, committed);
        }
        run.both
    });
    Both::agree(runs);
}

fn commit_offsets(run: &mut Run, group: &str, committed: bool) {
    let (client, id, topic) = (run.client, run.id(), run.topic.clone());
    let partition = |n| TxnOffsetCommitRequestPartition::default().with_partition_index(n).with_committed_offset(5);
    let partitions = vec![partition(0), partition(7)];
    let commit = |one: &One| {
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(partitions.clone());
        TxnOffsetCommitRequest::default()
            .with_transactional_id(id.clone())
            .with_group_id(text(group).into())
            .with_producer_id(ProducerId(one.producer_id))
            .with_producer_epoch(one.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    };
    let settled = |answer: &TxnOffsetCommitResponse| answer.topics[0].partitions[0].error_code;
    if client.offsets < 5 {
        let add = |one: &One| {
            let request = AddOffsetsToTxnRequest::default().with_transactional_id(id.clone());
            let request = request.with_producer_id(ProducerId(one.producer_id)).with_producer_epoch(one.epoch);
            request.with_group_id(text(group).into())
        };
        run.both.ask("group added", client.offsets.min(4), add, |_| {});
    } else {
        run.both.settle(client.offsets, commit, settled);
    }
    run.both.ask("offsets", client.offsets, commit, |response| {
        response.topics[0].partitions.sort_by_key(|partition| partition.partition_index);
    });
    let fetch = |stable: bool| {
        let topics = OffsetFetchRequestTopics::default().with_name(name(&topic)).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into());
        let request = OffsetFetchRequest::default().with_groups(vec![group.with_topics(Some(vec![topics]))]);
        request.with_require_stable(stable)
    };
    run.both.ask("stable, open", 8, |_| fetch(true), |_| {});
    run.both.ask("any, open", 8, |_| fetch(false), |_| {});
    run.end("ended", committed, 0);
    let stable = |answer: &OffsetFetchResponse| answer.groups[0].topics[0].partitions[0].error_code;
    wait_until("the offsets", || ![88, CONCURRENT].contains(&stable(&run.both.real.wire.ask(&fetch(true), 8))));
    run.both.ask("stable, ended", 8, |_| fetch(true), |_| {});
}

#[test]
fn transactions_that_are_unknown_are_refused_alike() {
    require!(Kafka);
    let mut run = Run::new(CLIENTS[4]);
    await_coordinator(&mut run);
    let unknown = text(&fresh("unknown"));
    for id in [unknown, text("")] {
        let request = |_: &One| DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone().into()]);
        run.both.ask("unknown", 0, request, |_| {});
        for version in 0..=5 {
            let request = |_: &One| EndTxnRequest::default().with_transactional_id(id.clone().into());
            run.both.ask("unknown", version, request, |_| {});
        }
        for version in 0..=3 {
            let topic = AddPartitionsToTxnTopic::default().with_name(name(&run.topic)).with_partitions(vec![0]);
            let request = |_: &One| {
                let request = AddPartitionsToTxnRequest::default().with_v3_and_below_topics(vec![topic.clone()]);
                request.with_v3_and_below_transactional_id(id.clone().into())
            };
            run.both.ask("unknown", version, request, |_| {});
        }
    }
    for (states, pattern) in
        [(vec!["Nonsense"], None), (vec!["Dead"], None), (vec![], Some("[")), (vec![], Some("no-such.*"))]
    {
        let request = |_: &One| {
            let states = states.iter().map(|state| text(state)).collect();
            let request = ListTransactionsRequest::default().with_state_filters(states).with_duration_filter(-1);
            request.with_transactional_id_pattern(pattern.map(text))
        };
        run.both.ask("filtered", 2, request, |_| {});
    }
    Both::agree([run.both]);
}
