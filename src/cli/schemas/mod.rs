//! `kpipe schemas`: subjects and versions of a schema registry.

mod change;
mod file;
mod show;

use super::Context;
use super::guard::Guard;
use super::named::named_api;
use super::registry::RegistryArgs;
use crate::error::Result;
use crate::registry::{Level, SchemaId, VersionChoice};
use clap::{Args, Subcommand};
use file::SchemaFile;
use std::str::FromStr;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe schemas list --registry http://localhost:8081\n  \
    kpipe schemas get orders-value:3\n  \
    kpipe schemas check orders-value order.avsc && kpipe schemas register orders-value order.avsc\n  \
    kpipe schemas delete orders-value:3 --dry-run")]
pub(super) struct Schemas {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List subjects with the ID and type of their latest version
    List {
        /// Only subjects that begin with this text
        prefix: Option<String>,
        /// List names only, with one request
        #[arg(long)]
        names: bool,
        /// Include subjects that are soft-deleted
        #[arg(long)]
        deleted: bool,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Print a schema by subject and version, or by ID
    Get {
        /// Subject and version [default version: latest]
        #[arg(value_name = "SUBJECT[:VERSION]", required_unless_present = "id", conflicts_with = "id")]
        subject: Option<SubjectVersion>,
        /// Schema ID or GUID
        #[arg(long)]
        id: Option<SchemaId>,
        /// Print a JSON object with the schema and all schemas that it refers to
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// List the versions of a subject
    Versions {
        subject: String,
        /// Include versions that are soft-deleted
        #[arg(long)]
        deleted: bool,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Register a schema as the latest version of a subject, and print its ID
    Register {
        subject: String,
        #[command(flatten)]
        schema: SchemaFile,
        /// Have the registry normalize the schema
        #[arg(long)]
        normalize: bool,
        /// Print what would be done and exit
        #[arg(long)]
        dry_run: bool,
        /// Print a JSON object
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Check whether a schema is compatible with a subject; the exit code is 1 if it is not
    Check {
        /// Subject, and the version to compare with [default: those that the compatibility level is about]
        #[arg(value_name = "SUBJECT[:VERSION]")]
        subject: SubjectVersion,
        #[command(flatten)]
        schema: SchemaFile,
        /// Print a JSON object
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Delete a subject or a version of it
    ///
    /// What is soft-deleted is hidden, and records that name it can still be read. With --permanent, what was
    /// soft-deleted before is removed: records that name it can no longer be read.
    Delete {
        /// Subject, and the version to delete [default: all versions]
        #[arg(value_name = "SUBJECT[:VERSION]")]
        subject: SubjectVersion,
        /// Remove what was soft-deleted before
        #[arg(long)]
        permanent: bool,
        #[command(flatten)]
        guard: Guard,
        /// Print the deleted versions as one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Show or set the compatibility level of a subject, or of all subjects that have none of their own
    Config {
        subject: Option<String>,
        /// Level to set
        #[arg(long, value_name = "LEVEL", ignore_case = true, value_parser = named_api(&Level::ALL, Level::name))]
        set: Option<Level>,
        /// Remove the subject's own level
        #[arg(long, requires = "subject", conflicts_with = "set")]
        unset: bool,
        #[command(flatten)]
        guard: Guard,
        /// Print a JSON object
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// A subject, and perhaps one of its versions. Names of subjects may have colons of their own.
#[derive(Debug, Clone)]
pub(super) struct SubjectVersion {
    pub(super) subject: String,
    pub(super) version: Option<VersionChoice>,
}

impl FromStr for SubjectVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected SUBJECT or SUBJECT:VERSION".to_owned());
        }
        Ok(match text.rsplit_once(':').and_then(|(subject, version)| Some((subject, version.parse().ok()?))) {
            Some((subject, version)) if !subject.is_empty() => {
                Self { subject: subject.to_owned(), version: Some(version) }
            }
            _ => Self { subject: text.to_owned(), version: None },
        })
    }
}

impl Schemas {
    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        let registry = self.registry.require(context)?;
        match &self.verb {
            Verb::List { prefix, names, deleted, json } => show::list(
                &registry,
                &show::List { prefix: prefix.as_deref(), names: *names, deleted: *deleted, json: *json },
            ),
            Verb::Get { subject, id, json } => show::get(&registry, subject.as_ref(), *id, *json),
            Verb::Versions { subject, deleted, json } => show::versions(&registry, subject, *deleted, *json),
            Verb::Register { subject, schema, normalize, dry_run, json } => {
                let options = change::Register { normalize: *normalize, dry_run: *dry_run, json: *json };
                change::register(context, &registry, subject, schema, &options)
            }
            Verb::Check { subject, schema, json } => change::check(context, &registry, subject, schema, *json),
            Verb::Delete { subject, permanent, guard, json } => {
                change::delete(context, &registry, subject, *permanent, guard, *json)
            }
            Verb::Config { subject, set, unset, guard, json } => {
                let change = match (set, unset) {
                    (Some(level), _) => change::LevelChange::Set(*level),
                    (None, true) => change::LevelChange::Unset,
                    (None, false) => change::LevelChange::None,
                };
                change::config(context, &registry, subject.as_deref(), change, guard, *json)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_the_last_colon() {
        let parsed =
            |text: &str| text.parse::<SubjectVersion>().map(|parsed| (parsed.subject, parsed.version)).unwrap();
        assert_eq!(parsed("a-value"), ("a-value".to_owned(), None));
        assert_eq!(parsed("a-value:3"), ("a-value".to_owned(), Some(VersionChoice::Number(3))));
        assert_eq!(parsed(":.ctx:a:latest"), (":.ctx:a".to_owned(), Some(VersionChoice::Latest)));
        assert_eq!(parsed(":.ctx:a"), (":.ctx:a".to_owned(), None));
        assert!("".parse::<SubjectVersion>().is_err());
    }
}
