//! A registry behind TLS that wants a certificate of the client.

use super::serializers;
use crate::support::{Kafka, Running, python_running, registry, require, secured, shared, wait_until};

/// TLS in front of the registry, with a certificate for 127.0.0.1; its address.
fn behind_tls() -> (Running, String) {
    let secured = &secured()[0];
    let script = format!(
        r#"
import socket, ssl, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain({crt:?}, {key:?})
context.load_verify_locations({ca:?})
context.verify_mode = ssl.CERT_REQUIRED
listener = socket.create_server(("127.0.0.1", 0))
def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(client):
    try:
        client = context.wrap_socket(client, server_side=True)
    except OSError:
        return
    host, port = {registry:?}.split("/")[2].split(":")
    server = socket.create_connection((host, int(port)))
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)
    client.close()
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#,
        crt = secured.file("broker.crt"),
        key = secured.file("broker.key"),
        ca = secured.file("ca.pem"),
        registry = registry().url,
    );
    let server = python_running(&script);
    wait_until("the port", || server.seen().ends_with('\n'));
    let path = registry().url.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
    let url = format!("https://127.0.0.1:{}/{path}", server.seen().trim());
    (server, url)
}

#[test]
fn a_registry_that_wants_a_client_certificate_is_reached_as_confluents_client_reaches_it() {
    require!(Kafka, Registry, OpenSsl, Python);
    let (_server, url) = behind_tls();
    let (ca, crt, key) =
        (secured()[0].file("ca.pem"), secured()[0].file("client.crt"), secured()[0].file("client.key"));
    let kafka = shared(Kafka::Local);
    let topic = kafka.topic("behind-tls", 1);
    let body = format!(
        r#"
from confluent_kafka.schema_registry.avro import AvroSerializer
secured = SchemaRegistryClient({{"url": {url:?}, "ssl.ca.location": {ca:?},
    "ssl.certificate.location": {crt:?}, "ssl.key.location": {key:?}}})
serializer = AvroSerializer(secured, '"long"')
for n in range(3):
    send({topic:?}, serializer(n, value_of({topic:?})))
"#
    );
    serializers(&kafka, &url, &body);
    let consume = |properties: &[String]| {
        let properties = properties.iter().flat_map(|property| ["-X", property]);
        let args = ["consume", &topic, "-o", "beginning", "-e", "--registry", &url, "--value-as", "avro"];
        let more = ["-f", "%s\\n", "-X", "request.timeout.ms=3000"];
        kafka.try_kpipe(&args.into_iter().chain(more).chain(properties).collect::<Vec<_>>(), b"")
    };
    let trusting = format!("schema.registry.ssl.ca.location={ca}");
    let identity =
        [format!("schema.registry.ssl.certificate.location={crt}"), format!("schema.registry.ssl.key.location={key}")];
    let read = consume(&[std::slice::from_ref(&trusting), &identity[..]].concat());
    assert_eq!((read.code, read.stdout.as_str()), (0, "0\n1\n2\n"), "{}", read.stderr);

    let refused = |properties: &[String], says: &str, set: &str| {
        let done = consume(properties);
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(says) && done.stderr.contains(set), "{}", done.stderr);
    };
    let untrusted = "the schema registry's certificate was issued by an untrusted CA";
    refused(&identity, untrusted, "schema.registry.ssl.ca.location");
    let anonymous = "the schema registry requires a client certificate that it trusts";
    refused(&[trusting], anonymous, "schema.registry.ssl.keystore.location");
}
