//! What `consume` takes about its group.

use crate::cli::named::named_with;
use crate::config::{Properties, parse_duration};
use crate::engine::{Assignor, GroupConfig, GroupProtocol, Named};
use crate::error::{Error, Result, did_you_mean};
use clap::Args;
use std::time::Duration;

/// As the Java client.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Shorter than the Java client's, so that others soon take over what a member leaves.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// Records that may be written and not committed while the coordinator is out of reach, with --commit batch.
const MAX_COMMIT_LEAD: u64 = 1_000_000;
/// What the coordinator has instead of assignors (KIP-848).
const SERVER_ASSIGNORS: [&str; 2] = ["uniform", "range"];

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

/// A name of an assignor, also by its class in the Java client.
fn parse_assignor(text: &str) -> Result<String, String> {
    let class = text.rsplit('.').next().unwrap_or(text);
    let name = match class {
        "RangeAssignor" => "range",
        "RoundRobinAssignor" => "roundrobin",
        "StickyAssignor" => "sticky",
        "CooperativeStickyAssignor" => "cooperative-sticky",
        _ => text.trim(),
    };
    if Assignor::named(name).is_some() || SERVER_ASSIGNORS.contains(&name) {
        return Ok(name.to_owned());
    }
    let hint = did_you_mean(name, ["cooperative-sticky", "range", "roundrobin", "sticky", "uniform"]);
    Err(format!("expected cooperative-sticky, range, roundrobin, sticky or uniform{hint}"))
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
        let Some(id) = self.group.clone().or_else(|| properties.text("group.id").map(str::to_owned)) else {
            if self.asks_for_membership() {
                return Err(Error::Usage(
                    "--group-protocol, --instance-id, --session-timeout and --assignor need a group: -g".to_owned(),
                ));
            }
            return Ok(None);
        };
        let parse_protocol =
            |text: &str| GroupProtocol::named(&text.to_lowercase()).ok_or("expected auto, classic or consumer");
        let protocol = self.group_protocol.or(properties.parsed("group.protocol", parse_protocol)?).unwrap_or_default();
        let split = |text: &str| text.split(',').map(|name| parse_assignor(name.trim())).collect::<Result<Vec<_>, _>>();
        let assignors = match &self.assignor {
            Some(names) => Some(names.clone()),
            None => properties.parsed("partition.assignment.strategy", split)?,
        };
        let session = self.session_timeout.or(properties.millis("session.timeout.ms")?);
        let server = assignors.as_ref().and_then(|names| match &names[..] {
            [one] if SERVER_ASSIGNORS.contains(&one.as_str()) => Some(one.clone()),
            _ => None,
        });
        let server = server.or_else(|| properties.text("group.remote.assignor").map(str::to_owned));
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
        let text =
            |flag: &Option<String>, name: &str| flag.clone().or_else(|| properties.text(name).map(str::to_owned));
        let session_timeout = session.unwrap_or(SESSION_TIMEOUT);
        let heartbeat = properties.millis("heartbeat.interval.ms")?.unwrap_or(HEARTBEAT_INTERVAL);
        let max_poll_interval =
            self.max_poll_interval.or(properties.millis("max.poll.interval.ms")?).unwrap_or(MAX_POLL_INTERVAL);
        for (name, time) in [
            ("--session-timeout (session.timeout.ms)", session_timeout),
            ("heartbeat.interval.ms", heartbeat),
            ("--max-poll-interval (max.poll.interval.ms)", max_poll_interval),
        ] {
            if time < Duration::from_millis(1) {
                return Err(Error::Usage(format!("{name} must be at least 1 ms")));
            }
        }
        Ok(Some(GroupConfig {
            id,
            standalone: assigned,
            protocol,
            classic_only_flag,
            instance_id: text(&self.instance_id, "group.instance.id"),
            session_timeout,
            heartbeat_interval: heartbeat.min(session_timeout / 3).max(Duration::from_millis(1)),
            max_poll_interval,
            max_commit_lead: MAX_COMMIT_LEAD,
            // "uniform" alone leaves nothing for a group that turns out to be classic but the defaults.
            assignors: if classic.is_empty() { vec![Assignor::CooperativeSticky, Assignor::Range] } else { classic },
            server_assignor: server,
        }))
    }
}
