//! Reading: positions, the fetches that run ahead of them, and what the command is handed.

mod budget;
mod fetch;
mod fetcher;
mod positions;
mod start;

use super::Client;
use super::group::{AssignmentNumber, Change, Committer, Member, partition_counts};
use crate::engine::{CommitMode, Consumer, ConsumerConfig, Event, Offsets, Start};
use crate::error::{Error, Result};
use crate::record::{Batch, TopicPartition};
use crate::signal::{Until, Waker};
use budget::{Budget, Held};
use fetcher::{Delivery, Fetcher};
use positions::{Positions, Target, TargetId};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    news: Arc<News>,
    /// Decoded, not handed out yet, each with what it was read for.
    ready: VecDeque<(TargetId, Batch)>,
    /// Memory that `ready` and the batch handed out last stand in.
    held: Option<Held>,
    /// What the last delivery said after its batches.
    failed: Option<Error>,
    /// Whether the group waits for partitions that the command was told to let go.
    releasing: bool,
    _waker: Waker,
}

/// What must not wait behind records: partitions that go.
#[derive(Debug, Default)]
struct News {
    /// Whether there is any.
    some: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// What is read at this time; records of anything else are not wanted any more.
    live: HashSet<TargetId>,
    /// The number of the last change that took a partition away: an assignment before it has ended.
    revoked: HashMap<TopicPartition, AssignmentNumber>,
}

impl News {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        self.state().events.push_back(event);
        self.some.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<Event> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state();
        let event = state.events.pop_front();
        self.some.store(!state.events.is_empty(), Ordering::Release);
        event
    }
}

impl NativeConsumer {
    /// Resolves where to begin and to end, or joins the group, and starts fetching.
    ///
    /// # Errors
    /// A topic or partition does not exist, an offset is out of range, or the cluster does not answer.
    pub fn open(client: Client, config: ConsumerConfig) -> Result<Self> {
        let (deliver, deliveries) = channel();
        let waker = wake_on_stop(&client, &deliver);
        let (tell, changes) = mpsc::unbounded_channel();
        let handle = client.network.handle();
        let cluster = &client.cluster;
        let mut positions = Positions::default();
        let news = Arc::new(News::default());
        let member = match config.group.as_ref().filter(|group| !group.standalone) {
            Some(group) => {
                let (wanted, refresh) = (config.subscription.clone(), config.refresh);
                let member = Member::join(cluster, handle, group, config.rack.clone(), wanted, refresh, tell);
                Some(client.network.run(Until::FirstSignal, member)?)
            }
            None => {
                let places = client.network.run(Until::FirstSignal, start::places(cluster, &config))?;
                let targets = client.network.run(Until::FirstSignal, start::resolve(cluster, &config, &places))?;
                if config.group.is_some() {
                    news.tell(Event::Assigned(targets.iter().map(Target::begins).collect()));
                }
                news.state().live.extend(targets.into_iter().map(|target| positions.add(target)));
                if config.partitions.is_none() && !config.stop_at_end {
                    handle.spawn(watch(cluster.clone(), config.clone(), places.into_iter().collect(), tell));
                }
                None
            }
        };
        let group = config.group.as_ref();
        let committer = group.map(|group| Committer::start(cluster, handle, group, member.as_ref()));
        let mut ahead = config.clone();
        if member.is_none() {
            ahead.start = Start::Beginning; // what is found later is read whole
        }
        let budget = Arc::new(Budget::new(config.fetch_ahead));
        let fetcher = Fetcher::new(cluster.clone(), positions, budget, deliver, news.clone(), ahead, member.is_some());
        handle.spawn(fetcher.run(changes));
        Ok(Self {
            client,
            member,
            deliveries,
            news,
            ready: VecDeque::new(),
            held: None,
            failed: None,
            committer,
            releasing: false,
            _waker: waker,
        })
    }

