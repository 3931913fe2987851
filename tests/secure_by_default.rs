//! A setting that protects is honored or refused; secrets stay where they are; commands run only where the owner put them.

use crate::support::{Done, Kafka, kpipe, shared, shell};
use std::os::unix::fs::PermissionsExt;

/// `kpipe topics list` at a port where nobody listens: what is wrong with the settings comes first.
fn list(settings: &[&str]) -> Done {
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["-X", setting]).collect();
    kpipe(&[&["-b", "127.0.0.1:1"], &flags[..], &["topics", "list"]].concat(), b"")
}

#[test]
fn credentials_without_a_protocol_are_not_left_unused() {
    for (settings, says) in [
        (
            &["sasl.mechanism=PLAIN", "sasl.username=u", "sasl.password=p"][..],
            "security.protocol is not (set security.protocol=SASL_SSL",
        ),
        (&["ssl.enabled.protocols=TLSv1.3"], "set security.protocol=SSL"),
        (&["enable.ssl.certificate.verification=false"], "kpipe always verifies"),
        (&["ssl.sigalgs.list=ed25519"], "does not ignore it"),
        (&["fetch.min.bytes=nonsense"], "-X fetch.min.bytes=nonsense: expected a size"),
    ] {
        let done = list(settings);
        assert_eq!(done.code, 2, "{settings:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{settings:?}: {}", done.stderr);
    }
}

/// Kerberos would have been asked for, and the connection was in clear.
#[test]
fn a_property_of_security_that_kpipe_does_not_use_still_needs_a_protocol() {
    for setting in ["sasl.kerberos.service.name=kafka", "ssl.keymanager.algorithm=SunX509"] {
        let done = list(&[setting]);
        assert_eq!(done.code, 2, "{setting}: {}", done.stderr);
        assert!(done.stderr.contains("is set, but security.protocol is not"), "{setting}: {}", done.stderr);
        assert_eq!(list(&[setting, "security.protocol=PLAINTEXT"]).code, 1, "{setting}: nobody listens");
    }
    assert_eq!(list(&["ssl.provider="]).code, 1, "it is set to nothing");
}

#[test]
fn a_name_in_the_environment_that_protects_is_honored_or_refused() {
    let list = |variable: &str| shell(&format!("export {variable}; kpipe -b 127.0.0.1:1 topics list"));
    for (variable, says) in [
        ("KPIPE_SSL_SIGALGS_LIST=ed25519", "$KPIPE_SSL_SIGALGS_LIST ssl.sigalgs.list: kpipe does not support"),
        ("KPIPE_SECURITY_PROTOCL=SASL_SSL", "did you mean security.protocol?"),
        ("KPIPE_SASL_PASWORD=hunter2", "did you mean sasl.password?"),
    ] {
        let done = list(variable);
        assert_eq!(done.code, 2, "{variable}: {}", done.stderr);
        assert!(done.stderr.contains(says) && !done.stderr.contains("hunter2"), "{variable}: {}", done.stderr);
    }
    // Kubernetes sets this for a service that is called kpipe.
    assert_eq!(list("KPIPE_SERVICE_HOST=10.0.0.1 KPIPE_PORT=tcp://10.0.0.1:80").code, 1, "nobody listens");
}

#[test]
fn a_process_with_a_secret_leaves_no_core_dump() {
    let hard = shell("ulimit -H -c").stdout.trim().to_owned();
    if hard == "0" {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a.b.c\n").unwrap();
    // A command that `kpipe local` starts has the limits of kpipe.
    let limit = |settings: &str| {
        let done = shell(&format!("ulimit -S -c {hard}; kpipe local --port 0 {settings} -- sh -c 'ulimit -S -c'"));
        done.stdout.trim().to_owned()
    };
    assert_eq!(limit(""), hard);
    let secret = format!("-X client.id='${{file:{}}}'", token.display());
    for settings in ["-X security.protocol=PLAINTEXT -X sasl.password=x", &secret] {
        assert_eq!(limit(settings), "0", "{settings}");
    }
}

#[test]
fn a_key_or_secret_that_others_can_read_gets_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n").unwrap();
    let file = path.display();
    let (protocol, plaintext) = ("security.protocol=SSL", "security.protocol=PLAINTEXT");
    let (key, certificate) = (format!("ssl.key.location={file}"), format!("ssl.certificate.location={file}"));
    let reference = format!("sasl.password=${{file:{file}}}");
    for (settings, what) in
        [(&[plaintext, &reference][..], "a secret"), (&[protocol, &key, &certificate], "a private key")]
    {
        for (mode, who) in [(0o604, Some("every user")), (0o640, Some("its group")), (0o600, None)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let done = list(settings);
            match who.map(|who| format!("contains {what} and is readable by {who} (chmod 600 {file})")) {
                Some(warned) => assert!(done.stderr.contains(&warned), "{settings:?} {mode:o}: {}", done.stderr),
                None => assert!(!done.stderr.contains("readable by"), "{settings:?}: {}", done.stderr),
            }
        }
    }
}

