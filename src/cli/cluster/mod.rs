//! `kpipe cluster`: looks after the cluster itself.

mod users;

use super::Context;
use crate::engine::Operation;
use clap::{Args, Subcommand};

/// Looks after the cluster itself.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Users with a password (SCRAM)
    Users(users::Users),
}

impl Cluster {
    /// What it does with the cluster, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match &self.verb {
            Verb::Users(users) => users.operation(),
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::Users(users) => users.run(context),
        }
    }
}
