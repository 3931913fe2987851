//! The flags of `consume` about its group.

use crate::cli::named::named_with;
use crate::config::declarations::*;
use crate::config::{Properties, SERVER_ASSIGNORS, parse_assignor, parse_duration};
use crate::engine::{Assignor, GroupConfig, GroupProtocol, Named};
use crate::error::{Error, Result};
use clap::Args;
use std::time::Duration;

/// As the Java client's.
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);
const SHORTEST: Duration = Duration::from_millis(1);
/// Records that may be written and not committed while the coordinator is out of reach, with --commit batch.
const MAX_COMMIT_LEAD: u64 = 1_000_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Group")]
pub(super) struct Group {
    /// Join this consumer group and commit offsets for it; with -p, read those partitions without joining
    #[arg(short, long)]
    group: Option<String>,
    /// Group protocol [default: auto]
    #[arg(long, value_name = "PROTOCOL", value_parser = named_with(describe_protocol))]
    group_protocol: Option<GroupProtocol>,
    /// Join as a static member under this name: a restart within the session timeout keeps its partitions
    #[arg(long, value_name = "NAME")]
    instance_id: Option<String>,
    /// Session timeout [default: 45s; with KIP-848, the group's config]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    session_timeout: Option<Duration>,
    /// Leave the group if the output accepts nothing for this long, and rejoin when it does [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_poll_interval: Option<Duration>,
    /// Assignors in order of preference: cooperative-sticky, range, roundrobin, sticky; with KIP-848 uniform or range
    /// [default: cooperative-sticky,range,roundrobin; with KIP-848, the group's config]
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

/// Refuses a time in which nothing can happen.
fn refuse_zero(name: &str, time: Duration) -> Result<()> {
    if time < SHORTEST { Err(Error::Usage(format!("{name} must be at least 1 ms"))) } else { Ok(()) }
}

impl Group {
    /// Whether a flag was given that only members of a group use.
    pub(super) fn asks_for_membership(&self) -> bool {
        self.group_protocol.is_some()
            || self.instance_id.is_some()
            || self.session_timeout.is_some()
            || self.assignor.is_some()
    }

    /// The group, if one is named. `assigned`: partitions were named, so that nobody has to assign them.
    pub(super) fn config(&self, properties: &Properties, assigned: bool) -> Result<Option<GroupConfig>> {
        let Some(id) = properties.resolve(self.group.clone(), &GROUP_ID)? else {
            if self.asks_for_membership() {
                return Err(Error::Usage(
                    "--group-protocol, --instance-id, --session-timeout and --assignor require a group (-g)".to_owned(),
                ));
            }
            return Ok(None);
        };
        let protocol = properties.resolve(self.group_protocol, &GROUP_PROTOCOL)?;
        let assignors = self.assignors(properties)?;
        let session = properties.resolve(self.session_timeout, &SESSION_TIMEOUT)?;
        let classic_only_flag = match (session, assignors.is_given) {
            (Some(_), _) => Some("--session-timeout"),
            (None, true) if assignors.server.is_none() => Some("--assignor"),
            _ => None,
        };
        check(protocol, classic_only_flag, &assignors)?;
        let session_timeout = session.unwrap_or(SESSION_TIMEOUT_DEFAULT);
        let heartbeat = properties.get(&HEARTBEAT_INTERVAL)?;
        let max_poll_interval = properties.resolve(self.max_poll_interval, &MAX_POLL_INTERVAL)?;
        refuse_zero("--session-timeout (session.timeout.ms)", session_timeout)?;
        refuse_zero("heartbeat.interval.ms", heartbeat)?;
        refuse_zero("--max-poll-interval (max.poll.interval.ms)", max_poll_interval)?;
        Ok(Some(GroupConfig {
            id,
            standalone: assigned,
            protocol,
            classic_only_flag,
            instance_id: properties.resolve(self.instance_id.clone(), &GROUP_INSTANCE_ID)?,
            session_timeout,
            heartbeat_interval: heartbeat.min(session_timeout / 3).max(SHORTEST),
            max_poll_interval,
            max_commit_lead: MAX_COMMIT_LEAD,
            // "uniform" alone leaves nothing but the defaults for a group that turns out to be classic.
            assignors: match assignors.classic {
                none if none.is_empty() => vec![Assignor::CooperativeSticky, Assignor::Range],
                some => some,
            },
            server_assignor: assignors.server,
        }))
    }

    fn assignors(&self, properties: &Properties) -> Result<Assignors> {
        let names = properties.resolve(self.assignor.clone(), &PARTITION_ASSIGNMENT_STRATEGY)?;
        let server = names.as_ref().and_then(|names| match &names[..] {
            [one] if SERVER_ASSIGNORS.contains(&one.as_str()) => Some(one.clone()),
            _ => None,
        });
        Ok(Assignors {
            is_given: names.is_some(),
            classic: match names {
                Some(names) => names.iter().filter_map(|name| Assignor::named(name)).collect(),
                None => vec![Assignor::CooperativeSticky, Assignor::Range, Assignor::RoundRobin],
            },
            server: properties.resolve(server, &GROUP_REMOTE_ASSIGNOR)?,
        })
    }
}

/// The assignors of both protocols.
struct Assignors {
    /// Whether any were named.
    is_given: bool,
    classic: Vec<Assignor>,
    server: Option<String>,
}

/// Refuses what the protocol has no place for.
fn check(protocol: GroupProtocol, classic_only_flag: Option<&str>, assignors: &Assignors) -> Result<()> {
    let why = match (protocol, classic_only_flag) {
        (GroupProtocol::Consumer, Some("--session-timeout")) => {
            "--session-timeout: with --group-protocol consumer, set the group config consumer.session.timeout.ms instead"
        }
        (GroupProtocol::Consumer, Some(_)) => "--assignor: with --group-protocol consumer, use uniform or range",
        (GroupProtocol::Classic, _) if assignors.classic.is_empty() => {
            "--assignor uniform: the classic protocol supports cooperative-sticky, range, roundrobin and sticky"
        }
        _ => return Ok(()),
    };
    Err(Error::Usage(why.to_owned()))
}
