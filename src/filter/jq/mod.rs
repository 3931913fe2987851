//! jq programs, run by jaq on the JSON of a record.

mod limits;
mod program;
#[cfg(test)]
mod tests;

use super::failure::Failure;
use crate::codec::Path;
use jaq_core::{Ctx, Vars};
use jaq_json::{Val, read, write};
use limits::Guard;
use program::{Globals, Kind};

/// A compiled program.
pub struct Jq {
    filter: jaq_core::Filter<Kind>,
    guard: Guard,
    is_raw: bool,
    /// Set if the program is nothing but the path of a field: that one is found without reading the rest.
    path: Option<Path>,
}

impl std::fmt::Debug for Jq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jq")
    }
}

/// One result of a program.
pub struct Output<'a> {
    value: &'a Val,
    is_raw: bool,
}

impl Output<'_> {
    /// Appends the result as compact JSON; a string as it is, if that was asked for.
    pub fn append(&self, out: &mut Vec<u8>) {
        match self.value {
            Val::TStr(text) if self.is_raw => out.extend_from_slice(text),
            value => {
                let _ = write::write(out, &write::Pp::default(), 0, value); // a Vec takes all
            }
        }
    }
}

/// The path that `source` is, if it is one of plain names: `.value.id`.
fn plain_path(source: &str) -> Option<Path> {
    let source = source.trim();
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_path = source.strip_prefix('.').is_some_and(|names| names.split('.').all(is_plain));
    if is_path { source.parse().ok() } else { None }
}

impl Jq {
    /// Compiles `source`. With `is_raw` strings are written without quotes. A program ends when `is_interrupted` says so.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub fn compile(source: &str, is_raw: bool, is_interrupted: impl Fn() -> bool + 'static) -> Result<Self, String> {
        let filter = program::compile(source)?;
        Ok(Self { filter, guard: Guard::new(is_interrupted), is_raw, path: plain_path(source) })
    }

    /// Runs the program on `json` and passes each result to `receive`, which returns whether it wants more.
    ///
    /// # Errors
    /// The program did not end of itself; what it resulted in before was passed on.
    pub fn run(&self, json: &[u8], mut receive: impl FnMut(Output<'_>) -> bool) -> Result<(), Failure> {
        // Where there is no such field, the program itself tells null from an error.
        let field = self.path.as_ref().and_then(|path| path.find_last(json)).map(read::parse_single);
        if let Some(Ok(value)) = field {
            let wants_more = receive(Output { value: &value, is_raw: self.is_raw });
            return if wants_more { Ok(()) } else { Err(Failure::Receiver) };
        }
        let input = read::parse_single(json).map_err(|e| Failure::Raised(e.to_string()))?;
        self.guard.begin();
        let globals = Globals { lut: &self.filter.lut, guard: &self.guard };
        for result in self.filter.id.run((Ctx::<Kind>::new(globals, Vars::new([])), input)) {
            let value = result.map_err(|exception| match (self.guard.reached(), exception.get_err()) {
                (Some(limit), _) => Failure::Limited(limit),
                (None, Ok(error)) => Failure::Raised(error.to_string()),
                (None, Err(_)) => Failure::Raised("halt is not supported".to_owned()),
            })?;
            if !receive(Output { value: &value, is_raw: self.is_raw }) {
                return Err(Failure::Receiver);
            }
        }
        // A program may have caught what ended it.
        self.guard.reached().map_or(Ok(()), |limit| Err(Failure::Limited(limit)))
    }
}
