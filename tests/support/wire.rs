//! Sends any request in any version to a broker, also what no client would send.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Wire {
    socket: TcpStream,
}

impl Wire {
    /// Connects to the first address of `bootstrap`.
    pub fn connect(bootstrap: &str) -> Self {
        let socket = TcpStream::connect(bootstrap.split(',').next().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes); // the broker may have closed the connection
    }

    /// Reads the next frame; `None` if the connection is closed.
    pub fn frame(&mut self) -> Option<Bytes> {
        let mut len = [0; 4];
        match self.socket.read_exact(&mut len) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("no answer within 20 s")
            }
            Err(_) => return None,
        }
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.socket.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    /// Returns the frame of `request`.
    pub fn encode<R: Request>(request: &R, version: i16) -> Bytes {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("wire")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version)).unwrap();
        let api = ApiKey::try_from(R::KEY).unwrap();
        request.encode(&mut body, version).unwrap_or_else(|e| panic!("{api:?} v{version}: {e}"));
        let mut frame = BytesMut::new();
        frame.put_i32(body.len() as i32);
        frame.put(body);
        frame.freeze()
    }

    /// Sends `request` and returns the response.
    pub fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(&Self::encode(request, version));
        self.answer::<R>(version)
    }

    /// Reads the response to a request that was sent.
    pub fn answer<R: Request>(&mut self, version: i16) -> R::Response {
        let api = ApiKey::try_from(R::KEY).unwrap();
        let mut frame = self.frame().unwrap_or_else(|| panic!("{api:?} v{version}: the connection was closed"));
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 7);
        let response = R::Response::decode(&mut frame, version).unwrap_or_else(|e| panic!("{api:?} v{version}: {e}"));
        assert!(!frame.has_remaining(), "{api:?} v{version}: {} bytes too many", frame.remaining());
        response
    }
}
