//! The parsers of the configuration: JAAS lines, JSON Web Tokens, sizes and durations.
#![no_main]

use kpipe::config::{jaas_options, parse_duration, parse_size};
use kpipe::engine::security::Claims;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = (jaas_options(text), Claims::of(text), parse_size(text), parse_duration(text));
});
