//! One file for each record, named by its place. A file appears at once and whole, or not at all.

use super::Format;
use crate::codec::{Encoding, View};
use crate::error::{Error, Result};
use crate::record::{Batch, RecordRef};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Writes each value into a file of a directory, and the paths to stdout.
#[derive(Debug)]
pub struct FilesFormat {
    path: PathBuf,
    dir: OwnedFd,
    /// The name of a file that is not whole yet.
    temporary: String,
    value: Encoding,
    delimiter: Vec<u8>,
    /// `topic-partition-`, the same for a whole batch.
    head: String,
    name: String,
    text: Vec<u8>,
}

impl FilesFormat {
    /// Files in the directory at `path`, which is created if it does not exist. Each path is followed by `delimiter`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(path: &Path, value: Encoding, delimiter: &[u8]) -> Result<Self> {
        let failed = |e: &io::Error| Error::io(path.display(), e);
        std::fs::create_dir_all(path).map_err(|e| failed(&e))?;
        let dir = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let random = getrandom::u64().map_err(|e| failed(&io::Error::other(e.to_string())))?;
        Ok(Self {
            path: path.to_owned(),
            dir: dir.map_err(|e| failed(&e.into()))?,
            temporary: format!(".kpipe-{random:016x}"),
            value,
            delimiter: delimiter.to_vec(),
            head: String::new(),
            name: String::new(),
            text: Vec::new(),
        })
    }

    fn create(&self, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.dir, &self.temporary, flags, Mode::from_raw_mode(0o666))?);
        let written = file
            .write_all(bytes)
            .and_then(|()| Ok(rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, &self.name)?));
        if written.is_err() {
            // Err: there is nothing left to remove.
            let _ = rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty());
        }
        written
    }
}

impl Format for FilesFormat {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.head = format!("{}-{}-", file_name(&batch.topic), batch.partition);
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        self.name.clear();
        self.name.push_str(&self.head);
        self.name.push_str(itoa::Buffer::new().format(record.offset));
        if record.value.is_none() {
            // An empty file is an empty value.
            self.name.push_str(".null");
        }
        self.text.clear();
        if let Some(value) = record.value {
            view.value.write_text(&mut self.text, self.value, value);
        }
        self.create(&self.text).map_err(|e| Error::io(self.path.join(&self.name).display(), &e))?;
        out.extend_from_slice(self.path.as_os_str().as_encoded_bytes());
        out.push(b'/');
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.delimiter);
        Ok(())
    }
}

/// A topic's name as part of a file's: what Kafka does not allow in names, a hostile broker may send all the same.
fn file_name(topic: &str) -> String {
    let mut name = String::with_capacity(topic.len());
    for byte in topic.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    const RECORD: RecordRef<'static> =
        RecordRef { offset: 42, timestamp: None, key: None, value: Some(b"v\0"), headers: Headers::encoded(0, &[]) };

    #[test]
    fn a_record_is_a_whole_file_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let mut format = FilesFormat::new(&inner, Encoding::Text, b"\n").unwrap();
        format.head = format!("{}-0-", file_name("../a/b"));
        let mut out = Vec::new();
        // A link in its way is replaced, not followed.
        std::os::unix::fs::symlink("../victim", inner.join("..%2Fa%2Fb-0-42")).unwrap();
        format.write(&mut out, &RECORD, &View::PLAIN).unwrap();
        format.write(&mut out, &RecordRef { offset: 43, value: None, ..RECORD }, &View::PLAIN).unwrap();
        let names = ["..%2Fa%2Fb-0-42", "..%2Fa%2Fb-0-43.null"];
        assert_eq!(std::fs::read(inner.join(names[0])).unwrap(), b"v\0");
        assert_eq!(std::fs::read(inner.join(names[1])).unwrap(), b"");
        let lines: Vec<String> = names.iter().map(|name| format!("{}/{name}\n", inner.display())).collect();
        assert_eq!(String::from_utf8(out).unwrap(), lines.concat());
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 2, "no temporary file is left");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is written outside");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut format = FilesFormat::new(dir.path(), Encoding::Text, b"\n").unwrap();
        format.head = "t-0-".to_owned();
        std::fs::create_dir_all(dir.path().join("t-0-42/x")).unwrap();
        let error = format.write(&mut Vec::new(), &RECORD, &View::PLAIN).unwrap_err().to_string();
        assert!(error.contains("t-0-42: "), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
