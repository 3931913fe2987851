//! `kpipe groups`: list, describe, lag, reset, delete, delete-offsets, export, import.

mod lag;
mod offsets;

use super::Context;
use super::guard::Guard;
use super::listing::{or_dash, print, print_lines, right_align, say, table};
use super::places::{Places, parse_places};
use crate::engine::{GroupAdmin, Operation, ResourceType};
use crate::error::{EXIT_OK, Result};
use crate::record::TopicPartition;
use clap::{Args, Subcommand};
use lag::lag_json;
use offsets::{Target, carry_out, export, named, parse_target, plan_import, plan_reset, refuse_active};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Looks after consumer groups.
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
    /// Names, states and types of all groups
    List {
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Members, what they have, and how far the group is
    Describe {
        /// The groups
        #[arg(required = true)]
        groups: Vec<String>,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// How many records each partition is behind; where nothing was committed, all that there are
    Lag(lag::Lag),
    /// Sets offsets of a group without members: shows what would be set, and does it with --execute
    Reset {
        /// The group
        group: String,
        /// A topic, or some of its partitions [default: all that the group has committed for]
        #[arg(short, long = "topic", value_name = "TOPIC[:P,…]", value_parser = parse_places)]
        topics: Vec<Places>,
        /// beginning, end, an offset, @TIME (as consume -o takes it), or shift:+N and shift:-N
        #[arg(long, allow_hyphen_values = true, value_parser = parse_target)]
        to: Target,
        /// Sets them
        #[arg(long)]
        execute: bool,
        /// A JSON object a partition
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Deletes groups without members, with their offsets
    Delete {
        /// The groups
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        guard: Guard,
    },
    /// Deletes a group's offsets of topics that no member reads
    DeleteOffsets {
        /// The group
        group: String,
        /// A topic, or some of its partitions
        #[arg(short, long = "topic", value_name = "TOPIC[:P,…]", required = true, value_parser = parse_places)]
        topics: Vec<Places>,
        #[command(flatten)]
        guard: Guard,
    },
    /// Writes committed offsets as JSON lines
    Export {
        /// The groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Sets offsets as export has written them: shows what would be set, and does it with --execute
    Import {
        /// The file [default: stdin]
        file: Option<PathBuf>,
        /// Sets them for this group, whichever they were exported from
        #[arg(short, long)]
        group: Option<String>,
        /// Sets them
        #[arg(long)]
        execute: bool,
        /// A JSON object a partition
        #[arg(short = 'J', long)]
        json: bool,
    },
}

impl Groups {
    /// What it does with a group or a topic, as ACLs call it.
    pub(super) fn operation(&self, kind: ResourceType) -> Operation {
        match (&self.verb, kind) {
            (Verb::Delete { .. } | Verb::DeleteOffsets { .. }, ResourceType::Group) => Operation::Delete,
            (Verb::Reset { .. } | Verb::Import { .. } | Verb::DeleteOffsets { .. }, _) => Operation::Read,
            _ => Operation::Describe,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let admin = context.connect()?.groups()?;
        match &self.verb {
            Verb::List { json } => list(&admin, *json)?,
            Verb::Describe { groups, json } => describe(&admin, groups, *json)?,
            Verb::Lag(lag) => return Ok(lag.run(context, &admin)?),
            Verb::Reset { group, topics, to, execute, json } => {
                let plan = plan_reset(&admin, group, topics, *to)?;
                carry_out(context, &admin, &[(group.clone(), plan)], *execute, *json)?;
            }
            Verb::Delete { groups, guard } => {
                let what = format!("{} and all of its offsets", groups.join(", "));
                if !guard.allows(context, "groups delete", "delete", &what)? {
                    return Ok(EXIT_OK);
                }
                for group in groups {
                    refuse_active(&admin, group)?;
                    admin.delete(group)?;
                    say(context, &format!("deleted group {group}"));
                }
            }
            Verb::DeleteOffsets { group, topics, guard } => {
                let places = named(&admin, topics)?;
                let what = format!("{} offsets of group {group}", places.len());
                if !guard.allows(context, "groups delete-offsets", "delete", &what)? {
                    return Ok(EXIT_OK);
                }
                admin.delete_offsets(group, &places)?;
                say(context, &format!("deleted {} offsets of group {group}", places.len()));
            }
            Verb::Export { groups } => {
                for group in groups {
                    export(&admin, group)?;
                }
            }
            Verb::Import { file, group, execute, json } => {
                let plans = plan_import(&admin, file.as_ref(), group.as_deref())?;
                carry_out(context, &admin, &plans, *execute, *json)?;
            }
        }
        Ok(EXIT_OK)
    }
}

fn list(admin: &GroupAdmin, json: bool) -> Result<()> {
    let groups = admin.list()?;
    if json {
        return print_lines(groups.iter().map(|group| serde_json::to_value(group).unwrap_or_default()));
    }
    let mut table = table(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    for group in groups {
        let protocol = Some(group.protocol).filter(|protocol| !protocol.is_empty());
        table.add_row([group.group, or_dash(group.state), or_dash(group.kind), or_dash(protocol)]);
    }
    print(&table.to_string())
}

/// How far a group is, with the member that has each partition.
fn describe(admin: &GroupAdmin, groups: &[String], json: bool) -> Result<()> {
    for group in groups {
        let described = admin.describe(group)?;
        let owner: BTreeMap<&TopicPartition, usize> = described
            .members
            .iter()
            .enumerate()
            .flat_map(|(index, member)| member.assigned.iter().map(move |place| (place, index)))
            .collect();
        let also: Vec<TopicPartition> = owner.keys().map(|place| (*place).clone()).collect();
        let progress = admin.progress(group, &also)?;
        if json {
            let members = described.members.iter().map(|member| {
                json!({
                    "member_id": member.member_id, "instance_id": member.instance_id, "client_id": member.client_id,
                    "host": member.host, "partitions": member.assigned.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            });
            let partitions = progress.iter().map(|(of, progress)| {
                let member = owner.get(of).map(|index| described.members[*index].member_id.clone());
                let mut line = lag_json(None, of, progress);
                line["member_id"] = json!(member);
                line
            });
            let line = json!({
                "group": group, "state": described.state, "type": described.kind, "assignor": described.assignor,
                "coordinator": described.coordinator, "members": members.collect::<Vec<_>>(),
                "partitions": partitions.collect::<Vec<_>>(),
            });
            print_lines(std::iter::once(line))?;
            continue;
        }
        let assignor = if described.assignor.is_empty() {
            String::new()
        } else {
            format!(", shares out by {}", described.assignor)
        };
        print(&format!(
            "{group}: {}, {} members, {}{assignor}, coordinated by broker {}",
            described.state,
            described.members.len(),
            described.kind,
            described.coordinator
        ))?;
        let mut table = table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "CLIENT", "HOST"]);
        for (of, progress) in &progress {
            let member = owner.get(of).map(|index| &described.members[*index]);
            table.add_row([
                of.topic.to_string(),
                of.partition.to_string(),
                or_dash(progress.committed.map(|position| position.offset)),
                progress.end.to_string(),
                progress.lag().to_string(),
                or_dash(member.map(|member| &member.member_id)),
                or_dash(member.map(|member| &member.client_id)),
                or_dash(member.map(|member| &member.host)),
            ]);
        }
        for member in described.members.iter().filter(|member| member.assigned.is_empty()) {
            let none = || "-".to_owned();
            table.add_row([
                none(),
                none(),
                none(),
                none(),
                none(),
                member.member_id.clone(),
                member.client_id.clone(),
                member.host.clone(),
            ]);
        }
        right_align(&mut table, 1..5);
        print(&table.to_string())?;
    }
    Ok(())
}
