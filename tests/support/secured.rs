//! Clusters with TLS, SASL and ACLs, started once per test run.

use super::{Cluster, Done, Version, kpipe};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A cluster of `scripts/kafka --secure`.
pub struct Secured {
    pub kafka: Cluster,
    /// `host:port` by listener name.
    listeners: HashMap<String, String>,
}

impl Secured {
    /// The address of a listener.
    pub fn address(&self, listener: &str) -> &str {
        &self.listeners[listener]
    }

    /// The path of a file that `scripts/kafka` created.
    pub fn file(&self, name: &str) -> String {
        self.kafka.dir.join("secure").join(name).display().to_string()
    }

    /// Runs `kpipe` with a listener's properties file.
    pub fn kpipe(&self, listener: &str, args: &[&str], stdin: &[u8]) -> Done {
        let file = self.file(&format!("{listener}.properties"));
        let done = kpipe(&[&["-b", self.address(listener), "-F", &file], args].concat(), stdin);
        assert_no_secret(&done);
        done
    }
}

/// The newest Kafka and an older one, each with TLS, SASL and SASL over TLS listeners.
pub fn secured() -> &'static [Secured; 2] {
    static SHARED: OnceLock<[Secured; 2]> = OnceLock::new();
    SHARED.get_or_init(|| {
        [Version::LATEST, Version::V3_9].map(|version| {
            let kafka = Cluster::start_secure(version, &["connections.max.reauth.ms=3000"]);
            let listeners = std::fs::read_to_string(kafka.dir.join("secure/listeners")).unwrap();
            let listener =
                |line: &str| line.split_once(' ').map(|(name, at)| (name.to_owned(), at.to_owned())).unwrap();
            Secured { listeners: listeners.lines().map(listener).collect(), kafka }
        })
    })
}

/// Asserts that kpipe printed no secret; every command that a test runs is checked.
pub fn assert_no_secret(done: &Done) {
    for secret in SECRETS {
        assert!(!done.stderr.contains(secret) && !done.stdout.contains(secret), "{secret} printed: {}", done.stderr);
    }
}

/// All secrets that the tests use, and the first bytes of tokens and keys.
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

/// Asserts that a producer and a group member run for nine seconds without an error at a listener whose sessions end
/// after three.
pub fn outlives_sessions(secured: &Secured, listener: &str, file: &str) {
    let (topic, at) = (secured.kafka.topic("outlasts", 1), secured.address(listener));
    let reads = ["consume", &topic, "-g", &topic, "-o", "beginning", "--output", "value"];
    let metadata_age = ["-X", "metadata.max.age.ms=200"];
    let reader = super::Running::kpipe(&[&["-b", at, "-F", file], &reads[..], &metadata_age].concat());
    let produced = super::shell(&format!(
        "seq 60 | while read n; do echo $n; sleep 0.15; done | kpipe -b {at} -F {file} produce {topic} -q"
    ));
    assert_eq!((produced.code, produced.stderr.as_str()), (0, ""));
    super::wait_until("the records", || reader.seen().lines().count() == 60);
    reader.signal(libc::SIGTERM);
    let done = reader.ended();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}
