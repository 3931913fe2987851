//! A line of JSON input is read or refused.
#![no_main]

use kpipe::input::JsonReader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = JsonReader::default().read(data);
});
