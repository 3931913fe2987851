//! Reads Rust sources as text and finds what each file uses: `use` declarations, and paths in the code.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A module of the crate, or another crate: `engine::native::wire`, `clap`. The crate's root is `""`.
pub type Module = String;

/// One use of a module by a file.
#[derive(Debug, Clone)]
pub struct Use {
    /// The module of the file.
    pub by: Module,
    /// The module in which the used name is declared.
    pub of: Module,
    /// `src/FILE.rs:LINE: TEXT`
    pub line: String,
}

/// The code of a file without its unit tests, comments and literals, line by line as in the file.
struct File {
    module: Module,
    path: String,
    text: String,
    code: String,
}

/// A path in the code, such as `crate::record::Offset`, and the offset at which it begins.
struct Found {
    at: usize,
    segments: Vec<String>,
    /// The name that a `use` declaration gives it.
    alias: Option<String>,
}

/// All uses of other modules in `src`.
pub fn uses(src: &Path) -> Vec<Use> {
    let mut files = Vec::new();
    collect(src, src, &mut files);
    let found: BTreeMap<&str, Vec<Found>> =
        files.iter().map(|file| (file.module.as_str(), paths(&file.code))).collect();
    let names = Names::new(&found);
    let mut uses = Vec::new();
    for file in &files {
        for path in &found[file.module.as_str()] {
            // A type's own paths, such as `Offset::Beginning`, say nothing that its `use` declaration does not.
            let is_of_type = path.alias.is_none() && path.segments[0].starts_with(|c: char| c.is_ascii_uppercase());
            let Some(of) = names.declared_in(&file.module, &path.segments).filter(|_| !is_of_type) else { continue };
            let number = file.code[..path.at].matches('\n').count();
            let text = file.text.lines().nth(number).unwrap_or_default().trim();
            let line = format!("{}:{}: {text}", file.path, number + 1);
            uses.push(Use { by: file.module.clone(), of, line });
        }
    }
    uses.retain(|found| found.by != found.of);
    uses.dedup_by(|one, other| one.line == other.line && one.of == other.of);
    uses
}

fn collect(src: &Path, dir: &Path, files: &mut Vec<File>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(src, &path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") && path.file_stem().unwrap() != "tests" {
            let text = std::fs::read_to_string(&path).unwrap();
            let inner = path.strip_prefix(src).unwrap().with_extension("");
            let segments: Vec<&str> = inner.iter().map(|part| part.to_str().unwrap()).collect();
            let segments = segments.iter().filter(|part| !["mod", "lib", "main"].contains(part));
            let module = segments.copied().collect::<Vec<_>>().join("::");
            let code = without_tests(&blank_literals(&text)).to_owned();
            // main.rs uses the library, as any other crate would.
            if path.file_stem().unwrap() != "main" {
                files.push(File { module, path: format!("src/{}", inner.display()) + ".rs", text, code });
            }
        }
    }
}

/// Unit tests may use everything; they are at the end of a file.
fn without_tests(code: &str) -> &str {
    let tests = code.match_indices("#[cfg(test)]").find(|(at, _)| code[*at..].contains("mod tests {"));
    tests.map_or(code, |(at, _)| &code[..at])
}

/// Replaces comments and the contents of string and character literals by blanks.
fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(text, at) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            body + rest[body..].find(&end).map_or(rest.len() - body, |found| found + end.len())
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if rest.starts_with("'\\") {
            3 + rest[3..].find('\'').map_or(0, |end| end + 1)
        } else if rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
            2 + rest.chars().nth(1).unwrap().len_utf8()
        } else {
            at += rest.chars().next().unwrap().len_utf8();
            continue;
        };
        code[at..at + len].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at += len;
    }
    String::from_utf8(code).unwrap()
}

/// The number of `#` of a raw string that begins at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix('r')?;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    // The b of br"…" belongs to the literal.
    let before = text[..at].strip_suffix('b').unwrap_or(&text[..at]);
    if before.ends_with(is_word) {
        return None;
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// All paths of a file, those of `use` declarations with their trees spread out.
fn paths(code: &str) -> Vec<Found> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].1 {
            // Not the `use<…>` of a type.
            "use" if tokens.get(at + 1).is_some_and(|next| next.1 != "<") => {
                at += 1;
                tree(&tokens, &mut at, &[], &mut found);
            }
            _ => {
                let begin = at;
                let segments = path(&tokens, &mut at);
                if segments.len() > 1 {
                    found.push(Found { at: tokens[begin].0, segments, alias: None });
                } else {
                    at = begin + 1;
                }
            }
        }
    }
    found
}

