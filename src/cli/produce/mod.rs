//! `kpipe produce`: what can be typed, and the run that is made of it.

mod delivery;
mod input;
mod ledger;
mod pace;
mod refusals;
mod report;
mod run;
mod schemas;
mod transaction;

use super::Context;
use super::named::named_with;
use super::report::tell;
use crate::codec::framed::Encoder;
use crate::config::declarations::*;
use crate::config::{parse_acks, parse_compression, parse_duration, parse_size, with_level};
use crate::engine::{
    Acks, Compression, Engine, Partitioner, Producer, ProducerConfig, TopicCreation, TransactionConfig,
    unsupported_by_kafka_crate,
};
use crate::error::{Error, Result};
use crate::input::Source;
use crate::metrics::{Observe, Reporter};
use crate::output::{DeadLetters, Writer};
use crate::record::PartitionId;
use crate::text::escape;
use clap::{Args, ValueEnum};
use delivery::{Delivery, Skip};
use input::InputArgs;
use ledger::Ledger;
use pace::Pace;
use refusals::{InputPosition, Refusals};
use report::Report;
use run::ProduceRun;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use transaction::{CommitEvery, Transaction};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    seq 5 | kpipe produce demo\n  \
    tail -F app.log | kpipe produce logs -z zstd\n  \
    printf 'k1:v1\\nk2:v2\\n' | kpipe produce demo -K :\n  \
    kpipe produce users users.csv --input csv --key-column id\n  \
    kpipe consume demo -o beginning -e | kpipe produce copy --input json")]
pub(super) struct Produce {
    /// Topic to produce to; - uses the topic that each record names
    topic: String,
    /// Files to read instead of stdin
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Partition to produce to
    #[arg(short, long, value_parser = clap::value_parser!(PartitionId).range(0..))]
    partition: Option<PartitionId>,
    /// Compression codec: none, gzip, snappy, lz4 or zstd; gzip:1-9 and zstd:1-22 set a level, snappy and lz4 have
    /// none [default: none]
    #[arg(short = 'z', long, value_name = "CODEC[:LEVEL]", value_parser = parse_compression)]
    compression: Option<Compression>,
    /// Required acknowledgments: all (in-sync replicas), 1 (leader only: lost if it fails), 0 (none: losses go
    /// unreported) [default: all]
    #[arg(long, value_parser = parse_acks)]
    acks: Option<Acks>,
    /// Use the idempotent producer, so that retries cannot duplicate records [default: true with --acks all]
    ///
    /// Without it, a retry after a lost response may duplicate records, and only one batch per partition is in flight.
    #[arg(long)]
    idempotent: Option<bool>,
    /// Maximum size of a record batch before compression [default: 1000000]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    batch_size: Option<usize>,
    /// How long to wait for more records before sending a batch when input is idle [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// Fail a record that is not acknowledged within this time [default: 120s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How long a broker may be silent before a request is retried [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    request_timeout: Option<Duration>,
    /// Maximum unacknowledged requests per broker, 1 to 5 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    max_in_flight: Option<u8>,
    /// Memory for unacknowledged records; input is not read beyond it [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    buffer_memory: Option<usize>,
    /// Reject records larger than this [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_record_size: Option<usize>,
    /// Partitioner for records without a partition [default: murmur2]
    #[arg(long, value_parser = named_with(describe_partitioner))]
    partitioner: Option<Partitioner>,
    /// Maximum records per second
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Create the topic if it does not exist
    #[arg(long, value_name = "PARTITIONS[:REPLICATION]", value_parser = parse_new_topic)]
    create_topic: Option<TopicCreation>,
    /// Print a JSON receipt for each record, in input order: its offset or its error
    #[arg(long)]
    receipts: bool,
    /// What to do after a record that cannot be delivered; the exit code is 1 either way
    #[arg(long, value_enum, default_value_t)]
    on_error: OnError,
    /// Append undeliverable records to FILE as JSON that --input json reads, with the error in a header
    #[arg(long, value_name = "FILE")]
    dead_letter: Option<PathBuf>,
    /// Skip the first N input records; a failed run prints how many were delivered
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Produce the whole input as one transaction: read_committed consumers see all of it or none
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// Commit after N records and begin the next transaction
    #[arg(long, value_name = "N", requires = "transactional_id", value_parser = clap::value_parser!(u64).range(1..))]
    transaction_records: Option<u64>,
    /// Commit after this time and begin the next transaction
    #[arg(long, value_name = "DURATION", requires = "transactional_id", value_parser = parse_duration)]
    transaction_interval: Option<Duration>,
    /// Have the brokers abort a transaction that stays open this long [default: 60s]
    #[arg(long, value_name = "DURATION", requires = "transactional_id", value_parser = parse_duration)]
    transaction_timeout: Option<Duration>,
    #[command(flatten)]
    schemas: schemas::EncodeArgs,
    #[command(flatten)]
    observe: Observe,
}

