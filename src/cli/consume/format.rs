//! How `consume` writes records: the flags, and the format that they choose.

use crate::cli::named::FormParser;
use crate::cli::produce::{Bytes, parse_bytes};
use crate::codec::framed::Form;
use crate::config::declarations::OUTPUT;
use crate::config::{Properties, TerminalOutput};
use crate::error::{Error, Result};
use crate::output::{
    Column, CsvFormat, Discard, FilesFormat, JsonFormat, LengthFormat, PrettyFormat, TemplateFormat, ValueFormat,
};
use crate::template::Template;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// Output format [default: json; on a terminal the property kpipe.output]
    #[arg(long, value_enum)]
    output: Option<Output>,
    /// Format each record with TEMPLATE, like kcat; the tokens are %t %p %o %T %k %s %h %K %S %R %%
    ///
    /// %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %s value, %h headers, %K and %S lengths of key and
    /// value (-1 for null), %R length of the value in 4 bytes. Braces select a form: %s{base64}, %k{i64} (any encoding of
    /// --value-as), %s{.user.id} (a field of a JSON value), %T{rfc3339}, %T{%Y-%m-%d}, %h{NAME} (one header). Escapes:
    /// \n \t \r \0 \xHH \\ \% \{. Nothing is printed between records but what the template has.
    #[arg(short = 'f', long = "format", value_name = "TEMPLATE", conflicts_with = "output")]
    template: Option<Template>,
    /// Encoding of values; append -le to the name of a number for little-endian
    ///
    /// Applies to JSON, templates, CSV and the other formats. In JSON, the field name gives the encoding (value_i64),
    /// so that --input json can read it. Bytes that do not fit the encoding are written in base64. Values with a schema
    /// become JSON, to which filters, fields in templates and columns also apply.
    #[arg(long, default_value = "text", value_name = "ENCODING", value_parser = FormParser)]
    pub(super) value_as: Form,
    /// Encoding of keys
    #[arg(long, default_value = "text", value_name = "ENCODING", value_parser = FormParser)]
    pub(super) key_as: Form,
    /// Print key and value with DELIM between them: --output key-value [default: \t]
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = parse_bytes, conflicts_with = "template")]
    key_delimiter: Option<Bytes>,
    /// Output record delimiter; accepts \n \t \r \0 \xHH, and "" for none [default: \n]
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = parse_bytes, conflicts_with = "template")]
    delimiter: Option<Bytes>,
    /// Columns of csv and tsv: names, fields of JSON values (.user.id), templates (%T{rfc3339}); of length32: key,value
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,…")]
    columns: Vec<String>,
    /// Omit the header row of csv and tsv
    #[arg(long)]
    no_header: bool,
    /// Directory for --output files; it is created if it does not exist
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Colors in --output pretty; never if NO_COLOR is set
    #[arg(long, value_enum, default_value = "auto", default_missing_value = "always", value_name = "WHEN", num_args = 0..=1, require_equals = true)]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One JSON object per record
    Json,
    /// The value only
    Value,
    /// Key and value, with the delimiter of -K between them
    KeyValue,
    /// Comma-separated values with a header row (RFC 4180)
    Csv,
    /// Tab-separated values with a header row, quoted like CSV
    Tsv,
    /// The value's length (4 bytes, big-endian, -1 for null), then the value
    Length32,
    /// One file per record in --output-dir, named TOPIC-PARTITION-OFFSET; prints the paths
    Files,
    /// One line per record for people, with colors on a terminal
    Pretty,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The format that was chosen. Each is a type of its own, so that the path of a record has no dispatch.
pub(super) enum Chosen {
    Json(JsonFormat),
    Value(ValueFormat),
    Template(TemplateFormat),
    Csv(CsvFormat),
    Length(LengthFormat),
    Files(FilesFormat),
    Pretty(PrettyFormat),
    None(Discard),
}

impl FormatArgs {
    /// JSON objects with nothing between them, for programs.
    pub(super) fn json(&self) -> JsonFormat {
        JsonFormat::new(self.key_as.encoding(), self.value_as.encoding(), b"")
    }

    /// What ends each record.
    pub(super) fn delimiter(&self) -> &[u8] {
        self.delimiter.as_ref().map_or(b"\n", |delimiter| &delimiter.0)
    }

