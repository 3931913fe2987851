//! A partition and its replicas: who leads, who is in sync, and up to where all of them have the log. No clock and no
//! I/O.
//!
//! A follower that keeps up has the leader's log, so no copy of its own is held. A replica that is down, cut off or
//! paused keeps the log that it had then: if it leads later, what only the others have is lost, and if it follows, what
//! only it has (KIP-101).

use crate::local::configs::Replication;
use crate::local::log::{Compaction, Log, Outcome, Stamp};
use crate::record::{BrokerId, Offset, Timestamp};
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The log of a replica that does not follow.
#[derive(Debug, Clone)]
struct Behind {
    log: Log,
    /// Since when it has lacked records.
    since: Option<Instant>,
}

/// A transaction's marker that not all in-sync replicas have.
#[derive(Debug, Clone, Copy)]
struct Marker {
    stamp: Stamp,
    outcome: Outcome,
    /// `None` while there is no leader to write it.
    offset: Option<Offset>,
}

/// A partition.
#[derive(Debug, Clone)]
pub(in crate::local) struct Partition {
    /// `None` while none of its in-sync replicas is up.
    pub(in crate::local) leader: Option<BrokerId>,
    pub(in crate::local) leader_epoch: i32,
    pub(in crate::local) replicas: Vec<BrokerId>,
    in_sync: Vec<BrokerId>,
    /// The leader's, or the last leader's.
    pub(in crate::local) log: Log,
    behind: BTreeMap<BrokerId, Behind>,
    high_watermark: Offset,
    /// Where the log ended when its leader was elected.
    epoch_start: Offset,
    markers: Vec<Marker>,
    /// The error that a test has ordered in place of service.
    pub(in crate::local) error: Option<E>,
}

impl Partition {
    /// A partition without records, which the first of its replicas that is up leads.
    pub(super) fn new(replicas: Vec<BrokerId>, is_up: impl Fn(BrokerId) -> bool) -> Self {
        let up: Vec<BrokerId> = replicas.iter().copied().filter(|id| is_up(*id)).collect();
        let down = replicas.iter().filter(|id| !up.contains(id));
        Self {
            leader: up.first().copied(),
            leader_epoch: 0,
            behind: down.map(|id| (*id, Behind { log: Log::default(), since: None })).collect(),
            in_sync: if up.is_empty() { replicas.clone() } else { up },
            replicas,
            log: Log::default(),
            high_watermark: 0,
            epoch_start: 0,
            markers: Vec::new(),
            error: None,
        }
    }

    /// The replicas that an acknowledged record is on, in the order of all.
    pub(in crate::local) fn in_sync(&self) -> &[BrokerId] {
        &self.in_sync
    }