/// What a failed record means for those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum OnError {
    /// Finish what is in flight and send no more
    #[default]
    Stop,
    /// Continue with the next record
    Continue,
}

/// Bytes typed on the command line.
#[derive(Debug, Clone)]
pub(super) struct Bytes(pub(super) Vec<u8>);

/// Reads a delimiter with its escapes.
pub(super) fn parse_delimiter(text: &str) -> Result<Bytes, String> {
    let delimiter = parse_bytes(text)?;
    if delimiter.0.is_empty() { Err("the delimiter must not be empty".to_owned()) } else { Ok(delimiter) }
}

/// Reads bytes with their escapes.
pub(super) fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((plain, escaped)) = rest.split_once('\\') {
        let (byte, len) = escape(escaped)?;
        out.extend_from_slice(plain.as_bytes());
        out.push(byte);
        rest = &escaped[len..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(Bytes(out))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number of records per second".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("must be greater than 0".to_owned()) }
}

fn parse_new_topic(text: &str) -> Result<TopicCreation, String> {
    let (partitions, replication) = text.split_once(':').map_or((text, None), |(p, r)| (p, Some(r)));
    let wrong = || "expected PARTITIONS or PARTITIONS:REPLICATION, both from 1".to_owned();
    let partitions = partitions.parse().ok().filter(|&p| p > 0).ok_or_else(wrong)?;
    let replication = replication.map(|r| r.parse().ok().filter(|&r| r > 0).ok_or_else(wrong));
    Ok(TopicCreation { partitions, replication_factor: replication.transpose()? })
}

fn describe_partitioner(partitioner: Partitioner) -> &'static str {
    match partitioner {
        Partitioner::Murmur2 => "Murmur2 hash of the key, as in the Java client; without a key, sticky",
        Partitioner::Crc32 => "CRC-32 of the key, as librdkafka's consistent; without a key, sticky",
        Partitioner::Fnv1a => "FNV-1a hash of the key, as in Sarama; without a key, sticky",
        Partitioner::Random => "A random partition, whatever the key",
        Partitioner::RoundRobin => "Round-robin, whatever the key",
    }
}

impl Produce {
    pub(super) fn only_topic(&self) -> Option<&str> {
        (self.topic != "-").then_some(&self.topic)
    }

    pub(super) fn transactional_id(&self) -> Option<&str> {
        self.transactional_id.as_deref()
    }