#[test]
fn a_command_in_a_setting_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, file, config) =
        (dir.path().join("ran"), dir.path().join("client.properties"), dir.path().join("config.toml"));
    let reference = format!("${{command:touch {0}; echo me}}", mark.display());
    std::fs::write(&file, format!("client.id={reference}\n")).unwrap();
    let file = file.display().to_string();
    for flags in [&["-X", &format!("client.id={reference}")][..], &["-F", &file], &["-b", &reference]] {
        let done = kpipe(&[flags, &["topics", "list"]].concat(), b"");
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("--allow-commands"), "{}", done.stderr);
        assert!(!mark.exists(), "{flags:?}");
    }
    std::fs::write(&config, format!("[properties]\nclient.id = \"{reference}\"\n")).unwrap();
    let owned = |mode| {
        std::fs::set_permissions(&config, PermissionsExt::from_mode(mode)).unwrap();
        shell(&format!("KPIPE_CONFIG={} kpipe -b 127.0.0.1:1 topics list", config.display()))
    };
    assert_eq!(owned(0o666).code, 2);
    assert!(!mark.exists());
    owned(0o600);
    assert!(mark.exists(), "what the owner put into config.toml is run");
}

#[test]
fn dead_letters_are_private_and_follow_no_link() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("dead", 1);
    let dir = tempfile::tempdir().unwrap();
    let (letters, link) = (dir.path().join("letters"), dir.path().join("link"));
    let produce = |path: &std::path::Path| {
        let path = path.display().to_string();
        let flags = ["produce", &topic, "--input", "json", "--dead-letter", &path, "--on-error", "continue"];
        kafka.try_kpipe(&flags, b"{nonsense}\n")
    };
    assert_eq!(produce(&letters).code, 1);
    let metadata = std::fs::metadata(&letters).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() > 0);
    std::os::unix::fs::symlink(&letters, &link).unwrap();
    let done = produce(&link);
    assert!(done.stderr.contains("is a symbolic link"), "{}", done.stderr);
    assert_eq!(std::fs::metadata(&letters).unwrap().len(), metadata.len());
}

#[test]
fn a_metrics_file_replaces_nothing_but_a_file() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("metrics-file", 1);
    let dir = tempfile::tempdir().unwrap();
    let (file, link, pipe) = (dir.path().join("metrics"), dir.path().join("link"), dir.path().join("pipe"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(shell(&format!("mkfifo {}", pipe.display())).code, 0);
    for path in [&file, &link, &pipe, &dir.path().to_owned()] {
        let done = kafka.try_kpipe(&["produce", &topic, "--metrics-file", &path.display().to_string()], b"x\n");
        assert_eq!(done.stderr.contains("only a file is replaced"), *path != file, "{}", done.stderr);
    }
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&std::fs::metadata(&pipe).unwrap().file_type()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Rust opens /dev/null in place of a closed descriptor: what is written there would count as delivered.
#[test]
fn a_closed_stdin_or_stdout_is_an_error_before_anything_is_done() {
    let kafka = shared(Kafka::Local);
    let (topic, brokers) = (kafka.topic("closed", 1), &kafka.bootstrap);
    kafka.kpipe(&["produce", &topic], b"x\n");
    for (line, says) in [
        (format!("kpipe -b {brokers} produce {topic} <&-"), "stdin"),
        (format!("echo y | kpipe -b {brokers} produce {topic} --receipts >&-"), "stdout"),
        (format!("kpipe -b {brokers} consume {topic} -g closed -e >&-"), "stdout"),
        (format!("kpipe -b {brokers} topics list >&-"), "stdout"),
    ] {
        let done = shell(&line);
        assert_eq!(done.code, 1, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(says) && done.stderr.contains("closed"), "{line}: {}", done.stderr);
    }
    assert_eq!(kafka.values(&topic), ["x"]);
    let offsets = kafka.kpipe(&["groups", "list"], b"");
    assert!(!offsets.stdout.contains("closed"), "{}", offsets.stdout);
}

#[test]
fn fetch_min_bytes_holds_a_fetch_back() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("min-bytes", 1);
    kafka.kpipe(&["produce", &topic], b"x\n");
    // The broker waits for more than there is, until the limit is over.
    let read = |wait: &str| {
        let flags = ["-X", "fetch.min.bytes=1M", "-X", wait, "consume", &topic, "-o", "beginning", "-e"];
        let start = std::time::Instant::now();
        assert_eq!(kafka.kpipe(&flags, b"").stdout.lines().count(), 1);
        start.elapsed()
    };
    assert!(read("fetch.max.wait.ms=1500") >= std::time::Duration::from_millis(1_400));
}

#[test]
fn a_number_that_looks_like_a_flag_is_a_number() {
    let done = kpipe(&["produce", "t", "--timestamp", "-1"], b"");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("-1 is not in 0.."), "{}", done.stderr);
}

#[test]
fn every_dependency_has_a_reason_to_be_trusted() {
    let read = |name: &str| std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (manifest, reasons) = (read("Cargo.toml"), read("SECURITY.md"));
    let mut is_listed = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_listed = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| is_listed) {
            assert!(reasons.contains(&format!("`{name}`")), "SECURITY.md does not say why {name} is trusted");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}
