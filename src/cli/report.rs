//! What kpipe says to people, on stderr: what others wrote is escaped, and an unwritable stderr changes nothing.

use super::Context;
use crate::metrics::Messages;
use crate::text::escaped;
use std::fmt::Display;
use std::io::Write;

/// Writes `kpipe: TEXT`.
pub(super) fn tell(text: impl Display) {
    block(&format!("kpipe: {}\n", escaped(&text.to_string())));
}

/// Writes lines whose parts are escaped already.
pub(super) fn block(text: &str) {
    let _ = Messages.write_all(text.as_bytes()); // nobody reads it: the run continues
}

/// Reports what was done, unless `--quiet` is given. Scripts have the exit code.
pub(super) fn say(context: &Context, text: &str) {
    if !context.quiet {
        tell(text);
    }
}