    pub(super) fn run(&mut self, context: &Context) -> anyhow::Result<u8> {
        self.transactional_id = context.properties.resolve(self.transactional_id.take(), &TRANSACTIONAL_ID)?;
        let config = self.producer_config(context)?;
        let sources = match &self.files[..] {
            [] => vec![Source::Stdin],
            files => files.iter().cloned().map(Source::File).collect(),
        };
        let (framing, mut reader) = self.input.read(config.max_record_size)?;
        reader.next_source(&sources[0].name());
        if let Some(advice) = self.input.advice().filter(|_| !context.quiet) {
            tell(advice);
        }
        let mut encoder = self.schemas.encoder(context, &self.input)?;
        if let (Some(encoder), Some(topic)) = (&mut encoder, self.only_topic()) {
            encoder.prepare(topic)?;
        }
        let mut context = context.clone();
        context.options.request_timeout = context.properties.resolve(self.request_timeout, &REQUEST_TIMEOUT)?;
        let context = &context;
        let metrics = &context.metrics;
        metrics.expect(crate::input::size(&sources).unwrap_or_default());
        // What is typed and what is shown on the terminal would get mixed up.
        let is_typed = sources.iter().any(|source| matches!(source, Source::Stdin)) && std::io::stdin().is_terminal();
        let is_shown = self.receipts && std::io::stdout().is_terminal();
        let reporter = Reporter::start(&self.observe, metrics, !is_typed && !is_shown && !context.quiet)?;
        let engine = context.connect()?;
        if matches!(engine, Engine::Kafka(_)) {
            self.refuse_what_the_kafka_engine_lacks()?;
        }
        let report = self.report(context)?;
        let mut inbox = crate::input::open(&sources, self.input.packed())?;
        let _waker = context.stop.wake_with(inbox.waker());
        let producer = engine.produce(config, std::sync::Arc::new(inbox.waker()))?;
        inbox.start()?;
        metrics.ready(true);
        let position = InputPosition::new(sources.iter().map(Source::name).collect());
        let input = run::Input { inbox, framing, reader, position };
        ProduceRun { context, input, delivery: self.delivery(context, producer, report, encoder) }.run(reporter)
    }

    fn report(&self, context: &Context) -> Result<Report> {
        let receipts = if self.receipts { Some(Writer::stdout()?) } else { None };
        let dead_letters = self.dead_letter.as_deref().map(DeadLetters::open).transpose()?;
        // A transaction is all or nothing: its order is only kept for those who ask for it.
        let is_ordered = self.transactional_id.is_none() || self.receipts;
        let ledger = is_ordered.then(|| Ledger::after(self.skip, self.receipts));
        let mut report = Report::new(context.metrics.clone(), self.skip, ledger, receipts, dead_letters);
        if self.transactional_id.is_some() {
            report.committed(self.skip);
        }
        Ok(report)
    }

