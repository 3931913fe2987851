//! What reads bytes from outside, one function for each reader: none may panic, hang or take memory without bound,
//! whatever comes. `scripts/fuzz` feeds them by libFuzzer; `cargo test --test promises corpora` replays `fuzz/corpus`.

mod files;
mod input;
mod records;
mod schemas;
mod servers;
mod values;
mod wire;

use input::Input;

/// A target's name, which is also its corpus's, and the target.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 26] = [
    ("answers", wire::answers),
    ("assignments", wire::assignments),
    ("avro", schemas::avro),
    ("codecs", values::codecs),
    ("configs", files::configs),
    ("csv", records::csv),
    ("decompress", wire::decompress),
    ("fetched", wire::fetched),
    ("filters", records::filters),
    ("framings", values::framings),
    ("http", servers::http),
    ("json_line", records::json_line),
    ("json_path", values::json_path),
    ("length32", records::length32),
    ("lines", records::lines),
    ("message_sets", wire::message_sets),
    ("msgpack", values::msgpack),
    ("old_answers", wire::old_answers),
    ("protobuf", schemas::protobuf),
    ("ranges", values::ranges),
    ("requests", servers::requests),
    ("settings", values::settings),
    ("stores", files::stores),
    ("templates", records::templates),
    ("tokens", values::tokens),
    ("zstd", wire::zstd),
];
