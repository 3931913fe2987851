//! Stands between the `kafka` crate and its sockets, because the crate believes what a peer sends: it allocates what a
//! count announces, indexes by a partition's number and panics on a damaged snappy block. It connects to a port of
//! loopback for each broker instead; there, requests are passed on, and answers are read within bounds, checked, and
//! written again ([`answers`](super::answers)). What breaks the protocol ends the connection and is kept as the reason.

use super::answers::{self, Rewrite};
use crate::engine::Options;
use crate::error::{Disconnect, Error, Foreign, Result, describe_io};
use crate::record::Node;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The crate sends no longer request, and no longer answer is believed.
const LONGEST: usize = 256 << 20;
/// Memory is taken as bytes arrive, not as they are announced.
const FIRST_ALLOCATION: usize = 64 << 10;
/// What a broker may need for an answer beyond the time that it is given to wait for records or replicas.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// The listeners on loopback; clones share them. They live as long as the process.
#[derive(Debug, Clone)]
pub(super) struct Relay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connect_timeout: Duration,
    answer_timeout: Duration,
    /// The port that stands for a broker's `host:port`.
    ports: Mutex<HashMap<String, u16>>,
    /// Why the last connection ended that did not end well.
    refused: Mutex<Option<Error>>,
    /// What brokers said last about topics that they could not describe.
    topic_errors: Mutex<HashMap<String, ResponseError>>,
}

/// How a request that was passed on is answered.
enum Expected {
    /// Not at all: Produce with acks=0.
    Nothing,
    Answer(ApiKey),
}

impl Relay {
    pub(super) fn new(options: &Options) -> Self {
        Self(Arc::new(Shared {
            connect_timeout: options.connect_timeout,
            answer_timeout: options.request_timeout + ANSWER_SLACK,
            ports: Mutex::default(),
            refused: Mutex::default(),
            topic_errors: Mutex::default(),
        }))
    }

