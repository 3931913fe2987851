//! The task of a membership: performs the machine's effects, and brings it events.

use super::assignors::Subscriber;
use super::membership::{Effect, Event, Membership, PartitionCounts};
use super::messages;
use super::ownership::Ownership;
use super::requests::Requests;
use super::{Activity, Change, Command};
use crate::engine::native::cluster::Coordinated;
use crate::engine::native::net::{Outage, clock, sleep_until};
use crate::engine::platform::Platform;
use crate::engine::{Assignor, Subscription};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How often to look whether a command that stalled takes records again.
const STALL_CHECK: Duration = Duration::from_millis(100);

/// A member that waits longer for an assignment says so.
const LONG_WAIT: Duration = Duration::from_secs(4);

/// Computes an assignment on a thread of its own: of many partitions it takes seconds, in which the member is to hear of
/// a signal.
async fn compute_assignment(
    platform: Platform,
    assignor: Assignor,
    members: Vec<Subscriber>,
    counts: PartitionCounts,
) -> Option<Event> {
    let compute = move || {
        let assigned = assignor.assign(&members, &counts).into_iter();
        assigned.map(|(id, partitions)| Ok((id, messages::assignment(&partitions)?))).collect()
    };
    let computed = platform.run_blocking(compute).await;
    Some(Event::AssignmentComputed(computed.unwrap_or_else(|e| Err(e.to_string()))))
}

/// The command is gone, or the member has left.
struct Ended;

