//! A producer as `kpipe produce` drives it: records in, receipts noted; transactions committed, or aborted at the first
//! failure. A run that fails is begun again with the records that are left, as another producer.

use super::scenario::Producing;
use super::threads::wait;
use super::trace::note;
use super::world::World;
use crate::support::history::{Entry, ProducerInfo, Promise, RecordId, Told, TransactionEnd as Ended};
use kpipe::engine::{
    Acks, Engine, Partitioner, Producer, ProducerConfig, Slot, TransactionConfig, TransactionEnd, Wake,
};
use kpipe::error::{Error, Result};
use kpipe::record::{RecordRef, TopicPartition};
use kpipe::signal::Stop;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The time of the first record, in milliseconds. Brokers refuse what lies in the future.
const EPOCH: i64 = 1_700_000_000_000;
/// A process that cannot begin is started again after this long.
const AGAIN: Duration = Duration::from_millis(300);
/// Runs of one producer, at most.
const RUNS: u32 = 50;

struct Run<'a> {
    world: &'a World,
    plan: &'a Producing,
    number: u32,
    producer: Box<dyn Producer>,
    woken: Arc<Notify>,
    /// The records of each partition, in order.
    slots: BTreeMap<Slot, Vec<RecordId>>,
    has_failed: bool,
    in_transaction: u32,
    is_in_doubt: bool,
    random: fastrand::Rng,
}

/// Produces all records of `plan`, in as many runs as it takes.
pub fn produce(world: &World, plan: &Producing, stop: &Stop) {
    let mut sent = 0;
    let mut random = fastrand::Rng::with_seed(plan.seed);
    for run in 0..RUNS {
        let number = plan.number * RUNS + run;
        let promise = match (plan.acks, plan.idempotent) {
            (Acks::None, _) => Promise::Nothing,
            (Acks::Leader, _) => Promise::LeaderOnly,
            _ if plan.transaction.is_some() => Promise::Transactional,
            (_, true) => Promise::Idempotent,
            (_, false) => Promise::AtLeastOnce,
        };
        world.history().producers.insert(number, ProducerInfo { promise, has_ended: false });
        let ended = match begin(world, plan, number, stop, random.fork()) {
            Ok(mut run) => run.all(&mut sent, stop),
            Err(error) => Err(error),
        };
        note!(world.trace, "{} run {run} ended after {sent}: {ended:?}", plan.client.name);
        if let (Ok(()), Some(info)) = (&ended, world.history().producers.get_mut(&number)) {
            info.has_ended = true;
        }
        if sent >= plan.records || stop.is_raised() {
            return;
        }
        world.sleep(AGAIN);
    }
}

fn begin<'a>(
    world: &'a World,
    plan: &'a Producing,
    number: u32,
    stop: &Stop,
    random: fastrand::Rng,
) -> Result<Run<'a>> {
    let engine = Engine::connect(&world.options(&plan.client, None), stop)?;
    let woken = Arc::new(Notify::new());
    let wake: Wake = Arc::new({
        let woken = woken.clone();
        move || woken.notify_one()
    });
    let config = ProducerConfig {
        acks: plan.acks,
        idempotent: plan.idempotent,
        compression: plan.compression,
        batch_size: plan.batch_size,
        linger: plan.linger.min(plan.delivery_timeout),
        delivery_timeout: plan.delivery_timeout,
        metadata_max_age: Duration::from_secs(20),
        max_in_flight: plan.max_in_flight,
        buffer_memory: plan.buffer_memory,
        max_record_size: 1 << 20,
        partitioner: Partitioner::Murmur2,
        stop_on_failure: plan.stop_on_failure,
        keep_failed: false,
        transaction: plan.transaction.map(|_| TransactionConfig {
            id: format!("transaction-{}", plan.number),
            timeout: plan.transaction_timeout,
        }),
        create_topics: None,
        topics: plan.topics.iter().map(|(name, _)| name.clone()).collect(),
    };
    let producer = engine.produce(config, wake)?;
    let slots = BTreeMap::new();
    let (has_failed, in_transaction, is_in_doubt) = (false, 0, false);
    Ok(Run { world, plan, number, producer, woken, slots, has_failed, in_transaction, is_in_doubt, random })
}

