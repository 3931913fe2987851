//! What the fuzz targets found worth keeping is read again, by all that read bytes from outside: `scripts/fuzz` searches
//! for more.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::path::{Path, PathBuf};

fn corpus(of: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(of);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    listed.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_decoder_of_bytes_from_outside_reads_its_corpus() {
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let read = std::panic::catch_unwind(|| target(&bytes));
            assert!(read.is_ok(), "{}", input.display());
            // What is cut short is met as well.
            target(&bytes[..bytes.len() / 2]);
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    for folder in corpus("") {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(targets::TARGETS.iter().any(|(of, _)| *of == name), "{name}");
    }
}
