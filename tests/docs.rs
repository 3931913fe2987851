//! The commands in README.md and docs/ run as they stand, and print what is shown.
//!
//! A `sh` block runs as a script, each in a fresh directory and on a fresh in-memory cluster, and must succeed. In a
//! `console` block the output of each `$` line is compared; timestamps, decimals and `…` stand for anything. Comments
//! above a block say what it needs:
//!
//! - `<!-- test: setup COMMANDS -->` runs COMMANDS first.
//! - `<!-- test: interrupt once COMMAND -->` runs the block until COMMAND has ended, then interrupts it as Ctrl-C does.
//!   COMMAND finds the block's output in `$OUT`.
//! - `<!-- test: real -->` runs it on a real broker, `<!-- test: secured -->` on one with an authorizer.
//! - `<!-- test: registry -->` runs it with a schema registry at `$KPIPE_SCHEMA_REGISTRY_URL`.
//! - `<!-- test: skip REASON -->` does not run it.

use crate::support::{Cluster, Done, Kafka, registry, require, secured, shared, shell};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// More blocks than these must not be skipped.
const MOST_SKIPPED: usize = 11;
/// Programs that examples use and that may be missing.
const OPTIONAL: [&str; 2] = ["jq", "curl"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Sh,
    Console,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Local,
    Real,
    Secured,
    /// `kpipe local`, and a schema registry.
    Registry,
}

/// A fenced block of a page, and the comments above it.
struct Block {
    /// Page and line, for messages.
    at: String,
    language: Language,
    text: String,
    setup: String,
    /// The command whose end interrupts the block.
    interrupt: Option<String>,
    cluster: Needs,
    skip: Option<String>,
}

impl Block {
    fn new(at: String, language: Language, directives: &[String]) -> Self {
        let (text, setup) = (String::new(), String::new());
        let mut block = Self { at, language, text, setup, interrupt: None, cluster: Needs::Local, skip: None };
        for directive in directives {
            let (verb, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            match verb {
                "setup" => block.setup = rest.to_owned(),
                "interrupt" => block.interrupt = Some(rest.strip_prefix("once ").unwrap_or(rest).to_owned()),
                "real" => block.cluster = Needs::Real,
                "secured" => block.cluster = Needs::Secured,
                "registry" => block.cluster = Needs::Registry,
                "skip" if !rest.is_empty() => block.skip = Some(rest.to_owned()),
                _ => panic!("{}: unknown directive {directive:?}", block.at),
            }
        }
        block
    }

    /// The shell script that runs the block.
    fn script(&self) -> String {
        let strict = "set -eEo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n";
        let run = match (self.language, &self.interrupt) {
            (Language::Console, _) => self.transcript().iter().fold(String::new(), |mut script, (command, _)| {
                let _ = writeln!(script, "{{ {command}\n}} 2>&1 || true\necho '{SEPARATOR}'");
                script
            }),
            (Language::Sh, None) => format!("{strict}{}", self.text),
            (Language::Sh, Some(command)) => format!(
                "cat >../block.sh <<'BLOCK'\n{strict}{}BLOCK\nexport OUT=../out\nset -m\nbash ../block.sh >$OUT &\n\
                 {command}\nkill -INT -- -$!\nwait $! || [ $? = 130 ]\n",
                self.text
            ),
        };
        format!("{strict}{}\n{run}", self.setup)
    }

    /// The commands of a console block, each with the output shown below it.
    fn transcript(&self) -> Vec<(String, String)> {
        let mut transcript: Vec<(String, String)> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), transcript.last_mut()) {
                (Some(command), _) => transcript.push((command.to_owned(), String::new())),
                (None, Some((_, output))) => {
                    output.push_str(line);
                    output.push('\n');
                }
                (None, None) => panic!("{}: begins without a command", self.at),
            }
        }
        transcript
    }

    /// Runs the block with `bootstrap` as its cluster; what is wrong with it, if anything.
    fn run(&self, bootstrap: &str) -> Result<(), String> {
        let home = tempfile::tempdir().unwrap();
        let (work, script) = (home.path().join("work"), home.path().join("script.sh"));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(&script, self.script()).unwrap();
        let registry = match self.cluster {
            Needs::Registry => format!("KPIPE_SCHEMA_REGISTRY_URL={}", registry().url),
            _ => String::new(),
        };
        let done = shell(&format!(
            "cd {} && unset XDG_CONFIG_HOME && HOME={} KPIPE_BROKERS={bootstrap} {registry} timeout 60 bash {}",
            work.display(),
            home.path().display(),
            script.display()
        ));
        if done.code != 0 {
            let end = done.stdout.len().saturating_sub(500);
            let printed = String::from_utf8_lossy(&done.bytes[end..]);
            return Err(format!("{}: exit code {}: …{printed}{}", self.at, done.code, done.stderr));
        }
        match self.language {
            Language::Sh => Ok(()),
            Language::Console => self.compare(&done),
        }
    }

    fn compare(&self, done: &Done) -> Result<(), String> {
        let separator = format!("{SEPARATOR}\n");
        for ((command, expected), printed) in self.transcript().iter().zip(done.stdout.split(&separator)) {
            let trimmed: String = printed.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
            if !regex_lite::Regex::new(&pattern(expected)).unwrap().is_match(&trimmed) {
                return Err(format!("{}: {command}\nshown:\n{expected}printed:\n{printed}", self.at));
            }
        }
        Ok(())
    }
}

