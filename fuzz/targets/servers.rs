//! What comes over sockets of other kinds: responses of HTTP servers, and requests to `kpipe local`.

use super::Input;
use kpipe::engine::native::Service;
use kpipe::engine::native::http::{HttpClient, HttpRequest};
use kpipe::engine::security::Tls;
use kpipe::local::{CONSUMER_GROUPS, Local, OFFERED, Options};
use kpipe::signal::Stop;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

/// No answer takes longer, but those that wait for others.
const PATIENCE: Duration = Duration::from_millis(50);

/// A response of a token endpoint.
pub fn http(data: &[u8]) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
    let Ok(address) = listener.local_addr() else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Ok((mut client, _)) = listener.accept() else { return };
            let mut request = [0; 1024];
            let _ = client.read(&mut request).and_then(|_| client.write_all(data));
        });
        let client = HttpClient::new(
            Service::SchemaRegistry,
            &format!("http://{address}/"),
            &Tls::default(),
            Duration::from_secs(2),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (Ok(client), Ok(runtime)) = (client, runtime) else { return };
        let request = HttpRequest {
            method: hyper::Method::GET,
            path: "",
            credentials: None,
            headers: &[],
            accept: "*/*",
            body: None,
        };
        if let Ok(response) = runtime.block_on(client.send(request)) {
            assert!(response.body.len() <= data.len());
        }
    });
}

/// A request to `kpipe local`, which answers or closes the connection and serves on.
pub fn requests(data: &[u8]) {
    static LOCAL: OnceLock<Option<Local>> = OnceLock::new();
    let start = || {
        let options = Options { brokers: 1, port: 0, topics: vec![("t".to_owned(), 1)], retain_bytes: 1 << 24 };
        let local = Local::start(&options, &Stop::default()).ok()?;
        local.offer_consumer_groups();
        Some(local)
    };
    let Some(local) = LOCAL.get_or_init(start) else { return };
    let Ok(mut socket) = TcpStream::connect(local.bootstrap()) else { panic!("it serves no more") };
    let all: Vec<_> = OFFERED.iter().chain(&CONSUMER_GROUPS).collect();
    let mut input = Input(data);
    let (api, versions) = all[usize::from(input.byte()) % all.len()];
    let version = versions.min + i16::from(input.byte()) % (versions.max - versions.min + 1);
    let mut frame = Vec::new();
    frame.extend((*api as i16).to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes()); // no client ID
    frame.extend(&[0][..usize::from(api.request_header_version(version) >= 2)]);
    frame.extend(input.0);
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let sent = socket.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat());
    let _ = sent.and_then(|()| socket.read(&mut [0; 1024]));
}
