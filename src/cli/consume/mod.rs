//! `kpipe consume`: fetched → written to stdout → only then committed.

mod filters;
mod format;
mod group;
mod jq;
mod order;
mod range;
mod run;
mod schemas;

use super::Context;
use crate::config::declarations::*;
use crate::config::{Properties, parse_duration};
use crate::engine::{
    Consumer, ConsumerConfig, Engine, Isolation, Pattern, Start, Subscription, unsupported_by_kafka_crate,
};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::metrics::{Observe, Reporter};
use crate::output::{Format, Writer};
use crate::record::PartitionId;
pub(super) use crate::timespec::parse_time;
use clap::{Args, ValueEnum};
pub(super) use filters::FilterArgs;
use format::{Chosen, FormatArgs};
pub(super) use range::Span;
use run::{ConsumeRun, RunOptions};
use std::io::IsTerminal;
use std::time::Duration;

/// Consume records as JSON, values or a custom format
///
/// Prints each record as one JSON object per line, starting at the end of the topic, or with -g at the group's
/// committed offsets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe consume demo -o beginning -e\n  \
    kpipe consume orders -o -10 -e | jq .value\n  \
    kpipe consume orders -o @-15m --output value\n  \
    kpipe consume orders -o beginning -e -f '%k\\t%s{.total}\\n'\n  \
    kpipe consume jobs -g workers --commit each --output value")]
