//! Times and ranges, as `-o` and `--until` take them.
#![no_main]

use kpipe::config::{parse_end, parse_range};
use kpipe::timespec::{Unit, format_time, parse_time, unit_around};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, i64)| {
    let (text, millis) = input;
    let _ = (parse_range(text), parse_end(text));
    if let Ok(time) = parse_time(text) {
        assert!(time >= 0, "{text}");
    }
    let range = unit_around(millis, Unit::Day);
    assert!(range.contains(&millis) || millis == i64::MAX);
    let _ = format_time(millis);
});
