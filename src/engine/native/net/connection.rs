//! One connection to one broker: requests go out as they come, answers are matched in order.

use super::super::wire::message;
use super::clock;
use super::transport::{
    Frame, Outgoing, Pending, Progress, Reading, Reply, Writing, drain, longest_answer, read_answers, write_requests,
};
use super::versions::Versions;
use crate::engine::{Observer, Options};
use crate::error::{Disconnect, Error, Result, describe_io};
use crate::record::Node;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

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
    /// How long the broker may be silent before a request is given up, and before it is suspected.
    timeout: Duration,
    suspect_after: Duration,
    progress: Arc<Progress>,
    /// What the progress was when the broker became suspect.
    suspect_at: Mutex<Option<Instant>>,
    /// Told when the broker becomes suspect.
    suspected: Arc<Notify>,
    pending: Pending,
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

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Connection {
    /// Speaks over the halves of a socket, whose `progress` they note.
    pub fn over(
        read: Reading,
        write: Writing,
        progress: Arc<Progress>,
        node: Node,
        suspected: Arc<Notify>,
        options: &Options,
    ) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let pending = Pending::default();
        let closed = Arc::new(OnceLock::new());
        let close = {
            let (pending, closed, node) = (pending.clone(), closed.clone(), node.clone());
            move |error: Error| {
                tracing::debug!(broker = %node, %error, "connection closed");
                let error = closed.get_or_init(|| error).clone();
                for awaited in drain(&pending) {
                    // Err: the caller no longer waits for it.
                    let _ = awaited.reply.send(Err(error.clone()));
                }
            }
        };
        let writer = tokio::spawn({
            let (pending, closed, node, close) = (pending.clone(), closed.clone(), node.clone(), close.clone());
            async move {
                if let Err(e) = write_requests(write, outgoing, pending, &closed).await {
                    close(Error::Disconnected { node, why: Disconnect::Sending(describe_io(&e)) });
                }
            }
        });
        let reader = tokio::spawn({
            let (pending, node) = (pending.clone(), node.clone());
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
            suspect_after: options.suspect_after(),
            progress,
            suspect_at: Mutex::new(None),
            suspected,
            pending,
            closed,
            tasks: [writer.abort_handle(), reader.abort_handle()],
        }
    }

    /// Notes what the broker offers; once, before the first request but ApiVersions.
    pub fn offers(&self, versions: Versions) {
        let _ = self.versions.set(versions); // Err: it was noted before
    }

    /// Has another connection used from `at` on.
    pub fn retire_at(&self, at: Instant) {
        let _ = self.retires_at.set(at); // Err: it was noted before
    }

    /// Whether the broker still takes the requests of the `kafka` crate.
    pub fn is_legacy(&self) -> bool {
        self.versions.get().is_some_and(Versions::is_legacy)
    }

    /// Whether requests can still be sent, and will be answered.
    pub fn is_open(&self) -> bool {
        self.closed.get().is_none() && self.retires_at.get().is_none_or(|at| clock::now() < *at)
    }

    /// Whether a request has waited for so long, without a byte that moved, that the broker may be gone.
    pub fn is_suspect(&self) -> bool {
        let suspect_at = self.suspect_at.lock().unwrap_or_else(PoisonError::into_inner);
        suspect_at.is_some_and(|at| self.progress.last() == at)
    }

    /// When bytes last moved.
    pub fn last_progress(&self) -> Instant {
        self.progress.last()
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

    /// [`Connection::request_capped`] of what another broker can answer as well: waits only until this one is suspect.
    ///
    /// # Errors
    /// As there; the connection stays open after [`Error::TimedOut`].
    pub async fn request_or_ask_elsewhere<R: Request>(&self, request: &R, cap: i16) -> Result<R::Response> {
        let version = self.version::<R>(cap)?;
        let answer = tokio::select! {
            biased;
            answer = self.exchange(request, version, self.timeout + self.suspect_after) => answer?,
            () = self.silent_for(self.suspect_after) => {
                self.suspect();
                return Err(Error::TimedOut { node: self.node.clone(), limit: self.suspect_after });
            }
        };
        self.decode::<R>(answer, version)
    }

    /// Waits until no byte has moved for `limit` from now on.
    async fn silent_for(&self, limit: Duration) {
        let since = clock::now();
        loop {
            let at = since.max(self.progress.last()) + limit;
            if at <= clock::now() {
                return;
            }
            tokio::time::sleep_until(at.into()).await;
        }
    }

    /// [`Connection::request_capped`] that is given up when the broker is silent for `limit`.
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

    /// The error of an answer to `R` that breaks the protocol.
    pub fn malformed<R: Request>(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Malformed { node: self.node.clone(), api: api::<R>(), why: why.to_string() }
    }

    /// Sends `request` and waits for the body of the answer.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub async fn exchange<R: Request>(&self, request: &R, version: i16, limit: Duration) -> Result<Bytes> {
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
        Ok(Sent { correlation, answer, api: api::<R>(), since: clock::now() })
    }

    /// Waits for the body of the answer to `sent`.
    ///
    /// # Errors
    /// The connection broke, or the broker was silent for `limit`: bytes that move, either way, renew it.
    pub async fn answer<R: Request>(&self, sent: Sent, version: i16, limit: Duration) -> Result<Bytes> {
        let mut answer = self.wait(sent, limit).await?;
        let header = R::Response::header_version(version);
        ResponseHeader::decode(&mut answer, header).map_err(|e| self.malformed::<R>(&e))?;
        Ok(answer)
    }

    async fn wait(&self, sent: Sent, limit: Duration) -> Result<Bytes> {
        let Sent { correlation, answer, api, since } = sent;
        let answer = self.unless_silent(answer, since, limit).await;
        let broker = &self.node;
        match &answer {
            Ok(Ok(Ok(answer))) => tracing::trace!(%broker, correlation, bytes = answer.len(), "answer"),
            Ok(Ok(Err(error))) => tracing::debug!(%broker, correlation, error_name = error.name(), %error, "no answer"),
            _ => tracing::debug!(%broker, correlation, "no answer"),
        }
        match answer {
            Ok(Ok(answer)) => {
                self.observer.answered(self.node.id, api, clock::since(since));
                answer
            }
            Ok(Err(_)) => Err(self.why_closed()),
            // An answer may still come; nobody could tell it from the next one's delay. Start again.
            Err(_) => Err(self.close(Error::TimedOut { node: self.node.clone(), limit })),
        }
    }

    /// Waits for `answer`, until the connection has been silent for `limit`; marks the broker as suspect before.
    async fn unless_silent<T>(
        &self,
        mut answer: oneshot::Receiver<T>,
        since: Instant,
        limit: Duration,
    ) -> Result<Result<T, oneshot::error::RecvError>, Silent> {
        // What a limit exceeds the common one by, the broker may wait for: records to be fetched, members to join.
        let suspect_after = limit.saturating_sub(self.timeout) + self.suspect_after;
        loop {
            let silent_since = since.max(self.progress.last());
            let silent = clock::since(silent_since);
            let suspect = silent >= suspect_after;
            if suspect {
                self.suspect();
            }
            if silent >= limit {
                return Err(Silent);
            }
            let next = silent_since + if suspect { limit } else { suspect_after.min(limit) };
            if let Ok(answer) = tokio::time::timeout_at(next.into(), &mut answer).await {
                return Ok(answer);
            }
        }
    }

    /// Marks the broker as suspect until bytes move again.
    fn suspect(&self) {
        if !self.is_suspect() {
            *self.suspect_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.progress.last());
            tracing::info!(broker = %self.node, "the broker is silent");
            self.suspected.notify_one();
        }
    }

    /// Closes the connection because of `error`, unless it was closed before; returns why it was closed.
    pub fn close(&self, error: Error) -> Error {
        let error = self.closed.get_or_init(|| error).clone();
        self.tasks.iter().for_each(AbortHandle::abort);
        for awaited in drain(&self.pending) {
            let _ = awaited.reply.send(Err(error.clone())); // Err: the caller no longer waits for it
        }
        error
    }

    /// Queues a request that the broker does not answer (Produce with acks=0); [`Connection::written`] waits until
    /// the socket has taken it.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn begin_unanswered<R: Request>(&self, body: Frame, version: i16) -> Result<Sent> {
        let (reply, written) = oneshot::channel();
        let correlation = self.post::<R>(body, version, reply, false)?;
        Ok(Sent { correlation, answer: written, api: api::<R>(), since: clock::now() })
    }

    /// Waits until the socket has taken `sent`.
    ///
    /// # Errors
    /// The connection broke, or the broker took nothing for `limit`.
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
        let is_flexible = R::Response::header_version(version) > 0;
        let longest = longest_answer(api::<R>(), is_flexible, len);
        let len = i32::try_from(len).map_err(|_| Error::Usage("a request of 2 GiB: use smaller batches".to_owned()))?;
        head[..4].copy_from_slice(&len.to_be_bytes());
        let mut parts = body;
        parts.insert(0, head.freeze());
        tracing::trace!(broker = %self.node, key = R::KEY, version, correlation, bytes = len, "request");
        self.requests.send(Outgoing { parts, correlation, reply, longest, answered }).map_err(|_| self.why_closed())?;
        Ok(correlation)
    }

    fn why_closed(&self) -> Error {
        let local = || Error::Disconnected { node: self.node.clone(), why: Disconnect::Local };
        self.closed.get().cloned().unwrap_or_else(local)
    }
}

/// No byte moved for too long.
struct Silent;

fn api<R: Request>() -> ApiKey {
    // The schemas implement `Request` for keys of their own enum only.
    ApiKey::try_from(R::KEY).unwrap_or(ApiKey::ApiVersions)
}

fn unencodable<R: Request>(why: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!("a request of {:?} cannot be encoded: {why}", api::<R>()))
}
