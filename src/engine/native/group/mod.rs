//! Membership in a consumer group: state machines that know what a member has to do, and the tasks that do it.
//!
//! The tasks live on the network thread, so that heartbeats and commits go on while stdout blocks. What a member is
//! assigned, and what it has to release, comes as [`Change`]s; the command answers through [`Member`], and commits
//! through [`Committer`].

pub(super) mod assignors;
mod classic;
mod commits;
mod committer;
mod kip848;
mod membership;
pub(super) mod messages;
pub(super) mod offsets;
mod ownership;
mod requests;
mod task;

use crate::engine::native::net::clock;
pub(super) use committer::Committer;
pub use messages::{read_assignment, read_subscription};
pub(super) use ownership::AssignmentNumber;
use requests::partition_counts;

use super::cluster::Cluster;
use crate::engine::{GroupConfig, GroupProtocol, Subscription};
use crate::error::{Action, Error, Result, Subject};
use crate::record::TopicPartition;
use classic::Classic;
use kafka_protocol::error::ResponseError as E;
use kip848::Kip848;
use membership::{MemberConfig, Membership};
use ownership::Ownership;
use requests::{Protocol, Requests};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use task::Task;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// A change of what a member reads, in the order in which the changes happen. A later one of a partition overrides an
/// earlier one, also where the earlier one is still waiting to be acted upon.
#[derive(Debug)]
pub(super) enum Change {
    /// These are to be read from now on; none is a change too.
    Assigned(BTreeSet<TopicPartition>, AssignmentNumber),
    /// These are to be released: written, committed, and then [`Member::released`].
    Revoking(BTreeSet<TopicPartition>),
    /// These may be others' by now: nothing can be committed for them.
    Lost(BTreeSet<TopicPartition>, Error),
    /// No topic matches the subscription, at the start.
    Unmatched,
    /// The membership has ended.
    Failed(Error),
}

/// What the command orders.
#[derive(Debug)]
enum Command {
    Released,
    LookForTopics,
    /// A commit was refused, for the group rebalances.
    CommitRefused,
    Leave(oneshot::Sender<()>),
}

/// When the command last took a record.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Milliseconds since `began`, and one; 0 while the command waits for records.
    busy_since: AtomicU64,
}

impl Activity {
    /// How long the command has been at work without taking a record.
    fn idle(&self) -> Duration {
        match self.busy_since.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => clock::since(self.began).saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

/// A membership, as the command holds it.
#[derive(Debug)]
pub(super) struct Member {
    commands: mpsc::UnboundedSender<Command>,
    activity: Arc<Activity>,
    ownership: watch::Receiver<Ownership>,
}

impl Member {
    /// Joins `config`'s group; `changes` receives what happens then.
    ///
    /// # Errors
    /// A topic does not exist, or the brokers do not support the protocol.
    pub(super) async fn join(
        cluster: &Arc<Cluster>,
        handle: &Handle,
        config: &GroupConfig,
        rack: Option<String>,
        subscription: Subscription,
        refresh: Duration,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Result<Self> {
        let protocol = protocol(cluster, config).await?;
        let counts = partition_counts(cluster, &subscription).await?;
        match &subscription {
            Subscription::Topics(names) => {
                if let Some(missing) = names.iter().find(|name| !counts.contains_key(name.as_str())) {
                    let subject = Subject::topic_named(missing);
                    return Err(Error::kafka(Action::LookUp, subject, E::UnknownTopicOrPartition));
                }
            }
            Subscription::Pattern(_) if counts.is_empty() => {
                let _ = changes.send(Change::Unmatched); // Err: the consumer is gone
            }
            Subscription::Pattern(_) => {}
        }
        tracing::info!(group = config.id, ?protocol, "joining");
        let member = MemberConfig {
            group: config.id.clone(),
            instance_id: config.instance_id.clone(),
            session_timeout: config.session_timeout,
            max_poll_interval: config.max_poll_interval,
            heartbeat_interval: config.heartbeat_interval,
            retry: cluster.options.retry_backoff,
        };
        let now = clock::now();
        let membership: Box<dyn Membership> = match protocol {
            Protocol::Kip848 => Box::new(Kip848::new(member, now)),
            Protocol::Classic => Box::new(Classic::new(member, now)),
        };
        let requests = Requests::new(cluster.clone(), config.clone(), rack, protocol);
        let (commands, orders) = mpsc::unbounded_channel();
        let activity = Arc::new(Activity { began: now, busy_since: AtomicU64::new(0) });
        let task = Task::new(membership, requests, subscription, activity.clone(), changes, refresh);
        let ownership = task.ownership();
        handle.spawn(task.run(orders, counts));
        Ok(Self { commands, activity, ownership })
    }

    /// The command has released the revoked partitions.
    pub(super) fn released(&self) {
        let _ = self.commands.send(Command::Released); // Err: the membership has ended
    }

    /// The command has taken a record; or, when it is not busy, waits for more.
    pub(super) fn set_busy(&self, is_busy: bool) {
        let since = if is_busy { clock::since(self.activity.began).as_millis() as u64 + 1 } else { 0 };
        self.activity.busy_since.store(since, Ordering::Release);
    }

    /// Leaves the group.
    pub(super) async fn leave(&self) {
        let (left, done) = oneshot::channel();
        if self.commands.send(Command::Leave(left)).is_ok() {
            let _ = done.await; // Err: the membership has ended
        }
    }
}

/// The protocol that `config` asks for, or that the coordinator has.
async fn protocol(cluster: &Cluster, config: &GroupConfig) -> Result<Protocol> {
    if config.protocol == GroupProtocol::Classic {
        return Ok(Protocol::Classic);
    }
    let is_supported = requests::has_kip848(cluster, &config.id).await?;
    match config.protocol {
        GroupProtocol::Consumer if !is_supported => Err(Error::Usage(
            "--group-protocol consumer: not supported by the brokers (requires Kafka 4.0; use classic)".to_owned(),
        )),
        GroupProtocol::Consumer => Ok(Protocol::Kip848),
        _ if !is_supported || config.classic_only_flag.is_some() => Ok(Protocol::Classic),
        _ if requests::is_live_classic(cluster, &config.id).await? => Ok(Protocol::Classic),
        _ => Ok(Protocol::Kip848),
    }
}
