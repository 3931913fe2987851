//! How listings look, and how a command asks before it destroys.

use super::Context;
use crate::error::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// For people: done. Scripts have the exit code.
pub(super) fn say(context: &Context, text: &str) {
    if !context.quiet {
        eprintln!("kpipe: {text}");
    }
}

/// Asks on a terminal.
pub(super) fn confirm(command: &str, question: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!("{command} asks on a terminal; a script says --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Error::io("stdin", &e))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Error::Usage("nothing was done".to_owned())) }
}

/// Bytes as people read them.
pub(super) fn bytes(count: i64) -> String {
    indicatif::BinaryBytes(count.max(0) as u64).to_string()
}

/// Reads JSON lines, as `-J` writes them.
pub(super) fn json_lines<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|e| Error::Input {
            source_name: name.to_owned(),
            line: index as u64 + 1,
            byte: Some(e.column()),
            what: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })
    });
    parsed.collect()
}

/// Reads the JSON lines of a file; `-` is stdin.
pub(super) fn read_json_lines<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let (name, text) = if file == Path::new("-") {
        ("stdin".to_owned(), std::io::read_to_string(std::io::stdin()))
    } else {
        (file.display().to_string(), std::fs::read_to_string(file))
    };
    json_lines(&name, &text.map_err(|e| Error::io(&name, &e))?)
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

pub(super) fn right_align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

pub(super) fn print(text: &str) -> Result<()> {
    let trimmed: Vec<&str> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    print_bytes(format!("{}\n", trimmed.join("\n")).as_bytes())
}

pub(super) fn print_lines(lines: impl Iterator<Item = serde_json::Value>) -> Result<()> {
    print_bytes(lines.map(|line| format!("{line}\n")).collect::<String>().as_bytes())
}

/// Data, to stdout.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe => Error::ReaderGone,
        _ => Error::io("writing to stdout", &e),
    })
}
