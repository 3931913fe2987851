//! Any bytes are decompressed or refused, in bounded memory.
#![no_main]

use kpipe::engine::native::wire::Codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&codec, rest)) = data.split_first() else { return };
    if let Some(codec) = Codec::from_attributes(i16::from(codec)) {
        let _ = codec.decompress(rest);
    }
});
