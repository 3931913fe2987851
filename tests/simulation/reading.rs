//! A consumer as `kpipe consume` drives it: what is fetched is written, what is written is committed, what is revoked is
//! released.

use super::scenario::{ADDED_PARTITIONS, Commit, Reading};
use super::trace::note;
use super::world::World;
use crate::support::history::{Entry, ReaderInfo, RecordId};
use kpipe::engine::{
    CommitMode, Consumer, ConsumerConfig, Engine, Event, GroupConfig, Isolation, Offsets, Start, Subscription,
};
use kpipe::error::Result;
use kpipe::record::{Batch, LeaderEpoch, Position, TopicPartition};
use kpipe::signal::Stop;
use std::time::Duration;
use tokio::time::Instant;

/// As the command looks for news at least.
const CHECK: Duration = Duration::from_secs(1);
/// A process that cannot begin is started again after this long.
const AGAIN: Duration = Duration::from_millis(300);
/// How many records may be written and not committed.
const MAX_COMMIT_LEAD: u64 = 1_000;

struct Run<'a> {
    world: &'a World,
    plan: &'a Reading,
    name: String,
    consumer: Box<dyn Consumer>,
    /// What is rendered and not written.
    pending: Vec<(TopicPartition, Position, Option<RecordId>)>,
    written: Offsets,
    committed: Offsets,
    commit: Commit,
    commit_at: Instant,
    random: fastrand::Rng,
    stall: Option<(Instant, Duration)>,
}

/// Reads until `stop` is raised, in as many runs as it takes.
pub fn read(world: &World, plan: &Reading, stop: &Stop) {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut run = 0;
    let mut stall = plan.stall.map(|(at, time)| (world.began + at, time));
    while !stop.is_raised() {
        let name = format!("{}.{run}", plan.client.name);
        run += 1;
        world.history().readers.insert(
            name.clone(),
            ReaderInfo {
                group: plan.group.as_ref().map(|group| group.id.clone()),
                is_committed: plan.is_committed,
                reads_all_of: Default::default(),
            },
        );
        let ended = match begin(world, plan, name.clone(), stop, random.fork(), stall.take()) {
            Ok(mut run) => {
                let read = run.all();
                let finished = run.finish();
                stall = run.stall;
                read.and(finished)
            }
            Err(error) => Err(error),
        };
        note!(world.trace, "{name} ended: {ended:?}");
        if !stop.is_raised() {
            world.sleep(AGAIN);
        }
    }
}