    /// The offset up to which all in-sync replicas have the log, and consumers read.
    pub(in crate::local) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset that an open transaction has written, or the high watermark (KIP-98).
    pub(in crate::local) fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset(self.high_watermark)
    }

    /// Whether the high watermark may still be below that of the last leader (KIP-207).
    pub(in crate::local) fn is_settling(&self) -> bool {
        self.high_watermark < self.epoch_start
    }

    /// Whether too few replicas are in sync for acks=all. As many as there are always suffice.
    pub(in crate::local) fn lacks_replicas(&self, min_in_sync: usize) -> bool {
        self.in_sync.len() < min_in_sync.min(self.replicas.len())
    }

    /// Raises the high watermark to what all in-sync replicas have; not while there are too few of them (KIP-966).
    pub(super) fn advance(&mut self, replication: Replication) {
        if self.leader.is_none() || self.lacks_replicas(replication.min_in_sync) {
            return;
        }
        let has = |id: &BrokerId| self.behind.get(id).map_or(self.log.next(), |b| self.log.common_end(&b.log));
        let reached = self.in_sync.iter().map(has).min().unwrap_or(0);
        self.high_watermark = self.high_watermark.max(reached);
        self.markers.retain(|marker| marker.offset.is_none_or(|offset| offset >= self.high_watermark));
    }

    /// Has a follower keep the log that it has, while the leader's grows.
    pub(super) fn fall_behind(&mut self, id: BrokerId) {
        if self.replicas.contains(&id) && self.leader != Some(id) && !self.behind.contains_key(&id) {
            self.behind.insert(id, Behind { log: self.log.clone(), since: None });
        }
    }

    /// Whether one of `brokers` leads it.
    pub(super) fn is_led_by(&self, brokers: &BTreeSet<BrokerId>) -> bool {
        self.leader.is_some_and(|leader| brokers.contains(&leader))
    }

    /// Has a replica follow the leader, if there is one: it cuts off what the leader does not have, and copies the rest.
    pub(super) fn catch_up(&mut self, id: BrokerId) {
        if self.replicas.contains(&id) && self.leader.is_some() {
            self.behind.remove(&id);
            self.in_sync = self.replicas.iter().copied().filter(|of| *of == id || self.in_sync.contains(of)).collect();
        }
    }

    /// Takes a replica out of the in-sync ones, unless it is the last.
    pub(super) fn drop_in_sync(&mut self, id: BrokerId) {
        if self.in_sync != [id] {
            self.in_sync.retain(|of| *of != id);
        }
    }

    /// A replica's broker is down: it keeps its log.
    pub(super) fn go_down(&mut self, id: BrokerId) {
        if self.leader == Some(id) {
            self.leader = None;
        }
        self.fall_behind(id);
        self.drop_in_sync(id);
    }

    /// The replica that is to lead, of those that are up: the first in-sync one, or any where the topic allows it.
    pub(super) fn candidate(&self, is_up: impl Fn(BrokerId) -> bool, replication: Replication) -> Option<BrokerId> {
        let up = || self.replicas.iter().copied().filter(|id| is_up(*id));
        up().find(|id| self.in_sync.contains(id)).or_else(|| up().next().filter(|_| replication.elects_uncleanly))
    }

    /// Has a replica lead under a new epoch, with the log that it has; those that can follow take it over.
    pub(super) fn elect(&mut self, to: BrokerId, follows: impl Fn(BrokerId) -> bool, now: Timestamp) {
        self.leader = Some(to);
        let own = self.behind.remove(&to);
        let others = self.replicas.iter().copied().filter(|id| *id != to);
        let (following, left): (Vec<_>, Vec<_>) = others.partition(|id| follows(*id));
        left.into_iter().for_each(|id| self.fall_behind(id));
        if let Some(own) = own {
            self.log = own.log;
        }
        if !self.in_sync.contains(&to) {
            self.in_sync = vec![to];
        }
        self.begin_epoch();
        following.into_iter().for_each(|id| self.catch_up(id));
        self.write_pending(now);
    }

    /// Cuts off the leader's log from `offset` on, under a new leader epoch.
    pub(super) fn truncate(&mut self, offset: Offset, now: Timestamp) {
        self.log.truncate(offset);
        self.begin_epoch();
        self.write_pending(now);
    }

    /// Begins a leader epoch at the end of the log.
    fn begin_epoch(&mut self) {
        self.leader_epoch += 1;
        self.epoch_start = self.log.next();
        self.high_watermark = self.high_watermark.min(self.epoch_start);
    }

    /// Cuts off what a replica that does not follow has from `offset` on, as after a loss of power; false when it does.
    pub(super) fn truncate_replica(&mut self, id: BrokerId, offset: Offset) -> bool {
        self.behind.get_mut(&id).map(|behind| behind.log.truncate(offset)).is_some()
    }

    /// Drops the oldest batch, which the replicas behind drop too.
    pub(super) fn drop_first(&mut self) {
        self.log.drop_first();
        let start = self.log.start();
        for behind in self.behind.values_mut() {
            behind.log.delete_before(start);
        }
    }

    /// Deletes what is too old or too much, up to the high watermark.
    pub(super) fn expire(&mut self, since: Option<Timestamp>, most: Option<usize>) {
        self.log.expire(since, most, self.high_watermark);
    }

    /// Compacts what is committed.
    pub(super) fn compact(&mut self, how: Compaction, now: Timestamp) {
        let stable = self.last_stable_offset();
        self.log.compact(how, stable, now);
    }

    /// Writes a transaction's marker, once there is a leader that can.
    pub(super) fn end_transaction(&mut self, stamp: Stamp, outcome: Outcome, can_write: bool, now: Timestamp) {
        let offset = can_write.then_some(self.log.next());
        if can_write {
            self.log.append_marker(stamp, outcome, self.leader_epoch, now);
        }
        self.markers.push(Marker { stamp, outcome, offset });
    }

    /// Writes the markers that the log lacks: a coordinator repeats them until they are replicated.
    pub(super) fn write_pending(&mut self, now: Timestamp) {
        for mut marker in std::mem::take(&mut self.markers) {
            if !marker.offset.is_some_and(|offset| self.log.has_marker(marker.stamp, offset)) {
                marker.offset = Some(self.log.next());
                self.log.append_marker(marker.stamp, marker.outcome, self.leader_epoch, now);
            }
            self.markers.push(marker);
        }
    }

    /// Takes those out of the in-sync replicas that have lacked records for `most` (`replica.lag.time.max.ms`); returns
    /// when the next may follow.
    pub(super) fn shrink(&mut self, most: Duration, now: Instant) -> Option<Instant> {
        let mut due = None;
        for id in self.in_sync.clone() {
            let Some(behind) = self.behind.get_mut(&id) else { continue };
            if behind.log.next() == self.log.next() && self.log.common_end(&behind.log) == self.log.next() {
                behind.since = None;
                continue;
            }
            let until = *behind.since.get_or_insert(now) + most;
            if until <= now {
                self.drop_in_sync(id);
            } else {
                due = due.into_iter().chain([until]).min();
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::native::wire::{BatchBuilder, ProducerStamp, batches};
    use crate::local::configs;
    use crate::record::RecordRef;
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    const RULES: Replication = Replication { min_in_sync: 1, elects_uncleanly: false };

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn batch(value: &[u8]) -> Bytes {
        let mut builder = BatchBuilder::default();
        builder.append(&RecordRef { timestamp: Some(1), value: Some(value), ..RecordRef::default() }, 0);
        let sealed = builder.seal(BytesMut::new());
        [&sealed.header(ProducerStamp::NONE)[..], &sealed.records].concat().into()
    }

    fn append(partition: &mut Partition, value: &[u8]) -> Offset {
        let options = configs::append_options(&BTreeMap::new(), partition.leader_epoch, 1);
        let appended = partition.log.append(&batch(value), &options).unwrap();
        partition.advance(RULES);
        appended.base
    }

    fn state(partition: &Partition) -> (Option<i32>, Offset, Offset) {
        (partition.leader.map(|id| id.0), partition.high_watermark(), partition.log.next())
    }

    #[test]
    fn records_are_acknowledged_when_all_in_sync_replicas_have_them() {
        let mut partition = Partition::new(ids(&[1, 2, 3]), |_| true);
        append(&mut partition, b"a");
        assert_eq!(state(&partition), (Some(1), 1, 1));
        partition.fall_behind(BrokerId(2));
        append(&mut partition, b"b");
        assert_eq!(state(&partition), (Some(1), 1, 2), "2 does not have it");
        let (lag, now) = (Duration::from_secs(30), Instant::now());
        assert_eq!(partition.shrink(lag, now), Some(now + lag));
        assert_eq!(partition.shrink(lag, now + lag), None);
        assert_eq!(partition.in_sync(), ids(&[1, 3]));
        partition.advance(Replication { min_in_sync: 3, ..RULES });
        assert_eq!(state(&partition), (Some(1), 1, 2), "too few are in sync");
        partition.advance(RULES);
        assert_eq!(state(&partition), (Some(1), 2, 2));
        partition.catch_up(BrokerId(2));
        assert_eq!(partition.in_sync(), ids(&[1, 2, 3]));
    }

    #[test]
    fn a_leader_that_crashes_loses_what_only_it_had() {
        let mut partition = Partition::new(ids(&[1, 2]), |_| true);
        append(&mut partition, b"replicated");
        partition.fall_behind(BrokerId(2));
        append(&mut partition, b"tail");
        partition.go_down(BrokerId(1));
        let to = partition.candidate(|id| id.0 == 2, RULES).unwrap();
        partition.elect(to, |id| id.0 == 2, 0);
        assert_eq!((state(&partition), partition.leader_epoch), ((Some(2), 1, 1), 1));
        append(&mut partition, b"another");
        assert_eq!(state(&partition), (Some(2), 2, 2));
        partition.catch_up(BrokerId(1));
        assert_eq!(partition.in_sync(), ids(&[1, 2]));
        partition.elect(BrokerId(1), |_| true, 0);
        assert_eq!((state(&partition), partition.log.end_of_epoch(0)), ((Some(1), 2, 2), Some((0, 1))));
    }

    #[test]
    fn a_replica_out_of_sync_leads_only_where_that_is_allowed_and_brings_back_its_own_log() {
        let mut partition = Partition::new(ids(&[1, 2]), |_| true);
        append(&mut partition, b"a");
        partition.go_down(BrokerId(2));
        append(&mut partition, b"b");
        append(&mut partition, b"c");
        partition.go_down(BrokerId(1));
        let only_two = |id: BrokerId| id.0 == 2;
        assert_eq!(partition.candidate(only_two, RULES), None);
        let unclean = Replication { elects_uncleanly: true, ..RULES };
        assert_eq!(partition.candidate(only_two, unclean), Some(BrokerId(2)));
        partition.elect(BrokerId(2), only_two, 0);
        assert_eq!((state(&partition), partition.in_sync()), ((Some(2), 1, 1), &ids(&[2])[..]));
        append(&mut partition, b"x");
        partition.go_down(BrokerId(2));
        partition.elect(BrokerId(1), |id| id.0 == 1, 0);
        assert_eq!(state(&partition), (Some(1), 2, 3), "b and c are there again, and x is not");
        assert!(partition.is_settling() || partition.high_watermark() <= 3);
    }

    #[test]
    fn a_marker_is_written_again_until_it_is_replicated() {
        let mut partition = Partition::new(ids(&[1, 2]), |_| true);
        let stamp = Stamp { producer_id: 5, epoch: 0 };
        partition.fall_behind(BrokerId(2));
        partition.end_transaction(stamp, Outcome::Commit, true, 0);
        partition.go_down(BrokerId(1));
        partition.end_transaction(Stamp { producer_id: 6, epoch: 0 }, Outcome::Abort, false, 0);
        assert_eq!(partition.log.next(), 1, "nobody can write it");
        partition.elect(BrokerId(2), |id| id.0 == 2, 0);
        assert_eq!(partition.log.next(), 2, "both are in the log of the new leader");
        partition.advance(RULES);
        assert!(partition.markers.is_empty());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Append,
        Down(usize),
        Up(usize),
        Pause(usize),
        Resume(usize),
        Lag,
        Move(usize),
    }

    proptest! {
        /// Whatever happens short of an unclean election, what was below the high watermark stays where it was.
        #[test]
        fn acknowledged_records_are_never_lost(steps in prop::collection::vec(prop_oneof![
            4 => Just(Step::Append), 1 => (0..3usize).prop_map(Step::Down), 2 => (0..3usize).prop_map(Step::Up),
            1 => (0..3usize).prop_map(Step::Pause), 1 => (0..3usize).prop_map(Step::Resume), 1 => Just(Step::Lag),
            1 => (0..3usize).prop_map(Step::Move),
        ], 0..60)) {
            let all = ids(&[1, 2, 3]);
            let (mut up, mut paused) = ([true; 3], [false; 3]);
            let mut partition = Partition::new(all.clone(), |_| true);
            let (mut acknowledged, mut now): (Vec<Vec<u8>>, _) = (Vec::new(), Instant::now());
            let mut written: BTreeMap<(i32, Offset), Vec<u8>> = BTreeMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append if partition.leader.is_some() => {
                        let value = n.to_string().into_bytes();
                        let base = append(&mut partition, &value);
                        written.insert((partition.leader_epoch, base), value);
                    }
                    Step::Down(id) => { up[id] = false; partition.go_down(all[id]); }
                    Step::Up(id) => { up[id] = true; if !paused[id] { partition.catch_up(all[id]); } }
                    Step::Pause(id) => { paused[id] = true; partition.fall_behind(all[id]); }
                    Step::Resume(id) => { paused[id] = false; if up[id] { partition.catch_up(all[id]); } }
                    Step::Lag => {
                        partition.shrink(Duration::from_secs(30), now);
                        now += Duration::from_secs(31);
                        partition.shrink(Duration::from_secs(30), now);
                    }
                    Step::Move(id) if up[id] && partition.in_sync().contains(&all[id]) => {
                        partition.elect(all[id], |id| up[id.0 as usize - 1] && !paused[id.0 as usize - 1], 0);
                    }
                    Step::Append | Step::Move(_) => {}
                }
                if partition.leader.is_none()
                    && let Some(to) = partition.candidate(|id| up[id.0 as usize - 1], RULES)
                {
                    partition.elect(to, |id| up[id.0 as usize - 1] && !paused[id.0 as usize - 1], 0);
                }
                partition.advance(RULES);
                prop_assert!(partition.high_watermark() >= acknowledged.len() as Offset || partition.is_settling());
                prop_assert!(partition.high_watermark() <= partition.log.next());
                prop_assert!(partition.leader.is_none_or(|leader| partition.in_sync().contains(&leader)));
                if partition.leader.is_none() { continue; }
                let mut values = Vec::new();
                let (all, _) = partition.log.read(0, Offset::MAX, usize::MAX, true);
                for batch in batches(all).unwrap() {
                    values.push(written[&(batch.leader_epoch(), batch.base_offset())].clone());
                }
                prop_assert_eq!(&values[..acknowledged.len()], &acknowledged[..]);
                let until = (partition.high_watermark() as usize).max(acknowledged.len());
                acknowledged = values[..until].to_vec();
            }
        }
    }
}
