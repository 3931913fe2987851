//! Schema registries: Apicurio Registry, started by `scripts/registry run`, which ends with this process; and one that a
//! test makes up.

use super::{Done, kpipe};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

/// A running Apicurio Registry.
pub struct Registry {
    /// Its address, for `--registry`.
    pub url: String,
    /// Its stdin stays open; the registry stops when it closes, with this process.
    _child: Child,
}

/// The registry that all tests of this process share.
pub fn registry() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/registry"))
            .args(["run", "--port", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(!url.is_empty(), "the registry did not start");
        Registry { url: url.trim().to_owned(), _child: child }
    })
}

impl Registry {
    /// Runs `kpipe schemas ARGS` on it.
    pub fn schemas(&self, args: &[&str], stdin: &[u8]) -> Done {
        kpipe(&[&["schemas", "--registry", &self.url], args].concat(), stdin)
    }
}

/// What a registry that a test makes up answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status and a body.
    Body(u16, String),
    /// The connection is closed without an answer.
    Closed,
    /// Nothing, for as long as the client waits.
    Silence,
}

impl Reply {
    /// A status and JSON.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Body(status, body.to_string())
    }

    /// The registry's own error.
    pub fn error(status: u16, code: u32, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error_code": code, "message": message }))
    }
}

/// A request, as a registry that a test makes up sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A registry that a test makes up; it counts requests.
pub struct MadeUpRegistry {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl MadeUpRegistry {
    /// Answers each request as `answer` says.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (answer.clone(), seen.clone());
                std::thread::spawn(move || {
                    // The client may have gone.
                    let _ = serve(stream, &seen, &*answer);
                });
            }
        });
        Self { url, asked }
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often each was asked: by method and path.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for asked in self.asked() {
            *counts.entry(asked.line).or_default() += 1;
        }
        counts
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    let line = first.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let asked = Asked { line, headers, body: String::from_utf8(body).unwrap() };
    seen.lock().unwrap().push(asked.clone());
    let mut stream = stream;
    match answer(&asked) {
        Reply::Body(status, body) => {
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
        Reply::Closed => Ok(()),
        // It ends when the client closes the connection.
        Reply::Silence => std::io::copy(&mut reader, &mut std::io::sink()).map(drop),
    }
}
