//! `kpipe cluster transactions`: list, describe, find and abort those that hang (KIP-664).

use crate::cli::Context;
use crate::cli::guard::{Decision, Guard};
use crate::cli::listing::{or_dash, print, print_lines, report_incomplete, right_align, say, table};
use crate::cli::selection::{TopicSelection, named, parse_selection};
use crate::config::parse_duration;
use crate::engine::{Listing, NativeAdmin, OpenTransaction, Operation};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::record::now;
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Transactions {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the transactions that are known to the coordinators
    List {
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Describe a transaction, with the partitions that it wrote to
    Describe {
        /// Transactional ID
        id: String,
        /// Print a JSON object
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Find open transactions without recent writes, which block read_committed consumers; exit code 1 if any exist
    FindHanging {
        /// Topics, or topic partitions [default: all]
        #[arg(value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// Minimum time since the last write (the brokers' transaction.max.timeout.ms defaults to 15 minutes)
        #[arg(long, default_value = "15m", value_parser = parse_duration)]
        older_than: Duration,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Abort an open transaction in one partition, bypassing its coordinator
    AbortHanging {
        /// Topic partition
        #[arg(value_name = "TOPIC:P", value_parser = parse_selection)]
        partition: TopicSelection,
        /// First offset of the transaction, as find-hanging prints it
        #[arg(long)]
        start_offset: i64,
        #[command(flatten)]
        guard: Guard,
    },
}

impl Transactions {
    /// The operation that the command needs for what no request of its own names.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::FindHanging { .. } => Operation::Read,
            Verb::AbortHanging { .. } => Operation::ClusterAction,
            _ => Operation::Describe,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let admin = context.admin("cluster transactions")?;
        match &self.verb {
            Verb::List { json } => return list(&admin, *json),
            Verb::Describe { id, json } => describe(&admin, id, *json)?,
            Verb::FindHanging { topics, older_than, json } => return find(&admin, topics, *older_than, *json),
            Verb::AbortHanging { partition, start_offset, guard } => {
                let partitions = named(std::slice::from_ref(partition), |topic| admin.partition_count(topic))?;
                let [at] = &partitions[..] else {
                    return Err(Error::Usage("abort-hanging takes one partition: TOPIC:P".to_owned()));
                };
                let open = admin.open_transactions(std::slice::from_ref(at))?;
                let found = open.found.into_iter().find(|open| open.start_offset == *start_offset);
                let found = found.ok_or_else(|| {
                    Error::ClusterState(format!(
                        "no transaction of {at} begins at offset {start_offset} (see `kpipe cluster transactions find-hanging`)"
                    ))
                })?;
                abort(context, &admin, &found, guard)?;
            }
        }
        Ok(EXIT_OK)
    }
}

fn list(admin: &NativeAdmin, json: bool) -> Result<u8> {
    let Listing { found, incomplete } = admin.transactions()?;
    if json {
        print_lines(found.iter().map(|t| json!(t)))?;
        return Ok(report_incomplete(&incomplete));
    }
    let mut table = table(&["TRANSACTIONAL ID", "STATE", "PRODUCER", "COORDINATOR"]);
    for t in found {
        table.add_row([t.transactional_id, t.state, t.producer_id.to_string(), t.coordinator.to_string()]);
    }
    right_align(&mut table, [2, 3]);
    print(&table.to_string())?;
    Ok(report_incomplete(&incomplete))
}

/// How long ago a time was.
fn since(millis: i64) -> String {
    format!("{} s ago", (now() - millis).max(0) / 1_000)
}

fn describe(admin: &NativeAdmin, id: &str, json: bool) -> Result<()> {
    let found = admin.transaction(id)?;
    if json {
        return print_lines(std::iter::once(json!(found)));
    }
    let mut table = table(&["TRANSACTIONAL ID", "STATE", "PRODUCER", "EPOCH", "TIMEOUT", "STARTED", "PARTITIONS"]);
    table.add_row([
        found.transactional_id,
        found.state,
        found.producer_id.to_string(),
        found.producer_epoch.to_string(),
        format!("{} s", found.timeout_ms / 1_000),
        or_dash(found.started.map(since)),
        if found.partitions.is_empty() { "-".to_owned() } else { found.partitions.join(",") },
    ]);
    right_align(&mut table, [2, 3]);
    print(&table.to_string())
}

fn find(admin: &NativeAdmin, topics: &[TopicSelection], older_than: Duration, json: bool) -> Result<u8> {
    let oldest = now() - i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let Listing { mut found, incomplete } = match topics {
        [] => admin.all_open_transactions()?,
        topics => admin.open_transactions(&named(topics, |topic| admin.partition_count(topic))?)?,
    };
    found.retain(|open| open.last_timestamp <= oldest);
    if json {
        print_lines(found.iter().map(|open| json!(open)))?;
    } else {
        let mut table = table(&["TOPIC", "PARTITION", "START OFFSET", "PRODUCER", "EPOCH", "LAST WRITTEN"]);
        for open in &found {
            table.add_row([
                open.topic.clone(),
                open.partition.to_string(),
                open.start_offset.to_string(),
                open.producer_id.to_string(),
                open.producer_epoch.to_string(),
                since(open.last_timestamp),
            ]);
        }
        right_align(&mut table, 1..5);
        print(&table.to_string())?;
    }
    let code = report_incomplete(&incomplete);
    Ok(if found.is_empty() { code } else { EXIT_FAILED })
}

fn abort(context: &Context, admin: &NativeAdmin, open: &OpenTransaction, guard: &Guard) -> Result<()> {
    let what = format!(
        "the transaction of producer {} in {} from offset {}, last written to {}",
        open.producer_id,
        open.topic_partition(),
        open.start_offset,
        since(open.last_timestamp)
    );
    if guard.decide(context, "cluster transactions abort-hanging", "abort", &what, None)? == Decision::Proceed {
        admin.abort(open)?;
        say(context, &format!("aborted {what}"));
    }
    Ok(())
}
