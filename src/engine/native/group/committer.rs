//! Commits a group's offsets from a task on the network thread, so that the command goes on while the coordinator is
//! away.

use super::super::cluster::{Cluster, Coordinated};
use super::super::net::{Outage, clock, sleep_until};
use super::commits::{Commits, Reaction};
use super::offsets::{self, By};
use super::ownership::{AssignmentNumber, Ownership, Written};
use super::{Command, Member};
use crate::engine::{CommitMode, GroupConfig, Offsets};
use crate::error::{Action, Error, ErrorCode, Result, Subject};
use crate::record::TopicPartition;
use kafka_protocol::error::ResponseError as E;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

/// How long the command waits for the answer to a commit that may be finished in the background.
const BACKGROUND_WAIT: Duration = Duration::from_secs(1);

/// Commits for one group, as the command holds it. Dropping it drops what is not committed yet.
#[derive(Debug)]
pub(in super::super) struct Committer {
    group: String,
    commits: Arc<watch::Sender<Commits>>,
    /// Notifies the task of what is to be committed.
    added: Arc<Notify>,
    /// The assignments that were reported to the command.
    told: BTreeMap<TopicPartition, AssignmentNumber>,
    max_lead: u64,
    /// How long a commit is retried before partitions are released.
    release_limit: Duration,
    /// How long it is retried at the end.
    final_limit: Duration,
    task: AbortHandle,
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Committer {
    /// Commits as `member`, or without one for a group that has no members.
    pub(in super::super) fn start(
        cluster: &Arc<Cluster>,
        handle: &Handle,
        config: &GroupConfig,
        member: Option<&Member>,
    ) -> Self {
        let options = &cluster.options;
        // Longer than the membership takes to find out: it then loses the partitions, and goes on.
        let limit = config.max_poll_interval + options.retry_limit();
        let commits = Arc::new(watch::Sender::new(Commits::new(options.retry_backoff, limit)));
        let added = Arc::new(Notify::new());
        let task = Task {
            cluster: cluster.clone(),
            group: config.id.clone(),
            instance_id: config.instance_id.clone(),
            member: member.map(|member| (member.ownership.clone(), member.commands.clone())),
            commits: commits.clone(),
            added: added.clone(),
            outage: Outage::default(),
        };
        Self {
            group: config.id.clone(),
            commits,
            added,
            told: BTreeMap::new(),
            max_lead: config.max_commit_lead,
            release_limit: config.max_poll_interval,
            final_limit: options.retry_limit(),
            task: handle.spawn(task.run()).abort_handle(),
        }
    }

    /// The command is told that it is assigned partitions, and where they begin: what it commits from now on is of this
    /// assignment.
    pub(in super::super) fn assigned(&mut self, begins: &Offsets, number: AssignmentNumber) {
        self.told.extend(begins.keys().map(|of| (of.clone(), number)));
        self.commits.send_modify(|commits| commits.assigned(begins, number));
        self.added.notify_one(); // what ended with the earlier assignment is dropped
    }

    /// Hands over `written`; returns what of it is committed by now. What is missing is retried in the background, or
    /// is no longer this member's to commit.
    ///
    /// # Errors
    /// No commit can succeed any more; with [`CommitMode::Final`] also when it was not answered in time, or when a
    /// partition was refused.
    pub(in super::super) async fn commit(&self, written: &Offsets, mode: CommitMode) -> Result<Offsets> {
        let number = |of: &TopicPartition| self.told.get(of).copied().unwrap_or_default();
        let written: Written = written.iter().map(|(of, at)| (of.clone(), (*at, number(of)))).collect();
        self.commits.send_modify(|commits| commits.add(written.clone()));
        self.added.notify_one();
        let mut progress = self.commits.subscribe();
        let is_done = |commits: &Commits| {
            let gives_way = mode == CommitMode::Background && commits.failing().is_some();
            commits.is_settled() || commits.over().is_some() || gives_way
        };
        let limit = match mode {
            CommitMode::Background => BACKGROUND_WAIT,
            CommitMode::BeforeRelease => self.release_limit,
            CommitMode::Final => self.final_limit,
        };
        // Err: it goes on in the background.
        let _ = tokio::time::timeout(limit, progress.wait_for(is_done)).await.map(drop);
        let commits = self.commits.borrow();
        if let Some(error) = commits.over() {
            return Err(error.clone());
        }
        if mode == CommitMode::Final {
            let action = Action::CommitOffsets;
            if !commits.is_settled() {
                let subject = offsets::subject(&self.group, &super::ownership::positions(&written));
                let last = commits.failing().map_or(Error::NotTaken, |(_, error)| error.clone());
                return Err(last.during(action, subject));
            }
            // What a topic that was deleted kept is of no use any more.
            if let Some((of, offset, code)) =
                commits.refusal(&written).filter(|(_, _, code)| *code != E::UnknownTopicOrPartition)
            {
                let subject = Subject::GroupPartitions { group: self.group.clone(), partitions: vec![(of, offset)] };
                return Err(Error::kafka(action, subject, code));
            }
        }
        Ok(commits.committed(&written))
    }

    /// Whether so much is written and not committed that the command should write no more.
    pub(in super::super) fn is_ahead(&self) -> bool {
        let commits = self.commits.borrow();
        commits.over().is_none() && commits.lead() > self.max_lead
    }

    /// Waits while [`Committer::is_ahead`], until `deadline`.
    pub(in super::super) async fn catch_up(&self, deadline: Instant) {
        let mut progress = self.commits.subscribe();
        let is_near = |commits: &Commits| commits.over().is_some() || commits.lead() <= self.max_lead;
        // Err: the deadline came first.
        let _ = tokio::time::timeout_at(deadline.into(), progress.wait_for(is_near)).await.map(drop);
    }
}

/// The task that sends the commits, one at a time.
struct Task {
    cluster: Arc<Cluster>,
    group: String,
    instance_id: Option<String>,
    member: Option<(watch::Receiver<Ownership>, mpsc::UnboundedSender<Command>)>,
    commits: Arc<watch::Sender<Commits>>,
    added: Arc<Notify>,
    outage: Outage,
}

impl Task {
    async fn run(mut self) {
        loop {
            sleep_until(Some(self.next_due().await)).await;
            let (mut offsets, mut identity) = (Offsets::new(), None);
            self.commits.send_modify(|commits| {
                let ownership = self.member.as_ref().map(|(ownership, _)| ownership.borrow());
                identity = ownership.as_ref().map(|by| (by.member_id.clone(), by.generation));
                offsets = commits.begin(ownership.as_deref());
            });
            if offsets.is_empty() {
                continue;
            }
            let instance = self.instance_id.as_deref();
            let by = identity.as_ref().map(|(id, generation)| By { id, instance, generation: *generation });
            let answers = offsets::commit_once(&self.cluster, &self.group, by, &offsets).await;
            match &answers {
                Ok(_) => drop(self.outage.ended()),
                Err(error) => {
                    self.outage.failed(error);
                    self.cluster.options.observer.commit_failed(error);
                }
            }
            let mut reaction = Reaction::default();
            let now = clock::now();
            self.commits.send_modify(|commits| {
                reaction = commits.answered(answers, identity.is_some(), now);
            });
            self.react(reaction);
        }
    }

    /// When something is to be committed next; waits for it where nothing is.
    async fn next_due(&self) -> Instant {
        loop {
            let due = self.commits.borrow().due(clock::now());
            match due {
                Some(due) => return due,
                None => self.added.notified().await,
            }
        }
    }

    fn react(&self, reaction: Reaction) {
        if reaction.forget_coordinator {
            self.cluster.forget_coordinator(Coordinated::Group, &self.group);
        }
        if reaction.is_rebalance
            && let Some((_, commands)) = &self.member
        {
            let _ = commands.send(Command::CommitRefused); // Err: the membership has ended
        }
        for (partition, code) in reaction.refused {
            if code == E::UnknownTopicOrPartition
                && let Some((_, commands)) = &self.member
            {
                tracing::info!(group = self.group, %partition, error = code.name(), "the commit was refused");
                let _ = commands.send(Command::LookForTopics); // Err: the membership has ended
            } else {
                let subject = Subject::GroupPartition { group: self.group.clone(), partition };
                let error = Error::kafka(Action::CommitOffsets, subject, code);
                tracing::warn!("{error}; the other partitions are not affected");
            }
        }
    }
}