    /// The address on loopback that leads to `broker`.
    ///
    /// # Errors
    /// The system has no port or thread to give.
    pub(super) fn address(&self, broker: &str) -> Result<String> {
        let mut ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(broker) {
            return Ok(format!("127.0.0.1:{port}"));
        }
        let failed = |e: io::Error| Error::io("cannot listen on loopback for the kafka crate", &e);
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let (relay, node) = (self.clone(), Node::bootstrap(broker));
        let accept = move || {
            for client in listener.incoming().flatten() {
                let (relay, node) = (relay.clone(), node.clone());
                let serve = move || {
                    if let Err(error) = relay.serve(&client, &node) {
                        tracing::debug!(broker = %node, %error, "connection of the kafka crate closed");
                        *relay.0.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    let _ = client.shutdown(Shutdown::Both); // Err: it is closed already
                };
                // Err: no thread is free; the connection closes, and the crate is told so.
                let _ = std::thread::Builder::new().name("relay".to_owned()).spawn(serve);
            }
        };
        std::thread::Builder::new().name("relay".to_owned()).spawn(accept).map_err(failed)?;
        ports.insert(broker.to_owned(), port);
        Ok(format!("127.0.0.1:{port}"))
    }

    /// Why a connection ended since this was asked last.
    pub(super) fn take_refusal(&self) -> Option<Error> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Why brokers could not describe a topic when they were asked last.
    pub(super) fn topic_error(&self, topic: &str) -> Option<ResponseError> {
        self.0.topic_errors.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    fn note(&self, topic: &str, error: Option<ResponseError>) {
        let mut errors = self.0.topic_errors.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => drop(errors.insert(topic.to_owned(), error)),
            None => drop(errors.remove(topic)),
        }
    }

    /// Passes requests on and answers back until the crate closes its connection.
    fn serve(&self, mut client: &TcpStream, node: &Node) -> Result<()> {
        let disconnected = |why| Error::Disconnected { node: node.clone(), why };
        let mut broker: Option<TcpStream> = None;
        loop {
            let Some(request) = read_frame(client).ok().flatten() else { return Ok(()) };
            let expected = expected(&request).ok_or_else(|| disconnected(Disconnect::Local))?;
            let socket = match &mut broker {
                Some(socket) => socket,
                none => none.insert(self.connect(node)?),
            };
            let sending = |e: io::Error| disconnected(Disconnect::Sending(describe_io(&e)));
            write_frame(socket, &request).map_err(sending)?;
            let Expected::Answer(api) = expected else { continue };
            let answer = match read_frame(&*socket) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(disconnected(Disconnect::Closed)),
                Err(Broken::Length(len)) => {
                    return Err(Error::NotKafka { node: node.clone(), found: Foreign::Length(len) });
                }
                Err(Broken::Io(e)) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Error::TimedOut { node: node.clone(), limit: self.0.answer_timeout });
                }
                Err(Broken::Io(e)) => return Err(disconnected(Disconnect::Receiving(describe_io(&e)))),
            };
            if answer.get(..4) != request.get(4..8) {
                return Err(disconnected(Disconnect::Unasked));
            }
            let on_topic = &|topic: &str, error| self.note(topic, error);
            let rewrite = Rewrite { node, api, max_unpacked: LONGEST, longest: LONGEST, on_topic };
            let written = answers::rewrite(&answer, &rewrite, &|broker| self.address(broker))?;
            if write_frame(&mut client, &written).is_err() {
                return Ok(()); // the crate has closed the connection
            }
        }
    }

    fn connect(&self, node: &Node) -> Result<TcpStream> {
        let cannot = |e: &io::Error| Error::Unreachable { node: node.clone(), why: describe_io(e) };
        let found = node.address.to_socket_addrs();
        let found = found.map_err(|e| Error::Unresolved { node: node.clone(), why: describe_io(&e) })?;
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in found {
            match TcpStream::connect_timeout(&address, self.0.connect_timeout) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(|e| cannot(&e))?;
                    socket.set_read_timeout(Some(self.0.answer_timeout)).map_err(|e| cannot(&e))?;
                    socket.set_write_timeout(Some(self.0.answer_timeout)).map_err(|e| cannot(&e))?;
                    return Ok(socket);
                }
                Err(e) => failed = e,
            }
        }
        Err(cannot(&failed))
    }
}

/// What a request of the crate is answered with; `None` for one that it does not send.
fn expected(request: &[u8]) -> Option<Expected> {
    let i16_at = |at: usize| Some(i16::from_be_bytes(*request.get(at..)?.first_chunk()?));
    let api = ApiKey::try_from(i16_at(0)?).ok()?;
    if api == ApiKey::Produce {
        // Key, version, correlation id, client id; then the acknowledgments.
        let client_id = usize::try_from(i16_at(8)?).unwrap_or(0);
        if i16_at(10 + client_id)? == 0 {
            return Some(Expected::Nothing);
        }
    }
    Some(Expected::Answer(api))
}

/// Why no frame came.
enum Broken {
    /// The length is negative or too large.
    Length(u32),
    Io(io::Error),
}

/// Reads a frame without its length; `None` when the other side has closed the connection.
fn read_frame(mut socket: impl Read) -> std::result::Result<Option<Vec<u8>>, Broken> {
    let mut head = [0; 4];
    match socket.read_exact(&mut head) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(Broken::Io(e)),
    }
    let len = u32::from_be_bytes(head);
    let Some(size) = usize::try_from(len).ok().filter(|size| *size <= LONGEST) else { return Err(Broken::Length(len)) };
    let mut frame = Vec::with_capacity(size.min(FIRST_ALLOCATION));
    socket.take(u64::from(len)).read_to_end(&mut frame).map_err(Broken::Io)?;
    Ok((frame.len() == size).then_some(frame))
}

fn write_frame(socket: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    // Neither side reads or writes frames of more than `LONGEST`.
    socket.write_all(&(frame.len() as u32).to_be_bytes())?;
    socket.write_all(frame)
}
