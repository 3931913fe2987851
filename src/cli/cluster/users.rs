//! `kpipe cluster users`: SCRAM credentials.

use crate::cli::Context;
use crate::cli::listing::{confirm, print, print_lines, right_align, say, table};
use crate::engine::security::Secret;
use crate::engine::{Hash, Operation};
use crate::error::{EXIT_OK, Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use std::io::{BufRead, IsTerminal};

/// Users with a password (SCRAM, KIP-554).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe cluster users create alice                         # asks for the password\n  \
    pass show kafka/alice | kpipe cluster users create alice # takes it from stdin")]
pub(super) struct Users {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists users and their mechanisms
    List {
        /// The users; all when none is given
        users: Vec<String>,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Makes a user, or gives one a new password; the password is asked for, or the first line of stdin
    Create {
        /// Its name
        user: String,
        /// How it proves the password
        #[arg(long, value_enum, default_value = "SCRAM-SHA-512")]
        mechanism: Scram,
        /// How often the password is hashed
        #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(4096..=16384))]
        iterations: u32,
    },
    /// Takes a user's password away
    Delete {
        /// Its name
        user: String,
        /// Of this mechanism only [default: all that it has]
        #[arg(long, value_enum)]
        mechanism: Option<Scram>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
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
    /// What it does with the cluster, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } => Operation::Describe,
            Verb::Create { .. } | Verb::Delete { .. } => Operation::Alter,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::List { users, json } => list(context, users, *json)?,
            Verb::Create { user, mechanism, iterations } => {
                let password = ask_password(user)?;
                let admin = context.admin("cluster users")?;
                admin.set_password(user, mechanism.hash(), *iterations, &password)?;
                say(context, &format!("user {user} has a password for {}", mechanism.hash().mechanism()));
            }
            Verb::Delete { user, mechanism, yes } => delete(context, user, *mechanism, *yes)?,
        }
        Ok(EXIT_OK)
    }
}

fn list(context: &Context, users: &[String], json: bool) -> Result<()> {
    let found = context.admin("cluster users")?.users(users)?;
    if json {
        return print_lines(found.iter().map(|credential| serde_json::to_value(credential).unwrap_or_default()));
    }
    let mut table = table(&["USER", "MECHANISM", "ITERATIONS"]);
    for credential in found {
        table.add_row([credential.user, credential.mechanism, credential.iterations.to_string()]);
    }
    right_align(&mut table, [2]);
    print(&table.to_string())
}

fn delete(context: &Context, user: &str, mechanism: Option<Scram>, yes: bool) -> Result<()> {
    let admin = context.admin("cluster users")?;
    let has = admin.users(&[user.to_owned()])?;
    let wanted = |hash: &Hash| {
        mechanism.is_none_or(|only| only.hash() == *hash) && has.iter().any(|c| c.mechanism == hash.mechanism())
    };
    let hashes: Vec<Hash> = [Hash::Sha256, Hash::Sha512].into_iter().filter(wanted).collect();
    if hashes.is_empty() {
        return Err(Error::Usage(format!("user {user} has no such password: see `kpipe cluster users list`")));
    }
    if !yes {
        confirm("cluster users delete", &format!("Delete the password of user {user}?"))?;
    }
    for hash in hashes {
        admin.delete_password(user, hash)?;
        say(context, &format!("user {user} has no password for {} any more", hash.mechanism()));
    }
    Ok(())
}

/// Asks twice on a terminal, without showing it; elsewhere takes the first line of stdin.
fn ask_password(user: &str) -> Result<Secret> {
    let failed = |e: std::io::Error| Error::io("reading the password", &e);
    let password = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password(format!("Password of {user}: ")).map_err(failed)?;
        if rpassword::prompt_password("Again: ").map_err(failed)? != first {
            return Err(Error::Usage("the passwords differ".to_owned()));
        }
        first
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    if password.is_empty() {
        return Err(Error::Usage("the password is empty".to_owned()));
    }
    Ok(Secret::from(password.as_str()))
}
