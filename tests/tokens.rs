//! OAUTHBEARER: tokens from files, commands and an OpenID Connect provider.

use crate::support::{Running, Secured, kpipe, outlives_sessions, python_running, require, secured, shell, wait_until};
use std::os::unix::fs::PermissionsExt;

/// The command that prints a token for the cluster.
fn token_command(secured: &Secured, more: &str) -> String {
    format!("{}/scripts/kafka token --dir {} {more}", env!("CARGO_MANIFEST_DIR"), secured.kafka.dir.display())
}

/// Runs `kpipe topics list` with these settings at the OAUTHBEARER listener.
fn list(secured: &Secured, settings: &[&str]) -> crate::support::Done {
    let base = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=OAUTHBEARER"];
    let flags: Vec<&str> = base.iter().chain(settings).flat_map(|setting| ["-X", setting]).collect();
    kpipe(
        &[&["-vvv", "--allow-commands", "-b", secured.address("oauth")], &flags[..], &["topics", "list", "-J"]]
            .concat(),
        b"",
    )
}

#[test]
fn a_token_comes_from_a_file_a_command_or_the_environment() {
    require!(Kafka, OpenSsl);
    for secured in secured() {
        let file = format!("sasl.oauthbearer.token=${{file:{}}}", secured.file("token"));
        let command = format!("sasl.oauthbearer.token=${{command:{}}}", token_command(secured, ""));
        let url = format!("sasl.oauthbearer.token.endpoint.url=file://{}", secured.file("token"));
        for (mode, warned) in [(0o600, false), (0o640, true)] {
            std::fs::set_permissions(secured.file("token"), PermissionsExt::from_mode(mode)).unwrap();
            for setting in [&file, &command, &url] {
                let done = list(secured, &[setting]);
                assert_eq!(done.code, 0, "{setting}: {}", done.stderr);
                let warned = warned && setting != &command;
                assert_eq!(done.stderr.contains("and is readable by its group"), warned, "{setting}: {}", done.stderr);
            }
        }
    }
}

#[test]
fn a_bad_token_is_named() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let old = format!("sasl.oauthbearer.token=${{command:{}}}", token_command(secured, "--ttl -60"));
    for (setting, message) in [
        (old.as_str(), "the OAUTHBEARER token expired 6"),
        (
            "sasl.oauthbearer.token=a.b.c",
            "rejected the token: SASL_AUTHENTICATION_FAILED: {\"status\":\"invalid_token\"}",
        ),
        ("sasl.oauthbearer.token=${file:/none}", "/none: No such file"),
        ("sasl.oauthbearer.token=${command:exit 7}", "failed (exit status: 7)"),
        ("sasl.oauthbearer.token.endpoint.url=file:/none", "/none: No such file"),
    ] {
        let done = list(secured, &[setting]);
        assert_eq!(done.code, 1, "{message}");
        assert!(done.stderr.contains(message), "{message}: {}", done.stderr);
        assert!(!done.stderr.contains("trying again"), "{}", done.stderr);
    }
}

/// A token endpoint, with TLS or without, that has one client and counts its tokens in a file.
fn provider(secured: &Secured, dir: &std::path::Path, life: u32, tls: bool) -> (Running, String) {
    let script = format!(
        r#"
import base64, http.server, json, ssl, subprocess, urllib.parse
class Endpoint(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.headers["Authorization"] != "Basic " + base64.b64encode(b"kpipe:client-secret").decode():
            return self.answer(401, {{"error": "invalid_client", "error_description": "no such client"}})
        if form != {{"grant_type": ["client_credentials"], "scope": ["kafka read"]}}:
            return self.answer(400, {{"error": "invalid_scope"}})
        if self.path != "/oauth/token?x=1":
            return self.answer(200, {{}})
        open("{dir}/asked", "a").write("x")
        token = subprocess.run("{mint}", shell=True, capture_output=True).stdout.decode().strip()
        self.answer(200, {{"access_token": token, "token_type": "Bearer", "expires_in": {life}}})
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
if {tls}:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("{crt}", "{key}")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#,
        dir = dir.display(),
        mint = token_command(secured, &format!("--ttl {life}")),
        tls = if tls { "True" } else { "False" },
        crt = secured.file("broker.crt"),
        key = secured.file("broker.key"),
    );
    let server = python_running(&script);
    wait_until("the endpoint", || server.seen().ends_with('\n'));
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{}/oauth/token?x=1", server.seen().trim());
    (server, url)
}

#[test]
fn an_openid_provider_is_configured_with_the_names_of_java_or_librdkafka() {
    require!(Kafka, OpenSsl, Python);
    for (secured, tls) in secured().iter().zip([true, false]) {
        let dir = tempfile::tempdir().unwrap();
        let (_server, url) = provider(secured, dir.path(), 3600, tls);
        let url = format!("sasl.oauthbearer.token.endpoint.url={url}");
        let ca = format!("https.ca.location={}", secured.file("ca.pem"));
        let java = r#"sasl.jaas.config=x.OAuthBearerLoginModule required clientId="kpipe" clientSecret="client-secret" scope="kafka read";"#;
        let librdkafka = [
            "sasl.oauthbearer.method=oidc",
            "sasl.oauthbearer.client.id=kpipe",
            "sasl.oauthbearer.client.secret=client-secret",
            "sasl.oauthbearer.scope=kafka read",
        ];
        for settings in [
            [&[url.as_str(), ca.as_str(), java][..]].concat(),
            [&[url.as_str(), ca.as_str()], &librdkafka[..]].concat(),
        ] {
            let done = list(secured, &settings);
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        let wrong = java.replace("client-secret", "wrong-secret");
        let refused = list(secured, &[&url, &ca, &wrong]);
        assert!(
            refused.stderr.contains("401 Unauthorized: invalid_client, no such client (check the client's ID"),
            "{}",
            refused.stderr
        );
        let elsewhere = url.replace("/oauth/token?x=1", "/other");
        assert!(list(secured, &[&elsewhere, &ca, java]).stderr.contains("the response has no access_token"));
        if tls {
            let unknown = list(secured, &[&url, java]);
            assert!(unknown.stderr.contains("was issued by an untrusted CA"), "{}", unknown.stderr);
        }
        let nobody = list(secured, &["sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:1/", java]);
        assert!(nobody.stderr.contains("token endpoint http://127.0.0.1:1/: Connection refused"), "{}", nobody.stderr);
    }
}

/// A producer and a consumer run for longer than the four seconds that tokens are valid.
#[test]
fn a_token_is_replaced_before_it_expires() {
    require!(Kafka, OpenSsl, Python);
    let secured = &secured()[0];
    let dir = tempfile::tempdir().unwrap();
    let (_server, url) = provider(secured, dir.path(), 4, false);
    let file = dir.path().join("oauth.properties");
    let lines = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url={url}\n\
         sasl.jaas.config=x required clientId=\"kpipe\" clientSecret=\"client-secret\" scope=\"kafka read\";\n"
    );
    std::fs::write(&file, lines).unwrap();
    shell(&format!("chmod 600 {}", file.display()));
    outlives_sessions(secured, "oauth", &file.display().to_string());
    let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap().len();
    assert!((4..60).contains(&asked), "tokens were requested {asked} times");
}
