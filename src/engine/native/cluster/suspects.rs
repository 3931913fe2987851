//! Brokers that went silent: when the others say that one has left the cluster, its connections are closed, so that
//! what waits there fails at once and follows the leaders that moved.

use super::{Cluster, Slot};
use crate::engine::native::net::{Backoff, Connection};
use crate::error::Error;
use std::collections::HashSet;
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
            match cluster.listed_brokers().await {
                Ok(listed) => close_those_gone(&suspects, &listed),
                Err(error) => tracing::info!(error_name = error.name(), %error, "cannot ask about a silent broker"),
            }
            drop(cluster);
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

fn close_those_gone(suspects: &[(i32, Arc<Connection>)], listed: &HashSet<i32>) {
    for (id, connection) in suspects.iter().filter(|(id, _)| !listed.contains(id)) {
        tracing::info!(broker = id, "the silent broker has left the cluster");
        connection.close(Error::UnknownBroker(crate::record::BrokerId(*id)));
    }
}

impl Cluster {
    /// The connections that are suspect, by broker.
    fn suspects(&self) -> Vec<(i32, Arc<Connection>)> {
        let slots: Vec<(i32, Slot)> =
            self.state().slots.iter().map(|((broker, _), slot)| (*broker, slot.clone())).collect();
        let open = |slot: &Slot| slot.try_lock().ok().and_then(|slot| slot.clone());
        let suspect = |connection: &Arc<Connection>| connection.is_open() && connection.is_suspect();
        slots.into_iter().filter_map(|(broker, slot)| Some((broker, open(&slot).filter(suspect)?))).collect()
    }

    /// The brokers that the cluster has now, as one that is not suspect lists them; none when it lists nobody.
    async fn listed_brokers(&self) -> crate::error::Result<HashSet<i32>> {
        let response = self.nodes().await?;
        Ok(response.brokers.iter().map(|broker| broker.node_id.0).collect())
    }
}
