//! `--metrics` and `--metrics-file`: Prometheus' text over HTTP, and as a file for node_exporter.

use super::Metrics;
use crate::error::{Error, Result, describe_io};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;

/// A connection is for one request and lasts no longer, however slowly the client sends or reads.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);
/// Connections at a time: for one more, the oldest is closed.
const MOST_CONNECTIONS: usize = 64;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    _running: oneshot::Sender<()>,
}

impl Server {
    /// Listens at `address`: `PORT` or `:PORT` on loopback, `HOST:PORT`.
    pub(super) fn start(address: &str, metrics: Metrics) -> Result<Self> {
        let failed = |e: std::io::Error| Error::Usage(format!("--metrics {address}: {}", describe_io(&e)));
        let listener = TcpListener::bind(parse(address)?).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        tracing::info!(address = %listener.local_addr().map_err(failed)?, "serving /metrics, /healthz and /readyz");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (running, mut ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = &mut ended => {}
                        error = serve(listener, metrics) => tracing::warn!(%error, "/metrics is not served any more"),
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { _running: running })
    }
}

fn parse(address: &str) -> Result<SocketAddr> {
    let wrong = || Error::Usage(format!("--metrics {address}: expected PORT or HOST:PORT"));
    let whole = match address.strip_prefix(':').unwrap_or(address) {
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("127.0.0.1:{port}"),
        whole => whole.to_owned(),
    };
    whole.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)
}

async fn serve(listener: TcpListener, metrics: Metrics) -> Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return Error::io("--metrics", &e),
    };
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut connections: VecDeque<tokio::task::JoinHandle<()>> = VecDeque::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(e) => {
                // Too many open files, perhaps: a moment later there may be fewer.
                tracing::info!(error = describe_io(&e), "accepting a connection for /metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MOST_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let metrics = metrics.clone();
        connections.push_back(tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answer = answer(&request, &metrics, is_local);
                async move { answer }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), answer);
            // Err: the client went, or spoke no HTTP. It knows.
            let _ = tokio::time::timeout(LONGEST_CONNECTION, served).await;
        }));
    }
}

/// Whether a request to a loopback address is meant for this machine: a web page whose name was made to lead here would
/// read the metrics otherwise.
fn is_meant_for_loopback(request: &Request<hyper::body::Incoming>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn answer(
    request: &Request<hyper::body::Incoming>,
    metrics: &Metrics,
    is_local: bool,
) -> hyper::http::Result<Response<Full<Bytes>>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        _ if is_local && !is_meant_for_loopback(request) => {
            (StatusCode::MISDIRECTED_REQUEST, "text/plain", "the Host header must name this machine\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.text())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") if metrics.is_ready() => {
            (StatusCode::OK, "text/plain", "ready\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "not found (see /metrics, /healthz and /readyz)\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()),
    };
    Response::builder().status(status).header(header::CONTENT_TYPE, kind).body(Full::new(Bytes::from(body)))
}

/// Writes the text beside `path`, then puts it in its place: a reader sees all of it or what was before. A new file is
/// readable by its owner only, an existing one keeps its mode; only a regular file is replaced.
pub(super) fn write_file(path: &Path, metrics: &Metrics) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(format!("--metrics-file {}", path.display()), &e);
    crate::files::replace(path, metrics.text().as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_loopback_unless_told() {
        for (typed, meant) in [("9100", "127.0.0.1:9100"), (":1", "127.0.0.1:1"), ("0.0.0.0:5", "0.0.0.0:5")] {
            assert_eq!(parse(typed).unwrap().to_string(), meant);
        }
        assert!(parse("nowhere").is_err() && parse("99999").is_err() && parse("").is_err());
    }
}
