//! Reads a stretch of a partition's log aside from the fetcher, to find where reading begins or ends.

use super::super::cluster::{Cluster, Lane};
use super::super::wire::Decoder;
use super::answers::{Fetched, Meaning, meaning};
use super::decoding::describe;
use super::fetch::{self, Limits};
use super::positions::Target;
use crate::engine::ConsumerConfig;
use crate::error::{Action, Error, Result, error_code};
use crate::record::{BrokerId, RecordRef};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Where logs are read.
pub(super) struct Log<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) config: &'a ConsumerConfig,
    pub(super) leader: BrokerId,
}

/// Passes the visible records of `target`, from its position to its end, to `visit` until that breaks. Fetches
/// `fetch_bytes` at a time.
pub(super) async fn scan<S: Send + 'static>(
    log: &Log<'_>,
    mut target: Target,
    fetch_bytes: usize,
    mut state: S,
    visit: fn(&mut S, &RecordRef<'_>) -> ControlFlow<()>,
) -> Result<S> {
    let limits = Limits {
        isolation: log.config.isolation,
        response: fetch_bytes,
        partition: fetch_bytes,
        least: 1,
        wait: Duration::ZERO,
    };
    while target.position < target.until {
        let fetched = fetch(log, &target, limits).await?;
        // Nothing is left below the end: compaction took it.
        let Some(next) = fetched.next else { break };
        let (of, max_unpacked) = (target.clone(), log.config.max_unpacked);
        let work = move || visit_all(decoder(max_unpacked, &of, limits, &fetched), of, fetched, state, visit);
        let flow;
        (state, flow) =
            log.cluster.options.platform.run_blocking(work).await.unwrap_or(Err(Error::TaskEnded("decompression")))?;
        if flow.is_break() {
            break;
        }
        target.position = next.offset;
    }
    Ok(state)
}

async fn fetch(log: &Log<'_>, target: &Target, limits: Limits) -> Result<Fetched> {
    let request = fetch::request([target], limits);
    let response = loop {
        let response = fetch::send(log.cluster, log.leader, Lane::Main, request.clone(), None).await?;
        if let Some(code) = error_code(response.error_code) {
            return Err(Error::kafka(Action::Fetch, &target.of, code));
        }
        match fetch::withheld(&response) {
            Some(throttle) => tokio::time::sleep(throttle).await,
            None => break response,
        }
    };
    let data = response.responses.into_iter().flat_map(|topic| topic.partitions).next();
    let data = data.ok_or_else(|| Error::Malformed {
        node: log.cluster.node(log.leader),
        api: ApiKey::Fetch,
        why: format!("{} is missing", target.of),
    })?;
    match meaning(target, &log.cluster.node(log.leader), limits.isolation, data) {
        Meaning::Fetched(fetched) => Ok(fetched),
        Meaning::Retry(error) | Meaning::Fatal(error) => Err(error),
        // Asked again, with the bounds as they are then.
        Meaning::OutOfRange | Meaning::Truncated(_) | Meaning::Follow(_) => {
            Err(Error::kafka(Action::Fetch, &target.of, ResponseError::NotLeaderOrFollower))
        }
    }
}

fn visit_all<S>(
    decoder: Decoder,
    target: Target,
    fetched: Fetched,
    mut state: S,
    visit: fn(&mut S, &RecordRef<'_>) -> ControlFlow<()>,
) -> Result<(S, ControlFlow<()>)> {
    for batch in decoder.batches(fetched.raw) {
        let batch = batch.map_err(|corrupt| describe(&target.of, &corrupt))?;
        for record in batch.records() {
            let record = record.map_err(|malformed| Error::corrupt(target.of.clone(), &malformed))?;
            if visit(&mut state, &record).is_break() {
                return Ok((state, ControlFlow::Break(())));
            }
        }
    }
    Ok((state, ControlFlow::Continue(())))
}

fn decoder(max_unpacked: usize, target: &Target, limits: Limits, fetched: &Fetched) -> Decoder {
    Decoder {
        topic: target.of.topic.clone(),
        partition: target.of.partition,
        from: target.position,
        until: target.until,
        isolation: limits.isolation,
        aborted: fetched.aborted.clone(),
        max_unpacked,
    }
}
