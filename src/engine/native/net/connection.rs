//! One connection to one broker: requests go out as they come, answers are matched in order.

use super::super::wire::message;
use super::frame::{Broken, read_frame};
use super::versions::Versions;
use super::{Secured, sasl, tls};
use crate::engine::{Observer, Options};
use crate::error::{Action, Disconnect, Error, Foreign, Result, Subject, describe_io};
use crate::record::Node;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// A longer answer is not believed: no fetch asks for as much.
const MAX_ANSWER: usize = 256 << 20;
/// Shorter parts of a frame are put together before they are written.
const SMALL_PART: usize = 16 << 10;
/// How much of an authenticated session is used before another connection takes its place.
const SESSION_USED: f32 = 0.8;

/// A request's parts, in order, after its header: big ones are written from where they are.
pub type Frame = Vec<Bytes>;

type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;
type Reply = oneshot::Sender<Result<Bytes>>;
type Pending = Arc<Mutex<VecDeque<(i32, Reply)>>>;

struct Outgoing {
    parts: Frame,
    correlation: i32,
    reply: Reply,
    /// Whether the broker will answer; if not (acks=0), the reply is sent once the socket took the request.
    answered: bool,
}

/// A connection; cheap to share, closes when the last share is dropped.
#[derive(Debug)]
pub struct Connection {
    node: Node,
    observer: Arc<dyn Observer>,
    requests: mpsc::UnboundedSender<Outgoing>,
    versions: OnceLock<Versions>,
    /// When to use another one, for the broker ends this one's session soon after (KIP-368).
    retires_at: OnceLock<Instant>,
    next_correlation: AtomicI32,
    client_id: StrBytes,
    timeout: Duration,
    /// Why it is closed, once it is.
    closed: Arc<OnceLock<Error>>,
    tasks: [AbortHandle; 2],
}

/// A request that was sent, its answer to come.
#[derive(Debug)]
pub struct Sent {
    correlation: i32,
    answer: oneshot::Receiver<Result<Bytes>>,
    api: ApiKey,
    since: Instant,
}

/// What answered at an address.
#[derive(Debug)]
pub enum Opened {
    /// A broker that takes record batches v2.
    Modern(Arc<Connection>),
    /// A broker, perhaps, but an older one.
    Old(OldBroker),
}

/// A broker that seems to be older than Kafka 0.11.
#[derive(Debug, Clone)]
pub struct OldBroker {
    node: Node,
    found: Age,
}

#[derive(Debug, Clone, Copy)]
enum Age {
    /// Before Kafka 0.10.
    ClosesOnApiVersions,
    /// Kafka 0.10.
    OldVersions,
}

impl From<OldBroker> for Error {
    fn from(old: OldBroker) -> Self {
        Self::OldBroker(old.to_string())
    }
}

