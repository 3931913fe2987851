//! How `produce` reads records: the flags, and the framing and reader that they choose.

use super::{Bytes, parse_delimiter};
use crate::cli::named::FormParser;
use crate::codec::framed::Form;
use crate::codec::{Encoding, Path};
use crate::error::{Error, Result};
use crate::input::{
    CsvOptions, CsvReader, CsvSplitter, CsvValue, Cut, Cutter, Derived, FileReader, Framing, JsonOptions, JsonReader,
    LengthReader, LineReader, MissingKey, Packed, Program, Reader, Shape, TemplateOptions, TemplateReader,
};
use crate::record::{HeaderBuf, Timestamp};
use crate::template::{Malformed, Template};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// Input format
    #[arg(long, value_enum, default_value_t)]
    pub(super) input: Input,
    /// Read records that `kpipe consume -f TEMPLATE` wrote
    ///
    /// The end of each part must be known: by text after it, or for %k and %s by a length before it (%K, %S or %R),
    /// which is exact for any bytes: '%R%s', '%K %k%S %s\n'.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "input", value_parser = parse_template)]
    template: Option<Template>,
    /// Record delimiter; accepts \n \t \r \0 \xHH [default: \n]
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = parse_delimiter)]
    delimiter: Option<Bytes>,
    /// Split each line into key and value at the first DELIM
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = parse_delimiter)]
    key_delimiter: Option<Bytes>,
    /// Key for records without one
    #[arg(short, long)]
    key: Option<String>,
    /// Take the key from a field of the JSON value, such as .user.id
    #[arg(long, value_name = "PATH", conflicts_with_all = ["key", "key_column"])]
    key_from: Option<Path>,
    /// What to do with a record whose value lacks the field of --key-from, or has null there
    #[arg(long, value_enum, default_value = "error", requires = "key_from", value_name = "ACTION")]
    missing_key: MissingKeyArg,
    /// Take the timestamp from a field of the JSON value: RFC 3339, or seconds or milliseconds since 1970
    #[arg(long, value_name = "PATH", conflicts_with = "timestamp")]
    timestamp_from: Option<Path>,
    /// Take the partition from a field of the JSON value
    #[arg(long, value_name = "PATH", conflicts_with = "partition")]
    partition_from: Option<Path>,
    /// Take the topic from a header of the record, such as a dead letter's origin; requires TOPIC -
    #[arg(long, value_name = "NAME")]
    pub(super) topic_from_header: Option<String>,
    /// Choose partitions again instead of using those that the records name
    #[arg(long, conflicts_with_all = ["partition", "partition_from"])]
    repartition: bool,
    /// Add a header to every record; NAME alone gives it a null value
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(super) headers: Vec<String>,
    /// Encoding of values in the input; append -le to the name of a number for little-endian
    ///
    /// Converts the text of a value to bytes: 42 to the 8 bytes of an i64, hexadecimal digits to the bytes that they
    /// encode. In JSON, this applies to the field value; a name like value_hex gives its own encoding. With avro,
    /// protobuf or json-schema, the input is JSON, which is encoded with the schema.
    #[arg(long, default_value = "text", value_name = "ENCODING", value_parser = FormParser)]
    pub(super) value_as: Form,
    /// Encoding of keys in the input
    #[arg(long, default_value = "text", value_name = "ENCODING", value_parser = FormParser)]
    pub(super) key_as: Form,
    /// Treat empty keys and values as null
    #[arg(short = 'Z', long)]
    empty_is_null: bool,
    /// Timestamp for records without one, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = clap::value_parser!(Timestamp).range(0..))]
    pub(super) timestamp: Option<Timestamp>,
    /// Ignore unknown fields in JSON input
    #[arg(long)]
    ignore_unknown: bool,
    /// Column of csv or tsv that is the key
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    key_column: Option<String>,
    /// Column of csv or tsv that is the value, as it is
    #[arg(long, value_name = "NAME", conflicts_with = "value_columns")]
    value_column: Option<String>,
    /// Columns of csv or tsv that make up the JSON object in the value [default: all that are not used otherwise]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    value_columns: Option<Vec<String>>,
    /// Columns of csv or tsv that become headers
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    header_columns: Vec<String>,
    /// Names of the columns, if csv or tsv has no header row; of length32: key,value
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Header that gets the name of each file of --input files
    #[arg(long, value_name = "NAME")]
    name_header: Option<String>,
    /// Do not decompress input
    ///
    /// Without this flag, input that begins like gzip, zstd or lz4 is decompressed, except with --input files.
    #[arg(long)]
    no_decompress: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Input {
    /// One record per line: a value, or a key and value with -K
    #[default]
    Lines,
    /// One JSON object per line, as `kpipe consume` writes them
    Json,
    /// Comma-separated values with a header row (RFC 4180)
    Csv,
    /// Tab-separated values with a header row, quoted like CSV
    Tsv,
    /// Each value's length (4 bytes, big-endian, -1 for null), then the value
    Length32,
    /// Each file is a value
    Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MissingKeyArg {
    /// Treat the record as undeliverable; see --on-error
    Error,
    /// Produce the record with a null key
    Null,
}

fn parse_template(text: &str) -> Result<Template, Malformed> {
    let template = text.parse()?;
    // Whether it can be read back does not depend on what keys and values are.
    Program::new(&template, Encoding::Text, Encoding::Text)?;
    Ok(template)
}

impl InputArgs {
    /// Whether records name their own topic.
    pub(super) fn has_topics(&self) -> bool {
        self.input == Input::Json || self.template.is_some() || self.topic_from_header.is_some()
    }

    /// Whether records are read by a template.
    pub(super) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether compressed input is unpacked. A file that is a record stays as it is.
    pub(super) fn packed(&self) -> Packed {
        if self.no_decompress || self.input == Input::Files { Packed::Keep } else { Packed::Unpack }
    }

    /// How records are told apart and read; one may have `limit` bytes.
    ///
    /// # Errors
    /// Flags contradict each other.
    pub(super) fn read(&self, limit: usize) -> Result<(Framing, Reader)> {
        self.check()?;
        let derived = Derived {
            key: self.key_from.clone(),
            missing_key: match self.missing_key {
                MissingKeyArg::Error => MissingKey::Error,
                MissingKeyArg::Null => MissingKey::Null,
            },
            timestamp: self.timestamp_from.clone(),
            partition: self.partition_from.clone(),
            topic_header: self.topic_from_header.clone(),
            repartition: self.repartition,
        };
        let (framing, shape) = self.shape(limit)?;
        Ok((framing, Reader::new(shape, derived)))
    }

    fn shape(&self, limit: usize) -> Result<(Framing, Shape)> {
        let delimiter = self.delimiter.as_ref().map_or(&b"\n"[..], |delimiter| &delimiter.0);
        let (headers, key, timestamp) = (self.extra_headers(), self.key(), self.timestamp);
        if let Some(template) = &self.template {
            return self.template(template, limit);
        }
        Ok(match self.input {
            Input::Lines => (
                Framing::lines(delimiter, limit),
                Shape::Lines(LineReader {
                    key_delimiter: self.key_delimiter.as_ref().map(|delimiter| delimiter.0.clone()),
                    key,
                    empty_is_null: self.empty_is_null,
                    headers,
                    timestamp,
                    key_as: self.key_as.encoding(),
                    value_as: self.value_as.encoding(),
                    ..LineReader::default()
                }),
            ),
            Input::Json => (
                Framing::lines(delimiter, limit),
                Shape::Json(Box::new(JsonReader::new(JsonOptions {
                    ignore_unknown: self.ignore_unknown,
                    extra_headers: headers,
                    default_key: key,
                    default_timestamp: timestamp,
                    key_as: self.key_as.encoding(),
                    value_as: self.value_as.encoding(),
                }))),
            ),
            Input::Csv => self.csv(b',', limit),
            Input::Tsv => self.csv(b'\t', limit),
            Input::Length32 => {
                let reader = LengthReader { has_keys: self.columns.is_some(), key, headers, timestamp };
                let cut = Cut::Lengths { parts: reader.parts() };
                (Framing::Cut(Box::new(Cutter::new(cut, limit))), Shape::Length(Box::new(reader)))
            }
            Input::Files => {
                let name_header = self.name_header.clone();
                let reader = FileReader::new(name_header, key, timestamp, headers);
                (Framing::Whole { bytes: Vec::new(), limit }, Shape::File(Box::new(reader)))
            }
        })
    }

    fn csv(&self, separator: u8, limit: usize) -> (Framing, Shape) {
        let value = match (&self.value_column, &self.value_columns) {
            (Some(column), _) => CsvValue::Column(column.clone()),
            (None, Some(columns)) => CsvValue::Object(columns.clone()),
            (None, None) => CsvValue::Rest,
        };
        let reader = CsvReader::new(CsvOptions {
            columns: self.columns.clone(),
            key: self.key_column.clone(),
            value,
            headers: self.header_columns.clone(),
            empty_is_null: self.empty_is_null,
            extra_headers: self.extra_headers(),
            default_key: self.key(),
            timestamp: self.timestamp,
            key_as: self.key_as.encoding(),
            value_as: self.value_as.encoding(),
        });
        (Framing::Csv(Box::new(CsvSplitter::new(separator, limit))), Shape::Csv(Box::new(reader)))
    }

    fn template(&self, template: &Template, limit: usize) -> Result<(Framing, Shape)> {
        let program = || {
            let program = Program::new(template, self.key_as.encoding(), self.value_as.encoding());
            program.map_err(|e| Error::Usage(format!("--template: {e}")))
        };
        let reader = TemplateReader::new(
            program()?,
            TemplateOptions {
                default_key: self.key(),
                default_timestamp: self.timestamp,
                extra_headers: self.extra_headers(),
                empty_is_null: self.empty_is_null,
            },
        );
        let cutter = Cutter::new(Cut::Template(program()?), limit);
        Ok((Framing::Cut(Box::new(cutter)), Shape::Template(Box::new(reader))))
    }

    fn key(&self) -> Option<Vec<u8>> {
        self.key.as_ref().map(|key| key.as_bytes().to_vec())
    }

    fn extra_headers(&self) -> HeaderBuf {
        let mut headers = HeaderBuf::default();
        for header in &self.headers {
            match header.split_once('=') {
                Some((name, value)) => headers.push(name.as_bytes(), Some(value.as_bytes())),
                None => headers.push(header.as_bytes(), None),
            }
        }
        headers
    }

    /// Refuses flags that have no effect with this input.
    fn check(&self) -> Result<()> {
        use Input::{Csv, Files, Json, Length32, Lines, Tsv};
        let is_template = self.template.is_some();
        let csv: &[Input] = &[Csv, Tsv];
        let needs: [(bool, &[Input], &str); 10] = [
            (self.key_delimiter.is_some(), &[Lines], "-K requires --input lines"),
            (self.delimiter.is_some(), &[Lines, Json], "-D requires --input lines or json"),
            (self.ignore_unknown, &[Json], "--ignore-unknown requires --input json"),
            (self.key_column.is_some(), csv, "--key-column requires --input csv or tsv"),
            (self.value_column.is_some(), csv, "--value-column requires --input csv or tsv"),
            (self.value_columns.is_some(), csv, "--value-columns requires --input csv or tsv"),
            (!self.header_columns.is_empty(), csv, "--header-columns requires --input csv or tsv"),
            (self.columns.is_some(), &[Csv, Tsv, Length32], "--columns requires --input csv, tsv or length32"),
            (self.name_header.is_some(), &[Files], "--name-header requires --input files"),
            (
                !(is_template || self.key_as.is_text() && self.value_as.is_text()),
                &[Lines, Json, Csv, Tsv],
                "--key-as and --value-as require --input lines, json, csv or tsv, or --template",
            ),
        ];
        if let Some((.., why)) =
            needs.iter().find(|(given, with, _)| *given && (is_template || !with.contains(&self.input)))
        {
            return Err(Error::Usage((*why).to_owned()));
        }
        if self.empty_is_null && !is_template && !matches!(self.input, Lines | Csv | Tsv) {
            return Err(Error::Usage(
                "-Z requires --input lines, csv or tsv, or --template: others have their own nulls".to_owned(),
            ));
        }
        let has_other_columns = self.columns.as_ref().is_some_and(|columns| *columns != ["key", "value"]);
        if self.input == Length32 && has_other_columns {
            return Err(Error::Usage(
                "--input length32 has the columns key,value, or without --columns the value".to_owned(),
            ));
        }
        Ok(())
    }

    /// What a user may have meant with `-k .id`.
    pub(super) fn advice(&self) -> Option<String> {
        let key = self.key.as_deref().filter(|key| key.len() > 1 && key.parse::<Path>().is_ok())?;
        Some(format!("every key is the text {key}; --key-from {key} takes keys from the JSON values"))
    }
}
