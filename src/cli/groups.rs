//! `kpipe groups`: list, describe, lag, reset, delete, delete-offsets, export, import.

use super::Context;
use super::consume::parse_time;
use super::listing::{confirm, or_dash, print, print_lines, right_align, say, table};
use crate::config::parse_duration;
use crate::engine::{GroupAdmin, Offsets, Place, Position, Progress, Start, place};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result, describe_io};
use crate::record::PartitionId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
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

/// A topic, and perhaps only some of its partitions.
#[derive(Debug, Clone)]
struct Places {
    topic: String,
    partitions: Option<Vec<PartitionId>>,
}

fn parse_places(text: &str) -> Result<Places, String> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return Ok(Places { topic: text.to_owned(), partitions: None });
    };
    let parsed: Result<Vec<PartitionId>, _> = partitions.split(',').map(|p| p.trim().parse()).collect();
    let partitions = parsed.ok().filter(|all| all.iter().all(|p| *p >= 0));
    let partitions = partitions.ok_or_else(|| "expected TOPIC or TOPIC:0,1,2".to_owned())?;
    Ok(Places { topic: topic.to_owned(), partitions: Some(partitions) })
}

/// Where a group is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    To(Start),
    Shift(i64),
}

fn parse_target(text: &str) -> Result<Target, String> {
    let expected = || "expected beginning, end, an offset, @TIME, shift:+N or shift:-N".to_owned();
    if let Some(by) = text.strip_prefix("shift:") {
        return by.parse().map(Target::Shift).map_err(|_| expected());
    }
    Ok(Target::To(match text {
        "beginning" | "earliest" => Start::Beginning,
        "end" | "latest" => Start::End,
        _ => match text.strip_prefix('@') {
            Some(time) => Start::Time(parse_time(time)?),
            None => Start::At(text.parse().ok().filter(|offset| *offset >= 0).ok_or_else(expected)?),
        },
    }))
}

/// A line of `export`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    group: String,
    topic: String,
    partition: PartitionId,
    offset: i64,
    #[serde(default = "unknown_epoch")]
    leader_epoch: i32,
    #[serde(default)]
    metadata: String,
}

fn unknown_epoch() -> i32 {
    -1
}

impl Groups {
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
                    let lines = admin.committed(group)?.into_iter().map(|((topic, partition), kept)| Exported {
                        group: group.clone(),
                        topic: topic.to_string(),
                        partition,
                        offset: kept.position.offset,
                        leader_epoch: kept.position.leader_epoch,
                        metadata: kept.metadata,
                    });
                    print_lines(lines.map(|line| serde_json::to_value(line).unwrap_or_default()))?;
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

/// The partitions that were named.
fn named(admin: &GroupAdmin, topics: &[Places]) -> Result<Vec<Place>> {
    let mut all = Vec::new();
    for named in topics {
        let there = admin.partitions(&named.topic)?;
        let topic: Arc<str> = named.topic.as_str().into();
        match &named.partitions {
            None => all.extend(there),
            Some(partitions) => {
                if let Some(missing) = partitions.iter().find(|p| **p as usize >= there.len()) {
                    return Err(crate::engine::no_such_partition(&topic, *missing, there.len()));
                }
                all.extend(partitions.iter().map(|partition| (topic.clone(), *partition)));
            }
        }
    }
    Ok(all)
}

/// A partition's offset as it is and as it is to be.
struct Step {
    of: Place,
    from: Option<i64>,
    to: Position,
}

fn plan_reset(admin: &GroupAdmin, group: &str, topics: &[Places], to: Target) -> Result<Vec<Step>> {
    let committed = admin.committed(group)?;
    let places = if topics.is_empty() { committed.keys().cloned().collect() } else { named(admin, topics)? };
    if places.is_empty() {
        return Err(Error::Usage(format!("group {group} has committed nothing yet: --topic says what to set")));
    }
    let first = admin.offsets(&places, Start::Beginning)?;
    let end = admin.offsets(&places, Start::End)?;
    let meant = match to {
        Target::To(start @ (Start::Beginning | Start::End | Start::Time(_))) => admin.offsets(&places, start)?,
        _ => BTreeMap::new().into_iter().collect(),
    };
    let mut steps = Vec::new();
    for of in places {
        let from = committed.get(&of).map(|kept| kept.position.offset);
        let (first, end) = (first.get(&of).copied().unwrap_or(0), end.get(&of).copied().unwrap_or(0));
        let wanted = match to {
            Target::To(Start::At(offset)) => offset,
            Target::Shift(by) => {
                let Some(from) = from else {
                    return Err(Error::Usage(format!(
                        "--to shift: group {group} has committed nothing for {}",
                        place(&of.0, of.1)
                    )));
                };
                from.saturating_add(by)
            }
            Target::To(_) => meant.get(&of).copied().unwrap_or(end),
        };
        let offset = wanted.clamp(first, end);
        if offset != wanted {
            tracing::warn!("{} holds {first} to {end}: {wanted} becomes {offset}", place(&of.0, of.1));
        }
        steps.push(Step { of, from, to: Position { offset, leader_epoch: -1 } });
    }
    Ok(steps)
}

fn plan_import(admin: &GroupAdmin, file: Option<&PathBuf>, group: Option<&str>) -> Result<Vec<(String, Vec<Step>)>> {
    let (name, text) = match file {
        Some(path) => (path.display().to_string(), std::fs::read_to_string(path)),
        None => ("stdin".to_owned(), std::io::read_to_string(std::io::stdin())),
    };
    let text = text.map_err(|e| Error::Io(format!("{name}: {}", describe_io(&e))))?;
    let mut plans: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed =
            |byte, what: String| Error::Input { source_name: name.clone(), line: index as u64 + 1, byte, what };
        let read: Exported = serde_json::from_str(line).map_err(|e| malformed(Some(e.column()), e.to_string()))?;
        if read.offset < 0 || read.partition < 0 {
            return Err(malformed(None, "offset and partition begin at 0".to_owned()));
        }
        let position = Position { offset: read.offset, leader_epoch: read.leader_epoch };
        let group = group.map_or(read.group, str::to_owned);
        plans.entry(group).or_default().push(Step {
            of: (read.topic.into(), read.partition),
            from: None,
            to: position,
        });
    }
    for (group, steps) in &mut plans {
        let committed = admin.committed(group)?;
        for step in steps {
            step.from = committed.get(&step.of).map(|kept| kept.position.offset);
        }
    }
    Ok(plans.into_iter().collect())
}

