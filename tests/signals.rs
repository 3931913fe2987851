//! Signals and pipes: nothing lost, the right exit code, no noise.

use crate::support::{Running, brokers, send_signal, shell, wait_until};

#[test]
fn a_signal_ends_produce_after_what_was_read_is_delivered() {
    let kafka = brokers("local");
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let topic = kafka.topic("signal", 1);
        let mut running = Running::kpipe(&["-b", &kafka.bootstrap, "produce", &topic, "--linger", "60s"]);
        running.write(b"a\nb\n");
        // Held back by --linger: only the signal sends them.
        wait_until("reading", || running.unread() == 0);
        running.signal(signal);
        let done = running.ended();
        assert_eq!(done.code, code, "{}", done.stderr);
        assert_eq!(kafka.values(&topic), ["a", "b"]);
    }
}

#[test]
fn a_second_signal_ends_at_once_and_counts_what_is_unconfirmed() {
    let own = crate::support::Cluster::start("4.3.1", 1, &[]);
    let mut stuck = Running::kpipe(&["-b", &own.bootstrap, "produce", "stuck"]);
    stuck.write(b"first\n");
    wait_until("the first record", || {
        let done = own.try_kpipe(&["consume", "stuck", "-o", "beginning", "-e"], b"");
        done.stdout.contains("first")
    });
    send_signal(own.pid(1), libc::SIGSTOP);
    stuck.write(b"second\nthird\n");
    wait_until("reading", || stuck.unread() == 0);
    // Two of the same could be taken for one.
    stuck.signal(libc::SIGTERM);
    stuck.signal(libc::SIGINT);
    let done = stuck.ended();
    send_signal(own.pid(1), libc::SIGCONT);
    assert!([130, 143].contains(&done.code), "{}", done.code); // which of the two comes last is the kernel's to say
    assert!(done.stderr.contains("2 records unacknowledged"), "{}", done.stderr);
}

#[test]
fn a_gone_reader_ends_consume_quietly() {
    let kafka = brokers("local");
    let topic = kafka.topic("gone", 1);
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    kafka.kpipe(&["produce", &topic], lines.as_bytes());
    let consume = format!("kpipe -b {} consume {topic} -o beginning", kafka.bootstrap);
    let done = shell(&format!("{consume} --output value | head -1; exit ${{PIPESTATUS[0]}}"));
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "0\n", ""));
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let kafka = brokers("local");
    let topic = kafka.topic("full", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    let done = shell(&format!("kpipe -b {} consume {topic} -o beginning -e >/dev/full", kafka.bootstrap));
    assert_eq!(done.code, 1);
    assert_eq!(done.stderr, "kpipe: writing to stdout: No space left on device\n");
}

#[test]
fn a_signal_before_the_broker_answers_takes_nothing_from_the_input() {
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
