//! Stdout with one large buffer, which knows of each record whether its bytes were really taken.

use super::Format;
use crate::error::{Error, Result, describe_io};
use crate::record::{PartitionId, Position, TopicPartition};
use crate::text::escaped_lines;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

/// A `write` this large costs nothing against its copying.
const FLUSH_AT: usize = 256 << 10;
/// So many marks are settled by writing what there is, which may be nothing.
const MAX_MARKS: usize = 1 << 20;

/// An index into the writer's list of the partitions whose records it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionIndex(usize);

/// The end of a record in the stream of bytes.
#[derive(Debug)]
struct Mark {
    end: u64,
    partition: PartitionIndex,
    /// The position after the record.
    position: Position,
}

#[derive(Debug)]
struct Partition {
    of: TopicPartition,
    /// The position after the last record that was taken for sure.
    position: Option<Position>,
}

/// The writer of stdout.
#[derive(Debug)]
pub struct Writer {
    out: File,
    /// Bytes that a reader may leave in the pipe when it goes; 0 when stdout is no pipe.
    pipe: u64,
    /// Whether stdout is a terminal, on which control characters of records are shown as escapes.
    shows: bool,
    buffer: Vec<u8>,
    /// Whether nobody reads stdout any more.
    reader_gone: bool,
    /// Bytes that stdout took, in all.
    taken: u64,
    /// Records not written, or written and perhaps still in the pipe, in order.
    marks: VecDeque<Mark>,
    partitions: Vec<Partition>,
}

impl Writer {
    /// The writer of this process's stdout.
    ///
    /// # Errors
    /// Stdout is closed.
    pub fn stdout() -> Result<Self> {
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(|e| Error::io("stdout", &e))?;
        Ok(Self::new(File::from(out)))
    }

    /// The writer of this process's stdout, for what `format` renders.
    ///
    /// # Errors
    /// Stdout is closed.
    pub fn stdout_for(format: &impl Format) -> Result<Self> {
        let shows = io::stdout().is_terminal() && !format.is_visible();
        Ok(Self { shows, ..Self::stdout()? })
    }

    fn new(out: File) -> Self {
        let pipe = rustix::pipe::fcntl_getpipe_size(&out).unwrap_or(0) as u64;
        Self {
            out,
            pipe,
            shows: false,
            buffer: Vec::with_capacity(2 * FLUSH_AT),
            reader_gone: false,
            taken: 0,
            marks: VecDeque::new(),
            partitions: Vec::new(),
        }
    }

    /// The index of a partition, which is listed at its first use.
    pub fn index(&mut self, topic: &Arc<str>, partition: PartitionId) -> PartitionIndex {
        let known = self.partitions.iter().position(|p| p.of.partition == partition && p.of.topic == *topic);
        PartitionIndex(known.unwrap_or_else(|| {
            let of = TopicPartition::new(topic.clone(), partition);
            self.partitions.push(Partition { of, position: None });
            self.partitions.len() - 1
        }))
    }

    /// Counts all before `position` as written: this reader does not have to write it.
    pub fn begin_at(&mut self, of: &TopicPartition, position: Position) {
        let index = self.index(&of.topic, of.partition);
        self.partitions[index.0].position = Some(position);
    }

