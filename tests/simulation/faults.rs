//! What goes wrong with the cluster: leaders and coordinators that move, brokers that crash, freeze and are cut off,
//! requests that fail, logs that lose their ends.

use super::scenario::{ADDED_PARTITIONS, Scenario, Topic};
use super::trace::note;
use super::world::{FIRST_PORT, Removed, World};
use crate::support::history::Log;
use kafka_protocol::messages::ApiKey;
use kpipe::local::Fault;
use kpipe::record::TopicPartition;
use std::time::Duration;
use tokio::time::Instant;

/// The faults of one seed.
pub struct Storm<'a> {
    world: &'a World,
    scenario: &'a Scenario,
    random: fastrand::Rng,
    next_at: Instant,
    /// What is to be mended, and when.
    mends: Vec<(Instant, Mend)>,
    /// The topics, with the partitions that were added.
    pub topics: Vec<Topic>,
    pub removed: Removed,
}

enum Mend {
    Restart(i32),
    Thaw(i32),
    Join(i32),
    Leader(TopicPartition),
    Partition(TopicPartition),
    Latency,
    Replication(i32),
}

/// Errors that a healthy cluster answers to a kind of request now and then, and that its clients retry.
const ERRORS: &[(ApiKey, &[i16])] = &[
    (ApiKey::Produce, &[3, 5, 6, 7, 19, 56]),
    (ApiKey::Fetch, &[3, 5, 6, 56]),
    (ApiKey::ListOffsets, &[3, 5, 6, 56]),
    (ApiKey::Metadata, &[5]),
    (ApiKey::FindCoordinator, &[14, 15]),
    (ApiKey::JoinGroup, &[14, 15, 16, 25]),
    (ApiKey::SyncGroup, &[14, 15, 16, 25, 27]),
    (ApiKey::Heartbeat, &[14, 15, 16, 22, 25, 27]),
    (ApiKey::OffsetCommit, &[7, 14, 15, 16, 27]),
    (ApiKey::OffsetFetch, &[14, 15, 16]),
    (ApiKey::InitProducerId, &[14, 15, 16, 51]),
    (ApiKey::AddPartitionsToTxn, &[14, 15, 16, 51]),
    (ApiKey::EndTxn, &[14, 15, 16, 51]),
    (ApiKey::ConsumerGroupHeartbeat, &[14, 15, 16, 25, 110]),
];

/// Errors that may be answered although the request took effect.
const ERRORS_AFTER: &[(ApiKey, &[i16])] = &[
    (ApiKey::Produce, &[6, 7, 20, 56]),
    (ApiKey::OffsetCommit, &[7, 14, 15, 16]),
    (ApiKey::EndTxn, &[7, 14, 15, 16]),
    (ApiKey::InitProducerId, &[7, 15, 16]),
    (ApiKey::AddPartitionsToTxn, &[7, 15, 16]),
    (ApiKey::JoinGroup, &[15, 16]),
    (ApiKey::ConsumerGroupHeartbeat, &[15, 16]),
];

impl<'a> Storm<'a> {
    pub fn new(world: &'a World, scenario: &'a Scenario, random: fastrand::Rng) -> Self {
        let (next_at, mends, removed) = (Instant::now(), Vec::new(), Removed::new());
        Self { world, scenario, random, next_at, mends, topics: scenario.topics.clone(), removed }
    }

