//! The event loop of reading: questions and fetches are tasks whose answers are events, so that no broker is waited for
//! while anything else happens. What to do next is for [`Positions`] to say; one fetch is on its way to each broker,
//! ahead of what was handled, within the memory budget.

mod metadata;
mod records;

use super::super::cluster::{Cluster, Described, Lane, TopicAnswer};
use super::super::group::{AssignmentNumber, Change};
use super::super::net::{Sender, backoff, clock, sleep_until};
use super::answers::may_pass;
use super::assignments::Assignments;
use super::bounds::{self, Bounds, ByPartition};
use super::budget::Budget;
use super::decoding::{Decoded, Decoding};
use super::fetch::{self, Limits};
use super::losses::{Handled, Losses};
use super::positions::{AssignmentId, Lookup, Plan, Positions, Question, Stage};
use super::start;
use crate::engine::{ConsumerConfig, Offsets, Start, Subscription, out_of_range};
use crate::error::{Action, Error, Result};
use crate::record::{Offset, Position, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchResponse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A reader with an end gives up on a partition that fails this long; a tail continues to retry.
const OUTAGE_LIMIT: Duration = Duration::from_secs(60);
/// A member of a group that has no partition for this long says so.
const EMPTY_WAIT: Duration = Duration::from_secs(3);
/// A report names so many partitions.
const MOST_NAMED: usize = 5;

/// What the fetcher hands to the command.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Records.
    Decoded(Decoded),
    /// Records that are still being unpacked; waiting for them here keeps the order.
    Decoding(Decoding),
    /// Every partition is at its end.
    End,
    /// Fetching cannot continue.
    Failed(Error),
    /// There is news elsewhere: a signal, or an event about partitions.
    Woken,
}

/// What a task that the fetcher started came back with.
enum Event {
    Leaders(Result<Described>),
    Begins(Question, ByPartition<Lookup>),
    Bounds(Question, ByPartition<Bounds>),
    /// The answer, and how long it took.
    Fetched(Plan, Result<FetchResponse>, Duration),
}

/// Why the loop ends: the consumer is gone, or was told that fetching failed.
struct Ended;

/// When to look again if nothing happens before.
struct Next {
    due: Instant,
    /// Whether that is also when memory becomes free.
    is_full: bool,
}

/// What the fetcher works with.
pub(super) struct Setup {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: ConsumerConfig,
    pub(super) budget: Arc<Budget>,
    pub(super) assignments: Arc<Assignments>,
    pub(super) deliver: Sender<Delivery>,
}

pub(super) struct Fetcher {
    cluster: Arc<Cluster>,
    config: ConsumerConfig,
    budget: Arc<Budget>,
    assignments: Arc<Assignments>,
    deliver: Sender<Delivery>,
    /// How many deliveries there were that are unpacked in steps.
    deliveries: u64,
    positions: Positions,
    /// Whether a group assigns the partitions.
    is_member: bool,
    /// The group's number of each assignment.
    numbers: BTreeMap<AssignmentId, AssignmentNumber>,
    losses: Losses,
    /// Partitions that were found by this reader itself.
    known: BTreeSet<TopicPartition>,
    events: JoinSet<Event>,
    is_looking: bool,
    /// Whether leaders were looked up before.
    has_looked: bool,
    /// When leaders are looked up next, whether or not anything fails.
    look_at: Instant,
    /// When to report that this member has nothing to read.
    empty_since: Option<Instant>,
    has_ended: bool,
}

impl Fetcher {
    /// Fetches `partitions`, and what a group assigns when there are none.
    pub(super) fn new(setup: Setup, partitions: Option<Vec<TopicPartition>>) -> Self {
        let Setup { cluster, config, budget, assignments, deliver } = setup;
        let now = clock::now();
        let mut fetcher = Self {
            cluster,
            budget,
            assignments,
            deliver,
            deliveries: 0,
            positions: Positions::default(),
            is_member: partitions.is_none(),
            numbers: BTreeMap::new(),
            losses: Losses::default(),
            known: BTreeSet::new(),
            events: JoinSet::new(),
            is_looking: false,
            has_looked: false,
            look_at: now + config.refresh,
            empty_since: None,
            has_ended: false,
            config,
        };
        for of in partitions.into_iter().flatten() {
            fetcher.positions.add(of.clone(), fetcher.config.start, now);
            fetcher.known.insert(of);
        }
        fetcher
    }

