//! stdin, stdout and stderr in every combination of usual, closed, full and gone, for every command: no abort, no panic,
//! no wait without end, no success that is not one, and an unwritable stderr changes nothing.

use crate::support::{Cluster, MadeUpRegistry, Reply, all_tests, report};
use clap::CommandFactory;
use kpipe::cli::Cli;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a standard stream may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Usual,
    Closed,
    /// `/dev/full`: takes nothing; gives zeros without end.
    Full,
    /// A pipe whose other end is closed.
    Gone,
}

/// How many runs there were.
static RUNS: AtomicUsize = AtomicUsize::new(0);

const STREAMS: [Stream; 4] = [Stream::Usual, Stream::Closed, Stream::Full, Stream::Gone];

/// stdin, stdout and stderr, and the number of the combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Streams {
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    number: usize,
}

fn combinations() -> Vec<Streams> {
    let mut all = Vec::new();
    for stdin in STREAMS {
        for stdout in STREAMS {
            for stderr in STREAMS {
                all.push(Streams { stdin, stdout, stderr, number: all.len() });
            }
        }
    }
    all
}

/// What each command is run with: `{n}` is the number of the combination, for which there are topics `t{n}`, `d{n}` and
/// `r{n}` of one record each and groups `g{n}`, `s{n}`, `o{n}` and `d{n}` that have read `t{n}`. A command that reads stdin
/// is given something to read. No command changes what another one reads.
pub(crate) const COMMANDS: [(&str, Option<&str>); 56] = [
    ("produce new{n}", Some("a\nb\n")),
    ("produce receipts{n} --receipts", Some("a\nb\n")),
    ("consume t{n} -o beginning -e", None),
    ("consume t{n} -g read{n} -o beginning -e --commit each", None),
    ("topics list", None),
    ("topics describe t{n}", None),
    ("topics offsets t{n}", None),
    ("topics count t{n}", None),
    ("topics create created{n}", None),
    ("topics alter t{n} --config retention.ms=1000", None),
    ("topics add-partitions t{n} --to 3", None),
    ("topics delete-records r{n} --before end --yes", None),
    ("topics delete d{n} --yes", None),
    ("topics elect-leaders t{n}", None),
    ("topics reassign plan t{n}", None),
    ("topics reassign execute - --yes", Some("")),
    ("topics reassign progress", None),
    ("topics reassign cancel", None),
    ("groups list", None),
    ("groups describe g{n}", None),
    ("groups lag g{n}", None),
    ("groups reset s{n} --to end --execute", None),
    ("groups delete-offsets o{n} --topic t{n} --yes", None),
    ("groups delete d{n} --yes", None),
    ("groups export g{n}", None),
    ("groups import --execute", Some("{\"group\":\"i{n}\",\"topic\":\"t{n}\",\"partition\":0,\"offset\":1}\n")),
    ("acls list", None),
    ("acls create --input -", Some("")),
    ("acls delete --input - --yes", Some("")),
    ("cluster brokers", None),
    ("cluster features", None),
    ("cluster apis", None),
    ("cluster quorum", None),
    ("cluster log-dirs", None),
    ("cluster health", None),
    ("cluster configs get", None),
    ("cluster configs set --config log.retention.ms=1000", None),
    ("cluster transactions list", None),
    ("cluster transactions describe x", None),
    ("cluster transactions find-hanging", None),
    ("cluster transactions abort-hanging t{n}:0 --start-offset 0 --yes", None),
    ("cluster users list", None),
    ("cluster users create u", Some("password\n")),
    ("cluster users delete u --yes", None),
    ("schemas list", None),
    ("schemas get s:1", None),
    ("schemas versions s", None),
    ("schemas register s - --type avro", Some("\"long\"")),
    ("schemas check s - --type avro", Some("\"long\"")),
    ("schemas delete s --yes", None),
    ("schemas config s", None),
    ("local --port 0 -- true", None),
    ("config show", None),
    ("config properties", None),
    ("completions bash", None),
    ("man", None),
];

fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path}{} ", sub.get_name());
        if sub.has_subcommands() { leaves(sub, &path, found) } else { found.push(path) }
    }
}

/// A cluster with what [`COMMANDS`] name.
fn prepared(count: usize) -> Cluster {
    let kafka = Cluster::start_local(1);
    let numbers = || (0..count).map(|n| n.to_string());
    let record = |topic: String| format!("{{\"topic\":\"{topic}\",\"value\":\"x\"}}\n");
    let topics = numbers().flat_map(|n| ["t", "d", "r"].map(|name| format!("{name}{n}")));
    let records: String = topics.map(record).collect();
    kafka.kpipe(&["produce", "-", "--input", "json"], records.as_bytes());
    let offset =
        |n: &str, group| format!("{{\"group\":\"{group}{n}\",\"topic\":\"t{n}\",\"partition\":0,\"offset\":1}}\n");
    let offsets: String = numbers().flat_map(|n| ["g", "s", "o", "d"].map(|group| offset(&n, group))).collect();
    kafka.kpipe(&["groups", "import", "--execute"], offsets.as_bytes());
    kafka
}

/// The address of a registry that has one subject, and takes what comes.
fn registry() -> &'static str {
    static REGISTRY: OnceLock<MadeUpRegistry> = OnceLock::new();
    let version = serde_json::json!({ "subject": "s", "version": 1, "id": 1, "schema": "\"long\"" });
    let start = || {
        MadeUpRegistry::start(move |asked| {
            let (method, path) = asked.line.split_once(' ').unwrap();
            Reply::json(
                200,
                &match (method, path.split('?').next().unwrap()) {
                    ("GET", "/subjects") => serde_json::json!(["s"]),
                    ("GET", "/subjects/s/versions") | ("DELETE", _) => serde_json::json!([1]),
                    ("POST", "/subjects/s/versions") => serde_json::json!({ "id": 1 }),
                    ("POST", path) if path.starts_with("/compatibility") => {
                        serde_json::json!({ "is_compatible": true })
                    }
                    ("GET", path) if path.starts_with("/config") => serde_json::json!({ "compatibilityLevel": "FULL" }),
                    _ => version.clone(),
                },
            )
        })
    };
    &REGISTRY.get_or_init(start).url
}

