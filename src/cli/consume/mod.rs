//! `kpipe consume`: fetched → written to stdout → only then committed.

mod group;
mod run;

use super::Context;
use super::produce::{Bytes, parse_delimiter};
use crate::config::parse_duration;
use crate::engine::{ConsumerConfig, Isolation, Offsets, Start, Subscription, unsupported_by_kafka_crate};
use crate::error::{EXIT_OK, Error, Result};
use crate::metrics::{Observe, Reporter};
use crate::output::{Encoding, Format, Writer};
use crate::record::PartitionId;
use clap::{Args, ValueEnum};
use run::ConsumeRun;
use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime};

/// How often metadata is refreshed: leaders, new topics and partitions.
const REFRESH: Duration = Duration::from_secs(10);
/// What one batch may unpack to: far above what brokers accept (`message.max.bytes`), far below what ends a process.
const MAX_UNPACKED: usize = 256 << 20;

/// Consume records as JSON or values
///
/// Prints each record as one JSON object per line, starting at the end of the topic, or with -g at the group's
/// committed offsets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe consume demo -o beginning -e\n  \
    kpipe consume orders -o -10 -e | jq .value\n  \
    kpipe consume orders -o @-15m --output value\n  \
    kpipe consume jobs -g workers --commit each --output value")]
pub(super) struct Consume {
    /// Topics to consume
    #[arg(required_unless_present = "regex")]
    topics: Vec<String>,
    /// Consume all topics whose full name matches, including topics created later
    #[arg(long, value_name = "PATTERN", conflicts_with = "topics", value_parser = parse_pattern)]
    regex: Option<regex_lite::Regex>,
    /// Start offset: beginning, end, stored, N, -N (last N of each partition) or @TIME
    /// [default: end; with -g stored, else beginning]
    ///
    /// TIME is RFC 3339 (2026-01-31T12:00:00Z), milliseconds since 1970, or relative to now (-15m).
    #[arg(short, long, value_name = "WHERE", allow_hyphen_values = true, value_parser = parse_start)]
    offset: Option<Start>,
    /// Consume only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(PartitionId).range(0..))]
    partitions: Option<Vec<PartitionId>>,
    /// Exit after COUNT records
    #[arg(short, long)]
    count: Option<u64>,
    /// Exit after reaching the end offsets seen at startup
    #[arg(short, long)]
    exit_at_end: bool,
    /// When to commit offsets [default: batch with -g]
    #[arg(long, value_enum)]
    commit: Option<Commit>,
    /// How often --commit batch commits [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    commit_interval: Option<Duration>,
    /// Read from the nearest replica, by the brokers' broker.rack
    #[arg(long)]
    rack: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Encoding of values in JSON
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    value_as: Encoding,
    /// Encoding of keys in JSON
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    key_as: Encoding,
    /// Output record delimiter; accepts \n \t \r \0 \xHH
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = parse_delimiter, default_value = "\\n")]
    delimiter: Bytes,
    /// Isolation level [default: read_committed]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    #[command(flatten)]
    group: group::Group,
    #[command(flatten)]
    observe: Observe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Commit {
    /// After each record, before the next is written
    Each,
    /// Every --commit-interval and on exit
    Batch,
    /// Never
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// One JSON object per record
    #[default]
    Json,
    /// The value only
    Value,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IsolationArg {
    /// Only committed and non-transactional records
    ReadCommitted,
    /// All records, including those of open and aborted transactions
    ReadUncommitted,
}

/// Reads `--regex`: as a whole name.
fn parse_pattern(text: &str) -> Result<regex_lite::Regex, String> {
    regex_lite::Regex::new(&format!("^(?:{text})$")).map_err(|e| e.to_string())
}

/// Reads `-o`.
fn parse_start(text: &str) -> Result<Start, String> {
    let expected = "expected beginning, end, stored, N, -N or @TIME";
    match text {
        "beginning" | "earliest" | "smallest" => return Ok(Start::Beginning),
        "end" | "latest" | "largest" => return Ok(Start::End),
        "stored" => return Ok(Start::Stored),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return parse_time(time).map(Start::Time);
    }
    if let Some(count) = text.strip_prefix('-') {
        return count.parse().map(Start::Last).map_err(|_| expected.to_owned());
    }
    let known = ["beginning", "end", "stored"];
    let hint = crate::error::did_you_mean(text, known);
    text.parse::<i64>().map(Start::At).map_err(|_| format!("{expected}{hint}"))
}

/// RFC 3339, milliseconds since 1970, or a duration before now.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = crate::config::parse_duration(ago)?;
        let then = SystemTime::now().checked_sub(ago).and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        return then.map(|since| since.as_millis() as i64).ok_or_else(|| "before 1970".to_owned());
    }
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis);
    }
    let timestamp: Result<jiff::Timestamp, _> = text.parse();
    timestamp
        .map(|t| t.as_millisecond())
        .map_err(|_| "expected a time like 2026-01-31T12:00:00Z, 1795418062647 or -15m".to_owned())
}

