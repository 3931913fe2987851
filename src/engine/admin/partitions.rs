//! Offsets and moves of partitions.

use crate::record::{BrokerId, Timestamp};
use serde::Serialize;

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset.
    Earliest,
    /// The offset that the next record will get.
    Latest,
    /// The offset of the first record with this timestamp or a later one; there may be none.
    Time(Timestamp),
}

impl OffsetAt {
    /// The number that ListOffsets carries for it.
    pub(crate) fn to_wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Time(time) => time,
        }
    }
}

/// Which replicas may become leaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The preferred replica, if it is in sync.
    Preferred,
    /// Any that is alive; what only others have is lost. Only where no replica in sync is alive.
    Unclean,
}

impl Election {
    /// The number that ElectLeaders carries for it (KIP-460).
    pub(crate) fn to_wire(self) -> i8 {
        match self {
            Self::Preferred => 0,
            Self::Unclean => 1,
        }
    }
}

/// What came of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elected {
    NewLeader,
    /// The partition has this leader already.
    NotNeeded,
}

/// A move of a partition's replicas that is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reassignment {
    /// All current replicas, those being added included.
    pub replicas: Vec<BrokerId>,
    /// Replicas that are still catching up.
    pub adding: Vec<BrokerId>,
    /// Replicas that are removed once those being added have caught up.
    pub removing: Vec<BrokerId>,
}
