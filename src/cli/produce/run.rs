//! A run of `produce`: reads the input, cuts it into lines, has each delivered, and reports how it ended.

use super::delivery::Delivery;
use super::refusals::{Bad, InputPosition};
use super::transaction::Transaction;
use crate::cli::Context;
use crate::cli::denied;
use crate::cli::report::tell;
use crate::engine::Operation;
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::input::{BadLine, Frame, Framing, Inbox, Message, Reader};
use crate::metrics::Reporter;
use crate::text::counted;
use std::ops::ControlFlow;
use std::time::Instant;

/// Where records come from.
pub(super) struct Input {
    pub(super) inbox: Inbox,
    pub(super) framing: Framing,
    pub(super) reader: Reader,
    pub(super) position: InputPosition,
}

pub(super) struct ProduceRun<'a> {
    pub(super) context: &'a Context,
    pub(super) input: Input,
    /// Apart from the input, for a record lends its bytes from there.
    pub(super) delivery: Delivery<'a>,
}

/// How the reading of the input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    AllRead,
    Stopped,
    /// A record failed, and the rest shall not be sent.
    Failed,
}

impl ProduceRun<'_> {
    /// Reads and delivers all; the exit code when nothing but records failed.
    pub(super) fn run(mut self, reporter: Reporter) -> anyhow::Result<u8> {
        let started = Instant::now();
        let ended = self.feed();
        let is_whole = matches!(ended, Ok(Ended::AllRead));
        let finished = self.delivery.finish(is_whole);
        self.context.metrics.ready(false);
        drop(reporter);
        let closed = self.delivery.report.close(self.context.quiet, started.elapsed(), is_whole);
        if let Some(error) = self.delivery.report.denied() {
            let id = self.delivery.transaction.as_ref().map(Transaction::id);
            let advice = denied::explain(error, &self.context.options.security, |_| Operation::Write, |_| None, id);
            crate::cli::report::block(&advice.unwrap_or_default());
        }
        if ended.is_ok() && finished.is_ok() {
            closed?;
        }
        self.exit_code(ended, finished)
    }

    fn exit_code(&self, ended: Result<Ended>, finished: Result<()>) -> anyhow::Result<u8> {
        match (ended, finished) {
            (_, Err(Error::Stopped)) => {
                let Delivery { producer, report, .. } = &self.delivery;
                let open = producer.unacknowledged();
                if open > 0 {
                    let records = counted(open, "record");
                    let leading = report.leading_words().map(|delivered| format!("; {delivered}"));
                    let leading = leading.unwrap_or_default();
                    tell(format_args!("stopped with {records} unacknowledged, possibly written{leading}"));
                }
                Ok(self.context.stop.exit_code())
            }
            (Err(error), Err(more)) => Err(anyhow::Error::new(error).context(more.to_string())),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error.into()),
            (Ok(Ended::Stopped), _) => Ok(self.context.stop.exit_code()),
            (Ok(Ended::Failed), _) => Ok(EXIT_FAILED),
            (Ok(Ended::AllRead), _) => Ok(if self.delivery.report.failed() > 0 { EXIT_FAILED } else { EXIT_OK }),
        }
    }

    /// Reads the input to its end, a signal, or the first failure.
    fn feed(&mut self) -> Result<Ended> {
        loop {
            if self.context.stop.is_raised() {
                return self.take_what_was_read();
            }
            let message = match self.input.inbox.try_next() {
                Some(message) => message,
                None => {
                    let again = self.delivery.idle()?;
                    self.input.inbox.next(again).unwrap_or(Message::Woken)
                }
            };
            if let Some(ended) = self.handle(message)? {
                return Ok(ended);
            }
        }
    }

    /// A signal ends the reading; what the reading thread already took from the input is still delivered.
    fn take_what_was_read(&mut self) -> Result<Ended> {
        while !self.delivery.ends_at_signal()
            && let Some(message) = self.input.inbox.take_last()
        {
            if self.handle(message)?.is_some() {
                break;
            }
        }
        Ok(Ended::Stopped)
    }

    fn handle(&mut self, message: Message) -> Result<Option<Ended>> {
        match message {
            Message::Chunk(chunk) => {
                self.context.metrics.read(chunk.len());
                self.delivery.tick()?;
                if let Some(ended) = self.take(Some(&chunk))? {
                    return Ok(Some(ended));
                }
                self.input.inbox.recycle(chunk);
            }
            Message::EndOfSource => {
                self.delivery.tick()?;
                if let Some(ended) = self.take(None)? {
                    return Ok(Some(ended));
                }
                let Input { reader, position, .. } = &mut self.input;
                position.next_source();
                reader.next_source(position.name());
            }
            Message::End => return Ok(Some(Ended::AllRead)),
            Message::Failed(error) => return Err(error),
            Message::Woken => {}
        }
        self.delivery.settle()?;
        Ok(self.delivery.has_failed().then_some(Ended::Failed))
    }

    /// Delivers the records that end in `chunk`, or what is left at the end of a source.
    fn take(&mut self, chunk: Option<&[u8]>) -> Result<Option<Ended>> {
        let Self { delivery, input: Input { reader, framing, position, .. }, .. } = self;
        let each = |frame: Frame<'_>| match deliver(delivery, reader, position, &frame) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        };
        let fed: Result<ControlFlow<Error>, BadLine> = match chunk {
            Some(chunk) => framing.feed(chunk, each),
            None => framing.finish(each),
        };
        match fed {
            Ok(ControlFlow::Continue(())) => Ok(None),
            Ok(ControlFlow::Break(Error::Stopped)) => Ok(Some(Ended::Stopped)),
            Ok(ControlFlow::Break(error)) => Err(error),
            // Nothing after it can be told apart.
            Err(bad) => Err(position.error(framing.place(), Bad::Line(bad))),
        }
    }
}

/// Delivers the record of a frame, or refuses it.
#[inline]
fn deliver(
    delivery: &mut Delivery<'_>,
    reader: &mut Reader,
    position: &InputPosition,
    frame: &Frame<'_>,
) -> Result<()> {
    match delivery.append(reader, frame) {
        Ok(()) => Ok(()),
        Err(Bad::Fatal(error)) => Err(error),
        Err(bad @ Bad::Line(BadLine { ends_input: true, .. })) => Err(position.error(frame.place, bad)),
        Err(bad) => delivery.refuse(position.error(frame.place, bad), reader, frame),
    }
}