impl std::fmt::Display for OldBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.found {
            Age::ClosesOnApiVersions => write!(f, "{} closed the connection on ApiVersions", self.node),
            Age::OldVersions => write!(f, "{} does not offer Produce v3 and Fetch v4 (before Kafka 0.11)", self.node),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Connection {
    /// Connects to `node`, secured as `config` has it, and asks what the broker offers. `secured` was prepared from
    /// `config`.
    ///
    /// # Errors
    /// Nobody is there, or what is there is no broker.
    pub async fn open(node: &Node, options: &Options, secured: &Secured) -> Result<Opened> {
        let opened = Self::open_unobserved(node, options, secured).await;
        options.observer.connected(node.id, opened.is_ok());
        opened
    }

    async fn open_unobserved(node: &Node, options: &Options, secured: &Secured) -> Result<Opened> {
        let address = &*node.address;
        let cannot = |why: String| Error::Unreachable { node: node.clone(), why };
        let limit = options.connect_timeout;
        let stream = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Err(_) => return Err(cannot(format!("no connection within {limit:?}"))),
            Ok(Err(e)) => return Err(cannot(describe_io(&e))),
            Ok(Ok(stream)) => stream,
        };
        stream.set_nodelay(true).map_err(|e| cannot(describe_io(&e)))?;
        let connection = match &secured.tls {
            None => {
                let (read, write) = stream.into_split();
                Self::over(Box::new(read), Box::new(write), node.clone(), options)
            }
            Some(tls) => {
                let shaken = tls::connect(tls.clone(), stream, node);
                let stream = tokio::time::timeout(limit, shaken).await;
                let stream = stream.map_err(|_| cannot(format!("no TLS handshake within {limit:?}")))??;
                let (read, write) = tokio::io::split(stream);
                Self::over(Box::new(read), Box::new(write), node.clone(), options)
            }
        };
        tracing::debug!(broker = %node, "connected");

        // A broker older than the version asked for answers in version 0 that it is.
        let mut version = 3;
        loop {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("kpipe"))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
            let answer = match connection.exchange(&request, version, options.request_timeout).await {
                Ok(answer) => answer,
                Err(Error::Disconnected { why: Disconnect::BeforeFirstAnswer, .. }) => {
                    return Ok(Opened::Old(OldBroker { node: node.clone(), found: Age::ClosesOnApiVersions }));
                }
                Err(e) => return Err(e),
            };
            match Versions::parse(answer, version) {
                Err(Some(ResponseError::UnsupportedVersion)) if version > 0 => version = 0,
                // Not even an error code of Kafka's.
                Err(None | Some(ResponseError::Unknown(_))) => {
                    return Err(Error::NotKafka { node: node.clone(), found: Foreign::FirstAnswer });
                }
                Err(Some(code)) => return Err(Error::kafka(Action::ApiVersions, Subject::Broker(node.clone()), code)),
                Ok(versions) if versions.is_modern() => {
                    // Set once, here.
                    let _ = connection.versions.set(versions);
                    if let Some(sasl) = &options.security.sasl
                        && let Some(lifetime) = sasl::authenticate(&connection, sasl, secured.tokens.as_ref()).await?
                    {
                        let _ = connection.retires_at.set(Instant::now() + lifetime.mul_f32(SESSION_USED)); // as above
                    }
                    return Ok(Opened::Modern(Arc::new(connection)));
                }
                Ok(_) => return Ok(Opened::Old(OldBroker { node: node.clone(), found: Age::OldVersions })),
            }
        }
    }

    fn over(read: Reading, write: Writing, node: Node, options: &Options) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let pending = Pending::default();
        let closed = Arc::new(OnceLock::new());
        let close = {
            let (pending, closed, node) = (pending.clone(), closed.clone(), node.clone());
            move |error: Error| {
                tracing::debug!(broker = %node, %error, "connection closed");
                let error = closed.get_or_init(|| error).clone();
                for (_, reply) in drain(&pending) {
                    // Err: nobody waits for it any more.
                    let _ = reply.send(Err(error.clone()));
                }
            }
        };
        let writer = tokio::spawn({
            let (pending, node, close) = (pending.clone(), node.clone(), close.clone());
            async move {
                if let Err(e) = write_requests(write, outgoing, pending).await {
                    close(Error::Disconnected { node, why: Disconnect::Sending(describe_io(&e)) });
                }
            }
        });
        let reader = tokio::spawn({
            let node = node.clone();
            async move { close(read_answers(read, pending, &node).await) }
        });
        Self {
            observer: options.observer.clone(),
            node,
            requests,
            versions: OnceLock::new(),
            retires_at: OnceLock::new(),
            next_correlation: AtomicI32::new(1),
            client_id: StrBytes::from_string(options.client_id.clone()),
            timeout: options.request_timeout,
            closed,
            tasks: [writer.abort_handle(), reader.abort_handle()],
        }
    }

    /// Whether the broker still takes the requests of the `kafka` crate.
    pub fn is_legacy(&self) -> bool {
        self.versions.get().is_some_and(Versions::is_legacy)
    }

    /// Whether requests can still be sent, and will be answered.
    pub fn is_open(&self) -> bool {
        self.closed.get().is_none() && self.retires_at.get().is_none_or(|at| Instant::now() < *at)
    }

    /// The broker.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The newest version of `R` that the broker and kpipe know, no newer than `cap`.
    ///
    /// # Errors
    /// There is none.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16> {
        self.versions
            .get()
            .and_then(|versions| versions.pick::<R>(cap))
            .ok_or_else(|| Error::Unsupported { node: self.node.clone(), api: api::<R>() })
    }

    /// Sends `request` in the newest common version and waits for the answer.
    ///
    /// # Errors
    /// The connection broke, the broker did not answer in time, or not in the protocol.
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Response> {
        self.request_capped(request, i16::MAX).await
    }

    /// [`Connection::request`] in no newer version than `cap`.
    ///
    /// # Errors
    /// As there.
    pub async fn request_capped<R: Request>(&self, request: &R, cap: i16) -> Result<R::Response> {
        self.request_within(request, cap, self.timeout).await
    }

    /// [`Connection::request_capped`] whose answer may take up to `limit`.
    ///
    /// # Errors
    /// As there.
    pub async fn request_within<R: Request>(&self, request: &R, cap: i16, limit: Duration) -> Result<R::Response> {
        let version = self.version::<R>(cap)?;
        let answer = self.exchange(request, version, limit).await?;
        self.decode::<R>(answer, version)
    }

    /// Decodes an answer to `R`.
    ///
    /// # Errors
    /// It is malformed.
    pub fn decode<R: Request>(&self, mut answer: Bytes, version: i16) -> Result<R::Response> {
        let flexible = R::Response::header_version(version) > 0;
        message::decode(&mut answer, version, flexible).map_err(|e| self.malformed::<R>(&e))
    }

    fn malformed<R: Request>(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Malformed { node: self.node.clone(), api: api::<R>(), why: why.to_string() }
    }

    async fn exchange<R: Request>(&self, request: &R, version: i16, limit: Duration) -> Result<Bytes> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|e| unencodable::<R>(&e))?;
        let sent = self.begin::<R>(vec![body.freeze()], version)?;
        self.answer::<R>(sent, version, limit).await
    }

    /// Queues a request whose body is already in bytes, behind those queued before; [`Connection::answer`] waits for what it brings.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn begin<R: Request>(&self, body: Frame, version: i16) -> Result<Sent> {
        let (reply, answer) = oneshot::channel();
        let correlation = self.post::<R>(body, version, reply, true)?;
        Ok(Sent { correlation, answer, api: api::<R>(), since: Instant::now() })
    }

    /// Waits for the body of the answer to `sent`.
    ///
    /// # Errors
    /// The connection broke, or the broker did not answer within `limit`.
    pub async fn answer<R: Request>(&self, sent: Sent, version: i16, limit: Duration) -> Result<Bytes> {
        let mut answer = self.wait(sent, limit).await?;
        let header = R::Response::header_version(version);
        ResponseHeader::decode(&mut answer, header).map_err(|e| self.malformed::<R>(&e))?;
        Ok(answer)
    }

    async fn wait(&self, sent: Sent, limit: Duration) -> Result<Bytes> {
        let Sent { correlation, answer, api, since } = sent;
        let answer = tokio::time::timeout(limit, answer).await;
        let broker = &self.node;
        match &answer {
            Ok(Ok(Ok(answer))) => tracing::trace!(%broker, correlation, bytes = answer.len(), "answer"),
            Ok(Ok(Err(error))) => tracing::debug!(%broker, correlation, error_name = error.name(), %error, "no answer"),
            _ => tracing::debug!(%broker, correlation, "no answer"),
        }
        match answer {
            Ok(Ok(answer)) => {
                self.observer.answered(self.node.id, api, since.elapsed());
                answer
            }
            Ok(Err(_)) => Err(self.why_closed()),
            Err(_) => {
                // An answer may still come; nobody could tell it from the next one's delay. Start anew.
                let error = Error::TimedOut { node: self.node.clone(), limit };
                let error = self.closed.get_or_init(|| error).clone();
                self.tasks.iter().for_each(AbortHandle::abort);
                Err(error)
            }
        }
    }

    /// Queues a request that the broker does not answer (Produce with acks=0); [`Connection::written`] waits until
    /// the socket has taken it.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn begin_unanswered<R: Request>(&self, body: Frame, version: i16) -> Result<Sent> {
        let (reply, written) = oneshot::channel();
        let correlation = self.post::<R>(body, version, reply, false)?;
        Ok(Sent { correlation, answer: written, api: api::<R>(), since: Instant::now() })
    }

    /// Waits until the socket has taken `sent`.
    ///
    /// # Errors
    /// The connection broke, or the broker took nothing within `limit`.
    pub async fn written(&self, sent: Sent, limit: Duration) -> Result<()> {
        self.wait(sent, limit).await.map(drop)
    }

    fn post<R: Request>(&self, body: Frame, version: i16, reply: Reply, answered: bool) -> Result<i32> {
        if let Some(error) = self.closed.get() {
            return Err(error.clone());
        }
        let correlation = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.client_id.clone()));
        let mut head = BytesMut::with_capacity(64);
        head.put_i32(0);
        header.encode(&mut head, R::header_version(version)).map_err(|e| unencodable::<R>(&e))?;
        let len = head.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
        let len = i32::try_from(len).map_err(|_| Error::Usage("a request of 2 GiB: use smaller batches".to_owned()))?;
        head[..4].copy_from_slice(&len.to_be_bytes());
        let mut parts = body;
        parts.insert(0, head.freeze());
        tracing::trace!(broker = %self.node, key = R::KEY, version, correlation, bytes = len, "request");
        self.requests.send(Outgoing { parts, correlation, reply, answered }).map_err(|_| self.why_closed())?;
        Ok(correlation)
    }

    fn why_closed(&self) -> Error {
        let local = || Error::Disconnected { node: self.node.clone(), why: Disconnect::Local };
        self.closed.get().cloned().unwrap_or_else(local)
    }
}

