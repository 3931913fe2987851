//! `kpipe local`: an in-memory cluster, until a signal comes or a command has ended.

use super::Context;
use super::listing::print;
use crate::config::{parse_duration, parse_size};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::local::{Fault, Local as Cluster, OFFERED, Options, Times};
use clap::Args;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "It supports topics, idempotent and transactional producers and classic consumer groups as Kafka 4 does. It\n\
    does not support security or replication, and clients are told so.\n\
    Topic configs are stored and shown; only max.message.bytes, message.timestamp.type, retention.ms and\n\
    retention.bytes have an effect.\n\n\
    Examples:\n  \
    kpipe local --topic demo:3\n  \
    kpipe local -- sh -c 'seq 5 | kpipe produce t && kpipe consume t -o beginning -e'\n  \
    kpipe local --fault produce:NOT_LEADER_OR_FOLLOWER:0.01 --latency 20ms -- ./my-tests"
)]
pub(super) struct Local {
    /// Number of brokers, 1 to 100
    // A string, because it overrides the flag that all other commands have.
    #[arg(id = "every_brokers", long = "brokers", value_name = "N", default_value = "1", value_parser = parse_brokers)]
    brokers: String,
    /// Port of the first broker on 127.0.0.1, counting up for the others; 0 for free ports [default: 9092; with COMMAND 0]
    #[arg(long)]
    port: Option<u16>,
    /// Topic to create at startup; others are created on first use
    #[arg(long = "topic", value_name = "NAME:PARTITIONS", value_parser = parse_topic)]
    topics: Vec<(String, i32)>,
    /// Maximum size of all records; the oldest batches are deleted beyond it
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    retain_bytes: usize,
    /// Offer the consumer group protocol (KIP-848) too, as Kafka 4 does; clients that choose by themselves then use it
    #[arg(long)]
    consumer_groups: bool,
    /// Answer requests of a kind with an error instead of handling them: all of them, or this share
    ///
    /// API is a request's name, such as produce or OffsetCommit; ERROR is a Kafka error's name or code; SHARE is from 0
    /// to 1. Repeat the flag for several faults.
    #[arg(long = "fault", value_name = "API:ERROR[:SHARE]", value_parser = parse_fault)]
    faults: Vec<(ApiKey, Fault, Times)>,
    /// Delay of every response
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    latency: Duration,
    /// Seed of the random choices of --fault, to repeat them
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Command to run with KPIPE_BROKERS set; kpipe exits with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

fn parse_brokers(text: &str) -> Result<String, String> {
    let count = text.parse::<u16>().ok().filter(|count| (1..=100).contains(count));
    count.map(|_| text.to_owned()).ok_or_else(|| "expected a number of brokers, 1 to 100".to_owned())
}

fn parse_topic(text: &str) -> Result<(String, i32), String> {
    let (name, partitions) = text.rsplit_once(':').unwrap_or((text, "1"));
    let partitions = partitions.parse().ok().filter(|count| *count > 0);
    partitions
        .map(|count| (name.to_owned(), count))
        .ok_or_else(|| "expected NAME:PARTITIONS, such as demo:3".to_owned())
}

/// Parses `produce:NOT_LEADER_OR_FOLLOWER:0.01`. Names are compared by their letters alone.
fn parse_fault(text: &str) -> Result<(ApiKey, Fault, Times), String> {
    let letters = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let mut parts = text.splitn(3, ':');
    let (Some(api), Some(error)) = (parts.next(), parts.next()) else {
        return Err("expected API:ERROR or API:ERROR:SHARE, such as produce:NOT_LEADER_OR_FOLLOWER:0.01".to_owned());
    };
    let offered = OFFERED.iter().map(|(api, _)| *api).find(|offered| letters(&format!("{offered:?}")) == letters(api));
    let offered = offered.ok_or_else(|| format!("{api} is not a request that kpipe local answers"))?;
    let named = || (-1..=LAST_ERROR).find(|code| is_named(*code, &letters(error), letters));
    let code = error.parse().ok().or_else(named).filter(|code| *code != 0);
    let code = code.ok_or_else(|| format!("{error} is not a Kafka error"))?;
    let times = match parts.next() {
        None => Times::Always,
        Some(share) => {
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            Times::Chance(share.ok_or("expected a share from 0 to 1")?)
        }
    };
    Ok((offered, Fault::Error(code), times))
}

/// Beyond the codes of Kafka's errors.
const LAST_ERROR: i16 = 200;

fn is_named(code: i16, name: &str, letters: impl Fn(&str) -> String) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| letters(&format!("{error:?}")) == name)
}

impl Local {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let port = self.port.unwrap_or(if self.command.is_empty() { 9092 } else { 0 });
        let brokers = self.brokers.parse()?;
        let options = Options { brokers, port, topics: self.topics.clone(), retain_bytes: self.retain_bytes };
        let cluster = Cluster::start(&options, &context.stop)?;
        if self.consumer_groups {
            cluster.offer_consumer_groups();
        }
        let faults = cluster.faults();
        faults.set_seed(self.seed.unwrap_or_else(|| fastrand::u64(..)));
        faults.set_latency(self.latency);
        for (api, fault, times) in &self.faults {
            faults.inject(*api, *times, *fault);
        }
        match self.command.split_first() {
            None => {
                print(&cluster.bootstrap())?;
                while !context.stop.wait(Duration::MAX) {}
                Ok(EXIT_OK)
            }
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).env("KPIPE_BROKERS", cluster.bootstrap()).env("PATH", path_with_kpipe()?);
                let child = command.spawn().map_err(|e| Error::io(program.display(), &e))?;
                Ok(exit_code(wait(child, context)?))
            }
        }
    }
}

/// So that a command finds the kpipe that runs it, when there is no other.
fn path_with_kpipe() -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    Ok(std::env::join_paths(std::env::split_paths(&path).chain(own))?)
}

/// Waits for the command's end. A SIGTERM is passed on; a terminal sends its signals to the command by itself.
fn wait(mut child: Child, context: &Context) -> Result<ExitStatus> {
    let pid = rustix::process::Pid::from_child(&child);
    let stop = context.stop.clone();
    let _waker = context.stop.wake_with(move || {
        if stop.exit_code() == 128 + rustix::process::Signal::TERM.as_raw() as u8 {
            // Err: it has ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    });
    child.wait().map_err(|e| Error::io("waiting for the command", &e))
}

/// Its exit code, or what a shell reports when a signal ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILED)
}
