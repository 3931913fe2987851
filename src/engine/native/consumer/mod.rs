//! Reading: [`fetcher`] runs ahead as [`positions`] plans it, [`decoding`] unpacks, and the command takes what there is.

mod answers;
mod assignments;
mod bounds;
mod budget;
mod decoding;
mod fetch;
mod fetcher;
mod last;
mod positions;
mod start;

use super::Client;
use super::group::{Member, offsets};
use crate::engine::{Consumer, ConsumerConfig, Event, Offsets};
use crate::error::{Error, Result};
use crate::record::Batch;
use assignments::Assignments;
use budget::{Budget, Held};
use decoding::{Decoded, Decoding};
use fetcher::{Delivery, Fetcher, Setup};
use positions::AssignmentId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;
use tokio::sync::mpsc;

/// [`Consumer`] of the native engine.
#[derive(Debug)]
pub struct NativeConsumer {
    client: Client,
    config: ConsumerConfig,
    member: Option<Member>,
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
    /// How many times the command was told of lost partitions.
    losses: u64,
    /// Whether the group waits for partitions that the command was told to release.
    releasing: bool,
}

impl NativeConsumer {
    /// Looks the partitions up, or joins the group, and starts fetching.
    ///
    /// # Errors
    /// A topic or partition does not exist, or the cluster does not answer.
    pub fn open(client: Client, config: ConsumerConfig) -> Result<Self> {
        let (deliver, deliveries) = channel();
        wake_on_stop(&client, &deliver);
        let (tell, changes) = mpsc::unbounded_channel();
        let handle = client.network.handle();
        let cluster = &client.cluster;
        let (member, partitions) = match config.group.as_ref().filter(|group| !group.standalone) {
            Some(group) => {
                let (wanted, refresh) = (config.subscription.clone(), config.refresh);
                let member = Member::join(cluster, handle, group, config.rack.clone(), wanted, refresh, tell);
                (Some(client.network.run(1, member)?), None)
            }
            None => (None, Some(client.network.run(1, start::partitions(cluster, &config))?)),
        };
        let (budget, assignments) = (Arc::new(Budget::new(config.fetch_ahead)), Arc::new(Assignments::default()));
        let setup = Setup {
            cluster: cluster.clone(),
            config: config.clone(),
            budget: budget.clone(),
            assignments: assignments.clone(),
            deliver,
        };
        handle.spawn(Fetcher::new(setup, partitions).run(changes));
        Ok(Self {
            client,
            config,
            member,
            deliveries,
            assignments,
            budget,
            decoding: None,
            ready: VecDeque::new(),
            held: None,
            failed: None,
            losses: 0,
            releasing: false,
        })
    }

    fn next_event(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if let Some(event) = self.assignments.take_event() {
                self.releasing = matches!(event, Event::Revoking(_));
                self.losses += u64::from(matches!(event, Event::Lost(..)));
                return Ok(event);
            }
            if self.client.network.stop().is_raised() {
                return Ok(Event::Stopped);
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
                match decoding.next(&self.budget) {
                    Some(decoded) => self.take(decoded),
                    None => self.decoding = None,
                }
                continue;
            }
            if let Some(member) = &self.member {
                member.set_busy(false);
            }
            match self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
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

    fn take(&mut self, decoded: Decoded) {
        let Decoded { id, batches, failed, held } = decoded;
        self.ready = batches.into_iter().map(|batch| (id, batch)).collect();
        self.held = Some(held);
        // What is wrong with a partition that others read by now is theirs to find.
        self.failed = failed.filter(|_| self.assignments.is_live(id));
    }
}

fn wake_on_stop(client: &Client, deliver: &Sender<Delivery>) {
    let deliver = deliver.clone();
    client.network.stop().wake_with(move || {
        // Err: the consumer is gone, nobody waits.
        let _ = deliver.send(Delivery::Woken);
    });
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

    fn commit(&mut self, written: &Offsets) -> Result<bool> {
        let Some(group) = &self.config.group else {
            return Err(Error::Usage("committing requires a group (-g)".to_owned()));
        };
        if written.is_empty() {
            return Ok(true);
        }
        let cluster = &self.client.cluster;
        // A first signal must not keep what was written from being committed.
        match &self.member {
            Some(member) => self.client.network.run(2, member.commit(cluster, written, self.losses)),
            None => self.client.network.run(2, offsets::commit(cluster, &group.id, written)).map(|()| true),
        }
    }

    fn poll_news(&self) -> bool {
        if let Some(member) = &self.member {
            member.set_busy(true);
        }
        self.assignments.has_events()
    }

    fn close(&mut self) -> Result<()> {
        match &self.member {
            None => Ok(()),
            Some(member) => self.client.network.run(2, async {
                member.leave().await;
                Ok(())
            }),
        }
    }
}
