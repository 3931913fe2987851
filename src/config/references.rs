//! References: values that name where a secret is, instead of the secret.

use super::lines::java_lines;
use super::readers::warn_of_readers;
use crate::error::describe_io;
use crate::files;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// The longest output of a command.
const COMMAND_LIMIT: u64 = 1 << 20;

/// Whether a source of settings may have commands run: only what belongs to the user may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commands {
    Allowed,
    Refused,
}

/// Whether the whole of `text` refers to where a value is.
pub(super) fn is_reference(text: &str) -> bool {
    let whole = |begin: &&str| text.starts_with(*begin) && text.find('}') == Some(text.len() - 1);
    ["${env:", "${file:", "${command:"].iter().any(whole)
}

/// The kind of the reference that `text`, which begins with `${`, begins with.
fn kind(text: &str) -> Option<&str> {
    let (kind, _) = text.strip_prefix("${")?.split_once(':')?;
    let is_name = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_name.then_some(kind)
}

/// Replaces references by what they refer to: `${env:NAME}`, `${file:PATH}` (the first line of a file),
/// `${file:PATH:KEY}` (a property in a file, as Kafka's FileConfigProvider has it) and `${command:LINE}` (the first
/// line that a shell command prints). `$${` is a literal `${`.
///
/// # Errors
/// A reference leads nowhere, or is of no known kind; the error contains no secret.
pub(super) fn look_up(text: &str, commands: Commands) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            whole.push_str(&rest[..at - 1]);
            whole.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        whole.push_str(&rest[..at]);
        let Some(kind) = kind(&rest[at..]) else {
            whole.push_str("${");
            rest = &rest[at + 2..];
            continue;
        };
        let after = &rest[at + "${:".len() + kind.len()..];
        let end = after.find('}').ok_or_else(|| format!("${{{kind}:… has no closing brace"))?;
        whole.push_str(&referred_to(kind, &after[..end], commands)?);
        rest = &after[end + 1..];
    }
    whole.push_str(rest);
    Ok(whole)
}

fn referred_to(kind: &str, what: &str, commands: Commands) -> Result<String, String> {
    match (kind, commands) {
        ("env", _) => std::env::var(what).map_err(|_| format!("${{env:{what}}}: no such variable")),
        ("file", _) => in_file(what),
        ("command", Commands::Allowed) => printed_by(what),
        ("command", Commands::Refused) => Err(
            "${command:…} is run only from a config.toml that you or root own and nobody else can write to, or with --allow-commands"
                .to_owned(),
        ),
        _ => Err(format!("${{{kind}:…}} is not supported (expected env, file or command; $${{ is a literal ${{)")),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn in_file(what: &str) -> Result<String, String> {
    let (path, key) = match what.rsplit_once(':') {
        Some((path, key)) => (path, Some(key)),
        None => (what, None),
    };
    let (bytes, metadata) = files::read_with_metadata(Path::new(path), files::SETTINGS_LIMIT)
        .map_err(|e| format!("{path}: {}", describe_io(&e)))?;
    warn_of_readers(Path::new(path), "a secret", &metadata);
    let bytes = files::without_mark(&bytes);
    let Some(key) = key else {
        return std::str::from_utf8(bytes).map(first_line).map_err(|_| format!("{path}: not UTF-8"));
    };
    let lines =
        java_lines(bytes).map_err(|malformed| format!("{path}, line {}: {}", malformed.number, malformed.why))?;
    let found = lines.into_iter().find(|line| line.name == key);
    found.map(|line| line.value).ok_or_else(|| format!("{path} has no {key}"))
}

fn printed_by(line: &str) -> Result<String, String> {
    let mut command = Command::new("sh");
    let command = command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| describe_io(&e))?;
    let output = child.stdout.take().map(|out| out.take(COMMAND_LIMIT + 1));
    let printed = output.map_or(Ok(Vec::new()), |out| files::read_all(out, COMMAND_LIMIT));
    if printed.is_err() {
        // Err: it has ended already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| describe_io(&e))?;
    let printed = printed.map_err(|e| format!("the output of the command {line}: {}", describe_io(&e)))?;
    if !status.success() {
        return Err(format!("the command {line} failed ({status})"));
    }
    let first = first_line(&String::from_utf8_lossy(&printed));
    if first.is_empty() { Err(format!("the command {line} printed nothing")) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_referred_to_is_put_in() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, keyed) = (dir.path().join("plain"), dir.path().join("keyed"));
        std::fs::write(&plain, "\u{feff}se}cret\nmore\n").unwrap();
        std::fs::write(&keyed, "other=1\npw=deep\n").unwrap();
        let (plain, keyed) = (plain.display(), keyed.display());
        let found = |text: &str| look_up(text, Commands::Allowed);
        assert_eq!(
            found(&format!("a ${{file:{plain}}} b ${{file:{keyed}:pw}} ${{command:echo c}} $d")).unwrap(),
            "a se}cret b deep c $d"
        );
        assert!(std::env::var("HOME").is_err() || found("${env:HOME}").unwrap() == std::env::var("HOME").unwrap());
        for (text, says) in [
            ("${env:KPIPE_NO_SUCH}", "no such variable"),
            ("${file:/none}", "/none: No such file"),
            ("${file:/dev/zero}", "larger than"),
            ("${command:exit 3}", "failed (exit status: 3)"),
            ("${command:true}", "printed nothing"),
            ("${command:yes}", "larger than"),
            ("${env:X", "no closing brace"),
            ("${vault:secret/kafka:pw}", "${vault:…} is not supported"),
            (&format!("${{file:{keyed}:none}}"), "has no none"),
        ] {
            let error = found(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(is_reference("${env:X}") && !is_reference("x${env:X}") && !is_reference("${env:X}y"));
    }

    #[test]
    fn a_doubled_dollar_makes_a_literal() {
        for (text, literal) in [
            ("$${env:HOME}", "${env:HOME}"),
            ("a$${b", "a${b"),
            ("${plain", "${plain"),
            ("${}", "${}"),
            ("$$", "$$"),
            ("$$${env:X}", "$${env:X}"),
        ] {
            assert_eq!(look_up(text, Commands::Refused).unwrap(), literal, "{text}");
        }
    }

    #[test]
    fn a_command_is_not_run_where_others_could_have_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("ran");
        let error = look_up(&format!("${{command:touch {}}}", mark.display()), Commands::Refused).unwrap_err();
        assert!(error.contains("--allow-commands"), "{error}");
        assert!(!mark.exists());
    }

    proptest! {
        #[test]
        fn any_text_is_met(text in "[a-z=:\\\\\n $\\{}.]{0,80}") {
            let _ = look_up(&text, Commands::Refused);
        }
    }
}
