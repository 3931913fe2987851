//! `--progress`: a bar or a line on a terminal.

use super::{Metrics, clock};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it is drawn, and how often a line is written where it cannot be.
const EVERY: Duration = Duration::from_millis(200);
const EVERY_LINE: Duration = Duration::from_secs(1);
/// The rate is that of so long.
const WINDOW: Duration = Duration::from_secs(2);

/// Whether a line stands on the terminal where the next message would be written.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// stderr for messages: what is drawn there gives way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Messages;

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if DRAWN.swap(false, Ordering::Relaxed) {
            stderr.write_all(b"\r\x1b[2K")?;
        }
        stderr.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line on stderr that tells how far the work is; gone when it is dropped.
pub(super) struct Line {
    bar: ProgressBar,
    metrics: Metrics,
    started: Instant,
    /// A line each time instead of one that changes: for what is no terminal.
    plain: bool,
    /// When so many records and bytes were counted.
    samples: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Line {
    pub(super) fn new(metrics: Metrics) -> Self {
        let plain = !io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, metrics, started: Instant::now(), plain, samples: std::collections::VecDeque::new() }
    }

    /// How often it is drawn.
    pub(super) fn every(&self) -> Duration {
        if self.plain { EVERY_LINE } else { EVERY }
    }

    pub(super) fn draw(&mut self) {
        let now = Instant::now();
        let inner = &*self.metrics.0;
        let consumes = inner.consumed.records.get() > 0;
        let records = inner.produced.records.get() + inner.consumed.records.get();
        let read = inner.produced.input_bytes.get();
        let bytes = read + inner.consumed.bytes.get();
        self.samples.push_back((now, records, bytes));
        while self.samples.front().is_some_and(|(at, ..)| now - *at > WINDOW) && self.samples.len() > 2 {
            self.samples.pop_front();
        }
        let (rate, bytes_rate) = match self.samples.front() {
            Some((at, then, bytes_then)) if now > *at => {
                let seconds = (now - *at).as_secs_f64();
                ((records - then) as f64 / seconds, (bytes - bytes_then) as f64 / seconds)
            }
            _ => (0.0, 0.0),
        };
        let mut text = format!(
            "{} records  {}/s  {}  {}/s",
            HumanCount(records),
            HumanCount(rate as u64),
            HumanBytes(bytes),
            HumanBytes(bytes_rate as u64)
        );
        let expected = inner.expected.load(Ordering::Relaxed);
        let lags = self.metrics.lags();
        if expected > 0 {
            let done = read.min(expected) as f64 / expected as f64;
            let filled = (done * 20.0) as usize;
            let left = (done > 0.0).then(|| self.started.elapsed().mul_f64((1.0 - done) / done));
            text = format!(
                "[{}{}] {:3.0}%  {} left  {text}",
                "=".repeat(filled),
                " ".repeat(20 - filled),
                done * 100.0,
                left.map_or("?".to_owned(), clock)
            );
        } else {
            text = format!("{}  {text}", clock(self.started.elapsed()));
        }
        if consumes || !lags.is_empty() {
            let lag: i64 = lags.iter().map(|(_, lag)| lag).sum();
            text.push_str(&format!("  lag {}  {} partitions", HumanCount(lag.max(0) as u64), lags.len()));
        }
        if self.plain {
            let _ = writeln!(io::stderr(), "{text}"); // an unwritable stderr changes nothing
            return;
        }
        self.bar.set_message(text);
        DRAWN.store(true, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if DRAWN.swap(false, Ordering::Relaxed) {
            self.bar.finish_and_clear();
        }
    }
}