/// How a command ended: its exit code, 128 + N after signal N, and what it printed where that could be read.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(kafka: &Cluster, (arguments, input): (&str, Option<&str>), streams: Streams) -> Ended {
    let filled = |text: &str| text.replace("{n}", &streams.number.to_string());
    let closed = [(streams.stdin, "<&-"), (streams.stdout, ">&-"), (streams.stderr, "2>&-")];
    let closed: Vec<&str> =
        closed.iter().filter(|(stream, _)| *stream == Stream::Closed).map(|(_, how)| *how).collect();
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", &format!("exec \"$@\" {}", closed.join(" ")), "sh", env!("CARGO_BIN_EXE_kpipe")]);
    command.args(["-b", &kafka.bootstrap]).args(filled(arguments).split(' '));
    command.env("KPIPE_SCHEMA_REGISTRY_URL", registry());
    let full = || File::options().read(true).write(true).open("/dev/full").unwrap();
    let writes = |stream: Stream| match stream {
        Stream::Usual => Stdio::piped(),
        Stream::Closed => Stdio::null(),
        Stream::Full => full().into(),
        Stream::Gone => std::io::pipe().unwrap().1.into(),
    };
    command.stdout(writes(streams.stdout)).stderr(writes(streams.stderr)).stdin(match streams.stdin {
        Stream::Usual => Stdio::piped(),
        Stream::Closed => Stdio::null(),
        Stream::Full => full().into(),
        Stream::Gone => std::io::pipe().unwrap().0.into(),
    });
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // Err: it has ended without reading.
        let _ = stdin.write_all(filled(input.unwrap_or_default()).as_bytes());
    }
    // Neither fills a pipe while the other is read: messages are short.
    let mut stdout = Vec::new();
    child.stdout.take().map(|mut out| out.read_to_end(&mut stdout).unwrap());
    let mut stderr = Vec::new();
    child.stderr.take().map(|mut err| err.read_to_end(&mut stderr).unwrap());
    let status = child.wait().unwrap();
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ended { code, stdout: text(&stdout), stderr: text(&stderr) }
}

/// Runs the command with all combinations and says what is wrong with how it ended.
fn faults(kafka: &Cluster, command: (&str, Option<&str>)) -> Vec<String> {
    // A command that does not read stdin is run with all of them only where all tests were asked for.
    let is_run = |streams: &Streams| all_tests() || command.1.is_some() || streams.stdin == Stream::Usual;
    let ended: BTreeMap<Streams, Ended> =
        combinations().into_iter().filter(is_run).map(|streams| (streams, run(kafka, command, streams))).collect();
    RUNS.fetch_add(ended.len(), Ordering::Relaxed);
    let mut faults = Vec::new();
    for (streams, done) in &ended {
        let with = |change: fn(&mut Streams)| {
            let mut other = *streams;
            change(&mut other);
            let (_, done) = ended
                .iter()
                .find(|(s, _)| (s.stdin, s.stdout, s.stderr) == (other.stdin, other.stdout, other.stderr))
                .unwrap();
            done
        };
        let reads = command.1.is_some();
        let usual = with(|s| (s.stdout, s.stderr) = (Stream::Usual, Stream::Usual));
        let prints = !usual.stdout.is_empty();
        let mut wrong = |what: &str| faults.push(format!("{} {streams:?}: {what}: {done:?}", command.0));
        if !(0..=2).contains(&done.code) || done.stderr.contains("panicked") {
            wrong("aborted, or took too long");
        }
        if done.code != with(|s| s.stderr = Stream::Usual).code {
            wrong("stderr changes the exit code");
        }
        match streams.stdout {
            Stream::Closed if done.code != 1 => wrong("stdout is closed"),
            Stream::Full if prints && done.code == 0 => wrong("stdout took nothing"),
            Stream::Full if !prints && done.code != usual.code => wrong("stdout is not used"),
            // A reader that is gone has what it wanted, or not: but nothing that failed for another reason succeeds.
            Stream::Gone if !prints && ![1, usual.code].contains(&done.code) => wrong("stdout has no reader"),
            _ => {}
        }
        match streams.stdin {
            Stream::Closed | Stream::Full if reads && done.code == 0 => wrong("nothing could be read"),
            Stream::Closed | Stream::Full | Stream::Gone
                if !reads && done.code != with(|s| s.stdin = Stream::Usual).code =>
            {
                wrong("stdin is not used");
            }
            _ => {}
        }
    }
    faults
}

#[test]
fn no_combination_of_streams_has_a_command_abort_or_succeed_in_vain() {
    let mut every = Vec::new();
    leaves(&Cli::command(), "", &mut every);
    for path in &every {
        assert!(COMMANDS.iter().any(|(command, _)| format!("{command} ").starts_with(path)), "{path}is not run here");
    }
    let kafka = prepared(combinations().len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(command) = COMMANDS.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(faults(&kafka, *command));
        }
        found
    };
    let found: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let runs = RUNS.load(Ordering::Relaxed);
    assert!(found.is_empty(), "{} of {runs}:\n{}", found.len(), found.join("\n"));
    report(&format!("streams: {} commands were run {runs} times", COMMANDS.len()));
}
