//! `kpipe topics`: list, describe, create, delete.

use super::Context;
use super::listing::{confirm, or_dash, print, print_lines, right_align, say, table};
use crate::engine::{NewTopic, Operation, Topic};
use crate::error::{EXIT_OK, Result};
use clap::{Args, Subcommand};

/// Looks after topics.
#[derive(Debug, Args)]
pub(super) struct Topics {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Names and sizes of all topics
    List {
        /// Kafka's own topics too
        #[arg(short, long)]
        all: bool,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Partitions, leaders, replicas and offsets
    Describe {
        /// The topics; all when none is given
        topics: Vec<String>,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Makes a topic
    Create {
        /// Its name
        name: String,
        /// How many partitions [default: the brokers']
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many brokers keep each partition [default: the brokers']
        #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// Sets a topic config, like retention.ms=3600000
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(String, String)>,
    },
    /// Deletes topics with all their records
    Delete {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Topics {
    /// What it does with a topic, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } | Verb::Describe { .. } => Operation::Describe,
            Verb::Create { .. } => Operation::Create,
            Verb::Delete { .. } => Operation::Delete,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::List { all, json } => list(context, *all, *json)?,
            Verb::Describe { topics, json } => describe(context, topics, *json)?,
            Verb::Create { name, partitions, replication_factor, configs } => {
                let topic = NewTopic {
                    name: name.clone(),
                    partitions: *partitions,
                    replication_factor: *replication_factor,
                    configs: configs.clone(),
                };
                context.connect()?.admin().create_topic(&topic)?;
                say(context, &format!("created topic {name}"));
            }
            Verb::Delete { names, yes } => delete(context, names, *yes)?,
        }
        Ok(EXIT_OK)
    }
}

fn list(context: &Context, all: bool, json: bool) -> Result<()> {
    let mut topics = context.connect()?.admin().topics(None, false)?;
    // Names that begin like this are Kafka's own also where the engine cannot tell.
    topics.retain(|t| all || !t.internal.unwrap_or(t.topic.starts_with("__")));
    if json {
        let line = |t: &Topic| {
            let replicas = t.partitions.iter().filter_map(|p| p.replicas.as_ref().map(Vec::len)).max();
            serde_json::json!({
                "topic": t.topic, "partitions": t.partitions.len(), "replication_factor": replicas, "internal": t.internal,
            })
        };
        return print_lines(topics.iter().map(line));
    }
    let mut table = table(&["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in &topics {
        let replicas = topic.partitions.iter().filter_map(|p| p.replicas.as_ref().map(Vec::len)).max();
        table.add_row([topic.topic.clone(), topic.partitions.len().to_string(), or_dash(replicas)]);
    }
    right_align(&mut table, 1..3);
    print(&table.to_string())
}

fn describe(context: &Context, names: &[String], json: bool) -> Result<()> {
    let names = (!names.is_empty()).then_some(names);
    let topics = context.connect()?.admin().topics(names, true)?;
    if json {
        let value = |t| serde_json::to_value(t).unwrap_or_default();
        return print_lines(topics.iter().map(value));
    }
    let ids = |ids: &Option<Vec<i32>>| match ids {
        Some(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        None => "-".to_owned(),
    };
    let mut table = table(&["TOPIC", "PARTITION", "LEADER", "REPLICAS", "IN-SYNC", "FIRST", "NEXT"]);
    for topic in &topics {
        for p in &topic.partitions {
            table.add_row([
                topic.topic.clone(),
                p.partition.to_string(),
                p.leader.map_or("none".to_owned(), |leader| leader.to_string()),
                ids(&p.replicas),
                ids(&p.in_sync_replicas),
                or_dash(p.first_offset),
                or_dash(p.next_offset),
            ]);
        }
    }
    right_align(&mut table, [1, 2, 5, 6]);
    print(&table.to_string())
}

fn delete(context: &Context, names: &[String], yes: bool) -> Result<()> {
    if !yes {
        confirm("topics delete", &format!("Delete {} with all records?", names.join(", ")))?;
    }
    let mut admin = context.connect()?.admin();
    for name in names {
        admin.delete_topic(name)?;
        say(context, &format!("deleted topic {name}"));
    }
    Ok(())
}
