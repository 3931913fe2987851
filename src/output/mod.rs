//! Records → bytes, and what of them stdout really took. Knows only `record` and `error`.

mod format;
mod json;
mod writer;

pub use format::{Encoding, Format};
pub use writer::{Place, Writer};
