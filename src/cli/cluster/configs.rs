//! `kpipe cluster configs`: of one broker, or of all.

use crate::cli::Context;
use crate::cli::listing::{or_dash, print, print_lines, say, table};
use crate::cli::topics::{changes, parse_broker, parse_config};
use crate::engine::{ConfigSource, Configured, Operation};
use crate::error::{Error, Result};
use crate::record::BrokerId;
use crate::text::counted;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
pub(super) struct Configs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show broker configs and where each value comes from
    Get {
        /// Only these configs
        names: Vec<String>,
        /// Broker ID [default: the cluster-wide configs]
        #[arg(long, value_name = "ID", value_parser = parse_broker)]
        broker: Option<BrokerId>,
        /// Include defaults
        #[arg(short, long)]
        all: bool,
        /// Print one JSON object per config
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Set or unset dynamic broker configs
    #[command(group(ArgGroup::new("change").args(["configs", "unset"]).required(true).multiple(true)))]
    Set {
        /// Broker ID [default: all brokers]
        #[arg(long, value_name = "ID", value_parser = parse_broker)]
        broker: Option<BrokerId>,
        /// Set a config
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(String, String)>,
        /// Remove a dynamic config
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
        /// Only have the cluster validate the request
        #[arg(long)]
        dry_run: bool,
    },
}

impl Configs {
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::Get { .. } => Operation::DescribeConfigs,
            Verb::Set { .. } => Operation::AlterConfigs,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let of = |broker: &Option<BrokerId>| broker.map_or(Configured::AllBrokers, Configured::Broker);
        let admin = context.admin("cluster configs")?;
        match &self.verb {
            Verb::Get { names, broker, all, json } => {
                let mut configs = admin.configs(&[of(broker)])?.into_values().next().unwrap_or_default();
                if let Some(unknown) = names.iter().find(|name| !configs.iter().any(|config| config.name == **name)) {
                    let hint = crate::error::did_you_mean(unknown, configs.iter().map(|config| config.name.as_str()));
                    return Err(Error::ClusterState(format!("config {unknown} is not set{hint}")));
                }
                configs.retain(|config| {
                    if names.is_empty() {
                        *all || config.source != ConfigSource::Default
                    } else {
                        names.contains(&config.name)
                    }
                });
                if *json {
                    return print_lines(configs.iter().map(|c| json!(c)));
                }
                let mut table = table(&["CONFIG", "VALUE", "SET BY", ""]);
                for config in configs {
                    let value = if config.secret { "***".to_owned() } else { or_dash(config.value) };
                    let note = if config.read_only { "read-only" } else { "" };
                    table.add_row([config.name, value, config.source.to_string(), note.to_owned()]);
                }
                print(&table.to_string())
            }
            Verb::Set { broker, configs, unset, dry_run } => {
                let changes = changes(configs, unset);
                admin.alter_configs(&of(broker), &changes, *dry_run)?;
                let changed = if *dry_run { "would change" } else { "changed" };
                let whom = broker.map_or("all brokers".to_owned(), |id| format!("broker {id}"));
                say(context, &format!("{changed} {} of {whom}", counted(changes.len() as u64, "config")));
                Ok(())
            }
        }
    }
}
