//! Where the last N visible records of a partition begin. Offsets do not count records: compaction removes some,
//! transactions take some for markers, and aborted ones are not visible. So the log is read backward in growing steps.

use super::super::cluster::{Cluster, Lane};
use super::super::wire::Decoder;
use super::answers::{Fetched, Meaning, meaning};
use super::bounds::Bounds;
use super::decoding::describe;
use super::fetch::{self, Limits};
use super::positions::Target;
use crate::engine::ConsumerConfig;
use crate::error::{Action, Error, Result, error_code};
use crate::record::{BrokerId, Offset};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The first step reads at least so many offsets.
const FIRST_STEP: Offset = 64;
/// Each step is so many times as long as the one before.
const GROWTH: Offset = 4;
/// Bytes of a fetch.
const FETCH_BYTES: usize = 1 << 20;

/// The offset of the `count`th last record before `bounds.reachable` that this reader sees; the first offset when there
/// are no more.
pub(super) async fn find(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    target: &Target,
    count: u64,
    bounds: &Bounds,
) -> Result<Offset> {
    let mut missing = usize::try_from(count).unwrap_or(usize::MAX);
    let mut end = bounds.reachable;
    let mut step = Offset::try_from(count).unwrap_or(Offset::MAX).max(FIRST_STEP);
    while missing > 0 && end > bounds.first {
        let start = end.saturating_sub(step).max(bounds.first);
        // More offsets than there are: all of it, whatever is visible.
        if start == bounds.first && Offset::try_from(missing).is_ok_and(|missing| missing >= end - start) {
            return Ok(start);
        }
        let target = Target { position: start, until: end, last_epoch: None, ..target.clone() };
        let offsets = last_visible(cluster, config, leader, target, missing).await?;
        if offsets.len() == missing {
            return Ok(offsets.front().copied().unwrap_or(end));
        }
        missing -= offsets.len();
        end = start;
        step = step.saturating_mul(GROWTH);
    }
    Ok(end)
}

/// The offsets of the last `most` visible records of `target`, from its position to its end.
async fn last_visible(
    cluster: &Arc<Cluster>,
    config: &ConsumerConfig,
    leader: BrokerId,
    mut target: Target,
    most: usize,
) -> Result<VecDeque<Offset>> {
    let mut offsets = VecDeque::new();
    let limits = Limits {
        isolation: config.isolation,
        response: FETCH_BYTES,
        partition: FETCH_BYTES,
        least: 1,
        wait: Duration::ZERO,
    };
    while target.position < target.until {
        let request = fetch::request([&target], limits);
        let response = fetch::send(cluster, leader, Lane::Main, request, None).await?;
        if let Some(code) = error_code(response.error_code) {
            return Err(Error::kafka(Action::Fetch, &target.of, code));
        }
        let data = response.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let data = data.ok_or_else(|| Error::Malformed {
            node: cluster.node(leader),
            api: ApiKey::Fetch,
            why: format!("it lacks {}", target.of),
        })?;
        let fetched = match meaning(&target, &cluster.node(leader), config.isolation, data) {
            Meaning::Fetched(fetched) => fetched,
            Meaning::Retry(error) | Meaning::Fatal(error) => return Err(error),
            // Asked again, with the bounds as they are then.
            Meaning::OutOfRange | Meaning::Truncated(_) | Meaning::Follow(_) => {
                return Err(Error::kafka(Action::Fetch, &target.of, ResponseError::NotLeaderOrFollower));
            }
        };
        // Nothing is left below the end: compaction took it.
        let Some(next) = fetched.next else { break };
        offsets = count(config.max_unpacked, target.clone(), fetched, limits, offsets, most).await?;
        target.position = next.offset;
    }
    Ok(offsets)
}

/// Adds the offsets of the records that were fetched, and keeps the last `most`.
async fn count(
    max_unpacked: usize,
    target: Target,
    fetched: Fetched,
    limits: Limits,
    mut offsets: VecDeque<Offset>,
    most: usize,
) -> Result<VecDeque<Offset>> {
    let Fetched { raw, aborted, .. } = fetched;
    let work = move || {
        for batch in decoder(max_unpacked, &target, limits, aborted).batches(raw) {
            let batch = batch.map_err(|corrupt| describe(&target.of, &corrupt))?;
            for record in batch.records() {
                let record = record.map_err(|malformed| Error::Corrupt {
                    partition: target.of.clone(),
                    offset: malformed.base_offset,
                    why: malformed.to_string(),
                })?;
                if offsets.len() == most {
                    offsets.pop_front();
                }
                offsets.push_back(record.offset);
            }
        }
        Ok(offsets)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::TaskEnded("decompression")))
}

fn decoder(max_unpacked: usize, target: &Target, limits: Limits, aborted: Vec<(i64, Offset)>) -> Decoder {
    Decoder {
        topic: target.of.topic.clone(),
        partition: target.of.partition,
        from: target.position,
        until: target.until,
        isolation: limits.isolation,
        aborted,
        max_unpacked,
    }
}