pub(super) struct Consume {
    /// Topics to consume
    #[arg(required_unless_present = "regex")]
    topics: Vec<String>,
    /// Consume all topics whose full name matches, including topics created later
    #[arg(long, value_name = "PATTERN", conflicts_with = "topics", value_parser = Pattern::parse)]
    regex: Option<Pattern>,
    #[command(flatten)]
    range: range::RangeArgs,
    /// Consume only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(PartitionId).range(0..))]
    partitions: Option<Vec<PartitionId>>,
    /// Exit after COUNT records
    #[arg(short, long)]
    count: Option<u64>,
    /// When to commit offsets [default: batch with -g]
    #[arg(long, value_enum)]
    commit: Option<Commit>,
    /// How often --commit batch commits [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    commit_interval: Option<Duration>,
    /// Read from the nearest replica, by the brokers' broker.rack
    #[arg(long)]
    rack: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    /// Isolation level [default: read_committed]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    jq: jq::JqArgs,
    #[command(flatten)]
    decode: schemas::DecodeArgs,
    #[command(flatten)]
    group: group::Group,
    #[command(flatten)]
    observe: Observe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Commit {
    /// After each record, before the next is written
    Each,
    /// Every --commit-interval, on a rebalance and on exit
    Batch,
    /// Never
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum IsolationArg {
    /// Only committed and non-transactional records
    ReadCommitted,
    /// All records, including those of open and aborted transactions
    ReadUncommitted,
}

impl From<IsolationArg> for Isolation {
    fn from(typed: IsolationArg) -> Self {
        match typed {
            IsolationArg::ReadCommitted => Self::Committed,
            IsolationArg::ReadUncommitted => Self::Uncommitted,
        }
    }
}

/// How a run ended.
struct Ended {
    read: Result<()>,
    /// How the last commit did.
    finished: Result<()>,
    /// Whether a record did not decode, or --jq failed for it.
    has_failures: bool,
}

impl Consume {
    pub(super) fn only_topic(&self) -> Option<&str> {
        match &self.topics[..] {
            [topic] => Some(topic),
            _ => None,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let bounds = self.range.bounds()?;
        let mut config = self.consumer_config(context, &bounds)?;
        let commit = match (self.commit, &config.group) {
            (None | Some(Commit::None), None) => Commit::None,
            (Some(_), None) => return Err(Error::Usage("--commit requires a group (-g)".to_owned()).into()),
            (asked, Some(_)) => asked.unwrap_or(Commit::Batch),
        };
        if let Some(group) = config.group.as_mut().filter(|_| commit == Commit::Each) {
            group.max_commit_lead = 0;
        }
        let properties = &context.properties;
        let interval = properties.resolve(self.commit_interval, &AUTO_COMMIT_INTERVAL)?;
        let (filter, jq) = (self.filters.filter()?, self.jq(context)?);
        let format = match &jq {
            Some(_) => Chosen::Json(self.format.json()),
            None => self.format.choose(properties)?,
        };
        let decode = self.decode.stage(context, &self.format.key_as, &self.format.value_as)?;
        let metrics = &context.metrics;
        // Records and a progress line would get mixed up.
        let draws = !std::io::stdout().is_terminal() && !context.quiet;
        let reporter = Reporter::start(&self.observe, metrics, draws)?;
        let engine = context.connect()?;
        if matches!(engine, Engine::Kafka(_)) {
            self.check_for_crate(config.group.as_ref())?;
        }
        let consumer = engine.consume(config)?;
        let options = RunOptions {
            count: self.count.unwrap_or(u64::MAX),
            commit,
            interval,
            idle_timeout: self.range.idle_timeout(),
            filter,
            decode,
            jq,
            order: self.range.order(&bounds),
        };
        let ended = match format {
            Chosen::Json(format) => self.consume(context, consumer, options, format)?,
            Chosen::Value(format) => self.consume(context, consumer, options, format)?,
            Chosen::Template(format) => self.consume(context, consumer, options, format)?,
            Chosen::Csv(format) => self.consume(context, consumer, options, format)?,
            Chosen::Length(format) => self.consume(context, consumer, options, format)?,
            Chosen::Files(format) => self.consume(context, consumer, options, format)?,
            Chosen::Pretty(format) => self.consume(context, consumer, options, format)?,
            Chosen::None(format) => self.consume(context, consumer, options, format)?,
        };
        drop(reporter);
        match (ended.read, ended.finished) {
            // The reader had what it wanted: that is success, unless the commit then failed.
            (Err(Error::ReaderGone), Ok(()) | Err(Error::ReaderGone)) | (Ok(()), Ok(()) | Err(Error::ReaderGone)) => {
                Ok(if ended.has_failures { EXIT_FAILED } else { EXIT_OK })
            }
            (Err(Error::ReaderGone) | Ok(()), Err(error)) => Err(error.into()),
            (Err(error), Ok(())) => Err(error.into()),
            // A stdout that takes nothing says so twice.
            (Err(error), Err(more)) if error.to_string() == more.to_string() => Err(error.into()),
            (Err(error), Err(more)) => Err(anyhow::Error::new(error).context(more.to_string())),
        }
    }

    /// Consumes to the end asked for.
    fn consume(
        &self,
        context: &Context,
        consumer: Box<dyn Consumer>,
        options: RunOptions,
        format: impl Format,
    ) -> Result<Ended> {
        let mut run = ConsumeRun::new(consumer, Writer::stdout_for(&format)?, format, options, context.metrics.clone());
        context.metrics.ready(true);
        let read = run.read();
        let finished = run.finish();
        context.metrics.ready(false);
        Ok(Ended { read, finished, has_failures: run.report(context) })
    }

    /// Refuses what the `kafka` crate cannot do.
    fn check_for_crate(&self, group: Option<&crate::engine::GroupConfig>) -> Result<()> {
        let no_group = "the kafka engine does not support group membership";
        for (asked, flag, why) in [
            (self.isolation.is_some(), "--isolation", "the kafka engine does not support transactions"),
            (self.range.needs_timestamps(), "--last, --sort", "the kafka engine does not provide record timestamps"),
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

    fn consumer_config(&self, context: &Context, bounds: &range::Bounds) -> Result<ConsumerConfig> {
        let properties = &context.properties;
        let group = self.group.config(properties, self.partitions.is_some())?;
        let asked = properties.resolve(bounds.start, &AUTO_OFFSET_RESET)?;
        let (start, fallback) = match (&group, asked) {
            (None, Some(Start::Stored)) => {
                return Err(Error::Usage("-o stored requires a group (-g)".to_owned()));
            }
            (None, None) if bounds.end.is_some() => (Start::Beginning, Start::End),
            (None, asked) => (asked.unwrap_or(Start::End), Start::End),
            // With a group, -o says where to begin in partitions that it has not read yet.
            (Some(_), Some(Start::Stored) | None) => (Start::Stored, Start::Beginning),
            (Some(_), Some(fallback)) => (Start::Stored, fallback),
        };
        let isolation = properties.resolve(self.isolation.map(Isolation::from), &ISOLATION_LEVEL)?;
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
            rack: properties.resolve(self.rack.clone(), &CLIENT_RACK)?,
            partitions: self.partitions.clone().map(|mut partitions| {
                partitions.sort_unstable();
                partitions.dedup();
                partitions
            }),
            start,
            fallback,
            end: bounds.end,
            stop_at_end: bounds.stop_at_end,
            group,
            isolation,
            ..bounded_config(properties, subscription)?
        })
    }
}

/// Everything that a subscription holds now, as `properties` would have it read.
pub(super) fn bounded_config(properties: &Properties, subscription: Subscription) -> Result<ConsumerConfig> {
    Ok(ConsumerConfig {
        subscription,
        rack: properties.get(&CLIENT_RACK)?,
        refresh: properties.get(&METADATA_MAX_AGE)?,
        partitions: None,
        start: Start::Beginning,
        fallback: Start::Beginning,
        end: None,
        stop_at_end: true,
        group: None,
        isolation: properties.get(&ISOLATION_LEVEL)?,
        fetch_ahead: properties.get(&FETCH_MAX_BYTES)?.clamp(1, 1 << 30),
        fetch_bytes: properties.get(&MAX_PARTITION_FETCH_BYTES)?.clamp(1, 1 << 30),
        fetch_wait: properties.get(&FETCH_MAX_WAIT)?,
        fetch_min_bytes: properties.get(&FETCH_MIN_BYTES)?,
        max_unpacked: properties.get(&FETCH_MAX_UNPACKED)?,
        counts_only: false,
    })
}
