//! `kpipe groups`: list, describe, lag, reset, delete, delete-offsets, export, import.

mod describe;
mod lag;
mod offsets;

use super::Context;
use super::guard::{Decision, Guard};
use super::listing::{or_dash, print, print_lines, report_incomplete, say, table};
use super::selection::{TopicSelection, parse_selection};
use crate::engine::{Listing, NativeAdmin, Operation, ResourceType};
use crate::error::{EXIT_OK, Result};
use crate::text::counted;
use clap::{Args, Subcommand};
use offsets::{Plan, Target, carry_out, export, named, parse_target, plan_import, plan_reset, refuse_active};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe groups list\n  \
    kpipe groups lag workers --max 1000 || echo behind\n  \
    kpipe groups reset workers --topic jobs --to @-1h --execute\n  \
    kpipe groups export workers >offsets.jsonl")]
pub(super) struct Groups {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List groups with their states and types
    List {
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Describe groups: members, assignments, committed offsets, lag
    Describe {
        /// Group IDs
        #[arg(required = true)]
        groups: Vec<String>,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Show the lag of each partition; without a committed offset, the whole partition counts
    Lag(lag::Lag),
    /// Reset the offsets of a group without members; prints the changes unless --execute is given
    Reset {
        /// Group ID
        group: String,
        /// Topics, or topic partitions [default: all with committed offsets]
        #[arg(short, long = "topic", value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        /// beginning, end, an offset, @TIME (as in consume -o), shift:+N or shift:-N
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = parse_target)]
        to: Target,
        /// Apply the changes
        #[arg(long)]
        execute: bool,
        /// Print one JSON object per partition
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Delete groups without members, including their offsets
    Delete {
        /// Group IDs
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete a group's offsets of topics that no member is subscribed to
    DeleteOffsets {
        /// Group ID
        group: String,
        /// Topics, or topic partitions
        #[arg(short, long = "topic", value_name = "TOPIC[:P,...]", required = true, value_parser = parse_selection)]
        topics: Vec<TopicSelection>,
        #[command(flatten)]
        guard: Guard,
    },
    /// Export committed offsets as JSON lines
    Export {
        /// Group IDs
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Import offsets written by export; prints the changes unless --execute is given
    Import {
        /// File to read; - for stdin [default: stdin]
        file: Option<PathBuf>,
        /// Group to import into, instead of the one exported
        #[arg(short, long)]
        group: Option<String>,
        /// Apply the changes
        #[arg(long)]
        execute: bool,
        /// Print one JSON object per partition
        #[arg(short = 'J', long)]
        json: bool,
    },
}

impl Groups {
    /// What it does with a group or a topic, in terms of ACLs.
    pub(super) fn operation(&self, kind: ResourceType) -> Operation {
        match (&self.verb, kind) {
            (Verb::Delete { .. } | Verb::DeleteOffsets { .. }, ResourceType::Group) => Operation::Delete,
            (Verb::Reset { .. } | Verb::Import { .. } | Verb::DeleteOffsets { .. }, _) => Operation::Read,
            _ => Operation::Describe,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let admin = context.admin("groups")?;
        match &self.verb {
            Verb::List { json } => return Ok(list(&admin, *json)?),
            Verb::Describe { groups, json } => return Ok(describe::describe(&admin, groups, *json)?),
            Verb::Lag(lag) => return Ok(lag.run(context, &admin)?),
            Verb::Reset { group, topics, to, execute, json } => {
                let steps = plan_reset(&admin, group, topics, *to)?;
                carry_out(context, &admin, &[Plan { group: group.clone(), steps }], *execute, *json)?;
            }
            Verb::Delete { groups, guard } => delete(context, &admin, groups, guard)?,
            Verb::DeleteOffsets { group, topics, guard } => delete_offsets(context, &admin, group, topics, guard)?,
            Verb::Export { groups } => {
                for group in groups {
                    export(&admin, group)?;
                }
            }
            Verb::Import { file, group, execute, json } => {
                let plans = plan_import(&admin, file.as_deref(), group.as_deref())?;
                carry_out(context, &admin, &plans, *execute, *json)?;
            }
        }
        Ok(EXIT_OK)
    }
}

fn list(admin: &NativeAdmin, json: bool) -> Result<u8> {
    let Listing { found: groups, incomplete } = admin.groups()?;
    if json {
        print_lines(groups.iter().map(|group| serde_json::to_value(group).unwrap_or_default()))?;
        return Ok(report_incomplete(&incomplete));
    }
    let mut table = table(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    for group in groups {
        let protocol = Some(group.protocol).filter(|protocol| !protocol.is_empty());
        table.add_row([group.group, or_dash(group.state), or_dash(group.group_type), or_dash(protocol)]);
    }
    print(&table.to_string())?;
    Ok(report_incomplete(&incomplete))
}

fn delete(context: &Context, admin: &NativeAdmin, groups: &[String], guard: &Guard) -> Result<()> {
    let what = match groups {
        [group] => format!("group {group} and all of its offsets"),
        groups => format!("groups {} and all of their offsets", groups.join(", ")),
    };
    if guard.decide(context, "groups delete", "delete", &what, None)? == Decision::DryRun {
        return Ok(());
    }
    for group in groups {
        refuse_active(admin, group)?;
        admin.delete_group(group)?;
        say(context, &format!("deleted group {group}"));
    }
    Ok(())
}

fn delete_offsets(
    context: &Context,
    admin: &NativeAdmin,
    group: &str,
    topics: &[TopicSelection],
    guard: &Guard,
) -> Result<()> {
    let partitions = named(admin, topics)?;
    let what = format!("{} of group {group}", counted(partitions.len() as u64, "offset"));
    if guard.decide(context, "groups delete-offsets", "delete", &what, None)? == Decision::Proceed {
        admin.delete_offsets(group, &partitions)?;
        say(context, &format!("deleted {what}"));
    }
    Ok(())
}
