//! What is asked of which broker next: one fetch at a time, in which partitions take turns by bytes.

use super::{AssignmentId, Partition, Positions, Replica, RequestId, Stage};
use crate::record::BrokerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Shares are no smaller, so that many partitions do not make each response a handful of records.
const LEAST_SHARE: usize = 64 << 10;

/// One fetch from one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Plan {
    pub(in super::super) request: RequestId,
    pub(in super::super) broker: BrokerId,
    /// Those that have waited longest for their turn come first.
    pub(in super::super) partitions: Vec<AssignmentId>,
    /// How many bytes each partition may bring, so that each that has records gets its share of the response.
    pub(in super::super) share: usize,
    /// Whether the broker may name a nearer replica.
    pub(in super::super) may_follow: bool,
}

/// What one leader is asked about positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Question {
    pub(in super::super) request: RequestId,
    pub(in super::super) leader: BrokerId,
    pub(in super::super) partitions: Vec<(AssignmentId, Stage)>,
}

impl Positions {
    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Questions to leaders about where partitions begin, and whether positions lie in their logs.
    pub(in super::super) fn questions(&mut self, now: Instant) -> Vec<Question> {
        let mut by_leader: BTreeMap<BrokerId, Vec<(AssignmentId, Stage)>> = BTreeMap::new();
        for (id, partition) in self.partitions.iter().filter(|(_, p)| p.stage != Stage::Reads && p.is_due(now)) {
            if let Some(leader) = partition.leader {
                by_leader.entry(leader).or_default().push((*id, partition.stage));
            }
        }
        let mut questions = Vec::new();
        for (leader, partitions) in by_leader {
            let request = self.request();
            partitions.iter().for_each(|(id, _)| self.await_answer(*id, request));
            questions.push(Question { request, leader, partitions });
        }
        questions
    }

    fn await_answer(&mut self, id: AssignmentId, request: RequestId) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.asking = Some(request);
        }
    }

    /// One fetch for each broker that has none on its way and something to be fetched. A response brings up to
    /// `response` bytes, a partition up to `partition`.
    pub(in super::super) fn plan(&mut self, now: Instant, response: usize, partition: usize) -> Vec<Plan> {
        let mut by_broker: BTreeMap<BrokerId, Vec<(u64, AssignmentId)>> = BTreeMap::new();
        for (id, partition) in self.partitions.iter().filter(|(_, p)| is_fetched(p) && p.is_due(now)) {
            let Some(broker) = partition.source(now) else { continue };
            let rests = |b: &super::Broker| b.fetch.is_some() || b.rests_until.is_some_and(|until| until > now);
            if !self.brokers.get(&broker).is_some_and(rests) {
                by_broker.entry(broker).or_default().push((partition.served, *id));
            }
        }
        let mut plans = Vec::new();
        for (broker, mut waiting) in by_broker {
            waiting.sort_unstable();
            let partitions: Vec<AssignmentId> = waiting.into_iter().map(|(_, id)| id).collect();
            let request = self.request();
            self.brokers.entry(broker).or_default().fetch = Some(request);
            partitions.iter().for_each(|id| self.await_answer(*id, request));
            let of = || partitions.iter().filter_map(|id| self.partitions.get(id));
            let active = of().filter(|partition| partition.had_records).count().max(1);
            let may_follow = !of().any(|p| matches!(p.replica, Replica::LeaderUntil(until) if until > now));
            let share = partition.min((response / active).max(LEAST_SHARE)).max(1);
            plans.push(Plan { request, broker, partitions, share, may_follow });
        }
        plans
    }

    /// The fetch is answered, or failed: the broker may be asked again, after `throttle` where that is set. Partitions
    /// that still wait for it had no records. An answer that came at once and brought nothing is followed by a pause of
    /// `wait(number of such answers before it)`.
    pub(in super::super) fn answered(
        &mut self,
        plan: &Plan,
        is_fruitless: bool,
        now: Instant,
        throttle: Duration,
        wait: impl Fn(u32) -> Duration,
    ) {
        for id in &plan.partitions {
            if self.awaiting(*id, plan.request).is_some() {
                self.fetched(*id, None, now);
            }
        }
        let Some(broker) = self.brokers.get_mut(&plan.broker).filter(|broker| broker.fetch == Some(plan.request))
        else {
            return;
        };
        broker.fetch = None;
        let pause = if is_fruitless { wait(broker.fruitless).max(throttle) } else { throttle };
        broker.fruitless = if is_fruitless { broker.fruitless.saturating_add(1) } else { 0 };
        broker.rests_until = (!pause.is_zero()).then(|| now + pause);
    }
}

fn is_fetched(partition: &Partition) -> bool {
    partition.stage == Stage::Reads && partition.is_announced
}
