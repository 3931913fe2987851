//! Fetched bytes: batches of any format and codec, possibly corrupt.
#![no_main]

use kpipe::engine::native::wire::{Decoder, Isolation, batches};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    // Makes the checksum of the first v2 batch right, so that the fuzzer gets past it.
    if data.len() > 61 && data[16] == 2 {
        let len = i32::from_be_bytes([data[8], data[9], data[10], data[11]]);
        if let Some(batch) = usize::try_from(len).ok().and_then(|len| data.get(21..len.saturating_add(12))) {
            let crc = crc32c::crc32c(batch);
            data[17..21].copy_from_slice(&crc.to_be_bytes());
        }
    }
    let Ok(raw) = batches(data.into()) else { return };
    let decoder = Decoder {
        topic: "t".into(),
        partition: 0,
        from: 0,
        until: i64::MAX,
        isolation: Isolation::Committed,
        aborted: vec![(1, 0)],
        max_unpacked: 1 << 28,
    };
    for batch in decoder.decode(raw).0 {
        for record in batch.records().flatten() {
            record.headers.iter().for_each(drop);
        }
    }
});
