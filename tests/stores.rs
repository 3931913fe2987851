//! Certificates and keys in the forms that people have: keytool's PKCS#12 stores, encrypted keys, inline PEM.

use crate::support::{Done, Secured, Tool, kpipe, require, secured, shell};
use tempfile::TempDir;

/// Creates `client.p12`, `old.p12`, `trust.p12`, `trust.jks` and encrypted keys from the cluster's certificates.
fn create_stores(secured: &Secured) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let done = shell(&format!(
        "set -e; cd {dir}; from={from}
         openssl pkcs12 -export -in $from/client.crt -inkey $from/client.key -name client -passout pass:store-secret -out client.p12
         openssl pkcs12 -export -legacy -in $from/client.crt -inkey $from/client.key -passout pass:store-secret -out old.p12
         keytool -importcert -noprompt -alias ca -file $from/ca.pem -storetype PKCS12 -keystore trust.p12 -storepass store-secret
         keytool -importcert -noprompt -alias ca -file $from/ca.pem -storetype JKS -keystore trust.jks -storepass store-secret
         openssl pkcs8 -topk8 -in $from/client.key -passout pass:key-secret -out encrypted.key
         openssl rsa -in $from/client.key -traditional -aes128 -passout pass:key-secret -out traditional.key",
        dir = dir.path().display(),
        from = secured.kafka.dir.join("secure").display(),
    ));
    assert_eq!(done.code, 0, "{}", done.stderr);
    dir
}

/// A properties file with `security.protocol=SSL` and `text`, which only its owner can read.
fn properties(stores: &TempDir, name: &str, text: &str) -> String {
    let file = stores.path().join(format!("{name}.properties"));
    std::fs::write(&file, format!("security.protocol=SSL\n{text}")).unwrap();
    shell(&format!("chmod 600 '{}'", file.display()));
    file.display().to_string()
}

fn list_topics(address: &str, file: &str) -> Done {
    kpipe(&["-b", address, "-F", file, "topics", "list"], b"")
}

fn path(stores: &TempDir, name: &str) -> String {
    stores.path().join(name).display().to_string()
}

#[test]
fn keytools_stores_and_inline_pem_work_as_in_java() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let stores = create_stores(secured);
    let at = secured.address("ssl");
    let inline = |name: &str| std::fs::read_to_string(secured.file(name)).unwrap().replace('\n', "\\n");
    let keytool = format!(
        "ssl.truststore.location={}\nssl.truststore.password=store-secret\nssl.keystore.location={}\n\
         ssl.keystore.password=store-secret\nssl.keystore.type=PKCS12\nssl.truststore.type=PKCS12\n",
        path(&stores, "trust.p12"),
        path(&stores, "client.p12")
    );
    let inline = format!(
        "ssl.truststore.type=PEM\nssl.truststore.certificates={}\nssl.keystore.type=PEM\n\
         ssl.keystore.certificate.chain={}\nssl.keystore.key={}\n",
        inline("ca.pem"),
        inline("client.crt"),
        inline("client.p8")
    );
    for (name, text) in [("keytool", keytool), ("inline", inline)] {
        let file = properties(&stores, name, &text);
        let done = list_topics(at, &file);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{name}");
        let java = secured.kafka.try_tool_at(at, Tool::TopicCommand, &["--command-config", &file, "--list"]);
        assert_eq!(java.code, 0, "{name}: {}", java.stderr);
    }
}

/// Java reads none of these.
#[test]
fn librdkafkas_names_encrypted_keys_and_old_stores_work() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let stores = create_stores(secured);
    let (ca, crt) = (secured.file("ca.pem"), secured.file("client.crt"));
    for text in [
        format!(
            "ssl.ca.location={ca}\nssl.certificate.location={crt}\nssl.key.location={}\nssl.key.password=key-secret\n",
            path(&stores, "encrypted.key")
        ),
        format!(
            "ssl.ca.location={ca}\nssl.keystore.location={}\nssl.keystore.password=store-secret\n",
            path(&stores, "old.p12")
        ),
    ] {
        let done = list_topics(secured.address("ssl"), &properties(&stores, "other", &text));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{text}");
    }
}

#[test]
fn mistakes_in_stores_and_keys_are_named_with_file_and_line() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let stores = create_stores(secured);
    let (ca, crt) = (secured.file("ca.pem"), secured.file("client.crt"));
    let (encrypted, p12) = (path(&stores, "encrypted.key"), path(&stores, "client.p12"));
    let with_key = format!("ssl.ca.location={ca}\nssl.certificate.location={crt}\nssl.key.location=");
    let with_store = format!("ssl.ca.location={ca}\nssl.keystore.location={p12}\n");
    let traditional = path(&stores, "traditional.key");
    for (text, message) in [
        (format!("{with_key}{encrypted}\n"), "the key is encrypted (set ssl.key.password)"),
        (
            format!("{with_key}{encrypted}\nssl.key.password=wrong-secret\n"),
            "ssl.key.password does not decrypt the key",
        ),
        (format!("{with_key}{traditional}\nssl.key.password=key-secret\n"), "openssl pkcs8 -topk8"),
        (format!("{with_key}{ca}\n"), "no private key found"),
        (with_store.clone(), "requires ssl.keystore.password"),
        (format!("{with_store}ssl.keystore.password=wrong-secret\n"), "is ssl.keystore.password right?"),
        (format!("ssl.truststore.location={}\n", path(&stores, "client.key-none")), "No such file"),
        (format!("ssl.truststore.location={encrypted}\n"), "no certificate found"),
    ] {
        let done = list_topics(secured.address("ssl"), &properties(&stores, "wrong", &text));
        assert_eq!(done.code, 2, "{message}: {}", done.stderr);
        assert!(done.stderr.contains(message) && done.stderr.contains(", line "), "{message}: {}", done.stderr);
    }
}

#[test]
fn a_jks_store_is_refused_with_the_command_that_converts_it() {
    require!(Kafka, OpenSsl);
    let secured = &secured()[0];
    let stores = create_stores(secured);
    let jks = format!("ssl.truststore.location={}\nssl.truststore.password=store-secret\n", path(&stores, "trust.jks"));
    let refused = list_topics(secured.address("sasl_ssl"), &properties(&stores, "jks", &jks));
    let command = refused.stderr.split("(convert it: ").nth(1).unwrap().trim().trim_end_matches(')');
    let converted = shell(&format!("{command} -srcstorepass store-secret -deststorepass store-secret"));
    assert_eq!(converted.code, 0, "{}{}", converted.stdout, converted.stderr);
    let p12 = jks.replace("trust.jks", "trust.jks.p12");
    let key = format!("ssl.keystore.location={}\nssl.keystore.password=store-secret\n", path(&stores, "client.p12"));
    let read = list_topics(secured.address("ssl"), &properties(&stores, "p12", &format!("{p12}{key}")));
    assert_eq!((read.code, read.stderr.as_str()), (0, ""));
}
