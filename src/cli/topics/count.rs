//! `kpipe topics count`: how many records there are that a consumer sees.

use crate::cli::Context;
use crate::cli::consume::{FilterArgs, IsolationArg, Span, bounded_config};
use crate::cli::listing::{print, print_lines, right_align, table};
use crate::cli::selection::{TopicSelection, parse_selection};
use crate::config::declarations::ISOLATION_LEVEL;
use crate::engine::{Engine, Event, Subscription};
use crate::error::{Error, Result};
use crate::filter::{self, Filter};
use crate::record::{Batch, Isolation, PartitionId, RecordRef, Timestamp, TopicPartition};
use crate::timespec::{Unit, format_local, unit_around};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes that distinct keys may take.
const MOST_KEYS: usize = 1 << 30;
/// What a key takes besides its bytes, roughly.
const KEY_OVERHEAD: usize = 64;
/// Reading waits for events at most so long at a time.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Count {
    /// Topics, or topic partitions
    #[arg(required = true, value_name = "TOPIC[:P,...]", value_parser = parse_selection)]
    topics: Vec<TopicSelection>,
    /// Count records by partition, by key, or by the local time of their timestamps
    #[arg(long, value_enum)]
    by: Option<By>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    filters: FilterArgs,
    /// Isolation level [default: read_committed]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// Print one JSON object per line
    #[arg(short = 'J', long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each partition
    Partition,
    /// Each key, the most frequent first
    Key,
    /// Each minute that has records
    Minute,
    /// Each hour that has records
    Hour,
    /// Each day that has records
    Day,
}

impl By {
    fn header(self) -> &'static str {
        match self {
            Self::Partition => "PARTITION",
            Self::Key => "KEY",
            Self::Minute | Self::Hour | Self::Day => "TIME",
        }
    }
}

/// Records of one topic, counted.
enum Counts {
    Total(u64),
    Partitions(BTreeMap<PartitionId, u64>),
    Keys { counts: HashMap<Box<[u8]>, u64>, null: u64, bytes: usize },
    Times { unit: Unit, counts: BTreeMap<Option<Timestamp>, u64>, current: Range<Timestamp> },
}

/// One row of the listing.
struct Row {
    /// What was counted, and its member in JSON; `None` for the total.
    what: Option<(String, Member)>,
    count: u64,
}

/// A member of a JSON object.
struct Member {
    name: &'static str,
    value: Value,
}

impl Counts {
    fn new(by: Option<By>, partitions: &[PartitionId]) -> Self {
        let times = |unit| Self::Times { unit, counts: BTreeMap::new(), current: 0..0 };
        match by {
            None => Self::Total(0),
            Some(By::Partition) => Self::Partitions(partitions.iter().map(|partition| (*partition, 0)).collect()),
            Some(By::Key) => Self::Keys { counts: HashMap::new(), null: 0, bytes: 0 },
            Some(By::Minute) => times(Unit::Minute),
            Some(By::Hour) => times(Unit::Hour),
            Some(By::Day) => times(Unit::Day),
        }
    }

    /// Whether records have to be looked at.
    fn needs_records(&self) -> bool {
        matches!(self, Self::Keys { .. } | Self::Times { .. })
    }

    fn add_many(&mut self, partition: PartitionId, records: u64) {
        match self {
            Self::Total(total) => *total += records,
            Self::Partitions(counts) => *counts.entry(partition).or_default() += records,
            Self::Keys { .. } | Self::Times { .. } => {}
        }
    }

    fn add(&mut self, partition: PartitionId, record: &RecordRef<'_>) -> Result<()> {
        match self {
            Self::Total(_) | Self::Partitions(_) => self.add_many(partition, 1),
            Self::Keys { counts, null, bytes } => match record.key {
                None => *null += 1,
                Some(key) => match counts.get_mut(key) {
                    Some(count) => *count += 1,
                    None => {
                        *bytes += key.len() + KEY_OVERHEAD;
                        if *bytes > MOST_KEYS {
                            return Err(Error::Usage("--by key: the distinct keys take more than 1 GiB".to_owned()));
                        }
                        counts.insert(key.into(), 1);
                    }
                },
            },
            Self::Times { unit, counts, current } => {
                if let Some(timestamp) = record.timestamp.filter(|timestamp| !current.contains(timestamp)) {
                    *current = unit_around(timestamp, *unit);
                }
                *counts.entry(record.timestamp.map(|_| current.start)).or_default() += 1;
            }
        }
        Ok(())
    }