/// A membership at work.
pub(super) struct Task {
    membership: Box<dyn Membership>,
    requests: Requests,
    subscription: Subscription,
    activity: Arc<Activity>,
    changes: mpsc::UnboundedSender<Change>,
    ownership: watch::Sender<Ownership>,
    /// How often to look for new topics and partitions, and when to next.
    refresh: Duration,
    refresh_at: Instant,
    is_stalled: bool,
    /// Who waits for the member to have left.
    left: Option<oneshot::Sender<()>>,
    outage: Outage,
    /// Since when the member waits for an assignment, until that is reported.
    waiting_since: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        membership: Box<dyn Membership>,
        requests: Requests,
        subscription: Subscription,
        activity: Arc<Activity>,
        changes: mpsc::UnboundedSender<Change>,
        refresh: Duration,
    ) -> Self {
        Self {
            membership,
            requests,
            subscription,
            activity,
            changes,
            ownership: watch::Sender::new(Ownership::default()),
            refresh,
            refresh_at: clock::now() + refresh,
            is_stalled: false,
            left: None,
            outage: Outage::default(),
            waiting_since: Some(clock::now()),
        }
    }

    /// Who commits for what, as it changes.
    pub(super) fn ownership(&self) -> watch::Receiver<Ownership> {
        self.ownership.subscribe()
    }

    /// Runs until the member has left or the command is gone. A request's task ends without an event when its answer
    /// changes nothing.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>, counts: PartitionCounts) {
        let mut in_flight: JoinSet<Option<Event>> = JoinSet::new();
        let mut event = Some(Event::Topics(counts));
        loop {
            if let Some(event) = event.take()
                && self.handle(event, &mut in_flight).await.is_err()
            {
                return;
            }
            event = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Released) => Some(Event::Released),
                    Some(Command::CommitRefused) => Some(Event::CommitRefused),
                    Some(Command::LookForTopics) => {
                        self.look_for_topics(&mut in_flight);
                        None
                    }
                    Some(Command::Leave(done)) => {
                        self.left = Some(done);
                        Some(Event::Leave)
                    }
                    None => return,
                },
                // Err: it was aborted.
                Some(Ok(event)) = in_flight.join_next() => event,
                () = sleep_until(self.membership.due()) => Some(Event::Due),
                () = sleep_until(Some(self.next_check())) => self.check(&mut in_flight),
            };
        }
    }

    async fn handle(&mut self, event: Event, in_flight: &mut JoinSet<Option<Event>>) -> Result<(), Ended> {
        match &event {
            Event::Synced(Ok(_)) | Event::Heartbeat(Ok(_)) => {
                self.outage.ended();
            }
            Event::Released => self.ownership.send_modify(Ownership::released),
            // A static member sends nothing when it leaves: whatever it waits for, it waits no longer.
            Event::Leave => in_flight.abort_all(),
            Event::Topics(counts) => self.report_deleted(counts),
            _ => {}
        }
        let effects = self.membership.handle(event, clock::now());
        // The identity first: a commit for what is newly assigned is made by the new generation.
        let (member_id, generation) = self.membership.identity();
        self.ownership.send_if_modified(|ownership| ownership.identify(member_id, generation));
        for effect in effects {
            match effect {
                Effect::Left => {
                    // Whoever waits for the member to leave waits for the request to be sent, but not long.
                    let all = async { while in_flight.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(self.requests.cluster.options.settle_limit(), all).await;
                    return Err(Ended);
                }
                effect => self.perform(effect, in_flight)?,
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect, in_flight: &mut JoinSet<Option<Event>>) -> Result<(), Ended> {
        let identity = self.membership.identity();
        let requests = &self.requests;
        match effect {
            Effect::Join => {
                self.waiting_since.get_or_insert_with(clock::now);
                let (owned, topics) = (self.membership.owned().clone(), self.membership.subscribed());
                requests.join(in_flight, identity, owned, topics);
            }
            Effect::CountPartitions(topics) => requests.count_partitions(in_flight, topics),
            Effect::ComputeAssignment { assignor, members, counts } => {
                let platform = requests.cluster.options.platform.clone();
                in_flight.spawn(compute_assignment(platform, assignor, members, counts));
            }
            Effect::Sync(assignments) => {
                requests.sync(in_flight, identity, assignments, self.membership.subscribed());
            }
            Effect::Heartbeat(content) => {
                let (owned, topics) = (self.membership.owned().clone(), self.membership.subscribed());
                requests.heartbeat(in_flight, identity, content, owned, topics);
            }
            Effect::ForgetCoordinator => {
                requests.cluster.forget_coordinator(Coordinated::Group, &requests.config.id);
            }
            Effect::Leave(member_id) => {
                in_flight.abort_all();
                requests.leave(in_flight, member_id);
            }
            Effect::Retry(error) => {
                requests.cluster.options.observer.retried(&error);
                self.outage.failed(&error);
            }
            Effect::Assign(partitions) => {
                self.waiting_since = None;
                let number = self.change(|ownership| ownership.assigned(&partitions));
                return self.tell(Change::Assigned(partitions, number));
            }
            Effect::Revoke(partitions) => {
                self.change(|ownership| ownership.revoking(&partitions));
                return self.tell(Change::Revoking(partitions));
            }
            Effect::Lose(partitions, error) => {
                self.change(|ownership| ownership.lost(&partitions));
                return self.tell(Change::Lost(partitions, error));
            }
            Effect::Fail(error) => return self.tell(Change::Failed(error)),
            Effect::Left => {}
        }
        Ok(())
    }

    fn change<T: Default>(&self, change: impl FnOnce(&mut Ownership) -> T) -> T {
        let mut result = T::default();
        self.ownership.send_modify(|ownership| result = change(ownership));
        result
    }

    fn tell(&self, change: Change) -> Result<(), Ended> {
        self.changes.send(change).map_err(|_| Ended)
    }

    /// When to look at the command, and for new partitions.
    fn next_check(&self) -> Instant {
        let wait = if self.is_stalled {
            STALL_CHECK
        } else {
            self.requests.config.max_poll_interval.saturating_sub(self.activity.idle())
        };
        let waits_long = self.waiting_since.map(|since| since + LONG_WAIT);
        self.refresh_at.min(clock::now() + wait).min(waits_long.unwrap_or(self.refresh_at))
    }

    fn check(&mut self, in_flight: &mut JoinSet<Option<Event>>) -> Option<Event> {
        let is_stalled = self.activity.idle() >= self.requests.config.max_poll_interval;
        if is_stalled != self.is_stalled {
            self.is_stalled = is_stalled;
            return Some(if is_stalled { Event::Stalled } else { Event::Resumed });
        }
        if self.waiting_since.is_some_and(|since| clock::since(since) >= LONG_WAIT) {
            self.waiting_since = None;
            if !self.outage.is_reported() && !self.membership.subscribed().is_empty() {
                let group = &self.requests.config.id;
                tracing::warn!("group {group}: waiting for an assignment: other members may not have rejoined yet");
            }
        }
        if self.refresh_at <= clock::now() {
            self.look_for_topics(in_flight);
        }
        None
    }

    fn look_for_topics(&mut self, in_flight: &mut JoinSet<Option<Event>>) {
        self.refresh_at = clock::now() + self.refresh;
        self.requests.cluster.ask_next();
        self.requests.look_for_topics(in_flight, self.subscription.clone());
    }

    /// Names the topics that have left the subscription.
    fn report_deleted(&self, counts: &PartitionCounts) {
        let before: BTreeSet<Arc<str>> = self.membership.subscribed();
        for topic in before.iter().filter(|topic| !counts.contains_key(*topic)) {
            tracing::warn!("group {}: topic {topic} was deleted; no longer consuming it", self.requests.config.id);
        }
    }
}