/// Ends the output of a command of a console block.
const SEPARATOR: &str = "-- end of the command --";

/// The regular expression of what may be printed where `expected` is shown.
fn pattern(expected: &str) -> String {
    let varies = regex_lite::Regex::new(r"\d{10,}|\d+\.\d+|…|  +").unwrap();
    let mut pattern = String::from("^");
    for line in expected.lines().map(str::trim_end) {
        if line == "…" {
            pattern.push_str("(?:[^\n]*\n)*");
            continue;
        }
        let mut from = 0;
        for found in varies.find_iter(line) {
            pattern.push_str(&regex_lite::escape(&line[from..found.start()]));
            pattern.push_str(match found.as_str().as_bytes()[0] {
                b'0'..=b'9' => r"\d+(?:\.\d+)?",
                b' ' => " +",
                _ => "[^\n]*",
            });
            from = found.end();
        }
        pattern.push_str(&regex_lite::escape(&line[from..]));
        pattern.push('\n');
    }
    pattern + "$"
}

fn blocks_of(page: &Path) -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = page.strip_prefix(root).unwrap().display();
    let (mut blocks, mut directives, mut open) = (Vec::<Block>::new(), Vec::new(), None);
    for (index, line) in std::fs::read_to_string(page).unwrap().lines().enumerate() {
        match (line.trim(), open.is_some()) {
            ("```", true) => blocks.extend(open.take().unwrap()),
            (_, true) => {
                if let Some(Some(Block { text, .. })) = &mut open {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            ("", false) => {}
            (fence, false) if fence.starts_with("```") => {
                let language = match &fence[3..] {
                    "sh" => Some(Language::Sh),
                    "console" => Some(Language::Console),
                    _ => None,
                };
                let at = format!("{name}, line {}", index + 1);
                open = Some(language.map(|language| Block::new(at, language, &directives)));
                directives.clear();
            }
            (line, false) => match line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->")) {
                Some(directive) => directives.push(directive.to_owned()),
                None => directives.clear(),
            },
        }
    }
    assert!(open.is_none(), "{name}: a block is not closed");
    blocks
}