    /// The format that the flags choose, or on a terminal `properties`.
    ///
    /// # Errors
    /// Flags contradict each other, or the directory cannot be created.
    pub(super) fn choose(&self, properties: &Properties) -> Result<Chosen> {
        let is_terminal = std::io::stdout().is_terminal();
        let output = match self.output {
            Some(output) => output,
            None if self.key_delimiter.is_some() => Output::KeyValue,
            None if is_terminal && properties.get(&OUTPUT)? == TerminalOutput::Pretty => Output::Pretty,
            None => Output::Json,
        };
        self.check(output)?;
        let (key, value) = (self.key_as.encoding(), self.value_as.encoding());
        if let Some(template) = &self.template {
            return Ok(Chosen::Template(TemplateFormat::new(template.clone(), key, value)));
        }
        let delimiter = self.delimiter();
        let template = |template| Chosen::Template(TemplateFormat::new(template, key, value));
        Ok(match output {
            Output::Json => Chosen::Json(JsonFormat::new(key, value, delimiter)),
            Output::Value if value == crate::codec::Encoding::Text => Chosen::Value(ValueFormat::new(delimiter)),
            Output::Value => template(Template::value(delimiter)),
            Output::KeyValue => {
                let between = self.key_delimiter.as_ref().map_or(&b"\t"[..], |delimiter| &delimiter.0);
                template(Template::key_value(between, delimiter))
            }
            Output::Csv => Chosen::Csv(self.csv(b',', delimiter)?),
            Output::Tsv => Chosen::Csv(self.csv(b'\t', delimiter)?),
            Output::Length32 => Chosen::Length(LengthFormat::new(!self.columns.is_empty())),
            Output::Files => match &self.output_dir {
                Some(dir) => Chosen::Files(FilesFormat::new(dir, value, delimiter)?),
                None => return Err(Error::Usage("--output files requires --output-dir DIR".to_owned())),
            },
            Output::Pretty => Chosen::Pretty(PrettyFormat::new(key, value, self.has_colors(is_terminal), delimiter)),
            Output::None => Chosen::None(Discard),
        })
    }

    /// Refuses flags that have no effect with `output`.
    fn check(&self, output: Output) -> Result<()> {
        use Output::{Csv, Files, KeyValue, Length32, Tsv};
        let flags: [(bool, &[Output], &str); 5] = [
            (self.key_delimiter.is_some(), &[KeyValue], "-K requires --output key-value"),
            (self.no_header, &[Csv, Tsv], "--no-header requires --output csv or tsv"),
            (self.output_dir.is_some(), &[Files], "--output-dir requires --output files"),
            (!self.columns.is_empty(), &[Csv, Tsv, Length32], "--columns requires --output csv, tsv or length32"),
            (
                output == Length32 && !(self.key_as.is_text() && self.value_as.is_text()),
                &[],
                "--output length32 writes bytes as they are, without --key-as and --value-as",
            ),
        ];
        if let Some((.., why)) = flags.iter().find(|(given, with, _)| *given && !with.contains(&output)) {
            return Err(Error::Usage((*why).to_owned()));
        }
        if output == Length32 && !self.columns.is_empty() && self.columns != ["key", "value"] {
            return Err(Error::Usage(
                "--output length32 has the columns key,value, or without --columns the value".to_owned(),
            ));
        }
        Ok(())
    }

    fn csv(&self, separator: u8, delimiter: &[u8]) -> Result<CsvFormat> {
        let columns: Result<Vec<Column>, String> = match &self.columns[..] {
            [] => Column::defaults(),
            names => names.iter().map(|name| name.parse()).collect(),
        };
        let columns = columns.map_err(|why| Error::Usage(format!("--columns: {why}")))?;
        Ok(CsvFormat::new(
            columns,
            separator,
            delimiter,
            !self.no_header,
            self.key_as.encoding(),
            self.value_as.encoding(),
        ))
    }

    /// https://no-color.org: set and not empty, it holds whatever else is asked for.
    fn has_colors(&self, is_terminal: bool) -> bool {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        !is_refused
            && match self.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => is_terminal && !is_dumb,
            }
    }
}
