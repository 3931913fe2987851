//! Values that no clock, counter or memory can hold are refused, whatever flag, property or file they come from.

use crate::stdio_everywhere::COMMANDS;
use crate::support::{Kafka, json_lines, kpipe, report, shared, shell};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kpipe::cli::Cli;
use std::any::TypeId;
use std::time::Duration;

/// The flags of a command that take a duration, and the number of words that name the command.
fn durations(words: &[&str]) -> (Vec<String>, usize) {
    let mut command = Cli::command();
    command.build();
    let (mut leaf, mut depth) = (&command, 0);
    while let Some(sub) = words.get(depth).and_then(|word| leaf.find_subcommand(word)) {
        (leaf, depth) = (sub, depth + 1);
    }
    let takes_duration = |arg: &&clap::Arg| arg.get_value_parser().type_id() == TypeId::of::<Duration>();
    let flags = leaf.get_arguments().filter(takes_duration).filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
    (flags.collect(), depth)
}

#[test]
fn a_duration_that_no_clock_can_hold_is_refused_by_every_flag() {
    let mut count = 0;
    for (command, _) in COMMANDS {
        let words: Vec<&str> = command.split(' ').collect();
        let (flags, depth) = durations(&words);
        for flag in flags {
            for duration in ["10000000000000000000s", "1e19", "36501d", "-1s"] {
                let typed = format!("{flag}={duration}");
                let parsed = Cli::try_parse_from([&["kpipe"], &words[..depth], &[&typed], &words[depth..]].concat());
                assert_eq!(parsed.unwrap_err().kind(), ErrorKind::ValueValidation, "{command} {typed}");
            }
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
    report(&format!("durations: {count} flags"));
    for offset in ["@-10000000000000000000s", "-99999999999999999999", "@99999999999999999999"] {
        assert!(Cli::try_parse_from(["kpipe", "consume", "t", "-o", offset]).is_err(), "{offset}");
    }
}

#[test]
fn the_longest_durations_and_largest_numbers_end_in_no_panic() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("longest", 1);
    kafka.kpipe(&["produce", &topic], b"x\n");
    let produce = ["produce", &topic];
    let consume = ["consume", &topic, "-g", "longest", "-o", "beginning", "-e"];
    let mut settings: Vec<(&[&str], Vec<String>)> = Vec::new();
    for command in [&produce[..], &consume] {
        settings.extend(durations(command).0.into_iter().map(|flag| (command, vec![format!("{flag}=36500d")])));
        for line in json_lines(&kpipe(&["config", "properties", "-J"], b"").stdout) {
            let largest = match line["type"].as_str().unwrap() {
                "ms" => "2147483647",
                "size" => "2147483647",
                range if range.starts_with(|c: char| c.is_ascii_digit()) => range.rsplit(' ').next().unwrap(),
                _ => continue,
            };
            let name = line["property"].as_str().unwrap();
            settings.push((command, vec!["-X".to_owned(), format!("{name}={largest}")]));
        }
    }
    for (command, setting) in &settings {
        let flags: Vec<&str> = command.iter().copied().chain(setting.iter().map(String::as_str)).collect();
        let done = kafka.try_kpipe(&flags, b"x\n");
        assert!((0..=2).contains(&done.code), "{flags:?}: {}: {}", done.code, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{flags:?}: {}", done.stderr);
    }
    report(&format!("largest values: {} settings", settings.len()));
}

#[test]
fn a_file_without_end_is_refused_wherever_one_is_read() {
    let kafka = shared(Kafka::Local);
    let b = &kafka.bootstrap;
    for line in [
        "-F /dev/zero topics list",
        "-X client.id='${file:/dev/zero}' topics list",
        "-X client.id='${file:/dev/zero:key}' topics list",
        "--allow-commands -X client.id='${command:yes}' topics list",
        "-X security.protocol=SSL -X ssl.ca.location=/dev/zero topics list",
        "-X security.protocol=SSL -X ssl.crl.location=/dev/zero topics list",
        "-X security.protocol=SSL -X ssl.certificate.location=/dev/zero topics list",
        "-X security.protocol=SSL -X ssl.keystore.location=/dev/zero topics list",
        "acls create --input /dev/zero",
        "acls create --input - </dev/zero",
        "groups import /dev/zero",
        "topics reassign execute /dev/zero --yes",
        "produce endless /dev/zero",
        "produce endless --input json </dev/zero",
    ] {
        // Memory that is taken without bound ends in an abort here.
        let done = shell(&format!("ulimit -v 4000000; timeout 60 kpipe -b {b} {line}"));
        assert!((1..=2).contains(&done.code), "{line}: {}: {}", done.code, done.stderr);
    }
    let done = shell(&format!("export KPIPE_CONFIG=/dev/zero; timeout 60 kpipe -b {b} topics list"));
    assert!(done.code == 2 && done.stderr.contains("larger than"), "{}", done.stderr);
}

#[test]
fn a_file_of_settings_is_read_in_linear_time() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("client.properties"), dir.path().join("config.toml"));
    std::fs::write(&file, "client.id=x\n".repeat(300_000)).unwrap();
    let names = |n| format!("\"queue.{n}\" = 1\n");
    std::fs::write(&config, format!("[profiles.other]\n{}", (0..200_000).map(names).collect::<String>())).unwrap();
    let (file, config) = (file.display(), config.display());
    let done = shell(&format!("KPIPE_CONFIG={config} timeout 30 kpipe -F {file} config show"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("line 300000"), "{}", done.stdout);
}
