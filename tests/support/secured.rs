//! Secured clusters of two versions, started once a test run.

use super::{Cluster, Done, kpipe};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A cluster of `scripts/kafka --secure`.
pub struct Secured {
    pub kafka: Cluster,
    /// `host:port` by the listener's name.
    listeners: HashMap<String, String>,
}

impl Secured {
    /// Where a listener is.
    pub fn address(&self, listener: &str) -> &str {
        &self.listeners[listener]
    }

    /// A file that `scripts/kafka` made.
    pub fn file(&self, name: &str) -> String {
        self.kafka.dir.join("secure").join(name).display().to_string()
    }

    /// `kpipe` to a listener with its properties file and more.
    pub fn kpipe(&self, listener: &str, args: &[&str], stdin: &[u8]) -> Done {
        let file = self.file(&format!("{listener}.properties"));
        let done = kpipe(&[&["-b", self.address(listener), "-F", &file], args].concat(), stdin);
        no_secret_in(&done);
        done
    }
}

/// Brokers of both versions with a TLS, a SASL and a SASL over TLS listener each.
pub fn secured() -> &'static [Secured; 2] {
    static SHARED: OnceLock<[Secured; 2]> = OnceLock::new();
    SHARED.get_or_init(|| {
        ["4.3.1", "3.9.2"].map(|version| {
            let kafka = Cluster::start_secure(version, &["connections.max.reauth.ms=3000"]);
            let listeners = std::fs::read_to_string(kafka.dir.join("secure/listeners")).unwrap();
            let listener =
                |line: &str| line.split_once(' ').map(|(name, at)| (name.to_owned(), at.to_owned())).unwrap();
            Secured { listeners: listeners.lines().map(listener).collect(), kafka }
        })
    })
}

/// Whatever kpipe writes has no secret in it; every command that a test runs is looked at.
pub fn no_secret_in(done: &Done) {
    for secret in SECRETS {
        assert!(!done.stderr.contains(secret) && !done.stdout.contains(secret), "{secret} shown: {}", done.stderr);
    }
}

/// All that tests use, and what tokens and keys begin with.
const SECRETS: [&str; 11] = [
    "alice-secret",
    "bob-secret",
    "carol-secret",
    "wrong-secret",
    "client-secret",
    "erin-secret",
    "store-secret",
    "key-secret",
    "eyJhbGciOiJSUzI1NiI",
    "PRIVATE KEY-----\nMII",
    "Basic a3BpcGU6",
];

/// A producer and a member of a group go on for nine seconds at a listener that ends sessions after three, and notice
/// nothing.
pub fn outlasts_its_session(secured: &Secured, listener: &str, file: &str) {
    let (topic, at) = (secured.kafka.topic("outlasts", 1), secured.address(listener));
    let reads = ["consume", &topic, "-g", &topic, "-o", "beginning", "--output", "value"];
    let looks = ["-X", "metadata.max.age.ms=200"];
    let reader = super::Running::kpipe(&[&["-b", at, "-F", file], &reads[..], &looks].concat());
    let produced = super::shell(&format!(
        "seq 60 | while read n; do echo $n; sleep 0.15; done | kpipe -b {at} -F {file} produce {topic} -q"
    ));
    assert_eq!((produced.code, produced.stderr.as_str()), (0, ""));
    super::wait_until("the records", || reader.seen().lines().count() == 60);
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}
