//! `kpipe cluster`: brokers, health, configs, users and transactions.

mod configs;
mod health;
mod show;
mod transactions;
mod users;

use super::Context;
use super::topics::parse_broker;
use crate::engine::Operation;
use crate::error::{EXIT_OK, Result};
use crate::record::BrokerId;
use clap::{Args, Subcommand};

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
    /// List brokers, with the cluster ID and the controller
    Brokers {
        /// Print one JSON object per broker
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// List finalized and supported features (KIP-584)
    Features {
        /// Print one JSON object per feature
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// List the request versions that a broker supports, next to kpipe's
    Apis {
        /// Broker ID [default: the first live broker]
        #[arg(value_parser = parse_broker)]
        broker: Option<BrokerId>,
        /// Print one JSON object per request
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Describe the KRaft quorum: leader, voters, observers, lag
    Quorum {
        /// Print one JSON object per node
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// List log directories with their contents and free space
    LogDirs {
        /// Only these brokers
        #[arg(value_parser = parse_broker)]
        brokers: Vec<BrokerId>,
        /// Print one JSON object per directory
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Check the cluster's health; exit code 1 with reasons if there is a problem
    ///
    /// Reports partitions that are without a leader, below min.insync.replicas or under-replicated, topics without
    /// metadata, brokers that are down or unresponsive, a lagging quorum, and disks that are offline or almost full.
    Health(health::Health),
    /// Show or change broker configs
    Configs(configs::Configs),
    /// Show transactions and abort hanging ones
    Transactions(transactions::Transactions),
    /// Manage SCRAM users
    Users(users::Users),
}

impl Cluster {
    /// The operation that the command needs for what no request of its own names.
    pub(super) fn operation(&self) -> Operation {
        match &self.verb {
            Verb::Users(users) => users.operation(),
            Verb::Configs(configs) => configs.operation(),
            Verb::Transactions(transactions) => transactions.operation(),
            _ => Operation::Describe,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        match &self.verb {
            Verb::Brokers { json } => return show::brokers(context, *json),
            Verb::Features { json } => show::features(context, *json)?,
            Verb::Apis { broker, json } => show::apis(context, *broker, *json)?,
            Verb::Quorum { json } => show::quorum(context, *json)?,
            Verb::LogDirs { brokers, json } => return show::log_dirs(context, brokers, *json),
            Verb::Health(health) => return health.run(context),
            Verb::Configs(configs) => configs.run(context)?,
            Verb::Transactions(transactions) => return transactions.run(context),
            Verb::Users(users) => return users.run(context),
        }
        Ok(EXIT_OK)
    }
}
