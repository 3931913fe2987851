//! The flags that show what a run counts, and the thread that does so.

use super::expose::{Server, write_file};
use super::stats::Before;
use super::{Messages, Metrics, progress};
use crate::error::Result;
use crate::signal::Stop;
use crate::timespec::parse_duration;
use clap::Args;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often `--metrics-file` is written.
const FILE_EVERY: Duration = Duration::from_secs(10);

/// How a run may be watched.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Monitoring")]
pub struct Observe {
    /// Print rates, totals, errors, latencies and lags to stderr as a JSON line every INTERVAL
    #[arg(long, value_name = "INTERVAL", value_parser = parse_duration)]
    pub stats: Option<Duration>,
    /// Serve /metrics for Prometheus, /healthz and /readyz; PORT alone listens on loopback only
    #[arg(long, value_name = "[HOST:]PORT")]
    pub metrics: Option<String>,
    /// Write the metrics to a file for node_exporter, every 10 s and at the end
    #[arg(long, value_name = "PATH")]
    pub metrics_file: Option<PathBuf>,
    /// Show progress even if stderr is not a terminal, one line per second; --progress=false never shows it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub progress: Option<bool>,
}

/// Shows what is counted until it is dropped; then for the last time.
#[derive(Debug)]
pub struct Reporter {
    _server: Option<Server>,
    thread: Option<(Stop, JoinHandle<()>)>,
}

impl Reporter {
    /// Starts what `observe` asks for; a progress line, too, where `draws` allows it and stderr is a terminal.
    ///
    /// # Errors
    /// The address cannot be listened at, or the file not be written.
    pub fn start(observe: &Observe, metrics: &Metrics, draws: bool) -> Result<Self> {
        let server = observe.metrics.as_ref().map(|at| Server::start(at, metrics.clone())).transpose()?;
        if let Some(path) = &observe.metrics_file {
            write_file(path, metrics)?; // so that a wrong path is known at once
        }
        let draws = observe.progress.unwrap_or(draws && std::io::stderr().is_terminal());
        let thread = if draws || observe.stats.is_some() || observe.metrics_file.is_some() {
            let end = Stop::default();
            let ended = end.clone();
            let (observe, metrics) = (observe.clone(), metrics.clone());
            let run = move || {
                let mut watch = Watch::new(observe, metrics, draws);
                while !ended.wait(watch.next().saturating_duration_since(Instant::now())) {
                    watch.show(Instant::now());
                }
                watch.end();
            };
            let thread = std::thread::Builder::new().name("reporter".to_owned()).spawn(run);
            Some((end, thread.map_err(|e| crate::error::Error::io("cannot start the reporter's thread", &e))?))
        } else {
            None
        };
        Ok(Self { _server: server, thread })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            end.raise();
            let _ = thread.join(); // Err: it panicked, which it does not
        }
    }
}

struct Watch {
    metrics: Metrics,
    observe: Observe,
    started: Instant,
    before: Before,
    stats_at: Instant,
    file_at: Instant,
    line: Option<progress::Line>,
    line_at: Instant,
}

impl Watch {
    fn new(observe: Observe, metrics: Metrics, draws: bool) -> Self {
        let now = Instant::now();
        let line = draws.then(|| progress::Line::new(metrics.clone()));
        let stats_at = now + observe.stats.unwrap_or_default();
        let line_at = now + line.as_ref().map_or(Duration::ZERO, progress::Line::every);
        let (before, file_at) = (Before::default(), now + FILE_EVERY);
        Self { metrics, observe, started: now, before, stats_at, file_at, line, line_at }
    }

    fn next(&self) -> Instant {
        let stats = self.observe.stats.map(|_| self.stats_at);
        let file = self.observe.metrics_file.as_ref().map(|_| self.file_at);
        let line = self.line.as_ref().map(|_| self.line_at);
        [stats, file, line].into_iter().flatten().min().unwrap_or(self.started + Duration::from_secs(3600))
    }

    fn show(&mut self, now: Instant) {
        if let Some(every) = self.observe.stats.filter(|_| self.stats_at <= now) {
            self.stats(every);
            self.stats_at = now + every;
        }
        if self.observe.metrics_file.is_some() && self.file_at <= now {
            self.file();
            self.file_at = now + FILE_EVERY;
        }
        if let Some(line) = self.line.as_mut().filter(|_| self.line_at <= now) {
            line.draw();
            self.line_at = now + line.every();
        }
    }

    fn stats(&mut self, elapsed: Duration) {
        let line = self.metrics.stats(&mut self.before, elapsed, self.started.elapsed());
        let _ = writeln!(Messages, "{line}"); // an unwritable stderr changes nothing
    }

    fn file(&self) {
        if let Some(path) = &self.observe.metrics_file
            && let Err(error) = write_file(path, &self.metrics)
        {
            tracing::warn!(%error, "trying again later");
        }
    }

    fn end(mut self) {
        self.line = None;
        if let Some(every) = self.observe.stats {
            let since = every.saturating_sub(self.stats_at.saturating_duration_since(Instant::now()));
            self.stats(since);
        }
        self.file();
    }
}
