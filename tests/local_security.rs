//! Users, ACLs and SASL on `kpipe local`, as kpipe and others meet them.

use crate::support::{Cluster, Done, Wire, kpipe, require, shell};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use kpipe::engine::{Acl, Operation, PatternType, Permission, ResourceType};
use kpipe::local::Access;

fn allow(user: &str, operation: Operation, kind: ResourceType, name: &str) -> Acl {
    Acl {
        resource_type: kind,
        resource_name: name.to_owned(),
        pattern_type: PatternType::Literal,
        principal: format!("User:{user}"),
        host: "*".to_owned(),
        operation,
        permission: Permission::Allow,
    }
}

fn users() -> std::collections::BTreeMap<String, String> {
    [("alice", "secret"), ("admin", "root,=word")].map(|(name, word)| (name.into(), word.into())).into()
}

/// Runs kpipe as a user.
fn run_as(kafka: &Cluster, user: &str, mechanism: &str, args: &[&str], input: &[u8]) -> Done {
    let password = users().get(user).cloned().unwrap_or_else(|| "unknown".to_owned());
    let settings = [
        "security.protocol=SASL_PLAINTEXT".to_owned(),
        format!("sasl.mechanism={mechanism}"),
        format!("sasl.username={user}"),
        format!("sasl.password={password}"),
    ];
    let flags = settings.iter().flat_map(|setting| ["-X", setting]);
    let all: Vec<&str> = ["-b", &kafka.bootstrap].into_iter().chain(flags).chain(args.iter().copied()).collect();
    kpipe(&all, input)
}

#[test]
fn clients_authenticate_with_every_mechanism_or_are_refused() {
    let kafka = Cluster::start_local(2);
    kafka.local().set_access(Access { users: users(), ..Access::default() });
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for user in ["alice", "admin"] {
            let done = run_as(&kafka, user, mechanism, &["produce", "t"], b"a record\n");
            assert_eq!(done.code, 0, "{mechanism}: {}", done.stderr);
        }
        let refused = run_as(&kafka, "mallory", mechanism, &["produce", "t"], b"a record\n");
        assert_eq!(refused.code, 1, "{mechanism}");
        assert!(refused.stderr.contains("Authentication failed"), "{mechanism}: {}", refused.stderr);
    }
    let unknown = run_as(&kafka, "alice", "PLAIN", &["topics", "list"], b"");
    assert_eq!(unknown.code, 0, "{}", unknown.stderr);
    let open = kafka.try_kpipe(&["topics", "list", "-X", "request.timeout.ms=500"], b"");
    assert_eq!(open.code, 1, "it does not authenticate");
    let mut wire = Wire::connect(&kafka.bootstrap);
    assert_eq!(wire.ask(&ApiVersionsRequest::default(), 0).error_code, 0);
    wire.send(&Wire::encode(&MetadataRequest::default(), 10));
    assert!(wire.frame().is_none(), "the connection is closed");
}

