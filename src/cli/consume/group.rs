//! What `consume` takes about its group.

use crate::cli::named::named_with;
use crate::config::declarations::*;
use crate::config::{Properties, SERVER_ASSIGNORS, parse_assignor, parse_duration};
use crate::engine::{Assignor, GroupConfig, GroupProtocol, Named};
use crate::error::{Error, Result};
use clap::Args;
use std::time::Duration;

/// As the Java client's.
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);
/// Records that may be written and not committed while the coordinator is out of reach, with --commit batch.
const MAX_COMMIT_LEAD: u64 = 1_000_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Group")]
pub(super) struct Group {
    /// Shares the topics with all others of this group, begins where it is, and commits what was written for it;
    /// with -p it reads those partitions alone
    #[arg(short, long)]
    group: Option<String>,
    /// How members share out: consumer is KIP-848's [default: auto]
    #[arg(long, value_name = "PROTOCOL", value_parser = named_with(describe_protocol))]
    group_protocol: Option<GroupProtocol>,
    /// Keeps its partitions through a restart that takes less than the session timeout, under this name
    #[arg(long, value_name = "NAME")]
    instance_id: Option<String>,
    /// A member silent this long is thought dead [default: 45s; with KIP-848 the group's own setting]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    session_timeout: Option<Duration>,
    /// A member whose reader takes nothing for this long leaves, and joins again when it does [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_poll_interval: Option<Duration>,
    /// How to share out: cooperative-sticky, range, roundrobin, sticky; with KIP-848 uniform or range
    /// [default: cooperative-sticky,range,roundrobin; with KIP-848 the group's own setting]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = parse_assignor)]
    assignor: Option<Vec<String>>,
}

fn describe_protocol(protocol: GroupProtocol) -> &'static str {
    match protocol {
        GroupProtocol::Auto => "consumer if the brokers support it and the group is not classic, otherwise classic",
        GroupProtocol::Classic => "Members compute the assignment (Kafka 0.9 and later)",
        GroupProtocol::Consumer => "The coordinator computes the assignment (KIP-848, Kafka 4.0 and later)",
    }
}

impl Group {
    /// Whether a flag was given that only a member has a use for.
    pub(super) fn asks_for_membership(&self) -> bool {
        self.group_protocol.is_some()
            || self.instance_id.is_some()
            || self.session_timeout.is_some()
            || self.assignor.is_some()
    }

    /// The group, if one is named. `assigned`: partitions were named, so that nobody has to share them out.
    pub(super) fn config(&self, properties: &Properties, assigned: bool) -> Result<Option<GroupConfig>> {
        let Some(id) = properties.resolve(self.group.clone(), &GROUP_ID)? else {
            if self.asks_for_membership() {
                return Err(Error::Usage(
                    "--group-protocol, --instance-id, --session-timeout and --assignor need a group: -g".to_owned(),
                ));
            }
            return Ok(None);
        };
        let protocol = properties.resolve(self.group_protocol, &GROUP_PROTOCOL)?;
        let assignors = properties.resolve(self.assignor.clone(), &PARTITION_ASSIGNMENT_STRATEGY)?;
        let session = properties.resolve(self.session_timeout, &SESSION_TIMEOUT)?;
        let server = assignors.as_ref().and_then(|names| match &names[..] {
            [one] if SERVER_ASSIGNORS.contains(&one.as_str()) => Some(one.clone()),
            _ => None,
        });
        let server = properties.resolve(server, &GROUP_REMOTE_ASSIGNOR)?;
        let classic: Vec<Assignor> = match &assignors {
            Some(names) => names.iter().filter_map(|name| Assignor::named(name)).collect(),
            None => vec![Assignor::CooperativeSticky, Assignor::Range, Assignor::RoundRobin],
        };
        let classic_only_flag = match (session, &assignors) {
            (Some(_), _) => Some("--session-timeout"),
            (None, Some(_)) if server.is_none() => Some("--assignor"),
            _ => None,
        };
        match (protocol, classic_only_flag) {
            (GroupProtocol::Consumer, Some("--session-timeout")) => {
                return Err(Error::Usage(
                    "--session-timeout: with --group-protocol consumer it is a setting of the group, consumer.session.timeout.ms".to_owned(),
                ));
            }
            (GroupProtocol::Consumer, Some(_)) => {
                return Err(Error::Usage(
                    "--assignor: with --group-protocol consumer the coordinator shares out, by uniform or range"
                        .to_owned(),
                ));
            }
            (GroupProtocol::Classic, _) if classic.is_empty() => {
                return Err(Error::Usage(
                    "--assignor uniform: the classic protocol has cooperative-sticky, range, roundrobin and sticky"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let session_timeout = session.unwrap_or(SESSION_TIMEOUT_DEFAULT);
        let heartbeat = properties.get(&HEARTBEAT_INTERVAL)?;
        Ok(Some(GroupConfig {
            id,
            standalone: assigned,
            protocol,
            classic_only_flag,
            instance_id: properties.resolve(self.instance_id.clone(), &GROUP_INSTANCE_ID)?,
            session_timeout,
            heartbeat_interval: heartbeat.min(session_timeout / 3),
            max_poll_interval: properties.resolve(self.max_poll_interval, &MAX_POLL_INTERVAL)?,
            max_commit_lead: MAX_COMMIT_LEAD,
            // "uniform" alone leaves nothing for a group that turns out to be classic but the defaults.
            assignors: if classic.is_empty() { vec![Assignor::CooperativeSticky, Assignor::Range] } else { classic },
            server_assignor: server,
        }))
    }
}