    /// Bytes that stdout took, in all.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Where the next record's bytes are to be appended.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether there is something that stdout has not taken.
    pub fn is_pending(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Notes that all of the partition before `position` is in the buffer. Writes when the buffer is large enough, and
    /// returns whether it did.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    #[inline]
    pub fn mark(&mut self, partition: PartitionIndex, position: Position) -> Result<bool> {
        let end = self.taken + self.buffer.len() as u64;
        // Nothing was written in between: a filter, or no output at all.
        let is_same = self.marks.back().is_some_and(|last| last.end == end);
        let same = match is_same {
            true => self.marks.iter_mut().rev().take_while(|mark| mark.end == end).find(|m| m.partition == partition),
            false => None,
        };
        match same {
            Some(mark) => mark.position = position,
            None => self.marks.push_back(Mark { end, partition, position }),
        }
        if self.marks.len() >= MAX_MARKS {
            self.flush()?;
            return Ok(true);
        }
        self.flush_if_large()
    }

    /// Writes when the buffer is large enough to be worth it; returns whether it did.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    #[inline]
    pub fn flush_if_large(&mut self) -> Result<bool> {
        let large = self.buffer.len() >= FLUSH_AT;
        if large {
            self.flush()?;
        }
        Ok(large)
    }

    /// Writes all of the buffer.
    ///
    /// # Errors
    /// [`Error::ReaderGone`] when nobody reads any more, or the system's error (a full disk); what was taken
    /// before it counts.
    pub fn flush(&mut self) -> Result<()> {
        if self.reader_gone {
            self.buffer.clear();
            return Err(Error::ReaderGone);
        }
        let shown = if self.shows { shown(&self.buffer) } else { Cow::Borrowed(&self.buffer[..]) };
        let mut written = 0;
        let result = loop {
            if written == shown.len() {
                // Who has nothing to write is not told by EPIPE.
                let idle = self.buffer.is_empty() && self.pipe > 0;
                break if idle && has_no_reader(&self.out) { Err(Error::ReaderGone) } else { Ok(()) };
            }
            match self.out.write(&shown[written..]) {
                Ok(0) => break Err(Error::Io("stdout accepts no more data".to_owned())),
                Ok(len) => written += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break Err(Error::ReaderGone),
                Err(e) => break Err(Error::Io(format!("writing to stdout: {}", describe_io(&e)))),
            }
        };
        if let Cow::Owned(shown) = shown {
            // Escapes have other lengths than what they stand for: all counts as written, or nothing.
            written = if written == shown.len() { self.buffer.len() } else { 0 };
        }
        self.buffer.drain(..written);
        self.taken += written as u64;
        let mut sure = self.taken.saturating_sub(self.pipe);
        if matches!(result, Err(Error::ReaderGone)) {
            self.reader_gone = true;
            // What the reader left in the pipe nobody will ever read.
            let left = rustix::io::ioctl_fionread(&self.out).unwrap_or(0);
            self.taken = self.taken.saturating_sub(left);
            sure = self.taken;
            self.buffer.clear();
        }
        let settled = self.marks.partition_point(|mark| mark.end <= sure);
        for mark in self.marks.drain(..settled) {
            self.partitions[mark.partition.0].position = Some(mark.position);
        }
        result
    }

    /// Forgets what was written of partitions that are not read any more, or from elsewhere.
    pub fn forget(&mut self, gone: &[TopicPartition]) {
        let is_gone = |p: &Partition| gone.contains(&p.of);
        let partitions = &mut self.partitions;
        self.marks.retain(|mark| !is_gone(&partitions[mark.partition.0]));
        partitions.iter_mut().filter(|p| is_gone(p)).for_each(|p| p.position = None);
    }

    /// Where to continue in each partition, as far as stdout took the bytes.
    pub fn written(&self) -> BTreeMap<TopicPartition, Position> {
        let mut positions: Vec<_> = self.partitions.iter().map(|p| p.position).collect();
        for mark in self.marks.iter().take_while(|mark| mark.end <= self.taken) {
            positions[mark.partition.0] = Some(mark.position);
        }
        let known = self.partitions.iter().zip(positions);
        known.filter_map(|(p, position)| Some((p.of.clone(), position?))).collect()
    }
}

/// Records as a terminal may show them.
fn shown(records: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(records) {
        Cow::Borrowed(text) => match escaped_lines(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        Cow::Owned(text) => Cow::Owned(escaped_lines(&text).into_owned().into_bytes()),
    }
}

/// Whether the other end of the pipe is closed.
fn has_no_reader(pipe: &File) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut asked = [PollFd::new(pipe, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_a_gone_reader_left_in_the_pipe_does_not_count_as_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut writer = Writer::new(File::from(std::os::fd::OwnedFd::from(writer)));
        let index = writer.index(&"t".into(), 0);
        for offset in 0..10 {
            writer.buffer().extend_from_slice(b"0123456789");
            writer.mark(index, Position { offset: offset + 1, leader_epoch: None }).unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(writer.written().into_values().next().unwrap().offset, 10, "the pipe took it");
        reader.read_exact(&mut [0; 35]).unwrap();
        drop(reader);
        writer.buffer().extend_from_slice(b"more");
        assert!(matches!(writer.flush(), Err(Error::ReaderGone)));
        assert_eq!(
            writer.written().into_values().next().unwrap().offset,
            3,
            "the reader took three records and a half"
        );
    }

    /// `--output none`, and a filter that nothing matches.
    #[test]
    fn positions_without_output_take_no_memory() {
        let mut writer = Writer::new(tempfile::tempfile().unwrap());
        let [zero, one] = [0, 1].map(|partition| writer.index(&"t".into(), partition));
        for offset in 0..1_000 {
            writer.mark(zero, Position { offset, leader_epoch: None }).unwrap();
        }
        assert_eq!(writer.marks.len(), 1);
        for offset in 0..MAX_MARKS as i64 {
            writer.mark(if offset % 2 == 0 { one } else { zero }, Position { offset, leader_epoch: None }).unwrap();
        }
        assert_eq!(writer.marks.len(), 2, "one a partition");
        assert_eq!(writer.written().into_values().map(|position| position.offset).max(), Some(MAX_MARKS as i64 - 1));
    }

    #[test]
    fn a_reader_that_went_without_a_word_is_noticed_when_there_is_nothing_to_write() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut writer = Writer::new(File::from(std::os::fd::OwnedFd::from(writer)));
        let index = writer.index(&"t".into(), 0);
        for offset in 0..3 {
            writer.buffer().extend_from_slice(b"0123456789");
            writer.mark(index, Position { offset: offset + 1, leader_epoch: None }).unwrap();
        }
        writer.flush().unwrap();
        writer.flush().unwrap();
        reader.read_exact(&mut [0; 20]).unwrap();
        drop(reader);
        for _ in 0..2 {
            assert!(matches!(writer.flush(), Err(Error::ReaderGone)));
            assert_eq!(writer.written().into_values().next().unwrap().offset, 2, "the third is still in the pipe");
        }
    }

    #[test]
    fn a_full_disk_says_so() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::new(full);
        writer.buffer().push(b'x');
        assert_eq!(writer.flush().unwrap_err().to_string(), "writing to stdout: No space left on device");
    }
}
