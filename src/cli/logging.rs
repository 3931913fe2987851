//! Log lines on stderr: how detailed, in which format, and with what others wrote escaped.

use super::{Global, LogFormat};
use crate::error::{Error, Result};
use crate::metrics::Messages;
use crate::text::{escaped, escaped_json};
use std::io::{IsTerminal, Write};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

pub(super) fn start(global: &Global) -> Result<()> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "kpipe=error",
        (_, 0) => "kpipe=warn",
        (_, 1) => "kpipe=info",
        (_, 2) => "kpipe=debug",
        _ => "trace",
    };
    let asked = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_owned());
    let filter: Targets = asked.parse().map_err(|e| Error::Usage(format!("RUST_LOG={asked}: {e}")))?;
    let escape = Escape { format: global.log_format, colors: std::io::stderr().is_terminal() };
    let logs = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(escape);
    match global.log_format {
        LogFormat::Json => {
            tracing_subscriber::registry().with(logs.json().flatten_event(true).with_filter(filter)).init();
        }
        LogFormat::Text => {
            let logs = logs.with_target(false).without_time();
            tracing_subscriber::registry().with(logs.with_filter(filter)).init();
        }
    }
    Ok(())
}

/// Makes a writer for each line.
struct Escape {
    format: LogFormat,
    colors: bool,
}

impl<'a> MakeWriter<'a> for Escape {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { format: self.format, color: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let color = match *metadata.level() {
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            Level::DEBUG => "\x1b[34m",
            Level::TRACE => "\x1b[35m",
        };
        let colors = self.colors && matches!(self.format, LogFormat::Text);
        Line { format: self.format, color: colors.then_some(color) }
    }
}

/// Columns that the level takes at the begin of a line.
const LEVEL_WIDTH: usize = 5;

/// Writes one line, which comes in one piece, with its line feed.
struct Line {
    format: LogFormat,
    /// What begins the level's color.
    color: Option<&'static str>,
}

impl Line {
    fn rendered(&self, text: &str) -> String {
        let text = text.trim_end_matches('\n');
        let text = match self.format {
            LogFormat::Json => escaped_json(text),
            LogFormat::Text => escaped(text),
        };
        match (self.color, text.split_at_checked(LEVEL_WIDTH)) {
            (Some(color), Some((level, rest))) => format!("{color}{level}\x1b[0m{rest}\n"),
            _ => format!("{text}\n"),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = Messages.write_all(self.rendered(&String::from_utf8_lossy(bytes)).as_bytes()); // nobody reads it
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_whatever_others_wrote() {
        let line = |format, color| Line { format, color }.rendered(" WARN a\x1b[2J\nb\u{202e}\n");
        assert_eq!(line(LogFormat::Text, None), " WARN a\\x1b[2J\\nb\\u{202e}\n");
        assert_eq!(line(LogFormat::Text, Some("\x1b[33m")), "\x1b[33m WARN\x1b[0m a\\x1b[2J\\nb\\u{202e}\n");
        assert_eq!(line(LogFormat::Json, None), " WARN a\\u001b[2J\\u000ab\\u202e\n");
    }
}
