//! `kpipe cluster users`: SCRAM credentials.

use crate::cli::Context;
use crate::cli::guard::{Decision, Guard};
use crate::cli::listing::{print, print_lines, right_align, say, table};
use crate::config::without_core_dumps;
use crate::engine::security::Secret;
use crate::engine::{Hash, NativeAdmin, Operation};
use crate::error::{EXIT_OK, Error, Result};
use crate::stdio::is_stdin_closed;
use crate::text::escaped;
use clap::{Args, Subcommand, ValueEnum};
use kafka_protocol::error::ResponseError;
use serde_json::json;
use std::io::{BufRead, IsTerminal};

/// More of stdin is not a password.
const LONGEST_LINE: u64 = 1 << 16;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe cluster users create alice                         # prompts for the password\n  \
    pass show kafka/alice | kpipe cluster users create alice # reads it from stdin")]
pub(super) struct Users {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List users and their mechanisms
    List {
        /// Users to list [default: all]
        users: Vec<String>,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Create a user or change a password; prompts for the password, or reads the first line of stdin
    Create {
        /// User name
        user: String,
        /// SCRAM mechanism
        #[arg(long, value_enum, default_value = "SCRAM-SHA-512")]
        mechanism: Scram,
        /// Number of hash iterations
        #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(4096..=16384))]
        iterations: u32,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete a user's SCRAM credentials
    Delete {
        /// User name
        user: String,
        /// Delete only this mechanism [default: all]
        #[arg(long, value_enum)]
        mechanism: Option<Scram>,
        #[command(flatten)]
        guard: Guard,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scram {
    #[value(name = "SCRAM-SHA-256")]
    Sha256,
    #[value(name = "SCRAM-SHA-512")]
    Sha512,
}

impl Scram {
    fn hash(self) -> Hash {
        match self {
            Self::Sha256 => Hash::Sha256,
            Self::Sha512 => Hash::Sha512,
        }
    }
}

impl Users {
    /// The operation that the command needs for what no request of its own names.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } => Operation::Describe,
            Verb::Create { .. } | Verb::Delete { .. } => Operation::Alter,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        match &self.verb {
            Verb::List { users, json } => list(context, users, *json)?,
            Verb::Create { user, mechanism, iterations, guard } => {
                create(context, user, mechanism.hash(), *iterations, guard)?;
            }
            Verb::Delete { user, mechanism, guard } => delete(context, user, *mechanism, guard)?,
        }
        Ok(EXIT_OK)
    }
}

fn list(context: &Context, users: &[String], json: bool) -> Result<()> {
    let found = context.admin("cluster users")?.users(users)?;
    if json {
        return print_lines(found.iter().map(|credential| json!(credential)));
    }
    let mut table = table(&["USER", "MECHANISM", "ITERATIONS"]);
    for credential in found {
        table.add_row([credential.user, credential.mechanism, credential.iterations.to_string()]);
    }
    right_align(&mut table, [2]);
    print(&table.to_string())
}

/// The mechanisms that the user has credentials for.
fn mechanisms(admin: &NativeAdmin, user: &str) -> Result<Vec<Hash>> {
    match admin.users(&[user.to_owned()]) {
        Ok(found) => {
            let has = |hash: &Hash| found.iter().any(|credential| credential.mechanism == hash.mechanism());
            Ok([Hash::Sha256, Hash::Sha512].into_iter().filter(has).collect())
        }
        Err(error) if error.code() == Some(ResponseError::ResourceNotFound) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn create(context: &Context, user: &str, hash: Hash, iterations: u32, guard: &Guard) -> Result<()> {
    let admin = context.admin("cluster users")?;
    let mechanism = hash.mechanism();
    let what = format!("the {mechanism} password of user {user}");
    // A new user takes nothing from anybody.
    let exists = mechanisms(&admin, user)?.contains(&hash);
    let decision = if exists {
        guard.decide(context, "cluster users create", "replace", &what, None)?
    } else {
        guard.without_question().decide(context, "cluster users create", "set", &what, None)?
    };
    if decision == Decision::Proceed {
        admin.set_password(user, hash, iterations, &ask_password(user)?)?;
        say(context, &format!("set {what}"));
    }
    Ok(())
}

fn delete(context: &Context, user: &str, mechanism: Option<Scram>, guard: &Guard) -> Result<()> {
    let admin = context.admin("cluster users")?;
    let mut hashes = mechanisms(&admin, user)?;
    hashes.retain(|hash| mechanism.is_none_or(|only| only.hash() == *hash));
    if hashes.is_empty() {
        return Err(Error::ClusterState(format!(
            "user {user} has no such credentials (see `kpipe cluster users list`)"
        )));
    }
    let names = hashes.iter().map(|hash| hash.mechanism()).collect::<Vec<_>>().join(" and ");
    let what = format!("the {names} credentials of user {user}");
    if guard.decide(context, "cluster users delete", "delete", &what, None)? == Decision::Proceed {
        for hash in hashes {
            admin.delete_password(user, hash)?;
            say(context, &format!("deleted the {} credentials of user {user}", hash.mechanism()));
        }
    }
    Ok(())
}

/// Prompts twice on a terminal, without echo; elsewhere reads the first line of stdin.
fn ask_password(user: &str) -> Result<Secret> {
    without_core_dumps();
    let failed = |e: std::io::Error| Error::io("reading the password", &e);
    let password = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password(format!("Password of {}: ", escaped(user))).map_err(failed)?;
        if rpassword::prompt_password("Again: ").map_err(failed)? != first {
            return Err(Error::Usage("the passwords do not match".to_owned()));
        }
        first
    } else if is_stdin_closed() {
        return Err(Error::Io("stdin is closed".to_owned()));
    } else {
        first_line(std::io::stdin().lock())?
    };
    if password.is_empty() {
        return Err(Error::Usage("the password is empty".to_owned()));
    }
    Ok(Secret::from(password.as_str()))
}

/// The first line, which is not read further than a password can be long.
fn first_line(source: impl BufRead) -> Result<String> {
    let mut line = String::new();
    let read = source.take(LONGEST_LINE).read_line(&mut line);
    match read.map_err(|e| Error::io("reading the password", &e))? as u64 {
        LONGEST_LINE => Err(Error::Usage(format!("stdin: the password is longer than {LONGEST_LINE} bytes"))),
        _ => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_without_end_is_refused() {
        assert_eq!(first_line(&b"secret\r\nmore"[..]).unwrap(), "secret");
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(first_line(endless).unwrap_err().to_string().contains("longer than 65536 bytes"));
    }
}
