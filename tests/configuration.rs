//! Other clients' files work unchanged; `config show` prints where each value comes from, and no secret.

use crate::support::{json_lines, kpipe, require, secured, shell};
use std::os::unix::fs::PermissionsExt;

#[test]
fn one_file_works_for_kcat_and_kpipe() {
    require!(Kafka, OpenSsl, Kcat);
    let secured = &secured()[0];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kcat.conf");
    let text = format!(
        "# kcat's\nmetadata.broker.list={}\nsecurity.protocol=sasl_ssl\nsasl.mechanisms=PLAIN\n\
         sasl.username=alice\nsasl.password=alice-secret\nssl.ca.location={}\nqueued.max.messages.kbytes=1000\n\
         topic.request.required.acks=all\nlog.connection.close=false\n",
        secured.address("sasl_ssl"),
        secured.file("ca.pem")
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let topic = secured.kafka.topic("kcat-conf", 1);
    let file = file.display();
    let done = shell(&format!(
        "set -e; seq 3 | kpipe -q -F {file} produce {topic}; kcat -q -F {file} -C -t {topic} -o beginning -e; \
         kpipe -F {file} consume {topic} -o beginning -e --output value"
    ));
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n2\n3\n1\n2\n3\n", ""));
}

#[test]
fn a_profile_sets_the_properties_of_a_cluster_and_its_topics() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let dir = tempfile::tempdir().unwrap();
    let (config, password) = (dir.path().join("config.toml"), dir.path().join("password"));
    std::fs::write(&password, "bob-secret\n").unwrap();
    let topic = secured.kafka.topic("of-a-profile", 1);
    let text = format!(
        "profile = \"nowhere\"\n[profiles.nowhere]\nbootstrap.servers = \"127.0.0.1:1\"\n\
         [profiles.prod]\nbootstrap.servers = \"{}\"\nsecurity.protocol = \"SASL_SSL\"\n\
         sasl.mechanism = \"SCRAM-SHA-256\"\nsasl.username = \"bob\"\nsasl.password = \"${{file:{}}}\"\n\
         ssl.ca.location = \"{}\"\n[profiles.prod.topics.{topic}]\ncompression.type = \"zstd\"\n",
        secured.address("sasl_ssl"),
        password.display(),
        secured.file("ca.pem")
    );
    std::fs::write(&config, text).unwrap();
    let run = |line: &str| shell(&format!("export KPIPE_CONFIG={}; {line}", config.display()));
    let done = run(&format!(
        "seq 2 | kpipe --profile prod produce {topic} && kpipe --profile prod consume {topic} -o beginning -e --output value"
    ));
    assert_eq!(done.stdout, "1\n2\n", "{}", done.stderr);
    let by_name = run(&format!("KPIPE_PROFILE=prod kpipe config show -J --topic {topic}"));
    let shown = json_lines(&by_name.stdout);
    let of = |name: &str| shown.iter().find(|line| line["property"] == name).unwrap().clone();
    assert_eq!(of("compression.type")["value"], "zstd");
    assert!(of("sasl.username")["origin"].as_str().unwrap().ends_with("config.toml, line 8, profile prod"));
    assert!(of("sasl.password")["value"].as_str().unwrap().starts_with("${file:"), "the reference is not secret");
    let nowhere = run("kpipe topics list");
    assert!(nowhere.stderr.contains("cannot reach 127.0.0.1:1"), "{}", nowhere.stderr);
    let from_environment = run(&format!(
        "export KPIPE_BROKERS={} KPIPE_SECURITY_PROTOCOL=PLAINTEXT; kpipe topics list -J && kpipe config show -a",
        secured.kafka.bootstrap
    ));
    assert!(from_environment.stdout.contains(&topic), "{}", from_environment.stderr);
    assert!(from_environment.stdout.contains("line 3, profile nowhere (overridden)"), "{}", from_environment.stdout);
}

#[test]
fn a_mistake_in_a_file_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    let show = |text: &str| {
        std::fs::write(&file, text).unwrap();
        kpipe(&["-F", &file.display().to_string(), "config", "show"], b"")
    };
    for (text, message) in [
        (
            "acks=all\n\nbootstrap.server=a\n",
            "line 3: bootstrap.server: unknown property; did you mean bootstrap.servers?",
        ),
        ("acks=all\nclient.id=\\uzzzz\n", "line 2: malformed"),
    ] {
        let done = show(text);
        assert_eq!(done.code, 2, "{text:?}: {}", done.stdout);
        assert!(done.stderr.contains(message), "{text:?}: {}", done.stderr);
    }
    let harmless =
        show("key.deserializer=x\nmax.poll.records=5\nenable.auto.commit=false\nschema.registry.url=http://x\n");
    assert_eq!((harmless.code, harmless.stderr.as_str()), (0, ""));
}

#[test]
fn a_secret_that_every_user_can_read_gets_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    std::fs::write(&file, "sasl.username=bob\nsasl.password=bob-secret\n").unwrap();
    let show = |mode: u32| {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        kpipe(&["-F", &file.display().to_string(), "config", "show"], b"")
    };
    let open = show(0o644);
    assert!(open.stderr.contains("contains sasl.password and is readable by every user (chmod 600"), "{}", open.stderr);
    assert!(open.stdout.contains("***"), "{}", open.stdout);
    assert!(show(0o640).stderr.contains("is readable by its group"), "{}", show(0o640).stderr);
    assert_eq!(show(0o600).stderr, "");
}
