//! When transactions are committed, and what becomes of the open one when the run ends otherwise.

use super::report::Report;
use crate::cli::report::tell;
use crate::engine::{Producer, TransactionEnd};
use crate::error::{Error, Result};
use std::time::{Duration, Instant};

/// When a transaction is committed before the input ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitEvery {
    pub(super) records: Option<u64>,
    pub(super) interval: Option<Duration>,
}

/// The open transaction.
pub(super) struct Transaction {
    id: String,
    commit_every: CommitEvery,
    records: u64,
    began: Instant,
    /// Nobody knows whether it was committed: it must not be aborted, and nothing more can be sent.
    is_in_doubt: bool,
}

impl Transaction {
    pub(super) fn new(id: String, commit_every: CommitEvery) -> Self {
        Self { id, commit_every, records: 0, began: Instant::now(), is_in_doubt: false }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Counts a record; true when the transaction is to be committed after it.
    #[inline]
    pub(super) fn appended(&mut self) -> bool {
        self.records += 1;
        self.commit_every.records.is_some_and(|limit| self.records >= limit)
    }

    /// When it is to be committed although the input has nothing more.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.commit_every.interval.filter(|_| self.records > 0).map(|interval| self.began + interval)
    }

    pub(super) fn is_due(&self) -> bool {
        self.due_at().is_some_and(|at| at <= Instant::now())
    }

    /// Delivers and commits what was read, and begins the next transaction. Does nothing after a record failed: then
    /// the run ends, and aborts.
    ///
    /// # Errors
    /// The coordinator refused, or did not answer.
    pub(super) fn commit(&mut self, producer: &mut dyn Producer, report: &mut Report) -> Result<()> {
        producer.finish()?;
        report.take(producer)?;
        if report.failed() > 0 {
            return Ok(());
        }
        if let Err(error) = producer.end_transaction(TransactionEnd::Commit) {
            if matches!(error, Error::CommitUnknown { .. }) {
                self.is_in_doubt = true;
                tell(format_args!(
                    "the transaction may have been committed (see `kpipe cluster transactions describe {}`)",
                    self.id
                ));
                report.in_doubt(&error)?;
            }
            return Err(error);
        }
        report.committed(self.records);
        (self.records, self.began) = (0, Instant::now());
        report.settle()
    }

    /// Ends the run: commits when the whole input was read and delivered, and aborts otherwise.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub(super) fn finish(&mut self, producer: &mut dyn Producer, report: &mut Report, is_whole: bool) -> Result<()> {
        if self.is_in_doubt {
            return Ok(()); // the run ends with the error of the commit
        }
        if is_whole && report.failed() == 0 {
            match self.commit(producer, report) {
                Ok(()) if report.failed() == 0 => return Ok(()),
                Err(error) if self.is_in_doubt => return Err(error),
                Ok(()) | Err(Error::Stopped) => {}
                Err(error) => {
                    self.abort(producer, report, &error)?;
                    return Err(error);
                }
            }
        }
        self.abort(producer, report, &Error::NotSent)
    }

    fn abort(&mut self, producer: &mut dyn Producer, report: &mut Report, why: &Error) -> Result<()> {
        producer.abandon()?;
        producer.finish()?;
        report.take(producer)?;
        let aborted = producer.end_transaction(TransactionEnd::Abort);
        match &aborted {
            Ok(()) => tell("the transaction is aborted: read_committed consumers see none of it"),
            // The brokers abort it when its producer is fenced, or after --transaction-timeout.
            Err(_) => tell("the transaction is not committed: read_committed consumers see none of it"),
        }
        report.aborted(&Error::Aborted(Box::new(why.clone())))?;
        aborted
    }
}
