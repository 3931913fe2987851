//! Starts real brokers, runs the binary, reads and writes topics with other clients.

mod cluster;
mod command;
mod proxy;
mod secured;
mod wire;

pub use cluster::{Cluster, brokers};
pub use command::{Done, Running, kpipe, python, python_running, send_signal, shell};
pub use proxy::Proxy;
pub use secured::{Secured, no_secret_in, outlasts_its_session, secured};
pub use wire::Wire;

use std::time::{Duration, Instant};

/// Waits until `is` is true; panics with `what` after half a minute.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A name that no other test uses.
pub fn fresh(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What `jq` would give: one JSON value a line.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The values of JSON lines, in order.
pub fn values(text: &str) -> Vec<String> {
    json_lines(text).iter().map(|record| record["value"].as_str().unwrap().to_owned()).collect()
}
