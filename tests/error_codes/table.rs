//! The table as it is committed: for each request, what kpipe does and the codes that it does it for.

use super::cases::CASES;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// What kpipe does about an error that is answered once, and about one that is always answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub once: String,
    pub always: String,
}

/// Rows by the names of a request and an error.
pub struct Table(BTreeMap<(String, String), Row>);

const ABOVE: &str = "\
What kpipe does about each error of each request that it sends, answered once and always. Written by
KPIPE_CODES=all KPIPE_UPDATE_CODES=1 cargo test --test promises every_error_code

- \"retried\" is followed by what is looked up or begun again before; \"ignored\" means that the command succeeds.
- \"exit\" is followed by the exit code and what is printed, where ERROR stands for the error's name.
- T and D are topics, N is a new topic, group or transactional ID, G a new group, H a group with offsets.
";
const WIDTH: usize = 120;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/error_codes/table.txt")
}

impl Table {
    pub fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let (mut rows, mut case) = (BTreeMap::new(), String::new());
        let mut row = Row { once: String::new(), always: String::new() };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                case = name.split(": kpipe ").next().unwrap().to_owned();
            } else if let Some(once) = line.strip_prefix("once: ") {
                row = Row { once: once.to_owned(), always: once.to_owned() };
            } else if let Some(always) = line.strip_prefix("always: ") {
                row.always = always.to_owned();
            } else if let Some(names) = line.strip_prefix("    ") {
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                rows.extend(names.map(|name| ((case.clone(), name.to_owned()), row.clone())));
            }
        }
        Self(rows)
    }

    pub fn row(&self, case: &str, error: &str) -> Option<&Row> {
        self.0.get(&(case.to_owned(), error.to_owned()))
    }
}

/// Writes the table; `rows` are those of all cases and codes.
pub fn write(rows: &BTreeMap<(usize, i16), Row>, name: impl Fn(i16) -> String) {
    let mut out = ABOVE.to_owned();
    for (index, case) in CASES.iter().enumerate() {
        let _ = write!(out, "\n## {}: kpipe {}\n", case.name, case.args);
        let mut groups: Vec<(&Row, Vec<String>)> = Vec::new();
        for ((_, code), row) in rows.range((index, i16::MIN)..=(index, i16::MAX)) {
            match groups.iter_mut().find(|(of, _)| *of == row) {
                Some((_, names)) => names.push(name(*code)),
                None => groups.push((row, vec![name(*code)])),
            }
        }
        for (row, names) in groups {
            let _ = writeln!(out, "once: {}", row.once);
            if row.always != row.once {
                let _ = writeln!(out, "always: {}", row.always);
            }
            let mut line = String::from("   ");
            for name in names {
                if line.len() + name.len() + 2 > WIDTH {
                    let _ = writeln!(out, "{line}");
                    line = String::from("   ");
                }
                let _ = write!(line, " {name},");
            }
            let _ = writeln!(out, "{}", line.trim_end_matches(','));
        }
    }
    std::fs::write(path(), out).unwrap();
}