/// Words, `::` and the marks of `use` trees.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = code.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let len = match bytes[at] {
            byte if is_word(byte) => bytes[at..].iter().take_while(|byte| is_word(**byte)).count(),
            b':' if code[at..].starts_with("::") => 2,
            b' ' | b'\n' | b'\t' | 0x80.. => {
                at += 1;
                continue;
            }
            _ => 1,
        };
        tokens.push((at, &code[at..at + len]));
        at += len;
    }
    tokens
}

/// Reads `a::b::c` from `at` on; empty if there is no word.
fn path(tokens: &[(usize, &str)], at: &mut usize) -> Vec<String> {
    let word = |at: usize| tokens.get(at).map(|token| token.1).filter(|text| text.starts_with(is_word_start));
    let mut segments = Vec::new();
    while let Some(segment) = word(*at) {
        segments.push(segment.to_owned());
        *at += 1;
        if tokens.get(*at).is_none_or(|token| token.1 != "::") || word(*at + 1).is_none() {
            break;
        }
        *at += 1;
    }
    segments
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// One branch of a `use` tree.
fn tree(tokens: &[(usize, &str)], at: &mut usize, prefix: &[String], found: &mut Vec<Found>) {
    let begin = tokens.get(*at).map_or(0, |token| token.0);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.1);
    if text(*at) == "::" {
        *at += 1;
    }
    let mut segments = [prefix, &path(tokens, at)].concat();
    if text(*at) == "::" {
        *at += 1;
    }
    match text(*at) {
        "{" => {
            *at += 1;
            while !["}", ""].contains(&text(*at)) {
                tree(tokens, at, &segments, found);
                if text(*at) == "," {
                    *at += 1;
                }
            }
            *at += 1;
        }
        "*" => {
            *at += 1;
            found.push(Found { at: begin, segments, alias: Some("*".to_owned()) });
        }
        "as" => {
            let alias = text(*at + 1).to_owned();
            *at += 2;
            found.push(Found { at: begin, segments, alias: Some(alias) });
        }
        _ => {
            if segments.last().is_some_and(|last| last == "self") {
                segments.pop();
            }
            let alias = segments.last().cloned();
            found.push(Found { at: begin, segments, alias });
        }
    }
}

/// Which name of which module means what.
struct Names<'a> {
    modules: Vec<&'a str>,
    /// The `use` declarations of each module; private ones too, because a child sees them.
    imported: HashMap<(&'a str, &'a str), &'a [String]>,
}

impl<'a> Names<'a> {
    fn new(found: &'a BTreeMap<&'a str, Vec<Found>>) -> Self {
        let imports = found.iter().flat_map(|(module, paths)| {
            paths.iter().filter_map(|path| Some(((*module, path.alias.as_deref()?), path.segments.as_slice())))
        });
        Self { modules: found.keys().copied().collect(), imported: imports.collect() }
    }

    fn is_module(&self, name: &str) -> bool {
        self.modules.contains(&name)
    }

    /// The module in which what `segments` mean, seen from module `from`, is declared.
    fn declared_in(&self, from: &str, segments: &[String]) -> Option<Module> {
        self.resolve(from, segments, 8)
    }

    /// `hops` bounds how many re-exports are followed.
    fn resolve(&self, from: &str, segments: &[String], hops: u32) -> Option<Module> {
        let (first, mut rest) = segments.split_first()?;
        let mut module = match first.as_str() {
            "crate" => String::new(),
            "self" => from.to_owned(),
            "super" => parent(from)?.to_owned(),
            name => {
                let child = join(from, name);
                if self.is_module(&child) {
                    child
                } else if let Some(import) = self.imported.get(&(from, name)) {
                    // `use clap;` means itself.
                    let is_itself = import.first().is_some_and(|segment| segment == name);
                    return match (is_itself, hops) {
                        (false, 1..) => self.resolve(from, &[import, rest].concat(), hops - 1),
                        _ => Some(name.to_owned()),
                    };
                } else if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                    return Some(name.to_owned());
                } else {
                    return None;
                }
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let child = join(&module, next);
            if next == "super" {
                module = parent(&module)?.to_owned();
            } else if self.is_module(&child) {
                module = child;
            } else if let Some(import) = self.imported.get(&(module.as_str(), next.as_str()))
                && hops > 0
            {
                return self.resolve(&module, &[import, after].concat(), hops - 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(module)
    }
}

pub fn join(module: &str, child: &str) -> Module {
    if module.is_empty() { child.to_owned() } else { format!("{module}::{child}") }
}

pub fn parent(module: &str) -> Option<&str> {
    if module.is_empty() { None } else { Some(module.rsplit_once("::").map_or("", |(parent, _)| parent)) }
}

/// Whether `module` is `of` or inside it.
pub fn is_in(module: &str, of: &str) -> bool {
    module == of || of.is_empty() || module.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"))
}
