//! Why a jq program does not end for a record.

/// Why a program did not end for a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The program raised an error, or called `halt`.
    Raised(String),
    /// A limit ended it.
    Limited(Limit),
    /// The receiver of its results wants no more.
    Receiver,
}

/// What a program has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// It was told to end.
    #[error("interrupted")]
    Interrupted,
    /// It recurses too deeply.
    #[error("the program recurses too deeply")]
    Depth,
    /// It takes too much memory.
    #[error("the program takes more than 1 GiB of memory for one record")]
    Memory,
}
