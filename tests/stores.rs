//! Certificates and keys as people have them: PKCS#12 stores of keytool, encrypted keys, everything inline.

use crate::support::{Secured, kpipe, secured, shell};

/// Makes `client.p12`, `trust.p12`, `trust.jks` and encrypted keys beside the cluster's certificates, once.
fn made(secured: &Secured) -> std::path::PathBuf {
    let dir = tempfile::Builder::new().prefix("kpipe-stores-").tempdir().unwrap().keep();
    let done = shell(&format!(
        "set -e; cd {dir}; from={from}
         openssl pkcs12 -export -in $from/client.crt -inkey $from/client.key -name client -passout pass:store-secret -out client.p12
         openssl pkcs12 -export -legacy -in $from/client.crt -inkey $from/client.key -passout pass:store-secret -out old.p12
         keytool -importcert -noprompt -alias ca -file $from/ca.pem -storetype PKCS12 -keystore trust.p12 -storepass store-secret
         keytool -importcert -noprompt -alias ca -file $from/ca.pem -storetype JKS -keystore trust.jks -storepass store-secret
         openssl pkcs8 -topk8 -in $from/client.key -passout pass:key-secret -out encrypted.key
         openssl rsa -in $from/client.key -traditional -aes128 -passout pass:key-secret -out traditional.key",
        dir = dir.display(),
        from = secured.kafka.dir.join("secure").display(),
    ));
    assert_eq!(done.code, 0, "{}", done.stderr);
    dir
}

#[test]
fn stores_and_keys_of_every_kind_are_read() {
    let secured = &secured()[0];
    let dir = made(secured);
    let path = |name: &str| dir.join(name).display().to_string();
    let at = secured.address("ssl");
    let ca = secured.file("ca.pem");
    let inline = |name: &str| {
        let pem = std::fs::read_to_string(secured.file(name)).unwrap();
        pem.replace('\n', "\\n")
    };
    let files: Vec<(&str, String)> = vec![
        (
            "stores of keytool",
            format!(
                "ssl.truststore.location={}\nssl.truststore.password=store-secret\nssl.keystore.location={}\n\
                 ssl.keystore.password=store-secret\nssl.keystore.type=PKCS12\nssl.truststore.type=PKCS12\n",
                path("trust.p12"),
                path("client.p12")
            ),
        ),
        (
            "everything inline",
            format!(
                "ssl.truststore.type=PEM\nssl.truststore.certificates={}\nssl.keystore.type=PEM\n\
                 ssl.keystore.certificate.chain={}\nssl.keystore.key={}\n",
                inline("ca.pem"),
                inline("client.crt"),
                inline("client.p8")
            ),
        ),
    ];
    let secure = |name: &str, text: &str| {
        let file = dir.join(format!("{name}.properties"));
        std::fs::write(&file, format!("security.protocol=SSL\n{text}")).unwrap();
        shell(&format!("chmod 600 '{}'", file.display()));
        file.display().to_string()
    };
    for (what, text) in &files {
        let file = secure(what, text);
        let done = kpipe(&["-b", at, "-F", &file, "topics", "list"], b"");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{what}");
        let java = secured.kafka.try_java_tool(
            at,
            "org.apache.kafka.tools.TopicCommand",
            &["--command-config", &file, "--list"],
        );
        assert_eq!(java.code, 0, "{what}: {}", java.stderr);
    }
    // What Java does not read so: librdkafka's names, an old store, an encrypted key.
    let (crt, encrypted) = (secured.file("client.crt"), path("encrypted.key"));
    for text in [
        format!(
            "ssl.ca.location={ca}\nssl.certificate.location={crt}\nssl.key.location={encrypted}\nssl.key.password=key-secret\n"
        ),
        format!(
            "ssl.ca.location={ca}\nssl.keystore.location={}\nssl.keystore.password=store-secret\n",
            path("old.p12")
        ),
    ] {
        let done = kpipe(&["-b", at, "-F", &secure("other", &text), "topics", "list"], b"");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{text}");
    }
    let with_key = format!("ssl.ca.location={ca}\nssl.certificate.location={crt}\nssl.key.location=");
    for (text, says) in [
        (format!("{with_key}{encrypted}\n"), "the key is encrypted (set ssl.key.password)"),
        (
            format!("{with_key}{encrypted}\nssl.key.password=wrong-secret\n"),
            "ssl.key.password does not decrypt the key",
        ),
        (format!("{with_key}{}\nssl.key.password=key-secret\n", path("traditional.key")), "openssl pkcs8 -topk8"),
        (format!("{with_key}{ca}\n"), "no private key found"),
        (
            format!("ssl.ca.location={ca}\nssl.keystore.location={}\n", path("client.p12")),
            "requires ssl.keystore.password",
        ),
        (
            format!(
                "ssl.ca.location={ca}\nssl.keystore.location={}\nssl.keystore.password=wrong-secret\n",
                path("client.p12")
            ),
            "is ssl.keystore.password right?",
        ),
        (format!("ssl.truststore.location={}\n", path("client.key-none")), "No such file"),
        (format!("ssl.truststore.location={encrypted}\n"), "no certificate found"),
    ] {
        let done = kpipe(&["-b", at, "-F", &secure("wrong", &text), "topics", "list"], b"");
        assert_eq!(done.code, 2, "{says}: {}", done.stderr);
        assert!(done.stderr.contains(says) && done.stderr.contains(", line "), "{says}: {}", done.stderr);
    }
    // The command that an old store is refused with makes one that is read.
    let jks = format!("ssl.truststore.location={}\nssl.truststore.password=store-secret\n", path("trust.jks"));
    let refused = kpipe(&["-b", secured.address("sasl_ssl"), "-F", &secure("jks", &jks), "topics", "list"], b"");
    let command = refused.stderr.split("(convert it: ").nth(1).unwrap().trim().trim_end_matches(')');
    let converted = shell(&format!("{command} -srcstorepass store-secret -deststorepass store-secret"));
    assert_eq!(converted.code, 0, "{}{}", converted.stdout, converted.stderr);
    let p12 = jks.replace("trust.jks", "trust.jks.p12");
    let key = format!("ssl.keystore.location={}\nssl.keystore.password=store-secret\n", path("client.p12"));
    let read = kpipe(&["-b", at, "-F", &secure("p12", &format!("{p12}{key}")), "topics", "list"], b"");
    assert_eq!((read.code, read.stderr.as_str()), (0, ""));
    std::fs::remove_dir_all(dir).unwrap();
}
