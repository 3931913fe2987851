//! `kpipe config`: what is set, and where; what can be set.

use super::listing::{print, print_lines, table};
use crate::config::Properties;
use crate::config::declarations::{BOOTSTRAP_SERVERS, descriptions};
use crate::error::EXIT_OK;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "Precedence, highest first: flags, -X, -F, --profile, environment (KPIPE_SASL_PASSWORD sets \
    sasl.password), the profile named by KPIPE_PROFILE or config.toml, defaults.\n\n\
    ~/.config/kpipe/config.toml (or $KPIPE_CONFIG):\n  \
    profile = \"dev\"                                # used unless another is named\n  \
    [properties]                                   # for all profiles\n  \
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
    /// List each property that is set, with its value and origin; secrets are masked
    Show {
        /// Include the profile's settings for this topic
        #[arg(short, long)]
        topic: Option<String>,
        /// Include overridden values
        #[arg(short, long)]
        all: bool,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// List the properties that can be set, with their types and defaults
    Properties {
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
}

impl Config {
    pub(super) fn only_topic(&self) -> Option<&str> {
        match &self.verb {
            Verb::Show { topic, .. } => topic.as_deref(),
            Verb::Properties { .. } => None,
        }
    }

    pub(super) fn run(&self, properties: &Properties) -> anyhow::Result<u8> {
        match self.verb {
            Verb::Show { all, json, .. } => show(properties, all, json)?,
            Verb::Properties { json } => list(json)?,
        }
        Ok(EXIT_OK)
    }
}

fn show(properties: &Properties, all: bool, json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    if !properties.is_set(&BOOTSTRAP_SERVERS) {
        rows.push(("bootstrap.servers", properties.get(&BOOTSTRAP_SERVERS)?, "default".to_owned(), true));
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
        return Ok(());
    }
    let mut table = table(&["PROPERTY", "VALUE", "ORIGIN"]);
    for (name, value, origin, counts) in rows {
        let origin = if counts { origin } else { format!("{origin} (overridden)") };
        table.add_row([name.to_owned(), value, origin]);
    }
    print(&table.to_string())?;
    Ok(())
}

fn list(json: bool) -> anyhow::Result<()> {
    let plain = |text: &str| text.replace('`', "");
    if json {
        print_lines(descriptions().into_iter().map(|about| {
            json!({
                "property": about.name, "aliases": about.aliases, "flag": about.flag, "type": plain(&about.kind),
                "default": plain(&about.default), "meaning": plain(about.help),
            })
        }))?;
        return Ok(());
    }
    let mut table = table(&["PROPERTY", "TYPE", "DEFAULT", "MEANING"]);
    for about in descriptions() {
        table.add_row([about.name.to_owned(), plain(&about.kind), plain(&about.default), plain(about.help)]);
    }
    print(&table.to_string())?;
    Ok(())
}
