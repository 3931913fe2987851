//! Configurations, certificates, keys and stores.

use super::Input;
use kpipe::config::{ConfigFile, Properties, Sources, options};
use kpipe::engine::EngineChoice;
use kpipe::metrics::Metrics;
use std::path::Path;
use std::sync::Arc;

/// A file with these bytes, for as long as it takes.
fn with_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let file = tempfile::NamedTempFile::new().and_then(|file| std::fs::write(file.path(), bytes).map(|()| file));
    if let Ok(file) = file {
        read(file.path());
    }
}

fn sources(settings: &[String]) -> Sources<'_> {
    Sources {
        config: None,
        environment: Vec::new(),
        profile: None,
        topic: None,
        file: None,
        settings,
        brokers: Some("b:1"),
        allow_commands: false,
    }
}

/// A properties file of Java's or librdkafka's, and a config.toml. Commands that they refer to are not run.
pub fn configs(data: &[u8]) {
    with_file(data, |path| {
        let config = ConfigFile { path: path.to_owned(), is_named: true };
        let all = [Sources { file: Some(path), ..sources(&[]) }, Sources { config: Some(&config), ..sources(&[]) }];
        for sources in all {
            let _ = Properties::collect(&sources);
        }
    });
}

/// Certificates, keys and revocation lists in PEM, and PKCS#12 stores.
pub fn stores(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    with_file(input.0, |path| {
        let names = [
            &["ssl.truststore.location"][..],
            &["ssl.keystore.location"],
            &["ssl.certificate.location", "ssl.key.location"],
            &["ssl.crl.location"],
        ];
        let mut settings = vec!["security.protocol=SSL".to_owned()];
        let passwords = ["ssl.truststore.password=secret", "ssl.keystore.password=secret", "ssl.key.password=secret"];
        settings.extend(passwords.map(str::to_owned));
        let named = names[usize::from(kind) % names.len()].iter();
        settings.extend(named.map(|name| format!("{name}={}", path.display())));
        if let Ok(properties) = Properties::collect(&sources(&settings)) {
            let _ = options(EngineChoice::Auto, &properties, Arc::new(Metrics::default()));
        }
    });
}
