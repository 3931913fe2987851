//! The target that KPIPE_FUZZ names; `scripts/fuzz` runs one after the other.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("KPIPE_FUZZ").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(of, _)| *of == name);
    let names = || targets::TARGETS.map(|(name, _)| name).join(" ");
    found.unwrap_or_else(|| panic!("set KPIPE_FUZZ to one of {}", names())).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
