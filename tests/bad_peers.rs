//! Peers that are not Kafka brokers, or that misbehave: a clear message within seconds, and no panic.

use crate::support::{kpipe, latest_or_local};
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
    fails(&peer(b"\x7f\xff\xff\xff\x00\x00\x00\x01", false), "announced an answer of 2147483647 bytes");
    fails(&peer(b"\xff\xff\xff\xff\x00\x00\x00\x01", false), "announced an answer of 4294967295 bytes");
}

#[test]
fn a_truncated_response_is_named() {
    fails(&peer(b"\x00\x00\x01\x00\x00\x00\x00\x01\x00", true), "closed the connection within an answer");
}

#[test]
fn a_malformed_response_is_named() {
    fails(&peer(b"\x00\x00\x00\x0c\x00\x00\x00\x01rubbish!", false), "malformed");
    fails(&peer(b"\x00\x00\x00\x0c\x00\x00\x00\x07rubbish!", false), "sent an answer that no request belongs to");
    fails(&peer(b"\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff\x0fxxxxx", false), "malformed");
}

#[test]
fn a_peer_that_closes_the_connection_or_never_answers_is_named() {
    fails(&peer(b"", true), "closed the connection");
    fails(&peer(b"", false), "did not answer within");
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
