//! Records → bytes, and what of them stdout really took. Calls `record`, `error`, `codec` and `files`.

mod dead_letters;
mod format;
mod json;
mod value;
mod writer;

pub use dead_letters::DeadLetters;
pub use format::{Discard, Format};
pub use json::JsonFormat;
pub use value::ValueFormat;
pub use writer::{PartitionIndex, Writer};
