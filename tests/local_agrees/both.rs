//! A sequence of requests to a real broker and to `kpipe local`: all differences are shown together.

use super::{LOADING, Pair};
use crate::support::Wire;
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;
use std::fmt::Debug;
use uuid::Uuid;

/// CONCURRENT_TRANSACTIONS: a real broker writes the markers of a transaction after EndTxn is answered.
pub const CONCURRENT: i16 = 51;

/// One of the two clusters, and what a producer has there.
pub struct One {
    pub wire: Wire,
    pub topic_id: Uuid,
    pub producer_id: i64,
    pub epoch: i16,
}

pub struct Both {
    pub real: One,
    pub ours: One,
    pub topic: String,
    differences: Vec<String>,
    _clusters: [std::sync::Arc<crate::support::Cluster>; 2],
}

impl Both {
    pub fn new() -> Self {
        let Pair { real, ours, topic, _clusters } = Pair::new();
        let one = |side: super::Side| One { wire: side.wire, topic_id: side.id, producer_id: -1, epoch: -1 };
        Self { real: one(real), ours: one(ours), topic, differences: Vec::new(), _clusters }
    }

    /// Sends the same request to both; `blank` removes from the responses what may differ. Returns both responses.
    pub fn ask<R: Request>(
        &mut self,
        step: &str,
        version: i16,
        make: impl Fn(&One) -> R,
        blank: impl Fn(&mut R::Response),
    ) -> [R::Response; 2]
    where
        R::Response: PartialEq + Debug + Clone,
    {
        let real = self.real.wire.ask(&make(&self.real), version);
        let ours = self.ours.wire.ask(&make(&self.ours), version);
        let (mut theirs, mut shown) = (real.clone(), ours.clone());
        blank(&mut theirs);
        blank(&mut shown);
        if theirs != shown {
            let api = ApiKey::try_from(R::KEY).unwrap();
            let (kafka, local) = (format!("{theirs:#?}"), format!("{shown:#?}"));
            let lines = kafka.lines().zip(local.lines()).filter(|(a, b)| a != b).take(8);
            let lines: Vec<_> = lines.map(|(a, b)| format!("    {} | {}", a.trim(), b.trim())).collect();
            self.differences.push(format!("{step}: {api:?} v{version}, Kafka | kpipe local\n{}", lines.join("\n")));
        }
        [real, ours]
    }

    /// Repeats a request to the real broker until it answers with no passing error.
    pub fn settle<R: Request>(&mut self, version: i16, make: impl Fn(&One) -> R, code: impl Fn(&R::Response) -> i16) {
        crate::support::wait_until("the coordinator", || {
            let code = code(&self.real.wire.ask(&make(&self.real), version));
            !LOADING.contains(&code) && code != CONCURRENT
        });
    }

    pub fn agree(self) {
        assert!(self.differences.is_empty(), "\n{}", self.differences.join("\n"));
    }
}

/// Keeps only the size of records: timestamps and producer IDs in them differ.
pub fn blank_records(records: &mut Option<Bytes>) {
    *records = records.as_ref().map(|records| vec![0; records.len()].into());
}
