//! Membership in a consumer group: state machines that know what a member has to do, and the task that does it.
//!
//! The task lives on the network thread, so heartbeats go on while stdout blocks. It tells what it is given and what
//! it has to let go as [`Change`]s; the command answers through [`Member`].

mod admin;
mod assignors;
mod classic;
mod kip848;
mod membership;
mod messages;
pub(super) mod offsets;
mod requests;

pub use admin::{DescribedGroup, GroupAdmin, GroupMember, ListedGroup, Progress};
pub use assignors::Assignor;

use super::cluster::{Cluster, Coordinated};
use super::net::sleep_until;
use crate::engine::{GroupConfig, GroupProtocol, Offsets, Subscription};
use crate::error::{Action as Attempt, Error, Result, Subject};
use crate::record::TopicPartition;
use classic::Classic;
use kafka_protocol::error::ResponseError as E;
use kip848::Kip848;
use membership::{Action, Counts, Event, MemberConfig, Membership, is_coordinators};
use requests::Requests;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// What a membership tells.
#[derive(Debug)]
pub(super) enum Change {
    /// These are to be read from now on; none is a change too.
    Assigned(BTreeSet<TopicPartition>),
    /// These are to be let go: written, committed, and then [`Member::released`].
    Revoking(BTreeSet<TopicPartition>),
    /// These are others' by now, perhaps: nothing can be committed for them.
    Lost(BTreeSet<TopicPartition>, Error),
    /// The membership has ended.
    Failed(Error),
}

/// Whose commits these are, and how often the member has lost partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Identity {
    member_id: String,
    generation: i32,
    losses: u64,
}

