//! Peers that are not Kafka brokers, or that misbehave: a clear message within seconds, and no panic.

use crate::support::{self, Request, kpipe, latest_or_local, old_message, put_text};
use bytes::BufMut;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A server that answers the first bytes of each connection with `answer` and then closes it if `close`.
fn peer(answer: &'static [u8], close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            if !close {
                open.push(stream);
            }
        }
    });
    address
}

fn fails(address: &str, message: &str) {
    let started = Instant::now();
    let done = kpipe(&["-b", address, "-X", "request.timeout.ms=1000", "produce", "t"], b"x\n");
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains(message), "{message}: {}", done.stderr);
    assert!(done.stderr.contains(address), "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(started.elapsed() < Duration::from_secs(15), "took {:?}", started.elapsed());
}

#[test]
fn a_refused_connection_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails(&free, "Connection refused");
}

#[test]
fn an_http_server_is_recognized() {
    fails(&peer(b"HTTP/1.1 400 Bad Request\r\n\r\n", true), "is not a Kafka broker: it answered with HTTP");
}

#[test]
fn a_tls_listener_is_recognized() {
    fails(&peer(b"\x15\x03\x03\x00\x02\x02\x32", true), "this listener needs security.protocol=SSL");
}

#[test]
fn a_response_that_announces_two_gibibytes_is_refused() {
    fails(&peer(b"\x7f\xff\xff\xff\x00\x00\x00\x01", false), "announced a response of 2147483647 bytes");
    fails(&peer(b"\xff\xff\xff\xff\x00\x00\x00\x01", false), "announced a response of 4294967295 bytes");
}

#[test]
fn a_truncated_response_is_named() {
    fails(&peer(b"\x00\x00\x01\x00\x00\x00\x00\x01\x00", true), "closed the connection in the middle of a response");
}

#[test]
fn a_malformed_response_is_named() {
    fails(&peer(b"\x00\x00\x00\x0c\x00\x00\x00\x01rubbish!", false), "malformed");
    fails(&peer(b"\x00\x00\x00\x0c\x00\x00\x00\x07rubbish!", false), "sent a response that matches no request");
    fails(&peer(b"\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff\x0fxxxxx", false), "malformed");
}

#[test]
fn a_peer_that_closes_the_connection_or_never_answers_is_named() {
    fails(&peer(b"", true), "closed the connection");
    fails(&peer(b"", false), "did not respond within");
}

#[test]
fn a_peer_that_takes_long_to_answer_is_named_once_meanwhile() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = ["-X", "request.timeout.ms=3000", "-X", "socket.connection.setup.timeout.ms=3000"];
    let done = kpipe(&[&["-b", &format!("{address},{address}")], &limits[..], &["topics", "list"]].concat(), b"");
    let says = format!("connecting to {address} has taken 2 s so far");
    assert_eq!((done.code, done.stderr.matches(&says).count()), (1, 1), "{}", done.stderr);
}

#[test]
fn a_bootstrap_list_works_although_its_first_hosts_are_down() {
    let kafka = latest_or_local();
    let topic = kafka.topic("down", 1);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let list = format!("{free},{},{}", peer(b"HTTP/1.1 400 Bad Request\r\n\r\n", true), kafka.bootstrap);
    let done = kpipe(&["-b", &list, "produce", &topic], b"x\n");
    assert_eq!(done.code, 0, "{}", done.stderr);
}

const METADATA: i16 = 3;
const LIST_OFFSETS: i16 = 2;
const FETCH: i16 = 1;

/// Version 0 of the metadata of one broker and topic t, with one partition of this number.
fn old_metadata(port: u16, partition: i32) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(1);
    out.put_i32(0);
    put_text(&mut out, "127.0.0.1");
    out.put_i32(i32::from(port));
    out.put_i32(1);
    out.put_i16(0);
    put_text(&mut out, "t");
    out.put_i32(1);
    out.put_i16(0);
    [partition, 0, 0, 0].into_iter().for_each(|number| out.put_i32(number));
    out
}

/// Runs kpipe with 2 GiB of address space at an old broker that answers Metadata, ListOffsets and Fetch like this.
fn old_broker(
    engine: &str,
    fetched: Vec<u8>,
    metadata: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> support::Done {
    let address = support::peer(move |request| match request.api {
        METADATA if request.version == 0 => metadata(request),
        LIST_OFFSETS => {
            let mut out = answer_for_t0();
            out.put_i32(1);
            out.put_i64(0);
            Some(out)
        }
        FETCH => {
            let mut out = answer_for_t0();
            out.put_i64(9);
            out.put_i32(fetched.len() as i32);
            out.put_slice(&fetched);
            Some(out)
        }
        _ => None,
    });
    let options = format!("--engine {engine} -X request.timeout.ms=1000 consume t -o 0 -p 0");
    support::shell(&format!("ulimit -v 2000000; timeout 20 kpipe -b {address} {options}"))
}

/// The beginning of an answer for partition 0 of topic t, up to its error, which is none.
fn answer_for_t0() -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(1);
    put_text(&mut out, "t");
    out.put_i32(1);
    out.put_i32(0);
    out.put_i16(0);
    out
}

/// A peer that hangs up on everything is no old broker, unless the user says so.
#[test]
fn the_engine_for_old_brokers_is_not_chosen_because_a_peer_hangs_up() {
    let hangs_up = support::peer(|_| None);
    let done = kpipe(&["-b", &hangs_up, "-X", "request.timeout.ms=1000", "topics", "list"], b"");
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("set --engine kafka"), "{}", done.stderr);
    let asked = kpipe(&["-b", &hangs_up, "-X", "request.timeout.ms=1000", "--engine", "kafka", "topics", "list"], b"");
    assert!(asked.code == 1 && asked.stderr.contains("with the kafka crate"), "{}", asked.stderr);
}

#[test]
fn an_old_broker_that_lies_costs_neither_memory_nor_a_panic() {
    let honest = |request: &Request| Some(old_metadata(request.port, 0));
    let boundless =
        |_: &Request| Some([1_i32, 0, i32::MAX, i32::MAX, 0].iter().flat_map(|n| n.to_be_bytes()).collect());
    let too_high = |request: &Request| Some(old_metadata(request.port, 7));
    let snappy = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x05\xff\xff\xff\xff\x0f";
    let cases = [
        ("set --engine kafka", old_broker("auto", Vec::new(), boundless)),
        ("malformed response to Metadata", old_broker("kafka", Vec::new(), boundless)),
        ("not numbered from 0", old_broker("auto", Vec::new(), too_high)),
        ("t/0 at offset 4", old_broker("auto", old_message(4, 2, snappy), honest)),
    ];
    for (says, done) in cases {
        assert_eq!(done.code, 1, "{says}: {}", done.stderr);
        assert!(done.stderr.contains(says) && !done.stderr.contains("panicked"), "{says}: {}", done.stderr);
    }
}
