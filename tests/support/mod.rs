//! Starts clusters, runs the binary, and reads and writes topics with other clients.

mod batches;
mod bounded;
mod cluster;
mod command;
pub mod history;
mod mutator;
mod peer;
mod proxy;
mod registry;
mod require;
mod schemas;
mod secured;
mod version;
mod wire;

pub use bounded::{COMMANDS, Ended, Judge, Tested, impatient, in_parallel, run_bounded, run_until};
pub use cluster::{Cluster, each, each_with_protocols, latest_or_local, shared};
pub use command::{Done, Running, kpipe, python, python_running, send_signal, shell, ticks_of};
pub use mutator::{Asked, Mutator, decode, encode, read_frame, readdress, write_frame};
pub use peer::{Request, old_message, peer, put_text};
pub use proxy::{Proxy, Stalled};
pub use registry::{MadeUpRegistry, Reply, registry};
pub(crate) use require::require;
pub use require::{Need, all_codes, all_tests, can_run};
pub use schemas::{Answer, mutate};
pub use secured::{Secured, assert_no_secret, outlives_sessions, secured};
pub use version::{Kafka, Tool, Version};
pub use wire::Wire;

use std::io::Write;
use std::time::{Duration, Instant};

/// Waits until `condition` holds; panics after 120 seconds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 120 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Prints how much a test has searched; what it prints otherwise is captured.
pub fn report(what: &str) {
    // Nobody reads it.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// A name that no other test uses.
pub fn fresh(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Parses JSON Lines.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// What a listing prints with `-J`.
pub fn listed(kafka: &Cluster, args: &[&str]) -> Vec<serde_json::Value> {
    json_lines(&kafka.kpipe(&[args, &["-J"]].concat(), b"").stdout)
}

/// The values of JSON lines, in order.
pub fn values(text: &str) -> Vec<String> {
    json_lines(text).iter().map(|record| record["value"].as_str().unwrap().to_owned()).collect()
}

/// All files in a directory and below it.
pub fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