#[derive(Debug)]
enum Command {
    Released,
    Leave(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Shared {
    identity: Mutex<Identity>,
    began: Instant,
    /// Milliseconds since `began` at which the command last took a record, and one; 0 while it waits for more.
    busy_since: AtomicU64,
}

/// A membership, as the command holds it.
#[derive(Debug)]
pub(super) struct Member {
    group: String,
    instance_id: Option<String>,
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

impl Member {
    /// Joins `config`'s group; what happens then is told to `changes`.
    pub(super) async fn join(
        cluster: &Arc<Cluster>,
        handle: &Handle,
        config: &GroupConfig,
        rack: Option<String>,
        wanted: Subscription,
        refresh: Duration,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Result<Self> {
        let modern = speaks_kip848(cluster, config).await?;
        let counts = requests::partition_counts(cluster, &wanted).await?;
        if let Subscription::Topics(names) = &wanted
            && let Some(missing) = names.iter().find(|name| !counts.contains_key(name.as_str()))
        {
            return Err(Error::kafka(Attempt::LookUp, Subject::topic_named(missing), E::UnknownTopicOrPartition));
        }
        let protocol = if modern { "consumer" } else { "classic" };
        tracing::info!(group = config.id, protocol, "joining");
        let member = MemberConfig {
            group: config.id.clone(),
            instance_id: config.instance_id.clone(),
            session: config.session_timeout,
            rebalance: config.max_poll_interval,
            beat_every: config.heartbeat_interval,
            retry: cluster.options.retry_backoff,
        };
        let now = Instant::now();
        let membership: Box<dyn Membership> =
            if modern { Box::new(Kip848::new(member, now)) } else { Box::new(Classic::new(member, now)) };
        let (commands, orders) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { identity: Mutex::default(), began: now, busy_since: AtomicU64::new(0) });
        let requests = Requests {
            cluster: cluster.clone(),
            config: config.clone(),
            rack,
            kip848: modern,
            names: Arc::new(Mutex::new(HashMap::new())),
        };
        let task = Task {
            membership,
            requests,
            wanted,
            shared: shared.clone(),
            changes,
            refresh,
            refresh_at: now + refresh,
            stalled: false,
            losses: 0,
        };
        handle.spawn(task.run(orders, counts));
        Ok(Self { group: config.id.clone(), instance_id: config.instance_id.clone(), commands, shared })
    }

    /// The command has let go of what it was told to.
    pub(super) fn released(&self) {
        let _ = self.commands.send(Command::Released); // Err: the membership has ended
    }

    /// The command is at work on records, and moves; or it waits for more.
    pub(super) fn set_busy(&self, busy: bool) {
        let since = if busy { self.shared.began.elapsed().as_millis() as u64 + 1 } else { 0 };
        self.shared.busy_since.store(since, Ordering::Release);
    }

    /// Leaves the group.
    pub(super) async fn leave(&self) {
        let (left, done) = oneshot::channel();
        if self.commands.send(Command::Leave(left)).is_ok() {
            let _ = done.await; // Err: the membership has ended
        }
    }

    /// Commits `written` as this member, again while the group is on the move. False when the member has lost
    /// partitions more often than the `told` times that the command knows of.
    ///
    /// # Errors
    /// It was refused, or did not get through in time.
    pub(super) async fn commit(&self, cluster: &Cluster, written: &Offsets, told: u64) -> Result<bool> {
        let mut retry = cluster.retry();
        loop {
            let now = self.shared.identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if now.losses != told {
                return Ok(false);
            }
            let member =
                offsets::By { id: &now.member_id, instance: self.instance_id.as_deref(), generation: now.generation };
            let Err(error) = offsets::commit_once(cluster, &self.group, Some(member), written).await else {
                return Ok(true);
            };
            let moving = matches!(
                error.code(),
                Some(
                    E::RebalanceInProgress
                        | E::IllegalGeneration
                        | E::StaleMemberEpoch
                        | E::UnknownMemberId
                        | E::FencedMemberEpoch
                )
            );
            if moving {
                // The membership finds out by itself: then there is another generation, or a loss.
                tracing::info!(group = self.group, error_name = error.name(), %error, "committing again");
                cluster.options.observer.commit_failed(&error);
                retry.again(error).await?;
                continue;
            }
            if is_coordinators(&error) {
                cluster.forget_coordinator(Coordinated::Group, &self.group);
                retry.after(error).await?;
                continue;
            }
            return Err(error);
        }
    }
}

/// Whether to use KIP-848, as `config` wants or as the coordinator has it.
async fn speaks_kip848(cluster: &Cluster, config: &GroupConfig) -> Result<bool> {
    if config.protocol == GroupProtocol::Classic {
        return Ok(false);
    }
    let has = requests::has_kip848(cluster, &config.id).await?;
    match config.protocol {
        GroupProtocol::Consumer if !has => Err(Error::Usage(
            "--group-protocol consumer: the brokers do not have it (Kafka 4.0 and newer do); use classic".to_owned(),
        )),
        GroupProtocol::Consumer => Ok(true),
        _ => Ok(has && config.classic_only_flag.is_none() && !requests::is_live_classic(cluster, &config.id).await?),
    }
}

/// The task that does what the machine wants.
struct Task {
    membership: Box<dyn Membership>,
    requests: Requests,
    wanted: Subscription,
    shared: Arc<Shared>,
    changes: mpsc::UnboundedSender<Change>,
    /// How often to look for new topics and partitions, and when to next.
    refresh: Duration,
    refresh_at: Instant,
    stalled: bool,
    losses: u64,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>, counts: Counts) {
        let mut in_flight: JoinSet<Event> = JoinSet::new();
        let mut event = Event::Wanted(counts);
        let mut left = None;
        loop {
            for action in self.membership.handle(event, Instant::now()) {
                match action {
                    Action::Left => {
                        // Who waits for the member's end waits for the word of it to be out, but not long.
                        let all = async { while in_flight.join_next().await.is_some() {} };
                        let _ = tokio::time::timeout(self.requests.cluster.options.request_timeout, all).await;
                        drop(left);
                        return;
                    }
                    Action::Leave(member_id) => {
                        in_flight.abort_all();
                        self.requests.leave(&mut in_flight, member_id);
                    }
                    action => {
                        if self.perform(action, &mut in_flight).is_err() {
                            return; // the command is gone
                        }
                    }
                }
            }
            self.publish();
            event = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Released) => Event::Released,
                    Some(Command::Leave(done)) => {
                        left = Some(done);
                        Event::Leave
                    }
                    None => return,
                },
                // Err: it was aborted.
                Some(Ok(event)) = in_flight.join_next() => event,
                () = sleep_until(self.membership.due()) => Event::Due,
                () = sleep_until(Some(self.next_look())) => self.look(&mut in_flight),
            };
        }
    }

    /// Tells who commits.
    fn publish(&self) {
        let (member_id, generation) = self.membership.identity();
        let identity = Identity { member_id, generation, losses: self.losses };
        *self.shared.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// How long the command has taken no record.
    fn idle(&self) -> Duration {
        match self.shared.busy_since.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => self.shared.began.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// When to look at the command, and for new partitions.
    fn next_look(&self) -> Instant {
        let patience = if self.stalled {
            Duration::from_millis(100)
        } else {
            self.requests.config.max_poll_interval.saturating_sub(self.idle())
        };
        self.refresh_at.min(Instant::now() + patience)
    }

    fn look(&mut self, in_flight: &mut JoinSet<Event>) -> Event {
        let stalls = self.idle() >= self.requests.config.max_poll_interval;
        if stalls != self.stalled {
            self.stalled = stalls;
            return if stalls { Event::Stalled } else { Event::Moving };
        }
        if self.refresh_at <= Instant::now() {
            self.refresh_at = Instant::now() + self.refresh;
            self.requests.look(in_flight, self.wanted.clone());
        }
        Event::Due
    }

    fn perform(&mut self, action: Action, in_flight: &mut JoinSet<Event>) -> Result<(), ()> {
        let identity = self.membership.identity();
        let change = match action {
            Action::Join => {
                let (owned, wanted) = (self.membership.owned().clone(), self.membership.subscribed());
                self.requests.join(in_flight, identity, owned, wanted);
                return Ok(());
            }
            Action::Count(topics) => {
                self.requests.count(in_flight, topics);
                return Ok(());
            }
            Action::Sync(assignments) => {
                self.requests.sync(in_flight, identity, assignments);
                return Ok(());
            }
            Action::Beat { full } => {
                let (owned, wanted) = (self.membership.owned().clone(), self.membership.subscribed());
                self.requests.beat(in_flight, identity, full, owned, wanted);
                return Ok(());
            }
            Action::Forget => {
                let group = &self.requests.config.id;
                self.requests.cluster.forget_coordinator(Coordinated::Group, group);
                return Ok(());
            }
            Action::Leave(_) | Action::Left => return Ok(()),
            Action::Assign(places) => Change::Assigned(places),
            Action::Revoke(places) => Change::Revoking(places),
            Action::Lose(places, error) => {
                self.losses += 1;
                self.publish();
                Change::Lost(places, error)
            }
            Action::Fail(error) => Change::Failed(error),
        };
        self.changes.send(change).map_err(drop)
    }
}
