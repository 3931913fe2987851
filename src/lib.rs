//! kpipe connects the shell to Apache Kafka: it pipes lines into topics and streams topics out as JSON.
//!
//! The modules. Each may use only those that docs/architecture.md allows it, which `tests/layers.rs` checks; [`cli`] wires
//! them.
//!
//! - [`cli`]: a file for each command: its arguments, and the run that wires modules
//! - [`config`]: brokers, property files, profiles, `-X`, environment: one resolved configuration
//! - [`input`]: bytes → records
//! - [`output`]: records → bytes, and how many of them were written
//! - [`filter`]: which records are shown: conditions, and programs of jq
//! - [`codec`]: key and value bytes ⇄ JSON
//! - [`registry`]: schema registries, and how records name schemas
//! - [`engine`]: producer, consumer and admin client of a cluster, twice: `native` and `kafka_crate`
//! - [`local`]: a cluster in memory, for trials and tests, on the protocol and the connections of the native engine
//! - [`metrics`]: what a run counts, and how that is shown
//! - [`record`]: the one shape of records that all modules share
//! - [`template`]: the templates of `-f` and `--template`
//! - [`error`]: the errors that users see, and exit codes
//! - [`files`]: reading with a limit, creating privately
//! - [`stdio`]: standard streams that may be closed
//! - [`text`]: counts in words, and escapes
//! - [`timespec`]: durations and points in time, as people write them
//! - [`signal`]: SIGINT, SIGTERM and SIGHUP as one flag that wakes every wait

pub mod cli;
pub mod codec;
pub mod config;
pub mod engine;
pub mod error;
pub mod files;
pub mod filter;
pub mod input;
pub mod local;
pub mod metrics;
pub mod output;
pub mod record;
pub mod registry;
pub mod signal;
pub mod stdio;
pub mod template;
pub mod text;
pub mod timespec;
