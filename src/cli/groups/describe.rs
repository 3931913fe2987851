//! `kpipe groups describe`.

use super::lag::lag_json;
use crate::cli::listing::{or_dash, print, print_lines, report_incomplete, right_align, table};
use crate::engine::{DescribedGroup, GroupMember, NativeAdmin, Progress};
use crate::error::{EXIT_OK, Result};
use crate::record::TopicPartition;
use crate::text::counted;
use crate::text::escaped;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A group, the progress of its partitions and the owner of each.
struct Described<'a> {
    group: &'a DescribedGroup,
    progress: &'a BTreeMap<TopicPartition, Progress>,
    owners: BTreeMap<&'a TopicPartition, &'a GroupMember>,
}

/// Prints groups with their members and progress; the exit code.
pub(super) fn describe(admin: &NativeAdmin, groups: &[String], json: bool) -> Result<u8> {
    let mut code = EXIT_OK;
    for name in groups {
        let group = admin.describe_group(name)?;
        let owners: BTreeMap<&TopicPartition, &GroupMember> =
            group.members.iter().flat_map(|member| member.assigned.iter().map(move |of| (of, member))).collect();
        let also: Vec<TopicPartition> = owners.keys().map(|of| (*of).clone()).collect();
        let mut found = admin.progress(name, &also)?;
        let progress = found.groups.remove(name).unwrap_or_default();
        let described = Described { group: &group, progress: &progress, owners };
        if json {
            print_lines(std::iter::once(described.json()))?;
        } else {
            print(&escaped(&described.summary()))?;
            print(&described.table())?;
        }
        code = code.max(report_incomplete(&found.incomplete));
    }
    Ok(code)
}

impl Described<'_> {
    fn json(&self) -> Value {
        let members = self.group.members.iter().map(|member| {
            json!({
                "member_id": member.member_id, "instance_id": member.instance_id, "client_id": member.client_id,
                "host": member.host, "partitions": member.assigned.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let partitions = self.progress.iter().map(|(of, progress)| {
            let mut line = lag_json(None, of, progress);
            line["member_id"] = json!(self.owners.get(of).map(|member| &member.member_id));
            line
        });
        json!({
            "group": self.group.group, "state": self.group.state, "type": self.group.group_type,
            "assignor": self.group.assignor, "coordinator": self.group.coordinator,
            "members": members.collect::<Vec<_>>(), "partitions": partitions.collect::<Vec<_>>(),
        })
    }

    fn summary(&self) -> String {
        let DescribedGroup { group, state, group_type, assignor, coordinator, members } = self.group;
        let assignor = if assignor.is_empty() { String::new() } else { format!(", assignor {assignor}") };
        let members = counted(members.len() as u64, "member");
        format!("{group}: {state}, {members}, {group_type}{assignor}, coordinator broker {coordinator}")
    }

    fn table(&self) -> String {
        let mut table = table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "CLIENT", "HOST"]);
        for (of, progress) in self.progress {
            let member = self.owners.get(of);
            table.add_row([
                of.topic.to_string(),
                of.partition.to_string(),
                or_dash(progress.committed.map(|position| position.offset)),
                or_dash(progress.end()),
                or_dash(progress.lag()),
                or_dash(member.map(|member| &member.member_id)),
                or_dash(member.map(|member| &member.client_id)),
                or_dash(member.map(|member| &member.host)),
            ]);
        }
        for member in self.group.members.iter().filter(|member| member.assigned.is_empty()) {
            let mut row = vec!["-".to_owned(); 5];
            row.extend([&member.member_id, &member.client_id, &member.host].map(Clone::clone));
            table.add_row(row);
        }
        right_align(&mut table, 1..5);
        table.to_string()
    }
}
