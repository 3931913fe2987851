//! Configuration: properties from flags, `-X`, `-F FILE`, `config.toml` and the environment, resolved to an engine's
//! options.
//!
//! Each property is declared once, in [`declarations`]. Calls `error`, `files`, `timespec` and the option types of the engine
//! and the registry.

pub(crate) mod declarations;
mod jaas;
mod lines;
mod profiles;
mod properties;
mod property;
mod range;
mod readers;
mod references;
mod registry;
mod registry_values;
mod security;
mod security_values;
mod shown;
mod sources;
mod stores;
mod values;

pub use crate::timespec::parse_duration;
pub use jaas::jaas_options;
pub use properties::{Properties, Sources, Value};
pub use range::{Range, parse_end, parse_range};
pub(crate) use readers::without_core_dumps;
pub use registry::registry;
pub use values::{
    SERVER_ASSIGNORS, TerminalOutput, parse_acks, parse_assignor, parse_compression, parse_size, with_level,
};

use crate::engine::{EngineChoice, Observer, Options};
use crate::error::{Error, Result};
use declarations::*;
use std::path::PathBuf;
use std::sync::Arc;

/// The options of an engine: what `properties` set, and the defaults of what they do not.
///
/// # Errors
/// A broker's address or a property is malformed.
pub fn options(engine: EngineChoice, properties: &Properties, observer: Arc<dyn Observer>) -> Result<Options> {
    let listed = properties.get(&BOOTSTRAP_SERVERS)?;
    let brokers = listed
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(with_port)
        .collect::<Result<Vec<_>>>()?;
    if brokers.is_empty() {
        return Err(Error::Usage("no broker given (use -b HOST:PORT)".to_owned()));
    }
    Ok(Options {
        brokers,
        client_id: properties.get(&CLIENT_ID)?,
        engine,
        connect_timeout: properties.get(&CONNECTION_SETUP_TIMEOUT)?,
        request_timeout: properties.get(&REQUEST_TIMEOUT)?,
        retry_backoff: properties.get(&RETRY_BACKOFF)?,
        security: security::resolve(properties)?,
        observer,
        platform: Default::default(),
    })
}

/// The file that is called `config.toml` here, though it may have any name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// Named by `$KPIPE_CONFIG`: it must exist.
    pub is_named: bool,
}

/// `$KPIPE_CONFIG`, else `kpipe/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
pub fn config_file() -> Option<ConfigFile> {
    if let Some(path) = path_in("KPIPE_CONFIG") {
        return Some(ConfigFile { path, is_named: true });
    }
    let path = base_directory("XDG_CONFIG_HOME", ".config")?.join("kpipe/config.toml");
    Some(ConfigFile { path, is_named: false })
}

fn path_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A base directory of the user: that in `variable`, else `in_home` in the home directory.
fn base_directory(variable: &str, in_home: &str) -> Option<PathBuf> {
    path_in(variable).or_else(|| Some(path_in("HOME")?.join(in_home)))
}

/// What may stand before an address, as the brokers' own settings write it.
const LISTENERS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// `host` → `host:9092`.
fn with_port(address: &str) -> Result<String> {
    let bare =
        address.split_once("://").filter(|(scheme, _)| LISTENERS.contains(scheme)).map_or(address, |(_, bare)| bare);
    let shown = shown::without_user_information(address);
    let wrong = |what: &str| Error::Usage(format!("-b {shown}: {what}"));
    if bare.contains("://") {
        return Err(wrong("expected HOST:PORT"));
    }
    // `[::1]` and `::1` have colons of their own.
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (bare, "9092"),
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(wrong("expected HOST:PORT with a port from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_default_port() {
        for (typed, meant) in [("a", "a:9092"), ("a:1", "a:1"), ("[::1]:5", "[::1]:5"), ("::1", "::1:9092")] {
            assert_eq!(with_port(typed).unwrap(), meant);
        }
        for typed in ["a:b", "a:0", "a:70000", ":1", "http://a:1"] {
            assert!(with_port(typed).is_err(), "{typed}");
        }
    }
}