    fn next_event(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if let Some(event) = self.news.take() {
                self.releasing = matches!(event, Event::Revoking(_));
                return Ok(event);
            }
            if self.client.network.stop().is_raised() {
                return Ok(Event::Stopped);
            }
            if let Some(committer) = self.committer.as_ref().filter(|committer| committer.is_ahead()) {
                if let Some(member) = &self.member {
                    member.set_busy(false);
                }
                let caught_up = async {
                    committer.catch_up(deadline).await;
                    Ok(())
                };
                match self.client.network.run(Until::FirstSignal, caught_up) {
                    // The command may have the rest of a batch to write.
                    Ok(()) => return Ok(Event::Timeout),
                    Err(Error::Stopped) => return Ok(Event::Stopped),
                    Err(error) => return Err(error),
                }
            }
            if let Some((id, batch)) = self.ready.pop_front() {
                if self.news.state().live.contains(&id) {
                    return Ok(Event::Batch(batch));
                }
                continue;
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            // All of the last delivery is handled: its memory may be fetched into again.
            self.held = None;
            if let Some(member) = &self.member {
                member.set_busy(false);
            }
            let delivery = match self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(delivery) => delivery,
                Err(RecvTimeoutError::Timeout) => return Ok(Event::Timeout),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::TaskEnded("the fetching task"));
                }
            };
            let decoded = match delivery {
                Delivery::Woken => continue,
                Delivery::Assigned(mut begins, number) => {
                    let state = self.news.state();
                    begins.retain(|of, _| state.revoked.get(of).is_none_or(|revoked| *revoked < number));
                    drop(state);
                    if let Some(committer) = &mut self.committer {
                        committer.assigned(begins.keys(), number);
                    }
                    return Ok(Event::Assigned(begins));
                }
                Delivery::End => return Ok(Event::End),
                Delivery::Failed(error) => return Err(error),
                Delivery::Decoded(decoded) => decoded,
                Delivery::Decoding(pending) => {
                    pending.blocking_recv().map_err(|_| Error::TaskEnded("decompression"))?
                }
            };
            let id = decoded.id;
            self.ready = decoded.batches.into_iter().map(|batch| (id, batch)).collect();
            self.held = Some(decoded.held);
            // What is wrong with a partition that is others' by now is theirs to find.
            self.failed = decoded.failed.filter(|_| self.news.state().live.contains(&id));
        }
    }
}

/// Looks for topics and partitions that were not there at the start, for who reads without a group.
async fn watch(
    cluster: Arc<super::cluster::Cluster>,
    config: ConsumerConfig,
    mut known: BTreeSet<TopicPartition>,
    tell: mpsc::UnboundedSender<Change>,
) {
    loop {
        tokio::time::sleep(config.refresh).await;
        let counts = match partition_counts(&cluster, &config.subscription).await {
            Ok(counts) => counts,
            Err(error) => {
                tracing::info!(error_name = error.name(), %error, "cannot look for new partitions now");
                continue;
            }
        };
        let all = counts
            .into_iter()
            .flat_map(|(topic, count)| (0..count).map(move |p| TopicPartition::new(topic.clone(), p)));
        let new: BTreeSet<_> = all.filter(|place| !known.contains(place)).collect();
        known.extend(new.iter().cloned());
        if !new.is_empty() && tell.send(Change::Assigned(new, AssignmentNumber::default())).is_err() {
            return; // the consumer is gone
        }
    }
}

fn wake_on_stop(client: &Client, deliver: &Sender<Delivery>) -> Waker {
    let deliver = deliver.clone();
    client.network.stop().wake_with(move || {
        // Err: the consumer is gone, nobody waits.
        let _ = deliver.send(Delivery::Woken);
    })
}

impl Consumer for NativeConsumer {
    fn next(&mut self, deadline: Instant) -> Result<Event> {
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
        // A first signal must not keep what was written from being committed, unless the end still commits it.
        let until = if mode == CommitMode::BeforeRelease { Until::FirstSignal } else { Until::SecondSignal };
        match self.client.network.run(until, committer.commit(written, mode)) {
            Err(Error::Stopped) if mode == CommitMode::BeforeRelease => Ok(Offsets::new()),
            committed => committed,
        }
    }

    fn poll_news(&self) -> bool {
        if let Some(member) = &self.member {
            member.set_busy(true);
        }
        self.news.some.load(Ordering::Acquire) || self.committer.as_ref().is_some_and(Committer::is_ahead)
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
