//! Where `consume` begins and ends.

use crate::support::{Cluster, Kafka, Running, Version, each, json_lines, kpipe, require, shared, values, wait_until};

#[test]
fn every_form_of_offset_is_understood() {
    for kafka in each([Kafka::LATEST, Kafka::Real(Version::V1_1), Kafka::Local]) {
        let topic = kafka.topic("where", 1);
        for n in 0..10 {
            let line = format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", 1_700_000_000_000i64 + n * 1000);
            kafka.kpipe(&["produce", &topic, "--input", "json"], line.as_bytes());
        }
        let from = |args: &[&str]| {
            let done = kafka.kpipe(&[&["consume", &topic, "-e"], args].concat(), b"");
            values(&done.stdout).concat()
        };
        assert_eq!(from(&["-o", "beginning"]), "0123456789");
        assert_eq!(from(&["-o", "end"]), "");
        assert_eq!(from(&[]), "", "from the end without a group");
        assert_eq!(from(&["-o", "7"]), "789");
        assert_eq!(from(&["-o", "-3"]), "789");
        assert_eq!(from(&["-o", "-300"]), "0123456789");
        assert_eq!(from(&["-o", "10"]), "");
        assert_eq!(from(&["-o", "@1700000004000"]), "456789");
        assert_eq!(from(&["-o", "@1700000004001"]), "56789");
        assert_eq!(from(&["-o", "@2023-11-14T22:13:26Z"]), "6789");
        assert_eq!(from(&["-o", "@-1m"]), "", "all are older");
        assert_eq!(from(&["-o", "beginning", "-c", "4"]), "0123");
        assert_eq!(from(&["-o", "beginning", "-p", "0"]), "0123456789");
    }
}

#[test]
fn the_kafka_engine_understands_the_same_except_times() {
    require!(Kafka);
    let kafka = shared(Kafka::Real(Version::V0_8_2));
    let topic = kafka.topic("where", 1);
    kafka.kpipe(&["produce", &topic, "-p", "0"], b"0\n1\n2\n3\n4\n");
    let from = |args: &[&str]| {
        let done = kafka.kpipe(&[&["consume", &topic, "-e", "-p", "0"], args].concat(), b"");
        values(&done.stdout).concat()
    };
    assert_eq!(from(&["-o", "beginning"]), "01234");
    assert_eq!(from(&["-o", "3"]), "34");
    assert_eq!(from(&["-o", "-1"]), "4");
    assert_eq!(from(&["-o", "beginning", "-c", "2"]), "01");
    assert_eq!(from(&["-o", "end"]), "");
}

#[test]
fn an_offset_out_of_range_is_refused_with_the_range() {
    for kafka in each([Kafka::LATEST, Kafka::Real(Version::V0_10_2), Kafka::Local]) {
        let topic = kafka.topic("range", 1);
        kafka.kpipe(&["produce", &topic, "-p", "0"], b"a\nb\n");
        let done = kafka.try_kpipe(&["consume", &topic, "-p", "0", "-o", "7", "-e"], b"");
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains("OFFSET_OUT_OF_RANGE"), "{}", done.stderr);
        assert!(done.stderr.contains("the partition has offsets 0 to 1"), "{}", done.stderr);
    }
}

#[test]
fn a_tailing_consumer_prints_each_record_as_it_arrives() {
    for kafka in each([Kafka::LATEST, Kafka::Real(Version::V0_10_2), Kafka::Local]) {
        let topic = kafka.topic("tail", 1);
        kafka.kpipe(&["produce", &topic], b"before\n");
        let tail = Running::kpipe(&["-b", &kafka.bootstrap, "consume", &topic, "-o", "beginning"]);
        wait_until("the old record", || tail.seen().contains("before"));
        let mut input = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic]);
        for n in 0..5 {
            input.write(format!("slow {n}\n").as_bytes());
            wait_until("a record while the input stays open", || tail.seen().contains(&format!("slow {n}")));
        }
        assert_eq!(input.finish().code, 0);
        tail.signal(libc::SIGTERM);
        let done = tail.finish();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(json_lines(&done.stdout).len(), 6);
    }
}

#[test]
fn partitions_that_do_not_exist_are_named() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("few", 2);
    for args in [&["consume", &topic, "-p", "1,5", "-e"][..], &["produce", &topic, "-p", "5"]] {
        let done = kafka.try_kpipe(args, b"x\n");
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(&format!("{topic}/5")), "{}", done.stderr);
        assert!(done.stderr.contains("2 partitions, 0 to 1"), "{}", done.stderr);
    }
}

/// They lead as they did, with an older epoch than the group's offsets have (KIP-320).
#[test]
fn a_group_does_not_begin_again_at_leaders_that_are_cut_off() {
    let kafka = Cluster::start_local(3);
    let (topic, local) = (kafka.topic("cut-off", 1), kafka.local());
    assert!(local.move_leader(&topic, 0, 3));
    local.move_coordinator(&topic, 1);
    local.isolate(2, true);
    local.isolate(3, true);
    assert!(local.move_leader(&topic, 0, 1));
    let brokers: Vec<&str> = kafka.bootstrap.split(',').collect();
    let connected = kpipe(&["-b", brokers[0], "produce", &topic, "-q"], b"a\nb\nc\n");
    assert_eq!(connected.code, 0, "{}", connected.stderr);
    let read = |bootstrap: &str| {
        let args = ["consume", &topic, "-p", "0", "-g", &topic, "-o", "beginning", "-e", "--output", "value", "-v"];
        let done = kpipe(&[&["-b", bootstrap][..], &args].concat(), b"");
        assert_eq!(done.code, 0, "{}", done.stderr);
        done
    };
    assert_eq!(read(brokers[0]).stdout, "a\nb\nc\n");
    let again = read(brokers[2]);
    assert!(again.stderr.contains("UNKNOWN_LEADER_EPOCH"), "one that is cut off was asked: {}", again.stderr);
    assert!(again.stdout.is_empty() && !again.stderr.contains("committed offset"), "{}", again.stderr);
}