#[test]
fn acls_decide_who_may_do_what() {
    let kafka = Cluster::start_local(1);
    let acls = [
        allow("alice", Operation::Read, ResourceType::Topic, "orders"),
        allow("alice", Operation::Read, ResourceType::Group, "workers"),
        allow("alice", Operation::Write, ResourceType::TransactionalId, "tx"),
        allow("alice", Operation::Write, ResourceType::Topic, "out"),
    ];
    let super_users = ["admin".to_owned()].into();
    kafka.local().set_access(Access { users: users(), acls: Some(acls.into()), super_users });
    let admin = |args: &[&str], input: &[u8]| {
        let done = run_as(&kafka, "admin", "SCRAM-SHA-256", args, input);
        assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
        done.stdout
    };
    let alice = |args: &[&str], input: &[u8]| run_as(&kafka, "alice", "SCRAM-SHA-512", args, input);
    let allowed = |args: &[&str], input: &[u8]| {
        let done = alice(args, input);
        assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
        done.stdout
    };
    let denied = |args: &[&str], input: &[u8], error: &str| {
        let done = alice(args, input);
        assert_eq!(done.code, 1, "{args:?}: {}", done.stdout);
        assert!(done.stderr.contains(error), "{args:?}: {}", done.stderr);
    };
    for topic in ["orders", "out", "secret"] {
        admin(&["topics", "create", topic], b"");
    }
    admin(&["produce", "orders"], b"an order\n");
    assert_eq!(allowed(&["consume", "orders", "-o", "beginning", "-e", "--output", "value"], b""), "an order\n");
    let read = ["consume", "orders", "-g", "workers", "-o", "beginning", "-e", "--output", "value"];
    assert_eq!(allowed(&read, b""), "an order\n");
    allowed(&["produce", "out"], b"one\n");
    allowed(&["produce", "out", "--transactional-id", "tx"], b"two\n");
    denied(&["produce", "orders"], b"no\n", "TOPIC_AUTHORIZATION_FAILED");
    denied(&["consume", "secret", "-o", "beginning", "-e"], b"", "TOPIC_AUTHORIZATION_FAILED");
    denied(&["consume", "orders", "-g", "others", "-e"], b"", "GROUP_AUTHORIZATION_FAILED");
    denied(&["produce", "out", "--transactional-id", "other"], b"", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
    denied(&["topics", "create", "new"], b"", "TOPIC_AUTHORIZATION_FAILED");
    denied(&["topics", "delete", "out", "--yes"], b"", "TOPIC_AUTHORIZATION_FAILED");
    denied(&["acls", "list"], b"", "CLUSTER_AUTHORIZATION_FAILED");
    let seen = allowed(&["topics", "list"], b"");
    assert!(seen.contains("orders") && seen.contains("out") && !seen.contains("secret"), "{seen}");

    admin(&["acls", "create", "--principal", "User:alice", "--operation", "all", "--topic", "sec", "--prefixed"], b"");
    assert!(admin(&["acls", "list", "--topic", "secret"], b"").contains("alice"));
    allowed(&["produce", "secret"], b"known now\n");
    admin(&["acls", "delete", "--topic", "sec", "--prefixed", "--yes"], b"");
    denied(&["produce", "secret"], b"no\n", "TOPIC_AUTHORIZATION_FAILED");
}

#[test]
fn flags_set_users_and_what_they_may_do() {
    let line =
        "kpipe local --user alice:secret --user root:r --super-user root --allow 'alice:write,describe:topic:in*' \
                -- sh -c '
        export KPIPE_SECURITY_PROTOCOL=SASL_PLAINTEXT KPIPE_SASL_MECHANISM=SCRAM-SHA-256
        as() { user=$1 password=$2; shift 2; kpipe -X sasl.username=$user -X sasl.password=$password \"$@\"; }
        as root r topics create in-1 && echo a | as alice secret produce in-1 -q || exit 9
        echo b | as alice secret produce out -q && exit 8
        as root r consume in-1 -o beginning -e --output value'";
    let done = shell(line);
    assert_eq!((done.code, done.stdout.lines().last()), (0, Some("a")), "{}", done.stderr);
    for (flag, value, why) in [
        ("--user", "alice", "expected NAME:PASSWORD"),
        ("--allow", "alice:read:topic", "expected USER:OPERATIONS:RESOURCE:NAME"),
        ("--allow", "alice:look:topic:t", "look is not an operation"),
        ("--allow", "alice:read:table:t", "table is not a resource"),
        ("--allow", ":read:topic:t", "can be empty"),
    ] {
        let done = kpipe(&["local", flag, value], b"");
        assert_eq!(done.code, 2, "{value}");
        assert!(done.stderr.contains(why), "{value}: {}", done.stderr);
    }
}

/// librdkafka authenticates too. Versions before 2.6.1, such as kcat's, repeat a nonce wrongly, and Kafka 4 refuses them.
#[test]
fn other_clients_authenticate() {
    require!(Python);
    let kafka = Cluster::start_local(1);
    kafka.local().set_access(Access { users: users(), ..Access::default() });
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let script = format!(
            "
from confluent_kafka import Producer, Consumer
def settings(password):
    return {{'bootstrap.servers': '{}', 'security.protocol': 'SASL_PLAINTEXT', 'sasl.mechanism': '{mechanism}',
            'sasl.username': 'alice', 'sasl.password': password}}
producer = Producer(settings('secret'))
producer.produce('t', '{mechanism}')
assert producer.flush(20) == 0
try:
    Producer(settings('wrong')).list_topics(timeout=2)
    print('accepted')
except Exception as e:
    print('refused')
",
            kafka.bootstrap
        );
        let done = crate::support::python(&script);
        assert_eq!(done.stdout.trim(), "refused", "{mechanism}: {}", done.stderr);
    }
    let read = run_as(&kafka, "alice", "PLAIN", &["topics", "count", "t", "-J"], b"");
    assert!(read.stdout.contains("\"records\":3"), "{}", read.stdout);
}

#[test]
fn connections_are_encrypted_with_a_ca_of_their_own_or_given_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let line = format!(
        "kpipe local --tls {at} --user alice:secret -- sh -c '
            export KPIPE_SASL_MECHANISM=PLAIN KPIPE_SASL_USERNAME=alice KPIPE_SASL_PASSWORD=secret
            test $KPIPE_SECURITY_PROTOCOL = SASL_SSL && test $KPIPE_SSL_CA_LOCATION = {at}/ca.pem || exit 7
            echo a | kpipe produce t -q && kpipe consume t -o beginning -e --output value || exit 8
            KPIPE_SSL_CA_LOCATION= kpipe -X request.timeout.ms=1000 topics list && exit 9
            KPIPE_SECURITY_PROTOCOL=PLAINTEXT kpipe -X request.timeout.ms=1000 topics list && exit 10
            exit 0'"
    );
    let done = shell(&line);
    assert_eq!((done.code, done.stdout.as_str()), (0, "a\n"), "{}", done.stderr);
    let missing = kpipe(&["local", "--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], b"");
    assert_eq!(missing.code, 2, "{}", missing.stderr);
    assert!(missing.stderr.contains("/nowhere.pem"), "{}", missing.stderr);
    assert_eq!(kpipe(&["local", "--tls-cert", "/nowhere.pem"], b"").code, 2, "a key is needed too");
}

#[test]
fn openssl_verifies_the_certificate() {
    require!(OpenSsl);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let line = format!(
        "kpipe local --tls {at} -- sh -c 'openssl s_client -connect $KPIPE_BROKERS -CAfile {at}/ca.pem \
         -verify_return_error -verify_hostname localhost </dev/null && openssl x509 -in {at}/ca.pem -noout -text'"
    );
    let done = shell(&line);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("Verify return code: 0 (ok)"), "{}", done.stdout);
    assert!(done.stdout.contains("CA:TRUE"), "{}", done.stdout);
    // The same certificates, given.
    for (what, command) in [
        (
            "key",
            format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {at}/key.pem -out {at}/cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
            ),
        ),
        (
            "given",
            format!(
                "kpipe local --tls-cert {at}/cert.pem --tls-key {at}/key.pem -- sh -c 'KPIPE_SSL_CA_LOCATION={at}/cert.pem kpipe topics list'"
            ),
        ),
    ] {
        let done = shell(&command);
        assert_eq!(done.code, 0, "{what}: {}", done.stderr);
    }
}
