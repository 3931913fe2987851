//! The flags of `consume` about where it begins and ends.

use crate::config::{Range, parse_duration, parse_end, parse_range};
use crate::engine::{End, Start};
use crate::error::{Error, Result};
use crate::timespec::format_time;
use clap::{ArgAction, Args};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct RangeArgs {
    /// Start offset: beginning, end, stored, N, -N (last N of each partition) or @TIME; or a range START..END
    /// [default: end; with -g stored, else beginning]
    ///
    /// TIME is RFC 3339 (2026-01-31T12:00:00Z), seconds or milliseconds since 1970, relative to now (-15m), or local
    /// time: 2026-01-31, 2026-01-31T12:00, 09:00, today, yesterday. A partition begins at its first record with that
    /// timestamp or a later one. kcat's s@MILLISECONDS and e@MILLISECONDS work too.
    #[arg(short, long, value_name = "WHERE", allow_hyphen_values = true, action = ArgAction::Append, value_parser = parse_range)]
    offset: Vec<Range>,
    /// End offset, exclusive: N, -N (before the last N of each partition), @TIME or end; starts at the beginning
    /// without -o
    ///
    /// A partition ends before the record with this offset, or before its first record with this timestamp or a later
    /// one, and in any case at the end offset seen at startup.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = parse_end)]
    until: Option<End>,
    /// Exit after reaching the end offsets seen at startup
    #[arg(short, long)]
    exit_at_end: bool,
    /// Exit when no record has arrived for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    idle_timeout: Option<Duration>,
}

/// Where reading begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: Option<Start>,
    pub(super) end: Option<End>,
    pub(super) stop_at_end: bool,
    /// How long no record may arrive.
    pub(super) idle_timeout: Option<Duration>,
}

impl RangeArgs {
    /// What the flags say together.
    ///
    /// # Errors
    /// They contradict each other.
    pub(super) fn bounds(&self) -> Result<Bounds> {
        let twice = |what| Err(Error::Usage(format!("{what} of the range is given twice")));
        let (mut start, mut end) = (None, self.until);
        for range in &self.offset {
            if range.start.is_some() && start.replace(range.start).is_some() {
                return twice("the start");
            }
            if let Some(asked) = range.end
                && end.replace(asked).is_some()
            {
                return twice("the end");
            }
        }
        let bounds = Bounds {
            start: start.flatten(),
            end,
            stop_at_end: self.exit_at_end || end.is_some(),
            idle_timeout: self.idle_timeout,
        };
        if let Some(Start::Time(time)) = bounds.start {
            tracing::info!("starting at {}", format_time(time));
        }
        if let Some(End::Time(time)) = end {
            tracing::info!("ending at {}", format_time(time));
        }
        Ok(bounds)
    }
}