fn begin<'a>(
    world: &'a World,
    plan: &'a Reading,
    name: String,
    stop: &Stop,
    random: fastrand::Rng,
    stall: Option<(Instant, Duration)>,
) -> Result<Run<'a>> {
    let group = plan.group.as_ref();
    let engine = Engine::connect(&world.options(&plan.client, group.map(|group| group.id.clone())), stop)?;
    let commit = group.map_or(Commit::Never, |group| group.commit);
    let config = ConsumerConfig {
        subscription: Subscription::Topics(plan.topics.iter().map(|(name, _)| name.clone()).collect()),
        partitions: None,
        start: if group.is_some() { Start::Stored } else { Start::Beginning },
        fallback: Start::Beginning,
        end: None,
        stop_at_end: false,
        group: group.map(|group| GroupConfig {
            id: group.id.clone(),
            standalone: group.is_standalone,
            protocol: group.protocol,
            classic_only_flag: None,
            instance_id: group.instance_id.clone(),
            session_timeout: group.session_timeout,
            heartbeat_interval: group.session_timeout / 3,
            max_poll_interval: group.max_poll_interval,
            max_commit_lead: if commit == Commit::Each { 0 } else { MAX_COMMIT_LEAD },
            assignors: vec![group.assignor],
            server_assignor: None,
        }),
        rack: None,
        refresh: Duration::from_secs(20),
        isolation: if plan.is_committed { Isolation::Committed } else { Isolation::Uncommitted },
        fetch_ahead: plan.fetch_ahead,
        fetch_bytes: 1 << 20,
        fetch_wait: plan.fetch_wait,
        fetch_min_bytes: 1,
        max_unpacked: 1 << 20,
        counts_only: false,
    };
    if group.is_none() {
        for (topic, partitions) in &plan.topics {
            for partition in 0..partitions + ADDED_PARTITIONS {
                let of = TopicPartition::new(topic.as_str(), partition);
                world.history().entries.push(Entry::Begins { reader: name.clone(), of, at: 0 });
            }
        }
    }
    Ok(Run {
        world,
        plan,
        consumer: engine.consume(config)?,
        name,
        pending: Vec::new(),
        written: Offsets::new(),
        committed: Offsets::new(),
        commit,
        commit_at: Instant::now(),
        random,
        stall,
    })
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            let deadline = match self.commit {
                _ if !self.pending.is_empty() => now,
                Commit::Every(_) => self.commit_at.max(now),
                _ => now + CHECK,
            };
            match self.consumer.next(deadline.min(now + CHECK).into_std())? {
                Event::Batch(batch) => self.write(&batch)?,
                Event::End => return Ok(()),
                Event::Stopped => return Ok(()),
                Event::Timeout => self.flush(),
                Event::Assigned(begins) => self.assigned(&begins),
                Event::Revoking(partitions) => self.revoked(&partitions)?,
                Event::Lost(partitions, error) => {
                    note!(self.world.trace, "{} lost {partitions:?}: {}", self.name, error.name());
                    self.lost(&partitions);
                }
                Event::Deleted(partitions) => {
                    self.flush();
                    self.forget(&partitions);
                }
            }
            if let Commit::Every(interval) = self.commit
                && Instant::now() >= self.commit_at
            {
                self.flush();
                self.commit_written(CommitMode::Background)?;
                self.commit_at = Instant::now() + interval;
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let of = TopicPartition::new(batch.topic.clone(), batch.partition);
        let leader_epoch = LeaderEpoch::from_wire(batch.leader_epoch);
        for record in batch.records() {
            let record = record.expect("the batch is whole");
            let id = record.value.and_then(RecordId::of).expect("every record names itself");
            self.pending.push((of.clone(), Position { offset: record.offset + 1, leader_epoch }, Some(id)));
            if self.commit == Commit::Each {
                self.flush();
                self.commit_written(CommitMode::Background)?;
            }
        }
        self.pending.push((of, Position { offset: batch.next_offset, leader_epoch }, None));
        if self.random.u8(..100) < self.plan.slows {
            self.world.sleep(self.plan.slow.mul_f64(self.random.f64()));
        }
        if let Some((_, time)) = self.stall.take_if(|(at, _)| *at <= Instant::now()) {
            note!(self.world.trace, "{} stalls for {time:?}", self.name);
            self.world.trace.count("output stalled");
            self.world.sleep(time);
        }
        Ok(())
    }

    fn entry(&self, entry: Entry) {
        self.world.history().entries.push(entry);
    }

    fn flush(&mut self) {
        for (of, position, id) in std::mem::take(&mut self.pending) {
            let reader = self.name.clone();
            self.entry(match id {
                Some(id) => Entry::Wrote { reader, of: of.clone(), offset: position.offset - 1, id },
                None => Entry::Reached { reader, of: of.clone(), next: position.offset },
            });
            self.written.insert(of, position);
        }
    }

    fn assigned(&mut self, begins: &Offsets) {
        for (of, position) in begins {
            note!(self.world.trace, "{} begins {of} at {}", self.name, position.offset);
            self.entry(Entry::Begins { reader: self.name.clone(), of: of.clone(), at: position.offset });
            self.written.insert(of.clone(), *position);
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.flush();
        if self.commit != Commit::Never {
            self.commit_written(CommitMode::BeforeRelease)?;
        }
        note!(self.world.trace, "{} releases {partitions:?}", self.name);
        self.forget(partitions);
        Ok(())
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.flush();
        if self.commit != Commit::Never {
            let written = self.written.iter().filter(|(of, _)| partitions.contains(of));
            let written = written.map(|(of, position)| (of.clone(), *position)).collect();
            self.consumer.lost(&written);
        }
        self.forget(partitions);
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.written.remove(of);
            self.committed.remove(of);
            self.entry(Entry::Released { reader: self.name.clone(), of: of.clone() });
        }
    }

    fn commit_written(&mut self, mode: CommitMode) -> Result<()> {
        let changed = self.written.iter().filter(|(of, position)| self.committed.get(*of) != Some(*position));
        let changed: Offsets = changed.map(|(of, position)| (of.clone(), *position)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        for (of, position) in &changed {
            self.entry(Entry::CommitAsked { reader: self.name.clone(), of: of.clone(), offset: position.offset });
        }
        let mut committed = self.consumer.commit(&changed, mode)?;
        for (of, position) in &committed {
            note!(self.world.trace, "{} committed {of} {}", self.name, position.offset);
            self.entry(Entry::Committed { reader: self.name.clone(), of: of.clone(), offset: position.offset });
        }
        self.committed.append(&mut committed);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.flush();
        while self.consumer.poll_news() {
            match self.consumer.next(Instant::now().into_std()) {
                Ok(Event::Revoking(partitions)) => self.revoked(&partitions)?,
                Ok(Event::Lost(partitions, _)) => self.lost(&partitions),
                Ok(Event::Deleted(partitions)) => self.forget(&partitions),
                _ => break,
            }
        }
        let committed = if self.commit == Commit::Never { Ok(()) } else { self.commit_written(CommitMode::Final) };
        let closed = self.consumer.close();
        committed.and(closed)
    }
}
