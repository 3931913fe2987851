//! `kpipe consume`: fetched → written to stdout → only then committed.

use super::Context;
use super::produce::{Bytes, parse_delimiter};
use crate::engine::{Consumer, ConsumerConfig, Event, Isolation, Offsets, Position, Start, crate_cannot};
use crate::error::{EXIT_OK, Error, Result};
use crate::output::{Encoding, Format, Writer};
use crate::record::{Batch, PartitionId};
use clap::{Args, ValueEnum};
use std::time::{Duration, Instant, SystemTime};

/// What waits for no deadline waits this long.
const FOREVER: Duration = Duration::from_secs(86_400);
/// With `--commit batch`, written records are committed at least this often.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes each record as a line of JSON, from the end of the topic on, or with -g from where the group is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe consume demo -o beginning -e\n  \
    kpipe consume orders -o -10 -e | jq .value\n  \
    kpipe consume orders -o @-15m --output value\n  \
    kpipe consume jobs -g workers --commit each | while read -r job; do echo \"$job\"; done")]
pub(super) struct Consume {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Where to begin: beginning, end, stored, N, -N (the last N of each partition), @TIME (RFC 3339, milliseconds
    /// since 1970, or like -15m) [default: end; with -g stored, where nothing is stored beginning]
    #[arg(short, long, value_name = "WHERE", allow_hyphen_values = true, value_parser = parse_start)]
    offset: Option<Start>,
    /// Only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(PartitionId).range(0..))]
    partitions: Option<Vec<PartitionId>>,
    /// Ends after so many records
    #[arg(short, long)]
    count: Option<u64>,
    /// Ends where the topic ended at the start
    #[arg(short, long)]
    exit_at_end: bool,
    /// Begins where this group is, and commits what was written for it
    #[arg(short, long)]
    group: Option<String>,
    /// When to commit: each record before the next is taken, what was written every second, or never
    /// [default: batch with -g]
    #[arg(long, value_enum)]
    commit: Option<Commit>,
    /// What is written of a record
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// How values are written in JSON
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    value_as: Encoding,
    /// How keys are written in JSON
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    key_as: Encoding,
    /// Ends each record in the output; \n \t \r \0 \xHH are understood
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = parse_delimiter, default_value = "\\n")]
    delimiter: Bytes,
    /// Which records of transactions are shown [default: read_committed]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Commit {
    /// Each record, before the next is written
    Each,
    /// What was written, every second and at the end
    Batch,
    /// Never
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// A JSON object a record
    #[default]
    Json,
    /// The value alone
    Value,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IsolationArg {
    /// Committed ones, and those outside of transactions
    ReadCommitted,
    /// All, open and aborted ones too
    ReadUncommitted,
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
fn parse_time(text: &str) -> Result<i64, String> {
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
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let config = self.consumer_config(context)?;
        let commit = match (self.commit, &config.group) {
            (None | Some(Commit::None), None) => Commit::None,
            (Some(_), None) => return Err(Error::Usage("--commit needs a group: -g".to_owned()).into()),
            (asked, Some(_)) => asked.unwrap_or(Commit::Batch),
        };
        let engine = context.connect()?;
        if self.isolation.is_some() && engine.name() == "kafka" {
            return Err(crate_cannot("--isolation", "the kafka crate knows no transactions").into());
        }
        let consumer = engine.consumer(config)?;
        let format = match self.output {
            Output::Json => Format::json(self.key_as, self.value_as),
            Output::Value => Format::Value,
            Output::None => Format::None,
        };
        let mut work = Work {
            consumer,
            writer: Writer::stdout()?,
            format,
            delimiter: &self.delimiter.0,
            left: self.count.unwrap_or(u64::MAX),
            commit,
            committed: Offsets::new(),
            commit_at: Instant::now() + COMMIT_INTERVAL,
        };
        let read = work.read();
        let finished = work.finish();
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

    fn consumer_config(&self, context: &Context) -> Result<ConsumerConfig> {
        let properties = &context.config.properties;
        let group = self.group.clone().or_else(|| properties.text("group.id").map(str::to_owned));
        let asked = self.offset.or(properties.parsed("auto.offset.reset", parse_start)?);
        let (start, fallback) = match (&group, asked) {
            (None, Some(Start::Stored)) => {
                return Err(Error::Usage("-o stored needs a group: -g".to_owned()));
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
        let mut topics = self.topics.clone();
        topics.sort();
        topics.dedup();
        Ok(ConsumerConfig {
            topics,
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
            fetch_wait: properties.millis("fetch.max.wait.ms")?.unwrap_or(Duration::from_millis(500)),
        })
    }
}

struct Work<'a> {
    consumer: Box<dyn Consumer>,
    writer: Writer,
    format: Format,
    delimiter: &'a [u8],
    /// Records still to be written.
    left: u64,
    commit: Commit,
    committed: Offsets,
    commit_at: Instant,
}

impl Work<'_> {
    /// Reads to the end asked for, or a signal.
    fn read(&mut self) -> Result<()> {
        while self.left > 0 {
            let now = Instant::now();
            let deadline = match self.commit {
                // What waits in the buffer is written as soon as there is nothing more to add.
                _ if self.writer.is_pending() => now,
                Commit::Batch => self.commit_at.max(now),
                _ => now + FOREVER,
            };
            match self.consumer.next(deadline)? {
                Event::Batch(batch) => self.write(&batch)?,
                Event::End | Event::Stopped => return Ok(()),
                Event::Timeout => self.writer.flush()?,
            }
            if self.commit == Commit::Batch && Instant::now() >= self.commit_at {
                self.writer.flush()?;
                self.commit_written()?;
                self.commit_at = Instant::now() + COMMIT_INTERVAL;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let place = self.writer.place(&batch.topic, batch.partition);
        self.format.begin(batch);
        for record in batch.records() {
            let record = record
                .map_err(|e| Error::Network(format!("{}: {e}", crate::engine::place(&batch.topic, batch.partition))))?;
            self.format.write(self.writer.buffer(), &record, self.delimiter);
            self.writer.mark(place, record.offset + 1, batch.leader_epoch)?;
            if self.commit == Commit::Each {
                self.writer.flush()?;
                self.commit_written()?;
            }
            self.left -= 1;
            if self.left == 0 {
                return Ok(());
            }
        }
        // Past offsets at the batch's end that no record has.
        self.writer.mark(place, batch.next_offset, batch.leader_epoch)
    }

    fn commit_written(&mut self) -> Result<()> {
        let mut changed = Offsets::new();
        for (topic, partition, offset, leader_epoch) in self.writer.written() {
            let position = Position { offset, leader_epoch };
            let key = (topic, partition);
            if self.committed.get(&key) != Some(&position) {
                changed.insert(key, position);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.consumer.commit(&changed)?;
        self.committed.append(&mut changed);
        Ok(())
    }

    /// Writes what is left, and commits what was really written, also after a failure.
    fn finish(&mut self) -> Result<()> {
        let flushed = self.writer.flush();
        if self.commit != Commit::None {
            self.commit_written()?;
        }
        flushed
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
