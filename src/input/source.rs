//! Reads stdin or files in large chunks on a thread of its own, so that the command knows when the input is idle.

use super::unpack::unpacked;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Small enough for a core's cache, large enough that system calls do not count.
const CHUNK: usize = 256 << 10;
/// Chunks that wait to be worked on.
const AHEAD: usize = 4;
/// What a pipe on stdin is asked to hold.
const PIPE_SIZE: usize = 1 << 20;

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// How messages name it.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdin if crate::stdio::is_stdin_closed() => Err(io::Error::other("closed")),
            // A File of its own, because std's Stdin copies through a buffer.
            Self::Stdin => Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?)),
            Self::File(path) => File::open(path),
        }
    }
}

/// All bytes of `sources`, when all of them are files and none is called like a compressed one. Opens none: a named
/// pipe's writer would find its reader gone.
pub fn size(sources: &[Source]) -> Option<u64> {
    let sizes = sources.iter().map(|source| {
        let metadata = match source {
            Source::Stdin => source.open().ok()?.metadata().ok()?,
            Source::File(path) => std::fs::metadata(path).ok()?,
        };
        let is_compressed =
            |path: &PathBuf| path.extension().is_some_and(|end| end == "gz" || end == "zst" || end == "lz4");
        let is_plain = !matches!(source, Source::File(path) if is_compressed(path));
        (metadata.is_file() && is_plain).then_some(metadata.len())
    });
    sizes.sum()
}

/// Whether compressed sources are recognized and unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    Unpack,
    Keep,
}

/// What arrives for the command.
#[derive(Debug)]
pub enum Message {
    /// Bytes of the current source.
    Chunk(Vec<u8>),
    /// The current source has ended; the next one, if any, begins.
    EndOfSource,
    /// All sources have ended.
    End,
    /// The current source cannot be read.
    Failed(Error),
    /// Something else happened: a signal, or the producer has news.
    Woken,
}

/// The command's side of the reading thread.
#[derive(Debug)]
pub struct Inbox {
    messages: Receiver<Message>,
    sender: SyncSender<Message>,
    /// Chunks that may still be taken once the reading shall end.
    last: usize,
    /// What the reading thread will read, until it is started.
    sources: Vec<(String, File)>,
    packed: Packed,
    empty: Option<Receiver<Vec<u8>>>,
    spent: SyncSender<Vec<u8>>,
}

impl Inbox {
    /// Starts reading. Nothing is taken from the input before, so that nothing is lost when the work cannot begin.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(&mut self) -> Result<()> {
        let (sources, packed, out) = (std::mem::take(&mut self.sources), self.packed, self.sender.clone());
        let Some(empty) = self.empty.take() else { return Ok(()) };
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || read_all(sources, packed, &out, &empty))
            .map(drop)
            .map_err(|e| Error::io("cannot start the input thread", &e))
    }

    /// A message, if one waits.
    pub fn try_next(&self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// A message that came before the reading was to end: what the reading thread took from the input is not
    /// dropped, but what it goes on to read is.
    pub fn take_last(&mut self) -> Option<Message> {
        self.last = self.last.checked_sub(1)?;
        self.try_next()
    }

    /// The next message; `None` at `deadline`.
    pub fn next(&self, deadline: Option<std::time::Instant>) -> Option<Message> {
        match deadline {
            // Disconnected cannot be: the inbox holds a sender.
            None => self.messages.recv().ok(),
            Some(at) => self.messages.recv_timeout(at.saturating_duration_since(std::time::Instant::now())).ok(),
        }
    }

    /// Gives a chunk's memory back.
    pub fn recycle(&self, chunk: Vec<u8>) {
        // Err: the reader has enough, or has ended.
        let _ = self.spent.try_send(chunk);
    }

    /// Something that puts [`Message::Woken`] into the inbox, from any thread, without waiting.
    pub fn waker(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let sender = self.sender.clone();
        // Full: then the command is not waiting, and looks before it waits.
        move || match sender.try_send(Message::Woken) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Opens `sources`, to be read one after the other once [`Inbox::start`] says so.
///
/// # Errors
/// A source cannot be opened: a wrong name fails before, not amid the work.
pub fn open(sources: &[Source], packed: Packed) -> Result<Inbox> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let file = source.open().map_err(|e| Error::io(source.name(), &e))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::Io(format!("{}: is a directory", source.name())));
        }
        files.push((source.name(), file));
    }
    let (sender, messages) = sync_channel(AHEAD);
    let (spent, empty) = sync_channel(AHEAD + 2);
    Ok(Inbox { messages, sender, last: AHEAD + 1, sources: files, packed, empty: Some(empty), spent })
}

fn read_all(files: Vec<(String, File)>, packed: Packed, out: &SyncSender<Message>, empty: &Receiver<Vec<u8>>) {
    for (name, file) in files {
        // Err: it is no pipe, or the system allows no larger one.
        let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_SIZE);
        let read = match packed {
            Packed::Keep => read_source(file, out, empty),
            Packed::Unpack => unpacked(file).and_then(|source| read_source(source, out, empty)),
        };
        let message = match read {
            Ok(Sent::All) => Message::EndOfSource,
            Ok(Sent::NobodyListens) => return,
            Err(e) => Message::Failed(Error::io(name, &e)),
        };
        // After a failure nothing more is wanted. Err: the command has ended.
        let is_over = matches!(message, Message::Failed(_));
        if out.send(message).is_err() || is_over {
            return;
        }
    }
    let _ = out.send(Message::End); // as above
}

/// How the reading of one source ended.
enum Sent {
    All,
    /// The command has ended.
    NobodyListens,
}

fn read_source(mut source: impl Read, out: &SyncSender<Message>, empty: &Receiver<Vec<u8>>) -> io::Result<Sent> {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        match source.read(&mut chunk) {
            Ok(0) => return Ok(Sent::All),
            Ok(len) => chunk.truncate(len),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if out.send(Message::Chunk(chunk)).is_err() {
            return Ok(Sent::NobodyListens);
        }
    }
}
