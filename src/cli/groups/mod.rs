//! `kpipe groups`: list, describe, lag, reset, delete, delete-offsets, export, import.

mod offsets;

use super::Context;
use super::listing::{confirm, or_dash, print, print_lines, right_align, say, table};
use crate::config::parse_duration;
use crate::engine::{GroupAdmin, Operation, Place, Progress, ResourceType, place};
use crate::error::{EXIT_FAILED, EXIT_OK, Result};
use clap::{Args, Subcommand};
use offsets::{
    Places, Target, carry_out, export, named, parse_places, parse_target, plan_import, plan_reset, refuse_active,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

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
    Lag {
        /// The groups
        #[arg(required = true)]
        groups: Vec<String>,
        /// Ends with exit code 1 when a partition is behind by more
        #[arg(long, value_name = "N")]
        max: Option<i64>,
        /// Shows it again and again, until a signal
        #[arg(short, long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_duration)]
        watch: Option<Duration>,
        /// A JSON object a partition
        #[arg(short = 'J', long)]
        json: bool,
    },
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
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Deletes a group's offsets of topics that no member reads
    DeleteOffsets {
        /// The group
        group: String,
        /// A topic, or some of its partitions
        #[arg(short, long = "topic", value_name = "TOPIC[:P,…]", required = true, value_parser = parse_places)]
        topics: Vec<Places>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
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
            Verb::Lag { groups, max, watch, json } => return Ok(lag(context, &admin, groups, *max, *watch, *json)?),
            Verb::Reset { group, topics, to, execute, json } => {
                let plan = plan_reset(&admin, group, topics, *to)?;
                carry_out(context, &admin, &[(group.clone(), plan)], *execute, *json)?;
            }
            Verb::Delete { groups, yes } => {
                if !yes {
                    confirm("groups delete", &format!("Delete {} with all offsets?", groups.join(", ")))?;
                }
                for group in groups {
                    refuse_active(&admin, group)?;
                    admin.delete(group)?;
                    say(context, &format!("deleted group {group}"));
                }
            }
            Verb::DeleteOffsets { group, topics, yes } => {
                let places = named(&admin, topics)?;
                if !yes {
                    confirm("groups delete-offsets", &format!("Delete {} offsets of {group}?", places.len()))?;
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
        let owner: BTreeMap<&Place, usize> = described
            .members
            .iter()
            .enumerate()
            .flat_map(|(index, member)| member.assigned.iter().map(move |place| (place, index)))
            .collect();
        let also: Vec<Place> = owner.keys().map(|place| (*place).clone()).collect();
        let progress = admin.progress(group, &also)?;
        if json {
            let members = described.members.iter().map(|member| {
                json!({
                    "member_id": member.member_id, "instance_id": member.instance_id, "client_id": member.client_id,
                    "host": member.host, "partitions": member.assigned.iter().map(|(t, p)| place(t, *p)).collect::<Vec<_>>(),
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
                of.0.to_string(),
                of.1.to_string(),
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

fn lag_json(group: Option<&str>, of: &Place, progress: &Progress) -> Value {
    let mut line = json!({
        "topic": &*of.0, "partition": of.1, "committed": progress.committed.map(|position| position.offset),
        "end": progress.end, "lag": progress.lag(),
    });
    if let Some(group) = group {
        line["group"] = json!(group);
    }
    line
}

fn lag(
    context: &Context,
    admin: &GroupAdmin,
    groups: &[String],
    max: Option<i64>,
    watch: Option<Duration>,
    json: bool,
) -> Result<u8> {
    let (wake, woken) = channel();
    context.stop.wake_with(move || {
        let _ = wake.send(()); // Err: the command has ended
    });
    loop {
        let mut worst = 0;
        let mut table = table(&["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
        for group in groups {
            let described = admin.describe(group)?;
            let assigned: Vec<Place> = described.members.into_iter().flat_map(|member| member.assigned).collect();
            let progress = admin.progress(group, &assigned)?;
            worst = progress.values().map(Progress::lag).max().unwrap_or(0).max(worst);
            if json {
                print_lines(progress.iter().map(|(of, progress)| lag_json(Some(group), of, progress)))?;
                continue;
            }
            for (of, progress) in &progress {
                table.add_row([
                    group.clone(),
                    of.0.to_string(),
                    of.1.to_string(),
                    or_dash(progress.committed.map(|position| position.offset)),
                    progress.end.to_string(),
                    progress.lag().to_string(),
                ]);
            }
        }
        if !json {
            right_align(&mut table, 2..6);
            print(&table.to_string())?;
        }
        if let Some(max) = max.filter(|max| worst > *max) {
            say(context, &format!("a partition is {worst} records behind, more than {max}"));
            return Ok(EXIT_FAILED);
        }
        match watch {
            // Ok: a signal came.
            Some(every) if woken.recv_timeout(every).is_err() => {}
            _ => return Ok(EXIT_OK),
        }
    }
}
