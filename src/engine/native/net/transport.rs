//! The two halves of a socket: one task writes requests as they come, one reads answers in their order.

use super::clock;
use super::frame::{Broken, Spare, read_frame};
use super::tls;
use crate::error::{Disconnect, Error, Foreign, Result, describe_io};
use crate::record::Node;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// A longer answer to Fetch is not believed: no fetch asks for as much.
const LONGEST_FETCHED: usize = 256 << 20;
/// A longer answer that lists a cluster's topics, groups or ACLs is not believed: it would describe half a million
/// partitions. A message takes some ten times its bytes once it is decoded.
const LONGEST_LIST: usize = 32 << 20;
/// The same in the encoding before KIP-482 (Kafka 2.4).
const LONGEST_OLD_LIST: usize = 16 << 20;
/// A longer answer to what is asked one by one is not believed, and not one of so many bytes for each that was asked
/// with.
const LONGEST_ANSWER: usize = 1 << 20;
const ANSWERED_PER_BYTE: usize = 64;
/// Shorter parts of a frame are put together before they are written.
const SMALL_PART: usize = 16 << 10;

/// A request's parts, in order, after its header: big ones are written from where they are.
pub type Frame = Vec<Bytes>;

pub type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub type Writing = Box<dyn AsyncWrite + Send + Unpin>;
pub type Reply = oneshot::Sender<Result<Bytes>>;
pub type Pending = Arc<Mutex<VecDeque<Awaited>>>;

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Awaited {
    pub correlation: i32,
    pub reply: Reply,
    /// How many bytes of answer are believed.
    pub longest: usize,
}

/// How many bytes of an answer to a request of `api`, which takes `asked` bytes, are believed.
pub fn longest_answer(api: ApiKey, is_flexible: bool, asked: usize) -> usize {
    use ApiKey as A;
    match api {
        A::Fetch => LONGEST_FETCHED,
        // What they return depends on the cluster, not on how much was asked for.
        A::Metadata
        | A::JoinGroup
        | A::SyncGroup
        | A::ConsumerGroupHeartbeat
        | A::OffsetFetch
        | A::ListGroups
        | A::DescribeGroups
        | A::ConsumerGroupDescribe
        | A::DescribeAcls
        | A::DeleteAcls
        | A::DescribeConfigs
        | A::DescribeLogDirs
        | A::DescribeUserScramCredentials
        | A::DescribeCluster
        | A::DescribeQuorum
        | A::DescribeProducers
        | A::DescribeTransactions
        | A::ListTransactions
        | A::ListPartitionReassignments => {
            if is_flexible {
                LONGEST_LIST
            } else {
                LONGEST_OLD_LIST
            }
        }
        _ => LONGEST_ANSWER.saturating_add(asked.saturating_mul(ANSWERED_PER_BYTE)).min(LONGEST_LIST),
    }
}

pub struct Outgoing {
    pub parts: Frame,
    pub correlation: i32,
    pub reply: Reply,
    pub longest: usize,
    /// Whether the broker will answer; if not (acks=0), the reply is sent once the socket took the request.
    pub answered: bool,
}

/// When bytes last moved on a socket, either way.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// Milliseconds since `began`.
    last: AtomicU64,
}

impl Progress {
    /// Begins now.
    pub fn new() -> Self {
        Self { began: clock::now(), last: AtomicU64::new(0) }
    }

    fn moved(&self) {
        self.last.store(clock::since(self.began).as_millis() as u64, Ordering::Relaxed);
    }

    /// When bytes last moved.
    pub fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// A half of a socket that notes its progress.
pub struct Watched<S> {
    socket: S,
    progress: Arc<Progress>,
}

impl<S> Watched<S> {
    /// Notes the progress of `socket`.
    pub fn new(socket: S, progress: &Arc<Progress>) -> Self {
        Self { socket, progress: progress.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.progress.moved();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf));
        if written.as_ref().is_ok_and(|len| *len > 0) {
            self.progress.moved();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Takes all requests that wait for an answer.
pub fn drain(pending: &Pending) -> VecDeque<Awaited> {
    std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes requests as they come, until the connection is dropped.
pub async fn write_requests(
    mut socket: Writing,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    pending: Pending,
    closed: &OnceLock<Error>,
) -> io::Result<()> {
    let mut small = BytesMut::new();
    while let Some(request) = outgoing.recv().await {
        let mut written = None;
        if request.answered {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            let Outgoing { correlation, reply, longest, .. } = request;
            pending.push_back(Awaited { correlation, reply, longest });
            drop(pending);
            // The reader that closed the connection has failed all others, and does not look here again.
            if closed.get().is_some() {
                return Err(io::ErrorKind::NotConnected.into());
            }
        } else {
            written = Some(request.reply);
        }
        for part in request.parts {
            if part.len() < SMALL_PART {
                small.extend_from_slice(&part);
                continue;
            }
            socket.write_all(&small).await?;
            small.clear();
            socket.write_all(&part).await?;
        }
        if !small.is_empty() {
            socket.write_all(&small).await?;
            small.clear();
        }
        socket.flush().await?;
        if let Some(written) = written {
            let _ = written.send(Ok(Bytes::new())); // Err: the caller no longer waits for it
        }
    }
    Ok(())
}

/// Hands each answer to who waits for it; returns why that ended.
pub async fn read_answers(socket: Reading, pending: Pending, node: &Node) -> Error {
    let disconnected = |why| Error::Disconnected { node: node.clone(), why };
    let mut socket = BufReader::with_capacity(16 << 10, socket);
    let (mut answers, mut spare) = (0, Spare::default());
    let longest = || {
        let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.front().map_or(LONGEST_ANSWER, |next| next.longest)
    };
    loop {
        let answer = match read_frame(&mut socket, longest, &mut spare).await {
            Ok(answer) => answer,
            Err(Broken::HungUp)
                if answers == 1 && !pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty() =>
            {
                return disconnected(Disconnect::AfterApiVersions);
            }
            Err(Broken::HungUp) if answers == 0 => return disconnected(Disconnect::BeforeFirstAnswer),
            Err(broken) => return explain(&broken, node),
        };
        let next = pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(Awaited { correlation, reply, longest }) = next else {
            return disconnected(Disconnect::Unasked);
        };
        let got = answer.first_chunk().map(|id| i32::from_be_bytes(*id));
        if got != Some(correlation) {
            // Who waits for it shall hear why, like all others.
            pending.lock().unwrap_or_else(PoisonError::into_inner).push_front(Awaited { correlation, reply, longest });
            return disconnected(Disconnect::Unasked);
        }
        // Err: the caller no longer waits for it.
        let _ = reply.send(Ok(answer));
        answers += 1;
    }
}

/// Why a connection brought no answer.
fn explain(broken: &Broken, node: &Node) -> Error {
    let foreign = |found| Error::NotKafka { node: node.clone(), found };
    let why = match broken {
        Broken::HungUp => Disconnect::Closed,
        Broken::MidFrame => Disconnect::MidFrame,
        Broken::Length([b'H', b'T', b'T', b'P']) => return foreign(Foreign::Http),
        Broken::Length([0x15, 3, _, _]) => return foreign(Foreign::Tls),
        Broken::Length(len) => return foreign(Foreign::Length(u32::from_be_bytes(*len))),
        Broken::Io(e) => match tls::refusal(e, node, tls::Service::Broker) {
            Some(refusal) => return refusal,
            None => Disconnect::Receiving(describe_io(e)),
        },
    };
    Error::Disconnected { node: node.clone(), why }
}