fn api<R: Request>() -> ApiKey {
    // The schemas implement `Request` for keys of their own enum only.
    ApiKey::try_from(R::KEY).unwrap_or(ApiKey::ApiVersions)
}

fn unencodable<R: Request>(why: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!("a request of {:?} cannot be encoded: {why}", api::<R>()))
}

fn drain(pending: &Pending) -> VecDeque<(i32, Reply)> {
    std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn write_requests(
    mut socket: Writing,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    pending: Pending,
) -> std::io::Result<()> {
    let mut small = BytesMut::new();
    while let Some(request) = outgoing.recv().await {
        let mut written = None;
        if request.answered {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.push_back((request.correlation, request.reply));
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
            let _ = written.send(Ok(Bytes::new())); // Err: nobody waits for it any more
        }
    }
    Ok(())
}

/// Hands each answer to who waits for it; returns why that ended.
async fn read_answers(socket: Reading, pending: Pending, node: &Node) -> Error {
    let disconnected = |why| Error::Disconnected { node: node.clone(), why };
    let mut socket = BufReader::with_capacity(16 << 10, socket);
    let mut answers = 0;
    loop {
        let answer = match read_frame(&mut socket, MAX_ANSWER).await {
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
        let Some((correlation, reply)) = next else {
            return disconnected(Disconnect::Unasked);
        };
        let got = answer.first_chunk().map(|id| i32::from_be_bytes(*id));
        if got != Some(correlation) {
            // Who waits for it shall hear why, like all others.
            pending.lock().unwrap_or_else(PoisonError::into_inner).push_front((correlation, reply));
            return disconnected(Disconnect::Unasked);
        }
        // Err: nobody waits for it any more.
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
        Broken::Io(e) => match tls::explain(e) {
            // With TLS 1.3 a broker refuses a client's certificate only now.
            Some(why) => return Error::Security(format!("TLS with {node}: {why}")),
            None => Disconnect::Receiving(describe_io(e)),
        },
    };
    Error::Disconnected { node: node.clone(), why }
}
