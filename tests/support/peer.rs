//! A broker by script: what it answers is up to the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request as a scripted broker sees it.
pub struct Request {
    /// Its key, as the protocol numbers them.
    pub api: i16,
    pub version: i16,
    /// The broker's own port.
    pub port: u16,
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
        let body = answer(&Request { api: number(0), version: number(2), port })?;
        let frame = [&(body.len() as u32 + 4).to_be_bytes()[..], &request[4..8], &body].concat();
        client.write_all(&frame).ok()?;
    }
}
