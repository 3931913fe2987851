//! Records → bytes, and what of them stdout really took. Knows only `record` and `error`.

mod dead_letters;
mod format;
mod json;
mod writer;

pub use dead_letters::DeadLetters;
pub use format::{Encoding, Format};
pub use writer::{PartitionIndex, Writer};
