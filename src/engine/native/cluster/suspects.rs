//! Brokers that went silent. The others are asked for the leaders: when partitions have moved away from a silent broker,
//! or it has left the cluster, its connections are closed, so that what waits there fails at once and follows.

use super::{Cluster, Slot};
use crate::engine::native::net::{Backoff, Connection};
use crate::error::{Error, Result};
use crate::record::BrokerId;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// Runs until the cluster is dropped.
pub(super) async fn watch(cluster: Weak<Cluster>, suspected: Arc<Notify>) {
    loop {
        suspected.notified().await;
        let Some(known) = cluster.upgrade() else { return };
        let mut backoff = Backoff::new(known.options.retry_backoff);
        drop(known);
        loop {
            let Some(cluster) = cluster.upgrade() else { return };
            let suspects = cluster.suspects();
            if suspects.is_empty() {
                break;
            }
            let addresses = suspects.iter().map(|(_, connection)| connection.node().address.clone());
            cluster.state().note_silent(addresses);
            if let Err(error) = cluster.close_those_gone(&suspects).await {
                tracing::info!(error_name = error.name(), %error, "cannot ask about a silent broker");
            }
            drop(cluster);
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

impl Cluster {
    /// The connections that are suspect, by broker.
    fn suspects(&self) -> Vec<(BrokerId, Arc<Connection>)> {
        let slots: Vec<(BrokerId, Slot)> =
            self.state().slots.iter().map(|((broker, _), slot)| (*broker, slot.clone())).collect();
        let open = |slot: &Slot| slot.try_lock().ok().and_then(|slot| slot.clone());
        let suspect = |connection: &Arc<Connection>| connection.is_open() && connection.is_suspect();
        slots.into_iter().filter_map(|(broker, slot)| Some((broker, open(&slot).filter(suspect)?))).collect()
    }

    /// Asks the other brokers, and closes the connections that nobody should wait on any more.
    async fn close_those_gone(&self, suspects: &[(BrokerId, Arc<Connection>)]) -> Result<()> {
        let listed: BTreeSet<BrokerId> = self.brokers().await?.into_iter().collect();
        let led =
            |leaders: &[Option<BrokerId>]| leaders.iter().flatten().any(|id| suspects.iter().any(|(of, _)| of == id));
        let topics: BTreeSet<Arc<str>> = {
            let state = self.state();
            state.leaders.iter().filter(|(_, leaders)| led(leaders)).map(|(topic, _)| topic.clone()).collect()
        };
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        if !topics.is_empty() {
            self.metadata(Some(&topics), false).await?;
        }
        for (id, connection) in suspects {
            let left_at = self.state().left_at.get(id).copied();
            let has_left = left_at.is_some_and(|at| at > connection.last_progress());
            if has_left || !listed.contains(id) {
                tracing::info!(broker = %id, "leaders have moved away from the silent broker");
                connection.close(Error::UnknownBroker(*id));
            }
        }
        Ok(())
    }
}
