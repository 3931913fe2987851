//! `kpipe cluster`: what a cluster is made of, how it does, its configs, users and transactions.

mod configs;
mod health;
mod show;
mod transactions;
mod users;

use super::Context;
use super::topics::parse_broker;
use crate::engine::Operation;
use crate::error::EXIT_OK;
use crate::record::BrokerId;
use clap::{Args, Subcommand};

/// Looks after the cluster itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe cluster health || echo \"see above\"\n  \
    kpipe cluster health --wait healthy --timeout 5m\n  \
    kpipe cluster configs set --broker 1 --config log.cleaner.threads=2\n  \
    kpipe cluster transactions find-hanging --older-than 1h")]
pub(super) struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Its id, versions, controller and brokers
    Brokers {
        /// A JSON object a broker
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Features that the brokers agreed on, and could (KIP-584)
    Features {
        /// A JSON object a feature
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Requests and their versions that a broker takes, beside what kpipe could send
    Apis {
        /// The broker [default: the first that is up]
        #[arg(value_parser = parse_broker)]
        broker: Option<BrokerId>,
        /// A JSON object a request
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Who decides, and how far behind the others are (KRaft)
    Quorum {
        /// A JSON object a node
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Log directories, what is in them and what space is left
    LogDirs {
        /// Only of these brokers
        #[arg(value_parser = parse_broker)]
        brokers: Vec<BrokerId>,
        /// A JSON object a directory
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Exit code 1 with reasons when something is wrong: partitions without a leader or all their replicas, brokers
    /// that are missing, a quorum that lags, disks that are offline
    Health(health::Health),
    /// Configs of brokers
    Configs(configs::Configs),
    /// Transactions, and those that hang
    Transactions(transactions::Transactions),
    /// Users with a password (SCRAM)
    Users(users::Users),
}

impl Cluster {
    /// What it does with the cluster, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match &self.verb {
            Verb::Users(users) => users.operation(),
            Verb::Configs(configs) => configs.operation(),
            Verb::Transactions(transactions) => transactions.operation(),
            _ => Operation::Describe,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::Brokers { json } => show::brokers(context, *json)?,
            Verb::Features { json } => show::features(context, *json)?,
            Verb::Apis { broker, json } => show::apis(context, *broker, *json)?,
            Verb::Quorum { json } => show::quorum(context, *json)?,
            Verb::LogDirs { brokers, json } => show::log_dirs(context, brokers, *json)?,
            Verb::Health(health) => return Ok(health.run(context)?),
            Verb::Configs(configs) => configs.run(context)?,
            Verb::Transactions(transactions) => return Ok(transactions.run(context)?),
            Verb::Users(users) => return users.run(context),
        }
        Ok(EXIT_OK)
    }
}
