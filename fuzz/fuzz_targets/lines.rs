//! Input that arrives in any chunks gives the same lines as in one chunk.
#![no_main]

use kpipe::input::Splitter;
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

fn split<'a>(chunks: impl Iterator<Item = &'a [u8]>, delimiter: &[u8]) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(delimiter, usize::MAX);
    let mut lines = Vec::new();
    for chunk in chunks {
        let _ = splitter.feed(chunk, |line| {
            lines.push(line.to_vec());
            ControlFlow::<()>::Continue(())
        });
    }
    lines.extend(splitter.finish());
    lines
}

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (width, step, data) = input;
    let delimiter = &b"aab"[..1 + usize::from(width % 3)];
    let step = usize::from(step).max(1);
    assert_eq!(split(data.chunks(step), delimiter), split(std::iter::once(&data[..]), delimiter));
});
