//! Secured clusters: one properties file works for Kafka's own tools and for kpipe, mistakes are named, and no secret is
//! printed.

use crate::support::{
    Running, Secured, assert_no_secret, kpipe, outlives_sessions, require, secured, shell, wait_until,
};

#[test]
fn one_properties_file_works_for_kafkas_tools_and_kpipe() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        for listener in ["ssl", "sasl_plaintext", "sasl_ssl", "oauth"] {
            let topic = crate::support::fresh(&format!("secure-{listener}"));
            let lines: String = (0..5_000).map(|n| format!("{n:0100}\n")).collect();
            let produced = secured.kpipe(listener, &["-vvv", "produce", &topic, "-z", "lz4"], lines.as_bytes());
            assert_eq!(produced.code, 0, "{listener}: {}", produced.stderr);
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
fn every_sasl_mechanism_works() {
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
        // With librdkafka's names.
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

/// The brokers end sessions after three seconds; a producer and a consumer that run for longer see no error.
#[test]
fn a_session_is_renewed_before_it_ends() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        outlives_sessions(secured, "sasl_ssl", &secured.file("sasl_ssl.properties"));
    }
}

/// What a listener, with settings that do not fit it, is answered with.
fn mismatches(secured: &Secured) -> Vec<(String, Vec<String>, &'static str)> {
    let ca = format!("ssl.ca.location={}", secured.file("ca.pem"));
    let plain = secured.kafka.bootstrap.clone();
    let [ssl, sasl, sasl_ssl] = ["ssl", "sasl_plaintext", "sasl_ssl"].map(|name| secured.address(name).to_owned());
    let tls = |more: &[&str]| [&["security.protocol=SSL"], more].concat().into_iter().map(str::to_owned).collect();
    let login = |protocol: &str, mechanism: &str, user: &str, password: &str| {
        vec![
            format!("security.protocol={protocol}"),
            format!("sasl.mechanism={mechanism}"),
            format!("sasl.username={user}"),
            format!("sasl.password={password}"),
            ca.clone(),
        ]
    };
    vec![
        (ssl.clone(), Vec::new(), "this listener needs security.protocol=SSL"),
        (plain.clone(), tls(&[&ca]), "a listener without TLS does that"),
        (sasl_ssl.clone(), tls(&[]), "was issued by an untrusted CA"),
        (
            sasl_ssl.replace("127.0.0.1", "localhost"),
            login("SASL_SSL", "SCRAM-SHA-512", "bob", "bob-secret"),
            "not valid for name \"localhost\"",
        ),
        (ssl, tls(&[&ca]), "the broker requires a client certificate"),
        (
            sasl_ssl,
            login("SASL_SSL", "SCRAM-SHA-512", "bob", "wrong-secret"),
            "rejected user bob: SASL_AUTHENTICATION_FAILED",
        ),
        (
            sasl.clone(),
            login("SASL_PLAINTEXT", "PLAIN", "alice", "wrong-secret"),
            "rejected user alice: SASL_AUTHENTICATION_FAILED",
        ),
        (
            sasl,
            login("SASL_PLAINTEXT", "SCRAM-SHA-256", "bob", "bob-secret"),
            "does not support SASL SCRAM-SHA-256 (UNSUPPORTED_SASL_MECHANISM); it supports PLAIN, SCRAM-SHA-512",
        ),
        (plain, login("SASL_PLAINTEXT", "PLAIN", "alice", "alice-secret"), "does not accept SASL on this listener"),
    ]
}

#[test]
fn a_mismatch_of_settings_and_listener_is_named_and_not_retried() {
    require!(Kafka, OpenSsl);
    for (address, settings, message) in mismatches(&secured()[0]) {
        let flags: Vec<&str> = settings.iter().flat_map(|setting| ["-X", setting]).collect();
        let started = std::time::Instant::now();
        let done = kpipe(&[&["-vv", "-b", &address], &flags[..], &["produce", "t"]].concat(), b"x\n");
        assert_no_secret(&done);
        assert_eq!(done.code, 1, "{message}: {}", done.stderr);
        assert!(done.stderr.contains(message), "{message}: {}", done.stderr);
        assert!(started.elapsed().as_secs() < 10, "{message}: it was retried");
    }
}

/// A broker that shuts down closes connections in the same way.
#[test]
fn a_listener_that_closes_the_connection_is_retried_and_named() {
    require!(Kafka, OpenSsl);
    let sasl = secured()[0].address("sasl_plaintext");
    let done = kpipe(&["-b", sasl, "-X", "request.timeout.ms=1000", "produce", "t"], b"x\n");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("a listener that requires SASL does that"), "{}", done.stderr);
}

#[test]
fn the_check_of_the_host_name_can_be_turned_off() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let (at, file) =
        (secured.address("sasl_ssl").replace("127.0.0.1", "localhost"), secured.file("sasl_ssl.properties"));
    let unchecked = ["-X", "ssl.endpoint.identification.algorithm="];
    let done = kpipe(&[&["-b", &at, "-F", &file], &unchecked[..], &["topics", "list"]].concat(), b"");
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn an_expired_certificate_and_an_old_tls_version_are_named() {
    require!(OpenSsl);
    let dir = tempfile::tempdir().unwrap();
    let create = format!(
        "cd {} && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=b -keyout b.key -out b.csr && echo subjectAltName=IP:127.0.0.1 >b.ext && \
         openssl x509 -req -in b.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile b.ext -days -1 -out b.crt",
        dir.path().display()
    );
    let created = shell(&create);
    assert_eq!(created.code, 0, "{}", created.stderr);
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (flags, message) in
        [(&[][..], "the broker's certificate has expired"), (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "TLS with")]
    {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut server = std::process::Command::new("openssl");
        server
            .args(["s_server", "-accept", &port, "-cert", &path("b.crt"), "-key", &path("b.key"), "-quiet"])
            .args(flags);
        let server = Running::start(server);
        wait_until("the server", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        let ca = format!("ssl.ca.location={}", path("ca.pem"));
        let done = kpipe(
            &["-b", &format!("127.0.0.1:{port}"), "-X", "security.protocol=SSL", "-X", &ca, "topics", "list"],
            b"",
        );
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(message), "{}", done.stderr);
        server.signal(libc::SIGKILL);
    }
}
