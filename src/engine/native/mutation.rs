//! Faults that are built into the engine on purpose, to prove that the simulation finds them. Without the feature
//! `mutations` nothing of this is compiled in, and with it no release build compiles.

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` is for tests alone");

/// Whether the fault is built in on this thread.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($mutation:ident) => {
        crate::engine::native::mutation::is_active(crate::engine::native::mutation::Mutation::$mutation)
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}
pub(super) use mutated;

#[cfg(feature = "mutations")]
pub use active::{Mutation, activate, is_active};

#[cfg(feature = "mutations")]
mod active {
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// A fault.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Mutation {
        /// The sequence number of a batch that was given up is given to the next one.
        SequenceReused,
        /// A batch that was refused with NOT_LEADER_OR_FOLLOWER counts as not written.
        RefusalIsCertain,
        /// Positions are committed although their assignment has ended.
        StaleAssignmentCommitted,
        /// One record more is committed than was written.
        CommittedBeforeWritten,
        /// Batches after a gap are numbered from 0 under the old epoch.
        EpochNotRaised,
        /// A commit that was sent and not answered counts as failed, so that the transaction is aborted.
        AbortedAfterCommit,
        /// The position stays when the log was truncated before it.
        TruncationIgnored,
        /// A batch whose connection breaks counts as written.
        DroppedOnReconnect,
        /// A batch that is refused because its producer is fenced counts as written.
        FenceIgnored,
        /// A batch that failed is sent again behind those after it.
        RetriedOutOfOrder,
        /// A batch whose answer was lost counts as not written.
        LostIsNotWritten,
        /// A partition that is assigned again begins where it did before.
        ResumedFromStale,
        /// Records of aborted transactions are shown.
        AbortedShown,
    }

    impl Mutation {
        /// All of them.
        pub const ALL: [Self; 13] = [
            Self::SequenceReused,
            Self::RefusalIsCertain,
            Self::StaleAssignmentCommitted,
            Self::CommittedBeforeWritten,
            Self::EpochNotRaised,
            Self::AbortedAfterCommit,
            Self::TruncationIgnored,
            Self::DroppedOnReconnect,
            Self::FenceIgnored,
            Self::RetriedOutOfOrder,
            Self::LostIsNotWritten,
            Self::ResumedFromStale,
            Self::AbortedShown,
        ];
    }

    /// Builds `mutation` into everything that this thread runs from now on.
    pub fn activate(mutation: Option<Mutation>) {
        ACTIVE.set(mutation);
    }

    /// Whether `mutation` is built in on this thread.
    pub fn is_active(mutation: Mutation) -> bool {
        ACTIVE.get() == Some(mutation)
    }
}
