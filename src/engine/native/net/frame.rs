//! A frame: four bytes of length, then as many bytes.

use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Memory is taken as bytes arrive, not as they are announced.
const FIRST_ALLOCATION: usize = 8 << 20;

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
pub async fn read_frame(socket: &mut (impl AsyncRead + Unpin), longest: impl Fn() -> usize) -> Result<Bytes, Broken> {
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
    let mut frame = BytesMut::with_capacity(len.min(FIRST_ALLOCATION));
    while frame.len() < len {
        let missing = len - frame.len();
        match socket.read_buf(&mut (&mut frame).limit(missing)).await {
            Ok(0) => return Err(Broken::MidFrame),
            Ok(_) => {}
            Err(e) => return Err(Broken::Io(e)),
        }
    }
    Ok(frame.freeze())
}
