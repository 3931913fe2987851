//! A transaction whose commit is carried out and not answered: it is committed, or its outcome is reported as unknown.

use crate::support::{Cluster, Running, Version, json_lines, require, wait_until};
use kafka_protocol::messages::ApiKey;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Passes requests and answers between kpipe and a broker, and loses the answers to EndTxn.
#[derive(Default)]
struct Loser {
    /// So many answers are still to be lost.
    losses: AtomicUsize,
    /// Key and version of each request.
    requests: Mutex<Vec<(i16, i16)>>,
}

impl Loser {
    /// A broker of `version` behind it.
    fn start(version: Version) -> (Cluster, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut kafka = Cluster::start(version, 1, &[&format!("advertised.listeners=PLAINTEXT://{address}")]);
        let broker = std::mem::replace(&mut kafka.bootstrap, address.to_string());
        let loser = Arc::new(Self::default());
        let accepting = loser.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                accepting.join(client, server);
            }
        });
        (kafka, loser)
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let loses = Arc::new(AtomicBool::new(false));
        let twin = |stream: &TcpStream| stream.try_clone().unwrap();
        let (me, lose, from, to) = (self.clone(), loses.clone(), twin(&client), twin(&server));
        std::thread::spawn(move || {
            pass(from, to, |frame| {
                let (key, version) =
                    (i16::from_be_bytes([frame[4], frame[5]]), i16::from_be_bytes([frame[6], frame[7]]));
                me.requests.lock().unwrap().push((key, version));
                let fewer = |left: usize| left.checked_sub(1);
                if key == ApiKey::EndTxn as i16
                    && me.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
                {
                    lose.store(true, Ordering::SeqCst);
                }
                true
            });
        });
        std::thread::spawn(move || pass(server, client, |_| !loses.load(Ordering::SeqCst)));
    }

    /// The versions of the requests of a kind.
    fn versions(&self, key: ApiKey) -> Vec<i16> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.0 == key as i16).map(|request| request.1).collect()
    }
}

/// Passes frames on until `passes` refuses one.
fn pass(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    loop {
        let mut frame = vec![0; 4];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        let len = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        frame.resize(4 + len, 0);
        if from.read_exact(&mut frame[4..]).is_err() || !passes(&frame) || to.write_all(&frame).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn input(lines: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    file
}

#[test]
fn a_commit_whose_answer_is_lost_is_repeated_or_reported_as_unknown() {
    require!(Kafka);
    for version in [Version::LATEST, Version::V3_9] {
        let (kafka, loser) = Loser::start(version);
        let topic = kafka.topic("lost", 2);
        let file = input("a\nb\nc\n");
        let path = file.path().to_str().unwrap();
        let produce = ["produce", &topic, path, "--transactional-id", &topic, "--receipts", "-p", "0"];

        loser.losses.store(2, Ordering::SeqCst);
        let done = kafka.kpipe(&[&produce[..], &["--transaction-records", "2"]].concat(), b"");
        assert_eq!(json_lines(&done.stdout).len(), 3);
        wait_until("the marker", || kafka.values(&topic) == ["a", "b", "c"]);
        let is_second = version == Version::LATEST;
        // Brokers send later versions to each other, through the proxy too.
        let adds = loser.versions(ApiKey::AddPartitionsToTxn).iter().any(|&version| version <= 3);
        assert_eq!(adds, !is_second, "only in transactions of version 1 a client adds partitions");
        let produced = loser.versions(ApiKey::Produce);
        assert!(
            !produced.is_empty() && produced.iter().all(|&version| (version >= 12) == is_second),
            "{version:?}: {produced:?}"
        );
        let ended = loser.versions(ApiKey::EndTxn);
        assert!(
            !ended.is_empty() && ended.iter().all(|&version| (version >= 5) == is_second),
            "{version:?}: {ended:?}"
        );

        loser.losses.store(usize::MAX, Ordering::SeqCst);
        let done = kafka.try_kpipe(&[&produce[..], &["--timeout", "3s"]].concat(), b"");
        loser.losses.store(0, Ordering::SeqCst);
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(!done.stderr.contains("aborted"), "{}", done.stderr);
        for part in ["may have been committed", "kpipe cluster transactions describe", "is unknown", "0 records del"] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
        let receipts = json_lines(&done.stdout);
        assert_eq!(receipts.iter().filter(|r| r["possibly_written"] == true).count(), 3, "{receipts:?}");
        // It is committed, in truth.
        wait_until("the marker", || kafka.values(&topic).len() == 6);
    }
}

#[test]
fn two_signals_amid_a_commit_abort_nothing() {
    require!(Kafka);
    let (kafka, loser) = Loser::start(Version::LATEST);
    let topic = kafka.topic("signals", 1);
    let file = input("a\n");
    loser.losses.store(usize::MAX, Ordering::SeqCst);
    let path = file.path().to_str().unwrap();
    let running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, path, "--transactional-id", &topic]);
    wait_until("the commit", || !loser.versions(ApiKey::EndTxn).is_empty());
    running.signal(libc::SIGINT);
    let before = loser.versions(ApiKey::EndTxn).len();
    wait_until("further attempts", || loser.versions(ApiKey::EndTxn).len() > before + 1);
    running.signal(libc::SIGINT);
    let done = running.ended();
    loser.losses.store(0, Ordering::SeqCst);
    assert_ne!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("may have been committed") && !done.stderr.contains("aborted"), "{}", done.stderr);
    wait_until("the marker", || kafka.values(&topic) == ["a"]);
}
