//! A proxy between kpipe and a broker that changes answers by a seed: it decodes them by their schemas, changes a field,
//! and encodes them again, or changes their bytes.

use super::schemas::{self, Answer};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What one run changes.
pub struct Mutator {
    port: u16,
    broker: String,
    random: Mutex<fastrand::Rng>,
    /// How likely an answer is changed, how many are at most, and of which requests alone.
    share: f64,
    left: Mutex<u32>,
    only: Option<ApiKey>,
    /// Decides every change again, so that all answers to a request are changed in the same way.
    stubborn: Option<u64>,
    /// What ApiVersions does not offer.
    without: Option<ApiKey>,
    requests: AtomicU64,
    changes: Mutex<Vec<String>>,
    has_ended: AtomicBool,
}

/// A request on its way.
#[derive(Clone, Copy)]
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
}

impl Asked {
    /// The request in a frame.
    pub fn of(frame: &Bytes) -> Self {
        let api = ApiKey::try_from((&frame[..]).get_i16()).unwrap();
        Self { api, version: (&frame[2..]).get_i16() }
    }
}

/// Puts the port of a proxy in the place of the broker's. Returns whether the answer has one.
pub fn readdress(answer: &mut Answer, port: u16) -> bool {
    let port = i32::from(port);
    match answer {
        Answer::Metadata(answer) => answer.brokers.iter_mut().for_each(|broker| broker.port = port),
        Answer::DescribeCluster(answer) => answer.brokers.iter_mut().for_each(|broker| broker.port = port),
        Answer::FindCoordinator(answer) if answer.error_code == 0 => answer.port = port,
        _ => return false,
    }
    true
}

impl Mutator {
    /// Starts in front of `broker`. `apis` are those of the requests that a run may concentrate on.
    pub fn start(broker: &str, seed: u64, apis: &[ApiKey]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let mutator = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            broker: broker.to_owned(),
            share: [0.2, 0.5, 1.0, 1.0][random.usize(..4)],
            left: Mutex::new(if seed.is_multiple_of(5) {
                u32::MAX
            } else {
                [1, 2, 3, 8, 30, u32::MAX][random.usize(..6)]
            }),
            only: random.choice(apis).copied().filter(|_| !seed.is_multiple_of(4)),
            stubborn: seed.is_multiple_of(5).then_some(seed),
            without: None,
            random: Mutex::new(random),
            requests: AtomicU64::new(0),
            changes: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        mutator.serve(listener);
        mutator
    }

