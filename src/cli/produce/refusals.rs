//! Input that cannot be sent: where it stands, and whether the run goes on without it.

use super::OnError;
use super::report::{Refused, Report};
use super::schemas::Unsent;
use crate::codec::framed::Encoder;
use crate::error::{Error, InputPlace, Result};
use crate::input::{BadLine, Frame, Reader};

/// Why a line of the input did not become a record on its way.
pub(super) enum Bad {
    /// The line is no record.
    Line(BadLine),
    /// The record can never be sent.
    Record(Error),
    /// The run is over: a signal, or a failure that is not the record's.
    Fatal(Error),
}

/// The source that is being read.
pub(super) struct InputPosition {
    /// Names of the sources, and which is being read.
    names: Vec<String>,
    source: usize,
}

impl InputPosition {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, source: 0 }
    }

    pub(super) fn next_source(&mut self) {
        self.source += 1;
    }

    /// What the user calls the source.
    pub(super) fn name(&self) -> &str {
        self.names.get(self.source).map_or("", String::as_str)
    }

    /// What is wrong with the record that stands at `place`.
    pub(super) fn error(&self, place: InputPlace, bad: Bad) -> Error {
        let input = |byte, what| Error::Input { source_name: self.name().to_owned(), place, byte, what };
        match bad {
            Bad::Line(bad) => input(bad.byte, bad.what),
            Bad::Record(error) => input(None, error.to_string()),
            Bad::Fatal(error) => error,
        }
    }
}

/// What a record that cannot be delivered means for those after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusals {
    pub(super) on_error: OnError,
}

impl Refusals {
    /// Whether the failures so far end the run.
    pub(super) fn end_run(self, report: &Report) -> bool {
        self.on_error == OnError::Stop && report.failed() > 0
    }

    /// Reports a line that is no record, or a record that can never be sent.
    ///
    /// # Errors
    /// `error`, when the run ends with it.
    pub(super) fn refuse(
        self,
        error: Error,
        topic: Option<&str>,
        encoder: Option<&Encoder>,
        reader: &mut Reader,
        frame: &Frame<'_>,
        report: &mut Report,
    ) -> Result<()> {
        if self.on_error == OnError::Stop {
            return Err(error);
        }
        match reader.read(frame) {
            Ok(Some(read)) => {
                let mut unsent = Unsent::default();
                let view = unsent.view(encoder, &read);
                let topic = topic.or(read.topic).unwrap_or_default();
                report.refused(&error, topic, Refused::Record(&read.record, &view))
            }
            _ => report.refused(&error, topic.unwrap_or_default(), Refused::Line(&reader.text(frame))),
        }
    }
}
