//! Each module uses only the modules below it: the rules of docs/architecture.md, checked against the sources.

mod source;

use source::{Module, Use, is_in, parent, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules that the files of a module may use besides their own. The last rule that matches a file applies; `cli` has
/// none, because it may use everything.
const RULES: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("text", &[]),
    ("stdio", &[]),
    ("files", &[]),
    ("timespec", &[]),
    ("signal", &["record", "error"]),
    // Errors name topic partitions.
    ("error", &["record"]),
    ("input", &["record", "error", "codec", "registry", "stdio", "template"]),
    ("output", &["record", "error", "codec", "files", "template", "text"]),
    // What a template is: output writes it, input reads it.
    ("template", &["error", "codec", "text"]),
    // It asks over the HTTP client and the retries of `net`.
    (
        "registry",
        &[
            "record",
            "error",
            "signal",
            "files",
            "engine::native::net",
            "engine::security",
            "engine::observer",
            "engine::platform",
        ],
    ),
    ("codec", &["record", "error", "registry"]),
    ("filter", &["record", "error", "codec"]),
    // The stop flag ends its waits.
    ("engine", &["record", "error", "signal"]),
    ("engine::native::wire", &["record", "error"]),
    // It fills in what an engine is given.
    ("config", &["record", "error", "files", "timespec", "engine", "registry"]),
    ("metrics", &["record", "error", "signal", "files", "timespec", "engine::observer"]),
    // `engine::admin` has what an ACL is.
    (
        "local",
        &[
            "record",
            "error",
            "signal",
            "engine::admin",
            "engine::native::wire",
            "engine::native::net",
            "engine::platform",
        ],
    ),
];

/// Crates that a module must not use.
const CRATES: [(&str, &str); 1] = [("engine", "clap")];

// ---- Today's exceptions. Both lists shrink to nothing: an entry that no code needs any more fails the test. ----

/// The module of a rule, and what its files use against the rule.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// A parent module, and children of it that use each other.
const CIRCLES: &[(&str, &[&str])] = &[];

// ---- End of the exceptions. ----

fn all_uses() -> Vec<Use> {
    let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(uses.len() > 300, "only {} uses found", uses.len());
    uses
}

/// The modules that have files.
fn modules(uses: &[Use]) -> BTreeSet<&str> {
    uses.iter().map(|found| found.by.as_str()).collect()
}

/// The module whose rule a use breaks.
fn broken_rule(found: &Use, modules: &BTreeSet<&str>) -> Option<&'static str> {
    if let Some((module, _)) = CRATES.iter().find(|(module, name)| is_in(&found.by, module) && found.of == *name) {
        return Some(module);
    }
    let (module, allowed) = RULES.iter().rfind(|(module, _)| is_in(&found.by, module))?;
    let is_allowed = is_in(&found.of, module) || allowed.iter().any(|allowed| is_in(&found.of, allowed));
    (modules.contains(&*found.of) && !is_allowed).then_some(module)
}