    /// Starts in front of `broker` and changes nothing, but does not offer requests of `api`.
    pub fn without(broker: &str, api: ApiKey) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mutator = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            broker: broker.to_owned(),
            share: 0.0,
            left: Mutex::new(0),
            only: None,
            stubborn: None,
            without: Some(api),
            random: Mutex::new(fastrand::Rng::with_seed(0)),
            requests: AtomicU64::new(0),
            changes: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        mutator.serve(listener);
        mutator
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let me = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if me.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&me.broker) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let pending = Arc::new(Mutex::new(VecDeque::new()));
                let (me2, from, to, asked) = (me.clone(), client.try_clone(), server.try_clone(), pending.clone());
                std::thread::spawn(move || me2.requests(from.unwrap(), to.unwrap(), &asked));
                let me = me.clone();
                std::thread::spawn(move || me.answers(server, client, &pending));
            }
        });
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests have come.
    pub fn count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What was changed, in order; nothing more is.
    pub fn end(&self) -> Vec<String> {
        self.has_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address());
        std::mem::take(&mut *self.changes.lock().unwrap())
    }

    fn requests(&self, mut from: TcpStream, mut to: TcpStream, asked: &Mutex<VecDeque<Asked>>) {
        while let Some(frame) = read_frame(&mut from) {
            self.requests.fetch_add(1, Ordering::Relaxed);
            asked.lock().unwrap().push_back(Asked::of(&frame));
            if write_frame(&mut to, &frame).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn answers(&self, mut from: TcpStream, mut to: TcpStream, asked: &Mutex<VecDeque<Asked>>) {
        while let Some(frame) = read_frame(&mut from) {
            let Some(of) = asked.lock().unwrap().pop_front() else { break };
            let frame = self.readdressed(of, frame);
            let is_chosen = self.only.is_none_or(|only| only == of.api) && self.is_chosen();
            let sent = if is_chosen { self.send_changed(&mut to, of, &frame) } else { write_frame(&mut to, &frame) };
            if sent.is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn is_chosen(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        let is_chosen = *left > 0 && self.random.lock().unwrap().f64() < self.share;
        *left -= u32::from(is_chosen);
        is_chosen
    }

    fn note(&self, of: Asked, what: &str) {
        self.changes.lock().unwrap().push(format!("{:?}.{what}", of.api));
    }

    /// The answer with the proxy's port for the broker's.
    fn readdressed(&self, of: Asked, frame: Bytes) -> Bytes {
        let Some(mut answer) = decode(of, &frame) else { return frame };
        let is_changed = match &mut answer {
            Answer::ApiVersions(answer) => {
                answer.api_keys.retain(|offered| Some(offered.api_key) != self.without.map(|api| api as i16));
                true
            }
            answer => readdress(answer, self.port),
        };
        // As the broker sent it: the schemas may write the same answer in another way.
        if !is_changed {
            return frame;
        }
        encode(of, &frame, &answer).unwrap_or(frame)
    }

    fn send_changed(&self, to: &mut TcpStream, of: Asked, frame: &Bytes) -> std::io::Result<()> {
        let stubborn = self.stubborn.map(fastrand::Rng::with_seed);
        let mut random = stubborn.unwrap_or_else(|| self.random.lock().unwrap().fork());
        if random.u8(..10) < 7
            && let Some(mut answer) = decode(of, frame)
            && let Some(what) = schemas::mutate(answer.fields(), &mut random)
            && let Some(changed) = encode(of, frame, &answer)
        {
            self.note(of, &what);
            return write_frame(to, &changed);
        }
        let (what, sent) = send_raw(to, frame, &mut random);
        self.note(of, what);
        sent
    }
}

/// Sends an answer with its bytes changed, cut or repeated.
fn send_raw(to: &mut TcpStream, frame: &Bytes, random: &mut fastrand::Rng) -> (&'static str, std::io::Result<()>) {
    let closed = || Err(std::io::ErrorKind::ConnectionAborted.into());
    let mut changed = BytesMut::from(&frame[..]);
    let at = random.usize(..frame.len());
    match random.u8(..7) {
        0 => ("closed", closed()),
        1 => {
            let _ = to.write_all(&(frame.len() as u32).to_be_bytes());
            let _ = to.write_all(&frame[..at]);
            ("cut off", closed())
        }
        2 => {
            changed.truncate(at.max(4));
            ("shortened", write_frame(to, &changed))
        }
        3 => ("sent twice", write_frame(to, frame).and_then(|()| write_frame(to, frame))),
        4 => {
            changed[at] = random.u8(..);
            ("a byte changed", write_frame(to, &changed))
        }
        5 => {
            changed.extend_from_slice(&[0xff; 9]);
            ("lengthened", write_frame(to, &changed))
        }
        _ => {
            for _ in 0..8 {
                let at = random.usize(4.min(changed.len() - 1)..changed.len());
                changed[at] = random.u8(..);
            }
            ("bytes changed", write_frame(to, &changed))
        }
    }
}

pub fn read_frame(from: &mut TcpStream) -> Option<Bytes> {
    let mut len = [0; 4];
    from.read_exact(&mut len).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    from.read_exact(&mut frame).ok()?;
    Some(frame.into())
}

pub fn write_frame(to: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat())
}

pub fn decode(of: Asked, frame: &Bytes) -> Option<Answer> {
    let mut rest = frame.clone();
    ResponseHeader::decode(&mut rest, of.api.response_header_version(of.version)).ok()?;
    Answer::decode(of.api, &mut rest, of.version)
}

pub fn encode(of: Asked, frame: &Bytes, answer: &Answer) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id((&frame[..]).get_i32());
    header.encode(&mut out, of.api.response_header_version(of.version)).ok()?;
    answer.encode(&mut out, of.version)?;
    Some(out.freeze())
}