    /// Does what is due; returns when to call again.
    pub fn act(&mut self) -> Instant {
        let now = Instant::now();
        for (_, mend) in self.mends.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.mend(mend);
        }
        if self.next_at <= now {
            self.next_at = now + self.scenario.every.mul_f64(self.random.f64() * 2.0) + Duration::from_millis(1);
            self.fault();
        }
        self.mends.iter().map(|(at, _)| *at).chain([self.next_at]).min().unwrap_or(now)
    }

    /// Mends everything.
    pub fn end(&mut self) {
        self.world.network.calm();
        // Brokers join before leaders are elected.
        let (joins, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.mends).into_iter().partition(|(_, mend)| matches!(mend, Mend::Join(_)));
        joins.into_iter().chain(others).for_each(|(_, mend)| self.mend(mend));
        // Those that could not lead as it was can now.
        for (_, mend) in std::mem::take(&mut self.mends) {
            if let Mend::Leader(of) = mend {
                (1..=i32::from(self.scenario.brokers)).any(|broker| self.lead(&of, broker));
            }
        }
        for (api, _) in ERRORS {
            self.world.local.faults().clear(*api);
        }
    }

    fn mend(&mut self, mend: Mend) {
        let local = self.world.local.clone();
        match mend {
            Mend::Restart(broker) => {
                note!(self.world.trace, "broker {broker} restarts");
                local.restart(broker).expect("its port is free");
            }
            Mend::Thaw(broker) => {
                note!(self.world.trace, "broker {broker} thaws");
                local.faults().thaw(broker);
            }
            Mend::Join(broker) => {
                note!(self.world.trace, "broker {broker} joins the others");
                local.isolate(broker, false);
            }
            Mend::Leader(of) => {
                let broker = self.broker();
                note!(self.world.trace, "{of} is led by {broker}");
                if !self.lead(&of, broker) {
                    // The broker is down, or lacks records.
                    self.mends.push((Instant::now() + Duration::from_millis(200), Mend::Leader(of)));
                }
            }
            Mend::Partition(of) => {
                assert!(local.set_partition_error(&of.topic, of.partition, None));
            }
            Mend::Replication(broker) => local.resume_replication(broker),
            Mend::Latency => local.faults().set_latency(Duration::ZERO),
        }
    }

    /// Has a broker lead a partition, if it has all that was acknowledged and the controller reaches it.
    fn lead(&self, of: &TopicPartition, broker: i32) -> bool {
        let local = &self.world.local;
        let in_sync = local.in_sync_replicas(&of.topic, of.partition);
        let is_isolated = self.mends.iter().any(|(_, mend)| matches!(mend, Mend::Join(of) if *of == broker));
        in_sync.contains(&broker) && !is_isolated && local.move_leader(&of.topic, of.partition, broker)
    }

    fn broker(&mut self) -> i32 {
        self.random.i32(1..=i32::from(self.scenario.brokers))
    }

    fn partition(&mut self) -> TopicPartition {
        let (topic, partitions) = &self.topics[self.random.usize(..self.topics.len())];
        TopicPartition::new(topic.as_str(), self.random.i32(0..*partitions))
    }

    /// Mostly short, now and then long.
    fn while_(&mut self) -> Duration {
        let most = if self.random.u8(..5) == 0 { 8_000 } else { 1_500 };
        Duration::from_millis(self.random.u64(20..most))
    }

    fn later(&mut self, mend: Mend) {
        let at = Instant::now() + self.while_();
        self.mends.push((at, mend));
    }

    fn fault(&mut self) {
        if self.scenario.upkeep && self.random.u8(..6) == 0 {
            return self.upkeep();
        }
        let trace = &self.world.trace;
        let local = self.world.local.clone();
        let kind = self.random.u8(..if self.scenario.rewrites { 26 } else { 22 });
        // The in-memory cluster lets a leader that is cut off show records that are lost when its partition is elected anew.
        let is_any_isolated = self.mends.iter().any(|(_, mend)| matches!(mend, Mend::Join(_)));
        if is_any_isolated && (3..=5).contains(&kind) {
            return;
        }
        match kind {
            0..=2 => {
                let (of, broker) = (self.partition(), self.broker());
                if self.lead(&of, broker) {
                    note!(trace, "{of} moves to {broker}");
                    trace.count("leader moved");
                }
            }
            3 => {
                let of = self.partition();
                note!(trace, "{of} has no leader");
                trace.count("partition without leader");
                assert!(local.remove_leader(&of.topic, of.partition));
                self.later(Mend::Leader(of));
            }
            4 | 5 => self.crash(),
            6 => {
                let broker = self.broker();
                note!(trace, "broker {broker} freezes");
                trace.count("broker frozen");
                local.faults().freeze(broker);
                self.later(Mend::Thaw(broker));
            }
            7 => {
                let broker = self.broker();
                if self.scenario.brokers > 1 {
                    note!(trace, "broker {broker} is cut off from the others");
                    trace.count("broker isolated");
                    local.isolate(broker, true);
                    self.later(Mend::Join(broker));
                }
            }
            8 | 9 => self.block(),
            10 => {
                let (broker, group) = (self.broker(), "group-0");
                note!(trace, "{group} is coordinated by {broker}");
                trace.count("coordinator moved");
                local.move_coordinator(group, broker);
            }
            11 => {
                let (broker, number) = (self.broker(), self.random.usize(..self.scenario.producers.len()));
                trace.count("coordinator moved");
                note!(trace, "transaction-{number} is coordinated by {broker}");
                local.move_coordinator(&format!("transaction-{number}"), broker);
            }
            12 => {
                let of = self.partition();
                let code = [3, 5, 6, 56][self.random.usize(..4)];
                note!(trace, "{of} answers {code}");
                trace.count("partition error");
                assert!(local.set_partition_error(&of.topic, of.partition, Some(code)));
                self.later(Mend::Partition(of));
            }
            13 => {
                let latency = Duration::from_millis(self.random.u64(1..400));
                note!(trace, "brokers take {latency:?} to answer");
                trace.count("slow brokers");
                local.faults().set_latency(latency);
                self.later(Mend::Latency);
            }
            14 => {
                let broker = self.broker();
                note!(trace, "broker {broker} does not replicate");
                trace.count("replication paused");
                local.pause_replication(broker);
                self.later(Mend::Replication(broker));
            }
            15..=21 => self.request(),
            _ => self.rewrite(),
        }
    }

    fn crash(&mut self) {
        let broker = self.broker();
        let is_down = self.mends.iter().any(|(_, mend)| matches!(mend, Mend::Restart(of) if *of == broker));
        if !is_down {
            note!(self.world.trace, "broker {broker} crashes");
            self.world.trace.count("broker crashed");
            self.world.local.crash(broker);
            self.later(Mend::Restart(broker));
        }
    }

    fn block(&mut self) {
        let clients = self.scenario.producers.iter().map(|plan| &plan.client);
        let clients: Vec<_> = clients.chain(self.scenario.readers.iter().map(|plan| &plan.client)).collect();
        let name = &clients[self.random.usize(..clients.len())].name;
        let port = FIRST_PORT + self.broker() as u16 - 1;
        let time = self.while_();
        self.world.network.block(name, port, time);
    }

    /// The next few requests of a kind fail.
    fn request(&mut self) {
        // Those that leave it open what took effect come more often.
        let api = match self.random.u8(..6) {
            0 | 1 => ApiKey::Produce,
            2 => ApiKey::EndTxn,
            _ => ERRORS[self.random.usize(..ERRORS.len())].0,
        };
        let errors = ERRORS.iter().find(|(of, _)| *of == api).map_or(&[][..], |(_, errors)| errors);
        let error = errors[self.random.usize(..errors.len())];
        let after = ERRORS_AFTER.iter().find(|(of, _)| *of == api);
        let (name, fault) = match (self.random.u8(..10), after) {
            (3 | 4, Some((_, errors))) => {
                ("request refused after its effect", Fault::ErrorAfter(errors[self.random.usize(..errors.len())]))
            }
            (0..=4, _) => ("request refused", Fault::Error(error)),
            (5, _) => ("connection closed before the effect", Fault::DropBefore),
            (6, _) => ("connection closed before the answer", Fault::DropAfter),
            (7, _) => ("answer late", Fault::Delay(Duration::from_millis(self.random.u64(10..4_000)))),
            // Longer than a producer waits for the end of its transaction.
            (8, _) if api == ApiKey::EndTxn => {
                ("answer late", Fault::Delay(Duration::from_millis(self.random.u64(4_000..15_000))))
            }
            (8, _) => ("throttled", Fault::Throttle(Duration::from_millis(self.random.u64(10..2_000)))),
            _ => match self.random.u8(..3) {
                0 => ("request not answered", Fault::Silence),
                _ => ("answer cut", Fault::Cut(self.random.usize(..60))),
            },
        };
        let times = self.random.u32(1..=5);
        note!(self.world.trace, "the next {times} {api:?}: {fault:?}");
        self.world.trace.count(name);
        self.world.local.faults().inject(api, times, fault);
    }

    /// What an operator does to a topic: the oldest records go, its logs are compacted, it gets more partitions.
    fn upkeep(&mut self) {
        let of = self.partition();
        let local = self.world.local.clone();
        match self.random.u8(..4) {
            0 => {
                let all = self.topics.iter_mut().zip(&self.scenario.topics);
                for ((topic, count), (_, first)) in all.filter(|((topic, _), _)| *topic == *of.topic) {
                    if *count < first + ADDED_PARTITIONS {
                        *count += 1;
                        note!(self.world.trace, "{topic} has {count} partitions");
                        self.world.trace.count("partition added");
                        assert!(local.add_partitions(topic, *count));
                    }
                }
            }
            1 => {
                note!(self.world.trace, "{} is compacted", of.topic);
                self.world.trace.count("topic compacted");
                let all = self.partitions_of(&of.topic);
                self.removing(&all, || assert!(local.compact(&of.topic)));
            }
            _ => {
                let before = local.high_watermark(&of.topic, of.partition).unwrap_or(0);
                let before = (before - self.random.i64(0..20)).max(0);
                note!(self.world.trace, "{of} loses what is before {before}");
                self.world.trace.count("records deleted");
                self.removing(std::slice::from_ref(&of), || {
                    assert!(local.delete_records(&of.topic, of.partition, before))
                });
            }
        }
    }

    fn partitions_of(&self, topic: &str) -> Vec<TopicPartition> {
        let count = self.topics.iter().find(|(name, _)| name == topic).map_or(0, |(_, count)| *count);
        (0..count).map(|partition| TopicPartition::new(topic, partition)).collect()
    }

    /// Does something that removes records, and notes which are gone.
    fn removing(&mut self, all: &[TopicPartition], act: impl FnOnce()) {
        let before: Vec<Log> = all.iter().map(|of| self.world.log(of)).collect();
        act();
        for (of, before) in all.iter().zip(before) {
            let after = self.world.log(of);
            let gone = before.records.iter().filter(|(offset, _)| !after.records.contains_key(offset));
            let gone = gone.map(|(_, record)| record.id);
            self.removed.entry(of.clone()).or_default().removed.extend(gone);
        }
    }

    /// A log loses its end, or a topic is created again.
    fn rewrite(&mut self) {
        let of = self.partition();
        let world = self.world;
        let is_recreated = self.random.u8(..4) == 0;
        let all = if is_recreated { self.partitions_of(&of.topic) } else { vec![of.clone()] };
        let at = (world.log(&of).records.keys().next_back().map_or(0, |last| last + 1) - self.random.i64(0..8)).max(0);
        self.removing(&all, || {
            if is_recreated {
                note!(world.trace, "{} is created again", of.topic);
                world.trace.count("topic created again");
                assert!(world.local.recreate_topic(&of.topic));
            } else {
                note!(world.trace, "{of} is truncated to {at}");
                world.trace.count("log truncated");
                assert!(world.local.truncate(&of.topic, of.partition, at));
            }
        });
        for of in all {
            let removed = self.removed.entry(of).or_default();
            removed.is_rewritten = true;
            removed.is_recreated |= is_recreated;
        }
    }
}
