//! `kpipe produce`: input → records → delivered.

use super::Context;
use crate::config::{parse_duration, parse_size};
use crate::engine::{Acks, Codec, Compression, Producer, ProducerConfig};
use crate::error::{Error, Result, did_you_mean};
use crate::input::{Inbox, JsonOptions, JsonReader, LineReader, Message, Reader, Source, Splitter};
use crate::record::{HeaderBuf, PartitionId, Timestamp};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Sends each line as a record; keyless records spread over partitions, keyed ones go where the Java client
/// puts them. A slow input is sent as it comes. Ends when the input has ended and every record is delivered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    seq 5 | kpipe produce demo\n  \
    tail -F app.log | kpipe produce logs -z zstd\n  \
    printf 'k1:v1\\nk2:v2\\n' | kpipe produce demo -K :\n  \
    kpipe consume demo -o beginning -e | kpipe produce copy --input json")]
pub(super) struct Produce {
    /// The topic; - takes each JSON record's own
    topic: String,
    /// Files to read instead of stdin
    files: Vec<PathBuf>,
    /// What a line of the input is
    #[arg(long, value_enum, default_value_t)]
    input: Input,
    /// Ends a record; \n \t \r \0 \xHH are understood
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = parse_delimiter, default_value = "\\n")]
    delimiter: Bytes,
    /// Splits key from value, at its first occurrence in a line
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = parse_delimiter)]
    key_delimiter: Option<Bytes>,
    /// The key of every record that has none
    #[arg(short, long)]
    key: Option<String>,
    /// Adds a header; NAME alone is a null value
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The partition of every record
    #[arg(short, long, value_parser = clap::value_parser!(PartitionId).range(0..))]
    partition: Option<PartitionId>,
    /// An empty value or key is null
    #[arg(short = 'Z', long)]
    empty_is_null: bool,
    /// The timestamp of every record that has none, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(Timestamp).range(0..))]
    timestamp: Option<Timestamp>,
    /// Passes over unknown fields of JSON input
    #[arg(long)]
    ignore_unknown: bool,
    /// Compresses batches: none, gzip, snappy, lz4 or zstd; gzip and zstd take a level
    #[arg(short = 'z', long, value_name = "CODEC[:LEVEL]", value_parser = parse_compression)]
    compression: Option<Compression>,
    /// Who must have a record: 0 nobody, 1 the leader, all in-sync replicas [default: all]
    #[arg(long, value_parser = parse_acks)]
    acks: Option<Acks>,
    /// Lets the broker recognise a repeated batch, so that a retry doubles nothing [default: true with --acks all]
    #[arg(long)]
    idempotent: Option<bool>,
    /// A batch has at most so many bytes before compression [default: 1000000]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    batch_size: Option<usize>,
    /// How long an idle input may hold a batch back for more [default: 0]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// A record not acknowledged after this has failed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// A broker that does not answer a request within this is asked again [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    request_timeout: Option<Duration>,
    /// Requests that may await their answer at a broker, 1 to 5 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    max_in_flight: Option<u8>,
    /// Bytes of records not yet acknowledged; reading waits beyond [default: 64M]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    buffer_memory: Option<usize>,
    /// A larger record is refused [default: 64M]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    max_record_size: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Input {
    /// The value, or key and value with -K
    #[default]
    Lines,
    /// An object as `kpipe consume` writes it
    Json,
}

/// Bytes typed on the command line.
#[derive(Debug, Clone)]
pub(super) struct Bytes(pub(super) Vec<u8>);

/// Reads a delimiter with its escapes.
pub(super) fn parse_delimiter(text: &str) -> Result<Bytes, String> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        out.push(match chars.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 2)
                    .ok_or("\\x takes two hexadecimal digits")?
            }
            _ => return Err("the escapes are \\n \\t \\r \\0 \\\\ \\xHH".to_owned()),
        });
    }
    if out.is_empty() { Err("an empty delimiter".to_owned()) } else { Ok(Bytes(out)) }
}

fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
    let index = Codec::NAMES.iter().position(|known| *known == name);
    let codec = index
        .and_then(|index| Codec::from_attributes(index as i16))
        .ok_or_else(|| format!("expected one of {}{}", Codec::NAMES.join(", "), did_you_mean(name, Codec::NAMES)))?;
    let Some(level) = level else { return Ok(Compression { codec, level: None }) };
    let levels = codec.levels().ok_or_else(|| format!("{name} has no levels"))?;
    match level.parse() {
        Ok(level) if levels.contains(&level) => Ok(Compression { codec, level: Some(level) }),
        _ => Err(format!("{name} has levels {} to {}", levels.start(), levels.end())),
    }
}

/// A property parsed as its flag is.
fn property<T>(context: &Context, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>> {
    let Some(text) = context.config.properties.text(name) else { return Ok(None) };
    parse(text).map(Some).map_err(|e| Error::Usage(format!("{name}={text}: {e}")))
}

impl Produce {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let config = self.producer_config(context)?;
        let sources = match &self.files[..] {
            [] => vec![Source::Stdin],
            files => files.iter().cloned().map(Source::File).collect(),
        };
        let names = sources.iter().map(Source::name).collect();
        let limit = config.max_record_size;
        let reader = self.reader()?;
        let mut context = context.clone();
        if let Some(limit) = self.request_timeout {
            context.config.request_timeout = limit;
        }
        let context = &context;
        let engine = context.connect()?;
        if engine.name() == "kafka" {
            self.refuse_what_the_crate_cannot(&config)?;
        }
        let inbox = crate::input::start(sources)?;
        context.stop.wake_with(inbox.waker());
        let producer = engine.producer(config, std::sync::Arc::new(inbox.waker()))?;
        let mut work = Work {
            producer,
            inbox,
            reader,
            splitter: Splitter::new(&self.delimiter.0, limit),
            topic: (self.topic != "-").then_some(&self.topic[..]),
            partition: self.partition,
            names,
            source: 0,
            line: 0,
            tally: Tally::default(),
        };
        let started = Instant::now();
        let ended = work.feed(context);
        let finished = work.finish();
        work.tally.tell(context, started.elapsed());
        match (ended, finished) {
            (_, Err(Error::Stopped)) => {
                let open = work.producer.unconfirmed();
                if open > 0 {
                    eprintln!("kpipe: stopped with {open} records unconfirmed");
                }
                Ok(context.stop.exit_code())
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(error.into()),
            _ if work.tally.failed > 0 => Ok(crate::error::EXIT_FAILED),
            (Ok(Ended::Stopped), _) => Ok(context.stop.exit_code()),
            (Ok(Ended::AllRead), _) => Ok(crate::error::EXIT_OK),
        }
    }

    fn producer_config(&self, context: &Context) -> Result<ProducerConfig> {
        let properties = &context.config.properties;
        let compression = match self.compression {
            Some(compression) => compression,
            None => {
                let mut compression = property(context, "compression.type", parse_compression)?.unwrap_or_default();
                if let Some(level) = properties.text("compression.level") {
                    compression = parse_compression(&format!("{}:{level}", compression.codec.name()))
                        .map_err(|e| Error::Usage(format!("compression.level={level}: {e}")))?;
                }
                compression
            }
        };
        let acks = self.acks.map_or_else(|| property(context, "acks", parse_acks), |acks| Ok(Some(acks)))?;
        let acks = acks.unwrap_or_default();
        let idempotent = match self.idempotent {
            Some(asked) => Some(asked),
            None => properties.get("enable.idempotence")?,
        };
        if idempotent == Some(true) && acks != Acks::All {
            return Err(Error::Usage(
                "--idempotent true needs --acks all: no other broker could tell a repeat".to_owned(),
            ));
        }
        let size = |flag: Option<usize>, name, default| {
            flag.map_or_else(|| Ok(property(context, name, parse_size)?.unwrap_or(default)), Ok::<_, Error>)
        };
        if self.topic == "-" && self.input != Input::Json {
            return Err(Error::Usage("TOPIC - takes each record's own topic: it needs --input json".to_owned()));
        }
        Ok(ProducerConfig {
            acks,
            idempotent: idempotent.unwrap_or(acks == Acks::All),
            compression,
            batch_size: size(self.batch_size, "batch.size", 1_000_000)?.clamp(1, 1 << 30),
            linger: self.linger.or(properties.millis("linger.ms")?).unwrap_or_default(),
            delivery_timeout: self
                .timeout
                .or(properties.millis("delivery.timeout.ms")?)
                .unwrap_or(Duration::from_secs(30)),
            max_in_flight: match self.max_in_flight {
                Some(count) => usize::from(count),
                None => properties.get("max.in.flight.requests.per.connection")?.unwrap_or(5).clamp(1, 5),
            },
            buffer_memory: size(self.buffer_memory, "buffer.memory", 64 << 20)?,
            max_record_size: size(self.max_record_size, "max.request.size", 64 << 20)?,
            topics: if self.topic == "-" { Vec::new() } else { vec![self.topic.clone()] },
        })
    }

    fn refuse_what_the_crate_cannot(&self, config: &ProducerConfig) -> Result<()> {
        let refuse = |flag: &str, why: &str| {
            Err(Error::Usage(format!("{flag}: {why}; --engine native can, on Kafka 0.11 and newer")))
        };
        if !self.headers.is_empty() {
            return refuse("-H", "the kafka crate writes message sets v0, which have no headers");
        }
        if self.timestamp.is_some() {
            return refuse("--timestamp", "the kafka crate writes message sets v0, which have none");
        }
        if self.idempotent == Some(true) {
            return refuse("--idempotent", "the kafka crate and brokers before 0.11 do not know it");
        }
        if config.linger > config.delivery_timeout {
            return refuse("--linger", "longer than --timeout");
        }
        Ok(())
    }

    fn reader(&self) -> Result<Reader> {
        let mut headers = HeaderBuf::default();
        for header in &self.headers {
            match header.split_once('=') {
                Some((name, value)) => headers.push(name.as_bytes(), Some(value.as_bytes())),
                None => headers.push(header.as_bytes(), None),
            }
        }
        let key = self.key.as_ref().map(|key| key.as_bytes().to_vec());
        if self.input == Input::Json {
            for (given, flag) in [(self.key_delimiter.is_some(), "-K"), (self.empty_is_null, "-Z")] {
                if given {
                    return Err(Error::Usage(format!(
                        "{flag} is for --input lines: a JSON record says its key and nulls itself"
                    )));
                }
            }
            return Ok(Reader::Json(Box::new(JsonReader::new(JsonOptions {
                ignore_unknown: self.ignore_unknown,
                extra_headers: headers,
                default_key: key,
                default_timestamp: self.timestamp,
            }))));
        }
        Ok(Reader::Lines(LineReader {
            key_delimiter: self.key_delimiter.as_ref().map(|delimiter| delimiter.0.clone()),
            key,
            empty_is_null: self.empty_is_null,
            headers,
            timestamp: self.timestamp,
        }))
    }
}

/// How the reading of the input came to its end.
enum Ended {
    AllRead,
    Stopped,
}

/// Outcomes so far.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    batches: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    fn take(&mut self, producer: &mut dyn Producer) {
        let receipts = producer.receipts();
        let mut lost: Vec<(u64, u64, String)> = Vec::new();
        for receipt in receipts {
            match receipt.outcome {
                Ok(_) => {
                    self.records += receipt.records;
                    self.bytes += receipt.bytes;
                    self.batches += 1;
                }
                Err(failure) => {
                    let possibly = if failure.possibly_written { "; perhaps written all the same" } else { "" };
                    let why = format!("{}{possibly}", failure.error);
                    match lost.last_mut() {
                        // One line for neighbours that failed for the same reason.
                        Some((_, count, same)) if *same == why => *count += receipt.records,
                        _ => lost.push((receipt.first_record + 1, receipt.records, why)),
                    }
                    self.failed += receipt.records;
                    *self.errors.entry(failure.error.name()).or_default() += receipt.records;
                }
            }
        }
        for (first, count, why) in lost {
            let which =
                if count == 1 { format!("record {first}") } else { format!("{count} records from record {first} on") };
            eprintln!("kpipe: not delivered: {which}: {why}");
        }
    }

    fn tell(&self, context: &Context, elapsed: Duration) {
        if context.quiet {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let Self { records, bytes, batches, failed, .. } = self;
        let failures: Vec<_> = self.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let failures = if *failed > 0 { format!("; {failed} failed: {}", failures.join(", ")) } else { String::new() };
        eprintln!("kpipe: {records} records delivered in {batches} batches, {bytes} bytes, {seconds:.2} s{failures}");
    }
}