/// README.md, CONTRIBUTING.md and the pages of docs/.
fn pages() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for dir in ["docs", "docs/monitoring"] {
        let entries = std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// The blocks of all pages that need `cluster`.
fn blocks_for(cluster: Needs) -> impl Iterator<Item = Block> {
    pages().into_iter().flat_map(|page| blocks_of(&page)).filter(move |block| block.cluster == cluster)
}

/// Why a block is not run.
fn reason_to_skip(block: &Block) -> Option<String> {
    let scripts = [block.text.as_str(), block.interrupt.as_deref().unwrap_or_default()];
    let uses = |tool: &str| {
        scripts.iter().any(|script| script.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == tool))
    };
    let missing = |tool: &&str| uses(tool) && shell(&format!("command -v {tool}")).code != 0;
    let missing = || OPTIONAL.into_iter().find(missing).map(|tool| format!("needs {tool}"));
    block.skip.clone().or_else(missing)
}

#[test]
fn commands_in_the_docs_run_on_a_local_cluster() {
    let (skipped, blocks): (Vec<_>, Vec<_>) =
        blocks_for(Needs::Local).partition(|block| reason_to_skip(block).is_some());
    for block in &skipped {
        println!("{}: skipped: {}", block.at, reason_to_skip(block).unwrap_or_default());
    }
    println!("{} blocks run, {} skipped", blocks.len(), skipped.len());
    let asked_for = skipped.iter().filter(|block| block.skip.is_some()).count();
    assert!(asked_for <= MOST_SKIPPED, "{asked_for} blocks are skipped");
    let (waiting, failures) = (Mutex::new(blocks), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(block) = next() {
                    let kafka = Cluster::start_local(1);
                    if let Err(failure) = block.run(&kafka.bootstrap) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of the blocks:\n{}", failures.len(), failures.join("\n"));
}

/// Runs all blocks that need `cluster` with `run`, one after the other.
fn run_all(cluster: Needs, run: impl Fn(Block) -> Result<(), String>) {
    let results: Vec<Result<(), String>> = blocks_for(cluster).map(run).collect();
    assert!(!results.is_empty());
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn commands_in_the_docs_run_on_a_real_broker() {
    require!(Kafka);
    run_all(Needs::Real, |block| block.run(&shared(Kafka::LATEST).bootstrap));
}

#[test]
fn commands_in_the_docs_run_with_a_schema_registry() {
    require!(Registry);
    // The registry is shared: examples about the same subject must not run at the same time.
    run_all(Needs::Registry, |block| block.run(&Cluster::start_local(1).bootstrap));
}

#[test]
fn commands_in_the_docs_run_on_a_secured_broker() {
    require!(Kafka, OpenSsl);
    run_all(Needs::Secured, |block| block.run(&secured()[0].kafka.bootstrap));
}

#[test]
fn what_varies_in_an_output_is_not_compared() {
    for (expected, printed, matches) in [
        ("{\"timestamp\":1795434844450,\"value\":\"1\"}\n", "{\"timestamp\":1,\"value\":\"1\"}\n", true),
        ("a 0.01 s\n", "a 1.5 s\n", true),
        ("a 0.01 s\n", "b 1.5 s\n", false),
        ("a\n…\nz\n", "a\nb\nc\nz\n", true),
        ("a\n", "a\nb\n", false),
        ("a … z\n", "a b c z\n", true),
        ("A    B\n", "A  B\n", true),
        ("", "unexpected\n", false),
    ] {
        let found = regex_lite::Regex::new(&pattern(expected)).unwrap().is_match(printed);
        assert_eq!(found, matches, "{expected:?} against {printed:?}");
    }
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let link = regex_lite::Regex::new(r"\]\(([^)#:]*)(?:#([^)]*))?\)").unwrap();
    let mut checked = 0;
    for page in pages() {
        for found in link.captures_iter(&std::fs::read_to_string(&page).unwrap()) {
            let target = if found[1].is_empty() { page.clone() } else { page.parent().unwrap().join(&found[1]) };
            assert!(target.exists(), "{}: {} does not exist", page.display(), &found[1]);
            if let Some(anchor) = found.get(2) {
                assert!(anchors(&target).iter().any(|a| a == anchor.as_str()), "{}: {}", page.display(), &found[0]);
            }
            checked += 1;
        }
    }
    assert!(checked > 20);
}
