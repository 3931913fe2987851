//! What stands before everything that destroys: `--dry-run`, and a question that `--yes` answers.

use super::Context;
use super::listing::{confirm, say};
use crate::error::Result;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Guard {
    /// Print what would be done and exit
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Guard {
    /// Returns whether to `delete` (or another verb) `what` now: not in a dry run, and not before a question was
    /// answered with yes.
    ///
    /// # Errors
    /// The answer was no, or there is no terminal to ask on.
    pub(super) fn allows(&self, context: &Context, command: &str, verb: &str, what: &str) -> Result<bool> {
        if self.dry_run {
            say(context, &format!("would {verb} {what}"));
            return Ok(false);
        }
        if !self.yes {
            let (first, rest) = verb.split_at(1);
            confirm(command, &format!("{}{rest} {what}?", first.to_uppercase()))?;
        }
        Ok(true)
    }
}
