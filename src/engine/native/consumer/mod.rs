//! Reading: [`fetcher`] runs ahead as [`positions`] plans it, [`decoding`] unpacks, and the command takes what there is.

mod answers;
mod assignments;
mod bounds;
mod budget;
mod decoding;
mod fetch;
mod fetcher;
mod last;
mod losses;
mod positions;
mod scan;
mod start;

use super::Client;
use super::group::{AssignmentNumber, Committer, Member};
use super::mutation::mutated;
use super::net::{Receiver, RecvTimeoutError, Sender, clock};
use crate::engine::{CommitMode, Consumer, ConsumerConfig, Event, Offsets};
use crate::error::{Error, Result};
use crate::record::{Batch, Offset, Position, TopicPartition};
use crate::signal::{Until, Waker};
use assignments::Assignments;
use budget::{Budget, Held};
use decoding::{Decoded, Decoding};
use fetcher::{Delivery, Fetcher, Setup};
use losses::{Handled, Written};
use positions::AssignmentId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// [`Consumer`] of the native engine.
#[derive(Debug)]
pub struct NativeConsumer {
    client: Client,
    member: Option<Member>,
    /// With a group.
    committer: Option<Committer>,
    deliveries: Receiver<Delivery>,
    assignments: Arc<Assignments>,
    budget: Arc<Budget>,
    /// What is being unpacked for this consumer.
    decoding: Option<Decoding>,
    /// Decoded and not handed out, each with what it was read for.
    ready: VecDeque<(AssignmentId, Batch)>,
    /// Memory of `ready` and of the batch handed out last.
    held: Option<Held>,
    /// What went wrong after the batches in `ready`.
    failed: Option<Error>,
    /// Whether the group waits for partitions that the command was told to release.
    releasing: bool,
    /// What was committed of each partition since it was assigned.
    committed: BTreeMap<TopicPartition, Offset>,
    /// A loss that the command is handling, and where the fetcher is told that it has.
    losing: Option<Handled>,
    handled: mpsc::UnboundedSender<Handled>,
    _waker: Waker,
}

impl NativeConsumer {
    /// Looks the partitions up, or joins the group, and starts fetching.
    ///
    /// # Errors
    /// A topic or partition does not exist, or the cluster does not answer.
    pub fn open(client: Client, config: ConsumerConfig) -> Result<Self> {
        let (deliver, deliveries) = client.network.channel();
        let waker = wake_on_stop(&client, &deliver);
        let (tell, changes) = mpsc::unbounded_channel();
        let handle = client.network.handle();
        let cluster = &client.cluster;
        let (member, partitions) = match config.group.as_ref().filter(|group| !group.standalone) {
            Some(group) => {
                let (wanted, refresh) = (config.subscription.clone(), config.refresh);
                let member = Member::join(cluster, handle, group, config.rack.clone(), wanted, refresh, tell);
                (Some(client.network.run(Until::FirstSignal, member)?), None)
            }
            None => {
                let partitions = start::partitions(cluster, &config);
                (None, Some(client.network.run(Until::FirstSignal, partitions)?))
            }
        };
        let group = config.group.as_ref();
        let committer = group.map(|group| Committer::start(cluster, handle, group, member.as_ref()));
        let (budget, assignments) = (Arc::new(Budget::new(config.fetch_ahead)), Arc::new(Assignments::default()));
        let setup = Setup {
            cluster: cluster.clone(),
            config,
            budget: budget.clone(),
            assignments: assignments.clone(),
            deliver,
        };
        let (handled, losses) = mpsc::unbounded_channel();
        handle.spawn(Fetcher::new(setup, partitions).run(changes, losses));
        Ok(Self {
            client,
            member,
            committer,
            deliveries,
            assignments,
            budget,
            decoding: None,
            ready: VecDeque::new(),
            held: None,
            failed: None,
            releasing: false,
            committed: BTreeMap::new(),
            losing: None,
            handled,
            _waker: waker,
        })
    }