struct Work<'a> {
    producer: Box<dyn Producer>,
    inbox: Inbox,
    reader: Reader,
    splitter: Splitter,
    topic: Option<&'a str>,
    partition: Option<PartitionId>,
    /// Names of the sources, and which is being read.
    names: Vec<String>,
    source: usize,
    /// Lines read of this source.
    line: u64,
    tally: Tally,
}

impl Work<'_> {
    /// Reads the input to its end, a signal, or the first failure.
    fn feed(&mut self, context: &Context) -> Result<Ended> {
        loop {
            if context.stop.is_raised() {
                return Ok(Ended::Stopped);
            }
            let message = match self.inbox.try_next() {
                Some(message) => message,
                None => {
                    let again = self.producer.idle()?;
                    self.inbox.next(again).unwrap_or(Message::Woken)
                }
            };
            match message {
                Message::Chunk(chunk) => {
                    self.producer.set_now(now());
                    self.take(&chunk)?;
                    self.inbox.recycle(chunk);
                    self.producer.busy()?;
                }
                Message::EndOfSource => {
                    if let Some(last) = self.splitter.finish() {
                        self.producer.set_now(now());
                        self.line += 1;
                        append(&mut *self.producer, &mut self.reader, self.topic, self.partition, &last)
                            .map_err(|bad| self.locate(bad))?;
                    }
                    self.source += 1;
                    self.line = 0;
                }
                Message::End => return Ok(Ended::AllRead),
                Message::Failed(error) => return Err(error),
                Message::Woken => {}
            }
            self.tally.take(&mut *self.producer);
            if self.tally.failed > 0 {
                // What came after a lost record would only hide it.
                return Ok(Ended::AllRead);
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { producer, reader, splitter, line, topic, partition, .. } = self;
        let fed = splitter.feed(chunk, |bytes| {
            *line += 1;
            match append(&mut **producer, reader, *topic, *partition, bytes) {
                Ok(()) => ControlFlow::Continue(()),
                Err(bad) => ControlFlow::Break(bad),
            }
        });
        match fed {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(bad)) => Err(self.locate(bad)),
            Err(bad) => {
                self.line += 1;
                Err(self.locate(Bad::Line(bad)))
            }
        }
    }

    fn locate(&self, bad: Bad) -> Error {
        let source_name = self.names.get(self.source).cloned().unwrap_or_default();
        match bad {
            Bad::Line(bad) => Error::Input { source_name, line: self.line, byte: bad.byte, what: bad.what },
            // A record that can never be sent: say which one.
            Bad::Record(Error::Usage(what)) => Error::Input { source_name, line: self.line, byte: None, what },
            Bad::Record(error @ Error::Kafka { .. }) => {
                Error::Input { source_name, line: self.line, byte: None, what: error.to_string() }
            }
            Bad::Record(error) => error,
        }
    }

    /// Delivers what was read.
    fn finish(&mut self) -> Result<()> {
        let finished = self.producer.finish();
        self.tally.take(&mut *self.producer);
        finished
    }
}

enum Bad {
    Line(crate::input::BadLine),
    Record(Error),
}

#[inline]
fn append(
    producer: &mut dyn Producer,
    reader: &mut Reader,
    topic: Option<&str>,
    partition: Option<PartitionId>,
    line: &[u8],
) -> Result<(), Bad> {
    let Some(read) = reader.read(line).map_err(Bad::Line)? else { return Ok(()) };
    let Some(topic) = topic.or(read.topic) else {
        return Err(Bad::Record(Error::Usage("the record names no topic".to_owned())));
    };
    producer.append(topic, partition.or(read.partition), &read.record).map_err(Bad::Record)
}

fn now() -> Timestamp {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as Timestamp)
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

    #[test]
    fn codecs_are_read_with_their_levels() {
        assert_eq!(parse_compression("zstd:3"), Ok(Compression { codec: Codec::Zstd, level: Some(3) }));
        assert!(parse_compression("zstd:99").unwrap_err().contains("1 to 22"));
        assert!(parse_compression("gzpi").unwrap_err().contains("did you mean gzip?"));
        assert!(parse_compression("lz4:3").unwrap_err().contains("no levels"));
    }
}
