//! A network in memory: connections with delays, bandwidth and faults, all of them chosen by one seed.

use super::threads;
use super::trace::{Trace, note};
use bytes::{Buf, Bytes};
use kpipe::engine::platform::{Connecting, Simulation, Socket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Bytes on their way in one direction before a writer waits.
const CAPACITY: usize = 256 << 10;

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// A connection's delay is at most this, mostly.
    pub delay: Duration,
    /// The share of connections that are cut, and that go silent.
    pub cut: f64,
    pub silent: f64,
    /// The share of attempts to connect that are refused, and that are not answered.
    pub refused: f64,
    pub unanswered: f64,
    /// The share of connections that are slow.
    pub slow: f64,
    /// A connection that is cut or goes silent does so within so many bytes.
    pub within: u64,
}

/// A network that works.
pub const CALM: Weather = Weather {
    delay: Duration::from_millis(2),
    cut: 0.0,
    silent: 0.0,
    refused: 0.0,
    unanswered: 0.0,
    slow: 0.0,
    within: 1,
};

/// How long bytes are on their way at most on a network that works.
const LONGEST_DELAY: Duration = Duration::from_millis(300);

/// The network; clones share it.
#[derive(Debug, Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    weather: Weather,
    listeners: BTreeMap<u16, UnboundedSender<Box<dyn Socket>>>,
    /// Nothing passes between these clients and ports before then.
    blocked: BTreeMap<(String, u16), Instant>,
    /// Processes that were killed.
    dead: BTreeSet<String>,
    connections: Vec<Connection>,
    next: u32,
}

/// A connection of a client to a port.
#[derive(Debug)]
struct Connection {
    client: String,
    port: u16,
    pipes: [Arc<Mutex<Pipe>>; 2],
}

