//! TLS as it is restricted by settings: versions, cipher suites and revocation lists, against openssl's own server.

use crate::support::{Done, Running, kpipe, require, shell, wait_until};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A CA with the certificates `good` and `revoked` for 127.0.0.1, its revocation list `crl.pem`, one that has expired,
/// and the list of another CA.
fn create() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        set -e; cd "$1"
        printf 'authorityKeyIdentifier=keyid\nsubjectAltName=IP:127.0.0.1\n' >ext
        for ca in ca other; do
          openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=$ca -keyout $ca.key -out $ca.pem
          printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s.index\ncrlnumber=%s.number\ndefault_md=sha256\n' $ca $ca >$ca.cnf
          : >$ca.index; echo 01 >$ca.number
        done
        for name in good revoked; do
          openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
          openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext -days 30 -out $name.pem
        done
        crl() { openssl ca -config $1.cnf -cert $1.pem -keyfile $1.key -gencrl "${@:3}" -out $2; }
        openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke revoked.pem
        crl ca crl.pem -crldays 30
        crl ca expired.pem -crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z
        crl other other-crl.pem -crldays 30
    "#;
    let done = shell(&format!("bash -c '{}' - {}", script.replace('\'', "'\\''"), dir.path().display()));
    assert_eq!(done.code, 0, "{}", done.stderr);
    dir
}

/// `openssl s_server`, which shows what was sent to it.
struct Server {
    running: Running,
    address: String,
}

impl Server {
    fn start(dir: &Path, certificate: &str, flags: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("openssl");
        command.current_dir(dir).args(["s_server", "-accept", &port.to_string(), "-quiet"]).args(flags);
        command.args(["-cert", &format!("{certificate}.pem"), "-key", &format!("{certificate}.key")]);
        let running = Running::start(command);
        wait_until("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { running, address: format!("127.0.0.1:{port}") }
    }

    /// What kpipe prints at this server with these settings.
    fn connect(&self, dir: &Path, settings: &[&str]) -> Done {
        let ca = format!("ssl.ca.location={}", dir.join("ca.pem").display());
        let base = ["security.protocol=SSL", "request.timeout.ms=500", &ca];
        let flags: Vec<&str> = base.iter().chain(settings).flat_map(|setting| ["-X", setting]).collect();
        kpipe(&[&["-b", &self.address], &flags[..], &["topics", "list"]].concat(), b"")
    }

    /// Whether a handshake succeeded: then the first request came, with the client's name.
    fn was_asked(&self) -> bool {
        self.running.seen().contains("kpipe")
    }
}

/// What a handshake with these settings must end with; `None` for success.
fn assert_handshake(dir: &Path, (certificate, server): (&str, &[&str]), settings: &[&str], refused: Option<&str>) {
    let running = Server::start(dir, certificate, server);
    let done = running.connect(dir, settings);
    let what = format!("{certificate} {server:?} {settings:?}: {}", done.stderr);
    match refused {
        None => assert!(running.was_asked() && done.stderr.contains("did not respond within"), "{what}"),
        Some(why) => assert!(!running.was_asked() && done.stderr.contains(why), "{what}"),
    }
}

#[test]
fn only_the_enabled_versions_of_tls_are_spoken() {
    require!(OpenSsl);
    let dir = create();
    let dir = dir.path();
    let too_old = Some("does not support a version of TLS that is enabled");
    for (server, settings, refused) in [
        ("-tls1_2", &[][..], None),
        ("-tls1_3", &[], None),
        ("-tls1_2", &["ssl.enabled.protocols=TLSv1.3"], too_old),
        ("-tls1_3", &["ssl.enabled.protocols=TLSv1.3"], None),
        ("-tls1_3", &["ssl.protocol=TLSv1.2"], too_old),
        ("-tls1_2", &["ssl.protocol=TLSv1.2"], None),
        ("-tls1_3", &["ssl.enabled.protocols=TLSv1.2,TLSv1.1"], too_old),
    ] {
        assert_handshake(dir, ("good", &[server]), settings, refused);
    }
}

#[test]
fn only_the_named_cipher_suites_are_offered() {
    require!(OpenSsl);
    let dir = create();
    let dir = dir.path();
    let none = Some("it has no cipher suite in common with kpipe");
    let tls12: &[&str] = &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"];
    let tls13: &[&str] = &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"];
    for (server, settings, refused) in [
        (tls12, &["ssl.cipher.suites=ECDHE-RSA-AES256-GCM-SHA384"][..], None),
        (tls12, &["ssl.cipher.suites=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"], None),
        (tls12, &["ssl.cipher.suites=ECDHE-RSA-AES128-GCM-SHA256"], none),
        (tls13, &["ssl.cipher.suites=TLS_AES_256_GCM_SHA384"], None),
        (tls13, &["ssl.cipher.suites=TLS_AES_128_GCM_SHA256"], none),
        (tls13, &["ssl.cipher.suites=TLS_RSA_WITH_AES_128_CBC_SHA"], Some("none is supported (kpipe has TLS_")),
    ] {
        assert_handshake(dir, ("good", server), settings, refused);
    }
}

#[test]
fn a_revocation_list_is_honored() {
    require!(OpenSsl);
    let dir = create();
    let dir = dir.path();
    let list = |name: &str| format!("ssl.crl.location={}", dir.join(name).display());
    let (own, other, expired) = (list("crl.pem"), list("other-crl.pem"), list("expired.pem"));
    for (certificate, setting, refused) in [
        ("good", &own, None),
        ("revoked", &own, Some("the broker's certificate is revoked")),
        ("good", &other, Some("has no list of the CA that issued the broker's certificate")),
        ("good", &expired, Some("the revocation list has expired")),
    ] {
        assert_handshake(dir, (certificate, &[]), &[setting], refused);
    }
    assert_handshake(dir, ("revoked", &[]), &[], None);
    // A certificate that is trusted itself may still be revoked.
    let pinned = format!("ssl.ca.location={}", dir.join("revoked.pem").display());
    let server = Server::start(dir, "revoked", &[]);
    let done = server.connect(dir, &[&own, &pinned]);
    assert!(!server.was_asked() && done.code != 0, "{}", done.stderr);
}
