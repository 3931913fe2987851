//! What a registry has.

use super::SubjectVersion;
use crate::cli::listing::{Table, or_dash, print, print_bytes, print_lines, report_incomplete, right_align, table};
use crate::error::{EXIT_OK, Error, Result};
use crate::registry::{Deleted, Registry, Resolved, SchemaId, Version, VersionChoice, or_unknown};
use crate::text::escaped_lines;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// What `list` shows.
pub(super) struct List<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) names: bool,
    pub(super) deleted: bool,
    pub(super) json: bool,
}

pub(super) fn list(registry: &Registry, options: &List<'_>) -> Result<u8> {
    let all = registry.subjects(if options.deleted { Deleted::Included } else { Deleted::Excluded })?;
    let mut subjects: Vec<String> =
        all.into_iter().filter(|subject| options.prefix.is_none_or(|prefix| subject.starts_with(prefix))).collect();
    subjects.sort();
    subjects.dedup();
    if options.names {
        if options.json {
            print_lines(subjects.iter().map(|subject| json!({ "subject": subject })))?;
            return Ok(EXIT_OK);
        }
        let mut table = table(&["SUBJECT"]);
        subjects.iter().for_each(|subject| table.add_row([subject]));
        print(&table.to_string())?;
        return Ok(EXIT_OK);
    }
    let asked: Vec<_> = subjects.iter().map(|subject| (subject.clone(), VersionChoice::Latest)).collect();
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    for (subject, version) in subjects.into_iter().zip(registry.each_version(&asked)?) {
        match version {
            Ok(version) => rows.push((subject, Some(version))),
            // All its versions are deleted, or, in Apicurio Registry, the last one is.
            Err(Error::Registry(error)) if error.why.is_unknown() => {
                let latest = latest_of(registry, &subject)?;
                rows.push((subject, latest));
            }
            Err(error) => {
                errors.push(error);
                rows.push((subject, None));
            }
        }
    }
    if options.json {
        print_lines(rows.iter().map(|(subject, version)| match version {
            Some(version) => line(version),
            None => json!({ "subject": subject, "version": null }),
        }))?;
    } else {
        let mut table = table(&["SUBJECT", "VERSION", "ID", "TYPE"]);
        right_align(&mut table, [1, 2]);
        for (subject, version) in &rows {
            let version = version.as_ref();
            table.add_row([
                subject.clone(),
                or_dash(version.map(|version| version.version)),
                or_dash(version.map(|version| version.id)),
                or_dash(version.map(|version| &version.language)),
            ]);
        }
        print(&table.to_string())?;
    }
    Ok(report_incomplete(&errors))
}

/// The version of `subject` with the highest number, if one is not deleted.
fn latest_of(registry: &Registry, subject: &str) -> Result<Option<Version>> {
    let latest =
        or_unknown(registry.versions(subject, Deleted::Excluded))?.and_then(|numbers| numbers.into_iter().max());
    match latest {
        Some(latest) => or_unknown(registry.version(subject, VersionChoice::Number(latest))),
        None => Ok(None),
    }
}

/// A version as JSON, without its text.
fn line(version: &Version) -> Value {
    let mut line = json!({
        "subject": version.subject,
        "version": version.version,
        "id": version.id,
        "type": version.language.to_string(),
    });
    if let Some(guid) = version.guid {
        line["guid"] = json!(guid.hyphenated().to_string());
    }
    line
}

pub(super) fn versions(registry: &Registry, subject: &str, deleted: bool, json: bool) -> Result<u8> {
    let live = match registry.versions(subject, Deleted::Excluded) {
        // All of them may be deleted.
        Err(Error::Registry(error)) if deleted && error.why.is_unknown() => Vec::new(),
        live => live?,
    };
    let mut numbers = if deleted { registry.versions(subject, Deleted::Included)? } else { live.clone() };
    numbers.sort_unstable();
    let asked: Vec<_> = numbers.iter().map(|number| (subject.to_owned(), VersionChoice::Number(*number))).collect();
    let mut table = table(&["VERSION", "ID", "TYPE", "REFERENCES", ""]);
    right_align(&mut table, [0, 1]);
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for (number, version) in numbers.into_iter().zip(registry.each_version(&asked)?) {
        let is_deleted = !live.contains(&number);
        let version = match version {
            Ok(version) => version,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        add_version(&mut table, &version, is_deleted);
        let mut line = line(&version);
        line["references"] = json!(version.references);
        line["deleted"] = json!(is_deleted);
        lines.push(line);
    }
    if json {
        print_lines(lines.into_iter())?
    } else {
        print(&table.to_string())?
    }
    Ok(report_incomplete(&errors))
}

fn add_version(table: &mut Table, version: &Version, is_deleted: bool) {
    let references: Vec<String> = version
        .references
        .iter()
        .map(|reference| format!("{}={}:{}", reference.name, reference.subject, reference.version))
        .collect();
    table.add_row([
        version.version.to_string(),
        version.id.to_string(),
        version.language.to_string(),
        if references.is_empty() { "-".to_owned() } else { references.join(" ") },
        if is_deleted { "deleted".to_owned() } else { String::new() },
    ]);
}

pub(super) fn get(
    registry: &Registry,
    subject: Option<&SubjectVersion>,
    id: Option<SchemaId>,
    json: bool,
) -> Result<u8> {
    let (text, mut line, resolved) = match (subject, id) {
        (Some(SubjectVersion { subject, version }), _) => {
            let version = registry.version(subject, version.unwrap_or(VersionChoice::Latest))?;
            let resolved = if json { Some(usable(registry.resolve(&version)?)?) } else { None };
            (version.text.clone(), self::line(&version), resolved)
        }
        (None, Some(id)) => {
            let resolved = usable(registry.look_up_one(id)?)?;
            let mut line = json!({ "type": resolved.language.api_name() });
            match id {
                SchemaId::Id(id) => line["id"] = json!(id),
                other => line["guid"] = json!(other.uuid()),
            }
            (resolved.text.clone(), line, Some(resolved))
        }
        (None, None) => return Err(Error::Usage("schemas get requires SUBJECT or --id".to_owned())),
    };
    if json {
        line["schema"] = json!(text);
        line["references"] = json!(resolved.map_or_else(Vec::new, |resolved| resolved.references));
        print_lines(std::iter::once(line))?;
        return Ok(EXIT_OK);
    }
    let text = text.trim_end_matches('\n');
    let shown = if std::io::stdout().is_terminal() { escaped_lines(text) } else { text.into() };
    print_bytes(format!("{shown}\n").as_bytes())?;
    Ok(EXIT_OK)
}

fn usable(found: crate::registry::Lookup) -> Result<Resolved> {
    found.map_err(Error::ClusterState)
}
