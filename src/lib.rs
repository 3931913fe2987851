//! kpipe connects the shell to Apache Kafka: it pipes lines into topics and streams topics out as JSON.
//!
//! The modules, and which may call which: [`cli`] knows all and wires them; [`input`], [`output`] and
//! [`engine`] know only [`record`] and [`error`]; within the native engine, `wire` knows nobody but `record`.
//!
//! - [`cli`]: one file a command, arguments and the run that wires modules
//! - [`config`]: brokers, property files, `-X`, environment: one resolved configuration
//! - [`input`]: bytes → records
//! - [`output`]: records → bytes, and what of them was really written
//! - [`codec`]: key and value bytes ⇄ JSON
//! - [`registry`]: schema registries, and how records name schemas
//! - [`engine`]: producer, consumer and admin against a cluster, twice: `native` and `kafka`
//! - [`local`]: a cluster in memory, for trials and tests; of the native engine it uses `wire` and `net`
//! - [`metrics`]: what a run counts, and how that is shown
//! - [`record`]: the one shape that all modules share
//! - [`template`]: what `-f` and `--template` say of a record
//! - [`error`]: what a user sees, exit codes, hints
//! - [`files`]: reading with a limit, creating privately
//! - [`timespec`]: durations and points in time, as people write them
//! - [`signal`]: SIGINT and SIGTERM as one flag that wakes every wait

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
