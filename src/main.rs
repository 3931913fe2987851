//! Parse, run, exit code.

use clap::Parser;
use kpipe::{cli, error, stdio};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Nothing is done, read or committed for output that has nowhere to go.
    if stdio::is_stdout_closed() {
        cli::report_failure(&error::Error::Io("stdout is closed".to_owned()).into());
        return ExitCode::from(error::EXIT_FAILED);
    }
    let args = match cli::Cli::try_parse() {
        Ok(args) => args,
        Err(asked) => return answer(&asked),
    };
    match cli::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            cli::report_failure(&failure);
            let known = failure.error.downcast_ref::<error::Error>();
            ExitCode::from(known.map_or(error::EXIT_FAILED, error::Error::exit_code))
        }
    }
}

/// Prints help, the version, or what is wrong with the arguments; only the first two go to stdout.
fn answer(asked: &clap::Error) -> ExitCode {
    let printed = asked.print().and_then(|()| std::io::stdout().flush());
    ExitCode::from(match printed {
        _ if asked.use_stderr() => error::EXIT_USAGE,
        Err(e) if e.kind() != ErrorKind::BrokenPipe => error::EXIT_FAILED,
        _ => error::EXIT_OK,
    })
}
