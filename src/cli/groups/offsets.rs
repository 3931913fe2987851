//! Setting a group's offsets: what is asked for becomes a plan, which is shown, and carried out when told to.

use super::super::Context;
use super::super::consume::parse_time;
use super::super::listing::{or_dash, print, print_lines, right_align, say, table};
use super::super::places::{self, Places};
use crate::engine::{GroupAdmin, Offsets, Start};
use crate::error::{Action, Subject};
use crate::error::{Error, Result, describe_io};
use crate::record::{LeaderEpoch, Position};
use crate::record::{PartitionId, TopicPartition};
use kafka_protocol::error::ResponseError;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a group is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    To(Start),
    Shift(i64),
}

pub(super) fn parse_target(text: &str) -> Result<Target, String> {
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

/// The partitions that were named.
pub(super) fn named(admin: &GroupAdmin, topics: &[Places]) -> Result<Vec<TopicPartition>> {
    places::named(topics, |topic| Ok(admin.partitions(topic)?.len()))
}

/// A partition's offset as it is and as it is to be.
pub(super) struct Step {
    of: TopicPartition,
    from: Option<i64>,
    to: Position,
}

pub(super) fn plan_reset(admin: &GroupAdmin, group: &str, topics: &[Places], to: Target) -> Result<Vec<Step>> {
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
                    return Err(Error::Usage(format!("--to shift: group {group} has committed nothing for {of}")));
                };
                from.saturating_add(by)
            }
            Target::To(_) => meant.get(&of).copied().unwrap_or(end),
        };
        let offset = wanted.clamp(first, end);
        if offset != wanted {
            tracing::warn!("{of} holds {first} to {end}: {wanted} becomes {offset}");
        }
        steps.push(Step { of, from, to: Position { offset, leader_epoch: None } });
    }
    Ok(steps)
}

/// Writes what the group has committed, as [`plan_import`] reads it.
pub(super) fn export(admin: &GroupAdmin, group: &str) -> Result<()> {
    let lines = admin.committed(group)?.into_iter().map(|(TopicPartition { topic, partition }, kept)| Exported {
        group: group.to_owned(),
        topic: topic.to_string(),
        partition,
        offset: kept.position.offset,
        leader_epoch: LeaderEpoch::to_wire(kept.position.leader_epoch),
        metadata: kept.metadata,
    });
    print_lines(lines.map(|line| serde_json::to_value(line).unwrap_or_default()))
}

pub(super) fn plan_import(
    admin: &GroupAdmin,
    file: Option<&PathBuf>,
    group: Option<&str>,
) -> Result<Vec<(String, Vec<Step>)>> {
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
        let position = Position { offset: read.offset, leader_epoch: LeaderEpoch::from_wire(read.leader_epoch) };
        let group = group.map_or(read.group, str::to_owned);
        plans.entry(group).or_default().push(Step {
            of: TopicPartition::new(read.topic, read.partition),
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
pub(super) fn carry_out(
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
            json!({"group": group, "topic": &*step.of.topic, "partition": step.of.partition, "from": step.from, "to": step.to.offset})
        }))?;
    } else {
        let mut table = table(&["GROUP", "TOPIC", "PARTITION", "FROM", "TO"]);
        for (group, step) in all() {
            table.add_row([
                group.clone(),
                step.of.topic.to_string(),
                step.of.partition.to_string(),
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
pub(super) fn refuse_active(admin: &GroupAdmin, group: &str) -> Result<()> {
    let described = match admin.describe(group) {
        Ok(described) => described,
        // There is none yet: nobody is active.
        Err(error) if error.code() == Some(ResponseError::GroupIdNotFound) => return Ok(()),
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
        action: Action::LookUp,
        subject: Subject::group_named(group),
        code: ResponseError::NonEmptyGroup,
        detail: Some(format!("it has members: {}", members.collect::<Vec<_>>().join(", "))),
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
    }
}
