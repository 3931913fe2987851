//! `--jq`: what a program makes of the JSON of each record is written instead of it.

use super::Consume;
use crate::cli::Context;
use crate::cli::report::tell;
use crate::codec::View;
use crate::error::{Error, Result};
use crate::filter::{Failure, Jq, Limit};
use crate::output::{Format, Writer};
use crate::record::{Batch, RecordRef, TopicPartition};
use crate::text::counted;
use clap::Args;

/// So many failures are described; of more there is a count.
const MOST_DESCRIBED: u64 = 10;
/// A description has at most so many characters: jq's errors contain the values that they are about.
const LONGEST: usize = 200;

#[derive(Debug, Args)]
#[command(next_help_heading = "Filter")]
pub(super) struct JqArgs {
    /// Run a jq program on the JSON object of each record and print its results instead, one per line
    ///
    /// With --value-as json the program sees JSON values as such (.value.id), otherwise as text (.value | fromjson | .id).
    /// A record for which the program fails is reported, and kpipe exits with 1 at the end.
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["output", "template", "key_delimiter", "columns"])]
    jq: Option<String>,
    /// Print strings that result from --jq without quotes
    #[arg(long, requires = "jq")]
    raw_output: bool,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was written.
    Written,
    /// There was nothing to write.
    Nothing,
    /// A signal ended the program.
    Interrupted,
}

/// A program, and what it needs to run on records.
pub(super) struct JqStage {
    program: Jq,
    delimiter: Vec<u8>,
    json: Vec<u8>,
    /// How many records it has read, and how many of them had a result.
    read: u64,
    matched: u64,
    failed: u64,
}

impl Consume {
    /// The program of `--jq`.
    ///
    /// # Errors
    /// It does not compile.
    pub(super) fn jq(&self, context: &Context) -> Result<Option<JqStage>> {
        let Some(source) = &self.jq.jq else { return Ok(None) };
        let stop = context.stop.clone();
        let program = Jq::compile(source, self.jq.raw_output, move || stop.is_raised());
        let program = program.map_err(|why| Error::Usage(format!("--jq {source}: {why}")))?;
        let delimiter = self.format.delimiter().to_vec();
        Ok(Some(JqStage { program, delimiter, json: Vec::new(), read: 0, matched: 0, failed: 0 }))
    }
}

impl JqStage {
    /// Writes the results for one record of `batch`, each with a delimiter. A failure is reported, and reading continues.
    ///
    /// # Errors
    /// The record cannot be rendered, or the results cannot be written.
    pub(super) fn write(
        &mut self,
        writer: &mut Writer,
        format: &mut impl Format,
        batch: &Batch,
        record: &RecordRef<'_>,
        view: &View<'_>,
    ) -> Result<Outcome> {
        self.json.clear();
        format.write(&mut self.json, record, view)?;
        self.read += 1;
        let (mut outcome, mut written) = (Outcome::Nothing, Ok(false));
        let ended = self.program.run(&self.json, |result| {
            let out = writer.buffer();
            result.append(out);
            out.extend_from_slice(&self.delimiter);
            outcome = Outcome::Written;
            // A program may result in more than memory holds.
            written = writer.flush_if_large();
            written.is_ok()
        });
        written?;
        match ended {
            Ok(()) | Err(Failure::Receiver) => {}
            Err(Failure::Limited(Limit::Interrupted)) => return Ok(Outcome::Interrupted),
            Err(Failure::Limited(limit)) => self.report_failure(batch, record, &limit.to_string()),
            Err(Failure::Raised(why)) => self.report_failure(batch, record, &why),
        }
        self.matched += u64::from(outcome == Outcome::Written);
        Ok(outcome)
    }

    fn report_failure(&mut self, batch: &Batch, record: &RecordRef<'_>, why: &str) {
        self.failed += 1;
        if self.failed <= MOST_DESCRIBED {
            let cut = why.char_indices().nth(LONGEST).map_or(why.len(), |(index, _)| index);
            let of = TopicPartition::new(batch.topic.clone(), batch.partition);
            let more = if cut < why.len() { "…" } else { "" };
            tell(format_args!("--jq failed at {of} offset {}: {}{more}", record.offset, &why[..cut]));
        }
    }

    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn matched(&self) -> u64 {
        self.matched
    }

    /// Reports failures that were not described; whether there were any.
    pub(super) fn report_failures(&self) -> bool {
        if self.failed > MOST_DESCRIBED {
            tell(format_args!("--jq failed for {} in all", counted(self.failed, "record")));
        }
        self.failed > 0
    }
}