impl Run<'_> {
    /// Produces what is left, and waits for every outcome.
    fn all(&mut self, sent: &mut u32, stop: &Stop) -> Result<()> {
        let fed = self.feed(sent, stop);
        let is_whole = fed.is_ok() && !self.has_failed && !stop.is_raised();
        let finished = match self.plan.transaction {
            Some(_) => self.finish_transaction(is_whole),
            None => {
                let finished = self.producer.finish();
                self.settle()?;
                finished
            }
        };
        finished?;
        fed
    }

    fn feed(&mut self, sent: &mut u32, stop: &Stop) -> Result<()> {
        while *sent < self.plan.records && !stop.is_raised() && !(self.has_failed && self.plan.stop_on_failure) {
            self.producer.tick(EPOCH + i64::from(*sent), 0)?;
            self.append(*sent)?;
            *sent += 1;
            self.settle()?;
            if self.plan.transaction.is_some_and(|records| self.in_transaction >= records) {
                self.commit()?;
            }
            if self.random.u8(..100) < self.plan.pauses {
                let pause = self.plan.pause.mul_f64(self.random.f64());
                self.pause(pause, stop)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, sent: u32) -> Result<()> {
        let id = RecordId { producer: self.number, number: sent };
        let value = format!("{id}{}", "x".repeat(self.plan.padding));
        let key = format!("k{}", self.random.u8(..7));
        let key = self.random.bool().then_some(key.as_bytes());
        let record = RecordRef { key, value: Some(value.as_bytes()), ..RecordRef::default() };
        let (topic, partitions) = &self.plan.topics[self.random.usize(..self.plan.topics.len())];
        let partition = (self.random.u8(..3) == 0).then(|| self.random.i32(0..*partitions));
        // Noted before, for a receipt may come while this waits for memory.
        match self.producer.append(topic, partition, &record) {
            Ok(slot) => {
                self.world.history().entries.push(Entry::Appended(id));
                self.slots.entry(slot).or_default().push(id);
                self.in_transaction += 1;
                Ok(())
            }
            Err(Error::Refused(_) | Error::Kafka { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits as the command does for more input.
    fn pause(&mut self, time: Duration, stop: &Stop) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until && !stop.is_raised() {
            let again = self.producer.idle()?.map(Instant::from);
            self.settle()?;
            let wake_at = again.into_iter().chain([until]).min().unwrap_or(until);
            let woken = self.woken.clone();
            wait(async {
                tokio::select! {
                    biased;
                    () = woken.notified() => {}
                    () = sleep_until(wake_at) => {}
                }
            });
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        for receipt in self.producer.receipts()? {
            let first = receipt.first_record as usize;
            let ids = self.slots[&receipt.slot][first..first + receipt.records as usize].to_vec();
            let of = TopicPartition::new(receipt.topic.clone(), receipt.partition);
            let told = match &receipt.outcome {
                Ok(offset) => Told::Written(*offset),
                Err(failure) if failure.possibly_written => Told::PossiblyWritten,
                Err(_) => Told::NotWritten,
            };
            self.has_failed |= receipt.outcome.is_err();
            let why = receipt.outcome.as_ref().err().map(|failure| failure.error.name());
            note!(self.world.trace, "{} {of} {}+{}: {told:?} {why:?}", self.plan.client.name, ids[0], ids.len());
            self.world.history().entries.push(Entry::Receipt { of, ids, told });
        }
        Ok(())
    }

    fn ended(&mut self, end: Ended) {
        note!(self.world.trace, "{} transaction: {end:?}", self.plan.client.name);
        self.world.history().entries.push(Entry::TransactionEnded { producer: self.number, end });
        self.in_transaction = 0;
    }

    fn pending_commit(&self, is_pending: bool) {
        self.world.history().entries.push(Entry::Commit { producer: self.number, is_pending });
    }

    fn commit(&mut self) -> Result<()> {
        self.producer.finish()?;
        self.settle()?;
        if self.has_failed {
            return Ok(());
        }
        self.pending_commit(true);
        match self.producer.end_transaction(TransactionEnd::Commit) {
            Ok(()) => self.ended(Ended::Committed),
            Err(error) => {
                if matches!(error, Error::CommitUnknown { .. }) {
                    self.is_in_doubt = true;
                    self.ended(Ended::Unknown);
                }
                self.pending_commit(false);
                return Err(error);
            }
        }
        Ok(())
    }

    fn finish_transaction(&mut self, is_whole: bool) -> Result<()> {
        if self.is_in_doubt {
            return Ok(());
        }
        if is_whole {
            match self.commit() {
                Ok(()) if !self.has_failed => return Ok(()),
                Err(error) if self.is_in_doubt => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.producer.abandon()?;
        self.producer.finish()?;
        self.settle()?;
        let aborted = self.producer.end_transaction(TransactionEnd::Abort);
        self.ended(Ended::Aborted);
        aborted
    }
}
