//! Parse, run, exit code.

use clap::Parser;
use kpipe::{cli, error};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match cli::Cli::try_parse() {
        Ok(args) => args,
        Err(asked) => {
            // --help and --version arrive here too; only they go to stdout. A closed stdout is no failure.
            let _ = asked.print();
            return ExitCode::from(if asked.use_stderr() { error::EXIT_USAGE } else { error::EXIT_OK });
        }
    };
    match cli::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let known = failure.error.downcast_ref::<error::Error>();
            // `kpipe consume t | head -1`: the reader has gone, with what it wanted.
            if !matches!(known, Some(error::Error::ReaderGone)) {
                eprintln!("kpipe: {failure}");
            }
            eprint!("{}", failure.advice.as_deref().unwrap_or_default());
            ExitCode::from(known.map_or(error::EXIT_FAILED, error::Error::exit_code))
        }
    }
}
