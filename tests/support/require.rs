//! Which tests run: all of them with `KPIPE_TESTS=all`, as `scripts/test` sets it; otherwise those that run with what is
//! installed and without Java, so that a plain `cargo test` needs nothing but Rust.

use super::command::{python_path, shell};
use std::io::Write;

/// What a test may need besides Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Real brokers.
    Kafka,
    /// Kafka's own command-line tools.
    KafkaTools,
    Kcat,
    /// librdkafka's Python binding, and Prometheus' parser.
    Python,
    /// Confluent's serializers for Python.
    Serializers,
    /// Apicurio Registry.
    Registry,
    OpenSsl,
    Jq,
    /// `script`, which gives a command a terminal.
    Script,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Apache Kafka (Java and Maven)",
            Self::KafkaTools => "Kafka's tools (Java and Maven)",
            Self::Kcat => "kcat",
            Self::Python => "Python with librdkafka",
            Self::Serializers => "Confluent's serializers for Python",
            Self::Registry => "Apicurio Registry (Java and Maven)",
            Self::OpenSsl => "openssl",
            Self::Jq => "jq",
            Self::Script => "script (util-linux)",
        }
    }

    fn is_installed(self) -> bool {
        let probe = match self {
            Self::Kafka | Self::KafkaTools | Self::Registry => "command -v java && command -v mvn",
            Self::Serializers => &format!(
                "{} -c 'import confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.protobuf, \
                 confluent_kafka.schema_registry.json_schema'",
                python_path()
            ),
            Self::Kcat => "command -v kcat",
            Self::Python => &format!("{} -c 'import confluent_kafka, prometheus_client'", python_path()),
            Self::OpenSsl => "command -v openssl",
            Self::Jq => "command -v jq",
            Self::Script => "script --version",
        };
        shell(probe).code == 0
    }

    fn is_java(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaTools | Self::Registry)
    }
}

/// Whether every test was asked for.
pub fn all_tests() -> bool {
    std::env::var_os("KPIPE_TESTS").is_some_and(|tests| tests == "all")
}

/// Whether all error codes are to be tried.
pub fn all_codes() -> bool {
    std::env::var_os("KPIPE_CODES").is_some_and(|codes| codes == "all")
}

/// Whether a test with these needs runs. One that does not is named on stderr; where all tests were asked for, it fails.
pub fn can_run(needs: &[Need]) -> bool {
    let is_met = |need: &&Need| (all_tests() || !need.is_java()) && need.is_installed();
    let missing: Vec<&str> = needs.iter().filter(|need| !is_met(need)).map(|need| need.name()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(!all_tests(), "not installed: {} (scripts/test installs it)", missing.join(", "));
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    // The test runner captures what eprintln! prints.
    let _ = writeln!(std::io::stderr(), "skipped {test}: needs {} (run scripts/test)", missing.join(", "));
    false
}

/// Ends a test that cannot run here: `require!(Kafka, Kcat)`.
macro_rules! require {
    ($($need:ident),+) => {
        if !$crate::support::can_run(&[$($crate::support::Need::$need),+]) {
            return;
        }
    };
}
pub(crate) use require;
