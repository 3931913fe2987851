//! Records that could not be delivered, appended to a file in the JSON that `produce --input json` reads back.

use super::json::JsonWriter;
use crate::codec::{Encoding, View};
use crate::error::{Error, Result};
use crate::record::{HeaderBuf, Headers, PartitionId, RecordRef, TimestampType};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The header with the error.
const ERROR_HEADER: &[u8] = b"kpipe-error";

/// The file of records that could not be delivered.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    file: File,
    json: JsonWriter,
    headers: HeaderBuf,
    line: Vec<u8>,
}

impl DeadLetters {
    /// Opens `path` for appending. A new file is readable by its owner only: dead letters are records.
    ///
    /// # Errors
    /// The system's, or `path` is a symbolic link.
    pub fn open(path: &Path) -> Result<Self> {
        let file = crate::files::append_private(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(|e| Error::io(path.display(), &e))?,
            json: JsonWriter::new(Encoding::Text, Encoding::Text),
            headers: HeaderBuf::default(),
            line: Vec::new(),
        })
    }

    /// Appends a record, shown as `view` says, with `why` in a header.
    ///
    /// # Errors
    /// The system's: then the record is nowhere.
    pub fn record(
        &mut self,
        topic: &str,
        partition: Option<PartitionId>,
        record: &RecordRef<'_>,
        view: &View<'_>,
        why: &dyn std::fmt::Display,
    ) -> Result<()> {
        self.headers.clear();
        self.headers.extend(record.headers);
        self.headers.push(ERROR_HEADER, Some(why.to_string().as_bytes()));
        self.json.begin(topic, partition, TimestampType::Create, true);
        self.line.clear();
        // It has no offset.
        let record = RecordRef { offset: -1, headers: self.headers.as_headers(), ..*record };
        self.json.write(&mut self.line, &record, view)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line).map_err(|e| Error::io(self.path.display(), &e))
    }

    /// Appends a line of the input that is not a record, as a value.
    ///
    /// # Errors
    /// As [`DeadLetters::record`].
    pub fn line(&mut self, topic: &str, line: &[u8], why: &dyn std::fmt::Display) -> Result<()> {
        let record =
            RecordRef { offset: -1, timestamp: None, key: None, value: Some(line), headers: Headers::default() };
        self.record(topic, None, &record, &View::PLAIN, why)
    }

    /// Waits until the disk has it all.
    ///
    /// # Errors
    /// The system's.
    pub fn close(&mut self) -> Result<()> {
        match self.file.sync_all() {
            // A pipe or terminal has nothing to wait for.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(|e| Error::io(self.path.display(), &e)),
        }
    }
}
