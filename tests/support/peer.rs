//! A scripted broker: what it answers is up to the test.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request as a scripted broker sees it.
pub struct Request<'a> {
    /// Its key, as the protocol numbers them.
    pub api: i16,
    pub version: i16,
    /// The broker's own port.
    pub port: u16,
    /// All of it, without the length before it.
    pub frame: &'a [u8],
}

impl Request<'_> {
    /// Returns the body of `answer`, behind the tagged fields that a header in the newer encoding has.
    pub fn encode(&self, answer: &impl Encodable) -> Vec<u8> {
        let mut out = BytesMut::new();
        let api = ApiKey::try_from(self.api).unwrap();
        out.put_slice(&[0][usize::from(api.response_header_version(self.version) == 0)..]);
        answer.encode(&mut out, self.version).unwrap();
        out.to_vec()
    }

    /// Returns the answer to ApiVersions that offers these requests, each up to a version.
    pub fn offer(&self, requests: &[(ApiKey, i16)]) -> Vec<u8> {
        let offered =
            |(api, max): &(ApiKey, i16)| ApiVersion::default().with_api_key(*api as i16).with_max_version(*max);
        self.encode(&ApiVersionsResponse::default().with_api_keys(requests.iter().map(offered).collect()))
    }
}

/// Starts a broker that answers each request with the body that `answer` returns, behind the correlation ID; it closes
/// the connection where there is none. Returns its address.
pub fn peer(answer: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(client, port, &*answer));
        }
    });
    format!("127.0.0.1:{port}")
}

fn serve(mut client: TcpStream, port: u16, answer: &dyn Fn(&Request) -> Option<Vec<u8>>) -> Option<()> {
    loop {
        let mut len = [0; 4];
        client.read_exact(&mut len).ok()?;
        let mut request = vec![0; u32::from_be_bytes(len) as usize];
        client.read_exact(&mut request).ok()?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let body = answer(&Request { api: number(0), version: number(2), port, frame: &request })?;
        let frame = [&(body.len() as u32 + 4).to_be_bytes()[..], &request[4..8], &body].concat();
        client.write_all(&frame).ok()?;
    }
}

/// Appends a text as old answers have it, behind its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// A message of version 0.
pub fn old_message(offset: i64, attributes: u8, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0, attributes, 0xff, 0xff, 0xff, 0xff];
    body.put_i32(value.len() as i32);
    body.put_slice(value);
    let mut out = Vec::new();
    out.put_i64(offset);
    out.put_i32(body.len() as i32 + 4);
    out.put_u32(crc32fast::hash(&body));
    out.put_slice(&body);
    out
}
