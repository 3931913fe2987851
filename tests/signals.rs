//! Signals and pipes: no record lost, the right exit code, no unneeded output.

use crate::support::{Cluster, Kafka, Running, Version, require, send_signal, shared, shell, wait_until};

#[test]
fn a_signal_ends_produce_after_the_input_read_so_far_is_delivered() {
    let kafka = shared(Kafka::Local);
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let topic = kafka.topic("signal", 1);
        let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--linger", "60s"]);
        running.write(b"a\nb\n");
        // --linger holds the records back until the signal.
        wait_until("reading", || running.unread() == 0);
        running.signal(signal);
        let done = running.ended();
        assert_eq!(done.code, code, "{}", done.stderr);
        assert_eq!(kafka.values(&topic), ["a", "b"]);
    }
}

#[test]
fn a_second_signal_ends_at_once_and_prints_the_number_of_unconfirmed_records() {
    require!(Kafka);
    let own = Cluster::start(Version::LATEST, 1, &[]);
    let mut stuck = Running::kpipe(&["-b", &own.bootstrap, "produce", "stuck"]);
    stuck.write(b"first\n");
    wait_until("the first record", || {
        let done = own.try_kpipe(&["consume", "stuck", "-o", "beginning", "-e"], b"");
        done.stdout.contains("first")
    });
    send_signal(own.pid(1), libc::SIGSTOP);
    stuck.write(b"second\nthird\n");
    wait_until("reading", || stuck.unread() == 0);
    // The kernel may merge two signals of the same kind.
    stuck.signal(libc::SIGTERM);
    stuck.signal(libc::SIGINT);
    let done = stuck.ended();
    send_signal(own.pid(1), libc::SIGCONT);
    assert!([130, 143].contains(&done.code), "{}", done.code); // the kernel chooses which comes last
    assert!(done.stderr.contains("2 records unacknowledged"), "{}", done.stderr);
}

#[test]
fn a_closed_pipe_ends_consume_without_a_message() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("gone", 1);
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    let consume = format!("kpipe -b {} consume {topic} -o beginning", kafka.bootstrap);
    let done = shell(&format!("{consume} --output value | head -1; exit ${{PIPESTATUS[0]}}"));
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "0\n", ""));
}

#[test]
fn a_full_disk_is_named() {
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("full", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    let done = shell(&format!("kpipe -b {} consume {topic} -o beginning -e >/dev/full", kafka.bootstrap));
    assert_eq!(done.code, 1);
    assert_eq!(done.stderr, "kpipe: writing to stdout: No space left on device\n");
}

#[test]
fn a_signal_before_the_broker_answers_leaves_the_input_unread() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (args, code) in [(&["produce", "t"][..], 130), (&["consume", "t"], 0), (&["topics", "list"], 130)] {
        let mut running = Running::kpipe(&[&["-b", &address], args].concat());
        running.write(b"kept\n");
        let connected = silent.accept().unwrap();
        running.signal(libc::SIGINT);
        assert_eq!(running.unread(), 5, "{args:?}");
        let done = running.ended();
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{args:?}: {}", done.stderr);
        drop(connected);
    }
}
