//! Every property, declared once, by topic. To add one, declare it here and read it where it counts, with
//! [`Properties::get`](super::Properties::get) or, where a flag sets the same,
//! [`Properties::resolve`](super::Properties::resolve); then rewrite the table of docs/configuration.md with
//! `KPIPE_UPDATE_REFERENCE=1 cargo test --lib declarations`.

mod connection;
mod consumer;
mod producer;
mod security;

pub(crate) use connection::*;
pub(crate) use consumer::*;
pub(crate) use producer::*;
pub(crate) use security::*;

use super::property::{Declaration, Description};

/// What other clients know and kpipe has no use for, one name per line: a file that they can use is accepted here.
const WITHOUT_EFFECT: &str = include_str!("../without_effect.txt");

/// All properties.
pub(super) fn all() -> impl Iterator<Item = &'static dyn Declaration> {
    let by_topic = [connection::DECLARATIONS, consumer::DECLARATIONS, producer::DECLARATIONS, security::DECLARATIONS];
    by_topic.into_iter().flatten().copied()
}

/// What people are told of each property, by name.
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

/// Whether kpipe knows the property, and ignores it.
pub(super) fn is_without_effect(name: &str) -> bool {
    WITHOUT_EFFECT.lines().any(|known| known == name)
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
    fn every_default_is_a_value_and_every_name_means_one_property() {
        for declared in all() {
            if let Some(default) = declared.default() {
                assert_eq!(declared.check(default), Ok(()), "{}", declared.name());
            }
        }
        let (all, distinct): (Vec<_>, BTreeSet<_>) = (names().collect(), names().collect());
        assert_eq!(all.len(), distinct.len());
        assert!(all.iter().all(|name| !is_without_effect(name)));
    }
}
