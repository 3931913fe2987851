//! Secured clusters: the same properties file drives Kafka's own tools and kpipe; each thing that is wrong is named,
//! and no secret is ever shown.

use crate::support::{assert_no_secret, kpipe, outlives_sessions, require, secured, shell, wait_until};

#[test]
fn one_file_drives_kafkas_tools_and_kpipe() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        for listener in ["ssl", "sasl_plaintext", "sasl_ssl", "oauth"] {
            let topic = crate::support::fresh(&format!("secure-{listener}"));
            let lines: String = (0..5_000).map(|n| format!("{n:0100}\n")).collect();
            let made = secured.kpipe(listener, &["-vvv", "produce", &topic, "-z", "lz4"], lines.as_bytes());
            assert_eq!(made.code, 0, "{listener}: {}", made.stderr);
            let read = secured.kpipe(listener, &["consume", &topic, "-g", &topic, "-e", "--output", "value"], b"");
            assert_eq!(read.stdout, lines, "{listener}: {}", read.stderr);
            let config = secured.kafka.version().consumer_config_flag();
            let file = secured.file(&format!("{listener}.properties"));
            let java = secured.kafka.console_consume_at(secured.address(listener), &topic, 5_000, &[config, &file]);
            assert_eq!(java, lines, "{listener}");
        }
    }
}

#[test]
fn every_mechanism_is_spoken() {
    require!(Kafka, OpenSsl);
    let jaas = |class: &str, user: &str| {
        format!(
            "sasl.jaas.config=org.apache.kafka.common.security.{class} required username=\"{user}\" password=\"{user}-secret\";"
        )
    };
    for secured in secured() {
        for (mechanism, class, user) in [
            ("PLAIN", "plain.PlainLoginModule", "alice"),
            ("SCRAM-SHA-256", "scram.ScramLoginModule", "bob"),
            ("SCRAM-SHA-512", "scram.ScramLoginModule", "bob"),
        ] {
            let (mechanism, jaas) = (format!("sasl.mechanism={mechanism}"), jaas(class, user));
            let done = secured.kpipe("sasl_ssl", &["-X", &mechanism, "-X", &jaas, "topics", "list"], b"");
            assert_eq!(done.code, 0, "{mechanism}: {}", done.stderr);
        }
        // As librdkafka spells it.
        let ca = format!("ssl.ca.location={}", secured.file("ca.pem"));
        let spelled = [
            "security.protocol=sasl_ssl",
            "sasl.mechanisms=SCRAM-SHA-512",
            "sasl.username=bob",
            "sasl.password=bob-secret",
            &ca,
        ];
        let flags: Vec<&str> = spelled.iter().flat_map(|setting| ["-X", setting]).collect();
        let done = kpipe(&[&["-b", secured.address("sasl_ssl")], &flags[..], &["topics", "list"]].concat(), b"");
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
}

/// The brokers end a session after three seconds: whoever produces and consumes for longer notices nothing.
#[test]
fn a_session_is_renewed_before_it_ends() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        outlives_sessions(secured, "sasl_ssl", &secured.file("sasl_ssl.properties"));
    }
}

#[test]
fn what_is_wrong_is_named_and_not_tried_again() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let ca = format!("ssl.ca.location={}", secured.file("ca.pem"));
    let plain = &*secured.kafka.bootstrap;
    let (ssl, sasl, sasl_ssl) =
        (secured.address("ssl"), secured.address("sasl_plaintext"), secured.address("sasl_ssl"));
    let other_name = sasl_ssl.replace("127.0.0.1", "localhost");
    let scram = ["security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-512", "sasl.username=bob"];
    let cases: Vec<(&str, Vec<&str>, &str)> = vec![
        (ssl, vec![], "speaks TLS: this listener needs security.protocol=SSL"),
        (plain, vec!["security.protocol=SSL", &ca], "a listener without TLS does that"),
        (sasl_ssl, vec!["security.protocol=SSL"], "of a CA that is not trusted here"),
        (&other_name, [&scram[..], &["sasl.password=bob-secret", &ca]].concat(), "not valid for name \"localhost\""),
        (ssl, vec!["security.protocol=SSL", &ca], "the broker wants a client certificate"),
        (
            sasl_ssl,
            [&scram[..], &["sasl.password=wrong-secret", &ca]].concat(),
            "refuses user bob: SASL_AUTHENTICATION_FAILED",
        ),
        (
            sasl,
            vec![
                "security.protocol=SASL_PLAINTEXT",
                "sasl.mechanism=PLAIN",
                "sasl.username=alice",
                "sasl.password=wrong-secret",
            ],
            "refuses user alice: SASL_AUTHENTICATION_FAILED",
        ),
        (
            sasl,
            vec![
                "security.protocol=SASL_PLAINTEXT",
                "sasl.mechanism=SCRAM-SHA-256",
                "sasl.username=bob",
                "sasl.password=bob-secret",
            ],
            "does not take SASL SCRAM-SHA-256 (UNSUPPORTED_SASL_MECHANISM); it takes PLAIN, SCRAM-SHA-512",
        ),
        (
            plain,
            vec![
                "security.protocol=SASL_PLAINTEXT",
                "sasl.mechanism=PLAIN",
                "sasl.username=alice",
                "sasl.password=alice-secret",
            ],
            "wants no SASL on this listener",
        ),
    ];
    for (address, settings, says) in cases {
        let flags: Vec<&str> = settings.iter().flat_map(|setting| ["-X", setting]).collect();
        let started = std::time::Instant::now();
        let done = kpipe(&[&["-vv", "-b", address], &flags[..], &["produce", "t"]].concat(), b"x\n");
        assert_no_secret(&done);
        assert_eq!(done.code, 1, "{says}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{says}: {}", done.stderr);
        assert!(started.elapsed().as_secs() < 10, "{says}: it was tried again");
    }
    // A broker that goes down looks the same, so this one is tried again for a while.
    let done = kpipe(&["-b", sasl, "-X", "request.timeout.ms=1000", "produce", "t"], b"x\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("a listener that wants SASL does that"), "{}", done.stderr);
    // Without the check of the name the same is well.
    let trusting = [
        "-b",
        &other_name,
        "-F",
        &secured.file("sasl_ssl.properties"),
        "-X",
        "ssl.endpoint.identification.algorithm=",
        "topics",
        "list",
    ];
    assert_eq!(kpipe(&trusting, b"").code, 0);
}

#[test]
fn an_expired_certificate_and_old_tls_are_named() {
    require!(OpenSsl);
    let dir = tempfile::tempdir().unwrap();
    let make = format!(
        "cd {} && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=b -keyout b.key -out b.csr && echo subjectAltName=IP:127.0.0.1 >b.ext && \
         openssl x509 -req -in b.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile b.ext -days -1 -out b.crt",
        dir.path().display()
    );
    let made = shell(&make);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (flags, says) in
        [(&[][..], "the broker's certificate has expired"), (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "TLS with")]
    {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut server = std::process::Command::new("openssl");
        server
            .args(["s_server", "-accept", &port, "-cert", &path("b.crt"), "-key", &path("b.key"), "-quiet"])
            .args(flags);
        let server = crate::support::Running::start(server);
        wait_until("the server", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        let ca = format!("ssl.ca.location={}", path("ca.pem"));
        let done = kpipe(
            &["-b", &format!("127.0.0.1:{port}"), "-X", "security.protocol=SSL", "-X", &ca, "topics", "list"],
            b"",
        );
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(says), "{}", done.stderr);
        server.signal(libc::SIGKILL);
    }
}
