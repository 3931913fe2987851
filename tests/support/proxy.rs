//! A TCP proxy between kpipe and a broker that cuts and stalls connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

/// Whose connections stall: those of other brokers, which name themselves, and those of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stalled {
    pub brokers: bool,
    pub clients: bool,
}

/// Whether the first request of a connection comes from another broker: their client IDs begin with this.
fn is_broker(request: &[u8]) -> bool {
    // Length, API key, version, correlation ID and the length of the client ID stand before it.
    request.get(14..).is_some_and(|rest| rest.starts_with(b"broker-") || rest.starts_with(b"node-"))
}

/// Forwards bytes in both directions until it is told to cut or stall.
#[derive(Default)]
pub struct Proxy {
    /// The number of bytes to forward to the broker before the connection is cut; no limit if negative.
    cut_requests_after: AtomicI64,
    /// The same for bytes from the broker.
    cut_answers_after: AtomicI64,
    /// The bytes forwarded a second in each direction of each connection; no limit if 0.
    rate: AtomicUsize,
    /// Whose connections nothing is forwarded of.
    stalled: Mutex<Stalled>,
    moves: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    pub cuts: AtomicUsize,
}

impl Proxy {
    /// Starts on a port of loopback (0 for any) in front of `broker`; returns the proxy and its port.
    pub fn start(port: u16, broker: &str) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Self {
            cut_requests_after: AtomicI64::new(-1),
            cut_answers_after: AtomicI64::new(-1),
            ..Self::default()
        });
        let (accepting, broker) = (proxy.clone(), broker.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                accepting.join(client, server);
            }
        });
        (proxy, port)
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let twin = |stream: &TcpStream| stream.try_clone().unwrap();
        // What both ends send at once must not wait here for the other's acknowledgement, some 40 ms.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        self.connections.lock().unwrap().extend([twin(&client), twin(&server)]);
        let (me, from, to) = (self.clone(), twin(&client), twin(&server));
        let of_broker = Arc::new(OnceLock::new());
        let known = of_broker.clone();
        std::thread::spawn(move || me.pump(from, to, &known, |me| &me.cut_requests_after));
        let me = self.clone();
        std::thread::spawn(move || me.pump(server, client, &of_broker, |me| &me.cut_answers_after));
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, of_broker: &OnceLock<bool>, limit: fn(&Self) -> &AtomicI64) {
        let mut chunk = [0; 16384];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            // The first chunk is a request.
            let of_broker = *of_broker.get_or_init(|| is_broker(&chunk[..len]));
            let is_stalled = |stalled: &mut Stalled| if of_broker { stalled.brokers } else { stalled.clients };
            drop(self.moves.wait_while(self.stalled.lock().unwrap(), is_stalled).unwrap());
            match self.rate.load(Ordering::Relaxed) {
                0 => {}
                rate => std::thread::sleep(std::time::Duration::from_secs_f64(len as f64 / rate as f64)),
            }
            let left = limit(self).load(Ordering::Relaxed);
            if left >= 0 && left < len as i64 {
                let _ = to.write_all(&chunk[..left as usize]);
                limit(self).store(-1, Ordering::Relaxed);
                self.cuts.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if left >= 0 {
                limit(self).fetch_sub(len as i64, Ordering::Relaxed);
            }
            if to.write_all(&chunk[..len]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Cuts a connection after this many more bytes of requests.
    pub fn cut_requests_after(&self, bytes: i64) {
        self.cut_requests_after.store(bytes, Ordering::Relaxed);
    }

    /// Cuts a connection after this many more bytes of responses.
    pub fn cut_answers_after(&self, bytes: i64) {
        self.cut_answers_after.store(bytes, Ordering::Relaxed);
    }

    /// Forwards so many bytes a second in each direction of each connection from now on; no limit if 0.
    pub fn limit_rate(&self, bytes_per_second: usize) {
        self.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Stops or resumes forwarding.
    pub fn set_stalled(&self, stalled: bool) {
        self.stall(Stalled { brokers: stalled, clients: stalled });
    }

    /// Stops forwarding for some and resumes it for the others.
    pub fn stall(&self, stalled: Stalled) {
        *self.stalled.lock().unwrap() = stalled;
        self.moves.notify_all();
    }

    /// Whether a cut was requested and has not happened yet.
    pub fn is_armed(&self) -> bool {
        self.cut_requests_after.load(Ordering::Relaxed) >= 0 || self.cut_answers_after.load(Ordering::Relaxed) >= 0
    }
}
