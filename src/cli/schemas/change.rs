//! Changes of a registry, and whether a schema would be one.

use super::SubjectVersion;
use super::file::SchemaFile;
use crate::cli::Context;
use crate::cli::guard::{Decision, Guard};
use crate::cli::listing::{print, print_bytes, print_lines, say, table};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::registry::{
    Compatibility, Deleted, Deletion, Level, NewSchema, Normalize, Registry, VersionChoice, or_unknown,
};
use crate::text::{counted, escaped};
use serde_json::json;

/// How a schema is registered.
pub(super) struct Register {
    pub(super) normalize: bool,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

pub(super) fn register(
    context: &Context,
    registry: &Registry,
    subject: &str,
    file: &SchemaFile,
    options: &Register,
) -> Result<u8> {
    let schema = file.read(registry)?;
    let normalize = if options.normalize { Normalize::Normalized } else { Normalize::AsIs };
    let existing = existing(registry, subject, &schema, normalize)?;
    if options.dry_run {
        return match existing {
            Some(id) => {
                say(context, &format!("{} has the schema already, with ID {id}", escaped(subject)));
                Ok(EXIT_OK)
            }
            None => {
                let found = compatibility(registry, subject, None, &schema)?;
                if !found.is_compatible {
                    return report(context, subject, &found, false);
                }
                say(context, &format!("would register the schema for {}", escaped(subject)));
                Ok(EXIT_OK)
            }
        };
    }
    let id = registry.register(subject, &schema, normalize)?;
    if options.json {
        print_lines(std::iter::once(json!({ "subject": subject, "id": id, "registered": existing.is_none() })))?;
    } else {
        print_bytes(format!("{id}\n").as_bytes())?;
    }
    let what = if existing.is_some() { "had the schema already" } else { "has the schema as its latest version" };
    say(context, &format!("{} {what}, with ID {id}", escaped(subject)));
    Ok(EXIT_OK)
}

/// The ID of `schema`, if `subject` has it.
fn existing(registry: &Registry, subject: &str, schema: &NewSchema, normalize: Normalize) -> Result<Option<u32>> {
    Ok(or_unknown(registry.version_of(subject, schema, normalize))?.map(|version| version.id))
}

/// A subject without versions takes any schema.
fn compatibility(
    registry: &Registry,
    subject: &str,
    version: Option<VersionChoice>,
    schema: &NewSchema,
) -> Result<Compatibility> {
    match registry.check(subject, version, schema) {
        Err(Error::Registry(error)) if version.is_none() && error.why.is_unknown() => {
            Ok(Compatibility { is_compatible: true, messages: Vec::new() })
        }
        found => found,
    }
}

pub(super) fn check(
    context: &Context,
    registry: &Registry,
    subject: &SubjectVersion,
    file: &SchemaFile,
    json: bool,
) -> Result<u8> {
    let schema = file.read(registry)?;
    let found = compatibility(registry, &subject.subject, subject.version, &schema)?;
    report(context, &subject.subject, &found, json)
}

fn report(context: &Context, subject: &str, found: &Compatibility, json: bool) -> Result<u8> {
    if json {
        let line = json!({ "subject": subject, "compatible": found.is_compatible, "messages": found.messages });
        print_lines(std::iter::once(line))?;
    } else {
        let messages: String = found.messages.iter().map(|message| format!("{}\n", escaped(message))).collect();
        print_bytes(messages.as_bytes())?;
    }
    let how = if found.is_compatible { "compatible" } else { "not compatible" };
    say(context, &format!("the schema is {how} with {}", escaped(subject)));
    Ok(if found.is_compatible { EXIT_OK } else { EXIT_FAILED })
}

pub(super) fn delete(
    context: &Context,
    registry: &Registry,
    subject: &SubjectVersion,
    permanent: bool,
    guard: &Guard,
    json: bool,
) -> Result<u8> {
    let SubjectVersion { subject, version } = subject;
    let (deletion, deleted) =
        if permanent { (Deletion::Permanent, Deleted::Included) } else { (Deletion::Soft, Deleted::Excluded) };
    let numbers = match version {
        None => registry.versions(subject, deleted)?,
        // It exists, and the question shows which one it is.
        Some(version) => vec![registry.version(subject, *version)?.version],
    };
    let mut listed = table(&["SUBJECT", "VERSION"]);
    numbers.iter().for_each(|number| listed.add_row([subject.clone(), number.to_string()]));
    let verb = if permanent { "permanently delete" } else { "delete" };
    let what = match version {
        None => format!("subject {subject} with {}", counted(numbers.len() as u64, "version")),
        Some(_) => format!("version {} of subject {subject}", numbers.first().copied().unwrap_or_default()),
    };
    if guard.dry_run && json {
        print_lines(numbers.iter().map(|number| json!({ "subject": subject, "version": number })))?;
        return Ok(EXIT_OK);
    }
    if guard.decide(context, "schemas delete", verb, &what, Some(&listed))? == Decision::DryRun {
        return Ok(EXIT_OK);
    }
    let gone = match (version, numbers.first()) {
        (Some(_), Some(number)) => {
            vec![registry.delete_version(subject, VersionChoice::Number(*number), deletion)?]
        }
        _ => registry.delete_subject(subject, deletion)?,
    };
    if json {
        print_lines(gone.iter().map(|number| json!({ "subject": subject, "version": number })))?;
    }
    let how = if permanent { "permanently deleted" } else { "deleted" };
    say(context, &format!("{how} {} of {}", counted(gone.len() as u64, "version"), escaped(subject)));
    Ok(EXIT_OK)
}

/// What becomes of a compatibility level.
#[derive(Debug, Clone, Copy)]
pub(super) enum LevelChange {
    None,
    Set(Level),
    Unset,
}

pub(super) fn config(
    context: &Context,
    registry: &Registry,
    subject: Option<&str>,
    change: LevelChange,
    guard: &Guard,
    json: bool,
) -> Result<u8> {
    let whose =
        subject.map_or("all subjects without a level of their own".to_owned(), |subject| format!("subject {subject}"));
    match change {
        LevelChange::None => return show_level(registry, subject, json),
        LevelChange::Set(level) => {
            let what = format!("the compatibility level of {whose} to {}", level.name());
            if guard.decide(context, "schemas config", "set", &what, None)? == Decision::DryRun {
                return Ok(EXIT_OK);
            }
            registry.set_level(subject, level)?;
            say(context, &format!("set {}", escaped(&what)));
        }
        LevelChange::Unset => {
            let what = format!("the compatibility level of {whose}");
            if guard.decide(context, "schemas config", "remove", &what, None)? == Decision::DryRun {
                return Ok(EXIT_OK);
            }
            if let Some(subject) = subject {
                registry.unset_level(subject)?;
            }
            say(context, &format!("removed {}", escaped(&what)));
        }
    }
    if json { show_level(registry, subject, true) } else { Ok(EXIT_OK) }
}

fn show_level(registry: &Registry, subject: Option<&str>, json: bool) -> Result<u8> {
    let own = registry.level(subject)?;
    let (level, is_inherited) = match (own, subject) {
        (Some(level), _) => (level, false),
        (None, _) => (registry.level(None)?.unwrap_or_default(), true),
    };
    if json {
        print_lines(std::iter::once(json!({ "subject": subject, "level": level, "inherited": is_inherited })))?;
        return Ok(EXIT_OK);
    }
    let mut table = table(&["SUBJECT", "LEVEL", ""]);
    let inherited = if is_inherited { "inherited" } else { "" };
    table.add_row([subject.unwrap_or("-"), &level, inherited]);
    print(&table.to_string())?;
    Ok(EXIT_OK)
}
