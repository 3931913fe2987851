//! `docs/reference.md` is the `--help` of every command: no flag or word changes unseen.

use clap::CommandFactory;
use kpipe::cli::Cli;
use std::fmt::Write;

/// The variable that has the file rewritten instead of compared.
const UPDATE: &str = "KPIPE_UPDATE_REFERENCE";
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");

/// Appends the help of `command` and of all its subcommands; global options only at the top.
fn describe(command: &mut clap::Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(out, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
        *subcommand = std::mem::take(subcommand).mut_args(|arg| {
            let is_global = arg.get_help_heading() == Some("Global options");
            arg.hide(is_global)
        });
        describe(subcommand, out);
    }
}

/// The whole help, 100 columns wide, without color.
fn reference() -> String {
    let mut out = String::from(
        "# Command-line reference\n\nThe `--help` of every command. Global options are listed once, under `kpipe`; every \
         command accepts them. This\nfile is generated: [CONTRIBUTING.md](../CONTRIBUTING.md) says how to update it.\n",
    );
    let mut command = Cli::command().term_width(100);
    command.build();
    describe(&mut command, &mut out);
    out
}

#[test]
fn reference_is_the_help_of_every_command() {
    let generated = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(PATH, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (generated, committed) = (lines(&generated), lines(&committed));
    let same = generated.iter().zip(&committed).take_while(|(new, old)| new == old).count();
    assert!(
        generated == committed,
        "docs/reference.md, line {}:\n  committed: {:?}\n  generated: {:?}\n\
         If the change is intended: {UPDATE}=1 cargo test --test promises reference",
        same + 1,
        committed.get(same).map_or("", String::as_str),
        generated.get(same).map_or("", String::as_str),
    );
}
