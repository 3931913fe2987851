//! `kpipe config`: what is set, and where.

use super::listing::{print, print_lines, table};
use crate::config::{DEFAULT_BROKERS, Properties};
use crate::error::EXIT_OK;
use clap::{Args, Subcommand};
use serde_json::json;

/// Shows the properties that count.
#[derive(Debug, Args)]
#[command(after_help = "Each beats those after it: flags, -X, -F, --profile, $KPIPE_SASL_PASSWORD and the like,\n\
    $KPIPE_PROFILE or the default profile of config.toml, kpipe's own defaults.\n\n\
    ~/.config/kpipe/config.toml ($KPIPE_CONFIG):\n  \
    profile = \"dev\"                                # when nobody names one\n  \
    [properties]                                   # for all\n  \
    client.id = \"me\"\n  \
    [profiles.prod]\n  \
    bootstrap.servers = \"kafka-1:9093\"\n  \
    sasl.password = \"${command:pass show kafka}\"   # also ${env:NAME}, ${file:PATH}, ${file:PATH:KEY}\n  \
    [profiles.prod.topics.orders]                  # for produce and consume of one topic\n  \
    compression.type = \"zstd\"")]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Each property that is set, with its value and origin; secrets are masked
    Show {
        /// Counts this topic's own settings of the profile
        #[arg(short, long)]
        topic: Option<String>,
        /// What is overridden, too
        #[arg(short, long)]
        all: bool,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
}

impl Config {
    pub(super) fn only_topic(&self) -> Option<&str> {
        let Verb::Show { topic, .. } = &self.verb;
        topic.as_deref()
    }

    pub(super) fn run(&self, properties: &Properties) -> anyhow::Result<u8> {
        let Verb::Show { all, json, .. } = self.verb;
        let mut rows = Vec::new();
        if properties.text("bootstrap.servers").is_none() {
            rows.push(("bootstrap.servers", DEFAULT_BROKERS.to_owned(), "default".to_owned(), true));
        }
        for (name, values) in properties.list() {
            for (rank, value) in values.into_iter().enumerate().take(if all { usize::MAX } else { 1 }) {
                rows.push((name, value.text, value.origin.trim_end_matches(':').to_owned(), rank == 0));
            }
        }
        if json {
            print_lines(rows.into_iter().map(|(name, value, origin, counts)| {
                json!({ "property": name, "value": value, "origin": origin, "overridden": !counts })
            }))?;
            return Ok(EXIT_OK);
        }
        let mut table = table(&["PROPERTY", "VALUE", "ORIGIN"]);
        for (name, value, origin, counts) in rows {
            let origin = if counts { origin } else { format!("{origin} (overridden)") };
            table.add_row([name.to_owned(), value, origin]);
        }
        print(&table.to_string())?;
        Ok(EXIT_OK)
    }
}