#[test]
fn no_module_uses_what_its_layer_must_not() {
    let (uses, mut broken, mut excepted) = (all_uses(), Vec::new(), BTreeSet::new());
    let modules = modules(&uses);
    for found in &uses {
        let Some(module) = broken_rule(found, &modules) else { continue };
        match EXCEPTIONS.iter().find(|(by, what)| *by == module && is_in(&found.of, what)) {
            Some(exception) => _ = excepted.insert(exception),
            None => broken.push(format!("{}\n    {module} must not use {}", found.line, found.of)),
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let stale: Vec<_> = EXCEPTIONS.iter().filter(|exception| !excepted.contains(exception)).collect();
    assert!(stale.is_empty(), "no code needs these exceptions: {stale:?}");
}

/// A child of a module, and another that it uses, with the line that does.
type SiblingUses = BTreeMap<(Module, Module), String>;

/// What the children of each module use of each other, by their parent.
fn sibling_uses(uses: &[Use]) -> BTreeMap<Module, SiblingUses> {
    let mut siblings: BTreeMap<Module, SiblingUses> = BTreeMap::new();
    let modules = modules(uses);
    let ancestors = |module: &str| -> Vec<Module> {
        std::iter::successors(Some(module), |module| parent(module)).map(str::to_owned).collect()
    };
    for found in uses.iter().filter(|found| modules.contains(&*found.of)) {
        for one in ancestors(&found.by) {
            for other in ancestors(&found.of).into_iter().filter(|other| *other != one) {
                if let Some(parent) = parent(&one).filter(|_| parent(&one) == parent(&other)) {
                    let pairs = siblings.entry(parent.to_owned()).or_default();
                    pairs.entry((one.clone(), other)).or_insert_with(|| found.line.clone());
                }
            }
        }
    }
    siblings
}

/// Whether `from` uses `to`, directly or through others.
fn reaches(pairs: &SiblingUses, from: &Module, to: &Module) -> bool {
    let mut reached = BTreeSet::from([from]);
    let mut before = 0;
    while reached.len() > before {
        before = reached.len();
        let next: Vec<_> = pairs.keys().filter(|(one, _)| reached.contains(one)).map(|(_, other)| other).collect();
        reached.extend(next);
    }
    reached.contains(to)
}

#[test]
fn no_modules_use_each_other() {
    let (mut circles, mut excepted) = (Vec::new(), BTreeSet::new());
    for (parent, pairs) in sibling_uses(&all_uses()) {
        for ((one, other), line) in pairs.iter().filter(|((one, other), _)| reaches(&pairs, other, one)) {
            let [one, other] = [one, other].map(|module| module.rsplit("::").next().unwrap_or_default());
            let is_listed =
                |circle: &&(&str, &[&str])| circle.0 == parent && circle.1.contains(&one) && circle.1.contains(&other);
            match CIRCLES.iter().find(is_listed) {
                Some(circle) => _ = excepted.insert(circle),
                None => circles.push(format!("{line}\n    {one} and {other} use each other")),
            }
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
    let stale: Vec<_> = CIRCLES.iter().filter(|circle| !excepted.contains(circle)).collect();
    assert!(stale.is_empty(), "these circles are gone: {stale:?}");
}

/// The parser finds a module however it is spelled, and nothing in comments, literals and unit tests.
#[test]
fn every_spelling_of_a_use_is_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    for (file, text) in [
        ("lib.rs", "pub mod a;\npub mod b;\n"),
        ("b/mod.rs", "mod c;\nmod d;\npub use c::Named;\nuse crate::a;\nfn f() { a::g() }\n"),
        ("b/c.rs", "pub struct Named;\n"),
        ("b/d.rs", "use std::{fmt, crate_name::X};\nuse super::{c::{self, Y as Z}, Named};\n"),
        (
            "a.rs",
            "// use crate::b::d;\nfn f<'a>() { let s = (\"use crate::b::d;\", r#\"crate::b::d::\"#, '\"'); crate::b::Named }\n\
             #[derive(clap::Args)]\nstruct S;\n#[cfg(test)]\nmod tests {\n    use crate::b::d;\n}\n",
        ),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let found: Vec<(String, String, String)> = uses(dir.path())
        .into_iter()
        .map(|found| (found.by, found.of, found.line.split(": ").next().unwrap().to_owned()))
        .collect();
    let expected = [
        ("a", "b::c", "src/a.rs:2"),
        ("a", "clap", "src/a.rs:3"),
        ("b::d", "std", "src/b/d.rs:1"),
        ("b::d", "b::c", "src/b/d.rs:2"),
        ("b", "b::c", "src/b/mod.rs:3"),
        ("b", "a", "src/b/mod.rs:4"),
        ("b", "a", "src/b/mod.rs:5"),
    ];
    let expected = expected.map(|(by, of, line)| (by.to_owned(), of.to_owned(), line.to_owned()));
    assert_eq!(found, expected);
}