    fn next_event(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if let Some((event, number)) = self.assignments.take_event() {
                self.releasing = matches!(event, Event::Revoking(_));
                match &event {
                    Event::Assigned(begins) => self.assigned(begins, number),
                    Event::Lost(partitions, _) => {
                        self.losing = Some(Handled { partitions: partitions.clone(), ..Handled::default() });
                    }
                    _ => {}
                }
                return Ok(event);
            }
            if self.client.network.stop().is_raised() {
                return Ok(Event::Stopped);
            }
            if let Some(committer) = self.committer.as_ref().filter(|committer| committer.is_ahead()) {
                return self.catch_up(committer, deadline);
            }
            if let Some((id, batch)) = self.ready.pop_front() {
                if self.assignments.is_live(id) {
                    return Ok(Event::Batch(batch));
                }
                continue;
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            // All of the last delivery is handled: its memory may be fetched into again.
            self.held = None;
            if let Some(decoding) = &mut self.decoding {
                match decoding.next(&self.client.network, &self.budget)? {
                    Some(decoded) => self.take(decoded),
                    None => self.decoding = None,
                }
                continue;
            }
            if let Some(member) = &self.member {
                member.set_busy(false);
            }
            match self.deliveries.recv_timeout(deadline.saturating_duration_since(clock::now())) {
                Ok(Delivery::Woken) => {}
                Ok(Delivery::End) => return Ok(Event::End),
                Ok(Delivery::Failed(error)) => return Err(error),
                Ok(Delivery::Decoded(decoded)) => self.take(decoded),
                Ok(Delivery::Decoding(decoding)) => self.decoding = Some(decoding),
                Err(RecvTimeoutError::Timeout) => return Ok(Event::Timeout),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::TaskEnded("the fetching task")),
            }
        }
    }

    fn assigned(&mut self, begins: &Offsets, number: AssignmentNumber) {
        self.committed.retain(|of, _| !begins.contains_key(of));
        if let Some(committer) = &mut self.committer {
            committer.assigned(begins, number);
        }
    }

    /// Waits while too much is written and not committed.
    fn catch_up(&self, committer: &Committer, deadline: Instant) -> Result<Event> {
        if let Some(member) = &self.member {
            member.set_busy(false);
        }
        let caught_up = async {
            committer.catch_up(deadline).await;
            Ok(())
        };
        match self.client.network.run(Until::FirstSignal, caught_up) {
            // The command may have the rest of a batch to write.
            Ok(()) => Ok(Event::Timeout),
            Err(Error::Stopped) => Ok(Event::Stopped),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, decoded: Decoded) {
        let Decoded { id, batches, failed, held } = decoded;
        self.ready = batches.into_iter().map(|batch| (id, batch)).collect();
        self.held = Some(held);
        // What is wrong with a partition that others read by now is theirs to find.
        self.failed = failed.filter(|_| self.assignments.is_live(id));
    }
}

fn wake_on_stop(client: &Client, deliver: &Sender<Delivery>) -> Waker {
    let deliver = deliver.clone();
    client.network.stop().wake_with(move || {
        // Err: the consumer has been dropped.
        let _ = deliver.send(Delivery::Woken);
    })
}

impl Consumer for NativeConsumer {
    fn next(&mut self, deadline: Instant) -> Result<Event> {
        if let Some(loss) = self.losing.take() {
            let _ = self.handled.send(loss); // Err: fetching has ended
        }
        if let Some(member) = &self.member {
            if std::mem::take(&mut self.releasing) {
                member.released();
            }
            member.set_busy(true);
        }
        let event = self.next_event(deadline);
        if let Some(member) = &self.member {
            member.set_busy(true);
        }
        event
    }

    fn commit(&mut self, written: &Offsets, mode: CommitMode) -> Result<Offsets> {
        let Some(committer) = &self.committer else {
            return Err(Error::Usage("committing requires a group (-g)".to_owned()));
        };
        if written.is_empty() {
            return Ok(Offsets::new());
        }
        let mut written = std::borrow::Cow::Borrowed(written);
        if mutated!(CommittedBeforeWritten) {
            written.to_mut().values_mut().for_each(|position| position.offset += 1);
        }
        // A first signal must not keep what was written from being committed.
        let network = &self.client.network;
        let committed = match mode {
            // This may take long where no signal came.
            CommitMode::BeforeRelease => match network.run(Until::FirstSignal, committer.commit(&written, mode)) {
                Err(Error::Stopped) => network.run(Until::SecondSignal, committer.commit(&written, CommitMode::Final)),
                committed => committed,
            },
            _ => network.run(Until::SecondSignal, committer.commit(&written, mode)),
        };
        let offsets = committed.iter().flatten().map(|(of, position)| (of.clone(), position.offset));
        self.committed.extend(offsets);
        committed
    }

    fn lost(&mut self, written: &Offsets) {
        let Some(loss) = &mut self.losing else { return };
        let one = |(of, end): (&TopicPartition, &Position)| {
            (of.clone(), Written { committed: self.committed.get(of).copied(), end: *end })
        };
        loss.written = written.iter().map(one).collect();
    }

    fn poll_news(&self) -> bool {
        if let Some(member) = &self.member {
            member.set_busy(true);
        }
        self.assignments.has_events()
            || self.client.network.stop().is_raised()
            || self.committer.as_ref().is_some_and(Committer::is_ahead)
    }

    fn is_impaired(&self) -> bool {
        self.assignments.is_impaired()
    }

    fn close(&mut self) -> Result<()> {
        match &self.member {
            None => Ok(()),
            Some(member) => self.client.network.run(Until::SecondSignal, async {
                member.leave().await;
                Ok(())
            }),
        }
    }
}
