//! A transaction whose commit is carried out and not answered: it is committed, or its outcome is reported as unknown.

use crate::support::{Cluster, Running, Version, json_lines, require, wait_until};
use kafka_protocol::messages::ApiKey;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Passes requests and answers between kpipe and a broker, and loses the answers to EndTxn.
#[derive(Default)]
struct Loser {
    /// So many answers are still to be lost.
    losses: AtomicUsize,
    /// Requests by their key, and the last version.
    requests: Mutex<HashMap<i16, (usize, i16)>>,
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
                let mut requests = me.requests.lock().unwrap();
                let entry = requests.entry(key).or_default();
                *entry = (entry.0 + 1, version);
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

    /// How many requests of a kind there were, and in which version the last was.
    fn seen(&self, key: ApiKey) -> (usize, i16) {
        self.requests.lock().unwrap().get(&(key as i16)).copied().unwrap_or_default()
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
        // Only transactions of version 1 announce their partitions.
        let announced = loser.seen(ApiKey::AddPartitionsToTxn).0;
        let (produced, ended) = (loser.seen(ApiKey::Produce).1, loser.seen(ApiKey::EndTxn).1);
        let is_second = (announced == 0, produced >= 12, ended >= 5);
        let expected = version == Version::LATEST;
        assert_eq!(is_second, (expected, expected, expected), "{version:?}: {announced} {produced} {ended}");

        loser.losses.store(usize::MAX, Ordering::SeqCst);
        let done = kafka.try_kpipe(&[&produce[..], &["--timeout", "3s"]].concat(), b"");
        loser.losses.store(0, Ordering::SeqCst);
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(!done.stderr.contains("aborted"), "{}", done.stderr);
        for part in
            ["is possibly committed", "kpipe cluster transactions describe", "was not answered", "0 records del"]
        {
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
    wait_until("the commit", || loser.seen(ApiKey::EndTxn).0 > 0);
    running.signal(libc::SIGINT);
    let before = loser.seen(ApiKey::EndTxn).0;
    wait_until("further attempts", || loser.seen(ApiKey::EndTxn).0 > before + 1);
    running.signal(libc::SIGINT);
    let done = running.ended();
    loser.losses.store(0, Ordering::SeqCst);
    assert_ne!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("is possibly committed") && !done.stderr.contains("aborted"), "{}", done.stderr);
    wait_until("the marker", || kafka.values(&topic) == ["a"]);
}
