//! `topics`: create, list, describe and delete.

use crate::support::{Kafka, Version, each, json_lines, require, shared};

#[test]
fn a_topic_is_created_described_and_deleted() {
    for kafka in each([
        Kafka::LATEST,
        Kafka::Real(Version::V3_9),
        Kafka::Real(Version::V2_8),
        Kafka::Real(Version::V1_1),
        Kafka::Local,
    ]) {
        let name = crate::support::fresh("created");
        let created =
            kafka.kpipe(&["topics", "create", &name, "--partitions", "3", "--config", "retention.ms=3600000"], b"");
        assert_eq!(created.stderr, format!("kpipe: created topic {name}\n"));
        kafka.kpipe(&["produce", &name, "-p", "1"], b"a\nb\n");
        let listed = json_lines(&kafka.kpipe(&["topics", "list", "-J"], b"").stdout);
        let one = listed.iter().find(|t| t["topic"] == name.as_str()).unwrap();
        assert_eq!((one["partitions"].as_i64(), one["replication_factor"].as_i64()), (Some(3), Some(1)));
        let described = json_lines(&kafka.kpipe(&["topics", "describe", &name, "-J"], b"").stdout);
        let partition = &described[0]["partitions"][1];
        assert_eq!((partition["first_offset"].as_i64(), partition["next_offset"].as_i64()), (Some(0), Some(2)));
        assert_eq!(partition["leader"], 1);
        let table = kafka.kpipe(&["topics", "describe", &name], b"").stdout;
        assert!(table.starts_with("TOPIC"), "{table}");
        assert_eq!(table.lines().take_while(|line| !line.is_empty()).count(), 4);

        let again = kafka.try_kpipe(&["topics", "create", &name], b"");
        assert_eq!(again.code, 1);
        assert!(again.stderr.contains("TOPIC_ALREADY_EXISTS"), "{}", again.stderr);
        let asked = kafka.try_kpipe(&["topics", "delete", &name], b"");
        assert_eq!(asked.code, 2);
        assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
        kafka.kpipe(&["topics", "delete", &name, "--yes"], b"");
        let gone = kafka.try_kpipe(&["topics", "describe", &name], b"");
        assert_eq!(gone.code, 1);
        assert!(gone.stderr.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{}", gone.stderr);
    }
}

#[test]
fn deleting_on_a_terminal_asks_for_confirmation() {
    require!(Script);
    let kafka = shared(Kafka::Local);
    let name = kafka.topic("asked", 1);
    // `script` gives the command a terminal.
    let on_terminal = |answer: &str| {
        let line = format!("kpipe -b {} topics delete {name}", kafka.bootstrap);
        crate::support::shell(&format!("printf '{answer}\\n' | script -qec '{line}' /dev/null"))
    };
    let kept = on_terminal("n");
    assert_eq!(kept.code, 2, "{}", kept.stdout);
    assert!(kept.stdout.contains(&format!("Delete {name} and all of its records? [y/N]")), "{}", kept.stdout);
    assert!(kept.stdout.contains("canceled; nothing was changed"), "{}", kept.stdout);
    assert_eq!(on_terminal("y").code, 0);
    assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains(&name));
}

#[test]
fn the_kafka_engine_lists_and_describes_topics() {
    require!(Kafka);
    for kafka in each([Kafka::Real(Version::V0_10_2), Kafka::Real(Version::V0_8_2)]) {
        let name = crate::support::fresh("old");
        kafka.kpipe(&["produce", &name, "-p", "1"], b"a\nb\n");
        assert!(kafka.kpipe(&["topics", "list"], b"").stdout.contains(&name));
        let described = json_lines(&kafka.kpipe(&["topics", "describe", &name, "-J"], b"").stdout);
        assert_eq!(described[0]["partitions"][1]["next_offset"], 2);
        let missing = kafka.try_kpipe(&["topics", "describe", "no-such-topic"], b"");
        assert!(missing.stderr.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{}", missing.stderr);
        let missing = kafka.try_kpipe(&["consume", "no-such-topic", "-e"], b"");
        assert!(missing.stderr.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{}", missing.stderr);
        assert!(!kafka.kpipe(&["topics", "list"], b"").stdout.contains("no-such-topic"), "reading creates no topic");
    }
}

#[test]
fn the_error_of_a_broker_is_named() {
    for (args, name) in [
        (&["topics", "create", "bad name"][..], "INVALID_TOPIC_EXCEPTION"),
        (&["topics", "create", "r", "--replication-factor", "9"], "INVALID_REPLICATION_FACTOR"),
        (&["topics", "create", "c", "--config", "no.such=1"], "INVALID_CONFIG"),
        (&["topics", "delete", "no-such-topic", "--yes"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["consume", "no-such-topic", "-e"], "UNKNOWN_TOPIC_OR_PARTITION"),
    ] {
        for kafka in each([Kafka::LATEST, Kafka::Local]) {
            let done = kafka.try_kpipe(args, b"");
            assert_eq!(done.code, 1, "{args:?}");
            assert!(done.stderr.contains(name), "{args:?}: {}", done.stderr);
        }
    }
}