    /// Fetches until fetching fails for good, or the consumer is dropped.
    pub(super) async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<Change>,
        mut handled: mpsc::UnboundedReceiver<Handled>,
    ) {
        let mut is_member = self.is_member;
        if !is_member && self.positions.is_empty() && self.on_unmatched().is_err() {
            return;
        }
        loop {
            let budget = self.budget.clone();
            let changed = budget.changed();
            let Ok(Next { due, is_full }) = self.act(clock::now()) else { return };
            let done = tokio::select! {
                biased;
                change = changes.recv(), if is_member => match change {
                    Some(change) => self.on_change(change),
                    None => {
                        is_member = false;
                        Ok(())
                    }
                },
                Some(loss) = handled.recv() => {
                    self.on_handled(loss);
                    Ok(())
                }
                // Err: the task was cancelled, which only happens when the runtime ends.
                Some(Ok(event)) = self.events.join_next() => self.on_event(event),
                () = changed, if is_full => Ok(()),
                () = sleep_until(Some(due)) => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Does what can be done now.
    fn act(&mut self, now: Instant) -> Result<Next, Ended> {
        self.announce(now)?;
        self.assignments.set_impaired(self.positions.is_impaired());
        self.report(now);
        self.end(now)?;
        if now >= self.look_at || self.positions.needs_leaders(now) {
            self.look_up();
        }
        for question in self.positions.questions(now) {
            self.ask(question);
        }
        let room = self.budget.room();
        if room > 0 {
            // Not all of the budget: a few responses of some MB find the memory of earlier ones, which large ones do
            // not. Nor less, unless many brokers may answer at once: a full budget is not refilled a record at a time.
            let response = (self.config.fetch_ahead / self.positions.sources(now).max(4)).max(1);
            for plan in self.positions.plan(now, response, self.config.fetch_bytes) {
                self.fetch(plan, response);
            }
        }
        let look_at = (!self.is_looking).then_some(self.look_at);
        let due = self.positions.next_due(now).into_iter().chain(self.empty_since).chain(look_at).min();
        Ok(Next { due: due.unwrap_or(now + self.config.refresh), is_full: room == 0 })
    }

    fn send(&self, delivery: Delivery) -> Result<(), Ended> {
        self.deliver.send(delivery).map_err(|_| Ended)
    }

    fn fail(&self, error: Error) -> Result<(), Ended> {
        self.send(Delivery::Failed(error)).and(Err(Ended))
    }

    /// Tells the command where partitions begin; from then on they are fetched.
    fn announce(&mut self, now: Instant) -> Result<(), Ended> {
        let announced = self.positions.announce(now);
        if announced.is_empty() {
            return Ok(());
        }
        let mut begins: BTreeMap<AssignmentNumber, Offsets> = BTreeMap::new();
        for (id, is_restarted) in &announced {
            let Some(target) = self.positions.target(*id) else { continue };
            let position = Position { offset: target.position, leader_epoch: target.last_epoch };
            if *is_restarted {
                self.send(Delivery::Decoded(self.moved(*id, &target.of, position)))?;
            } else if self.config.group.is_some() {
                let number = self.numbers.get(id).copied().unwrap_or_default();
                begins.entry(number).or_default().insert(target.of.clone(), position);
            }
        }
        self.assignments.begin(announced.into_iter().map(|(id, _)| id));
        for (number, begins) in begins {
            self.assignments.assign(begins, number);
        }
        self.has_ended = false;
        self.send(Delivery::Woken)
    }

    /// One line when a problem has begun to last, and one when records wait for a transaction.
    fn report(&mut self, now: Instant) {
        let troubles = self.positions.lasting_troubles(now);
        if let Some((_, error)) = troubles.first() {
            let partitions = named(troubles.iter().map(|(of, _)| of.to_string()));
            tracing::warn!(error_name = error.name(), %error, "cannot read {partitions}; retrying");
        }
        let held_back = self.positions.held_back(now);
        if !held_back.is_empty() {
            let each = named(held_back.iter().map(|(of, records)| format!("up to {records} of {of}")));
            tracing::warn!(
                "records are held back by an open transaction: {each} (see `kpipe cluster transactions find-hanging`)"
            );
        }
        if let Some(group) = self.config.group.as_ref().filter(|_| self.empty_since.is_some_and(|at| at <= now)) {
            self.empty_since = None;
            tracing::warn!(
                "group {}: no partitions assigned: all are assigned to other members (those of a failed member are released after its session timeout, {:?})",
                group.id,
                group.session_timeout
            );
        }
    }

    /// Ends a reader that has an end: there, or when the rest cannot be read.
    fn end(&mut self, now: Instant) -> Result<(), Ended> {
        if !self.config.stop_at_end || self.has_ended || (self.is_member && self.positions.is_empty()) {
            return Ok(());
        }
        if self.positions.ended() {
            self.has_ended = true;
            return self.send(Delivery::End);
        }
        let first_limit = self.cluster.options.request_timeout.saturating_mul(4);
        let limit = |has_begun| if has_begun { OUTAGE_LIMIT } else { first_limit };
        match self.positions.unreadable(now, limit) {
            Some(failed) => self.fail(unread(failed)),
            None => Ok(()),
        }
    }

    /// Asks a leader where partitions begin, or whether positions lie in their logs.
    fn ask(&mut self, question: Question) {
        let (cluster, config) = (self.cluster.clone(), self.config.clone());
        let target = |(id, stage): &(AssignmentId, Stage)| Some((self.positions.target(*id)?.clone(), *stage));
        let targets: Vec<_> = question.partitions.iter().filter_map(target).collect();
        let begins: Vec<_> = targets
            .iter()
            .filter_map(|(target, stage)| match stage {
                Stage::Begins(start) => Some((target.clone(), *start)),
                Stage::Checks | Stage::Reads => None,
            })
            .collect();
        let checks: Vec<TopicPartition> =
            targets.into_iter().filter_map(|(target, stage)| (stage == Stage::Checks).then_some(target.of)).collect();
        if !begins.is_empty() {
            let (cluster, config, question) = (cluster.clone(), config.clone(), question.clone());
            self.events.spawn(async move {
                let begins = start::begin(&cluster, &config, question.leader, &begins).await;
                Event::Begins(question, begins)
            });
        }
        if !checks.is_empty() {
            self.events.spawn(async move {
                let bounds = match bounds::ask(&cluster, question.leader, &checks, config.isolation).await {
                    Ok(bounds) => bounds,
                    Err(error) => checks.into_iter().map(|of| (of, Err(error.clone()))).collect(),
                };
                Event::Bounds(question, bounds)
            });
        }
    }

    fn fetch(&mut self, plan: Plan, response: usize) {
        let limits = Limits {
            isolation: self.config.isolation,
            response,
            partition: plan.share,
            least: self.config.fetch_min_bytes,
            wait: self.config.fetch_wait,
        };
        let request = fetch::request(plan.partitions.iter().filter_map(|id| self.positions.target(*id)), limits);
        let cluster = self.cluster.clone();
        let rack = self.config.rack.clone().filter(|_| plan.may_follow);
        self.events.spawn(async move {
            let since = clock::now();
            let response = fetch::send(&cluster, plan.broker, Lane::Fetch, request, rack).await;
            Event::Fetched(plan, response, clock::since(since))
        });
    }

    /// What the group assigns is looked up; what it revokes is released at once.
    fn on_change(&mut self, change: Change) -> Result<(), Ended> {
        match change {
            Change::Assigned(partitions, number) => {
                let is_new = !partitions.is_empty();
                for of in self.losses.assigned(partitions, number) {
                    self.begin(of, number);
                }
                self.has_ended = false;
                self.empty_since = (!is_new && self.positions.is_empty()).then(|| clock::now() + EMPTY_WAIT);
                if is_new {
                    return Ok(());
                }
                self.assignments.assign(Offsets::new(), number);
            }
            Change::Revoking(partitions) => {
                partitions.iter().for_each(|of| self.losses.revoked(of));
                let ids = self.remove(&partitions);
                self.assignments.revoke(&ids, partitions.into_iter().collect());
            }
            Change::Lost(partitions, error) => {
                for target in self.positions.ids().into_iter().filter_map(|id| self.positions.target(id)) {
                    if partitions.contains(&target.of) {
                        self.losses.lost(target.of.clone(), target.topic_id);
                    }
                }
                // Those that wait for an earlier loss to be handled have no position.
                partitions.iter().for_each(|of| self.losses.revoked(of));
                let ids = self.remove(&partitions);
                self.assignments.lose(&ids, partitions.into_iter().collect(), error);
            }
            Change::Unmatched => return self.on_unmatched(),
            Change::Failed(error) => return self.fail(error),
        }
        self.send(Delivery::Woken)
    }

    /// No topic matches the pattern: a reader with an end is there.
    fn on_unmatched(&mut self) -> Result<(), Ended> {
        let Subscription::Pattern(pattern) = &self.config.subscription else { return Ok(()) };
        if self.config.stop_at_end {
            tracing::warn!("no topic matches {pattern}");
            self.has_ended = true;
            return self.send(Delivery::End);
        }
        tracing::warn!("no topic matches {pattern}; waiting for one to be created");
        Ok(())
    }

    /// Begins a partition that the group assigns.
    fn begin(&mut self, of: TopicPartition, number: AssignmentNumber) {
        let id = self.positions.add(of, self.config.start, clock::now());
        self.numbers.insert(id, number);
    }

    /// The command has handled a loss: what was assigned again since begins behind what it has written.
    fn on_handled(&mut self, loss: Handled) {
        for (of, number) in self.losses.handled(loss) {
            self.begin(of, number);
        }
    }

    fn remove(&mut self, partitions: &BTreeSet<TopicPartition>) -> Vec<AssignmentId> {
        let ids = self.positions.remove(|of| partitions.contains(of));
        ids.iter().for_each(|id| {
            self.numbers.remove(id);
        });
        ids
    }

    fn on_event(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Leaders(topics) => self.on_leaders(topics),
            Event::Begins(question, begins) => self.on_begins(&question, begins),
            Event::Bounds(question, bounds) => self.on_bounds(&question, bounds),
            Event::Fetched(plan, response, took) => self.on_fetched(&plan, response, took),
        }
    }

    fn on_begins(&mut self, question: &Question, mut begins: ByPartition<Lookup>) -> Result<(), Ended> {
        for (id, _) in &question.partitions {
            let Some(target) = self.positions.awaiting(*id, question.request) else { continue };
            match begins.remove(&target.of) {
                Some(Ok(Lookup::Behind(epoch))) => {
                    let error = Error::kafka(Action::LookUp, &target.of, ResponseError::UnknownLeaderEpoch);
                    self.positions.behind(*id, epoch);
                    self.failed(*id, error)?;
                }
                Some(Ok(Lookup::Begin(begin))) => {
                    let (of, topic_id) = (target.of.clone(), target.topic_id);
                    // What was written before is of the topic that was deleted.
                    let is_another = target.is_recreated && topic_id.is_nil();
                    let resumed = self.losses.resumed(&of, topic_id, begin);
                    self.positions.begin(*id, if is_another { begin } else { resumed });
                }
                Some(Err(error)) => self.failed(*id, error)?,
                None => {}
            }
        }
        Ok(())
    }

    /// A position that a broker found outside of its log is believed to be there only if the leader's bounds say so.
    fn on_bounds(&mut self, question: &Question, mut bounds: ByPartition<Bounds>) -> Result<(), Ended> {
        for (id, _) in &question.partitions {
            let Some(target) = self.positions.awaiting(*id, question.request) else { continue };
            let Some(found) = bounds.remove(&target.of) else { continue };
            let (of, position, is_without_id) = (target.of.clone(), target.position, target.topic_id.is_nil());
            match found {
                Err(error) => self.failed(*id, error)?,
                Ok(bounds) if self.positions.shorten(*id, bounds.reachable) => {}
                Ok(bounds) => {
                    let error = out_of_range(&of, position, bounds.first, bounds.end);
                    if (bounds.first..=bounds.end).contains(&position) {
                        self.positions.checked(*id);
                        self.retry(*id, error);
                    } else if self.config.group.is_none() && is_without_id && position > bounds.end {
                        // Nothing tells a log that was truncated from that of another topic; so nothing is skipped.
                        let start = self.restart();
                        tracing::warn!(
                            "{error}: the topic was created again or its log was truncated; reading from {start}"
                        );
                        self.positions.restart(*id, start);
                    } else if self.config.group.is_none() {
                        return self.fail(error);
                    } else {
                        let resume = self.resume_at(position, &bounds);
                        tracing::warn!("{error}; resuming at {resume}");
                        self.positions.reset(*id, Position { offset: resume, leader_epoch: None });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a group continues whose position is gone, as it does at its start.
    fn resume_at(&self, position: Offset, bounds: &Bounds) -> Offset {
        let is_at_end = position >= bounds.first && self.config.fallback == Start::End;
        if is_at_end { bounds.reachable } else { bounds.first }
    }

    /// A failure of one partition: it is retried, unless nothing mends it.
    fn failed(&mut self, id: AssignmentId, error: Error) -> Result<(), Ended> {
        let may_pass = error.code().map_or(error.is_transient(), may_pass);
        if !may_pass {
            return self.fail(error);
        }
        self.retry(id, error);
        Ok(())
    }

    fn retry(&mut self, id: AssignmentId, error: Error) {
        self.cluster.options.observer.retried(&error);
        tracing::info!(error_name = error.name(), %error, "looking for the leader");
        let wait = backoff(self.cluster.options.retry_backoff, self.positions.attempts(id));
        self.positions.failed(id, error, clock::now(), wait);
    }
}

fn unread(failed: Vec<(TopicPartition, Error)>) -> Error {
    let last = failed.last().map_or(Error::NotTaken, |(_, error)| error.clone());
    Error::Unread { partitions: failed.into_iter().map(|(of, _)| of).collect(), last: Box::new(last) }
}

/// The first of `each`, and how many more there are.
fn named(each: impl ExactSizeIterator<Item = String>) -> String {
    let more = each.len().saturating_sub(MOST_NAMED);
    let first = each.take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