impl Network {
    pub fn new(seed: u64, weather: Weather, trace: Trace) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            weather,
            listeners: BTreeMap::new(),
            blocked: BTreeMap::new(),
            dead: BTreeSet::new(),
            connections: Vec::new(),
            next: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), trace }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network as the process `name` sees it.
    pub fn host(&self, name: &str) -> Arc<dyn Simulation> {
        Arc::new(Host { network: self.clone(), name: name.to_owned() })
    }

    /// From now on no connection fails, but for those that are silent already.
    pub fn calm(&self) {
        let mut state = self.state();
        state.weather = CALM;
        state.blocked.clear();
        for connection in &state.connections {
            for pipe in &connection.pipes {
                let mut pipe = lock(pipe);
                (pipe.cut, pipe.slow, pipe.blocked_until) = (None, None, None);
                // No group works where an answer takes longer than its session timeout.
                pipe.delay = pipe.delay.min(LONGEST_DELAY);
                pipe.wake();
            }
        }
    }

    /// Nothing passes between a process and a port for `time`; nobody is told.
    pub fn block(&self, name: &str, port: u16, time: Duration) {
        let mut state = self.state();
        let until = Instant::now() + time;
        self.trace.count("network partition");
        state.blocked.insert((name.to_owned(), port), until);
        for connection in &state.connections {
            if connection.client == name && connection.port == port {
                connection.pipes.iter().for_each(|pipe| lock(pipe).blocked_until = Some(until));
            }
        }
        note!(self.trace, "{name} and :{port} are cut off from each other for {time:?}");
    }

    /// The connections of a process break, and it makes no more.
    pub fn kill(&self, name: &str) {
        let mut state = self.state();
        state.dead.insert(name.to_owned());
        for connection in &state.connections {
            if connection.client == name {
                for pipe in &connection.pipes {
                    lock(pipe).end(End::Reset, Duration::ZERO);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Host {
    network: Network,
    name: String,
}

impl Simulation for Host {
    fn connect(&self, address: &str) -> Connecting {
        let (network, name) = (self.network.clone(), self.name.clone());
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
        Box::pin(async move { network.connect(&name, port).await })
    }

    fn listen(&self, port: u16) -> io::Result<UnboundedReceiver<Box<dyn Socket>>> {
        let (sender, receiver) = unbounded_channel();
        let mut state = self.network.state();
        if state.listeners.get(&port).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(port, sender);
        Ok(receiver)
    }

    fn block_on(&self, work: Pin<&mut dyn Future<Output = ()>>) {
        threads::block_on(work);
    }
}

impl Network {
    async fn connect(&self, name: &str, port: u16) -> io::Result<Box<dyn Socket>> {
        let (delay, fate, blocked) = {
            let mut state = self.state();
            let State { random, weather, .. } = &mut *state;
            let fate = random.f64();
            let fate = if fate < weather.refused {
                Fate::Refused
            } else if fate < weather.refused + weather.unanswered {
                Fate::Unanswered
            } else {
                Fate::Accepted
            };
            let delay = delay(random, weather.delay);
            (delay, fate, state.blocked.get(&(name.to_owned(), port)).copied())
        };
        if let Some(until) = blocked {
            sleep_until(until).await;
        }
        sleep(delay).await;
        match fate {
            Fate::Refused => {
                self.trace.count("connection refused");
                note!(self.trace, "{name} > :{port} refused");
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Fate::Unanswered => {
                self.trace.count("connection not answered");
                note!(self.trace, "{name} > :{port} not answered");
                std::future::pending::<()>().await;
            }
            Fate::Accepted => {}
        }
        let mut state = self.state();
        if state.dead.contains(name) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let State { random, weather, next, .. } = &mut *state;
        *next += 1;
        let label = format!("{name} > :{port}#{next}");
        let [out, back] = [0, 1].map(|_| {
            let chance = random.f64();
            let cut = if chance < weather.cut {
                Some((random.u64(..weather.within), if random.bool() { Cut::Reset } else { Cut::Late }))
            } else if chance < weather.cut + weather.silent {
                Some((random.u64(..weather.within), Cut::Silent))
            } else {
                None
            };
            let slow = (random.f64() < weather.slow).then(|| random.u64(2_000..200_000));
            Arc::new(Mutex::new(Pipe {
                delay,
                cut,
                slow,
                jitter: fastrand::Rng::with_seed(random.u64(..)),
                late: Duration::from_millis(random.u64(..3_000)),
                label: label.clone(),
                trace: self.trace.clone(),
                ..Pipe::new()
            }))
        });
        let Some(listener) = state.listeners.get(&port) else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let (client, server) = (Side::new(&back, &out), Side::new(&out, &back));
        if listener.send(Box::new(server)).is_err() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        note!(self.trace, "{label} connected");
        state.connections.retain(|connection| Arc::strong_count(&connection.pipes[0]) > 1);
        state.connections.push(Connection { client: name.to_owned(), port, pipes: [out, back] });
        Ok(Box::new(client))
    }
}

enum Fate {
    Accepted,
    Refused,
    Unanswered,
}

/// Mostly short, now and then long.
fn delay(random: &mut fastrand::Rng, most: Duration) -> Duration {
    let delay = most.mul_f64(random.f64());
    if random.u8(..20) == 0 { delay * 10 } else { delay }
}

/// How a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Both ends are told at once; what is on the way is lost.
    Reset,
    /// The writer is told at once; what it wrote still arrives, later.
    Late,
    /// Nothing more arrives, and nobody is told.
    Silent,
}

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    delay: Duration,
    jitter: fastrand::Rng,
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    written: u64,
    cut: Option<(u64, Cut)>,
    /// Bytes a second.
    slow: Option<u64>,
    late: Duration,
    is_silent: bool,
    blocked_until: Option<Instant>,
    last_arrival: Option<Instant>,
    end: Option<(Instant, End)>,
    is_read: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    label: String,
    trace: Trace,
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    fn new() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: fastrand::Rng::with_seed(0),
            chunks: VecDeque::new(),
            bytes: 0,
            written: 0,
            cut: None,
            slow: None,
            late: Duration::ZERO,
            is_silent: false,
            blocked_until: None,
            last_arrival: None,
            end: None,
            is_read: true,
            reader: None,
            writer: None,
            label: String::new(),
            trace: Trace::begin(false),
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// When something that is sent now arrives.
    fn arrival(&mut self, len: usize) -> Instant {
        let delay = self.delay + self.delay.mul_f64(self.jitter.f64() / 2.0);
        let at = (Instant::now() + delay).max(self.last_arrival.unwrap_or_else(Instant::now));
        let at = at + self.slow.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(len as f64 / rate as f64));
        self.last_arrival = Some(at);
        at
    }

    fn put(&mut self, data: &[u8]) {
        self.written += data.len() as u64;
        if self.is_silent || data.is_empty() {
            return;
        }
        let at = self.arrival(data.len());
        self.bytes += data.len();
        self.chunks.push_back((at, Bytes::copy_from_slice(data)));
    }

    /// The direction ends, after what is on its way and `later`.
    fn end(&mut self, end: End, later: Duration) {
        if self.end.is_none() && !self.is_silent {
            let at = self.arrival(0) + later;
            self.end = Some((at, end));
        }
        self.wake();
    }
}

/// One end of a connection.
struct Side {
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Side {
    fn new(read: &Arc<Mutex<Pipe>>, write: &Arc<Mutex<Pipe>>) -> Self {
        Self { read: read.clone(), write: write.clone(), timer: None }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        lock(&self.write).end(End::Closed, Duration::ZERO);
        let mut read = lock(&self.read);
        read.is_read = false;
        read.wake();
    }
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let pipe = self.read.clone();
            let mut pipe = lock(&pipe);
            let now = Instant::now();
            let next = match (pipe.chunks.front(), pipe.end) {
                (Some((at, _)), _) => Some(*at),
                (None, Some((at, _))) => Some(at),
                (None, None) => None,
            };
            let next = next.map(|at| at.max(pipe.blocked_until.unwrap_or(at)));
            match next {
                Some(at) if at <= now => {
                    let end = pipe.end;
                    let Some((_, chunk)) = pipe.chunks.front_mut() else {
                        return Poll::Ready(match end {
                            Some((_, End::Reset)) => Err(io::ErrorKind::ConnectionReset.into()),
                            _ => Ok(()),
                        });
                    };
                    let len = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..len]);
                    chunk.advance(len);
                    if chunk.is_empty() {
                        pipe.chunks.pop_front();
                    }
                    pipe.bytes -= len;
                    if let Some(writer) = pipe.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                next => {
                    pipe.reader = Some(context.waker().clone());
                    drop(pipe);
                    let Some(at) = next else { return Poll::Pending };
                    let mut timer = Box::pin(sleep_until(at));
                    let is_due = timer.as_mut().poll(context).is_ready();
                    self.timer = Some(timer);
                    if !is_due {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Side {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.write);
        if !pipe.is_read || pipe.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.bytes >= CAPACITY {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut len = data.len().min(CAPACITY);
        let cut = pipe.cut.filter(|(at, _)| *at <= pipe.written + len as u64);
        if let Some((at, how)) = cut {
            len = (at - pipe.written.min(at)) as usize;
            pipe.put(&data[..len]);
            pipe.cut = None;
            pipe.trace.count(match how {
                Cut::Reset => "connection cut",
                Cut::Late => "connection cut, sent bytes arrived late",
                Cut::Silent => "connection silent",
            });
            note!(pipe.trace, "{} {how:?} at byte {at}", pipe.label);
            if how == Cut::Silent {
                pipe.put_silent(data.len() - len);
                return Poll::Ready(Ok(data.len()));
            }
            if how == Cut::Late {
                let late = pipe.late;
                for (at, _) in &mut pipe.chunks {
                    *at += late;
                }
                pipe.last_arrival = pipe.last_arrival.map(|at| at + late);
            }
            pipe.end(if how == Cut::Late { End::Closed } else { End::Reset }, Duration::ZERO);
            drop(pipe);
            let mut back = lock(&self.read);
            back.chunks.clear();
            back.bytes = 0;
            back.last_arrival = None;
            back.end(End::Reset, Duration::ZERO);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        pipe.put(&data[..len]);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.write).end(End::Closed, Duration::ZERO);
        Poll::Ready(Ok(()))
    }
}

impl Pipe {
    fn put_silent(&mut self, len: usize) {
        self.is_silent = true;
        self.written += len as u64;
    }
}
