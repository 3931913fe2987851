//! Every codec at every level, in both directions, with Kafka's own clients and librdkafka.

use crate::support::{Kafka, latest_or_local, require, shared, shell};
use std::fmt::Write;

fn text() -> String {
    let mut text = String::new();
    for n in 0..3_000 {
        writeln!(text, "line {n} of a log that compresses {} times {}", n * 7919 % 1013, n % 7).unwrap();
    }
    text
}

fn compressions() -> Vec<String> {
    let plain = ["none", "gzip", "snappy", "lz4", "zstd"].map(str::to_owned);
    let gzip = (1..=9).map(|level| format!("gzip:{level}"));
    let zstd = (1..=22).map(|level| format!("zstd:{level}"));
    plain.into_iter().chain(gzip).chain(zstd).collect()
}

#[test]
fn java_librdkafka_and_kpipe_read_every_codec_at_every_level() {
    require!(Kafka, Kcat);
    let kafka = shared(Kafka::LATEST);
    let topic = kafka.topic("levels", 1);
    let text = text();
    let all = compressions();
    for compression in &all {
        kafka.kpipe(&["produce", &topic, "-z", compression], text.as_bytes());
    }
    let expected = text.repeat(all.len());
    let ours = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
    assert_eq!(ours.stdout, expected);
    let kcat = shell(&format!("kcat -b {} -C -t {topic} -o beginning -e -q", kafka.bootstrap));
    assert_eq!(kcat.code, 0, "{}", kcat.stderr);
    assert_eq!(kcat.stdout, expected);
    assert_eq!(kafka.console_consume(&topic, 3_000 * all.len(), &[]), expected);
}

#[test]
fn compression_makes_batches_smaller() {
    let kafka = latest_or_local();
    let topic = kafka.topic("smaller", 1);
    let bytes = |compression: &str| -> u64 {
        let done = kafka.kpipe(&["produce", &topic, "-z", compression], text().as_bytes());
        let words: Vec<&str> = done.stderr.split_whitespace().collect();
        words[words.iter().position(|word| word.starts_with("bytes")).unwrap() - 1].parse().unwrap()
    };
    let plain = bytes("none");
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        assert!(bytes(codec) < plain / 2, "{codec}");
    }
}

#[test]
fn kpipe_reads_every_codec_that_java_and_librdkafka_write() {
    require!(Kafka, Kcat);
    let kafka = shared(Kafka::LATEST);
    let text = text();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let topic = kafka.topic("theirs", 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let kcat = shell(&format!("kcat -b {} -P -t {topic} -z {codec} -l {}", kafka.bootstrap, file.path().display()));
        assert_eq!(kcat.code, 0, "{}", kcat.stderr);
        kafka.console_produce(&topic, &["--compression-codec", codec], text.as_bytes());
        let read = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", "value"], b"");
        assert_eq!(read.stdout, text.repeat(2), "{codec}");
    }
}
