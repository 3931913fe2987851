//! How listings look: tables for people, JSON lines for scripts.

pub(super) use super::report::say;
use crate::error::{EXIT_FAILED, EXIT_OK, Error, InputPlace, Result};
use crate::files;
use crate::input::BadLine;
use crate::text::{escaped, escaped_json};
use comfy_table::{CellAlignment, presets};
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The largest file of ACLs, plans or offsets.
const INPUT_LIMIT: u64 = 256 << 20;

/// A table whose cells may hold what others wrote.
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// Adds a row, its cells escaped.
    pub(super) fn add_row<C: fmt::Display>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.0.add_row(cells.into_iter().map(|cell| escaped(&cell.to_string()).into_owned()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    Table(table)
}

pub(super) fn right_align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.0.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Bytes as people read them.
pub(super) fn bytes(count: i64) -> String {
    indicatif::BinaryBytes(count.max(0) as u64).to_string()
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// Prints tables.
pub(super) fn print(text: &str) -> Result<()> {
    let trimmed: Vec<&str> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    print_bytes(format!("{}\n", trimmed.join("\n")).as_bytes())
}

pub(super) fn print_lines(lines: impl Iterator<Item = serde_json::Value>) -> Result<()> {
    print_bytes(lines.map(|line| format!("{}\n", escaped_json(&line.to_string()))).collect::<String>().as_bytes())
}

/// Data, to stdout.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Error::ReaderGone,
        _ => Error::io("writing to stdout", &e),
    })
}

/// Reports why a listing, which was printed, has unknown values; the exit code.
pub(super) fn report_incomplete<'a>(errors: impl IntoIterator<Item = &'a Error>) -> u8 {
    let mut code = EXIT_OK;
    for error in errors {
        super::report::tell(super::hints::WithHint(error));
        code = EXIT_FAILED;
    }
    code
}

/// Reads JSON lines, as `-J` writes them.
fn json_lines<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|e| {
            let BadLine { byte, what, .. } = e.into();
            Error::Input { source_name: name.to_owned(), place: InputPlace::Line(index as u64 + 1), byte, what }
        })
    });
    parsed.collect()
}

/// Reads the JSON lines of a file; `-` is stdin.
pub(super) fn read_json_lines<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let (name, bytes) = if file == Path::new("-") {
        if crate::stdio::is_stdin_closed() {
            return Err(Error::Io("stdin is closed".to_owned()));
        }
        ("stdin".to_owned(), files::read_all(std::io::stdin(), INPUT_LIMIT))
    } else {
        (file.display().to_string(), files::read(file, INPUT_LIMIT))
    };
    let bytes = bytes.map_err(|e| Error::io(&name, &e))?;
    let text = std::str::from_utf8(files::without_mark(&bytes)).map_err(|_| Error::Io(format!("{name}: not UTF-8")))?;
    json_lines(&name, text)
}
