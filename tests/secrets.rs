//! No secret is printed: a marker goes through every secret property, from every source, at every log level.

use crate::support::{Done, Kafka, json_lines, kpipe, report, shared};
use std::os::unix::fs::PermissionsExt;

const MARKER: &str = "hunter2hunter2";

/// Settings in which secrets are used, as far as each needs others.
const USES: [&[&str]; 4] = [
    &["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=u"],
    &["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-512", "sasl.username=u"],
    &[
        "security.protocol=SASL_PLAINTEXT",
        "sasl.mechanism=OAUTHBEARER",
        "sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:1/token",
        "sasl.oauthbearer.client.id=c",
    ],
    &["security.protocol=SSL", "ssl.ca.location=/dev/null"],
];

/// Names of secret properties and their aliases, as the program lists them.
fn secrets() -> Vec<String> {
    let listed = json_lines(&kpipe(&["config", "properties", "-J"], b"").stdout);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let is_secret = |line: &&serde_json::Value| line["type"] == "secret";
    let names = |line: &serde_json::Value| {
        let aliases = line["aliases"].as_array().unwrap().iter().map(text);
        std::iter::once(text(&line["property"])).chain(aliases).collect::<Vec<_>>()
    };
    listed.iter().filter(is_secret).flat_map(names).collect()
}

/// What a secret is set to: text with the marker that is one of its values, where not every text is.
fn value(name: &str) -> String {
    match name {
        "sasl.jaas.config" => {
            format!("x required username=\"u\" password=\"{MARKER}\" clientId=\"c\" clientSecret=\"{MARKER}\";")
        }
        _ => MARKER.to_owned(),
    }
}

fn assert_hidden(what: &str, done: &Done) {
    assert!(!done.stdout.contains(MARKER) && !done.stderr.contains(MARKER), "{what}: {}{}", done.stdout, done.stderr);
}

#[test]
fn a_secret_is_shown_at_no_log_level_in_no_error_and_no_listing() {
    let names = secrets();
    assert!(names.len() >= 14, "{names:?}");
    let (brokers, mut searched) = (&shared(Kafka::Local).bootstrap, 0);
    for (index, name) in names.iter().enumerate() {
        let secret = format!("{name}={}", value(name));
        for (number, uses) in USES.iter().enumerate() {
            let settings: Vec<&str> =
                uses.iter().copied().chain([&*secret]).flat_map(|setting| ["-X", setting]).collect();
            // Each level with each format, and each of these with several secrets.
            let level = ["-v", "-vv", "-vvv", "-vvvv"][(index + number) % 4];
            let format = ["text", "json"][index / 4 % 2];
            let flags = [&["-b", brokers, level, "--log-format", format], &settings[..]].concat();
            for command in
                [&["topics", "list"][..], &["produce", "t"], &["config", "show", "-a"], &["config", "show", "-J"]]
            {
                let done = kpipe(&[&flags, command].concat(), b"");
                assert_hidden(&format!("{flags:?} {command:?}"), &done);
                searched += 1;
            }
        }
    }
    report(&format!("secrets: the output of {searched} runs was searched for {} properties", names.len()));
}

#[test]
fn a_secret_is_not_shown_wherever_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("client.properties"), dir.path().join("config.toml"));
    for name in secrets() {
        let variable = format!("KPIPE_{}", name.to_uppercase().replace('.', "_"));
        let value = value(&name);
        std::fs::write(&file, format!("{name}={value}\n")).unwrap();
        std::fs::write(&config, format!("[profiles.p]\n{name} = '{value}'\n")).unwrap();
        for path in [&file, &config] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        }
        for more in
            [&["config", "show", "-a"][..], &["-vvvv", "topics", "list"], &["-vvvv", "-X", "acks=no", "config", "show"]]
        {
            let file = file.display().to_string();
            let flags = [&["-b", "127.0.0.1:1", "-F", &file, "--profile", "p"], more].concat();
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kpipe"));
            command.args(&flags).env(&variable, &value).env("KPIPE_CONFIG", &config);
            let output = command.output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert!(!stdout.contains(MARKER) && !stderr.contains(MARKER), "{name} {flags:?}: {stdout}{stderr}");
            if more == ["config", "show", "-a"] {
                assert_eq!(stdout.matches("***").count(), 3, "{name}: {stdout}{stderr}");
            }
        }
    }
}

#[test]
fn a_malformed_setting_or_url_does_not_show_its_secret() {
    let url = format!("https://me:{MARKER}@127.0.0.1:1/");
    for setting in [
        format!("sasl.password {MARKER}"),
        format!("sasl.jaas.config=x required password=\"{MARKER}"),
        format!("sasl.oauthbearer.token.endpoint.url={url}"),
        format!("bootstrap.servers={url}"),
        format!("client.id={url}"),
        format!("linger.ms={url}"),
        format!("security.protocol={url}"),
    ] {
        for command in [&["topics", "list"][..], &["config", "show"]] {
            let flags = ["-b", "127.0.0.1:1", "-vvvv", "-X", &setting];
            let bearer = ["-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=OAUTHBEARER"];
            for more in [&[][..], &bearer] {
                assert_hidden(&setting, &kpipe(&[&flags, more, command].concat(), b""));
            }
        }
    }
    assert_hidden("-b", &kpipe(&["-b", &url, "-vvvv", "topics", "list"], b""));
}

#[test]
fn a_password_on_stdin_is_not_shown() {
    let kafka = shared(Kafka::Local);
    let done = kafka.try_kpipe(&["-vvvv", "cluster", "users", "create", "u"], format!("{MARKER}\n").as_bytes());
    assert_hidden("users create", &done);
}