    fn delivery(
        &self,
        context: &Context,
        producer: Box<dyn Producer>,
        report: Report,
        encoder: Option<Encoder>,
    ) -> Delivery<'_> {
        let commit_every = CommitEvery { records: self.transaction_records, interval: self.transaction_interval };
        Delivery {
            producer,
            report,
            encoder,
            topic: self.only_topic(),
            partition: self.partition,
            skip: Skip { left: self.skip },
            refusals: Refusals { on_error: self.on_error },
            pace: self.rate.map(|per_second| Pace::new(per_second, &context.stop)),
            transaction: self.transactional_id.clone().map(|id| Transaction::new(id, commit_every)),
            now: 0,
        }
    }

    fn producer_config(&self, context: &Context) -> Result<ProducerConfig> {
        let properties = &context.properties;
        let compression = match self.compression {
            Some(compression) => compression,
            None => {
                let compression = properties.get(&COMPRESSION_TYPE)?;
                match properties.get(&COMPRESSION_LEVEL)? {
                    Some(level) => with_level(compression.codec, level)
                        .map_err(|why| properties.malformed(&COMPRESSION_LEVEL, &why))?,
                    None => compression,
                }
            }
        };
        let acks = properties.resolve(self.acks, &ACKS)?;
        let idempotent = properties.resolve(self.idempotent, &ENABLE_IDEMPOTENCE)?;
        if self.transactional_id.is_some() {
            let needs = [
                (acks != Acks::All, "--acks all"),
                (idempotent == Some(false), "--idempotent true"),
                (self.on_error == OnError::Continue, "--on-error stop: a transaction is all or nothing"),
                (self.dead_letter.is_some(), "no --dead-letter: an aborted input is produced again as a whole"),
            ];
            if let Some((_, need)) = needs.into_iter().find(|(missing, _)| *missing) {
                return Err(Error::Usage(format!("--transactional-id requires {need}")));
            }
        }
        if idempotent == Some(true) && acks != Acks::All {
            return Err(Error::Usage("--idempotent true requires --acks all".to_owned()));
        }
        let linger = properties.resolve(self.linger, &LINGER)?;
        let delivery_timeout = properties.resolve(self.timeout, &DELIVERY_TIMEOUT)?;
        if linger > delivery_timeout {
            return Err(Error::Usage("--linger must not exceed --timeout".to_owned()));
        }
        self.check_topic()?;
        let transaction_timeout = properties.resolve(self.transaction_timeout, &TRANSACTION_TIMEOUT)?;
        Ok(ProducerConfig {
            acks,
            idempotent: idempotent.unwrap_or(acks == Acks::All),
            compression,
            batch_size: properties.resolve(self.batch_size, &BATCH_SIZE)?.clamp(1, 1 << 30),
            linger,
            delivery_timeout,
            metadata_max_age: properties.get(&METADATA_MAX_AGE)?,
            max_in_flight: properties.resolve(self.max_in_flight.map(usize::from), &MAX_IN_FLIGHT)?.min(5),
            buffer_memory: properties.resolve(self.buffer_memory, &BUFFER_MEMORY)?,
            max_record_size: properties.resolve(self.max_record_size, &MAX_REQUEST_SIZE)?,
            partitioner: properties.resolve(self.partitioner, &PARTITIONER)?,
            stop_on_failure: self.on_error == OnError::Stop,
            keep_failed: self.dead_letter.is_some(),
            transaction: self.transactional_id.clone().map(|id| TransactionConfig { id, timeout: transaction_timeout }),
            create_topics: self.create_topic,
            topics: if self.topic == "-" { Vec::new() } else { vec![self.topic.clone()] },
        })
    }

    /// Refuses a TOPIC that does not fit the input.
    fn check_topic(&self) -> Result<()> {
        if self.topic == "-" && !self.input.has_topics() {
            let why =
                "TOPIC - uses the topic of each record and requires --input json, --template or --topic-from-header";
            return Err(Error::Usage(why.to_owned()));
        }
        if self.topic != "-" && self.input.topic_from_header.is_some() {
            return Err(Error::Usage("--topic-from-header requires TOPIC -".to_owned()));
        }
        Ok(())
    }

    fn refuse_what_the_kafka_engine_lacks(&self) -> Result<()> {
        let cannot = [
            (!self.input.headers.is_empty(), "-H", "the kafka engine writes message format v0, which has no headers"),
            (
                self.input.timestamp.is_some(),
                "--timestamp",
                "the kafka engine writes message format v0, which has no timestamps",
            ),
            (
                self.idempotent == Some(true),
                "--idempotent",
                "neither the kafka engine nor brokers before 0.11 support it",
            ),
            (
                self.transactional_id.is_some(),
                "--transactional-id",
                "neither the kafka engine nor brokers before 0.11 support it",
            ),
            (self.create_topic.is_some(), "--create-topic", "the kafka engine cannot create topics"),
        ];
        match cannot.into_iter().find(|(asked, ..)| *asked) {
            Some((_, flag, why)) => Err(unsupported_by_kafka_crate(flag, why)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_read_with_their_escapes() {
        assert_eq!(parse_delimiter("\\0").unwrap().0, [0]);
        assert_eq!(parse_delimiter("--\\t\\x41").unwrap().0, b"--\tA");
        assert!(parse_delimiter("\\q").is_err() && parse_delimiter("").is_err() && parse_delimiter("\\x4").is_err());
    }
}
