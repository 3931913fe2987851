//! What zstd frames unpack to does not depend on the decoder: what kpipe's accepts, ruzstd unpacks to the same bytes.
#![no_main]

use kpipe::engine::native::wire::Codec;
use libfuzzer_sys::fuzz_target;
use std::io::Read;

const LIMIT: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(unpacked) = Codec::Zstd.decompress_within(data, LIMIT) else { return };
    let Ok(decoder) = ruzstd::decoding::StreamingDecoder::new(data) else { panic!("ruzstd refuses the frame") };
    let mut other = Vec::new();
    assert!(decoder.take(LIMIT as u64).read_to_end(&mut other).is_ok() && other == unpacked);
});
