//! `kpipe local`: an in-memory cluster, until a signal comes or a command has ended.

use super::Context;
use super::listing::print;
use crate::config::parse_size;
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::local::{Local as Cluster, Options};
use clap::Args;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "It supports topics, idempotent producers and classic consumer groups as Kafka 4 does. It does not support\n\
    transactions, KIP-848 groups, security or replication, and clients are told so.\n\
    Topic configs are stored and shown; only max.message.bytes and message.timestamp.type have an effect.\n\n\
    Examples:\n  \
    kpipe local --topic demo:3\n  \
    kpipe local -- sh -c 'seq 5 | kpipe produce t && kpipe consume t -o beginning -e'"
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

impl Local {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let port = self.port.unwrap_or(if self.command.is_empty() { 9092 } else { 0 });
        let brokers = self.brokers.parse()?;
        let options = Options { brokers, port, topics: self.topics.clone(), retain_bytes: self.retain_bytes };
        let cluster = Cluster::start(&options, &context.stop)?;
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
