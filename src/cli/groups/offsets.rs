//! Sets a group's offsets: a request becomes a plan, which is printed, and carried out with --execute.

use crate::cli::Context;
use crate::cli::consume::parse_time;
use crate::cli::listing::{or_dash, print, print_lines, read_json_lines, right_align, say, table};
use crate::cli::selection::{self, TopicSelection};
use crate::engine::{Bounds, NativeAdmin, OffsetAt, Offsets};
use crate::error::{Action, Error, Result, Subject};
use crate::record::{LeaderEpoch, Offset, PartitionId, Position, Timestamp, TopicPartition};
use crate::text::counted;
use kafka_protocol::error::ResponseError;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Where a group is to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Beginning,
    End,
    At(Offset),
    /// The first record with this timestamp or a later one; the end if there is none.
    Time(Timestamp),
    /// So many records after the committed offset, or before it.
    Shift(i64),
}

pub(super) fn parse_target(text: &str) -> Result<Target, String> {
    let expected = || "expected beginning, end, an offset, @TIME, shift:+N or shift:-N".to_owned();
    if let Some(by) = text.strip_prefix("shift:") {
        return by.parse().map(Target::Shift).map_err(|_| expected());
    }
    Ok(match text {
        "beginning" | "earliest" => Target::Beginning,
        "end" | "latest" => Target::End,
        _ => match text.strip_prefix('@') {
            Some(time) => Target::Time(parse_time(time)?),
            None => Target::At(text.parse().ok().filter(|offset| *offset >= 0).ok_or_else(expected)?),
        },
    })
}

/// A line of `export`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    group: String,
    topic: String,
    partition: PartitionId,
    offset: i64,
    /// Of the record before the offset; older exports have -1 for an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader_epoch: Option<i32>,
    #[serde(default)]
    metadata: String,
}

/// The partitions that were named.
pub(super) fn named(admin: &NativeAdmin, topics: &[TopicSelection]) -> Result<Vec<TopicPartition>> {
    selection::named(topics, |topic| admin.partition_count(topic))
}

/// What is to change of one group.
pub(super) struct Plan {
    pub(super) group: String,
    pub(super) steps: Vec<Step>,
}

/// A partition's offset before and after the change.
pub(super) struct Step {
    of: TopicPartition,
    from: Option<Offset>,
    to: Position,
}

pub(super) fn plan_reset(admin: &NativeAdmin, group: &str, topics: &[TopicSelection], to: Target) -> Result<Vec<Step>> {
    let committed = admin.committed(group)?;
    let partitions = if topics.is_empty() { committed.keys().cloned().collect() } else { named(admin, topics)? };
    if partitions.is_empty() {
        return Err(Error::Usage(format!("group {group} has no committed offsets (name topics with --topic)")));
    }
    let mut bounds = admin.bounds(&partitions)?;
    let mut at_time = match to {
        Target::Time(time) => admin.offsets_at(&partitions, OffsetAt::Time(time))?,
        _ => BTreeMap::new(),
    };
    let step = |of: TopicPartition| {
        let from = committed.get(&of).map(|committed| committed.position.offset);
        let unknown = || Err(Error::kafka(Action::LookUp, &of, ResponseError::UnknownTopicOrPartition));
        let Bounds { first, end } = bounds.remove(&of).unwrap_or_else(unknown)?;
        let asked = match to {
            Target::At(offset) => offset,
            Target::Beginning => first,
            Target::End => end,
            Target::Time(_) => at_time.remove(&of).transpose()?.flatten().unwrap_or(end),
            Target::Shift(by) => match from {
                Some(from) => from.saturating_add(by),
                None => {
                    return Err(Error::Usage(format!("--to shift: group {group} has no committed offset for {of}")));
                }
            },
        };
        let offset = asked.clamp(first, end);
        if offset != asked {
            tracing::warn!("{of}: offset {asked} is outside the log, {first} to {end}; using {offset}");
        }
        Ok(Step { of, from, to: Position { offset, leader_epoch: None } })
    };
    partitions.into_iter().map(step).collect()
}

/// Prints the group's committed offsets as [`plan_import`] reads them.
pub(super) fn export(admin: &NativeAdmin, group: &str) -> Result<()> {
    let lines = admin.committed(group)?.into_iter().map(|(TopicPartition { topic, partition }, committed)| Exported {
        group: group.to_owned(),
        topic: topic.to_string(),
        partition,
        offset: committed.position.offset,
        leader_epoch: committed.position.leader_epoch.map(LeaderEpoch::get),
        metadata: committed.metadata,
    });
    print_lines(lines.map(|line| serde_json::to_value(line).unwrap_or_default()))
}

pub(super) fn plan_import(admin: &NativeAdmin, file: Option<&Path>, group: Option<&str>) -> Result<Vec<Plan>> {
    let file = file.unwrap_or(Path::new("-"));
    let mut plans: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for read in read_json_lines::<Exported>(file)? {
        let of = TopicPartition::new(read.topic, read.partition);
        if read.offset < 0 || read.partition < 0 {
            let file = file.display();
            return Err(Error::Usage(format!("{file}: {of}: offset and partition must not be negative")));
        }
        let to = Position { offset: read.offset, leader_epoch: read.leader_epoch.and_then(LeaderEpoch::from_wire) };
        let group = group.map_or(read.group, str::to_owned);
        plans.entry(group).or_default().push(Step { of, from: None, to });
    }
    for (group, steps) in &mut plans {
        let committed = admin.committed(group)?;
        for step in steps {
            step.from = committed.get(&step.of).map(|committed| committed.position.offset);
        }
    }
    Ok(plans.into_iter().map(|(group, steps)| Plan { group, steps }).collect())
}

/// Prints the plans; carries them out with `execute`.
pub(super) fn carry_out(
    context: &Context,
    admin: &NativeAdmin,
    plans: &[Plan],
    execute: bool,
    json: bool,
) -> Result<()> {
    if execute {
        for plan in plans {
            refuse_active(admin, &plan.group)?;
        }
    }
    let all = || plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| (&plan.group, step)));
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
        say(context, "nothing was changed (use --execute to apply)");
        return Ok(());
    }
    for Plan { group, steps } in plans {
        let offsets: Offsets = steps.iter().map(|step| (step.of.clone(), step.to)).collect();
        admin.set_committed(group, &offsets)?;
        say(context, &format!("set {} of group {group}", counted(offsets.len() as u64, "offset")));
    }
    Ok(())
}

/// Refuses a group that has members, and names them: they would overwrite its offsets.
pub(super) fn refuse_active(admin: &NativeAdmin, group: &str) -> Result<()> {
    let described = match admin.describe_group(group) {
        Ok(described) => described,
        // A group that does not exist has no members.
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
        detail: Some(format!("the group has members: {}", members.collect::<Vec<_>>().join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        assert_eq!(parse_target("beginning"), Ok(Target::Beginning));
        assert_eq!(parse_target("42"), Ok(Target::At(42)));
        assert_eq!(parse_target("shift:-10"), Ok(Target::Shift(-10)));
        assert_eq!(parse_target("shift:+10"), Ok(Target::Shift(10)));
        assert_eq!(parse_target("@1795418062647"), Ok(Target::Time(1_795_418_062_647)));
        assert!(parse_target("-5").is_err() && parse_target("shift:x").is_err());
    }
}
