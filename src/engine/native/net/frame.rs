//! A frame: four bytes of length, then as many bytes.

use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Memory is taken as bytes arrive, not as they are announced.
const FIRST_ALLOCATION: usize = 8 << 20;

/// Shorter frames are not worth keeping the memory of.
const SHORTEST_SPARE: usize = 64 << 10;
/// How many buffers that are free are kept.
const MAX_SPARE: usize = 2;

/// The memory of earlier frames of a connection, used again once nothing refers to their bytes: new memory costs a page
/// fault for every 4 KB.
#[derive(Debug, Default)]
pub struct Spare {
    frames: Vec<Bytes>,
}

impl Spare {
    /// A buffer for a frame of `len` bytes.
    fn take(&mut self, len: usize) -> BytesMut {
        let wanted = len.min(FIRST_ALLOCATION);
        let free = self.frames.iter().position(|frame| frame.is_unique()).filter(|_| len >= SHORTEST_SPARE);
        let reused = free.and_then(|index| self.frames.swap_remove(index).try_into_mut().ok());
        match reused {
            Some(mut buffer) => {
                buffer.clear();
                buffer.reserve(wanted);
                buffer
            }
            None => BytesMut::with_capacity(wanted),
        }
    }

    /// Keeps the memory of `frame` for when its bytes are no longer needed.
    fn keep(&mut self, frame: &Bytes) {
        let mut free = 0;
        self.frames.retain(|frame| {
            let is_free = frame.is_unique();
            free += usize::from(is_free);
            !is_free || free <= MAX_SPARE
        });
        if (SHORTEST_SPARE..=FIRST_ALLOCATION).contains(&frame.len()) {
            self.frames.push(frame.clone());
        }
    }
}

/// Why no frame came.
#[derive(Debug)]
pub enum Broken {
    /// The other side closed the connection between two frames.
    HungUp,
    /// The other side closed it within a frame.
    MidFrame,
    /// The length is negative or too large: perhaps these four bytes are no length at all.
    Length([u8; 4]),
    /// The socket failed.
    Io(io::Error),
}

/// Reads a frame of up to as many bytes as `longest` returns once its length is there.
///
/// # Errors
/// See [`Broken`].
pub async fn read_frame(
    socket: &mut (impl AsyncRead + Unpin),
    longest: impl Fn() -> usize,
    spare: &mut Spare,
) -> Result<Bytes, Broken> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match socket.read(&mut head[have..]).await {
            Ok(0) if have == 0 => return Err(Broken::HungUp),
            Ok(0) => return Err(Broken::MidFrame),
            Ok(n) => have += n,
            // A broker before 0.10 may reset instead of closing.
            Err(e) if have == 0 && e.kind() == io::ErrorKind::ConnectionReset => return Err(Broken::HungUp),
            Err(e) => return Err(Broken::Io(e)),
        }
    }
    let Some(len) = usize::try_from(i32::from_be_bytes(head)).ok().filter(|len| *len <= longest()) else {
        return Err(Broken::Length(head));
    };
    let mut frame = spare.take(len);
    while frame.len() < len {
        let missing = len - frame.len();
        match socket.read_buf(&mut (&mut frame).limit(missing)).await {
            Ok(0) => return Err(Broken::MidFrame),
            Ok(_) => {}
            Err(e) => return Err(Broken::Io(e)),
        }
    }
    let frame = frame.freeze();
    spare.keep(&frame);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nothing_refers_to_it() {
        let mut spare = Spare::default();
        let frame = |spare: &mut Spare, byte: u8, len| {
            let mut buffer = spare.take(len);
            assert!(buffer.is_empty());
            buffer.put_bytes(byte, len);
            let frame = buffer.freeze();
            spare.keep(&frame);
            frame
        };
        let first = frame(&mut spare, 1, 100_000);
        let second = frame(&mut spare, 2, 100_000);
        assert_ne!(first.as_ptr(), second.as_ptr());
        let (at, part) = (first.as_ptr(), first.slice(5..10));
        drop(first);
        assert_ne!(frame(&mut spare, 3, 90_000).as_ptr(), at, "a part of it is still in use");
        assert_eq!(&part[..], [1; 5]);
        drop(part);
        assert_eq!(frame(&mut spare, 4, 90_000).as_ptr(), at);
        assert_eq!(&second[..3], [2; 3]);

        let many: Vec<_> = (0..20).map(|byte| frame(&mut spare, byte, 70_000)).collect();
        assert!(spare.frames.len() >= 20);
        drop(many);
        frame(&mut spare, 5, 10);
        assert!(spare.frames.len() <= MAX_SPARE + 1, "{}", spare.frames.len());
    }
}
