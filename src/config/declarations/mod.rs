//! Every property, declared once, by topic. To add one, declare it here and read it where it counts, with
//! [`Properties::get`](super::Properties::get) or, where a flag sets the same,
//! [`Properties::resolve`](super::Properties::resolve); then rewrite the table of docs/configuration.md with
//! `KPIPE_UPDATE_REFERENCE=1 cargo test --lib declarations`.

mod connection;
mod consumer;
mod producer;
mod registry;
mod security;

pub(crate) use connection::*;
pub(crate) use consumer::*;
pub(crate) use producer::*;
pub(crate) use registry::*;
pub(crate) use security::*;

use super::property::{Declaration, Description};

/// What other clients know and kpipe has no use for, one name per line: a file that they can use is accepted here.
const WITHOUT_EFFECT: &str = include_str!("../without_effect.txt");

/// What restricts whom other clients trust or with which cryptography, in ways that kpipe does not have, and the value
/// that restricts nothing: any other is an error, because ignoring it would protect less than was asked for.
const REFUSED: [(&str, &str); 10] = [
    ("security.providers", ""),
    ("ssl.ca.certificate.stores", ""),
    ("ssl.curves.list", ""),
    ("ssl.engine.factory.class", ""),
    ("ssl.engine.id", ""),
    ("ssl.engine.location", ""),
    ("ssl.provider", ""),
    ("ssl.providers", ""),
    ("ssl.sigalgs.list", ""),
    ("ssl.trustmanager.algorithm", "PKIX"),
];

/// All properties.
pub(super) fn all() -> impl Iterator<Item = &'static dyn Declaration> {
    let by_topic = [
        connection::DECLARATIONS,
        consumer::DECLARATIONS,
        producer::DECLARATIONS,
        registry::DECLARATIONS,
        security::DECLARATIONS,
    ];
    by_topic.into_iter().flatten().copied()
}

/// The help of each property, by name.
pub(crate) fn descriptions() -> Vec<Description> {
    let mut described: Vec<Description> = all().map(Declaration::describe).collect();
    described.sort_by_key(|description| description.name);
    described
}

/// The property of that name, or with that alias.
pub(super) fn named(name: &str) -> Option<&'static dyn Declaration> {
    all().find(|declared| declared.name() == name || declared.aliases().contains(&name))
}

/// Every name of every property.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().flat_map(|declared| std::iter::once(declared.name()).chain(declared.aliases().iter().copied()))
}

/// What becomes of a property that is not declared.
pub(super) enum Undeclared {
    /// It is accepted, and has no effect.
    Ignored,
    /// It would protect, and kpipe cannot honor it.
    Refused,
    /// No client has it.
    Unknown,
}

/// What becomes of a property that is not declared.
pub(super) fn undeclared(name: &str, value: &str) -> Undeclared {
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, harmless)) if value.trim().is_empty() || value.trim() == *harmless => Undeclared::Ignored,
        Some(_) => Undeclared::Refused,
        None if WITHOUT_EFFECT.lines().any(|known| known == name) => Undeclared::Ignored,
        None => Undeclared::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const BEGIN: &str = "<!-- properties: generated -->\n";
    const END: &str = "<!-- end -->\n";

    fn table() -> String {
        let code = |text: &&str| format!("`{text}`");
        let row = |Description { name, aliases, flag, kind, default, help }| {
            let aliases: Vec<String> = aliases.iter().map(code).collect();
            let (aliases, flag) = (aliases.join(", "), flag.as_ref().map(code).unwrap_or_default());
            format!("| `{name}` | {aliases} | {flag} | {kind} | {default} | {help} |")
        };
        let rows: Vec<String> = descriptions().into_iter().map(row).collect();
        format!(
            "\n| property | also | flag | type | default | meaning |\n|---|---|---|---|---|---|\n{}\n\n",
            rows.join("\n")
        )
    }

    #[test]
    fn the_documentation_has_every_property_as_it_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (documented, after) = rest.split_once(END).unwrap();
        if std::env::var_os("KPIPE_UPDATE_REFERENCE").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
            return;
        }
        assert_eq!(documented, table(), "KPIPE_UPDATE_REFERENCE=1 cargo test --lib declarations rewrites {path}");
    }

    #[test]
    fn no_property_takes_a_number_that_nothing_can_hold() {
        for declared in all() {
            for number in ["10000000000000000000", "99999999999999999999", "-1", "1e300"] {
                let checked = declared.check(number);
                assert!(checked.is_err() || declared.describe().kind != "ms", "{}={number}", declared.name());
            }
        }
    }

    #[test]
    fn every_default_is_a_value_and_every_name_means_one_property() {
        for declared in all() {
            if let Some(default) = declared.default() {
                assert_eq!(declared.check(default), Ok(()), "{}", declared.name());
            }
        }
        let (all, distinct): (Vec<_>, BTreeSet<_>) = (names().collect(), names().collect());
        assert_eq!(all.len(), distinct.len());
        assert!(all.iter().all(|name| matches!(undeclared(name, ""), Undeclared::Unknown)));
    }
}
