//! The flags of `consume` about where it begins and ends.

use super::order::Order;
use crate::config::{Range, parse_duration, parse_end, parse_range, parse_size};
use crate::engine::{End, Start};
use crate::error::{Error, Result};
use crate::timespec::format_time;
use clap::{ArgAction, Args, ValueEnum};
use std::time::Duration;

/// The default of `--sort-buffer`.
const SORT_BUFFER: usize = 64 << 20;
/// How long a record of a tail waits for earlier ones of other partitions.
const MOST_WAIT: Duration = Duration::from_secs(1);

/// The range itself.
#[derive(Debug, Args)]
pub(in crate::cli) struct Span {
    /// Start offset: beginning, end, stored, N, -N (last N of each partition) or @TIME; or a range START..END; with -g,
    /// only for partitions without a valid committed offset [default: end; beginning with -g, --until or ..END, and in
    /// topics count]
    ///
    /// TIME is RFC 3339 (2026-01-31T12:00:00Z), seconds or milliseconds since 1970, relative to now (-15m), or local
    /// time: 2026-01-31, 2026-01-31T12:00, 09:00, today, yesterday. A partition begins at its first record with that
    /// timestamp or a later one. kcat's s@MILLISECONDS and e@MILLISECONDS work too.
    #[arg(short, long, value_name = "OFFSET", allow_hyphen_values = true, action = ArgAction::Append, value_parser = parse_range)]
    offset: Vec<Range>,
    /// End offset, exclusive: N, -N (before the last N of each partition), @TIME or end; without -o, starts at the
    /// beginning, or with -g at the committed offsets
    ///
    /// A partition ends before the record with this offset, or before its first record with this timestamp or a later
    /// one, and in any case at the end offset seen at startup.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = parse_end)]
    until: Option<End>,
}

#[derive(Debug, Args)]
pub(super) struct RangeArgs {
    #[command(flatten)]
    span: Span,
    /// Consume the last COUNT records of all partitions together, in the order of their timestamps, and exit
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["offset", "until", "group", "sort"])]
    last: Option<usize>,
    /// Merge partitions: write the buffered record with the earliest timestamp next
    ///
    /// Each partition keeps its order. Records wait up to 1 s for earlier ones of other partitions while tailing, and
    /// otherwise until --sort-buffer is full or all ends are reached.
    #[arg(long, value_enum, value_name = "ORDER")]
    sort: Option<SortBy>,
    /// Memory for records that wait to be merged [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "sort")]
    sort_buffer: Option<usize>,
    /// Exit after reaching the end offsets seen at startup
    ///
    /// With -g, these are the end offsets that each partition had when it was assigned.
    #[arg(short, long)]
    exit_at_end: bool,
    /// Exit when no record has arrived for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    idle_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortBy {
    /// By timestamp
    Time,
}

/// Where reading begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Bounds {
    pub(in crate::cli) start: Option<Start>,
    pub(in crate::cli) end: Option<End>,
    pub(in crate::cli) stop_at_end: bool,
}

impl Span {
    /// What the flags say together.
    ///
    /// # Errors
    /// They contradict each other.
    pub(in crate::cli) fn bounds(&self) -> Result<Bounds> {
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
        let start = start.flatten();
        if let Some(Start::Time(time)) = start {
            tracing::info!("starting at {}", format_time(time));
        }
        if let Some(End::Time(time)) = end {
            tracing::info!("ending at {}", format_time(time));
        }
        Ok(Bounds { start, end, stop_at_end: end.is_some() })
    }
}

impl RangeArgs {
    /// Where reading begins and ends.
    ///
    /// # Errors
    /// As [`Span::bounds`].
    pub(super) fn bounds(&self) -> Result<Bounds> {
        if let Some(last) = self.last {
            return Ok(Bounds { start: Some(Start::Last(last as u64)), end: Some(End::AtStartup), stop_at_end: true });
        }
        let bounds = self.span.bounds()?;
        Ok(Bounds { stop_at_end: bounds.stop_at_end || self.exit_at_end, ..bounds })
    }

    /// The order in which records of different partitions are written, if not as they arrive.
    pub(super) fn order(&self, bounds: &Bounds) -> Option<Order> {
        if let Some(last) = self.last {
            return Some(Order::last(last));
        }
        self.sort.map(|SortBy::Time| {
            let most_wait = (!bounds.stop_at_end).then_some(MOST_WAIT);
            Order::merged(self.sort_buffer.unwrap_or(SORT_BUFFER), most_wait)
        })
    }

    pub(super) fn needs_timestamps(&self) -> bool {
        self.last.is_some() || self.sort.is_some()
    }

    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }
}