/// Shows the plans; does them when told to.
fn carry_out(
    context: &Context,
    admin: &GroupAdmin,
    plans: &[(String, Vec<Step>)],
    execute: bool,
    json: bool,
) -> Result<()> {
    if execute {
        for (group, _) in plans {
            refuse_active(admin, group)?;
        }
    }
    let all = || plans.iter().flat_map(|(group, steps)| steps.iter().map(move |step| (group, step)));
    if json {
        print_lines(all().map(|(group, step)| {
            json!({"group": group, "topic": &*step.of.0, "partition": step.of.1, "from": step.from, "to": step.to.offset})
        }))?;
    } else {
        let mut table = table(&["GROUP", "TOPIC", "PARTITION", "FROM", "TO"]);
        for (group, step) in all() {
            table.add_row([
                group.clone(),
                step.of.0.to_string(),
                step.of.1.to_string(),
                or_dash(step.from),
                step.to.offset.to_string(),
            ]);
        }
        right_align(&mut table, 2..5);
        print(&table.to_string())?;
    }
    if !execute {
        say(context, "nothing is set yet: --execute does it");
        return Ok(());
    }
    for (group, steps) in plans {
        let offsets: Offsets = steps.iter().map(|step| (step.of.clone(), step.to)).collect();
        admin.set(group, &offsets)?;
        say(context, &format!("set {} offsets of group {group}", offsets.len()));
    }
    Ok(())
}

/// An active group would go on where its members are: says who they are.
fn refuse_active(admin: &GroupAdmin, group: &str) -> Result<()> {
    const GROUP_ID_NOT_FOUND: i16 = 69;
    let described = match admin.describe(group) {
        Ok(described) => described,
        // There is none yet: nobody is active.
        Err(Error::Kafka { code, .. }) if code.0 == GROUP_ID_NOT_FOUND => return Ok(()),
        Err(error) => return Err(error),
    };
    if described.members.is_empty() {
        return Ok(());
    }
    let members = described
        .members
        .iter()
        .map(|member| format!("{} at {}", member.client_id, member.host.trim_start_matches('/')));
    Err(Error::Kafka {
        what: format!("group {group}"),
        code: crate::error::Code(68),
        message: Some(format!("it has members: {}; stop them first", members.collect::<Vec<_>>().join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        assert_eq!(parse_target("beginning"), Ok(Target::To(Start::Beginning)));
        assert_eq!(parse_target("42"), Ok(Target::To(Start::At(42))));
        assert_eq!(parse_target("shift:-10"), Ok(Target::Shift(-10)));
        assert_eq!(parse_target("shift:+10"), Ok(Target::Shift(10)));
        assert_eq!(parse_target("@1795418062647"), Ok(Target::To(Start::Time(1_795_418_062_647))));
        assert!(parse_target("-5").is_err() && parse_target("shift:x").is_err());
        assert_eq!(parse_places("t:0,2").unwrap().partitions, Some(vec![0, 2]));
        assert!(parse_places("t:a").is_err() && parse_places("t:-1").is_err());
    }
}
