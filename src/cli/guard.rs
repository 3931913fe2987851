//! What stands before everything that changes or destroys: `--dry-run`, and a question that `--yes` answers.

use super::Context;
use super::listing::{Table, print};
use super::report::{block, say};
use crate::error::{Error, Result};
use crate::text::escaped;
use clap::Args;
use std::io::IsTerminal;

#[derive(Debug, Clone, Args)]
pub(super) struct Guard {
    /// Print what would be done and exit
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// What comes of a [`Guard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Decision {
    Proceed,
    /// It was printed what would be done.
    DryRun,
}

impl Guard {
    /// Decides whether to `delete` (or another verb) `what`, after a question where one is due. `details` show what is
    /// concerned: a dry run prints them, and the question follows them.
    ///
    /// # Errors
    /// The answer was no, or there is no terminal to ask on.
    pub(super) fn decide(
        &self,
        context: &Context,
        command: &str,
        verb: &str,
        what: &str,
        details: Option<&Table>,
    ) -> Result<Decision> {
        if self.dry_run {
            details.map_or(Ok(()), |details| print(&details.to_string()))?;
            say(context, &format!("would {verb} {what}"));
            return Ok(Decision::DryRun);
        }
        if !self.yes {
            ask(command, verb, what, details)?;
        }
        Ok(Decision::Proceed)
    }

    /// A guard that does not ask.
    pub(super) fn without_question(&self) -> Self {
        Self { yes: true, ..self.clone() }
    }
}

/// Asks on the terminal, on stderr, where the answer cannot be mistaken for data.
fn ask(command: &str, verb: &str, what: &str, details: Option<&Table>) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!("{command}: confirmation is required (use --yes in a script)")));
    }
    if let Some(details) = details {
        block(&format!("{details}\n"));
    }
    let (first, rest) = verb.split_at(1);
    block(&format!("{}{rest} {}? [y/N] ", first.to_uppercase(), escaped(what)));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Error::io("stdin", &e))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Error::Usage("canceled; nothing was changed".to_owned()))
    }
}