    fn rows(self) -> Vec<Row> {
        match self {
            Self::Total(count) => vec![Row { what: None, count }],
            Self::Partitions(counts) => {
                let row = |(partition, count): (PartitionId, u64)| {
                    let member = Member { name: "partition", value: json!(partition) };
                    Row { what: Some((partition.to_string(), member)), count }
                };
                counts.into_iter().map(row).collect()
            }
            Self::Keys { counts, null, .. } => {
                let mut all: Vec<_> = counts.into_iter().map(|(key, count)| (Some(key), count)).collect();
                all.extend((null > 0).then_some((None, null)));
                all.sort_unstable_by(|(key, count), (other, others)| others.cmp(count).then_with(|| key.cmp(other)));
                all.into_iter().map(|(key, count)| key_row(key.as_deref(), count)).collect()
            }
            Self::Times { counts, .. } => {
                let row = |(time, count): (Option<Timestamp>, u64)| {
                    let cell = time.map_or_else(|| "-".to_owned(), format_local);
                    Row { what: Some((cell, Member { name: "timestamp", value: json!(time) })), count }
                };
                counts.into_iter().map(row).collect()
            }
        }
    }
}

/// A key as `consume` would show it.
fn key_row(key: Option<&[u8]>, count: u64) -> Row {
    let (cell, member) = match (key, key.map(std::str::from_utf8)) {
        (Some(_), Some(Ok(text))) => (text.to_owned(), Member { name: "key", value: json!(text) }),
        (Some(key), _) => {
            let member = Member { name: "key_base64", value: json!(STANDARD.encode(key)) };
            (String::from_utf8_lossy(key).into_owned(), member)
        }
        (None, _) => ("-".to_owned(), Member { name: "key", value: Value::Null }),
    };
    Row { what: Some((cell, member)), count }
}

impl Count {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let engine = context.connect()?;
        let mut rows: Vec<(&str, Row)> = Vec::new();
        for selection in &self.topics {
            let counts = self.count(context, &engine, selection)?;
            rows.extend(counts.rows().into_iter().map(|row| (selection.topic.as_str(), row)));
        }
        if self.json {
            return print_lines(rows.into_iter().map(|(topic, row)| {
                let mut line = json!({ "topic": topic });
                if let Some((_, Member { name, value })) = row.what {
                    line[name] = value;
                }
                line["records"] = json!(row.count);
                line
            }));
        }
        let by = self.by.map(By::header);
        let header: Vec<&str> = ["TOPIC"].into_iter().chain(by).chain(["RECORDS"]).collect();
        let mut table = table(&header);
        for (topic, Row { what, count }) in rows {
            let cell = what.map(|(cell, _)| cell);
            table.add_row([topic.to_owned()].into_iter().chain(cell).chain([count.to_string()]));
        }
        right_align(&mut table, [header.len() - 1]);
        print(&table.to_string())
    }

    /// Reads a topic to its end, only the headers of batches where these suffice.
    fn count(&self, context: &Context, engine: &Engine, selection: &TopicSelection) -> Result<Counts> {
        let properties = &context.properties;
        let bounds = self.span.bounds()?;
        let mut filter = self.filters.filter()?;
        let topics = engine.topics(Some(std::slice::from_ref(&selection.topic)))?.found;
        let all = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.partition);
        let partitions = selection.partitions.clone().unwrap_or_else(|| all.collect());
        let mut counts = Counts::new(self.by, &partitions);
        let mut config = bounded_config(properties, Subscription::Topics(vec![selection.topic.clone()]))?;
        config.partitions = selection.partitions.clone();
        config.start = bounds.start.unwrap_or(config.start);
        config.end = bounds.end;
        config.isolation = properties.resolve(self.isolation.map(Isolation::from), &ISOLATION_LEVEL)?;
        config.counts_only = filter.is_none() && !counts.needs_records();
        let mut consumer = engine.consume(config)?;
        loop {
            match consumer.next(Instant::now() + WAIT)? {
                Event::Batch(batch) => add(&mut counts, filter.as_mut(), &batch)?,
                Event::End => return Ok(counts),
                Event::Stopped => return Err(Error::Stopped),
                Event::Timeout | Event::Assigned(_) | Event::Revoking(_) | Event::Lost(..) | Event::Deleted(_) => {}
            }
        }
    }
}

fn add(counts: &mut Counts, mut filter: Option<&mut Filter>, batch: &Batch) -> Result<()> {
    let corrupt = |malformed| Error::corrupt(TopicPartition::new(batch.topic.clone(), batch.partition), &malformed);
    if filter.is_none() && !counts.needs_records() {
        counts.add_many(batch.partition, batch.visible().map_err(corrupt)?);
        return Ok(());
    }
    let mut records = batch.records();
    loop {
        match filter::next(filter.as_deref_mut(), batch.partition, &mut records).transpose().map_err(corrupt)? {
            Some(record) => counts.add(batch.partition, &record)?,
            None => return Ok(()),
        }
    }
}