impl Consume {
    pub(super) fn only_topic(&self) -> Option<&str> {
        match &self.topics[..] {
            [topic] => Some(topic),
            _ => None,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let mut config = self.consumer_config(context)?;
        let commit = match (self.commit, &config.group) {
            (None | Some(Commit::None), None) => Commit::None,
            (Some(_), None) => return Err(Error::Usage("--commit requires a group (-g)".to_owned()).into()),
            (asked, Some(_)) => asked.unwrap_or(Commit::Batch),
        };
        if let Some(group) = config.group.as_mut().filter(|_| commit == Commit::Each) {
            group.max_commit_lead = 0;
        }
        let properties = &context.properties;
        let interval = self.commit_interval.or(properties.millis("auto.commit.interval.ms")?);
        let metrics = &context.metrics;
        // Records and a progress line would get mixed up.
        let draws = !std::io::stdout().is_terminal() && !context.quiet;
        let reporter = Reporter::start(&self.observe, metrics, draws)?;
        let engine = context.connect()?;
        if engine.name() == "kafka" {
            self.check_for_crate(config.group.as_ref())?;
        }
        let interval = interval.unwrap_or(Duration::from_secs(1));
        let consumer = engine.consume(config)?;
        let format = match self.output {
            Output::Json => Format::json(self.key_as, self.value_as),
            Output::Value => Format::Value,
            Output::None => Format::None,
        };
        let mut run = ConsumeRun {
            consumer,
            writer: Writer::stdout()?,
            format,
            delimiter: &self.delimiter.0,
            left: self.count.unwrap_or(u64::MAX),
            commit,
            interval,
            commit_at: Instant::now() + interval,
            committed: Offsets::new(),
            rest: None,
            metrics: metrics.clone(),
            counted: 0,
        };
        metrics.ready(true);
        let read = run.read();
        let finished = run.finish();
        metrics.ready(false);
        drop(reporter);
        match (read, finished) {
            // The reader had what it wanted: that is success, unless the commit then failed.
            (Err(Error::ReaderGone), Ok(()) | Err(Error::ReaderGone)) | (Ok(()), Ok(()) | Err(Error::ReaderGone)) => {
                Ok(EXIT_OK)
            }
            (Err(Error::ReaderGone) | Ok(()), Err(error)) => Err(error.into()),
            (Err(error), Ok(())) => Err(error.into()),
            // A stdout that takes nothing says so twice.
            (Err(error), Err(more)) if error.to_string() == more.to_string() => Err(error.into()),
            (Err(error), Err(more)) => Err(anyhow::Error::new(error).context(more.to_string())),
        }
    }

    /// Refuses what the `kafka` crate cannot do.
    fn check_for_crate(&self, group: Option<&crate::engine::GroupConfig>) -> Result<()> {
        let no_group = "the kafka engine does not support group membership";
        for (asked, flag, why) in [
            (self.isolation.is_some(), "--isolation", "the kafka engine does not support transactions"),
            (self.rack.is_some(), "--rack", "the kafka engine reads from leaders only"),
            (
                self.group.asks_for_membership(),
                "--group-protocol, --instance-id, --assignor, --session-timeout",
                no_group,
            ),
        ] {
            if asked {
                return Err(unsupported_by_kafka_crate(flag, why));
            }
        }
        if let Some(group) = group.filter(|group| !group.standalone) {
            tracing::warn!("group {}: {no_group}: run one consumer at a time", group.id);
        }
        Ok(())
    }

    fn consumer_config(&self, context: &Context) -> Result<ConsumerConfig> {
        let properties = &context.properties;
        let group = self.group.config(properties, self.partitions.is_some())?;
        let asked = self.offset.or(properties.parsed("auto.offset.reset", parse_start)?);
        let (start, fallback) = match (&group, asked) {
            (None, Some(Start::Stored)) => {
                return Err(Error::Usage("-o stored requires a group (-g)".to_owned()));
            }
            (None, asked) => (asked.unwrap_or(Start::End), Start::End),
            // With a group, -o says where to begin in partitions that it has not read yet.
            (Some(_), Some(Start::Stored) | None) => (Start::Stored, Start::Beginning),
            (Some(_), Some(fallback)) => (Start::Stored, fallback),
        };
        let level =
            |text: &str| IsolationArg::from_str(text, false).map_err(|_| "expected read_committed or read_uncommitted");
        let isolation = match self.isolation.or(properties.parsed("isolation.level", level)?) {
            Some(IsolationArg::ReadUncommitted) => Isolation::Uncommitted,
            Some(IsolationArg::ReadCommitted) | None => Isolation::Committed,
        };
        let size = |name, default| -> Result<usize> {
            Ok(properties.size(name)?.map_or(default, |size| size.clamp(1, 1 << 30)))
        };
        let subscription = match &self.regex {
            Some(pattern) => Subscription::Pattern(pattern.clone()),
            None => {
                let mut topics = self.topics.clone();
                topics.sort();
                topics.dedup();
                Subscription::Topics(topics)
            }
        };
        Ok(ConsumerConfig {
            subscription,
            rack: self.rack.clone().or_else(|| properties.text("client.rack").map(str::to_owned)),
            refresh: properties.millis("metadata.max.age.ms")?.unwrap_or(REFRESH),
            partitions: self.partitions.clone().map(|mut partitions| {
                partitions.sort_unstable();
                partitions.dedup();
                partitions
            }),
            start,
            fallback,
            stop_at_end: self.exit_at_end,
            group,
            isolation,
            fetch_ahead: size("fetch.max.bytes", 16 << 20)?,
            fetch_bytes: size("max.partition.fetch.bytes", 4 << 20)?,
            max_unpacked: size("fetch.max.unpacked.bytes", MAX_UNPACKED)?,
            fetch_wait: properties.millis("fetch.max.wait.ms")?.unwrap_or(Duration::from_millis(500)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_people_write_them() {
        assert_eq!(parse_start("beginning"), Ok(Start::Beginning));
        assert_eq!(parse_start("42"), Ok(Start::At(42)));
        assert_eq!(parse_start("-10"), Ok(Start::Last(10)));
        assert_eq!(parse_start("@1795418062647"), Ok(Start::Time(1_795_418_062_647)));
        assert_eq!(parse_start("@1970-01-01T00:00:01Z"), Ok(Start::Time(1000)));
        assert!(matches!(parse_start("@-15m"), Ok(Start::Time(t)) if t > 1_700_000_000_000));
        assert!(parse_start("begining").unwrap_err().contains("did you mean beginning?"));
        assert!(parse_start("@yesterday").is_err() && parse_start("-x").is_err());
    }
}
